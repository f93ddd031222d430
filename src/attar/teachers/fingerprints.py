"""SHA-256 of models and functions, computed from everything that affects their outputs.

The bytes of a pickle depend on the identity of equal objects, so they change when a model is saved
and loaded. Values are therefore hashed recursively: numbers, texts, arrays, containers, and the
state of all other objects. A user's function is hashed by its source without comments, its closure,
its defaults, and the globals that it uses; a function of an installed package by its name. Nothing
is unpickled.
"""

import ast
import dis
import functools
import hashlib
import inspect
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.errors import DataError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NO_MATTER = frozenset({"n_jobs", "verbose", "_sklearn_version"})  # of an estimator's attributes
_PLAIN = (type(None), bool, int, float, complex, str, torch.dtype, np.dtype)
_NAMED = (type, BuiltinFunctionType, ModuleType)
_JOB_MODULE = re.compile(r"^_attar_(.+)_[0-9a-f]{16}\.")  # of a file that was run, with its digest
_PATHS = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_INSTALLED = tuple(Path(path).resolve() for path in [*_PATHS, str(Path(__file__).parents[1])])

_MODULE_STATE = frozenset(vars(nn.Module()))  # what every module has
_CHANGES = re.compile(  # an attribute that is assigned, or a container that is changed
    r"\bself\.(\w+)(?:\[[^\]]*\])?(?:: [^=\n]+)?\s*(?:[-+*/|&@%]|//|\*\*)?=(?!=)"
    r"|\bself\.(\w+)\.(?:append|add|update|extend|insert|pop|popitem|remove|clear|setdefault)\("
)
_VOLATILE = frozenset({"transformers_version", "dtype", "torch_dtype"})  # of a configuration

Update = Callable[[Any], None]  # takes bytes


def hash_value(value: object) -> str:
    """Hash a value by SHA-256, the same in every process for equal values.

    A user's function is hashed by its code and the values that it uses, an object with a method
    `fingerprint` by the result of that method.

    Raises:
        DataError: If the value contains an object without a stable state.
    """
    sha256 = hashlib.sha256()
    _feed(sha256.update, value, ())
    return sha256.hexdigest()


def hash_network(network: nn.Module, *more: object) -> str:
    """Hash a network: architecture, parameters, buffers, attributes, code; and `more`.

    The hash of a layer covers its `repr` and each constructor argument that it stores as an
    attribute of the same name (or with a leading underscore). For classes that are not from an
    installed package it also covers public attributes, except those that its methods change after
    construction, such as a counter; its methods, with the functions and values that they use; and
    the code of hooks. Comments, layout and docstrings are ignored.
    """
    tensors = dict(network.state_dict())
    tensors |= dict(network.named_buffers(remove_duplicate=False))  # those that are not persistent
    found = {name: _describe_layer(layer) for name, layer in network.named_modules()}
    layers = {name: told for name, told in found.items() if told}
    told = [_qualified(type(network)), _ADDRESS.sub("", repr(network)), tensors]
    return hash_value([*told, *([layers] if layers else []), *more])


def _describe_layer(layer: nn.Module) -> list[object]:
    """Return the state of a layer that `repr` omits; empty if it is complete."""
    kind: type = type(layer)
    hooks = [*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()]
    codes: list[object] = [_source(hook) or _qualified(type(hook)) for hook in hooks]
    if kind.__module__.startswith("torch.nn.") and "extra_repr" in vars(kind):
        return codes
    kept = {
        name: _try_hash(value)
        for name, value in vars(layer).items()
        if name in _attributes(kind)
        or _holds_networks(value)
        or (not _is_installed(kind) and _is_own(kind, name))
    }
    methods = {
        f"{each.__name__}.{name}": _try_hash(method)
        for each in kind.__mro__
        if not _is_installed(each)
        for name, method in _methods(each).items()
    }
    return [_qualified(kind), kept, methods, codes] if kept or methods or codes else []


@functools.lru_cache(maxsize=1024)
def _attributes(kind: type) -> frozenset[str]:
    """Return the names under which a class, or its bases, may store constructor arguments."""
    names: set[str] = set()
    for each in kind.__mro__:
        try:
            names.update(list(inspect.signature(each.__init__).parameters)[1:])  # type: ignore[misc]
        except (TypeError, ValueError):
            continue
    return frozenset(names - {"args", "kwargs"}) | {f"_{name}" for name in names}


def _holds_networks(value: object) -> bool:
    """Return whether a value is a tuple of networks, which are not registered as submodules."""
    return isinstance(value, tuple) and any(isinstance(each, nn.Module) for each in value)


