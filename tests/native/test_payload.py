"""The format: positions against their naive inverse, and a reader that refuses what is damaged."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sctool.errors import ArtifactError
from sctool.export.sparse.graph import Storage, Window
from sctool.export.sparse.payload import write_payload
from sctool.export.sparse.rice import choose_k, decode_positions, encode_positions
from sctool.native.library import PayloadSession
from tests.native.oracle import convolution, draw, drop_checksum, mlp


@given(st.sets(st.integers(0, 3000)), st.integers(0, 12))
@settings(deadline=None)
def test_positions_come_back(positions: set[int], k: int) -> None:
    rising = np.array(sorted(positions), np.int64)
    np.testing.assert_array_equal(decode_positions(encode_positions(rising, k), len(rising), k), rising)


@pytest.mark.parametrize("density", [0.01, 0.05, 0.1, 0.2, 0.5])
def test_positions_take_little_more_than_their_entropy(density: float) -> None:
    rng = np.random.default_rng(0)
    size = 200_000
    rising = np.flatnonzero(rng.random(size) < density)
    entropy = -(density * np.log2(density) + (1 - density) * np.log2(1 - density)) * size / 8
    assert len(encode_positions(rising, choose_k(len(rising), size))) < 1.06 * entropy


def test_the_runtime_keeps_little_more_than_what_was_stored(library: ctypes.CDLL) -> None:
    graph = convolution(
        np.random.default_rng(0), 128, 128, 16, 16, Window(3, 3, 1, 1, 1, 1, 1), density=0.1, storage=Storage.SPARSE
    )
    payload = write_payload(graph)
    assert PayloadSession(payload, library=library).weight_bytes < 1.5 * len(payload)


def test_a_payload_of_another_version_says_so(library: ctypes.CDLL) -> None:
    payload = bytearray(write_payload(mlp(np.random.default_rng(0), [4, 3], 0.5, Storage.SPARSE)))
    payload[4] = 3
    with pytest.raises(ArtifactError, match="version 3; this reader takes 1 and 2"):
        PayloadSession(bytes(payload), library=library)


@pytest.mark.parametrize("width", range(4, 20))
def test_both_hash_alike_and_a_version_without_a_checksum_still_loads(library: ctypes.CDLL, width: int) -> None:
    """The sizes leave many rests of a stripe's 32 bytes."""
    graph = mlp(np.random.default_rng(width), [width, 3], 0.5, Storage.SPARSE)
    payload, x = write_payload(graph), np.ones((1, width), np.float32)
    loaded = [PayloadSession(one, library=library).run([x])[0] for one in (payload, drop_checksum(payload))]
    np.testing.assert_array_equal(*loaded)


@given(st.integers(1, 255))
@settings(deadline=None, max_examples=5)
def test_no_byte_of_a_payload_changes_unseen(library: ctypes.CDLL, bits: int) -> None:
    payload = write_payload(mlp(np.random.default_rng(0), [12, 9, 3], 0.4, Storage.SPARSE))
    for place in range(len(payload)):
        spoilt = bytearray(payload)
        spoilt[place] ^= bits
        with pytest.raises(ArtifactError, match="payload:"):
            PayloadSession(bytes(spoilt), library=library)


def test_inputs_that_do_not_fit_are_refused(library: ctypes.CDLL) -> None:
    session = PayloadSession(write_payload(mlp(np.random.default_rng(0), [4, 3], 0.5, Storage.SPARSE)), library=library)
    with pytest.raises(ArtifactError, match=r"takes \[4\] floats"):
        session.run([np.zeros((1, 5), np.float32)])
    with pytest.raises(ArtifactError, match="batch"):
        session.run([np.zeros((513, 4), np.float32)])


def test_more_outputs_than_the_layouts_number_are_refused(library: ctypes.CDLL) -> None:
    graph = mlp(np.random.default_rng(0), [2, 65535], 0.5, Storage.SPARSE)
    with pytest.raises(ArtifactError, match="over 65534 outputs"):
        PayloadSession(write_payload(graph), library=library)


@pytest.mark.parametrize("cut", [0, 3, 7, 11, 40, 100, -1])
def test_truncated_payloads_are_refused(library: ctypes.CDLL, cut: int) -> None:
    payload = write_payload(mlp(np.random.default_rng(0), [30, 20, 3], 0.5, Storage.SPARSE))
    with pytest.raises(ArtifactError, match="payload:"):
        PayloadSession(payload[:cut], library=library)


HOSTILE = """
import sys
from pathlib import Path
import numpy as np
from sctool.errors import ArtifactError
from xxhash import xxh64_intdigest
from sctool.native.library import PayloadSession, load_library
library = load_library(Path(sys.argv[1]))
rng = np.random.default_rng(int(sys.argv[3]))
content = bytes.fromhex(sys.argv[2])
outcomes = {"ran": 0, "refused": 0}
for number in range(1500):
    spoilt = bytearray(content)
    for position in rng.integers(0, len(spoilt), int(rng.integers(1, 5))):
        spoilt[position] = int(rng.choice([0, 1, 0x7F, 0xFF, int(rng.integers(256))]))
    try:
        session = PayloadSession(bytes(spoilt), library=library)
        if sum(session._sizes[0]) < 1 << 20:
            session.run([np.ones((1, size), np.float32) for size in session._sizes[0]])
        outcomes["ran"] += 1
    except ArtifactError:
        outcomes["refused"] += 1
assert min(outcomes.values()) > 0, outcomes
"""


@pytest.mark.parametrize("seed", [0, 1])
def test_spoilt_payloads_never_crash(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = (
        convolution(rng, 3, 4, 6, 6, Window(3, 3, 1, 1, 1, 1, 1), density=0.3, storage=Storage.SPARSE)
        if seed
        else mlp(rng, [9, 7, 3], 0.4, Storage.SPARSE)
    )
    payload = drop_checksum(write_payload(graph))
    session = PayloadSession(payload, library=library)
    session.run([draw(rng, (1, *graph.shapes[0]))])
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(library._name), payload.hex(), str(seed)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
