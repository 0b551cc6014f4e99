"""Results as tables for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from textwrap import wrap
from typing import Any

from sctool.cli.output import Output
from sctool.domain.wording import (
    FILE_LABELS,
    own_memory_mib,
    say_bytes,
    say_interval,
    say_known,
    say_percent,
    strongest_attack,
)


def _stack_interval(interval: dict[str, float] | None) -> str:
    """Value over its 95 % interval, nine characters wide, so that four models fit beside one another."""
    if interval is None:
        return "withheld"
    low, high = (f"{interval[end]:.3f}".removeprefix("0") for end in ("low", "high"))
    return f"{interval['value']:.3f}\n{low}-{high}"


def draw_compress(output: Output, summary: dict[str, Any], folder: str) -> None:
    rows = []
    for name in ("dense", "sparse"):
        figures, attack = summary[name], summary[name]["attacks"][0]
        rows.append([name, say_percent(figures["train_accuracy"]), say_percent(figures["test_accuracy"]),
                     _stack_interval(attack["balanced_accuracy"]), _stack_interval(attack["auc"])])  # fmt: skip
    attack_name = summary["dense"]["attacks"][0]["attack"].replace("_", " ")
    output.table(
        f"Compressed to density {summary['density']:.4f} in {summary['rounds']} rounds",
        ["model", "train accuracy", "test accuracy", f"attack accuracy\n{attack_name}", "attack AUC"], rows,
    )  # fmt: skip
    output.line("Attack figures here are the search's own; `sctool verify` attacks records that no search has seen.")
    for layer in summary["left_dense"]:
        output.line(f"left dense: {layer['layer']} ({layer['reason']})")
    output.line(f"run: {folder}")


def draw_front(output: Output, front: list[dict[str, Any]], run: str) -> None:
    rows = [
        [c["name"], c["label"], say_percent(c["task_accuracy"]), f"{c['attack_accuracy']:.3f}", f"{c['attack_auc']:.3f}",
         f"{c['tm_score']:.3f}", str(c["nnz"])]
        for c in front
    ]  # fmt: skip
    columns = ["name", "candidate", "task accuracy", "attack accuracy", "attack AUC", "TM-score", "non-zeros"]
    output.table(f"Pareto front of {run}", columns, rows)
    output.line(f"take one: sctool compress {run} --pick {front[0]['name']} --output {run}-{front[0]['name']}")


def draw_export(output: Output, manifest: dict[str, Any], folder: str) -> None:
    sizes = manifest["sizes"]
    rows = [
        [FILE_LABELS.get(name, name), say_bytes(size), say_percent(size / sizes["dense_onnx_bytes"])]
        for name, size in sizes.items()
    ]
    output.table(
        f"Bundle for {manifest['target']}, density {manifest['density']:.4f}", ["file", "size", "of dense"], rows
    )
    chosen = Counter(layer["codec"] for layer in manifest["layers"])
    told = ", ".join(f"{codec} {count}" for codec, count in chosen.most_common())
    output.line(f"ONNX tensors by codec: {told} (`sctool export RUN --dry-run` compares)")
    _draw_passes(output, manifest.get("passes", []))
    rows = [
        [name, f"{parity['max_abs_error']:.2e}", say_percent(parity["top1_agreement"])]
        for name, parity in manifest["parity"].items()
    ]
    records = max(parity["records"] for parity in manifest["parity"].values())
    output.table(f"Held against PyTorch on {records} records", ["file", "max abs error", "top-1 agreement"], rows)
    for name, entry in manifest["files"].items():
        if entry.get("note"):
            output.line(f"{name}: {entry['note']}")
    output.line(f"bundle: {folder}")


def draw_plan(output: Output, plan: dict[str, Any]) -> None:
    for name, table in plan["onnx"].items():
        dense, bound = table["files"]["dense"], table["files"]["bound"]
        rows = [
            [what, say_bytes(size) if size else "no zstd here", say_percent(size / dense) if size else "-",
             f"{size / bound:.3f}" if size else "-"]
            for what, size in table["files"].items()
        ]  # fmt: skip
        output.table(f"{name}: bytes of the whole file", ["stored as", "size", "of dense", "of bound"], rows)
        _draw_layers(output, name, table["layers"])
    _draw_passes(output, plan["passes"])
    output.line("Nothing was written.")


def _draw_layers(output: Output, name: str, layers: list[dict[str, Any]]) -> None:
    if not layers:
        return
    rows = [
        [layer["name"], f"{layer['density']:.4f}", layer["codec"], str(layer["bytes"][layer["codec"]]),
         str(layer["bound_bytes"])]
        for layer in layers
    ]  # fmt: skip
    output.table(
        f"{name}: bytes by layer, as it ships", ["layer", "density", "chosen", "bytes", "bound"], rows, whole=True
    )
    codecs = [codec for codec in layers[0]["bytes"] if "+" not in codec]
    rows = [[layer["name"], *(str(layer["bytes"].get(codec, "-")) for codec in codecs)] for layer in layers]
    output.table(f"{name}: bytes by layer and codec", ["layer", *codecs], rows, whole=True)


def _draw_passes(output: Output, passes: list[dict[str, Any]]) -> None:
    for entry in passes:
        if entry["note"]:
            output.line(f"pass {entry['name']}: {entry['note']}")
        elif entry["bytes_removed"] or entry["flops_removed"]:
            output.line(
                f"pass {entry['name']} removed {entry['nonzeros_removed']:,} non-zeros, "
                f"{say_bytes(entry['bytes_removed'])} of dense weights and {entry['flops_removed']:,} FLOPs a record"
            )


MOST_FAILURES = 6
SHADOW_WAYS = {"masks": "at the model's own masks", "search": "a SafeCompress run each"}
MANY_MODELS = 5
"""From here on each model is a row, with its strongest attack alone."""
MANY_COLUMNS, NARROW = 4, 10
"""With more columns than that names and figures are stacked, names at so many characters."""
MANY_ATTACKS = 8
"""From here on the table gives each attack's AUC alone; the record has the rest."""
WORST: list[tuple[str, Callable[[dict[str, Any]], dict[str, float] | None]]] = [
    ("attack accuracy", lambda attack: attack["balanced_accuracy"]),
    ("TPR at 1 % FPR", lambda attack: attack["tpr_at_fpr"]["0.01"]),
]


