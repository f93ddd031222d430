"""Load Python objects named as `file.py:name` or `package.module:name`."""

import hashlib
import importlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from attar.errors import ObjectError, file_error

T = TypeVar("T")

_NOT_THE_USERS = (str(Path(__file__).parent), sysconfig.get_path("stdlib"))
_modules: dict[tuple[str, str, str], ModuleType] = {}  # by name, path and checksum of the file


def load_object(spec: str, folder: Path) -> object:
    """Load the object that `spec` names by running its file or importing its module.

    A file is run once per content. It can import modules from `folder` and from its own folder.

    Args:
        spec: `file.py:name` or `package.module:name`; the name may be dotted, as in `Class.method`.
        folder: Base of the file's path, and the first folder searched for modules.

    Raises:
        ObjectError: If `spec` has another form, there is no such file, module or name, or the code
            fails; the message then contains the line of the user's code.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name.replace(".", "").isidentifier():
        raise ObjectError(f"expected file.py:name or package.module:name, got {spec!r}")
    if place.endswith(".py"):
        file = folder / place
        module = _run_file(file, folder)
        where = str(file)
    else:
        module = _import_module(place, folder)
        where = f"the module {place}"
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [key for key in vars(module) if not key.startswith("_")]
            raise ObjectError(
                f"{where} has no {name!r}; it has {', '.join(sorted(names)[:12]) or 'nothing'}"
            )
        found = getattr(found, part)
    return found


def load_callable(spec: str, folder: Path) -> Callable[..., object]:
    """Load a callable object, as `load_object` does.

    Raises:
        ObjectError: As `load_object`, or if it is not callable.
    """
    found = load_object(spec, folder)
    if not callable(found):
        raise ObjectError(
            f"expected {spec} to be callable, a function or a class, got {_kind(found)}"
        )
    return found


def make_object(spec: str, folder: Path, kind: type[T]) -> T:
    """Call a named object without arguments, and return its result, which must be a `kind`.

    Raises:
        ObjectError: As `load_callable`, or if the call fails or returns another type.
    """
    make = load_callable(spec, folder)
    with _importing_from(folder), _explaining(f"{spec} fails"):
        made = make()
    if not isinstance(made, kind):
        expected = f"{kind.__module__}.{kind.__qualname__}"
        raise ObjectError(f"expected {spec}() to return a {expected}, got {_kind(made)}")
    return made


def _run_file(file: Path, folder: Path) -> ModuleType:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ObjectError(str(file_error("read", file, error))) from error
    path = str(file.resolve())
    # Fingerprints of models and views contain the module's name, so it must not depend on the
    # location of the folder, nor on lines of the file that the model does not use.
    is_below = file.is_relative_to(folder)
    place = file.relative_to(folder).with_suffix("") if is_below else Path(file.stem)
    name = "_attar_" + re.sub(r"\W", "_", str(place))
    key = name, path, hashlib.sha256(content).hexdigest()
    if key in _modules:
        sys.modules[name] = _modules[key]
        return _modules[key]
    spec = spec_from_loader(name, SourceFileLoader(name, path))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # where dataclasses look up their module
    try:
        with _importing_from(folder, file.parent), _explaining(f"{file} fails"):
            exec(compile(content, path, "exec"), module.__dict__)  # no stale .pyc, none left
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    _modules[key] = module
    return module


def _import_module(place: str, folder: Path) -> ModuleType:
    with _importing_from(folder):
        try:
            with _explaining(f"{place} fails"):
                return importlib.import_module(place)
        except ObjectError as error:
            missing = error.__cause__
            if isinstance(missing, ModuleNotFoundError) and _is_part(missing.name, place):
                found = f"there is no module {missing.name!r} in {folder} or installed"
                raise ObjectError(f"{found}; for a file, write file.py:name") from error
            raise


def _is_part(name: str | None, place: str) -> bool:
    return name is not None and f"{place}.".startswith(f"{name}.")


@contextmanager
def _importing_from(*folders: Path) -> Iterator[None]:
    """Search these folders first for modules during the body."""
    paths = [str(folder.resolve()) for folder in folders]
    sys.path[:0] = paths
    try:
        yield
    finally:
        for path in paths:
            if path in sys.path:
                sys.path.remove(path)


@contextmanager
def _explaining(what: str) -> Iterator[None]:
    """Convert an error of the user's code to one line, with its file and line."""
    try:
        yield
    except ObjectError:
        raise
    except (Exception, SystemExit) as error:
        raise ObjectError(f"{what}: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """Describe an error in one line: its type, its text, and the user's line that raised it."""
    reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return add_users_line(reason, error)


def add_users_line(message: str, error: BaseException) -> str:
    """Append the file and line of the user's code that raised an error, if not yet there.

    For an attar error raised `from` an error of the user's code, this is the line of the latter.
    """
    cause: BaseException | None = error
    while cause is not None:
        line = users_line(cause)
        if line is not None:
            return message if line in message else f"{message} ({line})"
        cause = cause.__cause__
    return message


def users_line(error: BaseException) -> str | None:
    """Return the innermost line of the user's code in an error's traceback; None if there is none.

    The user's code is everything outside attar, the standard library and installed packages.
    """
    if isinstance(error, SyntaxError):
        return None  # its message contains the line
    lines = [
        f"{frame.filename}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *_NOT_THE_USERS))
        and not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)
    ]
    return lines[-1] if lines else None


def _kind(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__qualname__}"
