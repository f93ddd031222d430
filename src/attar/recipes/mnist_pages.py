"""Looking at a finished MNIST run: what its folder gives to the explorer and the report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from attar.comparison import compare
from attar.data import TransferSet
from attar.errors import FolderError
from attar.evaluation import compute_logits
from attar.explorer import ExampleSet, Exploration, Model
from attar.recipes import mnist
from attar.recipes.config import restore_config
from attar.recipes.folder import read_record
from attar.recipes.stages import load_network, record_path
from attar.records import ExperimentResult
from attar.report import save_report
from attar.training import Epoch

KINDS = ("teacher", "hard", "soft", "both")
TRANSFER_EXAMPLES = 1000  # that the explorer shows


@dataclass(frozen=True, slots=True)
class MnistRun:
    """A finished run."""

    folder: Path
    result: ExperimentResult
    config: mnist.Config

    @classmethod
    def open(cls, folder: Path) -> "MnistRun":
        """Read the run's result.

        Raises:
            FolderError: If the run is not finished, is damaged, or is of another release.
        """
        path = folder / f"{mnist.EXPERIMENT}.json"
        result = ExperimentResult.read(path)
        config = restore_config(mnist.Config, result.config, path)
        if len(result.rows) != len(KINDS):
            raise FolderError(f"expected {len(KINDS)} rows in {path}, got {len(result.rows)}")
        return cls(folder, result, config)

    def name(self, kind: str) -> str:
        """Return the name that the result has for one of the four networks."""
        return self.result.rows[KINDS.index(kind)].name

    def network(self, kind: str, seed: int) -> nn.Module:
        """Load one of the four networks of a seed, in evaluation mode."""
        return load_network(mnist.make_stages(self.config, seed)[kind], self.folder)

    def history(self, kind: str, seed: int) -> list[Epoch]:
        """Read the epochs of a network's training."""
        path = record_path(mnist.make_stages(self.config, seed)[kind], self.folder)
        try:
            return [Epoch(**epoch) for epoch in read_record(path)["history"]]
        except (KeyError, TypeError) as error:
            raise FolderError(f"{path} is damaged ({error}); remove it to train again") from error


def explore(folder: Path) -> Exploration:
    """Collect what the explorer shows of a run: the networks of its first seed.

    Raises:
        FolderError: If the run is not finished, or is damaged.
    """
    run = MnistRun.open(folder)
    train_set, test_set = mnist.load_sets(run.config)
    few = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))
    transfer_set = train_set.subset(few[:TRANSFER_EXAMPLES].sort().values)
    networks = {run.name(kind): run.network(kind, 0) for kind in KINDS}

    def show(name: str, examples: TransferSet) -> ExampleSet:
        logits = {name: compute_logits(network, examples) for name, network in networks.items()}
        return ExampleSet(name, examples, logits)

    teacher, hard, soft, both = (Model(name, network) for name, network in networks.items())
    return Exploration(
        title="MNIST",
        teacher=teacher,
        students=(soft, both, hard),
        sets=(
            show("held-out" if run.config.held_out else "test", test_set),
            show("transfer", transfer_set),
        ),
        temperature=run.config.temperature,
        facts=facts_of(run),
    )


def facts_of(run: MnistRun) -> dict[str, str]:
    """Tell where a run is from, for the end of a page."""
    machine = run.result.machine
    return {
        "Made by": run.result.command,
        "Networks": f"of the first of {run.config.seeds} seed(s)",
        "Versions": f"attar {machine.attar}, torch {machine.torch}, Python {machine.python}",
        "Commit": machine.commit or "unknown",
        "Processor": f"{machine.processor}, {machine.cores} cores",
    }


def report(folder: Path, path: Path) -> None:
    """Compare the networks of a run on what it measured on, all seeds, and write the report.

    Takes some seconds, for the latencies. The comparison itself goes to `comparison.json` in the
    folder.

    Raises:
        FolderError: If the run is not finished, is damaged, or the report cannot be written.
    """
    run = MnistRun.open(folder)
    _, test_set = mnist.load_sets(run.config)
    seeds = range(run.config.seeds)
    models: dict[str, Sequence[nn.Module]] = {
        run.name(kind): [run.network(kind, seed) for seed in seeds] for kind in KINDS
    }
    teacher, hard, soft, both = models
    # What the experiment asks: does a teacher help, and is it reached?
    pairs = [(soft, teacher), (soft, hard), (both, teacher), (both, hard), (hard, teacher)]
    compared = compare(models, test_set, teacher=teacher, baseline=hard, pairs=pairs)
    record = replace(compared, command=run.result.command)
    record.save(folder / "comparison.json")
    save_report(
        record,
        path,
        title=f"MNIST: {run.result.rows[0].metric}",
        histories={run.name(kind): [run.history(kind, seed) for seed in seeds] for kind in KINDS},
        published={row.name: row.paper for row in run.result.rows if row.paper is not None},
        settings=run.result.config,
    )
