"""Sparse execution against the fastest dense runtime, and against what the processor could do: results/runtime.csv.

    make bench-runtime                       # all rows, about ten minutes on a quiet machine
    python benchmarks/runtime.py mlp         # the rows whose name begins so; the others stay as they are

One process, one thread. Of each row ONNX Runtime, XNNPACK and the sparse .pte take turns, called from Python as a user
calls them, RUNS times; figures are medians, the speed-up is against the faster of the two dense ones. A turn is several
calls in a row. The first finds the caches full of what the others left there, and is a figure of its own (`first_us`,
`first_speed_up`); the others are what a user who calls one model again and again gets (`sparse_us`, `speed_up`). Weights are
He's at the masks' fan-in, dense weights are the same model's before masking: run time does not depend on what was learnt.

"ideal" is the time of the multiply-accumulates of the non-zeros at the measured peak of this processor's multiply-adds;
`of_peak` what share of it the row reaches. `resident` is the weights' bytes in memory over 4 for each value and 2 for each
index of a non-zero, after a call of the row's batch.
results/runtime_layers.csv has each layer, results/runtime.svg the roofline.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import nn

from sctool.export.executorch import SparseProgram, export_pte, export_sparse_pte
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.models.mobilenet import MobileNetV2
from sctool.models.resnet import ResNet18
from sctool.models.tabular import Mlp
from sctool.native.build import build_library
from sctool.native.costs import load_costs
from sctool.native.library import PayloadSession, fma_peak, host_isa, read_bandwidth, register_backend
from sctool.quiet import silence, silence_native
from sctool.sparsity.cost import count_positions, measured_costs
from sctool.sparsity.density import DISTRIBUTIONS
from sctool.sparsity.topology import random_masks

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).resolve().parent / "results"
RUNS, CALLS, MAX_BATCH = 30, 20, 64
Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    model: str
    distribution: str
    density: float
    batch: int
    goal: float

    @property
    def name(self) -> str:
        return f"{self.model} {self.distribution} {self.density:g} batch {self.batch}"


CASES = [
    *(Case("resnet18", "uniform", d, 1, goal) for d, goal in ((0.05, 8.0), (0.1, 5.5), (0.2, 3.0))),
    *(Case("resnet18", "erk", d, 1, goal) for d, goal in ((0.05, 4.5), (0.1, 2.8), (0.2, 1.5))),
    Case("resnet18", "latency", 0.05, 1, 8.0),
    *(Case("mlp", "uniform", d, batch, goal) for d, batch, goal in
      ((0.05, 1, 5.5), (0.1, 1, 3.5), (0.05, 64, 6.0), (0.1, 64, 4.0))),
    Case("mobilenetv2", "pointwise", 0.1, 1, 2.5),
]  # fmt: skip
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (lambda: ResNet18((3, 32, 32), 10), (3, 32, 32)),
    "mlp": (lambda: Mlp((600,), 100, hidden=(1024, 512, 256, 128)), (600,)),
    "mobilenetv2": (lambda: MobileNetV2((3, 96, 96), 10), (3, 96, 96)),
}


def make_model(case: Case) -> nn.Module:
    """The model with the case's masks; BatchNorm folded."""
    torch.manual_seed(0)
    build, shape = MODELS[case.model]
    model = build()
    chosen = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and (case.distribution != "pointwise" or parameter.shape[2:] == (1, 1))
    }
    shapes = {name: tuple(parameter.shape) for name, parameter in chosen.items()}
    costs = measured_costs(model, shape, host_isa()) if case.distribution == "latency" else {}
    distribution = "uniform" if case.distribution == "pointwise" else case.distribution
    counts = DISTRIBUTIONS[distribution](shapes, case.density, costs)
    masks = random_masks(shapes, counts, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in chosen.items():
            fan_in = masks[name].flatten(1).sum(1).clamp(min=1).view(-1, *[1] * (parameter.ndim - 1))
            parameter.copy_(torch.randn(parameter.shape) * (2 / fan_in).sqrt()).mul_(masks[name]).add_(0.0)
    return fold_batch_norm(model)[0]


def make_dense(name: str) -> tuple[nn.Module, bytes, bytes]:
    """(model, ONNX bytes, .pte of XNNPACK)."""
    torch.manual_seed(0)
    build, shape = MODELS[name]
    model = fold_batch_norm(build())[0]
    example = torch.zeros(2, *shape)
    onnx = serialise_onnx(export_onnx(model, example, max_batch=MAX_BATCH))
    return model, onnx, export_pte(model, example, max_batch=MAX_BATCH).program


def load_seconds(load: Call) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        load()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def interleave(calls: dict[str, Call], inner: int) -> tuple[dict[str, float], dict[str, float]]:
    """Name -> seconds of a turn's first call, and of one of the `inner` calls after it: medians of RUNS turns."""
    firsts: dict[str, list[float]] = {name: [] for name in calls}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    for _ in range(RUNS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            second = time.perf_counter()
            for _ in range(inner):
                call()
            times[name].append((time.perf_counter() - second) / inner)
            firsts[name].append(second - began)
    return medians_of(firsts), medians_of(times)


def medians_of(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in found.items()}


def measure(
    case: Case, dense: tuple[nn.Module, bytes, bytes], peak: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the row, a row for each layer of the sparse runtime)."""
    import onnxruntime
    from executorch.extension.pybindings import _portable_lib as bindings

    shape = MODELS[case.model][1]
    model = make_model(case)
    sparse = export_sparse_pte(model, torch.zeros(2, *shape), max_batch=MAX_BATCH, costs=load_costs(host_isa()))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    _, onnx, pte = dense

    def load_pte(content: bytes) -> Any:
        module = bindings._load_for_executorch_from_buffer(content)
        module.method_meta("forward")
        module.forward((torch.zeros(1, *shape),))  # the program is loaded at the first call
        return module

    with silence_native():
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        ours, theirs = load_pte(sparse.content), load_pte(pte)
        loads = load_seconds(lambda: load_pte(sparse.content)), load_seconds(lambda: load_pte(pte))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(case.batch, *shape, generator=generator)
    feed = {"input": x.numpy()}
    expected = model(x).detach()
    error = float((ours.forward((x,))[0] - expected).abs().max() / expected.abs().max())
    firsts, seconds = interleave(
        {
            "sparse": lambda: ours.forward((x,)),
            "onnxruntime": lambda: session.run(None, feed),
            "xnnpack": lambda: theirs.forward((x,)),
        },
        CALLS,
    )
    positions = count_positions(model, shape)
    nonzero = {name: int(parameter.count_nonzero()) for name, parameter in model.named_parameters()}
    macs = sum(nonzero[name] * count for name, count in positions.items())
    all_macs = sum(dict(model.named_parameters())[name].numel() * count for name, count in positions.items())
    best, first = (min(found["onnxruntime"], found["xnnpack"]) for found in (seconds, firsts))
    weights = sum(resident_bytes(payload, case) for payload in sparse.payloads)
    ways = [choice.backend for choice in sparse.choices]
    stored = sum(6 * choice.nnz for choice in sparse.choices if choice.backend == "sparse")
    stored += sum(4 * math.prod(choice.shape) for choice in sparse.choices if choice.backend == "dense")
    row = {
        "model": case.model, "distribution": case.distribution, "density": case.density, "batch": case.batch,
        "sparse_us": round(1e6 * seconds["sparse"], 1), "onnxruntime_us": round(1e6 * seconds["onnxruntime"], 1),
        "xnnpack_us": round(1e6 * seconds["xnnpack"], 1), "speed_up": round(best / seconds["sparse"], 2),
        "goal": case.goal, "met": "yes" if best / seconds["sparse"] >= case.goal else "no",
        "first_us": round(1e6 * firsts["sparse"], 1), "first_speed_up": round(first / firsts["sparse"], 2),
        "mac_share": round(macs / all_macs, 4), "ideal_us": round(macs * case.batch / peak / 1000, 1),
        "of_peak": round(macs * case.batch / peak / 1e9 / seconds["sparse"], 3), "peak_gmacs": round(peak, 1),
        "isa": host_isa(), "layers_sparse": ways.count("sparse"), "layers_dense": ways.count("dense"),
        "layers_xnnpack": ways.count("xnnpack"), "pte_bytes": len(sparse.content), "dense_pte_bytes": len(pte),
        "load_ms": round(1000 * loads[0], 2), "xnnpack_load_ms": round(1000 * loads[1], 2),
        "load_ratio": round(loads[0] / loads[1], 2), "weight_bytes": weights, "resident": round(weights / max(stored, 1), 2),
        "error": f"{error:.1e}",
    }  # fmt: skip
    return row, measure_layers(case, sparse, macs)


def resident_bytes(payload: bytes, case: Case) -> int:
    """The weights' bytes after a call of the case's batch, in programs of one payload; else after loading."""
    session = PayloadSession(payload)
    if session.input_floats == [math.prod(MODELS[case.model][1])]:
        session.run([np.zeros((case.batch, *MODELS[case.model][1]), np.float32)])
    return session.weight_bytes


def measure_layers(case: Case, program: SparseProgram, macs: int) -> list[dict[str, Any]]:
    """Each step's own time, for programs that are one payload."""
    if len(program.payloads) != 1:
        return []
    session = PayloadSession(program.payloads[0])
    x = np.random.default_rng(0).standard_normal((case.batch, *MODELS[case.model][1])).astype(np.float32)
    session.run([x])
    session.time_steps()
    for _ in range(2 * RUNS):
        session.run([x])
    times = session.time_steps()
    return [
        {"case": case.name, "step": number, "us": round(ns / 1000, 2)} for number, ns in enumerate(times)
    ]  # fmt: skip


def read_rows(path: Path, key: Callable[[dict[str, str]], str], fresh: set[str]) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if key(row) not in fresh]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def case_name(row: dict[str, Any]) -> str:
    return Case(str(row["model"]), str(row["distribution"]), float(row["density"]), int(row["batch"]), 0).name


def draw_roofline(rows: list[dict[str, Any]], path: Path) -> None:
    """Multiply-accumulates a nanosecond over multiply-accumulates a byte of weights, under the peak of the arithmetic and
    under what one thread reads in a nanosecond from caches and memory."""
    figure, axis = plt.subplots(figsize=(7, 4.6))
    peak = float(rows[0]["peak_gmacs"])
    points = []
    for row in rows:
        macs = float(row["ideal_us"]) * 1000 * float(row["peak_gmacs"])
        points.append((macs / max(float(row["weight_bytes"]), 1.0), macs / float(row["sparse_us"]) / 1000))
        label = f"{row['model']} {row['distribution']} {row['density']}, batch {row['batch']}"
        axis.scatter(*points[-1], s=22, color="#1f5fa8")
        axis.annotate(label, points[-1], fontsize=6, xytext=(3, 3), textcoords="offset points")
    span = np.geomspace(min(x for x, _ in points) / 2, max(x for x, _ in points) * 4, 200)
    for label, gb in read_roofs().items():
        axis.plot(span, np.minimum(gb * span, peak), linewidth=1, label=f"weights from {label}: {gb:.0f} GB/s")
    axis.axhline(peak, color="#333", linewidth=1, label=f"multiply-adds: {peak:.0f} a nanosecond")
    axis.set(xscale="log", yscale="log", xlabel="multiply-accumulates a byte of resident weights",
             ylabel="multiply-accumulates a nanosecond", xlim=(span[0], span[-1]))  # fmt: skip
    axis.legend(fontsize=6, loc="lower right")
    figure.tight_layout()
    figure.savefig(path)


def read_roofs() -> dict[str, float]:
    """Where weights may lie -> bytes a nanosecond; measured once, kept in results/runtime_roofs.csv."""
    path = RESULTS / "runtime_roofs.csv"
    if not path.is_file():
        write_rows(path, [
            {"bytes": size, "gb_per_s": round(read_bandwidth(size), 1)}
            for size in (1 << 14, 1 << 19, 1 << 23, 1 << 28)
        ])  # fmt: skip
    with path.open(newline="") as file:
        found = [(int(row["bytes"]), float(row["gb_per_s"])) for row in csv.DictReader(file)]
    return {f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB": gb for size, gb in found}


def chosen_cases(prefixes: list[str]) -> Iterator[Case]:
    return (case for case in CASES if not prefixes or any(case.name.startswith(prefix) for prefix in prefixes))


def main() -> None:
    torch.set_num_threads(1)
    build_library()
    with silence():
        from executorch.extension.pybindings import _portable_lib as bindings
    with silence_native():
        bindings._unsafe_reset_threadpool(1)
    register_backend(bindings.__file__)
    peak = fma_peak()
    dense: dict[str, tuple[nn.Module, bytes, bytes]] = {}
    table, layer_table = RESULTS / "runtime.csv", RESULTS / "runtime_layers.csv"
    for case in chosen_cases(sys.argv[1:]):
        if case.model not in dense:
            dense[case.model] = make_dense(case.model)
        row, layers = measure(case, dense[case.model], peak)
        print(f"{case.name}: {row['sparse_us']} us, speed-up {row['speed_up']} (goal {case.goal:g})", flush=True)
        write_rows(table, [*read_rows(table, case_name, {case.name}), row])
        if layers:
            write_rows(layer_table, [*read_rows(layer_table, lambda found: found["case"], {case.name}), *layers])
    draw_roofline(read_rows(table, case_name, set()), RESULTS / "runtime.svg")


if __name__ == "__main__":
    main()
