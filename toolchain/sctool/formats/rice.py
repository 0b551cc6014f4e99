"""Golomb-Rice codes of whole numbers, two streams: quotients in unary, remainders in `k` bits each (Rice 1979).

Bits go into bytes lowest first. A quotient q is q zeros and a one; the last byte of either stream is filled up with zeros.
For the gaps between non-zeros, which are geometric, this is within a few hundredths of a bit of the entropy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_K = 30
Numbers = NDArray[np.int64]
Bits = NDArray[np.uint8]


def choose_k(numbers: Numbers) -> int:
    """The remainder's width that takes the fewest bits, 0 where there are no numbers."""
    if len(numbers) == 0:
        return 0
    cost = [
        int((numbers >> k).sum()) + k * len(numbers) for k in range(min(int(numbers.max()).bit_length(), MAX_K) + 1)
    ]
    return int(np.argmin(cost))


def encode_rice(numbers: Numbers, k: int) -> tuple[bytes, bytes]:
    """(unary, remainders) of numbers [m] >= 0."""
    if len(numbers) == 0:
        return b"", b""
    ends = np.cumsum((numbers >> k) + 1) - 1
    bits = np.zeros(int(ends[-1]) + 1, np.uint8)
    bits[ends] = 1
    return np.packbits(bits, bitorder="little").tobytes(), pack_fields(numbers, k)


def decode_rice(unary: memoryview, remainders: memoryview, k: int, count: int) -> Numbers:
    """The `count` numbers. ValueError where the unary stream holds more or fewer, or is longer than it need be."""
    bits = np.unpackbits(np.frombuffer(unary, np.uint8), bitorder="little")
    ends = np.flatnonzero(bits).astype(np.int64)
    if len(ends) != count or len(unary) != (int(ends[-1]) // 8 + 1 if count else 0):
        raise ValueError(f"a stream holds {len(ends)} numbers in {len(unary)} bytes, {count} were announced")
    quotients: Numbers = np.diff(ends, prepend=-1) - 1
    return (quotients << k) + unpack_fields(remainders, k, count)


def fields_bytes(width: int, count: int) -> int:
    """Bytes of `count` fields of `width` bits."""
    return (width * count + 7) // 8


def pack_fields(numbers: Numbers, width: int) -> bytes:
    """The lowest `width` bits of each number, one after another."""
    if width == 0 or len(numbers) == 0:
        return b""
    whole = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)
    if width % 8 == 0:
        return np.ascontiguousarray(whole[:, : width // 8]).tobytes()
    bits = np.unpackbits(whole[:, : (width + 7) // 8], axis=1, bitorder="little")[:, :width]
    return np.packbits(bits, bitorder="little").tobytes()


def unpack_fields(stored: memoryview, width: int, count: int) -> Numbers:
    """The `count` fields of `width` <= 32 bits. ValueError where there are not exactly as many bytes."""
    if len(stored) != fields_bytes(width, count):
        raise ValueError(f"{count} fields of {width} bits take {fields_bytes(width, count)} bytes, not {len(stored)}")
    if width == 0 or count == 0:
        return np.zeros(count, np.int64)
    whole = np.zeros((count, 4), np.uint8)
    flat = np.frombuffer(stored, np.uint8)
    if width % 8 == 0:
        whole[:, : width // 8] = flat.reshape(count, width // 8)
    else:
        bits = np.unpackbits(flat, count=width * count, bitorder="little").reshape(count, width)
        packed = np.packbits(bits, axis=1, bitorder="little")
        whole[:, : packed.shape[1]] = packed
    return whole.view("<u4").reshape(count).astype(np.int64)
