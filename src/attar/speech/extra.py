"""The packages of the extra `speech`, imported when first needed."""

import importlib
from typing import Any

from attar.errors import MissingExtraError


def load_extra(module: str) -> Any:  # noqa: ANN401 (modules without types)
    """Import a package of the extra.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # soundfile raises OSError where libsndfile is not
        package = module.replace("_", "-")
        raise MissingExtraError(
            f"speech needs the package {package} ({error}); try pip install 'attar[speech]'"
        ) from error
