"""Sparse storage against the bound and its peers: bytes, load, run and memory by scheme, model and density.

Masks are ERK's, values normal (He). Bytes are exact. CPU time of making a session and peak memory come from a process each,
run time from sessions that take turns in one process; all are medians over interleaved rounds on one thread, loads in an
order drawn anew for each round, and ratios are to the dense file of the same weights. Memory is given twice: of the whole
process, and over what it had before the session.

    python benchmarks/storage.py [--rounds 11] [--models mlp,resnet18,encoder] [--densities 0.05,0.1,0.2]

Writes results/storage.csv, row by row; what is there already is not measured again (--fresh begins anew).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import lzma
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy reads it; processes inherit it
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as sctool sets it: imported below, before that

import numpy as np
import onnx
import onnxruntime
import torch
import zstandard
from torch import Tensor, nn

from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.export.sizes import bound_size
from sctool.export.sparsify import Storage, sparsify_onnx
from sctool.models.resnet import ResNet18
from sctool.models.tabular import Mlp
from sctool.sparsity.density import allocate_erk
from sctool.sparsity.topology import random_masks

RESULTS = Path(__file__).parent / "results" / "storage.csv"
CALLS, OPENINGS = 20, 4
SCHEMES: dict[str, Storage] = {
    "auto": Storage("auto"), "small": Storage("small"), "fast": Storage("fast"), "ort": Storage("ort"),
    "rice": Storage("rice"), "rice+split": Storage("rice", "split"), "pfor": Storage("pfor"), "rows": Storage("rows"),
    "rows+split": Storage("rows", "split"), "gap8": Storage("gap8"),
    "bitmask": Storage("bitmask"), "coo": Storage("coo"), "rice+float16": Storage("rice", "float16"),
    "rice+int8": Storage("rice", "int8"), "rice+codebook256": Storage("rice", "codebook256"),
    "rice+codebook16": Storage("rice", "codebook16"),
}  # fmt: skip
COLUMNS = [
    "model", "density", "scheme", "bytes", "of_dense", "of_bound", "of_gzip9", "of_zstd19", "of_xz9", "load_cpu_ms",
    "load_cpu", "run", "peak_memory_mib", "peak_memory", "peak_memory_over_baseline",
]  # fmt: skip
LOADER = """
import sys, time
import onnxruntime
def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
before, began = peak(), time.process_time()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(time.process_time() - began, peak(), before)
"""


class Encoder(nn.Module):
    """Tokens [B, L] -> logits [B, C]: embedding, 4 pre-norm transformer blocks of width 256, mean, Linear."""

    def __init__(self, vocabulary: int = 8000, width: int = 256, length: int = 64, classes: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList([Block(width) for _ in range(4)])
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position
        for block in self.blocks:
            x = block(x)
        answer: Tensor = self.head(x.mean(1))
        return answer


class Block(nn.Module):
    """Attention of 4 heads and a feed-forward layer of four times the width, each beside a shortcut."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        y = self.before(x)
        scores = split(self.query(y)) @ split(self.key(y)).transpose(2, 3) / (width // self.heads) ** 0.5
        mixed = torch.softmax(scores, -1) @ split(self.value(y))
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        answer: Tensor = x + self.down(torch.relu(self.up(self.between(x))))
        return answer


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (lambda: Mlp((600,), 100, hidden=[1024, 512, 256, 128]), torch.zeros(2, 600)),
    "resnet18": (lambda: ResNet18((3, 32, 32), 10), torch.zeros(2, 3, 32, 32)),
    "encoder": (Encoder, torch.zeros(2, 64, dtype=torch.int64)),
}


