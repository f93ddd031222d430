"""Run a job: its steps in order, without those whose inputs have not changed."""

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TextIO

from torch import nn

from attar.data import TransferSet
from attar.errors import FolderError, JobError, StoreError, StoreWarning, TeacherWarning
from attar.files import hold_folder
from attar.jobs.comparing import compare_models, find_trainings, show_comparison
from attar.jobs.engine import Engine, StepWork, do_in_turn, show_labeling
from attar.jobs.file import Job
from attar.jobs.searching import check_search
from attar.jobs.sources import (
    AnySet,
    check_network,
    code_of,
    identify_views,
    load_teacher,
    load_test_set,
    load_transfer_set,
    make_network,
)
from attar.jobs.steps import Step, Tell
from attar.jobs.students import (
    STUDENT,
    TEACHER,
    baseline_step,
    distill_step,
    distill_student,
    plan_baseline,
    teacher_step,
    train_baseline,
    train_teacher,
)
from attar.labeling import make_plan
from attar.records import read_json, write_json
from attar.targets import Dense, Encoding, SoftTargets, Sparse, StorePlan, TargetWriter
from attar.targets.quality import find_store_doubt
from attar.teachers import Teacher
from attar.teachers.fingerprints import hash_network
from attar.training import load_weights

Part = Literal["train", "label", "distill", "compare"]
PARTS: tuple[Part, ...] = ("train", "label", "distill", "compare")
TARGETS = "targets"
OWNER = "job.json"  # names the job file of a folder


def run_job(
    job: Job,
    parts: Collection[Part],
    tell: Tell,
    engine: Engine = Engine(),  # noqa: B008 (frozen)
) -> None:
    """Run parts of a job in order; results that they need from other parts must exist.

    Args:
        job: The job.
        parts: Which of train, label, distill (with the baseline) and compare.
        tell: Called with messages and with the progress of each step.
        engine: Where the work is done; by default in this process.

    Raises:
        JobError: If something that the job file names does not fit, or a required part is missing.
        AttarError: If a step fails; its progress so far is kept.
        FolderError: If the job's folder cannot be used.
    """
    with hold_folder(job.folder):
        _claim(job)
        JobRun(job, frozenset(parts), tell, engine).do()


def choose_encoding(job: Job) -> Encoding:
    """Return the encoding set in the job file."""
    table = job.settings.soft_targets
    return Dense() if table.k is None else Sparse(k=table.k)