def _stack_name(name: str, *, many: bool) -> str:
    """The runtime under the file's name; without it where there are too many columns for that, a device excepted."""
    file, _, runtime = name.partition(" (")
    if not runtime:
        return name
    return file if many and "." in file and not runtime.startswith("on ") else f"{file}\n({runtime}"


def _head_column(name: str, *, narrow: bool) -> str:
    """`_stack_name`, hardly wider than figures are where it has to be: five models fit into 80 characters."""
    file, on, device = name.removesuffix(")").partition(" (on ")
    return "\n".join([file, *wrap(f"on {device}", NARROW)]) if narrow and on else _stack_name(name, many=narrow)


def _value(interval: dict[str, float] | None) -> float:
    return interval["value"] if interval else 0.0


def draw_verify(output: Output, verification: dict[str, Any], file: str) -> None:
    columns = verification["columns"]
    if len(columns) > MANY_MODELS:
        _draw_models(output, verification)
        return _draw_verdict(output, verification, file)
    narrow = len(columns) > MANY_COLUMNS
    accuracy, tpr = ("accuracy", "TPR at\n  1 % FPR") if narrow else ("attack accuracy", "TPR at 1 % FPR")
    rows = [["test accuracy", *(say_percent(column["test_accuracy"]) for column in columns)]]
    names = list(dict.fromkeys(attack["attack"] for column in columns for attack in column["attacks"]))
    found = [{attack["attack"]: attack for attack in column["attacks"]} for column in columns]
    for name in names:
        same = [attacks.get(name) for attacks in found]
        title = name.replace("_", " ")
        if len(names) > MANY_ATTACKS:
            rows.append([title, *(_stack_interval(a["auc"]) if a else "-" for a in same)])
            continue
        rows.append([f"{title}\n  {accuracy}", *(_stack_interval(a["balanced_accuracy"]) if a else "-" for a in same)])
        rows.append(["  AUC", *(_stack_interval(a["auc"]) if a else "-" for a in same)])
        rows.append([f"  {tpr}", *(_stack_interval(a["tpr_at_fpr"]["0.01"]) if a else "-" for a in same)])
    if len(names) > MANY_ATTACKS:
        for title, read in WORST:
            worst = [max((read(a) for a in attacks.values() if read(a)), key=_value, default=None) for attacks in found]
            rows.append([f"highest of all\n  {title}", *(_stack_interval(each) for each in worst)])
    blind = verification["blind_baseline"]
    output.table(
        f"Attacks on {blind['members']} members and {blind['non_members']} non-members that no search has seen",
        [
            "AUC, with 95 % intervals" if len(names) > MANY_ATTACKS else "with 95 % intervals",
            *(_head_column(column["name"], narrow=narrow) for column in columns)], rows,
    )  # fmt: skip
    _draw_verdict(output, verification, file)


