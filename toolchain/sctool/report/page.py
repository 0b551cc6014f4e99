"""What the run, bundle, verification and profile say, arranged for the page's template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sctool.domain.wording import (
    FILE_LABELS,
    own_memory_mib,
    say_bytes,
    say_interval,
    say_known,
    say_percent,
    strongest_attack,
)
from sctool.report.figures import draw_candidates, draw_roc

Record = dict[str, Any]
TEMPLATE = "page.html.j2"
PLAIN = "model.onnx"
"""Whose tensors the page lists: the float32 file's."""


def render_report(
    run: Record, candidates: list[Record], bundle: Record | None, verification: Record | None, profile: Record | None
) -> str:
    """One self-contained HTML page. Parts that are None are named as missing, with the command that makes them.

    `run` and `candidates` are a run directory's summary and candidates, the others the contents of manifest.json,
    verification.json and profile.json.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(percent=say_percent, size=say_bytes, interval=say_interval, known=say_known)
    roc, roc_attack = draw_roc(verification) if verification else ("", "")
    return environment.get_template(TEMPLATE).render(
        run=run,
        bundle=bundle,
        verification=verification,
        profile=profile,
        models=_compare_models(run, bundle, verification),
        candidates_svg=Markup(draw_candidates(candidates, run["dense"], run.get("ended_with"))) if candidates else "",  # noqa: S704
        chosen=[candidate for candidate in candidates if candidate["selected"]],
        roc_svg=Markup(roc),  # noqa: S704 - our own SVG; names inside it come out of matplotlib escaped
        roc_attack=roc_attack,
        files=_list_files(bundle),
        layers=_list_layers(bundle),
        latencies=_list_latencies(profile),
        costs=(profile or {}).get("costs", []),
    )


def _compare_models(run: Record, bundle: Record | None, verification: Record | None) -> list[Record]:
    """Dense and sparse model and each artifact, one row each, with the audit's figures where there are any."""
    if verification is None:
        return [
            {
                "name": name, "kind": name, "accuracy": run[name]["test_accuracy"], "size": None,
                "by_accuracy": strongest_attack(run[name]["attacks"], by="balanced_accuracy"),
                "by_auc": strongest_attack(run[name]["attacks"]),
            }
            for name in ("dense", "sparse")
        ]  # fmt: skip
    sizes = {"dense": bundle["sizes"]["dense_onnx_bytes"]} if bundle else {}
    files = bundle["files"] if bundle else {}
    rows = []
    for column in verification["columns"]:
        file = files.get(column["name"].split(" ")[0])
        rows.append(
            {
                "name": column["name"], "kind": column["kind"], "accuracy": column["test_accuracy"],
                "by_accuracy": strongest_attack(column["attacks"], by="balanced_accuracy"),
                "by_auc": strongest_attack(column["attacks"]),
                "size": file["size_bytes"] if file else sizes.get(column["kind"]),
            }
        )  # fmt: skip
    return rows


def _list_files(bundle: Record | None) -> list[Record]:
    if bundle is None:
        return []
    largest = max(bundle["sizes"].values())
    dense = bundle["sizes"]["dense_onnx_bytes"]
    return [
        {
            "label": FILE_LABELS.get(key, key), "bytes": size, "share": size / dense, "width": 100 * size / largest,
            "shipped": FILE_LABELS.get(key, "").startswith("shipped"),
        }
        for key, size in bundle["sizes"].items()
    ]  # fmt: skip


def _list_layers(bundle: Record | None) -> list[Record]:
    if bundle is None:
        return []
    plain = [layer for layer in bundle["layers"] if layer.get("file", PLAIN) == PLAIN]
    largest = max((layer["dense_bytes"] for layer in plain), default=1) or 1
    return [
        {
            **layer,
            "shape_text": " x ".join(map(str, layer["shape"])),
            "dense_width": 100 * layer["dense_bytes"] / largest,
            "stored_width": 100 * layer["stored_bytes"] / largest,
        }
        for layer in sorted(plain, key=lambda layer: -layer["dense_bytes"])
    ]


def _list_latencies(profile: Record | None) -> list[Record]:
    if profile is None or not profile["profiles"]:
        return []
    slowest = max(item["latency_ms"]["p99"] for item in profile["profiles"]) or 1
    return [
        {
            **item,
            "widths": {q: 100 * item["latency_ms"][q] / slowest for q in ("p50", "p90", "p99")},
            "own_memory_mib": own_memory_mib(item),
        }
        for item in profile["profiles"]
    ]
