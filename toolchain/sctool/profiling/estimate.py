"""What a model may cost on a device that is not here, from its counted work and the device's published figures.

A device's time is the sum over kernels of work by the cost of each kind (`Costs`: what a unit takes, relative to the
others, on processors of a family), times one number for the device, its scale, which its anchors give. There is no time
without an anchor: an uncalibrated millisecond is off by up to nine times, a relative cost is not.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sctool.domain.target import Target
from sctool.domain.work import KINDS, Work
from sctool.errors import ConfigError
from sctool.resources import anchor_folder

BAND = 2.0
"""An estimate may be off by so many times: phones of one kind spread 1.5 x by runtime alone."""
REACH = 4.0
"""Work so many times under the smallest anchor's or over the largest's is extrapolated."""
SMALL_REACH, SMALL_FACTOR = 100.0, 6.0
"""Models up to so many times smaller than every anchor: the truth may be so many times lower. On a host, scaled by the
anchors' models alone, those of 7 to 84 times less work came out 1.1 to 4.1 times too high, none too low
(benchmarks/results/estimate_reach.csv); times 1.5 for the phones' own spread."""
PRIOR_WEIGHT = 0.15
COST_KINDS = (*KINDS, "spilled")


@dataclass(frozen=True)
class Costs:
    """What a unit of each of COST_KINDS takes on a processor of the family, up to the device's scale.

    `cache_mb`: weights beyond so many megabytes come from memory at each call, and cost `spilled` on top; None: unknown.
    """

    family: str
    amounts: tuple[float, ...]
    cache_mb: float | None = None

    def relative(self, work: Work) -> float:
        """The work's cost, in units that mean something only against another work's."""
        return float(np.dot(self.amounts, _amounts(work, self.cache_mb)))


def _amounts(work: Work, cache_mb: float | None) -> tuple[float, ...]:
    """In the order of COST_KINDS."""
    return (*work.amounts(), 0.0 if cache_mb is None else max(0.0, work.weights - cache_mb))


PRIOR = (50.0, 60.0, 150.0, 100.0, 100.0, 80.0, 10.0, 100.0)
"""Where the fit starts and what it is drawn to: multiply-adds at 20 a ns, depthwise ones three times as dear, ..."""


@dataclass(frozen=True)
class Estimate:
    """`latency_ms` is None where the target has no anchor to scale by; its band [low, high] is None where nobody knows it:
    for work far over every anchor's or SMALL_REACH under it, or of another precision."""

    target: str
    relative_cost: float
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    tag: Literal["estimated", "extrapolated"]
    calibrated_by: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "notes": list(self.notes)}


def fit_costs(
    works: Sequence[Work], latencies_ms: Sequence[float], scales: Sequence[int], family: str,
    cache_mb: float | None = None,
) -> Costs:  # fmt: skip
    """The costs under which `works` best explain `latencies_ms`; figures with the same number in `scales` share a scale.

    Least squares on logarithms, drawn gently to PRIOR, so that a kind that no model tells apart keeps a sensible cost.
    """
    amounts = np.array([_amounts(work, cache_mb) for work in works])
    measured = np.log(np.array(latencies_ms) * 1000)
    groups = np.array(scales)
    count = len(COST_KINDS)

    def miss(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        costs = np.asarray(PRIOR) * np.exp(parameters[:count])
        predicted = np.log(amounts @ costs) + parameters[count:][groups]
        return np.concatenate([predicted - measured, PRIOR_WEIGHT * parameters[:count]])

    start = np.log(amounts @ np.asarray(PRIOR))
    offsets = [float(np.mean((measured - start)[groups == group])) for group in range(groups.max() + 1)]
    found = least_squares(miss, np.concatenate([np.zeros(count), offsets]))
    return Costs(family, tuple(float(value) for value in np.asarray(PRIOR) * np.exp(found.x[:count])), cache_mb)


def find_scale(costs: Costs, works: Sequence[Work], latencies_ms: Sequence[float]) -> float:
    """Milliseconds a unit of relative cost: the geometric mean over the anchors."""
    ratios = [latency / costs.relative(work) for work, latency in zip(works, latencies_ms, strict=True)]
    return float(np.exp(np.mean(np.log(ratios))))


def estimate(work: Work, target: Target, costs: Costs, models: Mapping[str, Work], precision: str = "fp32") -> Estimate:
    """The estimate of `work` on `target`; anchors of another precision than `precision` serve only where none fits."""
    anchors = [(anchor, found) for anchor in target.anchors if (found := anchor.work or models.get(anchor.model))]
    fitting = [pair for pair in anchors if pair[0].precision == precision] or anchors
    relative = costs.relative(work)
    if not fitting:
        note = "no published or measured latency of this device: a relative cost is all that can be said"
        return Estimate(target.name, relative, None, None, None, "extrapolated", 0, (note,))
    scale = find_scale(costs, [found for _, found in fitting], [anchor.latency_ms for anchor, _ in fitting])
    sizes = [costs.relative(found) for _, found in fitting]
    other = fitting[0][0].precision != precision
    latency = scale * relative
    low, high, why = _band(latency, min(sizes) / relative, relative / max(sizes))
    runtimes = sorted({anchor.runtime or "an unnamed runtime" for anchor, _ in fitting})
    notes = [
        f"scaled by {len(fitting)} figures of {', '.join(runtimes)}; other runtimes differ by 1.5 x and more",
        *why,
    ]
    if other:
        low = high = None
        notes.append(
            f"the anchors are {fitting[0][0].precision}, the model {precision}: no band, for no figures of both"
        )
    tag: Literal["estimated", "extrapolated"] = "extrapolated" if why or other else "estimated"
    return Estimate(target.name, relative, latency, low, high, tag, len(fitting), tuple(notes))


def _band(latency_ms: float, smaller: float, larger: float) -> tuple[float | None, float | None, list[str]]:
    """(low, high, why it is extrapolated); so many times smaller than the smallest anchor, larger than the largest."""
    if larger > REACH:
        return None, None, [f"{larger:.0f} x larger than every anchor: no band, for nothing so large was ever compared"]
    if smaller > SMALL_REACH:
        return (
            None,
            None,
            [f"{smaller:.0f} x smaller than every anchor: no band, for nothing so small was ever compared"],
        )
    if smaller > REACH:
        note = f"{smaller:.0f} x smaller than every anchor: small models come out too high when large ones scale them"
        return latency_ms / SMALL_FACTOR, latency_ms * BAND, [f"{note}, 1.1 to 4.1 x on a host"]
    return latency_ms / BAND, latency_ms * BAND, []


def read_anchor_models() -> dict[str, Work]:
    """The counted work of the models that anchors name."""
    record = tomllib.loads((anchor_folder() / "models.toml").read_text(encoding="utf-8"))
    return {name: Work.model_validate(work) for name, work in record["models"].items()}


def read_costs(family: str) -> Costs:
    """The committed costs of a processor family. ConfigError for an unknown one."""
    record = tomllib.loads((anchor_folder() / "costs.toml").read_text(encoding="utf-8"))["costs"]
    if family not in record:
        raise ConfigError(f"No costs for {family!r}.", hint=f"Known: {', '.join(sorted(record))}.")
    return Costs(family, tuple(float(record[family].get(kind, 0.0)) for kind in COST_KINDS))


def mean_error(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """The mean of |predicted / measured - 1|."""
    return float(np.mean(np.abs(np.asarray(predicted) / np.asarray(measured) - 1)))


def largest_factor(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """How many times a prediction is off at most, in either direction."""
    return math.exp(float(np.max(np.abs(np.log(np.asarray(predicted) / np.asarray(measured))))))