def make_dense(name: str, density: float) -> onnx.ModelProto:
    """The model's ONNX with every zero written out."""
    build, example = MODELS[name]
    torch.manual_seed(0)
    model = build()
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1 and n != "position"}
    counts = allocate_erk({n: tuple(w.shape) for n, w in weights.items()}, density, {})
    shapes = {n: tuple(w.shape) for n, w in weights.items()}
    masks = random_masks(shapes, counts, torch.Generator().manual_seed(0))
    for n, weight in weights.items():
        nn.init.kaiming_normal_(weight.data)
        weight.data.masked_fill_(~masks[n], 0.0)
    folded, _ = fold_batch_norm(model)
    return export_onnx(folded, example, max_batch=2**20)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure_loads(paths: dict[str, Path], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Scheme -> (CPU seconds, peak MiB, peak MiB over the process's before), medians; every load in its own process."""
    found: dict[str, list[list[float]]] = {scheme: [] for scheme in paths}
    order = list(paths)
    for turn in range(rounds):
        random.Random(turn).shuffle(order)  # what ran before moves a load by some percent
        for scheme in order:
            done = subprocess.run(
                [sys.executable, "-c", LOADER, str(paths[scheme])], capture_output=True, text=True, check=True
            )
            cpu, peak, before = map(float, done.stdout.split())
            found[scheme].append([cpu, peak, peak - before])
    return {scheme: tuple(np.median(rows, axis=0)) for scheme, rows in found.items()}  # type: ignore[misc]


def measure_runs(paths: dict[str, Path], example: Tensor, rounds: int) -> dict[str, float]:
    """Scheme -> median over rounds of the ratio to dense of the same round; CPU time of CALLS calls, batch 1.

    Where the allocator happened to put a session's weights moves its calls by some percent: so sessions are opened OPENINGS
    times, in an order drawn anew, as is the order of each round.
    """
    x = example[:1].numpy()
    ratios: dict[str, list[float]] = {scheme: [] for scheme in paths}
    order = list(paths)
    for opening in range(OPENINGS):
        draw = random.Random(opening)
        draw.shuffle(order)
        sessions = {scheme: open_session(paths[scheme]) for scheme in order}
        for number in range(-(-rounds // OPENINGS) + 1):
            draw.shuffle(order)
            times = {}
            for scheme in order:
                session = sessions[scheme]
                name = session.get_inputs()[0].name
                began = time.process_time()
                for _ in range(CALLS):
                    session.run(None, {name: x})
                times[scheme] = time.process_time() - began
            if number:
                for scheme, seconds in times.items():
                    ratios[scheme].append(seconds / times["dense"])
    return {scheme: statistics.median(values) for scheme, values in ratios.items()}


def measure(name: str, density: float, rounds: int) -> list[dict[str, object]]:
    """One row a scheme."""
    dense = make_dense(name, density)
    content = serialise_onnx(dense)
    packers = {
        "gzip9": len(gzip.compress(content, 9, mtime=0)), "xz9": len(lzma.compress(content, preset=9)),
        "zstd19": len(zstandard.ZstdCompressor(level=19).compress(content)),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        paths = {"dense": Path(folder) / "dense.onnx"}
        paths["dense"].write_bytes(content)
        bounds = {}
        for scheme, storage in SCHEMES.items():
            packed = sparsify_onnx(dense, storage)
            paths[scheme] = Path(folder) / f"{scheme}.onnx"
            paths[scheme].write_bytes(serialise_onnx(packed.proto))
            bounds[scheme] = bound_size(content, packed.sizes)
        bounds["dense"] = bounds["rice"]
        loads = measure_loads(paths, rounds)
        runs = measure_runs(paths, MODELS[name][1], rounds)
        sizes = {scheme: path.stat().st_size for scheme, path in paths.items()}
    rows = [
        {
            "model": name, "density": density, "scheme": scheme, "bytes": size,
            "of_dense": size / sizes["dense"], "of_bound": size / bounds[scheme],
            **{f"of_{packer}": size / packed for packer, packed in packers.items()},
            "load_cpu_ms": 1000 * loads[scheme][0], "load_cpu": loads[scheme][0] / loads["dense"][0],
            "run": runs[scheme], "peak_memory_mib": loads[scheme][1],
            "peak_memory": loads[scheme][1] / loads["dense"][1],
            "peak_memory_over_baseline": loads[scheme][2] / loads["dense"][2],
        }
        for scheme, size in sizes.items()
    ]  # fmt: skip
    return [{key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--densities", default="0.05,0.1,0.2")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    if arguments.output.exists() and not arguments.fresh:
        with arguments.output.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    for name in arguments.models.split(","):
        for density in map(float, arguments.densities.split(",")):
            if any((row["model"], row["density"]) == (name, f"{density:.4f}") for row in rows):
                continue
            rows += measure(name, density, arguments.rounds)
            with arguments.output.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            print(f"{name} at density {density:g}: {arguments.output}", flush=True)


if __name__ == "__main__":
    main()
