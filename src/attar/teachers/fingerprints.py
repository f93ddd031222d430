"""SHA-256 of models: of what decides their answers, not of how they happen to be pickled.

The bytes of a pickle depend on which equal objects are one object, so a model that was saved and
loaded has other ones. Here values are walked instead: numbers, texts, arrays, containers, and the
state of all other objects. Nothing is unpickled.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.errors import DataError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NO_MATTER = frozenset({"n_jobs", "verbose", "_sklearn_version"})  # of an estimator's attributes
_PLAIN = (type(None), bool, int, float, complex, str, torch.dtype, np.dtype)
_NAMED = (type, FunctionType, BuiltinFunctionType)

Update = Callable[[Any], None]  # takes bytes


def hash_value(value: object) -> str:
    """Hash a value by SHA-256, the same in every process for equal values.

    Raises:
        DataError: If there is something in it that has no stable state, such as a lambda.
    """
    sha256 = hashlib.sha256()
    _feed(sha256.update, value, ())
    return sha256.hexdigest()


def hash_network(network: nn.Module, *more: object) -> str:
    """Hash a network: its class, the text of its architecture, parameters, buffers; and `more`.

    The code of `forward` is not seen, nor is a setting that `repr(network)` leaves out.
    """
    tensors = dict(network.state_dict())
    tensors |= dict(network.named_buffers(remove_duplicate=False))  # those that are not persistent
    return hash_value([_qualified(type(network)), _ADDRESS.sub("", repr(network)), tensors, *more])


def _feed(update: Update, value: Any, above: tuple[int, ...]) -> None:  # noqa: ANN401
    """Feed a kind, a size and the content, so that no two values feed the same bytes."""
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
    elif isinstance(value, np.random.RandomState | np.random.Generator):
        _feed_text(update, "random", "")  # drew while fitting; prediction does not ask it
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
    if array.dtype.names is not None:  # by field: the bytes between fields are anything
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
    name = f"{named.__module__}.{named.__qualname__}"
    if "<lambda>" in name or ("<locals>" in name and not isinstance(named, type)):
        raise _no_state(named)
    return name


def _no_state(value: object) -> DataError:
    return DataError(
        f"cannot fingerprint {_ADDRESS.sub('', repr(value))}, which keeps what it does to itself; "
        'give as_teacher(..., version="1"), a text that you change whenever its answers change'
    )


def _first(pair: tuple[str, object]) -> str:
    return pair[0]