def _draw_models(output: Output, verification: dict[str, Any]) -> None:
    rows = []
    for column in verification["columns"]:
        worst = strongest_attack(column["attacks"])
        rows.append([
            _stack_name(column["name"], many=True), say_percent(column["test_accuracy"]), worst["attack"].replace("_", " "),
            _stack_interval(worst["auc"]), _stack_interval(worst["balanced_accuracy"]),
            _stack_interval(worst["tpr_at_fpr"]["0.01"]),
        ])  # fmt: skip
    blind = verification["blind_baseline"]
    output.table(
        f"The strongest attack on {blind['members']} members and {blind['non_members']} non-members, 95 % intervals",
        ["model", "test accuracy", "attack", "AUC", "attack accuracy", "TPR at 1 % FPR"], rows,
    )  # fmt: skip


def _draw_verdict(output: Output, verification: dict[str, Any], file: str) -> None:
    columns, gates = verification["columns"], verification["gates"]
    blind = verification["blind_baseline"]
    output.line(f"blind baseline, which sees no model: AUC {say_interval(blind['auc'])}")
    output.line(
        f"gates: attack accuracy {gates['max_attack_accuracy']:g}, AUC {gates['max_auc']:g}, "
        f"TPR at 1 % FPR {gates['max_tpr_at_1pct_fpr']:g}, AUC within a class {gates['max_class_auc']:g}"
    )
    for column in columns:
        if column["kind"] == "artifact" and column["one_run"]:
            one = column["one_run"]
            output.line(
                f"one-run audit of {column['name']}: epsilon >= {one['epsilon']:.2f} (95 %), {one['right']} of "
                f"{one['guesses']} guesses on {one['canaries']} canaries right"
            )
    for name, found in ((verification.get("device") or {}).get("agreement") or {}).items():
        output.line(
            f"{name} against {found['compared_with']}: max abs error {found['max_abs_error']:.2e} on {found['records']} "
            f"records, AUCs differ by at most {found['max_auc_difference']:.4f}"
        )
    for note in verification["notes"]:
        output.line(note)
    passed = verification["verdict"] == "pass"
    shadows = verification["shadows"]
    if shadows:
        output.line(
            f"{shadows['count']} shadow models ({SHADOW_WAYS[shadows['way']]}), each trained on "
            f"{shadows['members']:.0f} records; the model itself on {shadows['members_of_the_model']}"
        )
    for failure in verification["failures"][:MOST_FAILURES]:
        output.line(f"LEAK: {failure}", style="bold red")
    if len(verification["failures"]) > MOST_FAILURES:
        output.line(f"and {len(verification['failures']) - MOST_FAILURES} figures more, see the record")
    output.line("verdict: PASS" if passed else "verdict: LEAK", style="bold green" if passed else "bold red")
    output.line(f"verification: {file}")


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
