"""Rice codes against a coder that writes one bit after another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool.formats.rice import choose_k, decode_rice, encode_rice, pack_fields, unpack_fields

numbers = st.lists(st.integers(0, 3000), max_size=60)


def to_bytes(bits: list[int]) -> bytes:
    padded = bits + [0] * (-len(bits) % 8)
    return bytes(sum(bit << i for i, bit in enumerate(padded[at : at + 8])) for at in range(0, len(padded), 8))


def encode_naively(values: list[int], k: int) -> tuple[bytes, bytes]:
    unary, rest = [], []
    for value in values:
        unary += [0] * (value >> k) + [1]
        rest += [value >> i & 1 for i in range(k)]
    return to_bytes(unary), to_bytes(rest)


@given(numbers, st.integers(0, 13))
def test_the_streams_are_those_of_the_naive_coder_and_come_back(values: list[int], k: int) -> None:
    array = np.array(values, np.int64)
    unary, rest = encode_rice(array, k)
    assert (unary, rest) == encode_naively(values, k)
    assert decode_rice(memoryview(unary), memoryview(rest), k, len(values)).tolist() == values


@given(numbers)
def test_no_other_width_takes_fewer_bits(values: list[int]) -> None:
    def cost(k: int) -> int:
        return sum((value >> k) + 1 + k for value in values)

    assert cost(choose_k(np.array(values, np.int64))) == min(cost(k) for k in range(16))


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50), st.integers(0, 32))
def test_fields_keep_their_lowest_bits(values: list[int], width: int) -> None:
    kept = [value & ((1 << width) - 1) for value in values]
    stored = pack_fields(np.array(values, np.int64), width)
    assert stored == to_bytes([value >> i & 1 for value in kept for i in range(width)])
    assert unpack_fields(memoryview(stored), width, len(values)).tolist() == kept


@pytest.mark.parametrize(
    ("unary", "count"), [(b"", 1), (b"\x01", 2), (b"\x03", 1), (b"\x01\x00", 1), (b"\x00", 0), (b"\x00" * 9, 3)]
)
def test_streams_of_another_length_are_refused(unary: bytes, count: int) -> None:
    with pytest.raises(ValueError, match="announced"):
        decode_rice(memoryview(unary), memoryview(b""), 0, count)


def test_gaps_at_density_one_tenth_cost_their_entropy() -> None:
    rng = np.random.default_rng(0)
    places = np.flatnonzero(rng.random(1_000_000) < 0.1)
    gaps = np.diff(places, prepend=-1) - 1
    bits = 8 * sum(map(len, encode_rice(gaps, choose_k(gaps))))
    entropy = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9)) * 1_000_000
    assert entropy * 0.99 < bits < entropy * 1.03
