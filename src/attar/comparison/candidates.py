"""The models to be compared: whatever they are, made to answer in the test set's classes."""

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
    columns: tuple[int, ...] | None  # where each class of the test set stands; None: in its place
    mean: Mean  # of an ensemble's members
    shares: tuple[float, ...] | None = None  # of the members in that mean; None: equal ones

    def logits(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """Answer in float64, in the test set's classes; an ensemble's members are averaged.

        Raises:
            AttarError: If the model can't; the text begins with its name.
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
    """A model: its name, what it is in the comparison, and its networks, one a seed."""

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
    """Make a candidate of each model; a list or a tuple of models is one with several seeds.

    Without a mean, an `EnsembleNetwork` has its own, and other ensembles the arithmetic one. The
    weights are those of the members of the teacher.

    Raises:
        AttarError: If there is no model, or one is nothing that can be asked, or there are weights
            and no teacher with as many members.
        DataError: If its classes are not the test set's.
    """
    if not models:
        raise AttarError("expected one model or more to compare, got none")
    if mean is not None:
        check_mean(mean)
    if member_weights is not None and "teacher" not in roles.values():
        raise AttarError("expected a teacher whose members have the member_weights, got none")
    for name in class_orders:
        if name not in models:
            raise AttarError(f"expected class_orders of the models {list(models)}, got {name!r}")
    candidates = []
    for name, model in models.items():
        if not isinstance(name, str) or not name.strip():
            raise AttarError(f"expected a name for each model, got {name!r}")
        seeds = list(model) if isinstance(model, list | tuple) else [model]
        if not seeds:
            raise AttarError(f"expected one network or more as {name!r}, got an empty list")
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
            f"expected a network for each seed of {name}, got a list in the list; "
            "an ensemble is attar.as_teacher([...], classes=...)"
        )
    # Models that find their classes by name do so here; with an order it is done by that.
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
    """Say where each class of the test set stands among a model's; None if each in its place.

    Where either side has numbers for names, the classes are known by their places.
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
            f"expected the test set's classes, it lacks {missing} and has {extra} instead; "
            "give both the same class names, or their order in class_orders="
        )
    places = {name: place for place, name in enumerate(names)}
    return tuple(places[each] for each in wanted)
