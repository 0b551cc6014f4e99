"""How many weights each layer keeps: uniform, Erdos-Renyi-Kernel (Evci et al., RigL, ICML 2020, section 3), and a
latency-aware one (ours)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Shapes = Mapping[str, tuple[int, ...]]
Counts = dict[str, int]
Costs = Mapping[str, float]
"""Run time of one non-zero of each layer, in any unit; only the latency-aware distribution looks at it."""


def allocate_uniform(shapes: Shapes, density: float, costs: Costs) -> Counts:
    """The same density in every layer; see `_round_to_total` for the exact count."""
    return _round_to_total(shapes, {name: density for name in shapes}, density)


def allocate_erk(shapes: Shapes, density: float, costs: Costs) -> Counts:
    """Density of a layer proportional to sum(shape) / prod(shape); layers that would pass 1 are dense and the rest
    is scaled again, until all fit."""
    return _round_to_total(shapes, _share_out(shapes, _erk_weights(shapes), density), density)


def allocate_latency_aware(shapes: Shapes, density: float, costs: Costs) -> Counts:
    """ERK, bent just so far that it takes no more run time than uniform (ours).

    A non-zero of layer l takes time costs[l]. Counts are proportional to ERK * costs ** -t, with the smallest t >= 0
    for which sum(counts * costs) is at most uniform's, found by bisection up to t = 2. Where ERK is no slower than
    uniform, t = 0.
    """
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    cost = {name: max(float(costs.get(name, 1.0)), 1e-9) for name in shapes}
    erk = _erk_weights(shapes)

    def densities_at(bend: float) -> dict[str, float]:
        return _share_out(shapes, {name: erk[name] * cost[name] ** -bend for name in shapes}, density)

    def time_at(bend: float) -> float:
        return sum(share * sizes[name] * cost[name] for name, share in densities_at(bend).items())

    limit = density * sum(sizes[name] * cost[name] for name in shapes) * (1 + 1e-12)
    low, high = 0.0, 2.0
    if time_at(low) <= limit:
        return _round_to_total(shapes, densities_at(low), density)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if time_at(middle) > limit else (low, middle)
    return _round_to_total(shapes, densities_at(high), density)


def _erk_weights(shapes: Shapes) -> dict[str, float]:
    """Non-zeros of a layer before scaling."""
    return {name: float(sum(shape)) for name, shape in shapes.items()}


def _share_out(shapes: Shapes, weights: Mapping[str, float], density: float) -> dict[str, float]:
    """Densities with counts proportional to `weights`; full layers are dense and the rest is scaled again."""
    dense: set[str] = set()
    sizes = {name: float(np.prod(shape)) for name, shape in shapes.items()}
    while True:
        free = [name for name in shapes if name not in dense]
        budget = density * sum(sizes.values()) - sum(sizes[name] for name in dense)
        weight = sum(weights[name] for name in free)
        scale = budget / weight if weight else 0.0
        over = [name for name in free if scale * weights[name] > sizes[name]]
        if not over:
            break
        dense.update(over)
    return {name: 1.0 if name in dense else scale * weights[name] / sizes[name] for name in shapes}


def _round_to_total(shapes: Shapes, densities: Mapping[str, float], density: float) -> Counts:
    """Counts per layer whose sum is round(density * size), each within one of its share (largest remainders),
    and at least one weight a layer where the total allows it."""
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    target = max(round(density * sum(sizes.values())), min(len(sizes), sum(sizes.values())))
    ideal = {name: densities[name] * sizes[name] for name in shapes}
    counts = {name: min(sizes[name], max(1, int(np.floor(ideal[name] + 1e-9)))) for name in shapes}
    by_remainder = sorted(shapes, key=lambda name: (-(ideal[name] - counts[name]), name))
    while (missing := target - sum(counts.values())) != 0:
        step = 1 if missing > 0 else -1
        order = by_remainder if step > 0 else by_remainder[::-1]
        movable = [name for name in order if (counts[name] < sizes[name] if step > 0 else counts[name] > 1)]
        for name in movable[: abs(missing)]:
            counts[name] += step
    return counts


DISTRIBUTIONS: dict[str, Callable[[Shapes, float, Costs], Counts]] = {
    "uniform": allocate_uniform, "erk": allocate_erk, "latency": allocate_latency_aware,
}  # fmt: skip
