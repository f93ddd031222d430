"""Kaldi's transducers and decoder, imported when first needed: they come with the extra `speech`."""

import importlib
from typing import Any

from attar.errors import MissingExtraError


def fst_module() -> Any:  # noqa: ANN401 (kaldifst has no types)
    """Return `kaldifst`.

    Raises:
        MissingExtraError: If it is not installed.
    """
    return _load("kaldifst")


def decoder_module() -> Any:  # noqa: ANN401
    """Return `kaldi_decoder`.

    Raises:
        MissingExtraError: If it is not installed.
    """
    _load("kaldifst")  # whose types its results are of
    return _load("kaldi_decoder")


def _load(name: str) -> Any:  # noqa: ANN401
    try:
        return importlib.import_module(name)
    except ImportError as error:
        found = f"decoding speech needs {name.replace('_', '-')}, which cannot be imported"
        raise MissingExtraError(f"{found} ({error}); try pip install 'attar[speech]'") from error
