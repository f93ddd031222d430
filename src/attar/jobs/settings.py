"""The keys of a job file: types, ranges and descriptions."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from attar.jobs.cluster_table import ClusterTable
from attar.jobs.set_tables import SetTable, TransferTable
from attar.jobs.table import Table
from attar.jobs.values import (
    MOST,
    Count,
    Fraction,
    NotNegative,
    OneOrMore,
    Positive,
    Seed,
    Several,
    Temperature,
    Token,
)
from attar.losses import Mean
from attar.teachers import Answers
from attar.training import OptimizerName
from attar.training.settings import ScheduleName


class TrainTable(Table):
    """How a teacher is trained on the hard targets of the transfer set."""

    epochs: Count = Field(description="passes over the transfer set", examples=[10])
    batch_size: Count = Field(default=256, description="examples in a batch", examples=[128])
    learning_rate: Positive = Field(default=1e-3, description="peak learning rate", examples=[1e-3])
    optimizer: OptimizerName = Field(
        default="adamw", description="adamw, or sgd with Nesterov momentum 0.9", examples=["sgd"]
    )
    weight_decay: NotNegative = Field(
        default=0.0, description="weight decay of the optimizer", examples=[0.01]
    )
    schedule: ScheduleName = Field(
        default="cosine", description="decay of the learning rate", examples=["linear"]
    )
    warmup_epochs: NotNegative = Field(
        default=0.0,
        description="epochs over which the learning rate rises linearly from zero",
        examples=[1.0],
    )
    clip_norm: Positive | None = Field(
        default=None, description="maximum norm of the gradient", examples=[1.0]
    )
    seed: Seed = Field(
        default=0,
        description="random seed of initial weights, order, views and dropout",
        examples=[1],
    )


class TeacherTable(Table):
    """A teacher. Several tables [[teacher]] make an ensemble."""

    source: str = Field(
        description="file.py:name of a torch module or classifier, or of a function that returns "
        "one; or the path of an .onnx file, of stored scores (.npy, .npz, .parquet), or of a "
        "folder saved by transformers",
        examples=["networks.py:make_teacher"],
    )
    weights: str | None = Field(
        default=None,
        description="file with the weights: safetensors, or a torch checkpoint such as .pth",
        examples=["teacher.safetensors"],
    )
    answers: Answers | None = Field(
        default=None,
        description="output of the teacher: logits or probabilities; by default as recorded in the "
        "file, else logits",
        examples=["probabilities"],
    )
    rest: str | None = Field(
        default=None,
        description="how to treat probabilities that sum to less than 1: renormalize divides each "
        "row by its sum; class:NAME adds the missing part to that class; by default an error",
        examples=["renormalize"],
    )
    padding: Token | None = Field(
        default=None, description="padding token id, for the attention mask", examples=[0]
    )
    processor: str | None = Field(
        default=None,
        description="folder of the image processor that normalizes the images of a transformers "
        "model, by default the folder of the model; or none, if the model takes the images "
        "unchanged",
        examples=["none"],
    )
    train: TrainTable | None = Field(
        default=None, description="the table [teacher.train], to train the teacher"
    )

    @model_validator(mode="after")
    def _weights_or_train(self) -> "TeacherTable":
        if self.weights is not None and self.train is not None:
            raise ValueError("expected weights or train, got both; leave one out")
        return self


class SoftTargetsTable(Table):
    """How the teacher's outputs are stored."""

    encoding: Literal["dense", "sparse"] = Field(
        default="dense", description="dense: all logits; sparse: the k largest logits and the tail"
    )
    k: Count | None = Field(
        default=None, description="number of logits kept by the sparse encoding", examples=[32]
    )
    views: Several[Annotated[int, Field(ge=0, le=MOST)]] = Field(
        default=(0,),
        description="numbers of the views to label; 0 is the plain example, others need jitter or "
        "a set with views. The student sees one view per epoch, in turn",
        examples=[[0, 1, 2, 3]],
    )
    batch_size: Count = Field(
        default=256, description="examples in a batch of the teacher", examples=[64]
    )
    workers: Count | None = Field(
        default=None, description="labeling threads; by default one per core", examples=[1]
    )
    expected_accuracy: Fraction | None = Field(
        default=None,
        description="known accuracy of the teacher; a warning is shown if its accuracy on the "
        "labeled examples of the transfer set is clearly lower",
        examples=[0.8],
    )

    @model_validator(mode="after")
    def _k_of_sparse(self) -> "SoftTargetsTable":
        if self.encoding == "sparse" and self.k is None:
            raise ValueError("expected k with the sparse encoding, got none; try k = 32")
        if self.encoding == "dense" and self.k is not None:
            raise ValueError(f'expected no k with the dense encoding, got {self.k}; try "sparse"')
        return self


