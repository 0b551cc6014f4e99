"""How many weights each layer keeps: uniform and Erdos-Renyi-Kernel (Evci et al., RigL, ICML 2020, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Shapes = Mapping[str, tuple[int, ...]]
Counts = dict[str, int]


def allocate_uniform(shapes: Shapes, density: float) -> Counts:
    """The same density in every layer; see `_round_to_total` for the exact count."""
    return _round_to_total(shapes, {name: density for name in shapes}, density)


def allocate_erk(shapes: Shapes, density: float) -> Counts:
    """Density of a layer proportional to sum(shape) / prod(shape); layers that would pass 1 are dense and the rest
    is scaled again, until all fit."""
    dense: set[str] = set()
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    while True:
        free = [name for name in shapes if name not in dense]
        budget = density * total - sum(int(np.prod(shapes[name])) for name in dense)
        weight = sum(sum(shapes[name]) for name in free)
        scale = budget / weight if weight else 0.0
        over = [name for name in free if scale * sum(shapes[name]) > np.prod(shapes[name])]
        if not over:
            break
        dense.update(over)
    densities = {n: 1.0 if n in dense else scale * sum(s) / float(np.prod(s)) for n, s in shapes.items()}
    return _round_to_total(shapes, densities, density)


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


DISTRIBUTIONS: dict[str, Callable[[Shapes, float], Counts]] = {"uniform": allocate_uniform, "erk": allocate_erk}
