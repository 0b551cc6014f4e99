"""XXH64 with seed 0 (Y. Collet, "XXH64 algorithm description"): a fast checksum, no protection against forgers."""

from __future__ import annotations

import numpy as np

_ALL = 2**64 - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def hash_xxh64(content: bytes) -> int:
    """The 64-bit hash of `content`; about 30 ms a megabyte."""
    striped = len(content) // 32 * 32
    total = _stripes(content[:striped]) if striped else _P5
    total = (total + len(content)) & _ALL
    rest = content[striped:]
    while len(rest) >= 8:
        total = (_rotate(total ^ _round(0, int.from_bytes(rest[:8], "little") * _P2), 27) * _P1 + _P4) & _ALL
        rest = rest[8:]
    if len(rest) >= 4:
        total = (_rotate(total ^ (int.from_bytes(rest[:4], "little") * _P1 & _ALL), 23) * _P2 + _P3) & _ALL
        rest = rest[4:]
    for byte in rest:
        total = _rotate(total ^ (byte * _P5 & _ALL), 11) * _P1 & _ALL
    total = (total ^ total >> 33) * _P2 & _ALL
    total = (total ^ total >> 29) * _P3 & _ALL
    return total ^ total >> 32


def _stripes(content: bytes) -> int:
    """Four lanes over whole stripes of 32 bytes, merged."""
    products = np.frombuffer(content, "<u8").reshape(-1, 4) * np.uint64(_P2)
    lanes = [(_P1 + _P2) & _ALL, _P2, 0, -_P1 & _ALL]
    for index, column in enumerate(products.T):
        lane = lanes[index]
        for product in column.tolist():
            lane = _round(lane, product)
        lanes[index] = lane
    total = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _ALL
    for lane in lanes:
        total = ((total ^ _round(0, lane * _P2)) * _P1 + _P4) & _ALL
    return total


def _round(lane: int, product: int) -> int:
    """One step of a lane; `product`: the word times the second prime."""
    return _rotate((lane + product) & _ALL, 31) * _P1 & _ALL


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _ALL