def _is_own(kind: type, name: str) -> bool:
    """Return whether an attribute of a user's layer is public, and set only by its constructor."""
    return not name.startswith("_") and name not in _MODULE_STATE and name not in _changed(kind)


@functools.lru_cache(maxsize=1024)
def _changed(kind: type) -> frozenset[str]:
    """Return the attributes that methods of a class other than its constructor change."""
    names: set[str] = set()
    for each in kind.__mro__:
        for name, method in {} if _is_installed(each) else _methods(each).items():
            source = _source(method) if name != "__init__" else ""
            names.update(name for pair in _CHANGES.findall(source) for name in pair if name)
    return frozenset(names)


def _methods(kind: type) -> dict[str, Any]:
    found = {}
    for name, value in vars(kind).items():
        value = value.fget if isinstance(value, property) else value
        value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if isinstance(value, FunctionType):
            found[name] = value
    return found


def _try_hash(value: object) -> str:
    """Hash a value; without a stable state, hash its type, or the source of a function."""
    try:
        return hash_value(value)
    except (DataError, RecursionError):
        return _source(value) if isinstance(value, FunctionType) else _qualified(type(value))


def _feed(update: Update, value: Any, above: tuple[int, ...]) -> None:  # noqa: ANN401
    """Feed kind, size and content, so that different values feed different bytes."""
    if isinstance(value, _PLAIN):
        _feed_text(update, type(value).__name__, repr(value))
    elif isinstance(value, bytes | bytearray):
        _feed_text(update, "bytes", str(len(value)))
        update(value)
    elif isinstance(value, Tensor):
        _feed_tensor(update, value)
    elif isinstance(value, np.ndarray | np.generic):
        _feed_array(update, np.asarray(value), above)
    elif isinstance(value, _NAMED):
        _feed_text(update, "name", _qualified(value))
        if isinstance(value, type) and not _is_installed(value) and id(value) not in above:
            _feed_class(update, value, above)
        elif isinstance(value, ModuleType) and not _is_installed(value):
            _feed_text(update, "source", _source(value))
    elif isinstance(value, FunctionType):
        _feed_function(update, value, above)
    elif isinstance(value, MethodType):
        _feed_parts(update, [value.__func__, value.__self__], above)
    elif isinstance(value, functools.partial):
        _feed_parts(update, [value.func, value.args, value.keywords], above)
    elif isinstance(value, nn.Module):
        _feed_text(update, "network", hash_network(value))
    elif callable(getattr(type(value), "fingerprint", None)):
        _feed_text(update, "fingerprint", value.fingerprint())
    elif hasattr(value, "model_type") and hasattr(value, "to_dict"):  # of transformers
        content = value.to_dict().items()
        kept = {k: str(v) for k, v in content if k[0] != "_" and k not in _VOLATILE}
        _feed_parts(update, kept, above)
    elif isinstance(value, np.random.RandomState | np.random.Generator):
        _feed_text(update, "random", "")  # used while fitting, not for prediction
    else:
        if id(value) in above:
            _feed_text(update, "above", str(above[::-1].index(id(value))))
            return
        _feed_parts(update, value, (*above, id(value)))


def _feed_parts(update: Update, value: Any, above: tuple[int, ...]) -> None:  # noqa: ANN401
    parts: Iterable[object]
    if isinstance(value, list | tuple):
        kind, parts = "sequence", value
    elif isinstance(value, set | frozenset):
        kind, parts = "set", sorted(hash_value(part) for part in value)
    elif isinstance(value, dict):
        kept = [(hash_value(key), part) for key, part in value.items() if key not in _NO_MATTER]
        kind, parts = "mapping", [each for pair in sorted(kept, key=_first) for each in pair]
    else:
        kind, parts = _qualified(type(value)), [_state(value)]
    parts = list(parts)
    _feed_text(update, kind, str(len(parts)))
    for part in parts:
        _feed(update, part, above)


def _feed_class(update: Update, kind: type, above: tuple[int, ...]) -> None:
    """Feed the methods and plain attributes of a user's class and of its bases."""
    parts = {}
    for each in kind.__mro__:
        if _is_installed(each):
            continue
        data = {k: v for k, v in vars(each).items() if k[:2] != "__" and isinstance(v, _PLAIN)}
        parts[each.__name__] = [_methods(each), data]
    _feed_parts(update, parts, (*above, id(kind)))


