"""Measures what layers take in the sparse runtime and in XNNPACK, and writes native/costs/ISA.toml.

    python benchmarks/runtime_costs.py            # the fastest instruction set of this processor
    python benchmarks/runtime_costs.py avx2

Ours: the runner's own clock on programs of one layer, the least of many runs (a busy machine only ever adds). A sparse
layer is measured at two densities, from which the time of a multiply-accumulate and of an input follow. XNNPACK: the
call of a program of one layer, less that of an empty one, the least of many runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sctool.atomic import write_file
from sctool.export.executorch import export_pte
from sctool.export.sparse.graph import Graph, Kind, Operator, Storage, Window
from sctool.export.sparse.payload import write_payload
from sctool.native.build import build_library, find_runner
from sctool.native.library import host_isa
from sctool.profiling.machine import cpu_model
from sctool.quiet import silence, silence_native

FOLDER = Path(__file__).resolve().parents[1] / "toolchain" / "sctool" / "native" / "costs"
DENSITIES = (0.05, 0.25)
SPATIAL = ((256, 4), (256, 8), (128, 16), (64, 32), (32, 64))
POINTWISE = ((512, 4), (384, 6), (256, 12), (128, 24), (64, 48))
DEPTHWISE = ((512, 4), (384, 6), (256, 12), (128, 24), (64, 48))
LINEAR = 512
RUNS = 200


def one_layer(kind: Kind, channels: int, side: int, kernel: int, groups: int, density: float | None) -> Graph:
    """A program of one layer, as wide behind it as before it; density None: stored dense."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((channels, channels // groups * kernel * kernel), np.float32)
    if density is not None:
        weights *= rng.random(weights.shape) < density
    shape = (channels,) if kind is Kind.LINEAR else (channels, side, side)
    graph = Graph(1)
    graph.inputs, graph.outputs = [graph.add_value(shape)], [graph.add_value(shape)]
    window = Window(kernel, kernel, 1, *[kernel // 2] * 4) if kind is Kind.CONVOLUTION else None
    storage = Storage.DENSE if density is None else Storage.SPARSE
    graph.operators.append(Operator(kind, (0,), 1, window=window, groups=groups, weights=weights, storage=storage))
    return graph


def ours_ns(kind: Kind, channels: int, side: int, kernel: int, groups: int, density: float | None, isa: str) -> float:
    """The fastest run of one layer."""
    graph = one_layer(kind, channels, side, kernel, groups, density)
    with tempfile.NamedTemporaryFile(suffix=".scsp") as file:
        Path(file.name).write_bytes(write_payload(graph))
        command = [str(find_runner()), "--model", file.name, "--isa", isa, "--steps", "yes"]
        reply = subprocess.run([*command, "--iterations", str(RUNS)], capture_output=True, text=True, check=True)
    return float(json.loads(reply.stdout)["step_ns"][0])


def least_ns(call: Callable[[], object]) -> float:
    call()
    best = float("inf")
    for _ in range(RUNS):
        began = time.perf_counter_ns()
        call()
        best = min(best, time.perf_counter_ns() - began)
    return best


def xnnpack_ns(layer: nn.Module, shape: tuple[int, ...]) -> float:
    with silence():
        from executorch.extension.pybindings import _portable_lib as bindings
    content = export_pte(layer.eval(), torch.zeros(2, *shape), max_batch=4).program
    with silence_native():
        bindings._unsafe_reset_threadpool(1)
        module = bindings._load_for_executorch_from_buffer(content)
        x = torch.randn(1, *shape)
        return least_ns(lambda: module.forward((x,)))


def sparse_row(kind: Kind, channels: int, side: int, kernel: int, isa: str) -> list[float]:
    """[output pixels, ns of a multiply-accumulate, ns of an input and kernel column]."""
    pixels = 1 if kind is Kind.LINEAR else side * side
    low, high = (ours_ns(kind, channels, side, kernel, 1, density, isa) for density in DENSITIES)
    size = channels * channels * kernel * kernel * pixels
    per_mac = max((high - low) / (size * (DENSITIES[1] - DENSITIES[0])), 1e-5)
    per_input = max(low - per_mac * size * DENSITIES[0], 0.0) / (channels * pixels * kernel)
    return [pixels, per_mac, per_input]


def measure(isa: str) -> dict[str, list[list[float]]]:
    """Table name -> rows."""
    rows: dict[str, list[list[float]]] = {name: [] for name in (
        "sparse_linear", "sparse_spatial", "sparse_pointwise", "dense_linear", "dense_spatial", "dense_pointwise",
        "dense_depthwise", "xnnpack_linear", "xnnpack_spatial", "xnnpack_pointwise", "xnnpack_depthwise",
    )}  # fmt: skip
    empty = xnnpack_ns(nn.Linear(4, 4), (4,))
    rows["sparse_linear"].append(sparse_row(Kind.LINEAR, LINEAR, 1, 1, isa))
    rows["dense_linear"].append([1, ours_ns(Kind.LINEAR, LINEAR, 1, 1, 1, None, isa) / LINEAR**2, 0.0])
    rows["xnnpack_linear"].append([1, (xnnpack_ns(nn.Linear(LINEAR, LINEAR), (LINEAR,)) - empty) / LINEAR**2, 0.0])
    for name, sizes, kernel in (("spatial", SPATIAL, 3), ("pointwise", POINTWISE, 1), ("depthwise", DEPTHWISE, 3)):
        for channels, side in sizes:
            groups = channels if name == "depthwise" else 1
            macs = channels * channels // groups * kernel * kernel * side * side
            if groups == 1:
                rows[f"sparse_{name}"].append(sparse_row(Kind.CONVOLUTION, channels, side, kernel, isa))
            dense = ours_ns(Kind.CONVOLUTION, channels, side, kernel, groups, None, isa)
            rows[f"dense_{name}"].append([side * side, dense / macs, 0.0])
            layer = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups)
            there = max(xnnpack_ns(layer, (channels, side, side)) - empty, 1.0)
            rows[f"xnnpack_{name}"].append([side * side, there / macs, 0.0])
    return rows


def main() -> None:
    torch.set_num_threads(1)
    build_library()
    isa = sys.argv[1] if len(sys.argv) > 1 else host_isa()
    rows = measure(isa)
    note = ""
    if (
        isa == "avx2" and host_isa() == "avx512"
    ):  # XNNPACK takes the widest that it finds: its kernels there are not these
        note = "; XNNPACK's convolutions are those of AVX-512, times two"
        for name in ("xnnpack_spatial", "xnnpack_pointwise"):
            rows[name] = [[pixels, 2 * mac, each] for pixels, mac, each in rows[name]]
    lines = [
        "# Written by benchmarks/runtime_costs.py. Rows: output pixels, ns of a multiply-accumulate, ns of an input.",
        f'isa = "{isa}"', f'measured_on = "{cpu_model()}, one thread, batch 1{note}"',
        "# Assumed, not measured: a call of another backend, and each float of a value that crosses.",
        "boundary_ns = 1000.0", "boundary_ns_per_float = 0.3", "", "[rows]",
    ]  # fmt: skip
    for name, table in rows.items():
        inner = ", ".join(f"[{int(pixels)}, {mac:.5f}, {each:.4f}]" for pixels, mac, each in table)
        lines.append(f"{name} = [{inner}]")
    write_file(FOLDER / f"{isa}.toml", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
