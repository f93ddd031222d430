"""The models of a comparison, wrapped to return logits in the test set's class order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from attar.comparison_records import Role
from attar.data import Batch, ExampleSet
from attar.errors import AttarError, DataError
from attar.losses import Mean, check_mean, mean_logits, member_shares
from attar.teachers import EnsembleNetwork, Teacher, as_teacher


@dataclass(frozen=True, slots=True)
class Network:
    """One network of a model: a seed, or the only one."""

    name: str  # for errors
    teacher: Teacher
    columns: tuple[int, ...] | None  # positions of the test set's classes; None: unchanged
    mean: Mean  # of an ensemble's members
    shares: tuple[float, ...] | None = None  # weights of the members, sum 1; None: equal

    def logits(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """Return float64 logits in the test set's class order; members are averaged.

        Raises:
            AttarError: If the model fails; the message starts with its name.
        """
        try:
            logits = self.teacher.logits(batch).double()
        except AttarError as error:
            raise type(error)(f"{self.name}: {error}") from error
        except Exception as error:  # of the user's network
            reason = " ".join(str(error).split())[:300]
            raise DataError(
                f"{self.name} fails on inputs {list(batch.inputs.shape)}: "
                f"{type(error).__name__}: {reason}"
            ) from error
        if self.columns is not None:
            logits = logits[..., self.columns]
        if logits.ndim == 2:
            return logits
        return mean_logits(logits, mean=self.mean, shares=self.shares)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model: its name, its role in the comparison, and its networks, one per seed."""

    name: str
    role: Role
    networks: tuple[Network, ...]


def open_candidates(
    models: Mapping[str, object],
    test_set: ExampleSet,
    *,
    roles: Mapping[str, Role],
    class_orders: Mapping[str, Sequence[str]],
    mean: Mean | None,
    member_weights: Sequence[float] | None,
) -> tuple[Candidate, ...]:
    """Make a candidate from each model; a list or tuple is one model with several seeds.

    If `mean` is None, an `EnsembleNetwork` uses its own mean, and other ensembles the arithmetic
    mean. `member_weights` are the weights of the teacher's members.

    Raises:
        AttarError: If there is no model, a model is unsupported, or there are weights but no
            teacher with this number of members.
        DataError: If the classes of a model differ from the test set's.
    """
    if not models:
        raise AttarError("expected at least one model to compare, got none")
    if mean is not None:
        check_mean(mean)
    if member_weights is not None and "teacher" not in roles.values():
        raise AttarError("member_weights needs a teacher, but none of the models is the teacher")
    for name in class_orders:
        if name not in models:
            raise AttarError(f"expected class_orders for the models {list(models)}, got {name!r}")
    candidates = []
    for name, model in models.items():
        if not isinstance(name, str) or not name.strip():
            raise AttarError(f"expected a name for each model, got {name!r}")
        seeds = list(model) if isinstance(model, list | tuple) else [model]
        if not seeds:
            raise AttarError(f"expected at least one network for {name!r}, got an empty list")
        networks = []
        for seed, source in enumerate(seeds):
            told = f"model {name!r}" if len(seeds) == 1 else f"model {name!r}, seed {seed}"
            network = _open(source, told, test_set, class_orders.get(name), mean)
            if member_weights is not None and roles[name] == "teacher":
                network = replace(network, shares=_find_shares(network, member_weights))
            networks.append(network)
        candidates.append(Candidate(name, roles[name], tuple(networks)))
    return tuple(candidates)


def _open(
    source: object,
    name: str,
    test_set: ExampleSet,
    order: Sequence[str] | None,
    mean: Mean | None,
) -> Network:
    if isinstance(source, list | tuple):
        raise AttarError(
            f"expected one network per seed of {name}, got a nested list; "
            "an ensemble is attar.as_teacher([...], classes=...)"
        )
    # With an order given, classes are matched by it; otherwise by the names of the model.
    names = None if order is not None else test_set.class_names
    try:
        teacher = as_teacher(
            source,
            class_names=names,
            classes=test_set.classes,
            examples=len(test_set),
            feature_names=getattr(test_set, "feature_names", None),
        )
        found = order if order is not None else getattr(teacher, "class_names", None)
        columns = None if found is None else _find_columns(found, test_set.class_names)
    except AttarError as error:
        raise type(error)(f"{name}: {error}") from error
    by_default = source.mean if isinstance(source, EnsembleNetwork) else "arithmetic"
    return Network(name, teacher, columns, mean or by_default)


def _find_shares(network: Network, member_weights: Sequence[float]) -> tuple[float, ...]:
    try:
        return member_shares(member_weights, network.teacher.members or 1)
    except AttarError as error:
        raise AttarError(f"{network.name}: member_weights: {error}") from error


def _find_columns(found: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Return the position of each class of the test set in a model's output; None if unchanged.

    If the class names of either side are numbers, classes are matched by position.
    """
    names = tuple(found)
    if names == tuple(wanted):
        return None
    if sorted(names) != sorted(wanted):
        numbers = tuple(str(place) for place in range(len(wanted)))
        if numbers in (names, tuple(wanted)):
            return None
        known, needed = set(names), set(wanted)
        missing = [each for each in wanted if each not in known][:5]
        extra = [each for each in names if each not in needed][:5]
        raise DataError(
            f"expected the test set's classes, but the model lacks {missing} and has {extra}; "
            "use the same class names, or pass their order in class_orders="
        )
    places = {name: place for place, name in enumerate(names)}
    return tuple(places[each] for each in wanted)
