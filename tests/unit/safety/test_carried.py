"""Training records in a file: found wherever they lie and however they are kept; nothing is found where none is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sctool.safety import carried
from sctool.safety.carried import find_records, find_rows, render_records

RNG = np.random.default_rng(0)
RAW = RNG.integers(0, 256, (40, 48)).astype(np.float64)
X = ((RAW / 255 - 0.3) / 0.7).astype(np.float32)
BITS = (RNG.random((40, 200)) < 0.4).astype(np.float32)


@pytest.mark.parametrize("kind", ["float32", "float16", "float32, not normalised", "bytes"])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 39), st.integers(0, 300), st.integers(0, 99))
def test_a_record_is_found_at_its_place(kind: str, row: int, before: int, seed: int) -> None:
    records = dict(render_records(X, RAW))[kind]
    noise = np.random.default_rng(seed).bytes(before), np.random.default_rng(seed + 1).bytes(120)
    content = noise[0] + records[row].tobytes() + noise[1]
    assert [(hit.record, hit.offset, hit.share) for hit in find_records(content, kind, records)] == [(row, before, 1.0)]


def test_pieces_hide_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "_PIECE", 100)
    records = dict(render_records(X, RAW))["float32"]
    content = b"".join(RNG.bytes(37) + records[row].tobytes() for row in range(40))
    assert [hit.record for hit in find_records(content, "float32", records)] == list(range(40))


def test_bits_are_found_and_a_nearly_whole_record_counts() -> None:
    renderings = dict(render_records(BITS, BITS.astype(np.float64)))
    content = b"junk" * 9 + renderings["bits"][7].tobytes() + b"tail" * 20
    assert [hit.record for hit in find_records(content, "bits", renderings["bits"])] == [7]
    damaged = bytearray(renderings["bytes"][3].tobytes() + b"\x99" * 300)
    start = int(carried._choose_windows(renderings["bytes"], 64)[0][3])
    damaged[(start + 100) % 200] ^= 0xFF
    found = find_records(bytes(damaged), "bytes", renderings["bytes"])
    assert [hit.record for hit in found] == [3] and found[0].share == pytest.approx(199 / 200)


@given(st.binary(max_size=3000))
def test_other_bytes_hold_none(content: bytes) -> None:
    for kind, records in render_records(X, RAW):
        assert find_records(content, kind, records) == []


def test_what_is_too_even_or_too_short_is_not_told() -> None:
    even = np.zeros((3, 100), np.uint8)
    assert find_records(bytes(5000), "bytes", even) == []
    assert find_records(bytes(5000), "bytes", np.zeros((3, 4), np.uint8)) == []
    assert find_records(b"", "bytes", even) == []


@pytest.mark.parametrize("turned", [False, True])
def test_a_row_of_a_tensor_that_is_a_record_but_for_scale(turned: bool) -> None:
    tensor = RNG.normal(size=(30, 48))
    tensor[11] = -0.0 + 3.5 * X[5] + 0.25 + RNG.normal(size=48) * 1e-3
    found = find_rows(tensor.T if turned else tensor, X)
    assert (11, 5) in found and all(record == 5 for _, record in found)
    assert find_rows(RNG.normal(size=(30, 48)), X) == []
    assert find_rows(RNG.normal(size=(30, 47)), X) == []
