"""`attar transcribe MODEL FILE...`: recognize words with a distilled recognizer."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from attar.errors import DataError
from attar.speech.recognition import check_known
from attar.speech.recognizer import Recognizer, Transcript
from attar.speech.scoring import WordErrors, count_errors
from attar.speech.tables import read_table


def transcribe(
    model: Annotated[
        Path,
        typer.Argument(
            help="Folder of a recognizer; `attar reproduce speech` writes RUN/recognizer.",
            metavar="MODEL",
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(help="Single-channel recordings: wav or FLAC.", metavar="FILE.wav..."),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Reference transcripts, to count word errors: one line per file, with its name "
            "without the suffix and the words, as in Kaldi's `text`.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per file instead of tables.")
    ] = False,
) -> None:
    """Recognize the words of recordings, with times and confidence.

    Each file is treated as the speech of one person: its features are normalized over the whole
    file. The sample rate must be that of the recognizer's training recordings.
    """
    recognizer = Recognizer.open(model)
    references = _read_references(reference, files, recognizer)
    started, seconds = time.monotonic(), 0.0
    errors = WordErrors()
    for path in files:
        transcript = recognizer.transcribe(path)
        seconds += transcript.seconds
        counted = None
        if reference is not None:
            words = [each.word for each in transcript.words]
            counted = count_errors(references[path.stem], words)
            errors += counted
        if as_json:
            print(json.dumps(_to_json(transcript, counted)), flush=True)
        else:
            _show(transcript)
    if as_json:
        return
    if reference is not None:
        print(errors if errors.reference_words else f"{errors.insertions} insertions in 0 words")
    taken = time.monotonic() - started
    print(f"{seconds:.1f} s of speech in {taken:.1f} s: {seconds / taken:.0f} times real time")


def _read_references(
    path: Path | None, files: list[Path], recognizer: Recognizer
) -> dict[str, list[str]]:
    """Read and check the reference transcripts of the files."""
    if path is None:
        return {}
    table = read_table(path)
    missing = [file.stem for file in files if file.stem not in table]
    if missing:
        raise DataError(f"expected a line for each file in {path}, got none for {missing[0]}")
    references = {file.stem: table[file.stem].split() for file in files}
    for name, words in references.items():
        check_known(words, recognizer.lexicon, f"{path}, {name}")
    return references


def _to_json(transcript: Transcript, errors: WordErrors | None) -> dict[str, object]:
    return {
        "file": str(transcript.path),
        "seconds": round(transcript.seconds, 3),
        "text": transcript.text,
        "words": [asdict(each) for each in transcript.words],
        **({} if errors is None else {"errors": asdict(errors)}),
    }


def _show(transcript: Transcript) -> None:
    title = f"{transcript.path}, {transcript.seconds:.2f} s"
    print(f"{title}: {transcript.text or 'no words'}", flush=True)
    if not transcript.words:
        return
    table = Table()
    for name in ("word", "from, s", "to, s", "confidence"):
        table.add_column(name, justify="left" if name == "word" else "right", no_wrap=True)
    for each in transcript.words:
        table.add_row(
            each.word,
            f"{each.start_seconds:.2f}",
            f"{each.end_seconds:.2f}",
            f"{each.confidence:.2f}",
        )
    Console(width=None if Console().is_terminal else 100).print(table)
