"""The sparse package (.spte): an ExecuTorch program and its data file, the weights stored sparse. docs/spte.md is the spec.

What stock runtimes load comes out again byte for byte: the program (.pte) and the data file (.ptd). Little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

from sctool.formats.blob import BlobHeader, decode_blob_into, encode_blob
from sctool.formats.damage import reading
from sctool.formats.ptd import read_ptd

MAGIC = b"\x89SPTE\r\n\x1a"
VERSION = 1
MAX_UNPACKED = 2**31
"""Bytes of program and data file together."""
MAX_RATIO = 65536
"""A package claims at most so many bytes for each of its own."""
AS_ABOVE = 2
"""In place of how positions are stored: another name for the block above."""
_HEADER = struct.Struct("<8sIIQQQQQI")
_RECORD = struct.Struct("<HBBBBBBBxxxxxxxQQQQQ")
KIND = "sparse package (.spte)"
Decode = Callable[[BlobHeader, memoryview, memoryview], None]
"""Writes the block of a header and its streams into as many bytes as it has; ValueError on damage."""


@dataclass(frozen=True)
class PackedBlock:
    """A block of the data file: its name there, where it begins there, how it is stored, and its streams."""

    key: str
    offset: int
    header: BlobHeader
    streams: memoryview


@dataclass(frozen=True)
class SparsePackage:
    """`program`: the .pte; `head`: the .ptd up to its first block; `data_bytes`: the .ptd's size."""

    program: memoryview
    head: memoryview
    data_bytes: int
    blocks: list[PackedBlock]

    def unpack_data(self, decode: Decode = decode_blob_into) -> bytes:
        """The .ptd, byte for byte. ValueError on damage that the checksum did not show."""
        data = bytearray(self.data_bytes)
        data[: len(self.head)] = self.head
        room, above = memoryview(data), None
        for block in self.blocks:
            end = block.offset + block.header.size
            if above is None or block.streams is not above.streams:  # otherwise another name for what is there
                decode(block.header, block.streams, room[block.offset : end])
            above = block
        return bytes(data)


def is_spte(content: bytes) -> bool:
    return content[:8] == MAGIC


def pack(program: bytes, data: bytes) -> bytes:
    """The package of a .pte and its .ptd. ArtifactError where `data` is no .ptd, or one with bytes between its blocks."""
    file = read_ptd(data, "the data file")
    table, streams = [], []
    rebuilt = bytearray(len(data))
    rebuilt[: file.head_bytes] = data[: file.head_bytes]
    last = None
    for block in sorted(file.blocks, key=lambda block: (block.offset, block.size)):
        content = data[block.offset : block.offset + block.size]
        rebuilt[block.offset : block.offset + block.size] = content
        same = last is not None and (last.offset, last.size) == (block.offset, block.size)
        header, stored = (_alias(block.size), b"") if same else encode_blob(content)
        last = block
        key = block.key.encode()
        with reading("the data file", "data file that can be packed"):
            _check_key(key)
        size, *codes, kept, position_unary, exponent_unary = astuple(header)
        table.append(
            _RECORD.pack(len(key), *codes, block.offset, size, kept, position_unary, exponent_unary) + key + b"\0"
        )
        streams.append(stored)
    with reading("the data file", "data file that can be packed"):
        if rebuilt != data:
            raise ValueError("it holds bytes outside its blocks")
    body = b"".join([program, data[: file.head_bytes], *table, *streams])
    size = _HEADER.size + 4 + len(body)
    start = _HEADER.pack(
        MAGIC, VERSION, len(table), size, len(program), len(data), file.head_bytes, sum(map(len, table)),
        zlib.crc32(body),
    )  # fmt: skip
    return start + struct.pack("<I", zlib.crc32(start)) + body


def read_spte(content: bytes, where: str) -> SparsePackage:
    """The package, its checksums and every size held against the file. ArtifactError otherwise."""
    with reading(where, KIND):
        return _read(content)


def _read(content: bytes) -> SparsePackage:
    view = memoryview(content)
    if not is_spte(content):
        raise ValueError("it does not begin as one")
    if len(content) < _HEADER.size + 4:
        raise ValueError(f"it has {len(content)} bytes")
    _, version, count, size, program, data, head, table, body_sum = _HEADER.unpack_from(content)
    if version != VERSION:
        raise ValueError(f"it has version {version}, this sctool reads {VERSION}")
    start = _HEADER.size + 4
    if size != len(content) or struct.unpack_from("<I", content, _HEADER.size)[0] != zlib.crc32(view[: _HEADER.size]):
        raise ValueError(f"its header is damaged, or bytes are missing: {len(content)} of {size}")
    if zlib.crc32(view[start:]) != body_sum:
        raise ValueError("its checksum does not fit")
    if program + head + table > size - start or head > data or program + data > min(MAX_UNPACKED, MAX_RATIO * size):
        raise ValueError(f"it claims {program} and {data} bytes")
    return SparsePackage(
        view[start : start + program], view[start + program : start + program + head], data,
        _read_blocks(view[start + program + head :], count, table, head, data),
    )  # fmt: skip


def _read_blocks(rest: memoryview, count: int, table: int, head: int, data: int) -> list[PackedBlock]:
    blocks: list[PackedBlock] = []
    place, begin, last = 0, table, head
    if count > table // _RECORD.size:
        raise ValueError(f"{count} blocks in a table of {table} bytes")
    for _ in range(count):
        if place + _RECORD.size > table:
            raise ValueError("the table of blocks is too short")
        length, word, positions, values, position_k, exponent_k, highest, shift, offset, size, *counts = (
            _RECORD.unpack_from(rest, place)
        )
        place += _RECORD.size + length + 1
        if place > table or rest[place - 1] != 0:
            raise ValueError("a name leaves the table of blocks, or does not end where it says")
        key = bytes(rest[place - length - 1 : place - 1])
        _check_key(key)
        header = BlobHeader(size, word, positions, values, position_k, exponent_k, highest, shift, *counts)
        if header.positions == AS_ABOVE:
            above = blocks[-1] if blocks else None
            if above is None or (offset, size) != (above.offset, above.header.size) or header != _alias(size):
                raise ValueError(f"block {key[:40].decode()!r} is not the one above it")
            blocks.append(replace(above, key=key.decode()))
            continue
        header.check()
        end = begin + sum(header.streams())
        if end > len(rest) or offset < last or offset + size > data:
            raise ValueError(f"block {key[:40].decode()!r} does not fit")
        blocks.append(PackedBlock(key.decode(), offset, header, rest[begin:end]))
        begin, last = end, offset + size
    if place != table or begin != len(rest):
        raise ValueError(f"{len(rest) - begin} bytes too many")
    return blocks


def _alias(size: int) -> BlobHeader:
    """Of a block that is another name for the one above it."""
    return BlobHeader(size, positions=AS_ABOVE)


def _check_key(key: bytes) -> None:
    if any(not 0x20 < byte < 0x7F for byte in key):
        raise ValueError(f"a name {key[:40]!r} is not printable ASCII")
