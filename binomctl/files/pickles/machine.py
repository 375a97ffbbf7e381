"""The instructions of pickle protocols 0 to 5 that build plain data, and no others.

The standard library's pickletools documents the set. Nothing is imported or called but the
constructors in plain_values.py.

One file because an instruction is read beside the stack it works on: what it may reach is all here.
"""

from __future__ import annotations

import codecs
import mmap
import struct
from collections.abc import Callable
from typing import Any

from binomctl.files.pickles.plain_values import (
    CALLABLE,
    GLOBALS,
    LONG,
    Array,
    Dtype,
    Forbidden,
    LongText,
    array,
    filled,
    plain_key,
    text,
)

VIEW_FROM = 1024  # bytes from which a string stays in the file
COPIES = 2**26  # bytes that constructors may copy, beyond 4 times the file
RELEASE = 2**27  # bytes after which the pages that were passed are given back
_MARK = object()


def release(data: mmap.mmap) -> None:
    """Give the pages of a mapped file that were looked at back to the system; they are read again
    at need. Mapped pages count as resident, so that a file passed through would seem to be kept."""
    if hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED)


class Machine:
    """Runs one pickle; `at` is the byte it has come to."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._released, self._copied = data, 0, 0
        self._view = memoryview(data)
        self._size = len(data)
        self.at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        view, table = self._view, _TABLE
        while True:
            code = view[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                return filled(self._stack.pop())
            step = table.get(code)
            if step is None:
                if code in _FORBIDDEN:
                    raise Forbidden(f"the instruction {chr(code)!r}")
                raise ValueError(f"{chr(code)!r} is no instruction")
            step(self)

    # Reading ------------------------------------------------------------------------------------

    def _take(self, n: int) -> memoryview:
        if n < 0 or self.at + n > self._size:
            raise ValueError("the file ends in the middle")
        part = self._view[self.at : self.at + n]
        self.at += n
        if self.at - self._released > RELEASE:
            release(self._data)
            self._released = self.at
        return part

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self.at)
        if end < 0:
            raise ValueError("a line without an end")
        line = bytes(self._take(end - self.at))
        self.at += 1
        return line

    def _bytes(self, n: int) -> bytes | memoryview:
        part = self._take(n)
        return part if n >= VIEW_FROM else bytes(part)

    # Building -----------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        stack = self._stack
        i = len(stack) - 1
        while stack[i] is not _MARK:
            i -= 1
            if i < 0:
                raise ValueError("a mark is missing")
        items = stack[i + 1 :]
        del stack[i:]
        return [filled(item) for item in items]

    def _pop(self) -> Any:
        return filled(self._stack.pop())

    def _pop_many(self, n: int) -> list[Any]:
        return [filled(v) for v in [self._stack.pop() for _ in range(n)][::-1]]

    def _put(self, key: int) -> None:
        top = self._stack[-1]
        self._memo[key] = top
        if isinstance(top, Array | Dtype):
            top.key = key

    def _replace(self, old: Array | Dtype, new: Any) -> None:
        self._push(new)
        if old.key is not None:
            self._memo[old.key] = new

    def _set_items(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict):
            raise TypeError("items for something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[plain_key(key)] = value

    def _global(self, module: str, name: str) -> None:
        made = GLOBALS.get((module.replace("numpy._core", "numpy.core"), name))
        if made is None:
            raise Forbidden(f"a reference to {f'{module}.{name}'[:80]!r}")
        self._push(made)

    def _call(self) -> None:
        function, arguments = self._pop_many(2)
        if function not in CALLABLE or not isinstance(arguments, tuple):
            raise Forbidden("a call of something that is not a constructor")
        made = function(*arguments)
        self._push(made)
        # Copies of what is there once may be asked for again and again.
        self._copied += (
            len(made) * (1 if isinstance(made, bytes | bytearray) else 8)
            if hasattr(made, "__len__")
            else 0
        )
        if self._copied > 4 * self._size + COPIES:
            raise Forbidden("far more data than the file is long")

    def _build(self) -> None:
        state = self._pop()
        target = self._stack.pop()
        if isinstance(target, Dtype):
            swapped = text(state[1]) == ">"  # "<" or "|" otherwise
            self._replace(target, target.dtype.newbyteorder(">" if swapped else "<"))
        elif isinstance(target, Array):
            _, shape, dtype, fortran, raw = state
            self._replace(target, array(raw, dtype, shape, "F" if fortran else "C"))
        else:
            raise Forbidden(f"state for a {type(target).__name__}")


def _op_tuple(n: int) -> Callable[[Machine], None]:
    return lambda r: r._push(tuple(r._pop_many(n)))


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda r: r._push(value)


def _sized(form: str, make: Callable[[Machine, int], Any]) -> Callable[[Machine], None]:
    return lambda r: r._push(make(r, r._number(form)))


def _unicode(r: Machine, n: int) -> str | LongText:
    if n >= LONG:
        return LongText(r._take(n))
    return bytes(r._take(n)).decode("utf-8", "surrogatepass")


def _long(r: Machine, n: int) -> int:
    return int.from_bytes(r._take(n), "little", signed=True)


def _op_skip(n: int) -> Callable[[Machine], None]:
    def skip(r: Machine) -> None:
        r._take(n)

    return skip


def _op_pop(r: Machine) -> None:
    r._stack.pop()


def _op_pop_mark(r: Machine) -> None:
    r._since_mark()


def _op_int(r: Machine) -> None:
    text = r._line()
    r._push({b"00": False, b"01": True}[text] if text in (b"00", b"01") else int(text))


def _op_string(r: Machine) -> None:
    text = r._line()
    if len(text) < 2 or text[:1] not in b"'\"" or text[:1] != text[-1:]:
        raise ValueError("a string without quotes")
    r._push(codecs.escape_decode(text[1:-1])[0])


def _op_append(r: Machine) -> None:
    item = r._pop()
    target = r._stack[-1]
    if not isinstance(target, list):
        raise TypeError("an item for something that is no list")
    target.append(item)


def _op_appends(r: Machine) -> None:
    items = r._since_mark()
    target = r._stack[-1]
    if not isinstance(target, list):
        raise TypeError("items for something that is no list")
    target.extend(items)


def _op_dict(r: Machine) -> None:
    items = r._since_mark()
    r._push({})
    r._set_items(r._stack[-1], items)


def _op_setitem(r: Machine) -> None:
    items = r._pop_many(2)
    r._set_items(r._stack[-1], items)


def _op_setitems(r: Machine) -> None:
    items = r._since_mark()
    r._set_items(r._stack[-1], items)


def _op_additems(r: Machine) -> None:
    items = r._since_mark()
    if not isinstance(r._stack[-1], set):
        raise TypeError("items for something that is no set")
    r._stack[-1].update(map(plain_key, items))


def _op_global(r: Machine) -> None:
    module = r._line().decode("utf-8")
    r._global(module, r._line().decode("utf-8"))


def _op_stack_global(r: Machine) -> None:
    module, name = r._pop_many(2)
    r._global(text(module), text(name))


# References to objects elsewhere, calls of classes, the extension registry, outside buffers.
_FORBIDDEN = {*b"PQio", 0x82, 0x83, 0x84, 0x92, 0x97, 0x98}

_STEPS: dict[str | int, Callable[[Machine], None]] = {
    0x80: _op_skip(1),  # PROTO
    0x95: _op_skip(8),  # FRAME
    "(": lambda r: r._push(_MARK),
    "0": _op_pop,
    "1": _op_pop_mark,
    "2": lambda r: r._push(r._stack[-1]),
    "N": _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    "I": _op_int,
    "J": lambda r: r._push(r._number("<i")),
    "K": lambda r: r._push(r._number("<B")),
    "M": lambda r: r._push(r._number("<H")),
    "L": lambda r: r._push(int(r._line().rstrip(b"L"))),
    0x8A: _sized("<B", _long),
    0x8B: _sized("<i", _long),
    "F": lambda r: r._push(float(r._line())),
    "G": lambda r: r._push(struct.unpack(">d", r._take(8))[0]),
    "S": _op_string,
    "T": _sized("<i", Machine._bytes),
    "U": _sized("<B", Machine._bytes),
    "B": _sized("<I", Machine._bytes),
    "C": _sized("<B", Machine._bytes),
    0x8E: _sized("<Q", Machine._bytes),
    0x96: _sized("<Q", Machine._bytes),
    "V": lambda r: r._push(r._line().decode("raw-unicode-escape")),
    "X": _sized("<I", _unicode),
    0x8C: _sized("<B", _unicode),
    0x8D: _sized("<Q", _unicode),
    "]": lambda r: r._push([]),
    "l": lambda r: r._push(r._since_mark()),
    "a": _op_append,
    "e": _op_appends,
    "}": lambda r: r._push({}),
    "d": _op_dict,
    "s": _op_setitem,
    "u": _op_setitems,
    ")": _constant(()),
    "t": lambda r: r._push(tuple(r._since_mark())),
    0x85: _op_tuple(1),
    0x86: _op_tuple(2),
    0x87: _op_tuple(3),
    0x8F: lambda r: r._push(set()),
    0x90: _op_additems,
    0x91: lambda r: r._push(frozenset(map(plain_key, r._since_mark()))),
    "c": _op_global,
    0x93: _op_stack_global,
    "R": lambda r: r._call(),
    0x81: lambda r: r._call(),  # NEWOBJ: the same for what is allowed here
    "b": lambda r: r._build(),
    "p": lambda r: r._put(int(r._line())),
    "q": lambda r: r._put(r._number("<B")),
    "r": lambda r: r._put(r._number("<I")),
    "g": lambda r: r._push(r._memo[int(r._line())]),
    "h": lambda r: r._push(r._memo[r._number("<B")]),
    "j": lambda r: r._push(r._memo[r._number("<I")]),
    0x94: lambda r: r._put(len(r._memo)),
}
_TABLE = {ord(code) if isinstance(code, str) else code: step for code, step in _STEPS.items()}
