"""Results as tables for a person."""

from __future__ import annotations

from typing import Any

from sctool.cli.output import Output


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _figure(interval: dict[str, float] | None) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]" if interval else "withheld"


def kilobytes(size: int) -> str:
    """Bytes as kB with thousands separators."""
    return f"{size / 1000:,.1f} kB"


def draw_compress(output: Output, summary: dict[str, Any], folder: str) -> None:
    rows = []
    for name in ("dense", "sparse"):
        figures, attack = summary[name], summary[name]["attacks"][0]
        rows.append([name, _percent(figures["train_accuracy"]), _percent(figures["test_accuracy"]),
                     _figure(attack["balanced_accuracy"]), _figure(attack["auc"])])  # fmt: skip
    attack_name = summary["dense"]["attacks"][0]["attack"]
    output.table(
        f"Compressed to density {summary['density']:.4f} in {summary['rounds']} rounds",
        ["model", "train accuracy", "test accuracy", f"{attack_name} attack accuracy", "attack AUC"], rows,
    )  # fmt: skip
    output.line("Attack figures here are the search's own; `sctool verify` attacks records that no search has seen.")
    for layer in summary["left_dense"]:
        output.line(f"left dense: {layer['layer']} ({layer['reason']})")
    output.line(f"run: {folder}")


def draw_export(output: Output, manifest: dict[str, Any], folder: str) -> None:
    sizes = manifest["sizes"]
    rows = [[name, kilobytes(size), _percent(size / sizes["dense_onnx_bytes"])] for name, size in sizes.items()]
    output.table(
        f"Bundle for {manifest['target']}, density {manifest['density']:.4f}", ["what", "size", "of dense"], rows
    )
    for name, parity in manifest["parity"].items():
        output.line(
            f"parity of {name} with eager on {parity['records']} records: max abs error {parity['max_abs_error']:.2e}, "
            f"top-1 agreement {_percent(parity['top1_agreement'])}"
        )
    for name, entry in manifest["files"].items():
        if entry.get("note"):
            output.line(f"{name}: {entry['note']}")
    output.line(f"bundle: {folder}")


def draw_verify(output: Output, verification: dict[str, Any], file: str) -> None:
    for number, attack in enumerate(verification["columns"][0]["attacks"]):
        rows = []
        for column in verification["columns"]:
            figures = column["attacks"][number]
            tpr = figures["tpr_at_fpr"].get("0.01")
            rows.append([column["name"], _figure(figures["balanced_accuracy"]), _figure(figures["auc"]), _figure(tpr)])
        output.table(
            f"Attack: {attack['attack']} ({attack['members']} members, {attack['non_members']} non-members)",
            ["model", "attack accuracy", "AUC", "TPR at 1 % FPR"], rows,
        )  # fmt: skip
    blind = verification["blind_baseline"]
    output.line(f"blind baseline (sees no model): AUC {_figure(blind['auc'])}")
    for column in verification["columns"]:
        output.line(f"test accuracy of {column['name']}: {_percent(column['test_accuracy'])}")
    passed = verification["verdict"] == "pass"
    for failure in verification["failures"]:
        output.line(f"LEAK: {failure}", style="bold red")
    output.line("verdict: PASS" if passed else "verdict: LEAK", style="bold green" if passed else "bold red")
    output.line(f"verification: {file}")


def draw_profile(output: Output, profile: dict[str, Any], file: str) -> None:
    rows = []
    for p in profile["profiles"]:
        latency = p["latency_ms"]
        rows.append([p["artifact"], *(f"{latency[q]:.4f}" for q in ("p50", "p90", "p99")),
                     f"{p['cold_load_ms']:.1f}", f"{p['warm_load_ms']:.1f}",
                     f"{p['peak_memory_mib']:.1f}", f"{p['peak_memory_mib'] - p['baseline_memory_mib']:.1f}"])  # fmt: skip
    first = profile["profiles"][0]
    output.table(
        f"measured on {first['measured_on']}: {first['machine']}; {first['threads']} thread(s), batch {first['batch_size']}",
        ["artifact", "p50 ms", "p90 ms", "p99 ms", "cold load ms", "warm load ms", "peak MiB", "over baseline MiB"], rows,
    )  # fmt: skip
    for note in profile["notes"]:
        output.line(note)
    output.line(f"profile: {file}")
