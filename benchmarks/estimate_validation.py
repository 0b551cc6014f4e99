"""How good are latency estimates? On this host: predicted, then measured; on phones: against published figures.

    python benchmarks/estimate_validation.py [--runs 15]     (8 minutes; writes results/estimate_validation*.csv)
    python benchmarks/estimate_validation.py --reach         (from the host's figures in that file: estimate_reach.csv)

Every prediction leaves out what it predicts. On the host: the costs of kinds of work are fitted to the other models. On
a phone: they are fitted to the other phones, and the phone's scale comes from its other models. Beside each estimate
stands that of counted multiply-adds alone. `--reach`: the small models of the zoo, scaled by the architectures of the
published tables alone, as a phone's are. torchvision, for the architectures of the published tables, is optional.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anchor_models import architectures_once, export_architecture
from scipy.stats import spearmanr

from sctool.atomic import write_file
from sctool.domain.target import load_target
from sctool.domain.work import Work
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.models.build import build_model
from sctool.profiling.estimate import (
    Costs,
    find_scale,
    fit_costs,
    largest_factor,
    mean_error,
    read_anchor_models,
    read_costs,
)
from sctool.profiling.work import count_work
from sctool.resources import list_resources

RESULTS = Path(__file__).parent / "results"
MMACS = Costs("mmacs", (1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0))
CACHE_SHARE = 0.5
"""Of the host's last cache, for a model's weights: the rest holds activations and other programs."""
ZOO: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "mlp-64-512-256": ("mlp", {"hidden": [512, 256]}, (64,)),
    "mlp-600-1024-512-256-128": ("mlp", {"hidden": [1024, 512, 256, 128]}, (600,)),
    "mlp-600-4096-2048": ("mlp", {"hidden": [4096, 2048]}, (600,)),
    "lenet-28": ("lenet", {}, (1, 28, 28)),
    "small-cnn-28": ("small_cnn", {}, (1, 28, 28)),
    "alexnet-32": ("alexnet", {}, (3, 32, 32)),
    "vgg16-32": ("vgg16", {}, (3, 32, 32)),
    "resnet18-32": ("resnet18", {}, (3, 32, 32)),
    "resnet18-64": ("resnet18", {}, (3, 64, 64)),
    "mobilenet-v2-32": ("mobilenet_v2", {}, (3, 32, 32)),
    "cnn1d-128": ("cnn1d", {}, (9, 128)),
}
REACH_COLUMNS = ("costs", "model", "times_smaller", "measured_ms", "predicted_ms", "factor")
COLUMNS = ("place", "model", "tag", "measured_ms", "predicted_ms", "error", "predicted_by_macs_ms", "error_by_macs")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--reach", action="store_true")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ.get("SCTOOL_MODELS") or tempfile.mkdtemp(prefix="sctool-models-"))
    folder.mkdir(parents=True, exist_ok=True)
    if given.reach:
        return write_csv(RESULTS / "estimate_reach.csv", REACH_COLUMNS, validate_reach(folder))
    runs = given.runs
    rows = [*validate_host(make_models(folder), runs), *validate_phones()]
    write_csv(RESULTS / "estimate_validation.csv", COLUMNS, rows)
    summary = [
        summarise(place, [row for row in rows if row["place"] == place])
        for place in dict.fromkeys(r["place"] for r in rows)
    ]
    write_csv(RESULTS / "estimate_validation_summary.csv", tuple(summary[0]), summary)
    for row in summary:
        print(row)


def make_models(folder: Path) -> dict[str, Path]:
    """Files of at least 20 models; those that are there already are taken."""
    files = make_zoo(folder)
    try:
        names = list(architectures_once())
    except ImportError:
        print("torchvision is missing: the zoo's models alone")
        return files
    return {**files, **{name: export_architecture(name, folder) for name in names}}


def make_zoo(folder: Path) -> dict[str, Path]:
    files = {}
    for name, (source, options, shape) in ZOO.items():
        files[name] = folder / f"zoo-{name}.onnx"
        if not files[name].is_file():
            model = build_model(source, options, input_shape=shape, classes=10, seed=0).eval()
            write_file(files[name], serialise_onnx(export_onnx(model, torch.rand(2, *shape), max_batch=8)))
    return files


def validate_reach(folder: Path) -> list[dict[str, Any]]:
    """The zoo on the host, from the committed measurements: by the phones' costs, and by costs of the architectures here."""
    with (RESULTS / "estimate_validation.csv").open() as file:
        measured = {r["model"]: float(r["measured_ms"]) for r in csv.DictReader(file) if r["place"] == "host"}
    works = read_anchor_models()
    known = {name: ms for name, ms in measured.items() if name in works}
    anchors, figures = [works[name] for name in known], list(known.values())
    rows = []
    for costs in (read_costs("arm"), fit_costs(anchors, figures, [0] * len(known), "host", find_cache_mb())):
        scale, smallest = find_scale(costs, anchors, figures), min(costs.relative(work) for work in anchors)
        for name, path in make_zoo(folder).items():
            relative = costs.relative(count_work(path))
            rows.append({
                "costs": costs.family, "model": name, "times_smaller": smallest / relative, "measured_ms": measured[name],
                "predicted_ms": scale * relative, "factor": scale * relative / measured[name],
            })  # fmt: skip
    return rows


