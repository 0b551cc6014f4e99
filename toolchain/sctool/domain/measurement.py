"""Figures with their uncertainty: attack results, latency profiles, verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval [low, high]."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}

    @classmethod
    def from_json(cls, record: dict[str, float]) -> Interval:
        return cls(record["value"], record["low"], record["high"])

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class AttackResult:
    """An attack's figures on records that it was not fitted on.

    scores: float64 [N], higher = member; is_member: bool [N]. `accuracy` and `balanced_accuracy` use the threshold
    fitted on other records. `tpr_at_fpr` maps 0.001, 0.01, 0.1 to the largest TPR with FPR at most that, or None where
    there are too few non-members to tell (fewer than 1 / FPR). `p_values` of "auc", "balanced_accuracy" and
    "tpr_at_1pct_fpr" (None where that is): how often the figure would be at least as large without a leak.
    `auc_by_seed`: of each attacker, where several were fitted with different seeds and `scores` are their mean.
    """

    attack: str
    scores: NDArray[np.float64]
    is_member: NDArray[np.bool_]
    threshold: float
    auc: Interval
    accuracy: Interval
    balanced_accuracy: Interval
    tpr_at_fpr: dict[float, Interval | None]
    p_values: dict[str, float | None]
    fpr: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    tpr: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    auc_by_seed: tuple[float, ...] = ()

    def to_json(self, *, curve: bool = False) -> dict[str, Any]:
        record: dict[str, Any] = {
            "attack": self.attack,
            "members": int(self.is_member.sum()),
            "non_members": int((~self.is_member).sum()),
            "threshold": float(self.threshold) if np.isfinite(self.threshold) else None,
            "auc": self.auc.to_json(),
            "accuracy": self.accuracy.to_json(),
            "balanced_accuracy": self.balanced_accuracy.to_json(),
            "tpr_at_fpr": {f"{k:g}": v.to_json() if v else None for k, v in self.tpr_at_fpr.items()},
            "p_values": self.p_values,
        }
        if self.auc_by_seed:
            record["auc_by_seed"] = list(self.auc_by_seed)
        if curve:
            record["roc"] = {"fpr": [float(v) for v in self.fpr], "tpr": [float(v) for v in self.tpr]}
        return record


MeasuredOn = Literal["device", "emulator", "host"]


@dataclass(frozen=True)
class LatencyProfile:
    """One artifact's cost, in one runtime, at one place.

    samples_ms: float64 [repeat, iteration], batch 1 unless `batch_size` says otherwise. `peak_memory_mib` is the
    peak resident set of a process that only loads and runs the artifact; `baseline_memory_mib` that of the same
    process before it loads (interpreter and runtime library). `distrust`: the rules of the protocol that were broken.
    `cluster`: the cores asked for; `cores`: what the kernel let the process's threads run on, as it says it. `device`:
    what the device says of itself. Loads and memory are NaN, null in JSON, where nothing tells them.
    `fixed_performance`: Android's mode of steady clocks was on. `states`: clocks,
    temperatures and battery before and after each repeat.
    """

    artifact: str
    runtime: str
    measured_on: MeasuredOn
    machine: str
    threads: int
    batch_size: int
    warm_up: int
    samples_ms: NDArray[np.float64]
    cold_load_ms: float
    warm_load_ms: float
    peak_memory_mib: float
    baseline_memory_mib: float
    distrust: tuple[str, ...] = ()
    cluster: str = "all"
    cores: tuple[str, ...] = ()
    device: dict[str, Any] = field(default_factory=dict)
    states: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    fixed_performance: bool = False

    def percentile_ms(self, q: float) -> float:
        """The q-th percentile over all samples, in ms."""
        return float(np.percentile(self.samples_ms, q))

    def percentile_interval_ms(self, q: float) -> Interval | None:
        """The q-th percentile of a repeat: mean and 95 % interval (Student's t) over repeats; None with fewer than two."""
        each = np.percentile(self.samples_ms, q, axis=1)
        if len(each) < 2:
            return None
        half = float(stdtrit(len(each) - 1, 0.975) * each.std(ddof=1) / np.sqrt(len(each)))
        return Interval(float(each.mean()), float(each.mean()) - half, float(each.mean()) + half)

    def to_json(self) -> dict[str, Any]:
        intervals = {q: self.percentile_interval_ms(q) for q in (50, 90, 99)}
        medians = np.median(self.samples_ms, axis=1)
        return {
            "artifact": self.artifact, "runtime": self.runtime, "measured_on": self.measured_on, "machine": self.machine,
            "threads": self.threads, "batch_size": self.batch_size, "warm_up": self.warm_up,
            "repeats": int(self.samples_ms.shape[0]), "iterations": int(self.samples_ms.shape[1]),
            "latency_ms": {f"p{q}": self.percentile_ms(q) for q in (50, 90, 99)},
            "latency_over_repeats_ms": {f"p{q}": found.to_json() if found else None for q, found in intervals.items()},
            "trusted": not self.distrust, "distrust": list(self.distrust), "tag": "measured",
            "cluster": self.cluster, "cores": list(self.cores), "device": self.device, "states": list(self.states),
            "notes": list(self.notes), "fixed_performance": self.fixed_performance,
            "latency_p50_over_repeats_ms": {"min": float(medians.min()), "max": float(medians.max())},
            "cold_load_ms": _known(self.cold_load_ms), "warm_load_ms": _known(self.warm_load_ms),
            "peak_memory_mib": _known(self.peak_memory_mib), "baseline_memory_mib": _known(self.baseline_memory_mib),
            "samples_ms": [[round(float(v), 6) for v in row] for row in self.samples_ms],
        }  # fmt: skip


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
