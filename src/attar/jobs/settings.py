"""What a job file may say: every key, its type and range, and what it is for."""

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
    learning_rate: Positive = Field(default=1e-3, description="at its highest", examples=[1e-3])
    optimizer: OptimizerName = Field(
        default="adamw", description="adamw, or sgd with Nesterov momentum 0.9", examples=["sgd"]
    )
    weight_decay: NotNegative = Field(default=0.0, description="of the optimizer", examples=[0.01])
    schedule: ScheduleName = Field(
        default="cosine", description="how the learning rate falls", examples=["linear"]
    )
    warmup_epochs: NotNegative = Field(
        default=0.0,
        description="epochs in which the learning rate climbs from zero",
        examples=[1.0],
    )
    clip_norm: Positive | None = Field(
        default=None, description="longest allowed gradient", examples=[1.0]
    )
    seed: Seed = Field(
        default=0, description="of first weights, order, views and dropout", examples=[1]
    )


class TeacherTable(Table):
    """A teacher; several tables [[teacher]] make an ensemble."""

    source: str = Field(
        description="file.py:name of a torch module or classifier, or of a function that makes "
        "one; or the path of an .onnx file, of scores made elsewhere (.npy, .npz, .parquet), or "
        "of a folder that transformers saved",
        examples=["networks.py:make_teacher"],
    )
    weights: str | None = Field(
        default=None,
        description="a file with the weights: safetensors, or a torch checkpoint such as .pth",
        examples=["teacher.safetensors"],
    )
    answers: Answers | None = Field(
        default=None,
        description="what it answers with: logits, or probabilities; by default what a file says, "
        "else logits",
        examples=["probabilities"],
    )
    rest: str | None = Field(
        default=None,
        description="what to do with probabilities that sum to less than 1: renormalize divides "
        "each row by its sum, class:NAME gives the missing part to that class; by default an error",
        examples=["renormalize"],
    )
    padding: Token | None = Field(
        default=None, description="the token id of padding, for an attention mask", examples=[0]
    )
    processor: str | None = Field(
        default=None,
        description="the folder of the image processor whose mean and standard deviation normalize "
        "the images of a model of transformers, by default the model's own folder; or none, if the "
        "model takes the images as they are",
        examples=["none"],
    )
    train: TrainTable | None = Field(
        default=None, description="the table [teacher.train], if the teacher is to be trained"
    )

    @model_validator(mode="after")
    def _weights_or_train(self) -> "TeacherTable":
        if self.weights is not None and self.train is not None:
            raise ValueError("expected weights or train, got both; leave one out")
        return self


class SoftTargetsTable(Table):
    """What is kept of the teacher's answers."""

    encoding: Literal["dense", "sparse"] = Field(
        default="dense", description="dense: every logit; sparse: the k largest and the tail"
    )
    k: Count | None = Field(
        default=None, description="how many logits a sparse one keeps", examples=[32]
    )
    views: Several[Annotated[int, Field(ge=0, le=MOST)]] = Field(
        default=(0,),
        description="numbers of the views to label; 0 is the plain example, others need jitter or "
        "a set with views. The student sees them in turn, an epoch each",
        examples=[[0, 1, 2, 3]],
    )
    batch_size: Count = Field(
        default=256, description="examples the teacher sees at once", examples=[64]
    )
    workers: Count | None = Field(
        default=None, description="threads that label; by default one for each core", examples=[1]
    )
    expected_accuracy: Fraction | None = Field(
        default=None,
        description="accuracy that the teacher is known to have; a warning is given if it is "
        "clearly lower on the labeled examples of the transfer set",
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
    """The network that is distilled into."""

    source: str = Field(
        description="file.py:name of a torch module, or of a function that makes one",
        examples=["networks.py:make_student"],
    )


class DistillTable(Table):
    """How students are trained: soft_weight · T² · soft + hard_weight · hard."""

    temperature: Temperature = Field(
        description='T of the soft targets, at least 1 for sparse ones; or "auto": students of '
        "several, trained together, tell which makes the fewest errors on a tenth of the labeled "
        "examples, and one of that T is then trained on all",
        examples=[4.0],
    )
    soft_weight: NotNegative = Field(description="factor of the soft term", examples=[1.0])
    hard_weight: NotNegative = Field(description="factor of the hard term", examples=[0.1])
    epochs: Count = Field(description="passes over the transfer set", examples=[10])
    batch_size: Count = Field(default=256, description="examples in a batch", examples=[128])
    learning_rate: Positive = Field(default=1e-3, description="at its highest", examples=[1e-3])
    optimizer: OptimizerName = Field(
        default="adamw", description="adamw, or sgd with Nesterov momentum 0.9", examples=["sgd"]
    )
    seeds: Several[Seed] = Field(
        default=(0,),
        description="a student for each: of first weights, order and dropout",
        examples=[[0, 1, 2]],
    )
    mean: Mean = Field(
        default="arithmetic",
        description="of an ensemble's members: of their probabilities, or geometric, of their "
        "logits",
        examples=["geometric"],
    )
    member_weights: Several[NotNegative] | None = Field(
        default=None,
        description="of the members in that mean; by default all alike",
        examples=[[2, 1]],
    )

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected seeds that differ, got {list(seeds)}; take one out")
        return seeds


class BaselineTable(Table):
    """The same students, trained on hard targets alone: what distillation is held against."""

    epochs: Count | None = Field(
        default=None,
        description="passes over the examples that have a hard target; by default as many as make "
        "the updates of the distilled students",
        examples=[20],
    )
    learning_rate: Positive | None = Field(
        default=None, description="at its highest; by default that of distill", examples=[1e-3]
    )


class CompareTable(Table):
    """How the models are compared on the test set."""

    latency: bool = Field(
        default=True, description="measure the models' speed, some seconds each", examples=[False]
    )
    report: bool = Field(
        default=True, description="write a report, a page for a browser", examples=[False]
    )
    margin: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="a difference of error rates, as a fraction, that you consider too small to "
        "matter: models that differ by less can be EQUIVALENT",
        examples=[0.005],
    )


class JobSettings(Table):
    """The whole job file."""

    folder: str | None = Field(
        default=None,
        description="where results go, relative to the job file; by default its name without .toml",
        examples=["runs/first"],
    )
    transfer_set: TransferTable
    test_set: SetTable | None = Field(default=None, description="without it, nothing is compared")
    teacher: OneOrMore[TeacherTable]
    soft_targets: SoftTargetsTable = SoftTargetsTable()
    student: StudentTable
    distill: DistillTable
    baseline: BaselineTable | None = Field(default=None, description="without it, none is trained")
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
    """Validate what a job file says; raises pydantic's `ValidationError`."""
    return JobSettings.model_validate(content)
