"""ONNX Runtime with the sparse runtime's operator, against the same weights as dense ONNX and in a sparse .pte.

    python benchmarks/onnx_operator.py            # writes results/onnx_operator.csv; a minute on a quiet machine

One thread, float32; the three files take turns, and the median of 40 calls counts, each after one that is not timed.
Weights are random at uniform density: this measures time, not accuracy.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sctool.export.executorch import export_sparse_pte
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.export.sparse.onnx import export_sparse_onnx
from sctool.models.resnet import ResNet18
from sctool.native.costs import load_costs
from sctool.native.library import host_isa
from sctool.profiling.machine import cpu_model
from sctool.runtimes.registry import open_session

RESULT = Path(__file__).resolve().parent / "results" / "onnx_operator.csv"
WIDTHS = (600, 1024, 512, 256, 128, 100)
DENSITIES = (0.05, 0.1, 0.2)
CALLS = 40
MAX_BATCH = 64


class FeedForward(nn.Module):
    """Four pre-norm feed-forward blocks of a text model over 64 tokens."""

    def __init__(self, width: int = 256, blocks: int = 4) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.ups = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(blocks))
        self.downs = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(blocks))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        for norm, up, down in zip(self.norms, self.ups, self.downs, strict=True):
            x = x + down(functional.gelu(up(norm(x))))
        logits: Tensor = self.head(x.mean(1))
        return logits


def build_mlp() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in zip(WIDTHS, WIDTHS[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


CASES: list[tuple[str, Callable[[], nn.Module], tuple[int, ...], int]] = [
    ("mlp", build_mlp, WIDTHS[:1], 1),
    ("mlp", build_mlp, WIDTHS[:1], 64),
    ("resnet18", lambda: ResNet18((3, 32, 32), 10), (3, 32, 32), 1),
    ("feed_forward", FeedForward, (64, 256), 1),
]


def thin_out(model: nn.Module, density: float) -> nn.Module:
    """Every weight at `density`, of a size that keeps activations; BatchNorm folded."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            mask = torch.rand(parameter.shape) < density
            parameter.data = torch.randn(parameter.shape) * mask * (2 / (parameter[0].numel() * density)) ** 0.5
            parameter.data += 0.0
    return fold_batch_norm(model.eval())[0]


def measure(model: nn.Module, shape: tuple[int, ...], batch: int, folder: Path) -> dict[str, float]:
    """File -> microseconds of a call, and the share of the dense file's bytes."""
    example, costs = torch.randn(2, *shape), load_costs(host_isa())
    contents = {
        "dense.onnx": serialise_onnx(export_onnx(model, example, max_batch=2**20)),
        "sparse.onnx": serialise_onnx(export_sparse_onnx(model, example, max_batch=MAX_BATCH, costs=costs).proto),
        "sparse.pte": export_sparse_pte(model, example, max_batch=MAX_BATCH, costs=costs).content,
    }
    sessions = {}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        sessions[name] = open_session(folder / name)
    x = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(CALLS):
        for name, session in sessions.items():
            session.run(x)
            began = time.perf_counter()
            session.run(x)
            times[name].append(time.perf_counter() - began)
    found = {f"{name}_us": round(1e6 * float(np.median(values)), 1) for name, values in times.items()}
    return {**found, "size_share": round(len(contents["sparse.onnx"]) / len(contents["dense.onnx"]), 4)}


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory(prefix="sctool-operator-") as folder:
        for name, build, shape, batch in CASES:
            for density in DENSITIES:
                row = measure(thin_out(build(), density), shape, batch, Path(folder))
                faster = round(row["dense.onnx_us"] / row["sparse.onnx_us"], 2)
                rows.append({"model": name, "batch": batch, "density": density, **row, "times_as_fast": faster})
                print(rows[-1], flush=True)
    with RESULT.open("w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {cpu_model()}, {host_isa()}, one thread\n")
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
