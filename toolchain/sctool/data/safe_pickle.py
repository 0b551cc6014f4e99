"""Reads the pickles of plain data sets without running them.

A pickle is a program; `pickle.load` obeys it. Here its opcodes (as `pickletools` lists them) are interpreted one by one
from an allow-list: dicts, lists, tuples, strings, numbers, and the calls by which numpy rebuilds an array of numbers.
Nothing is imported and nothing is called: a global outside the list is refused by name.
"""

from __future__ import annotations

import math
import pickletools
import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.errors import DataError

MAX_OPCODES = 2_000_000
_HINT = "Only plain dicts, lists, strings, numbers and numpy arrays are read; this file holds something else."
_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_FROM_BUFFER = {"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"}
_BYTES = {"__builtin__ bytes", "builtins bytes"}
_GLOBALS = _RECONSTRUCT | _FROM_BUFFER | _BYTES | {"numpy ndarray", "numpy dtype", "_codecs encode"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass
class _Dtype:
    code: str


@dataclass
class _Array:
    value: NDArray[Any] | None = None


_MARK = object()
_DAMAGE = (
    ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, RecursionError, StopIteration,
    struct.error,
)  # fmt: skip


def parse_pickle(content: bytes, *, source: str) -> object:
    """The object that `content` describes. DataError, naming the opcode or global, for anything not on the list."""
    try:
        return _finish(_Machine(source, 4 * len(content)).run(content))
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"{source} is not a complete pickle: {type(error).__name__}: {str(error)[:200]}.",
            hint="Download it again; it may be truncated.",
        ) from error


def _finish(value: object) -> object:
    """Arrays for their placeholders, at the top level and one below; no deeper, so that no pickle makes this long."""
    if isinstance(value, dict):
        return {key: _unwrap(item) for key, item in value.items()}
    return _unwrap(value)


def _unwrap(value: object) -> object:
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    return value


class _Machine:
    """A stack, a memo, and how many bytes may still be copied (a memo could otherwise multiply a long string)."""

    def __init__(self, source: str, allowance: int) -> None:
        self._source, self._allowance = source, allowance
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, content: bytes) -> object:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if count > MAX_OPCODES:
                raise DataError(f"{self._source}: the pickle has over {MAX_OPCODES} opcodes, the limit.", hint=_HINT)
            if opcode.name == "STOP":
                (result,) = self._stack
                return result
            self._step(opcode.name, argument)
        raise ValueError("no STOP")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _VALUES:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._pop_tuple(_TUPLES[name])
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._pop_to_mark()
            self._set_items(items)
        elif name == "GLOBAL":
            self._push_global(argument)
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            self._push_global(f"{module} {attribute}" if isinstance(module, str) else "?")
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._reduce(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            self._build(stack[-1], state)
        else:
            raise DataError(f"{self._source}: pickle opcode {name} is not allowed.", hint=_HINT)

    def _pop_to_mark(self) -> list[Any]:
        at = len(self._stack) - 1 - next(k for k, v in enumerate(reversed(self._stack)) if v is _MARK)
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def _pop_tuple(self, size: int) -> None:
        items = self._stack[len(self._stack) - size :]
        if len(items) != size:
            raise IndexError("stack too short")
        self._stack[len(self._stack) - size :] = [tuple(items)]

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise TypeError(f"expected a {kind.__name__}")
        return self._stack[-1]

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes | int):
                raise TypeError("a key is neither text nor a number")
            target[self._to_text(key) if isinstance(key, bytes) else key] = value

    def _push_global(self, name: str) -> None:
        if name not in _GLOBALS:
            raise DataError(
                f"{self._source}: the pickle asks for {name.replace(' ', '.')[:100]}, which is not allowed; "
                "it was not run.",
                hint=_HINT,
            )
        self._stack.append(_Global(name))

    def _reduce(self, function: object, arguments: Any) -> object:
        name = function.name if isinstance(function, _Global) else "?"
        if name == "_codecs encode" and arguments[1] == "latin1":
            return self._to_bytes(arguments[0])
        if name == "numpy dtype" and isinstance(arguments[0], str) and re.fullmatch(r"[iuf][1248]", arguments[0]):
            return _Dtype(arguments[0])
        if name in _BYTES and arguments == ():
            return b""
        if name in _FROM_BUFFER:
            raw, dtype, shape, order = arguments
            return _Array(self._to_array(raw, dtype, shape, order == "F"))
        if name in _RECONSTRUCT and arguments[0] == _Global("numpy ndarray"):
            return _Array()
        raise DataError(f"{self._source}: the pickle calls {name[:100]} in an unknown way.", hint=_HINT)

    def _build(self, target: object, state: Any) -> None:
        if isinstance(target, _Dtype):
            if state[1] not in ("|", "<", ">"):
                raise ValueError("unknown byte order")
            target.code = state[1] + target.code.lstrip("|<>")
        elif isinstance(target, _Array):
            _, shape, dtype, by_column, raw = state
            target.value = self._to_array(raw, dtype, shape, by_column)
        else:
            raise DataError(f"{self._source}: pickle opcode BUILD is not allowed here.", hint=_HINT)

    def _to_array(self, raw: object, dtype: object, shape: Any, by_column: object) -> NDArray[Any]:
        if not isinstance(dtype, _Dtype) or by_column not in (True, False) or len(shape) > 8:
            raise ValueError("an array of an unknown kind")
        content, kind = self._to_bytes(raw), np.dtype(dtype.code)
        if any(not isinstance(n, int) or not 0 <= n < 2**40 for n in shape):
            raise ValueError("an array of an unknown shape")
        if math.prod(shape) * kind.itemsize != len(content):
            raise ValueError(f"an array of shape {list(shape)} with {len(content)} bytes")
        return np.frombuffer(content, kind).reshape(shape, order="F" if by_column else "C")

    def _to_bytes(self, value: object) -> bytes:
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str | bytearray):
            raise TypeError("expected bytes")
        self._spend(len(value))
        return value.encode("latin-1") if isinstance(value, str) else bytes(value)

    def _to_text(self, value: bytes) -> str:
        self._spend(len(value))
        return value.decode("latin-1")

    def _spend(self, count: int) -> None:
        self._allowance -= count
        if self._allowance < 0:
            raise ValueError("the same text is unpacked too often")
