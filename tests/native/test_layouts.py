"""Linear layers hold their weights once, as single records or as batches walk them; what calls are made decides."""

from __future__ import annotations

import ctypes
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sctool.errors import ArtifactError
from sctool.export.sparse.graph import Graph, Kind, Operator, Storage, ValueKind
from sctool.export.sparse.payload import write_payload
from sctool.native.library import PayloadSession
from tests.native.oracle import answer, draw, drop_checksum, mlp, relative_error

ISAS = [None, "portable"]
"""One record by windows (AVX-512) or by slices; where the fastest is no AVX-512, slices twice."""


def spread(rng: np.random.Generator, rows: int, columns: int, density: float) -> Graph:
    """A layer with full, empty and crowded rows among those of `density`."""
    weights = draw(rng, (rows, columns), density)
    weights[rows // 2] = 0
    weights[rows // 3], weights[-1, : columns // 4] = draw(rng, (columns,)), 1
    graph = Graph(64)
    graph.inputs, graph.outputs = [graph.add_value((columns,))], [graph.add_value((rows,))]
    graph.operators = [Operator(Kind.LINEAR, (0,), 1, weights=weights, storage=Storage.SPARSE)]
    return graph


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6), shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    calls=st.lists(st.tuples(st.sampled_from([1, 2, 5, 6, 17, 64]), st.sampled_from([1, 3, 300])), max_size=6),
)  # fmt: skip
def test_answers_stay_when_the_layout_changes(
    isa: str | None, library: ctypes.CDLL, seed: int, shape: tuple[int, int], calls: list[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(seed)
    graph = spread(rng, *shape, 0.1)
    session = PayloadSession(write_payload(graph), isa=isa, library=library)
    for batch, times in calls:
        x = draw(rng, (batch, shape[1]))
        for _ in range(times):
            found = session.run([x])[0]
        assert relative_error(found, answer(graph, [x])[0]) <= 1e-5


@pytest.mark.parametrize("isa", ISAS)
def test_weights_lie_in_memory_once_and_change_back_and_forth(isa: str | None, library: ctypes.CDLL) -> None:
    graph = mlp(np.random.default_rng(0), [600, 256, 100], 0.1, Storage.SPARSE)
    stored = sum(6 * np.count_nonzero(operator.weights) for operator in graph.operators if operator.weights is not None)
    session = PayloadSession(write_payload(graph), isa=isa, library=library)
    one, many = (np.zeros((batch, 600), np.float32) for batch in (1, 64))
    seen = [session.weight_bytes]
    for x in [one] * 5 + [many] * 200 + [one] * 500 + [many] * 200:
        session.run([x])
        assert stored < session.weight_bytes < 1.5 * stored
        if session.weight_bytes != seen[-1]:
            seen.append(session.weight_bytes)
    assert len(seen) == 4 and seen[0] == seen[2] != seen[1] == seen[3]


@pytest.mark.parametrize("isa", ISAS)
def test_calls_that_alternate_settle(isa: str | None, library: ctypes.CDLL) -> None:
    session = PayloadSession(write_payload(spread(np.random.default_rng(0), 90, 200, 0.1)), isa=isa, library=library)
    one, many = (np.zeros((batch, 200), np.float32) for batch in (1, 64))
    changes, before = 0, session.weight_bytes
    for _ in range(300):
        for x in (one, many):
            session.run([x])
            changes, before = changes + (session.weight_bytes != before), session.weight_bytes
    assert changes <= 2


@pytest.mark.parametrize("values", ValueKind)
@pytest.mark.parametrize("k", [0, 1, 7, 30])
def test_positions_of_any_rice_parameter_are_read(library: ctypes.CDLL, k: int, values: ValueKind) -> None:
    """Gaps far longer than a word, and words of many gaps."""
    rng = np.random.default_rng(k)
    graph = spread(rng, 40, 500, 0.01)
    weights = graph.operators[0].weights
    assert weights is not None
    weights[weights != 0] = np.sign(weights[weights != 0])  # what every kind of value holds exactly
    graph.operators = [Operator(Kind.LINEAR, (0,), 1, weights=weights, storage=Storage.SPARSE, values=values)]
    with patch("sctool.export.sparse.payload.choose_k", return_value=k):
        payload = write_payload(graph)
    x = draw(rng, (1, 500))
    found = PayloadSession(payload, library=library).run([x])[0]
    limit = 5e-2 if values is ValueKind.QUANTISED else 1e-5  # its inputs are rounded to a byte too
    assert relative_error(found, answer(graph, [x])[0]) <= limit


def test_positions_beyond_the_matrix_and_missing_ones_are_told(library: ctypes.CDLL) -> None:
    graph = spread(np.random.default_rng(0), 4, 30, 0.5)
    payload = drop_checksum(write_payload(graph))
    k = payload.index(b"\x04\0\0\0\x1e\0\0\0") + 12  # after rows, columns and the number of entries
    size = int.from_bytes(payload[k + 1 : k + 5], "little")
    spoilt = {
        "outside its matrix": payload[:k] + b"\x0c" + payload[k + 1 :],
        "end early": payload[: k + 5] + b"\xff" * size + payload[k + 5 + size :],
    }
    for reason, content in spoilt.items():
        with pytest.raises(ArtifactError, match=reason):
            PayloadSession(content, library=library)
