"""What export wrote, or would write, as tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sctool.cli.output import Output
from sctool.domain.wording import FILE_LABELS, say_bytes, say_percent


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
