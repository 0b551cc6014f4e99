"""Sparse storage against its nearest peers: the dense file, and the dense file gzipped and unpacked before loading.

Size is exact. Times are medians over interleaved rounds, in one process, one thread; ratios are to the dense file of
the same weights in the same round.
"""

from __future__ import annotations

import gzip
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from sctool.export.onnx import export_onnx, serialise_onnx, sparsify_onnx
from sctool.sparsity.density import allocate_erk
from sctool.sparsity.topology import magnitude_masks

WIDTHS = (784, 1024, 1024, 10)
DENSITIES = (0.02, 0.05, 0.1, 0.2)
ROUNDS = 15
CALLS = 200


def make_model(density: float) -> nn.Module:
    """An MLP with random weights, the largest kept, as an ERK-sparse model has them."""
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in zip(WIDTHS, WIDTHS[1:], strict=False)]
    weights = {str(i): layer.weight.detach() for i, layer in enumerate(layers)}
    masks = magnitude_masks(weights, allocate_erk({n: tuple(w.shape) for n, w in weights.items()}, density, {}))
    for i, layer in enumerate(layers):
        layer.weight.data.masked_fill_(~masks[str(i)], 0.0)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def make_session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def median_latency(session: onnxruntime.InferenceSession, x: np.ndarray) -> float:
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        session.run(None, {"input": x})
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(density: float) -> dict[str, tuple[int, float, float]]:
    """Name -> (bytes, load seconds, latency seconds)."""
    dense = export_onnx(make_model(density), torch.zeros(2, WIDTHS[0]), max_batch=2**20)
    dense_bytes = serialise_onnx(dense)
    packed = gzip.compress(dense_bytes, 9, mtime=0)
    sparse_bytes = serialise_onnx(sparsify_onnx(dense, "auto")[0])
    loaders: dict[str, tuple[int, Callable[[], onnxruntime.InferenceSession]]] = {
        "dense": (len(dense_bytes), lambda: make_session(dense_bytes)),
        "dense, gzip -9": (len(packed), lambda: make_session(gzip.decompress(packed))),
        "sctool": (len(sparse_bytes), lambda: make_session(sparse_bytes)),
    }
    x = np.random.default_rng(0).random((1, WIDTHS[0]), np.float32)
    loads: dict[str, list[float]] = {name: [] for name in loaders}
    latencies: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(ROUNDS):
        for name, (_, load) in loaders.items():
            began = time.perf_counter()
            session = load()
            loads[name].append(time.perf_counter() - began)
            latencies[name].append(median_latency(session, x))
    return {
        name: (size, statistics.median(loads[name]), statistics.median(latencies[name]))
        for name, (size, _) in loaders.items()
    }


def main() -> None:
    table = Table(title=f"MLP {'-'.join(map(str, WIDTHS))}, host, one thread, {ROUNDS} interleaved rounds")
    for column in ("density", "file", "size kB", "of dense", "load ms", "to dense", "latency ms", "to dense"):
        table.add_column(column, justify="right")
    for density in DENSITIES:
        results = measure(density)
        base = results["dense"]
        for name, (size, load, latency) in results.items():
            table.add_row(
                f"{density:g}", name, f"{size / 1000:,.1f}", f"{size / base[0]:.3f}", f"{1000 * load:.2f}",
                f"{load / base[1]:.2f}", f"{1000 * latency:.4f}", f"{latency / base[2]:.2f}",
            )  # fmt: skip
        table.add_section()
    Console(width=100, file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
