"""Exact totals of all distributions, and ERK against a bisection that knows only its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool.sparsity.density import DISTRIBUTIONS

Shapes = dict[str, tuple[int, ...]]
shapes_of_models = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.one_of(
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
        st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=6,
)
densities = st.floats(0.001, 1.0)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@given(shapes=shapes_of_models, density=densities)
def test_total_is_exact_and_no_layer_dies_or_overflows(name: str, shapes: Shapes, density: float) -> None:
    counts = DISTRIBUTIONS[name](shapes, density, {})
    sizes = {key: math.prod(shape) for key, shape in shapes.items()}
    assert counts.keys() == shapes.keys()
    assert all(1 <= counts[key] <= sizes[key] for key in shapes)
    assert sum(counts.values()) == max(round(density * sum(sizes.values())), len(shapes))


@given(shapes=shapes_of_models, density=densities)
def test_uniform_is_uniform_to_a_weight(shapes: Shapes, density: float) -> None:
    counts = DISTRIBUTIONS["uniform"](shapes, density, {})
    if all(density * math.prod(shape) >= 1 for shape in shapes.values()):
        assert all(abs(counts[key] - density * math.prod(shape)) <= 1 for key, shape in shapes.items())


@given(shapes=shapes_of_models, density=densities)
def test_erk_against_bisection(shapes: Shapes, density: float) -> None:
    """ERK is the scale s for which sum(min(1, s * sum(shape) / prod(shape)) * prod(shape)) meets the budget."""
    sizes = {key: math.prod(shape) for key, shape in shapes.items()}
    budget = density * sum(sizes.values())
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        filled = sum(min(sizes[key], middle * sum(shape)) for key, shape in shapes.items())
        low, high = (middle, high) if filled < budget else (low, middle)
    ideal = {key: min(sizes[key], high * sum(shape)) for key, shape in shapes.items()}
    counts = DISTRIBUTIONS["erk"](shapes, density, {})
    if all(value >= 1 for value in ideal.values()):
        assert all(abs(counts[key] - ideal[key]) <= 1 + 1e-6 for key in shapes)


RESNET = {
    "stem": (64, 3, 3, 3), "one": (64, 64, 3, 3), "two": (128, 64, 3, 3), "three": (256, 128, 3, 3),
    "four": (512, 512, 3, 3), "head": (10, 512),
}  # fmt: skip
POSITIONS = {"stem": 1024.0, "one": 1024.0, "two": 256.0, "three": 64.0, "four": 16.0, "head": 1.0}


def time_of(counts: dict[str, int], costs: dict[str, float]) -> float:
    return sum(counts[name] * costs[name] for name in counts)


@pytest.mark.parametrize("density", [0.02, 0.05, 0.1, 0.2])
def test_latency_aware_costs_no_more_than_uniform_where_erk_costs_more(density: float) -> None:
    counts = {name: DISTRIBUTIONS[name](RESNET, density, POSITIONS) for name in DISTRIBUTIONS}
    assert sum(counts["latency"].values()) == sum(counts["uniform"].values()) == sum(counts["erk"].values())
    assert time_of(counts["erk"], POSITIONS) > 1.3 * time_of(counts["uniform"], POSITIONS)
    assert time_of(counts["latency"], POSITIONS) <= 1.01 * time_of(counts["uniform"], POSITIONS)
    assert counts["latency"]["stem"] > counts["uniform"]["stem"]  # it is still ERK's shape, not uniform's
    assert counts["latency"]["head"] > counts["uniform"]["head"]


@given(shapes=shapes_of_models, density=densities)
def test_latency_aware_is_erk_where_every_weight_costs_the_same(shapes: Shapes, density: float) -> None:
    assert DISTRIBUTIONS["latency"](shapes, density, dict.fromkeys(shapes, 3.0)) == DISTRIBUTIONS["erk"](
        shapes, density, {}
    )


def test_the_cost_table_charges_small_maps_more_than_their_positions() -> None:
    """A non-zero over 16 pixels is read for little work: it costs more than a sixty-fourth of one over 1,024."""
    from torch import nn

    from sctool.sparsity.cost import count_positions, measured_costs

    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(4), nn.Conv2d(8, 8, 3, padding=1))
    costs, positions = measured_costs(model, (3, 32, 32), "avx512"), count_positions(model, (3, 32, 32))
    assert costs.keys() == positions.keys() == {"0.weight", "2.weight"}
    assert costs["0.weight"] > costs["2.weight"] > costs["0.weight"] * 16 / 1024