@dataclass(frozen=True)
class JobRun:
    """A job, and the objects that it names, loaded on first use."""

    job: Job
    parts: frozenset[Part]
    tell: Tell
    engine: Engine = field(default_factory=Engine)
    doubts: list[str] = field(default_factory=list)  # warnings about the teacher, as shown

    @cached_property
    def transfer_set(self) -> AnySet:
        """The transfer set."""
        return load_transfer_set(self.job)

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher, trained if the job trains it."""
        return load_teacher(self.job, self.transfer_set, self.trained)

    @cached_property
    def test_set(self) -> TransferSet:
        """The test set."""
        return load_test_set(self.job, self.transfer_set)

    def do(self) -> None:
        """Check as much as possible first, then run the parts."""
        settings = self.job.settings
        if self.parts & {"distill", "label"}:
            student = make_network(self.job, "student", seed=settings.distill.seeds[0])
            check_network(self.job, student, self.transfer_set, "student")
            check_search(self.job, student, self.transfer_set)
        if "compare" in self.parts and (settings.test_set or self.parts == {"compare"}):
            _ = self.test_set
        if "train" in self.parts:
            self.train()
        if "label" in self.parts:
            self.label(read_all=self.parts == {"label"})
        if "distill" in self.parts:
            self.distill()
        if "compare" in self.parts:
            self.compare()

    def once(self, step: Step, make: Callable[[Step, Tell], None]) -> None:
        """Run a step, unless it is done."""
        do_in_turn([StepWork(step, make)], self.tell)

    def train(self) -> None:
        """Train every teacher that has a table `train`."""
        teachers = self.job.settings.teacher
        trainable = [position for position, each in enumerate(teachers) if each.train]
        if not trainable and self.parts == {"train"}:
            self.tell("nothing to train: the job file has no [teacher.train]")
        works = [
            StepWork(
                teacher_step(self.job, self.transfer_set, position),
                partial(train_teacher, self.job, self.transfer_set, position),
            )
            for position in trainable
        ]
        self.engine.do_all(works, self.tell)

    def trained(self, position: int) -> Path | None:
        """Return the weights file of a teacher that the job trains; checks that it is current."""
        if self.job.settings.teacher[position].train is None:
            return None
        step = teacher_step(self.job, self.transfer_set, position)
        step.check_done(f"attar train {self.job.path}")
        return step.place / TEACHER

    def label(self, *, read_all: bool) -> None:
        """Label the transfer set; missing and damaged shards are labeled again.

        Args:
            read_all: Compare the checksums of all shards; otherwise only their sizes.
        """
        views = self.job.settings.soft_targets.views
        with self.job.blaming("soft_targets"):
            encoding = choose_encoding(self.job)
            plan = make_plan(self.teacher, self.transfer_set, encoding, views, 0)
        step = self.label_step(self.identify_teacher())
        if self._has_lost_shards(step, plan, read_all=read_all):
            StepWork(step, self.write_targets)(self.tell)
        else:
            self.once(step, self.write_targets)
        if not self.doubts:  # the set may have been labeled in an earlier run
            quality = SoftTargets.open(step.place / TARGETS).teacher_quality
            doubt = find_store_doubt(quality, self.job.settings.soft_targets.expected_accuracy)
            if doubt is not None:
                self.tell(f"warning: {doubt}")

    def _has_lost_shards(self, step: Step, plan: StorePlan, *, read_all: bool) -> bool:
        """Return whether the step is done, but shards are missing or damaged."""
        try:
            step.check_done("attar label")
        except JobError:
            return False
        if not read_all:
            with contextlib.suppress(StoreError):
                SoftTargets.open(step.place / TARGETS)  # compares sizes
                return False
        with warnings.catch_warnings(action="ignore"):  # `label` warns about each of them
            missing = TargetWriter(step.place / TARGETS, plan).missing()
        if missing:
            lost = f"{len(missing)} of {plan.shard_count} shards are missing or damaged"
            self.tell(f"{step.title}: {lost}; only these are labeled again")
        return bool(missing)

    def write_targets(self, step: Step, tell: Tell) -> None:
        """Run the labeling step."""
        table = self.job.settings.soft_targets
        with self.job.blaming("soft_targets", but=FolderError), self.telling_warnings(tell):
            targets = self.engine.label(
                self.teacher,
                self.transfer_set,
                step.place / TARGETS,
                encoding=choose_encoding(self.job),
                views=table.views,
                batch_size=table.batch_size,
                workers=table.workers,
                expected_accuracy=table.expected_accuracy,
                progress=lambda now: tell(show_labeling(step, now)),
            )
        quality = targets.teacher_quality
        tell(f"teacher: {quality or 'not measured, no example has a hard target'}")
        step.finish(f"{TARGETS}/manifest.json")

    @contextmanager
    def telling_warnings(self, tell: Tell) -> Iterator[None]:
        """Show warnings about the teacher and the store as messages, immediately."""
        with warnings.catch_warnings():  # restores the filters
            warnings.simplefilter("always", TeacherWarning)
            warnings.simplefilter("always", StoreWarning)
            show = warnings.showwarning

            def show_or_tell(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                if issubclass(category, TeacherWarning):
                    self.doubts.append(str(message))
                if issubclass(category, TeacherWarning | StoreWarning):
                    tell(f"warning: {message}")
                else:
                    show(message, category, filename, lineno, file, line)

            warnings.showwarning = show_or_tell
            yield

    def identify_teacher(self) -> dict[str, Any]:
        """Return the step inputs that identify the teacher."""
        teachers = range(len(self.job.settings.teacher))
        return {
            "the teacher's code": [code_of(self.job, "teacher", at) for at in teachers],
            "the teacher's weights": self.teacher.fingerprint(),
        }

    def label_step(self, more: dict[str, Any]) -> Step:
        """Return the labeling step; without `more`, its inputs do not include the teacher."""
        settings = self.job.settings
        views = settings.soft_targets.views
        return Step(
            self.job.folder,
            "label",
            {
                "teacher": ", ".join(each.source for each in settings.teacher),
                "encoding": _show_encoding(choose_encoding(self.job)),
                "views": list(views),
                **identify_views(self.job, self.transfer_set, are_seen=any(views)),
                "the transfer set": self.transfer_set.fingerprint(),
                **more,
            },
        )

    def store(self) -> SoftTargets:
        """Open the soft targets; the teacher is not needed."""
        step = self.label_step({})
        step.check_done(f"attar label {self.job.path}")
        return SoftTargets.open(step.place / TARGETS)

    def distill(self) -> None:
        """Train the students, and the baseline."""
        job, transfer_set, store = self.job, self.transfer_set, self.store()
        works = []
        for seed in job.settings.distill.seeds:
            network = make_network(job, "student", seed=seed)
            step = distill_step(job, network, store, transfer_set, seed)
            known = (job, network, store, transfer_set, self.engine.distill)
            works.append(StepWork(step, partial(distill_student, *known)))
        if any(not work.step.is_done() for work in works) and self.repair(store):
            self.distill()  # from the repaired store
            return
        if self.engine.together:
            do_in_turn(works, self.tell)
            works = []
        for seed in job.settings.distill.seeds if job.settings.baseline else ():
            network = make_network(job, "student", seed=seed)
            plan = plan_baseline(job, transfer_set, seed)
            step = baseline_step(job, network, plan, transfer_set)
            works.append(StepWork(step, partial(train_baseline, job, network, plan)))
        self.engine.do_all(works, self.tell)

    def repair(self, store: SoftTargets) -> bool:
        """Verify the whole store before training, and label damaged shards again.

        Returns:
            Whether a shard was damaged.

        Raises:
            StoreError: If a shard is damaged, and labeling is not among the parts to run.
        """
        try:
            store.verify()
        except StoreError:
            if "label" not in self.parts:
                raise
            self.label(read_all=True)
            return True
        return False

    def compare(self) -> None:
        """Compare the teacher and the students on the test set."""
        if self.job.settings.test_set is None:
            self.tell("nothing is compared: the job file has no [test_set]")
            return
        models: dict[str, object] = {}
        self.check_teacher()
        if self.teacher.reads_inputs:
            models["teacher"] = self.teacher
        else:
            self.tell("the teacher is not compared: its stored scores cover only the transfer set")
        seeds = self.job.settings.distill.seeds
        students = self.students()
        weights = {
            f"{name} seed-{seed}": hash_network(network)
            for name, networks in students.items()
            for seed, network in zip(seeds, networks, strict=True)
        }
        models |= students
        inputs = {
            **weights,
            **self.identify_teacher(),
            "the student's code": code_of(self.job, "student"),
            "the test set": self.test_set.fingerprint(),
            "mean": self.job.settings.distill.mean,
            "member_weights": self.job.settings.distill.member_weights,
            **self.job.settings.compare.model_dump(),
        }
        step = Step(self.job.folder, "compare", inputs)
        trained = find_trainings(self.job, self.student_steps())
        self.once(step, partial(compare_models, self.job, models, self.test_set, trained))
        show_comparison(step, self.tell)

    def check_teacher(self) -> None:
        """Raise `JobError` unless the teacher is the one that produced the soft targets."""
        self.label_step(self.identify_teacher()).check_done(f"attar label {self.job.path}")

    def students(self) -> dict[str, list[nn.Module]]:
        """Load the students, by name, one for each seed, in evaluation mode."""
        students: dict[str, list[nn.Module]] = {}
        for name, steps in self.student_steps().items():
            for step in steps:
                step.check_done(f"attar distill {self.job.path}")
                network = make_network(self.job, "student", seed=step.inputs["seed"])
                load_weights(step.place / STUDENT, network)
                students.setdefault(name, []).append(network.eval())
        return students

    def student_steps(self) -> dict[str, list[Step]]:
        """Return the steps of the students, by name, one per seed."""
        job, transfer_set, seeds = self.job, self.transfer_set, self.job.settings.distill.seeds
        store, steps = self.store(), {}
        if job.settings.baseline is not None:
            steps["hard targets"] = [
                baseline_step(
                    job,
                    make_network(job, "student", seed=seed),
                    plan_baseline(job, transfer_set, seed),
                    transfer_set,
                )
                for seed in seeds
            ]
        steps["distilled"] = [
            distill_step(job, make_network(job, "student", seed=seed), store, transfer_set, seed)
            for seed in seeds
        ]
        return steps


def read_owner(folder: Path) -> str:
    """Return the name of the job file to which a folder belongs.

    Raises:
        FolderError: If the record is damaged, or does not contain the name of a file.
    """
    name = read_json(folder / OWNER).get("job")
    is_name = isinstance(name, str) and name.isprintable() and Path(name).name == name
    if not is_name or name in ("", ".", ".."):
        raise FolderError(
            f"{folder / OWNER} is damaged: expected the name of a job file, got {name!r}; remove it"
        )
    return str(name)


def _claim(job: Job) -> None:
    """Raise `FolderError` if the folder belongs to another job or has other files."""
    path = job.folder / OWNER
    name = job.path.resolve().name
    advice = f'choose another folder: folder = "runs/{job.path.stem}"'
    if path.exists():
        owner = read_owner(job.folder)
        if owner != name and (job.root / owner).exists():
            raise FolderError(f"{job.folder} contains the results of {owner}, not {name}; {advice}")
    else:
        others = sorted(each.name for each in job.folder.iterdir() if each.name[0] != ".")
        if others:
            raise FolderError(f"{job.folder} contains other files ({others[0]}, ...); {advice}")
    write_json(path, {"job": name})


def _show_encoding(encoding: Encoding) -> str:
    return f"sparse, k {encoding.k}" if isinstance(encoding, Sparse) else "dense"
