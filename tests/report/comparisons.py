"""Comparisons for the report, made up: seeds, no answers, absent classes, any names."""

from dataclasses import replace

import numpy as np

from attar.comparison_records import (
    NO_ANSWER,
    Agreement,
    ComparisonRecord,
    GapClosed,
    Interval,
    ModelResult,
    NetworkResult,
    ReliabilityBin,
    Speed,
    TeacherAgreement,
    Verdict,
)
from attar.records import this_machine

NAMES = ("teacher", "hard targets", "distilled")
ROLES = ("teacher", "baseline", "student")


def make_record(*, examples=200, classes=10, seeds=2, names=NAMES, class_names=None, level=0.05):
    """Three models; the teacher errs on 2 % of the examples, the others on 10 and 4 %."""
    random = np.random.default_rng(0)
    hard_targets = np.arange(examples) % classes
    models = [
        ModelResult(
            name=name,
            role=role,
            networks=tuple(
                make_network(random, hard_targets, classes, wrong, teacher=role == "teacher")
                for _ in range(1 if role == "teacher" else seeds)
            ),
            parameters=parameters,
            size_bytes=4 * parameters,
            speeds=(Speed(1, parameters / 1e6, parameters / 8e5, 1e9 / parameters, 256, 100),),
            gap_closed=GapClosed(0.75, Interval(0.5, 1.0)) if role == "student" else None,
        )
        for name, role, wrong, parameters in zip(
            names, ROLES, (0.02, 0.1, 0.04), (2_395_210, 1_276_810, 1_276_810), strict=True
        )
    ]
    return ComparisonRecord(
        class_names=tuple(class_names or map(str, range(classes))),
        hard_targets=tuple(hard_targets.tolist()),
        level=level,
        teacher=names[0],
        baseline=names[1],
        models=tuple(models),
        verdicts=(
            make_verdict(names[0], names[1], "better"),
            make_verdict(names[0], names[2], "undecided"),
            make_verdict(names[1], names[2], "worse"),
        ),
        settings={"level": level},
        data="ab" * 32,
        machine=this_machine(),
        made_at="2015-03-09T00:00:00+00:00",
        command="attar compare <job.toml>",
    )


def make_network(random, hard_targets, classes, wrong, *, teacher=False):
    examples = len(hard_targets)
    is_wrong = random.random(examples) < wrong
    predictions = np.where(is_wrong, (hard_targets + 1) % classes, hard_targets)
    share = float(is_wrong.mean())
    agreement = Agreement(examples, 1 - share, 0.1)
    bins = [ReliabilityBin(0.0, 0.5, 0, None, None), ReliabilityBin(0.5, 1.0, examples, 0.9, 0.8)]
    return NetworkResult(
        errors=int(is_wrong.sum()),
        accuracy=1 - share,
        balanced_accuracy=1 - share,
        top5_accuracy=0.999 if classes > 5 else None,
        nll=0.1,
        brier=0.05,
        ece=0.01,
        not_a_number=0,
        class_errors=tuple(np.bincount(hard_targets[is_wrong], minlength=classes).tolist()),
        reliability=tuple(bins),
        with_teacher=None
        if teacher
        else TeacherAgreement(agreement, agreement, Agreement(0, None, None)),
        fingerprint="cd" * 32,
        predictions=tuple(predictions.tolist()),
    )


def make_verdict(model, other, outcome, **more):
    small = (-0.01, 0.01)
    signs = {"better": (-0.02, -0.01), "undecided": small, "worse": (0.01, 0.02)}
    low, high = signs.get(outcome, small)
    return Verdict(
        model=model,
        other=other,
        outcome=outcome,
        p_value=0.004,
        raw_p_value=0.001,
        test="paired bootstrap",
        difference=(low + high) / 2,
        interval=Interval(low, high),
        only_model_right=8.0,
        only_other_right=2.0,
        **more,
    )


def without_numbers(record, place):
    """The same, but one model always answers NaN."""
    model = record.models[place]
    silent = [
        replace(
            network,
            errors=record.examples,
            accuracy=0.0,
            balanced_accuracy=0.0,
            top5_accuracy=None,
            nll=None,
            brier=None,
            ece=None,
            not_a_number=record.examples,
            class_errors=record.class_examples,
            reliability=tuple(
                replace(each, examples=0, mean_confidence=None, accuracy=None)
                for each in network.reliability
            ),
            with_teacher=None,
            predictions=(NO_ANSWER,) * record.examples,
        )
        for network in model.networks
    ]
    models = list(record.models)
    models[place] = replace(model, networks=tuple(silent), speeds=(), gap_closed=None)
    return replace(record, models=tuple(models))
