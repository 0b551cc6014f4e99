"""Gates, GELU and layer norm on every instruction set, against PyTorch in float64."""

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
from tests.native.test_kernels import LIMIT

quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sides = st.integers(1, 40)


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
    operator = Operator(Kind.LAYER_NORM, (0,), 1, weights=draw(rng, (1, width)), bias=draw(rng, (width,)), epsilon=1e-5)
    shape = (width,) if flat else (tokens, width)
    check(one_step(operator, [shape], shape, tokens=True), batch, 3, isa, library)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("flat", [False, True])
def test_what_is_not_finite_stays_in_its_token(isa: str, library: ctypes.CDLL, value: float, flat: bool) -> None:
    rng = np.random.default_rng(5)
    x = draw(rng, (3, 12) if flat else (3, 9, 12))
    x[1 if flat else (1, 4)][..., 7] = value
    operator = Operator(Kind.LAYER_NORM, (0,), 1, weights=draw(rng, (1, 12)), bias=draw(rng, (12,)), epsilon=1e-5)
    graph = one_step(operator, [x.shape[1:]], x.shape[1:], tokens=True)
    found, expected = run(graph, [x], isa, library), answer(graph, [x])[0]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found[~np.isnan(found)], expected[~np.isnan(expected)], rtol=1e-4, atol=1e-5)
