"""`attar export WEIGHTS`: a student as safetensors, ONNX and int8 ONNX, each measured."""

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
            help="Function or class that makes the network, called without arguments: file.py:name "
            "or package.module:name."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Examples on which the files are measured: mnist (its test set), or an .npz file "
            "with inputs, hard_targets and optionally class_names."
        ),
    ],
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Examples for calibrating activation ranges, required for int8 of convolutions: "
            "mnist (its training set), or an .npz file with inputs."
            "  [default: mnist if --data is mnist]"
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, help="Number of classes, if the data does not determine it."),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option("--format", help=f"One of {', '.join(FORMATS)}; repeatable.  [default: all]"),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Largest allowed difference of an ONNX logit, relative to the largest logit."
        ),
    ] = 1e-4,
    out: Annotated[
        Path | None,
        typer.Option(help="The output folder.  [default: `export` beside WEIGHTS]"),
    ] = None,
) -> None:
    """Write the student as safetensors, ONNX and int8 ONNX for CPUs, and measure each.

    Nothing is written if one of the files cannot be made or its logits differ.
    """
    if classes is not None and data == MNIST:
        raise AttarError(
            f"--classes {classes} cannot be used with --data {MNIST}, which has 10; leave it out"
        )
    if calibration is not None and "int8" not in (form or FORMATS):
        raise AttarError(
            "--calibration is only used by --format int8; add that or leave --calibration out"
        )
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
    print(f"wrote {folder}; {record.name} has all numbers")


def read_examples(source: str, *, part: str, classes: int | None) -> TransferSet:
    """Read the examples given on the command line.

    Args:
        source: `mnist`, or the path of an `.npz` file.
        part: `train` or `test`, for MNIST.
        classes: Number of classes, if an `.npz` file does not determine it.

    Raises:
        DataError: If `source` is neither, or cannot be read.
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
