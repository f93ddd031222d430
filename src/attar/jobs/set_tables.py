"""The tables of a job file that name sets of examples."""

from typing import Annotated, Literal

from pydantic import Field

from attar.jobs.table import Table
from attar.jobs.values import MOST, Classes, Count, OneOrMore, Seed, Several, Size, Token


class SetTable(Table):
    """Examples on which the models are compared."""

    source: str = Field(
        description="mnist; the path of an .npz, .npy, .parquet, .csv or .tsv file; the path of a "
        "folder with one folder of images per class; or file.py:name of a TransferSet or of a "
        "function that returns one",
        examples=["mnist"],
    )
    examples: Count | None = Field(
        default=None, description="use only the first N examples", examples=[1000]
    )
    inputs: OneOrMore[str] | None = Field(
        default=None,
        description="input columns of a table, or the input array of an .npz file; by default all "
        "remaining columns, or the array `inputs`",
        examples=[["length", "width"]],
    )
    ignore: OneOrMore[str] | None = Field(
        default=None,
        description="columns or arrays to leave out; required for further inputs of transformers "
        "models beside the token ids, such as token_type_ids that are not all 0",
        examples=[["token_type_ids"]],
    )
    target: str = Field(
        default="hard_targets",
        description="column or array of hard targets: class indices or class names",
        examples=["species"],
    )
    unlabeled: bool = Field(
        default=False,
        description="the set has no hard targets, or they are not used; images may then be in one "
        "folder without class folders",
        examples=[True],
    )
    class_names: Several[str] | None = Field(
        default=None,
        description="class names, in order; by default the sorted names in the data, and for the "
        "test set the class names of the transfer set",
        examples=[["cat", "dog"]],
    )
    classes: Classes | None = Field(
        default=None,
        description="number of classes, if the data does not determine it",
        examples=[10],
    )
    padding: Token | None = Field(
        default=None,
        description="token id used to pad short lists of token ids",
        examples=[0],
    )
    size: Size | None = Field(
        default=None,
        description="height and width to which images are resized",
        examples=[[32, 32]],
    )
    colors: Literal["RGB", "L"] = Field(
        default="RGB", description="RGB, three channels; or L, one gray channel", examples=["L"]
    )


class TransferTable(SetTable):
    """Inputs on which the students see soft targets."""

    jitter: Annotated[int, Field(ge=0, le=MOST)] = Field(
        default=0,
        description="largest shift, in pixels, of the images in views 1 and above; a trained "
        "teacher sees a different view in every epoch",
        examples=[2],
    )
    jitter_seed: Seed = Field(default=0, description="random seed of the shifts", examples=[1])
    streamed: bool = Field(
        default=False,
        description="read the data in parts, so that it may be larger than memory; for a Parquet "
        "file, a folder of Parquet files or its URL, or a folder of images",
        examples=[True],
    )
    fingerprint: str | None = Field(
        default=None,
        description="a text that identifies the content of a streamed set, such as its date; "
        "without it, the whole set is read once at the start to hash it",
        examples=["2026-11-24"],
    )
