"""What models cost, as tables: measured, counted, estimated, compared."""

from __future__ import annotations

from typing import Any

from sctool.cli.output import Output
from sctool.domain.wording import own_memory_mib, say_known


def draw_profile(output: Output, profile: dict[str, Any], file: str) -> None:
    if profile["profiles"]:
        _draw_latencies(output, profile["profiles"])
    if profile["costs"]:
        _draw_costs(output, profile["costs"])
    if profile["estimates"]:
        _draw_estimates(output, profile["estimates"])
    for text in profile["violations"]:
        output.line(f"OVER BUDGET: {text}", style="bold red")
    for note in profile["notes"]:
        output.line(note)
    output.line(f"profile: {file}")


def _draw_latencies(output: Output, profiles: list[dict[str, Any]]) -> None:
    rows = [[f"latency {q}, ms", *(f"{p['latency_ms'][q]:.4f}" for p in profiles)] for q in ("p50", "p90", "p99")]
    rows.insert(1, ["  over repeats", *(_say_range(p["latency_over_repeats_ms"]["p50"]) for p in profiles)])
    rows += [
        ["cold load, ms", *(say_known(p["cold_load_ms"], 2) for p in profiles)],
        ["warm load, ms", *(say_known(p["warm_load_ms"], 2) for p in profiles)],
        ["peak memory, MiB", *(say_known(p["peak_memory_mib"], 1) for p in profiles)],
        ["  over the runtime's own", *(say_known(own_memory_mib(p), 1) for p in profiles)],
        ["trusted", *("yes" if p["trusted"] else "NO" for p in profiles)],
    ]
    first = profiles[0]
    threads = f"{first['threads']} thread" + ("s" if first["threads"] != 1 else "")
    output.table(
        f"Measured on {first['measured_on']}: {first['machine']}; {threads}, batch {first['batch_size']}, "
        f"{first['repeats']} x {first['iterations']} runs",
        ["", *(f"{p['artifact']}\n{p['runtime']}" for p in profiles)], rows,
    )  # fmt: skip
    for item in profiles:
        for reason in item["distrust"]:
            output.line(f"not trusted, {item['artifact']}: {reason}", style="yellow")
        for note in item["notes"]:
            output.line(f"{item['artifact']}: {note}")


def _say_range(interval: dict[str, float] | None) -> str:
    return f"{interval['low']:.4f}-{interval['high']:.4f}" if interval else "-"


def _draw_costs(output: Output, costs: list[dict[str, Any]]) -> None:
    rows = [["instructions a call", *(f"{cost['instructions']:,}" for cost in costs)]]
    names = [name for name in costs[0]["by_class"] if any(cost["by_class"][name] for cost in costs)]
    rows += [[f"  {name.replace('_', ' ')}", *(f"{cost['by_class'][name]:,}" for cost in costs)] for name in names]
    rows += [
        [f"{title} misses", *(f"{cost[key]:,}" for cost in costs)]
        for title, key in (("64 KiB cache", "l1_misses"), ("512 KiB cache", "l2_misses"))
    ]
    output.table(
        f"Counted, not timed, on an emulated {costs[0]['cpu']}: {costs[0]['emulator']}",
        ["relative cost", *(f"{cost['artifact']}\n{cost['runtime']}" for cost in costs)], rows,
    )  # fmt: skip


def _draw_estimates(output: Output, estimates: list[dict[str, Any]]) -> None:
    def say(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}"

    rows = [
        [found["artifact"], found["tag"], f"{found['relative_cost']:.4g}", say(found["latency_ms"]),
         "unknown" if found["low_ms"] is None else f"{say(found['low_ms'])}-{say(found['high_ms'])}"]
        for found in estimates
    ]  # fmt: skip
    columns = ["artifact", "tag", "relative cost", "latency, ms", "band, ms"]
    output.table(f"Estimated for {estimates[0]['target']}, not measured", columns, rows)
    for found in estimates:
        for note in found["notes"]:
            output.line(f"{found['artifact']}: {note}")


def draw_compare(output: Output, rows: list[dict[str, Any]]) -> None:
    table = [
        [row["artifact"], row["figure"], row["tag"], f"{row['one']:,.6g}", f"{row['other']:,.6g}", f"{row['ratio']:.3f}",
         "yes" if row["sure"] else "no"]
        for row in rows
    ]  # fmt: skip
    output.table("B over A", ["artifact", "figure", "tag", "A", "B", "ratio", "beyond noise"], table)
    for row in rows:
        for reason in dict.fromkeys(row["distrust"]):
            output.line(f"not trusted, {row['artifact']}: {reason}", style="yellow")
