"""A reader of flatbuffers that trusts nothing: every offset is held against the buffer, every visit is counted.

The offsets of a hostile buffer may form a graph in which a few bytes are reached along millions of ways; `MAX_VISITS`
ends that. Format: FlatBuffers internals, "Tables" and "Vectors".
"""

from __future__ import annotations

import struct

MAX_VISITS = 2_000_000
_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8, "f": 4}


class Buffer:
    """The bytes, and how many things in them may still be looked at."""

    def __init__(self, content: bytes | memoryview) -> None:
        self.content = memoryview(content)
        self._left = MAX_VISITS

    def root(self) -> Table:
        """The table that the first offset names. ValueError where it lies outside."""
        return Table(self, int(self.scalar(0, "I")))

    def scalar(self, position: int, kind: str) -> int | float:
        self.spend(1)
        if not 0 <= position <= len(self.content) - _SIZES[kind]:
            raise ValueError(f"offset {position} lies outside its {len(self.content)} bytes")
        value: int | float = struct.unpack_from(f"<{kind}", self.content, position)[0]
        return value

    def follow(self, position: int) -> int:
        """Where the offset at `position` points: forwards, never to itself."""
        distance = int(self.scalar(position, "I"))
        if distance == 0:
            raise ValueError(f"the offset at {position} points at itself")
        return position + distance

    def spend(self, visits: int) -> None:
        self._left -= visits
        if self._left < 0:
            raise ValueError(f"it takes more than {MAX_VISITS} looks")


class Table:
    """A table at `position`. Fields go by their number in the schema, a union taking two: its type, then its value."""

    def __init__(self, buffer: Buffer, position: int) -> None:
        self._buffer, self._position = buffer, position
        self._fields = position - int(buffer.scalar(position, "i"))
        self._length = int(buffer.scalar(self._fields, "H"))

    def number(self, field: int, kind: str = "I", default: int = 0) -> int:
        place = self._place(field)
        return default if place is None else int(self._buffer.scalar(place, kind))

    def text(self, field: int) -> str:
        return bytes(self.data(field)).decode("utf-8")

    def data(self, field: int) -> memoryview:
        """A vector of bytes, or a string's; empty where the field is left out."""
        begin, count = self._vector(field, 1)
        return self._buffer.content[begin : begin + count]

    def numbers(self, field: int, kind: str) -> list[int]:
        begin, count = self._vector(field, _SIZES[kind])
        self._buffer.spend(count)
        return list(struct.unpack_from(f"<{count}{kind}", self._buffer.content, begin)) if count else []

    def table(self, field: int) -> Table | None:
        place = self._place(field)
        return None if place is None else Table(self._buffer, self._buffer.follow(place))

    def tables(self, field: int) -> list[Table]:
        begin, count = self._vector(field, 4)
        return [Table(self._buffer, self._buffer.follow(begin + 4 * i)) for i in range(count)]

    def texts(self, field: int) -> list[str]:
        begin, count = self._vector(field, 4)
        return [self._text_at(self._buffer.follow(begin + 4 * i)) for i in range(count)]

    def _text_at(self, position: int) -> str:
        begin, count = self._counted(position, 1)
        return bytes(self._buffer.content[begin : begin + count]).decode("utf-8")

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._length:
            return None
        offset = int(self._buffer.scalar(self._fields + slot, "H"))
        return self._position + offset if offset else None

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        place = self._place(field)
        return (0, 0) if place is None else self._counted(self._buffer.follow(place), size)

    def _counted(self, position: int, size: int) -> tuple[int, int]:
        count = int(self._buffer.scalar(position, "I"))
        if position + 4 + count * size > len(self._buffer.content):
            raise ValueError(f"a vector of {count} at {position} runs over its {len(self._buffer.content)} bytes")
        self._buffer.spend(1 + count // 64)
        return position + 4, count
