"""The tables of a job file that name sets of examples."""

from typing import Annotated, Literal

from pydantic import Field

from attar.jobs.table import Table
from attar.jobs.values import MOST, Classes, Count, OneOrMore, Seed, Several, Size, Token


class SetTable(Table):
    """Examples that are measured on."""

    source: str = Field(
        description="mnist, the path of an .npz, .npy, .parquet, .csv or .tsv file or of a folder "
        "with a folder of images for each class, or file.py:name of a TransferSet or of a function "
        "that makes one",
        examples=["mnist"],
    )
    examples: Count | None = Field(
        default=None, description="take the first so many", examples=[1000]
    )
    inputs: OneOrMore[str] | None = Field(
        default=None,
        description="the columns of inputs in a table, or the array in an .npz file; by default "
        "all other columns, or `inputs`",
        examples=[["length", "width"]],
    )
    ignore: OneOrMore[str] | None = Field(
        default=None,
        description="columns of a table, or arrays, to leave out; required next to token ids for "
        "further inputs of transformers models, such as token_type_ids that are not all 0",
        examples=[["token_type_ids"]],
    )
    target: str = Field(
        default="hard_targets",
        description="the column, or the array, of hard targets: class indices or names",
        examples=["species"],
    )
    unlabeled: bool = Field(
        default=False,
        description="the set has no hard targets, or they are not used; images may then lie in one "
        "folder, without folders for classes",
        examples=[True],
    )
    class_names: Several[str] | None = Field(
        default=None,
        description="names of the classes, in order; by default those that come, sorted, and for "
        "the test set those of the transfer set",
        examples=[["cat", "dog"]],
    )
    classes: Classes | None = Field(
        default=None, description="how many classes, where the data does not tell", examples=[10]
    )
    padding: Token | None = Field(
        default=None,
        description="the token id that fills up short lists of token ids",
        examples=[0],
    )
    size: Size | None = Field(
        default=None, description="height and width that images are brought to", examples=[[32, 32]]
    )
    colors: Literal["RGB", "L"] = Field(
        default="RGB", description="of images: three channels, or L, one of gray", examples=["L"]
    )


class TransferTable(SetTable):
    """Inputs on which the students see soft targets."""

    jitter: Annotated[int, Field(ge=0, le=MOST)] = Field(
        default=0,
        description="views 1 and above show each image shifted by up to so many pixels; a teacher "
        "that is trained sees another view every epoch",
        examples=[2],
    )
    jitter_seed: Seed = Field(
        default=0, description="another seed gives other shifts", examples=[1]
    )
    streamed: bool = Field(
        default=False,
        description="a Parquet file, a folder of such or its URL, or a folder of images, is read a "
        "part at a time: it may be larger than memory",
        examples=[True],
    )
    fingerprint: str | None = Field(
        default=None,
        description="what stands for the content of a streamed set, such as its date: it is then "
        "not read as a whole before anything else",
        examples=["2026-11-24"],
    )
