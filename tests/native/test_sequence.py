"""Gates, GELU, layer norm and attention on every instruction set, against PyTorch in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sctool.export.sparse.graph import Graph, Kind, Operator, Unary
from sctool.export.sparse.payload import write_payload
from sctool.native.library import PayloadSession
from tests.native.oracle import UNARIES, Array, answer, draw, relative_error
from tests.native.test_kernels import ISAS, LIMIT

quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sides = st.integers(1, 40)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, library: ctypes.CDLL) -> str:
    if library.sctool_sparse_find_isa(request.param.encode()) is None:
        pytest.skip(f"this processor has no {request.param}")
    return str(request.param)


def one_step(operator: Operator, shapes: Sequence[tuple[int, ...]], out: tuple[int, ...], *, tokens: bool) -> Graph:
    """Inputs of `shapes` -> `operator` -> a value of shape `out`; with `tokens` all of rank two are [T, F]."""
    graph = Graph(256)
    graph.inputs = [graph.add_value(shape, tokens=tokens and len(shape) == 2) for shape in shapes]
    graph.outputs = [graph.add_value(out, tokens=tokens and len(out) == 2)]
    graph.operators = [operator]
    return graph


def run(graph: Graph, inputs: list[Array], isa: str, library: ctypes.CDLL) -> Array:
    found = PayloadSession(write_payload(graph), isa=isa, library=library).run(inputs)[0]
    return np.asarray(found)


def check(graph: Graph, batch: int, seed: int, isa: str, library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(seed)
    inputs = [draw(rng, (batch, *graph.shapes[number])) for number in graph.inputs]
    assert relative_error(run(graph, inputs, isa, library), answer(graph, inputs)[0]) <= LIMIT


shapes = st.one_of(st.tuples(sides), st.tuples(sides, sides), st.tuples(sides, st.integers(1, 9), st.integers(1, 9)))


@quick
@given(shape=shapes, function=st.sampled_from(Unary), batch=st.sampled_from([1, 5]), tokens=st.booleans())
def test_functions(
    isa: str, library: ctypes.CDLL, shape: tuple[int, ...], function: Unary, batch: int, tokens: bool
) -> None:
    check(
        one_step(Operator(Kind.UNARY, (0,), 1, function=function), [shape], shape, tokens=tokens),
        batch,
        0,
        isa,
        library,
    )


@pytest.mark.parametrize("function", list(Unary))
def test_functions_over_their_whole_range(isa: str, library: ctypes.CDLL, function: Unary) -> None:
    """Each answer to 1e-5 of itself or 1e-6, and what is not finite as in PyTorch."""
    x = np.concatenate([np.linspace(-30, 30, 4000), [0.0, -0.0, 1e4, -1e4, 3e38, -3e38, np.inf, -np.inf, np.nan]])
    x = x.astype(np.float32)[None]
    graph = one_step(Operator(Kind.UNARY, (0,), 1, function=function), [x.shape[1:]], x.shape[1:], tokens=False)
    expected = UNARIES[function](torch.from_numpy(x).double()).numpy()
    found = run(graph, [x], isa, library)
    usual = np.abs(x[0]) <= 30
    np.testing.assert_allclose(found[0, usual], expected[0, usual], rtol=1e-5, atol=1e-6)
    assert np.isnan(found[0, -1]) and found[0, -3] == expected[0, -3]
    assert found[0, -5] == pytest.approx(expected[0, -5], rel=1e-6) and abs(found[0, -4]) <= abs(x[0, -4]) * 1e-37


@quick
@given(shape=shapes, batch=st.sampled_from([1, 4]), way=st.sampled_from(["whole", "vector", "map"]))
def test_multiplications(isa: str, library: ctypes.CDLL, shape: tuple[int, ...], batch: int, way: str) -> None:
    factor = {"whole": shape, "vector": shape[:1], "map": (shape[0], 1, 1)}[way] if len(shape) > 1 else shape
    graph = one_step(Operator(Kind.MULTIPLY, (0, 1), 2), [shape, factor], shape, tokens=False)
    if way == "map" and len(shape) == 2:
        graph = one_step(Operator(Kind.MULTIPLY, (0, 1), 2), [(*shape[:1], 1, shape[1]), factor], (*shape[:1], 1, shape[1]),
                         tokens=False)  # fmt: skip
    check(graph, batch, 1, isa, library)


@quick
@given(tokens=sides, width=st.integers(2, 90), batch=st.sampled_from([1, 3, 7]), flat=st.booleans())
def test_layer_norms(isa: str, library: ctypes.CDLL, tokens: int, width: int, batch: int, flat: bool) -> None:
    """Of tokens, and of vectors: one record by rows, many by columns."""
    rng = np.random.default_rng(2)
    operator = Operator(Kind.LAYER_NORM, (0,), 1, weights=draw(rng, (1, width)), bias=draw(rng, (width,)), factor=1e-5)
    shape = (width,) if flat else (tokens, width)
    check(one_step(operator, [shape], shape, tokens=True), batch, 3, isa, library)


@quick
@given(
    queries=sides, keys=sides, heads=st.integers(1, 4), size=st.integers(1, 20), batch=st.sampled_from([1, 2]),
    factor=st.sampled_from([0.05, 0.5, 3.0]),
)  # fmt: skip
def test_attention(
    isa: str, library: ctypes.CDLL, queries: int, keys: int, heads: int, size: int, batch: int, factor: float
) -> None:
    width = heads * size
    graph = one_step(
        Operator(Kind.ATTENTION, (0, 1, 2), 3, heads=heads, factor=factor),
        [(queries, width), (keys, width), (keys, width)], (queries, width), tokens=True,
    )  # fmt: skip
    check(graph, batch, 4, isa, library)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_record_and_reaches_what_it_does_in_pytorch(
    isa: str, library: ctypes.CDLL, value: float
) -> None:
    rng = np.random.default_rng(5)
    q, k, v = (draw(rng, (2, 9, 8)) for _ in range(3))
    q[0, 3, 1] = value
    operator = Operator(Kind.ATTENTION, (0, 1, 2), 3, heads=2, factor=0.5)
    found = run(one_step(operator, [(9, 8)] * 3, (9, 8), tokens=True), [q, k, v], isa, library).reshape(2, 9, 2, 4)
    heads = [torch.from_numpy(part).unflatten(-1, (2, 4)).transpose(1, 2) for part in (q, k, v)]
    weights = torch.softmax(heads[0] @ heads[1].transpose(2, 3) * 0.5, -1)
    expected = (weights @ heads[2]).transpose(1, 2).numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    clean = ~np.isnan(expected)
    np.testing.assert_allclose(found[clean], expected[clean], atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_scores_of_any_size_are_weighed(isa: str, library: ctypes.CDLL, shift: float) -> None:
    """Exponentials alone would overflow."""
    rng = np.random.default_rng(6)
    operator = Operator(Kind.ATTENTION, (0, 1, 2), 3, heads=1, factor=1.0)
    graph = one_step(operator, [(7, 4)] * 3, (7, 4), tokens=True)
    q, k, v = (draw(rng, (1, 7, 4)) for _ in range(3))
    q *= 50
    k += shift
    assert relative_error(run(graph, [q, k, v], isa, library), answer(graph, [q, k, v])[0]) <= 3e-4