def validate_host(files: dict[str, Path], runs: int) -> list[dict[str, Any]]:
    works = {name: count_work(path) for name, path in files.items()}
    measured = measure(files, runs)
    names = list(files)
    cache = find_cache_mb()
    rows = []
    for left in names:
        others = [name for name in names if name != left]
        costs = fit_costs([works[n] for n in others], [measured[n] for n in others], [0] * len(others), "host", cache)
        rows.append(predict("host", left, costs, works, {n: measured[n] for n in others}, measured[left]))
    return rows


def find_cache_mb() -> float | None:
    """The share of the host's last cache; None where it does not tell."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    known = [float(size[:-1]) / 1000 for size in sizes if size.endswith("K")]
    return max(known) * CACHE_SHARE if known else None


def measure(files: dict[str, Path], runs: int) -> dict[str, float]:
    """Medians of calls that take turns, so that a busy moment hits all models alike; one thread, batch 1, ms."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    sessions = {
        name: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for name, path in files.items()
    }
    generator = np.random.default_rng(0)
    inputs = {}
    for name, session in sessions.items():
        taken = session.get_inputs()[0]
        inputs[name] = {taken.name: generator.random([1, *taken.shape[1:]], np.float32)}
    samples: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(runs + 2):
        for name, session in sessions.items():
            calls, start = 0, time.perf_counter()
            while calls < 3 or time.perf_counter() - start < 0.02:
                session.run(None, inputs[name])
                calls += 1
            if turn >= 2:
                samples[name].append((time.perf_counter() - start) * 1000 / calls)
    return {name: float(np.median(values)) for name, values in samples.items()}


def validate_phones() -> list[dict[str, Any]]:
    works = read_anchor_models()
    phones = {}
    for name in list_resources("targets"):
        target = load_target(name)
        figures = {anchor.model: anchor.latency_ms for anchor in target.anchors if anchor.model in works}
        if len(figures) >= 5:
            phones[name] = (figures, target.anchors[0].precision)
    rows = []
    for left, (figures, _) in phones.items():
        others = [name for name, (_, precision) in phones.items() if name != left and precision == "fp32"]
        known = [(works[m], ms, number) for number, name in enumerate(others) for m, ms in phones[name][0].items()]
        costs = fit_costs(*map(list, zip(*known, strict=True)), "arm")
        for model, latency in figures.items():
            rest = {name: ms for name, ms in figures.items() if name != model}
            rows.append(predict(left, model, costs, works, rest, latency))
    return rows


def predict(
    place: str, model: str, costs: Costs, works: dict[str, Work], known: dict[str, float], measured: float
) -> dict[str, Any]:
    row: dict[str, Any] = {"place": place, "model": model, "tag": "estimated", "measured_ms": measured}
    for suffix, each in (("", costs), ("_by_macs", MMACS)):
        scale = find_scale(each, [works[name] for name in known], list(known.values()))
        predicted = scale * each.relative(works[model])
        row[f"predicted{suffix}_ms"] = predicted
        row[f"error{suffix}"] = predicted / measured - 1
    return row


def summarise(place: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    measured = [row["measured_ms"] for row in rows]
    found: dict[str, Any] = {"place": place, "models": len(rows)}
    for suffix in ("", "_by_macs"):
        predicted = [row[f"predicted{suffix}_ms"] for row in rows]
        found[f"rank_correlation{suffix}"] = float(spearmanr(predicted, measured).statistic)
        found[f"mean_error{suffix}"] = mean_error(predicted, measured)
        found[f"largest_factor{suffix}"] = largest_factor(predicted, measured)
    return found


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    lines = [",".join(columns)]
    for row in rows:
        lines.append(",".join(f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns))
    write_file(path, "\n".join(lines) + "\n")
    assert len(list(csv.reader(path.open()))) == len(rows) + 1


if __name__ == "__main__":
    main()
