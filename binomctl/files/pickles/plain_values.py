"""What may be in the pickle of a data set: arrays, data types, containers, and their constructors.

Each stands in for what the file names; nothing is imported on its behalf.
"""

from __future__ import annotations

import codecs
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from binomctl.errors import DamagedFile

LONG = 2**22  # bytes from which a text stays in the file


class Forbidden(DamagedFile):
    """The pickle wants something that is not plain data."""


class Array:
    """An array between its creation and the state that fills it; `key`: its place in the memo."""

    key: int | None = None


class Dtype:
    key: int | None = None

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biufSUO":
            raise Forbidden(f"arrays of type {code!r}")


def filled(value: Any) -> Any:
    """A data type may be used before it is given a state; an array may not."""
    if isinstance(value, Array):
        raise ValueError("an array without its contents")
    return value.dtype if isinstance(value, Dtype) else value


def array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, np.dtype):
        raise TypeError("an array without a data type")
    order = "F" if order == "F" else "C"
    if dtype.kind == "O":
        if not isinstance(raw, list):
            raise TypeError("an array of objects without its list")
        objects = np.empty(len(raw), object)
        objects[:] = raw
        return objects.reshape(shape, order=order)
    if isinstance(raw, str):  # Python 2's bytes, read as text by whoever wrote the file again
        raw = raw.encode("latin1")
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


def _reconstruct(*_: Any) -> Array:
    return Array()


def _dtype(code: Any, *_: Any) -> Dtype:
    return Dtype(text(code))


def _scalar(dtype: Any, raw: Any) -> Any:
    return array(raw, dtype, (1,), "C")[0]


@dataclass(frozen=True)
class LongText:
    """A long string, not decoded: Python 3 writes the bytes of an array so in protocols 0 to 2."""

    utf8: memoryview


def _encode(string: Any, encoding: Any = "latin1") -> bytes | bytearray:
    """How Python 3 writes bytes in protocols 0 to 2; a long string is converted piece by piece, so
    that it is never in memory as text."""
    if text(encoding) not in ("latin1", "latin-1"):
        raise Forbidden(f"an encoding {encoding!r}")
    if isinstance(string, str):
        return string.encode("latin1")
    if not isinstance(string, LongText):
        raise TypeError("an encoding of something that is no string")
    decoder, out = codecs.getincrementaldecoder("utf-8")(), bytearray()
    for start in range(0, len(string.utf8), LONG):
        out += decoder.decode(bytes(string.utf8[start : start + LONG])).encode("latin1")
    out += decoder.decode(b"", True).encode("latin1")
    return out


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    return array(raw, dtype, shape, order)


def _type(*_: Any) -> Any:
    """A type that is only named, as what to reconstruct or as what a dictionary is made of."""
    raise Forbidden("a call of a type that is only to be named")


def text(value: Any) -> str:
    """A string, whether Python 3 or Python 2 wrote it; a number as its digits.

    Raises:
        TypeError: anything else; a container may stand for more text than there is memory.
    """
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, str | int | np.integer):
        return str(value)
    raise TypeError(f"a {type(value).__name__} where a name belongs")


def plain_key(key: Any) -> Any:
    """A key of a dictionary or a member of a set: hashing nested tuples recurses without end."""
    if isinstance(key, memoryview):
        key = bytes(key)
    if not isinstance(key, str | bytes | int | float | np.generic | None):
        raise Forbidden(f"a key of type {type(key).__name__}")
    return key


def _sequence(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(*items: Any) -> Any:
        if any(isinstance(item, int) for item in items):  # bytes(10**12) would fill the memory
            raise Forbidden("a container made from a size")
        return kind(*items)

    return make


def _members(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        return kind(plain_key(item) for item in items)

    return make


def _mapping(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        return kind((plain_key(key), value) for key, value in items)

    return make


GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _type,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _mapping(OrderedDict),
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "int"): _type,
    ("builtins", "str"): _type,
}
for _name, _made in {
    "list": _sequence(list),
    "tuple": _sequence(tuple),
    "bytes": _sequence(bytes),
    "bytearray": _sequence(bytearray),
    "set": _members(set),
    "frozenset": _members(frozenset),
    "dict": _mapping(dict),
}.items():
    for _module in ("builtins", "__builtin__"):
        GLOBALS[_module, _name] = _made
CALLABLE = list(GLOBALS.values())
