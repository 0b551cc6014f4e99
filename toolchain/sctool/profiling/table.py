"""The figures of a profile as comma-separated values, one artifact a row."""

from __future__ import annotations

import csv
import io
from typing import Any

COLUMNS = ("artifact", "tag", "measured_on", "machine", "runtime", "threads", "cluster", "trusted", "p50_ms", "p90_ms",
           "p99_ms", "p50_low_ms", "p50_high_ms", "cold_load_ms", "warm_load_ms", "peak_memory_mib", "instructions",
           "l1_misses", "l2_misses", "relative_cost", "latency_ms", "low_ms", "high_ms", "distrust")  # fmt: skip


def to_csv(profile: dict[str, Any]) -> str:
    """The contents of profile.json; a figure that was not taken is an empty field."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for item in profile["profiles"]:
        interval = item["latency_over_repeats_ms"]["p50"] or {}
        figures = {f"{q}_ms": value for q, value in item["latency_ms"].items()}
        bounds = {f"p50_{end}_ms": interval.get(end, "") for end in ("low", "high")}
        writer.writerow({**item, **figures, **bounds, "distrust": "; ".join(item["distrust"])})
    for item in profile.get("costs", []):
        writer.writerow({**item, "measured_on": "emulator", "machine": item["emulator"], "trusted": True})
    for item in profile.get("estimates", []):
        writer.writerow({**item, "machine": item["target"], "distrust": "; ".join(item["notes"])})
    return stream.getvalue()
