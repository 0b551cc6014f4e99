"""ExecuTorch's .ptd files: named blocks of data beside a program (schema extension/flat_tensor, FT01)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sctool.formats.damage import reading
from sctool.formats.flatbuffer import Buffer

SCALAR_TYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
    15: "bfloat16", 27: "uint16", 28: "uint32", 29: "uint64",
}  # fmt: skip


@dataclass(frozen=True)
class DataBlock:
    """`offset` and `size` in bytes of the whole file; `dtype` and `shape` where the file says them, else "" and ()."""

    key: str
    offset: int
    size: int
    dtype: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class DataFile:
    """`head_bytes`: all that lies before the first block."""

    head_bytes: int
    blocks: list[DataBlock]


def is_ptd(content: bytes) -> bool:
    return content[4:8] == b"FT01"


def read_ptd(content: bytes, where: str) -> DataFile:
    """What a .ptd file names, and where. ArtifactError where an offset or a size leaves the file."""
    with reading(where, "ExecuTorch data file (.ptd)"):
        if not is_ptd(content):
            raise ValueError("it does not say FT01")
        magic, length, start, size, base, data = struct.unpack_from("<4sIQQQQ", content, 8)
        if magic != b"FH01" or length < 40 or base + data > len(content) or start + size > len(content):
            raise ValueError("its header does not fit its size")
        root = Buffer(content).root()
        segments = [(t.number(0, "Q"), t.number(1, "Q")) for t in root.tables(1)]
        blocks = []
        for entry in root.tables(2):
            offset, extent = segments[entry.number(1)]
            if offset + extent > len(content) - base:
                raise ValueError(f"block {entry.text(0)[:40]!r} leaves the file")
            layout = entry.table(2)
            dtype = SCALAR_TYPES.get(layout.number(0, "b"), "?") if layout else ""
            blocks.append(
                DataBlock(entry.text(0), base + offset, extent, dtype, tuple(layout.numbers(1, "i")) if layout else ())
            )
        return DataFile(base, blocks)
