"""Positions of non-zeros as Rice-coded gaps: within a few per cent of their entropy, decoded in one pass (Rice 1979)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LARGEST_K = 30


def choose_k(count: int, size: int) -> int:
    """The parameter for `count` positions at random among `size`: gaps are geometric with mean (size - count) / count."""
    if count == 0:
        return 0
    mean = (size - count) / count
    return 0 if mean < 1 else min(LARGEST_K, max(0, round(math.log2(mean * math.log(2)))))


def encode_positions(positions: NDArray[np.int64], k: int) -> bytes:
    """Rising positions -> for each the gap to the one before, q * 2^k + r, as q ones, a zero, and r in k bits.

    Bits fill bytes from the lowest on, and r goes lowest bit first. The first gap counts from 0, later ones from the
    position after the last.
    """
    if len(positions) == 0:
        return b""
    gaps = np.diff(positions, prepend=-1) - 1
    quotients, rests = gaps >> k, gaps & ((1 << k) - 1)
    ends = np.cumsum(quotients + 1 + k)
    bits = np.zeros(int(ends[-1]), np.uint8)
    stops = ends - k - 1  # the zero after the ones
    change = np.zeros(len(bits) + 1, np.int8)
    np.add.at(change, stops - quotients, 1)
    np.add.at(change, stops, -1)
    bits[np.cumsum(change[:-1], dtype=np.int8) > 0] = 1
    for bit in range(k):
        bits[stops + 1 + bit] = (rests >> bit) & 1
    return np.packbits(bits, bitorder="little").tobytes()


def decode_positions(stream: bytes, count: int, k: int) -> NDArray[np.int64]:
    """The slow, naive inverse of encode_positions; the oracle of the native reader."""
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")
    positions, at, position = [], 0, -1
    for _ in range(count):
        quotient = 0
        while bits[at]:
            quotient, at = quotient + 1, at + 1
        at += 1
        rest = sum(int(bits[at + bit]) << bit for bit in range(k))
        at += k
        position += (quotient << k) + rest + 1
        positions.append(position)
    return np.array(positions, np.int64)
