"""int8 arithmetic: every instruction set against whole numbers, bit for bit."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sctool.errors import ArtifactError
from sctool.export.sparse.graph import Activation, Graph, Kind, Operator, Storage, ValueKind, Window
from sctool.export.sparse.payload import MOST_OF_ROW, write_payload
from sctool.native.library import PayloadSession
from tests.native.oracle import Array, answer, convolution, draw, draw_windows, drop_checksum, mlp, relative_error
from tests.native.quantised_oracle import answer_quantised, quantise

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(graph: Graph, inputs: list[Array], isa: str, library: ctypes.CDLL, threads: int = 1) -> None:
    session = PayloadSession(write_payload(quantise(graph)), isa=isa, threads=threads, library=library)
    expected = answer_quantised(graph, inputs)
    for _ in range(2):  # the second run works in memory that the first has written
        np.testing.assert_array_equal(session.run(inputs)[0], expected)


@quick
@given(
    seed=st.integers(0, 10**6), window=draw_windows(4), channels=st.sampled_from([1, 3, 16, 64, 67, 130]),
    out=st.integers(1, 40), size=st.tuples(st.integers(4, 20), st.integers(4, 20)),
    density=st.sampled_from([0.0, 0.02, 0.1, 0.4]), relu=st.booleans(), residual=st.booleans(),
)  # fmt: skip
@example(0, Window(3, 3, 1, 1, 1, 1, 1), 64, 33, (4, 4), 0.1, True, True)
@example(0, Window(3, 3, 1, 1, 1, 1, 1), 64, 16, (8, 8), 0.4, True, False)
@example(0, Window(3, 3, 1, 1, 1, 1, 1), 64, 16, (32, 32), 0.1, True, False)
@example(0, Window(1, 1), 128, 16, (4, 4), 0.1, False, False)
@example(0, Window(1, 1, 2), 128, 16, (8, 8), 0.1, False, False)
def test_convolutions(
    isa: str, library: ctypes.CDLL, seed: int, window: Window, channels: int, out: int, size: tuple[int, int],
    density: float, relu: bool, residual: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    graph = convolution(
        rng, channels, out, *size, window, density=density, storage=Storage.SPARSE,
        activation=Activation.RELU if relu else Activation.NONE, residual=residual,
    )  # fmt: skip
    inputs = [draw(rng, (2, *graph.shapes[number])) for number in graph.inputs]
    check(graph, [np.maximum(inputs[0], 0) if seed % 2 else inputs[0], *inputs[1:]], isa, library)


@pytest.mark.parametrize("side", [4, 32])
def test_threads_share_tiles_or_rows(isa: str, library: ctypes.CDLL, side: int) -> None:
    rng = np.random.default_rng(0)
    graph = convolution(
        rng,
        256,
        128,
        side,
        side,
        Window(3, 3, 1, 1, 1, 1, 1),
        density=0.5 if side == 4 else 0.02,
        storage=Storage.SPARSE,
    )
    check(graph, [draw(rng, (1, 256, side, side))], isa, library, threads=3)


@quick
@given(
    seed=st.integers(0, 10**6), columns=st.integers(1, 700), rows=st.integers(1, 60),
    density=st.sampled_from([0.0, 0.05, 0.3]), batch=st.sampled_from([1, 2, 5, 16, 70]),
)  # fmt: skip
def test_linear_layers_alone_and_by_the_batch(
    isa: str, library: ctypes.CDLL, seed: int, columns: int, rows: int, density: float, batch: int
) -> None:
    rng = np.random.default_rng(seed)
    graph = mlp(rng, [columns, rows], density, Storage.SPARSE)
    check(graph, [draw(rng, (batch, columns)) * np.float32(10.0 ** (seed % 7 - 3))], isa, library)


def test_weights_and_inputs_at_their_limits(isa: str, library: ctypes.CDLL) -> None:
    """Sums up to 2^24 - 1, which float32 just holds and 16 bits long do not."""
    most = MOST_OF_ROW // 127
    weights = np.zeros((3, 600), np.float32)
    weights[0, :most], weights[1, :most] = 127, -127
    weights[2, ::7] = np.where(np.arange(86) % 2, 127, -127)
    graph = mlp(np.random.default_rng(0), [600, 3], 0.5, Storage.SPARSE)
    graph.operators[0] = replace(graph.operators[0], weights=weights, activation=Activation.NONE)
    x = np.stack([np.full(600, 255), np.full(600, -255), np.where(np.arange(600) % 2, 255, -1), np.zeros(600)])
    check(graph, [np.repeat(x.astype(np.float32), 2, 0)], isa, library)
    check(graph, [x[:1].astype(np.float32)], isa, library)


def test_hardly_any_range_is_none(isa: str, library: ctypes.CDLL) -> None:
    graph = mlp(np.random.default_rng(0), [20, 3], 0.5, Storage.SPARSE)
    check(graph, [np.full((1, 20), 1e-35, np.float32)], isa, library)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("map_of", [True, False])
def test_what_is_no_number_spoils_its_record_and_no_other(
    isa: str, library: ctypes.CDLL, broken: float, map_of: bool
) -> None:
    rng = np.random.default_rng(0)
    graph = (
        convolution(rng, 16, 8, 6, 6, Window(3, 3, 1, 1, 1, 1, 1), density=0.2, storage=Storage.SPARSE)
        if map_of
        else mlp(rng, [40, 20], 0.2, Storage.SPARSE)
    )
    x = draw(rng, (5, *graph.shapes[0]))
    x.reshape(5, -1)[3, 17] = broken
    found = PayloadSession(write_payload(quantise(graph)), isa=isa, library=library).run([x])[0]
    assert np.isnan(found[3]).all() and np.isfinite(np.delete(found, 3, 0)).all()


def test_tokens(isa: str, library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(0)
    graph = Graph(8)
    x, y = graph.add_value((11, 70), tokens=True), graph.add_value((11, 30), tokens=True)
    graph.inputs, graph.outputs = [x], [y]
    graph.operators = [
        Operator(
            Kind.CONVOLUTION, (x,), y, window=Window(1, 1), weights=draw(rng, (30, 70), 0.2),
            bias=draw(rng, (30,)), storage=Storage.SPARSE, values=ValueKind.QUANTISED,
        )
    ]  # fmt: skip
    records = draw(rng, (3, 11, 70))
    found = PayloadSession(write_payload(graph), isa=isa, library=library).run([records])[0]
    assert relative_error(found, answer(graph, [records])[0]) <= 0.05


def test_rows_whose_sums_could_round_are_stored_in_int8_and_run_in_float32(library: ctypes.CDLL) -> None:
    graph = mlp(np.random.default_rng(0), [1100, 3], 1.0, Storage.SPARSE)
    graph.operators[0] = replace(graph.operators[0], weights=np.ones((3, 1100), np.float32))
    x = draw(np.random.default_rng(1), (2, 1100))
    found = PayloadSession(write_payload(quantise(graph)), library=library).run([x])[0]
    assert relative_error(found, answer(graph, [x])[0]) <= 1e-5


def test_the_reader_refuses_such_rows_and_matrices_that_run_dense(library: ctypes.CDLL) -> None:
    graph = mlp(np.random.default_rng(0), [1100, 1], 1.0, Storage.SPARSE)
    operator = replace(graph.operators[0], weights=np.ones((1, 1100), np.float32), values=ValueKind.INT8)
    for storage, reason in ((Storage.SPARSE, "add up to over 65793"), (Storage.SPARSE_RUN_DENSE, "runs dense")):
        graph.operators[0] = replace(operator, storage=storage)
        payload = drop_checksum(write_payload(graph))
        kind = len(payload) - len(struct.pack("<HH", 1, 1)) - 1 - 4 - 1100 - 4 - 1
        assert payload[kind] == ValueKind.INT8
        with pytest.raises(ArtifactError, match=reason):
            PayloadSession(payload[:kind] + bytes([ValueKind.QUANTISED]) + payload[kind + 1 :], library=library)
