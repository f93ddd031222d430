"""`attar export WEIGHTS`: the student alone, as safetensors, ONNX and int8 ONNX, each measured."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from attar.data import TransferSet, load_mnist, read_arrays
from attar.errors import AttarError, DataError
from attar.export import FORMATS, Exported, Format, export_student
from attar.objects import make_object
from attar.records import this_machine, write_json
from attar.weights import load_weights

MNIST = "mnist"


def export(
    weights: Annotated[
        Path, typer.Argument(help="The student's weights: safetensors, or a torch checkpoint.")
    ],
    network: Annotated[
        str,
        typer.Option(
            help="What makes the network, called without arguments: file.py:name or "
            "package.module:name."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="What the files are measured on: mnist (its test set), or an .npz file with "
            "inputs, hard_targets and perhaps class_names."
        ),
    ],
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Examples for the ranges of activations, which int8 needs if there are "
            "convolutions: mnist (its training set), or an .npz file with inputs."
            "  [default: mnist if that is the data]"
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, help="How many, if the data has neither names nor all of them."),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option("--format", help=f"One of {', '.join(FORMATS)}; may be repeated: all."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference of an ONNX logit, relative to the largest.")
    ] = 1e-4,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write to.  [default: `export` beside WEIGHTS]"),
    ] = None,
) -> None:
    """Write the student as safetensors, ONNX and int8 ONNX for CPUs, and measure each.

    Nothing is written if one of them cannot be made or its logits differ.
    """
    if classes is not None and data == MNIST:
        raise AttarError(
            f"expected no --classes beside --data {MNIST}, which has 10, got {classes}"
        )
    if calibration is not None and "int8" not in (form or FORMATS):
        raise AttarError("expected --format int8 beside --calibration, which no other format uses")
    examples = read_examples(data, part="test", classes=classes)
    student = make_object(network, Path.cwd(), nn.Module)
    load_weights(weights, student)
    source = calibration or (MNIST if data == MNIST else None)
    ranges = read_examples(source, part="train", classes=examples.classes) if source else None
    folder, name = out or weights.parent / "export", weights.stem
    exported = export_student(
        student,
        folder,
        examples,
        name=name,
        formats=cast(list[Format], form) or FORMATS,
        calibration=ranges,
        tolerance=tolerance,
    )
    record = folder / f"{name}.export.json"
    files = [asdict(file) | {"path": Path(file.path).name} for file in exported]
    write_json(record, {"files": files, "machine": asdict(this_machine())})
    show_exported(exported)
    print(f"in {folder}; {record.name} has all figures")


def read_examples(source: str, *, part: str, classes: int | None) -> TransferSet:
    """Read the data that a name or a path on the command line stands for.

    Args:
        source: `mnist`, or the path of an `.npz` file.
        part: Of MNIST: `train` or `test`.
        classes: How many, where an `.npz` file does not tell.

    Raises:
        DataError: If it is neither, or cannot be read.
    """
    if source == MNIST:
        mnist = load_mnist()
        return mnist.train if part == "train" else mnist.test
    if Path(source).suffix != ".npz":
        raise DataError(f"expected mnist or the path of an .npz file, got {source!r}")
    return read_arrays(source, classes=classes, may_lack_target=True)


def show_exported(exported: tuple[Exported, ...]) -> None:
    """Print a row for each file."""
    first = exported[0]
    table = Table(
        title=f"measured on {first.examples:,} examples, {first.labeled:,} of them labeled"
    )
    table.add_column("file")
    for name in ("kB", "largest difference", "agreement", "errors", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    for file in exported:
        table.add_row(
            Path(file.path).name + (f" ({file.quantization})" if file.quantization else ""),
            f"{file.size_bytes / 1000:,.1f}",
            f"{file.largest_difference:.2g}",
            f"{file.agreement:.2%}",
            f"{file.errors:,}" if file.labeled else "",
            f"{100 * file.accuracy_change:+.2f} points" if file.labeled else "",
        )
    Console(width=None if Console().is_terminal else 100).print(table)