def _feed_function(update: Update, function: FunctionType, above: tuple[int, ...]) -> None:
    """Feed the name of an installed function, or the code of a user's and the values it uses."""
    if _is_installed(function):
        _feed_text(update, "name", _qualified(function))
        return
    if id(function) in above:  # it calls itself
        _feed_text(update, "above", str(above[::-1].index(id(function))))
        return
    names = sorted(set(_global_names(function.__code__)))
    attributes = {k: v for k, v in vars(function).items() if k != "__wrapped__"}
    # The source of a lambda is the whole line, which may hold several.
    source = "" if function.__name__ == "<lambda>" else _source(function)
    parts = {
        "source": source or _code(function.__code__),
        "defaults": [function.__defaults__, function.__kwdefaults__, attributes],
        "closure": [_content(cell) for cell in function.__closure__ or ()],
        "globals": {
            name: function.__globals__[name] for name in names if name in function.__globals__
        },
    }
    _feed_text(update, "function", function.__qualname__)
    _feed_parts(update, parts, (*above, id(function)))


def _content(cell: Any) -> object:  # noqa: ANN401 (types.CellType)
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _global_names(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


@functools.lru_cache(maxsize=1024)
def _source(named: Any) -> str:  # noqa: ANN401 (a class or a function)
    """Return the source without comments, layout and docstrings; empty if there is none."""
    try:
        # A function's code, as a decorated function shows the source of the one that it wraps.
        named = named.__code__ if isinstance(named, FunctionType) else named
        text = textwrap.dedent(inspect.getsource(named))
    except (OSError, TypeError):
        return ""
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a lambda within a longer statement
        return text
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Pass()
    return ast.unparse(tree)


def _code(code: CodeType) -> list[object]:
    """Describe code without a source file, such as code typed at a prompt."""
    constants = [_code(each) if isinstance(each, CodeType) else each for each in code.co_consts]
    return [code.co_code, constants, list(code.co_names), list(code.co_varnames)]


@functools.lru_cache(maxsize=1024)
def _is_installed(named: Any) -> bool:  # noqa: ANN401 (a class or a function)
    """Return whether a class or function is from an installed package or the standard library."""
    if isinstance(named, FunctionType):
        file: str | None = named.__code__.co_filename
    elif isinstance(named, ModuleType):
        file = getattr(named, "__file__", None)
        if file is None:
            return True  # built in, or a namespace
    else:
        module = inspect.getmodule(named)
        file = getattr(module, "__file__", None)
        if file is None and getattr(module, "__name__", "__main__") != "__main__":
            return True  # built in
    if file is None or file.startswith("<"):
        return False
    path = Path(file).resolve()
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or any(
        path.is_relative_to(root) for root in _INSTALLED
    )


def _feed_text(update: Update, kind: str, text: str) -> None:
    content = text.encode()
    update(f"{kind} {len(content)}:".encode() + content)


def _feed_tensor(update: Update, tensor: Tensor) -> None:
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    plain = tensor.detach().to_dense().cpu().contiguous().reshape(-1)
    _feed_text(update, "tensor", f"{tensor.dtype} {list(tensor.shape)}")
    update(plain.view(torch.uint8).numpy().data)


def _feed_array(update: Update, array: NDArray[Any], above: tuple[int, ...]) -> None:
    if array.dtype.names is not None:  # by field: padding bytes are undefined
        _feed_parts(update, {name: array[name] for name in array.dtype.names}, above)
    elif array.dtype.hasobject:
        _feed_text(update, "objects", str(list(array.shape)))
        _feed_parts(update, array.ravel().tolist(), above)
    else:
        _feed_text(update, "array", f"{array.dtype.str} {list(array.shape)}")
        update(np.ascontiguousarray(array).tobytes())


def _state(value: Any) -> object:  # noqa: ANN401
    if hasattr(
        value, "get_tree_stats"
    ):  # scikit-learn's search trees count how often they are asked
        return np.asarray(value.data)
    try:
        reduced = value.__reduce_ex__(2)  # what a pickle would hold: class, arguments, state, items
    except (TypeError, ValueError, AttributeError) as error:
        raise _no_state(value) from error
    if isinstance(reduced, str):
        return reduced
    return [list(part) if isinstance(part, Iterator) else part for part in reduced]


def _qualified(named: Any) -> str:  # noqa: ANN401
    if isinstance(named, ModuleType):
        return named.__name__
    return _JOB_MODULE.sub(r"\1.", f"{named.__module__}.") + str(named.__qualname__)


def _no_state(value: object) -> DataError:
    return DataError(
        f"cannot fingerprint {_ADDRESS.sub('', repr(value))}, whose state cannot be read; "
        'pass as_teacher(..., version="1"), a text that you change whenever its outputs change'
    )


def _first(pair: tuple[str, object]) -> str:
    return pair[0]