class StudentTable(Table):
    """The network to train from soft targets."""

    source: str = Field(
        description="file.py:name of a torch module, or of a function that returns one",
        examples=["networks.py:make_student"],
    )


class DistillTable(Table):
    """How students are trained. Loss: soft_weight · T² · soft + hard_weight · hard."""

    temperature: Temperature = Field(
        description='temperature of the soft targets, at least 1 for sparse ones; or "auto": '
        "students at several temperatures are trained together, the temperature with the fewest "
        "errors on a held-out tenth of the labeled examples is chosen, and a student is trained "
        "with it on all examples",
        examples=[4.0],
    )
    soft_weight: NotNegative = Field(description="weight of the soft term", examples=[1.0])
    hard_weight: NotNegative = Field(description="weight of the hard term", examples=[0.1])
    epochs: Count = Field(description="passes over the transfer set", examples=[10])
    batch_size: Count = Field(default=256, description="examples in a batch", examples=[128])
    learning_rate: Positive = Field(default=1e-3, description="peak learning rate", examples=[1e-3])
    optimizer: OptimizerName = Field(
        default="adamw", description="adamw, or sgd with Nesterov momentum 0.9", examples=["sgd"]
    )
    seeds: Several[Seed] = Field(
        default=(0,),
        description="random seeds of initial weights, order and dropout; one student per seed",
        examples=[[0, 1, 2]],
    )
    mean: Mean = Field(
        default="arithmetic",
        description="mean of an ensemble's members: arithmetic, of their probabilities; or "
        "geometric, of their logits",
        examples=["geometric"],
    )
    member_weights: Several[NotNegative] | None = Field(
        default=None,
        description="weights of the members; equal by default",
        examples=[[2, 1]],
    )

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected seeds that differ, got {list(seeds)}; take one out")
        return seeds


class BaselineTable(Table):
    """The same students, trained on hard targets alone, as the baseline of the comparison."""

    epochs: Count | None = Field(
        default=None,
        description="passes over the examples that have a hard target; by default as many as give "
        "the number of updates of the distilled students",
        examples=[20],
    )
    learning_rate: Positive | None = Field(
        default=None, description="peak learning rate; by default as in [distill]", examples=[1e-3]
    )


class CompareTable(Table):
    """How the models are compared on the test set."""

    latency: bool = Field(
        default=True,
        description="measure the speed of the models; takes seconds each",
        examples=[False],
    )
    report: bool = Field(default=True, description="write an HTML report", examples=[False])
    margin: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="difference of error rates, as a fraction, that is too small to matter; "
        "models that differ by less can be EQUIVALENT",
        examples=[0.005],
    )


class JobSettings(Table):
    """The whole job file."""

    folder: str | None = Field(
        default=None,
        description="folder of the results, relative to the job file; by default the name of the "
        "job file without .toml",
        examples=["runs/first"],
    )
    transfer_set: TransferTable
    test_set: SetTable | None = Field(
        default=None, description="the table [test_set]; without it, nothing is compared"
    )
    teacher: OneOrMore[TeacherTable]
    soft_targets: SoftTargetsTable = SoftTargetsTable()
    student: StudentTable
    distill: DistillTable
    baseline: BaselineTable | None = Field(
        default=None, description="the table [baseline]; without it, no baseline is trained"
    )
    compare: CompareTable = CompareTable()
    cluster: ClusterTable = ClusterTable()


TABLES: dict[tuple[str, ...], type[Table]] = {
    (): JobSettings,
    ("transfer_set",): TransferTable,
    ("test_set",): SetTable,
    ("teacher",): TeacherTable,
    ("teacher", "train"): TrainTable,
    ("soft_targets",): SoftTargetsTable,
    ("student",): StudentTable,
    ("distill",): DistillTable,
    ("baseline",): BaselineTable,
    ("compare",): CompareTable,
    ("cluster",): ClusterTable,
}


def validate(content: dict[str, Any]) -> JobSettings:
    """Validate the content of a job file; raises pydantic's `ValidationError`."""
    return JobSettings.model_validate(content)
