"""Every kernel of every instruction set that runs here, against PyTorch in float64."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sctool.export.sparse.graph import Activation, Graph, Kind, Operator, Storage, ValueKind, Window
from sctool.export.sparse.payload import write_payload
from sctool.native.library import PayloadSession
from tests.native.oracle import Array, answer, convolution, draw, draw_windows, mlp, relative_error

LIMIT = 1e-5
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(graph: Graph, inputs: list[Array], isa: str, library: ctypes.CDLL) -> None:
    session = PayloadSession(write_payload(graph), isa=isa, library=library)
    assert session.isa == isa
    expected = answer(graph, inputs)
    for _ in range(2):  # the second run works in memory that the first has written
        for found, wanted in zip(session.run(inputs), expected, strict=True):
            assert relative_error(found, wanted) <= LIMIT


@quick
@given(
    seed=st.integers(0, 10**6), window=draw_windows(5), channels=st.integers(1, 40), out=st.integers(1, 40),
    size=st.tuples(st.integers(5, 40), st.integers(5, 40)), density=st.sampled_from([0.0, 0.02, 0.1, 0.4, 1.0]),
    storage=st.sampled_from(Storage), activation=st.sampled_from(Activation), residual=st.booleans(),
)  # fmt: skip
def test_convolutions(
    isa: str, library: ctypes.CDLL, seed: int, window: Window, channels: int, out: int, size: tuple[int, int],
    density: float, storage: Storage, activation: Activation, residual: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    graph = convolution(
        rng, channels, out, *size, window, density=density, storage=storage, activation=activation, residual=residual
    )
    check(graph, [draw(rng, (2, *graph.shapes[number])) for number in graph.inputs], isa, library)


@pytest.mark.parametrize("side", [4, 8, 16, 32])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_of_the_sizes_that_networks_have(
    isa: str, library: ctypes.CDLL, side: int, stride: int, kernel: int
) -> None:
    """The shapes with ways of their own: whole vectors of pixels, maps of one vector, halved sides."""
    rng = np.random.default_rng(side)
    window = Window(kernel, kernel, stride, *[kernel // 2] * 4)
    graph = convolution(rng, 70, 33, side, side, window, density=0.1, storage=Storage.SPARSE, residual=True)
    check(graph, [draw(rng, (1, *graph.shapes[number])) for number in graph.inputs], isa, library)


@quick
@given(
    seed=st.integers(0, 10**6), channels=st.integers(1, 6), filters=st.integers(1, 3),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)), stride=st.integers(1, 3), residual=st.booleans(),
)  # fmt: skip
def test_depthwise(
    isa: str, library: ctypes.CDLL, seed: int, channels: int, filters: int, size: tuple[int, int], stride: int,
    residual: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    window = Window(3, 3, stride, 1, 1, 1, 1)
    graph = convolution(
        rng,
        channels,
        channels * filters,
        *size,
        window,
        groups=channels,
        activation=Activation.RELU6,
        residual=residual,
    )
    check(graph, [draw(rng, (2, *graph.shapes[number])) for number in graph.inputs], isa, library)


@quick
@given(seed=st.integers(0, 10**6), groups=st.integers(2, 4), each=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_groups(isa: str, library: ctypes.CDLL, seed: int, groups: int, each: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    graph = convolution(rng, groups * each[0], groups * each[1], 9, 11, Window(3, 3, 1, 1, 1, 1, 1), groups=groups)
    check(graph, [draw(rng, (1, *graph.shapes[0]))], isa, library)


@quick
@given(
    seed=st.integers(0, 10**6), widths=st.lists(st.integers(1, 400), min_size=2, max_size=4),
    batch=st.sampled_from([1, 2, 3, 4, 5, 17, 63, 64, 65, 130]), density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    storage=st.sampled_from(Storage),
)  # fmt: skip
def test_linear_layers(
    isa: str, library: ctypes.CDLL, seed: int, widths: list[int], batch: int, density: float, storage: Storage
) -> None:
    """One record by sliced rows, a few and many by columns."""
    rng = np.random.default_rng(seed)
    check(mlp(rng, widths, density, storage), [draw(rng, (batch, widths[0]))], isa, library)


def linear(weights: Array) -> Graph:
    """A graph of one sparse layer without bias."""
    graph = Graph(8)
    graph.inputs, graph.outputs = [graph.add_value((weights.shape[1],))], [graph.add_value((len(weights),))]
    graph.operators = [Operator(Kind.LINEAR, (0,), 1, weights=weights, storage=Storage.SPARSE)]
    return graph


@pytest.mark.parametrize("batch", [1, 8])
def test_rows_of_very_different_lengths(isa: str, library: ctypes.CDLL, batch: int) -> None:
    """Full rows, empty ones, and rows whose entries all lie together."""
    rng = np.random.default_rng(0)
    weights = draw(rng, (150, 300), 0.03)
    weights[17], weights[18:40], weights[60] = draw(rng, (300,)), 0, 0
    weights[60, 200:260], weights[61:70, :9] = 1, 1
    check(linear(weights), [draw(rng, (batch, 300))], isa, library)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("batch", [1, 8])
def test_linear_layers_keep_what_is_not_finite_to_its_outputs(
    isa: str, library: ctypes.CDLL, value: float, batch: int
) -> None:
    rng = np.random.default_rng(1)
    weights = draw(rng, (70, 100), 0.1)
    x = draw(rng, (batch, 100))
    clean = answer(linear(weights), [x])[0]
    x[:, 33] = value
    reached = weights[:, 33] != 0
    found = PayloadSession(write_payload(linear(weights)), isa=isa, library=library).run([x])[0]
    assert reached.any() and relative_error(found[:, ~reached], clean[:, ~reached]) <= LIMIT
    assert not np.isfinite(found[:, reached]).any()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing_but_rounding(isa: str, library: ctypes.CDLL, threads: int) -> None:
    """Tiles, ranges of output channels, records and columns of records are shared out; all are large enough for that."""
    rng = np.random.default_rng(4)
    three = Window(3, 3, 1, 1, 1, 1, 1)
    graphs = [
        convolution(rng, channels, out, side, side, three, density=density, storage=storage, residual=True)
        for channels, out, side, density in ((12, 30, 32, 0.4), (128, 128, 4, 0.6))
        for storage in (Storage.SPARSE, Storage.DENSE)
    ] + [mlp(rng, [90, 70, 20], 0.2, Storage.SPARSE)]
    for graph in graphs:
        payload = write_payload(graph)
        one, several = (PayloadSession(payload, isa=isa, threads=n, library=library) for n in (1, threads))
        for batch in (1, 7, 8):
            inputs = [draw(rng, (batch, *graph.shapes[number])) for number in graph.inputs]
            for _ in range(3):
                assert relative_error(several.run(inputs)[0], one.run(inputs)[0].astype(np.float64)) <= 1e-6


def test_plain_operators(isa: str, library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(0)
    graph = Graph(4)
    a, b = graph.add_value((5, 9, 7)), graph.add_value((3, 9, 7))
    graph.inputs = [a, b]
    both = graph.add_value((8, 9, 7))
    added, active = graph.add_value((8, 9, 7)), graph.add_value((8, 9, 7))
    most, mean = graph.add_value((8, 5, 4)), graph.add_value((8, 4, 3))
    whole, flat, last = graph.add_value((8,)), graph.add_value((160,)), graph.add_value((168,))
    graph.operators = [
        Operator(Kind.CONCAT, (a, b), both),
        Operator(Kind.ADD, (both, both), added, Activation.HARD_SWISH),
        Operator(Kind.ACTIVATION, (added,), active, Activation.RELU6),
        Operator(Kind.MAX_POOL, (active,), most, window=Window(3, 3, 2, 1, 1, 1, 1)),
        Operator(Kind.AVERAGE_POOL, (active,), mean, window=Window(2, 2, 2)),
        Operator(Kind.GLOBAL_MEAN, (mean,), whole),
        Operator(Kind.FLATTEN, (most,), flat),
        Operator(Kind.CONCAT, (flat, whole), last),
    ]
    graph.outputs = [last, mean]
    check(graph, [draw(rng, (3, 5, 9, 7)), draw(rng, (3, 3, 9, 7))], isa, library)


@pytest.mark.parametrize("values", [ValueKind.FLOAT16, ValueKind.INT8])
@pytest.mark.parametrize("storage", list(Storage))
def test_smaller_values_are_those_that_were_stored(library: ctypes.CDLL, values: ValueKind, storage: Storage) -> None:
    """Within half a step of int8 and half a unit of float16's last place."""
    rng = np.random.default_rng(3)
    window = Window(3, 3, 1, 1, 1, 1, 1)
    graph = convolution(rng, 8, 8, 8, 8, window, density=0.3, storage=storage, values=values)
    x = draw(rng, (1, 8, 8, 8))
    found = PayloadSession(write_payload(graph), library=library).run([x])[0]
    weights = graph.operators[0].weights
    assert weights is not None
    step = np.abs(weights).max(1, keepdims=True) / 254 if values is ValueKind.INT8 else np.abs(weights) * 2**-11
    slack = np.abs(step).max() * np.abs(x).sum()
    assert 0 < np.abs(found - answer(graph, [x])[0]).max() < slack


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [1, 4, 8, 16])
def test_what_is_not_finite_reaches_its_outputs_and_no_others(
    isa: str, library: ctypes.CDLL, value: float, side: int
) -> None:
    """A weight that is not there is absent, not zero: elsewhere the answers are those without it."""
    rng = np.random.default_rng(5)
    kernel = 3 if side > 1 else 1
    graph = convolution(
        rng, 6, 9, side, side, Window(kernel, kernel, 1, *[kernel // 2] * 4), density=0.6, storage=Storage.SPARSE,
        activation=Activation.RELU,
    )  # fmt: skip
    x = draw(rng, (1, 6, side, side))
    clean = answer(graph, [x])[0]
    x[0, 2, side // 2, side // 2] = value
    marked = np.zeros((1, 6, side, side), np.float32)
    marked[0, 2, side // 2, side // 2] = 1
    linear = convolution(rng, 6, 9, side, side, Window(kernel, kernel, 1, *[kernel // 2] * 4))
    operator = graph.operators[0]
    assert operator.weights is not None
    touched = Operator(Kind.CONVOLUTION, (0,), 1, window=operator.window, weights=np.abs(operator.weights))
    linear.operators = [touched]
    reached = answer(linear, [marked])[0] > 0
    found = PayloadSession(write_payload(graph), isa=isa, library=library).run([x])[0]
    assert relative_error(found[~reached], clean[~reached]) <= LIMIT
    if np.isnan(value):
        assert reached.any() and np.isnan(found[reached]).all()
    else:
        assert np.isin(found[reached], [0, np.inf]).all()
