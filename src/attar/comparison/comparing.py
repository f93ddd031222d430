"""`attar.compare`: measure models on a labeled set and test whether they differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
import torch

from attar.comparison.candidates import Candidate, open_candidates
from attar.comparison.costs import count_parameters, measure_size, measure_speeds
from attar.comparison.judging import Rules, choose_pairs, judge, measure_gap
from attar.comparison.measuring import BINS, Answers, ask, has_teacher, summarize
from attar.comparison.result import Comparison
from attar.comparison_records import GapClosed, ModelResult, NetworkResult, Role, Speed
from attar.data import ExampleSet
from attar.errors import AttarError
from attar.evaluation import check_labeled
from attar.losses import Mean
from attar.progress import reporting
from attar.records import this_machine

TEACHER, BASELINE = "teacher", "hard targets"  # default names


@dataclass(frozen=True, slots=True)
class ComparingProgress:
    """Progress of a comparison."""

    examples: int  # done by all models
    total: int

    @property
    def fraction(self) -> float:
        """Fraction of the examples done by all models."""
        return self.examples / self.total

    def __str__(self) -> str:
        """Return the progress in words."""
        return f"comparing · {self.examples:,} of {self.total:,} examples"


def compare(
    models: Mapping[str, object],
    test_set: ExampleSet,
    *,
    teacher: str | None = None,
    baseline: str | None = None,
    controls: Mapping[str, object] | None = None,
    level: float = 0.05,
    margin: float | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    class_orders: Mapping[str, Sequence[str]] | None = None,
    mean: Mean | None = None,
    member_weights: Sequence[float] | None = None,
    latency: bool = True,
    resamples: int = 10_000,
    seed: int = 0,
    progress: Callable[[ComparingProgress], None] | None = None,
) -> Comparison:
    """Measure models on a labeled set and compare each pair.

    The verdict on a pair is BETTER or WORSE if the error rates differ significantly, else
    UNDECIDED; with a margin it can also be EQUIVALENT. Models of one network each are compared by
    the exact McNemar test on paired predictions, models of several seeds by a paired bootstrap over
    examples and seeds. Holm's correction accounts for the number of pairs. docs/compare.md explains
    each number.

    Args:
        models: The models by name: anything that `attar.as_teacher` accepts. A list or a tuple is
            one model with several seeds; an ensemble is `attar.as_teacher([...], classes=...)`.
        test_set: The examples, each with a hard target; none of them used in training.
        teacher: Name of the teacher; by default the model named `teacher`, if there is one. If it
            has several seeds, the agreement of models with equally many seeds is measured seed by
            seed, and that of other models is not measured.
        baseline: Name of the student without distillation, from which the gap to the teacher is
            measured; by default the model named `hard targets`, if there is one.
        controls: Further models, marked as controls, such as those of `attar.train_controls`.
        level: Probability of at least one false BETTER or WORSE over all pairs; separately also of
            EQUIVALENT.
        margin: Difference of error rates that is too small to matter, as a fraction (0.005 is half
            a percentage point). Choose it before you see the result. Pairs with smaller differences
            can then be EQUIVALENT; without a margin, no pair can.
        pairs: Names of the pairs to compare; by default all. Fewer pairs give more power.
        class_orders: Name of a model -> class names in the order of its outputs, if this is not the
            order of the test set and the model has no class names.
        mean: Mean of an ensemble's members: `arithmetic`, of their probabilities, or `geometric`,
            of their logits; by default that of an `attar.EnsembleNetwork`, else arithmetic.
        member_weights: Weights of the teacher's members, as passed to `attar.distill`; equal by
            default. The members of other ensembles have equal weights.
        latency: Whether to measure the models' speed, which takes seconds per model.
        resamples: Number of resamples of a bootstrap.
        seed: Seed of the resampling.
        progress: Called after each batch.

    Returns:
        The comparison; print it, or save it.

    Raises:
        DataError: If an example has no hard target, a model's classes differ from the test set's,
            or a model fails on the inputs.
        ShapeError: If a model has another number of classes.
        AttarError: If there is no model of a name, or an option is out of range.

    Example:
        >>> from torch import nn
        >>> from attar import TransferSet
        >>> inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> test_set = TransferSet(inputs, torch.tensor([0, 1, 1]), class_names=["left", "right"])
        >>> models = {"same": nn.Identity(), "swapped": nn.Identity()}
        >>> orders = {"swapped": ["right", "left"]}
        >>> result = compare(models, test_set, class_orders=orders, latency=False)
        >>> result.model("same").mean("errors"), result.model("swapped").mean("errors")
        (0.0, 3.0)
    """
    rules = Rules(level=level, margin=margin, resamples=resamples, seed=seed)
    check_labeled(test_set)
    hard_targets = test_set.hard_targets.cpu()
    everything = _merge(models, controls or {})
    teacher = _find(teacher, TEACHER, everything, "teacher")
    baseline = _find(baseline, BASELINE, everything, "baseline")
    if teacher is not None and teacher == baseline:
        raise AttarError(f"expected a baseline other than the teacher, got {teacher!r} as both")
    chosen = choose_pairs(list(everything), pairs)
    candidates = open_candidates(
        everything,
        test_set,
        roles=_roles(everything, controls or {}, teacher, baseline),
        class_orders=class_orders or {},
        mean=mean,
        member_weights=member_weights,
    )
    held_against = next((each for each in candidates if each.name == teacher), None)
    with reporting(progress) as report:
        answers = ask(
            candidates,
            held_against,
            test_set,
            report=lambda done: report(ComparingProgress(done, len(test_set))),
        )
    wrong = {
        name: np.stack([each.wrong.numpy() for each in of_model])
        for name, of_model in answers.items()
    }
    speeds = measure_speeds(candidates, test_set) if latency else {}
    results = tuple(
        _result(
            each,
            _networks(each, answers, held_against, hard_targets, test_set.classes),
            speeds.get(each.name, ()),
            measure_gap(wrong, each.name, teacher=teacher, baseline=baseline, rules=rules),
        )
        for each in candidates
    )
    return Comparison(
        class_names=test_set.class_names,
        hard_targets=tuple(hard_targets.tolist()),
        level=level,
        margin=margin,
        teacher=teacher,
        baseline=baseline,
        models=results,
        verdicts=judge(wrong, chosen, rules),
        settings={
            **asdict(rules),
            "mean": " and ".join(sorted({n.mean for each in candidates for n in each.networks})),
            **({} if member_weights is None else {"member_weights": list(member_weights)}),
            "latency": latency,
            "reliability_bins": BINS,
        },
        data=test_set.fingerprint(),
        machine=this_machine(),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _result(
    candidate: Candidate,
    networks: tuple[NetworkResult, ...],
    speeds: tuple[Speed, ...],
    gap_closed: GapClosed | None,
) -> ModelResult:
    first = candidate.networks[0].teacher
    return ModelResult(
        name=candidate.name,
        role=candidate.role,
        networks=networks,
        parameters=count_parameters(first),
        size_bytes=measure_size(first),
        speeds=speeds,
        gap_closed=gap_closed,
    )


def _networks(
    candidate: Candidate,
    answers: Mapping[str, tuple[Answers, ...]],
    teacher: Candidate | None,
    hard_targets: torch.Tensor,
    classes: int,
) -> tuple[NetworkResult, ...]:
    of_teacher: Sequence[Answers | None] = [None] * len(candidate.networks)
    if teacher is not None and has_teacher(teacher, candidate):
        found = answers[teacher.name]
        of_teacher = found if len(found) > 1 else found * len(candidate.networks)
    return tuple(
        summarize(network, mine, taught, hard_targets, classes)
        for network, mine, taught in zip(
            candidate.networks, answers[candidate.name], of_teacher, strict=True
        )
    )


def _merge(models: Mapping[str, object], controls: Mapping[str, object]) -> dict[str, object]:
    twice = sorted(set(models) & set(controls))
    if twice:
        raise AttarError(
            f"expected different names for controls and models, got {twice[0]!r} twice"
        )
    return {**models, **controls}


def _find(given: str | None, usual: str, models: Mapping[str, object], option: str) -> str | None:
    if given is None:
        return usual if usual in models else None
    if given not in models:
        raise AttarError(f"expected {option} to be one of the models {list(models)}, got {given!r}")
    return given


def _roles(
    names: Mapping[str, object],
    controls: Mapping[str, object],
    teacher: str | None,
    baseline: str | None,
) -> dict[str, Role]:
    roles: dict[str, Role] = {name: "control" if name in controls else "student" for name in names}
    if baseline is not None:
        roles[baseline] = "baseline"
    if teacher is not None:
        roles[teacher] = "teacher"
    return roles
