"""Two profiles side by side; figures that were not taken under the same conditions are not compared."""

from __future__ import annotations

from typing import Any

from sctool.errors import ConfigError

REGIME = ("measured_on", "machine", "runtime", "threads", "cluster", "batch_size", "warm_up", "iterations",
          "fixed_performance")  # fmt: skip
"""What must agree for two latencies to be comparable."""
COUNTED = ("emulator", "cpu", "runtime", "threads")


def compare_profiles(one: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """For each artifact of both profiles (the contents of profile.json): the ratio other / one and whether it is sure.

    Raises ConfigError where an artifact's regimes differ, naming what does, and where no artifact is in both.
    """
    rows = []
    for kind, keys, read in (("profiles", REGIME, _latency), ("costs", COUNTED, _instructions)):
        ours = {item["artifact"]: item for item in one.get(kind, [])}
        theirs = {item["artifact"]: item for item in other.get(kind, [])}
        for name in sorted(ours.keys() & theirs.keys()):
            _demand_same(name, ours[name], theirs[name], keys)
            rows.append({"artifact": name, **read(ours[name], theirs[name])})
    if not rows:
        raise ConfigError(
            "The two profiles have no artifact that was measured in the same way in both.",
            hint="Profile both bundles on the same device, or both under emulation.",
        )
    return rows


def _demand_same(name: str, ours: dict[str, Any], theirs: dict[str, Any], keys: tuple[str, ...]) -> None:
    differ = [f"{key} {ours.get(key)!r} and {theirs.get(key)!r}" for key in keys if ours.get(key) != theirs.get(key)]
    if differ:
        raise ConfigError(
            f"{name}: not comparable, measured with {'; '.join(differ)}.",
            hint="Measure both under the same conditions.",
        )


def _latency(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Sure: the intervals over repeats do not overlap, and both figures are trusted."""
    intervals = [item["latency_over_repeats_ms"]["p50"] for item in (ours, theirs)]
    apart = all(intervals) and (
        intervals[0]["high"] < intervals[1]["low"] or intervals[1]["high"] < intervals[0]["low"]
    )
    values = [item["latency_ms"]["p50"] for item in (ours, theirs)]
    return {
        "figure": "latency p50, ms", "tag": "measured", "one": values[0], "other": values[1],
        "ratio": values[1] / values[0], "sure": bool(apart and ours["trusted"] and theirs["trusted"]),
        "distrust": ours["distrust"] + theirs["distrust"],
    }  # fmt: skip


def _instructions(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    values = [item["instructions"] for item in (ours, theirs)]
    return {
        "figure": "instructions a call", "tag": "emulated", "one": values[0], "other": values[1],
        "ratio": values[1] / values[0], "sure": True, "distrust": [],
    }  # fmt: skip
