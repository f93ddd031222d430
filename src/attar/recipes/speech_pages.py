"""Looking at a finished speech run: what its folder gives to the explorer and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.comparison import compare
from attar.data import TransferSet
from attar.errors import FolderError
from attar.evaluation import compute_logits
from attar.explorer import ExampleSet, Exploration, Model
from attar.recipes import result_pages
from attar.recipes.config import restore_config
from attar.recipes.folder import COMPARISON
from attar.recipes.speech_config import Config
from attar.recipes.speech_data import Part, Prepared, read_prepared
from attar.recipes.speech_results import EXPERIMENT
from attar.recipes.speech_systems import frame_set, make_shape
from attar.recipes.speech_training import CohortMean
from attar.records import ExperimentResult
from attar.speech.packed import LEFT
from attar.speech.recognition import describe_states
from attar.speech.tree import Tree
from attar.training import load_weights

BASELINE = "baseline, hard targets"
MOST_FRAMES = 1500  # of a part, that the explorer shows
MOST_LOGITS = 300_000  # numbers of one network in a part
_DEVIATIONS = 2.5  # of a feature, from the darkest to the middle, and on to the lightest
_CAPTION = (
    "What the networks see: {frames} frames of 10 ms from left to right, the lowest feature at the "
    "bottom. The bright mark is the frame whose state is asked for."
)


@dataclass(frozen=True)
class SpeechRun:
    """A finished run."""

    folder: Path
    result: ExperimentResult
    config: Config
    prepared: Prepared
    teachers: Cohort
    student: nn.Module  # of the temperature that was chosen
    temperature: float

    @classmethod
    def open(cls, folder: Path) -> "SpeechRun":
        """Read the run's result, its corpus and its networks.

        Raises:
            FolderError: If the run is not finished, is damaged, or its corpus is not there.
        """
        path = folder / f"{EXPERIMENT}.json"
        result = ExperimentResult.read(path)
        config = restore_config(Config, result.config, path)
        tried = result.details.get("held-out frame accuracy by temperature")
        if not isinstance(tried, dict) or len(tried) != len(config.student_temperatures):
            raise FolderError(f"{path} is damaged: expected what each temperature came to")
        chosen = list(tried.values()).index(max(tried.values()))
        prepared = read_prepared(config, folder)
        shape = make_shape(config, prepared)
        teachers = shape.make_cohort(range(config.seeds))
        students = shape.make_cohort([config.seeds] * len(tried))
        load_weights(folder / "teachers.safetensors", teachers)
        load_weights(folder / "students.safetensors", students)
        temperature = config.student_temperatures[chosen]
        return cls(
            folder, result, config, prepared, teachers, students.member(chosen).eval(), temperature
        )

    @property
    def names(self) -> tuple[str, str]:
        """How teacher and student are called."""
        return f"ensemble of {self.config.seeds}", f"distilled, T = {self.temperature:g}"

    def examples(self, part: Part) -> TransferSet:
        """Make a set of a part's frames, its classes called as the states."""
        return frame_set(part, self.prepared, class_names=name_states(self.prepared.tree))


def report(folder: Path, path: Path) -> None:
    """Compare the networks of a run on the test frames, and write the report.

    No pair is judged: the frames of an utterance are too alike to count as examples of their own.
    The comparison itself goes to `comparison.json` in the folder.

    Raises:
        FolderError: If the run is not finished, is damaged, or the report cannot be written.
    """
    run = SpeechRun.open(folder)
    teacher, student = run.names
    models: dict[str, nn.Module | Sequence[nn.Module]] = {
        teacher: CohortMean(run.teachers),
        BASELINE: list(run.teachers.members()),
        student: run.student,
    }
    compared = compare(models, run.examples(run.prepared.test), teacher=teacher, pairs=[])
    replace(compared, command=run.result.command).save(folder / COMPARISON)
    result_pages.report(EXPERIMENT, folder, path)


def explore(folder: Path) -> Exploration:
    """Collect what the explorer shows of a run: frames that are drawn by lot.

    Raises:
        FolderError: If the run is not finished, is damaged, or its corpus is not there.
    """
    run = SpeechRun.open(folder)
    teacher, student = run.names
    networks = {
        teacher: CohortMean(run.teachers),
        student: run.student,
        BASELINE: run.teachers.member(0),
    }
    parts = {"test": run.prepared.test, "training": run.prepared.train}
    machine = run.result.machine
    return Exploration(
        title=f"speech: {run.prepared.corpus.name}",
        teacher=Model(teacher),
        students=(Model(student, run.student), Model(BASELINE)),
        sets=tuple(_show(run, name, part, networks) for name, part in parts.items()),
        temperature=run.temperature,
        facts={
            "Made by": run.result.command,
            "Classes": "tied states: phone, place in it (1 to 3), number",
            "Versions": f"attar {machine.attar}, torch {machine.torch}, Python {machine.python}",
            "Processor": f"{machine.processor}, {machine.cores} cores",
        },
    )


def _show(run: SpeechRun, name: str, part: Part, networks: Mapping[str, nn.Module]) -> ExampleSet:
    frames = run.examples(part)
    drawn = torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))
    examples = frames.subset(drawn[: min(MOST_FRAMES, MOST_LOGITS // frames.classes)].sort().values)
    pictures = draw_windows(part, examples.example_ids)
    return ExampleSet(
        name,
        examples,
        {each: compute_logits(network, examples) for each, network in networks.items()},
        pictures=pictures,
        caption=_CAPTION.format(frames=pictures.shape[2]),
    )


def draw_windows(part: Part, frames: Int64[Tensor, " drawn"]) -> UInt8[Tensor, "drawn high wide 3"]:
    """Draw the windows around some frames as heat maps, a mark below the frame that is asked for.

    Time runs from left to right, and features from the bottom up.
    """
    from matplotlib import colormaps

    dims = part.packed.frames.shape[1]
    windows = part.packed.windows(frames).view(len(frames), -1, dims)  # [drawn, wide, dims]
    upright = windows.transpose(1, 2).flip(1)  # [drawn, dims, wide]
    shades = (upright / _DEVIATIONS).clamp(-1, 1).add(1).div(2).numpy()
    drawn = torch.from_numpy(colormaps["magma"](shades, bytes=True)[..., :3].copy())
    mark = torch.zeros(len(frames), 1, drawn.shape[2], 3, dtype=torch.uint8)
    mark[:, :, LEFT] = 255
    return torch.cat([drawn, mark], dim=1)


def name_states(tree: Tree) -> list[str]:
    """Name each tied state after its phone and its place in it."""
    phones, positions = describe_states(tree)
    return [
        f"{tree.phones[phone]}.{position + 1} #{state}"
        for state, (phone, position) in enumerate(zip(phones, positions, strict=True))
    ]
