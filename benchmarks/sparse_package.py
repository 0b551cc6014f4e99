"""ExecuTorch: the sparse package against the dense .pte and what a user would do by hand, gzip -9, zstd -19 and xz -9.

    python benchmarks/sparse_package.py                 # about ten minutes; goes on where it was stopped
    python benchmarks/sparse_package.py --smoke         # one small cell
    python benchmarks/sparse_package.py --loads         # the times of loading alone, anew, of the cells that are there

Sizes are exact. `bound`: n * H(density) bits of position and the whole of each value that is not zero, tensor by tensor, and
everything else of the program. Times are CPU times, medians over interleaved rounds in one process with one thread, ratios
to the dense .pte of the same weights; a package is decoded by the native library where that is built, and, in a column of
its own, by numpy; memory is the peak of a process that loads and runs the file, less its baseline.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import lzma
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import zstandard
from torch import Tensor, nn
from torch.nn import functional

from sctool.domain.artifact import Precision
from sctool.export.executorch import export_pte
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.formats.blob import decode_blob_into
from sctool.formats.pte import read_program
from sctool.formats.spte import pack, read_spte
from sctool.models.build import build_model
from sctool.profiling.host import profile_on_host
from sctool.runtimes.registry import open_session
from sctool.sparsity.density import allocate_erk
from sctool.sparsity.topology import magnitude_masks

RESULTS = Path(__file__).resolve().parent / "results" / "sparse_package.csv"
OPENER = "sctool.runtimes.registry:open_session"
ROUNDS, CALLS = 7, 15
MAX_BATCH = 8
COLUMNS = [
    "model", "density", "precision", "pte_bytes", "spte_bytes", "gzip_9_bytes", "xz_9_bytes", "zstd_19_bytes",
    "bound_bytes", "spte_to_bound", "spte_to_pte", "spte_to_gzip_9", "spte_to_xz_9", "spte_to_zstd_19",
    "load_cpu_spte_to_pte", "load_cpu_numpy_to_pte", "load_cpu_gzip_to_pte", "load_cpu_pte_ms",
    "run_cpu_spte_to_pte", "peak_memory_spte_to_pte",
]  # fmt: skip
CELLS: list[tuple[str, float, Precision]] = [
    *((model, density, "float32") for model in ("mlp", "text", "resnet18") for density in (0.05, 0.1, 0.2)),
    *((model, 0.1, precision) for model in ("mlp", "text", "resnet18") for precision in ("float16", "int8")),
]  # type: ignore[list-item]


class TextEncoder(nn.Module):
    """Two pre-norm transformer layers over 4,000 words, 32 a record."""

    def __init__(self, words: int = 4000, width: int = 256, classes: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.mix = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.words(x.long())
        for i in range(2):
            q, k, v = self.mix[i](self.norms[2 * i](h)).chunk(3, -1)
            h = h + self.out[i](torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v)
            h = h + self.down[i](functional.relu(self.up[i](self.norms[2 * i + 1](h))))
        logits: Tensor = self.last(h.mean(1))
        return logits


def make_model(name: str, density: float) -> tuple[nn.Module, Tensor]:
    """(model with ERK masks over its random weights, the largest kept, records [16, ...])."""
    torch.manual_seed(0)
    if name == "mlp":
        shape, model = (
            (600,),
            build_model("mlp", {"hidden": [1024, 512, 256, 128]}, input_shape=(600,), classes=100, seed=0),
        )
    elif name == "resnet18":
        shape, model = (3, 32, 32), build_model("resnet18", {}, input_shape=(3, 32, 32), classes=10, seed=0)
    else:
        shape, model = (32,), TextEncoder()
    weights = {key: p.detach() for key, p in model.named_parameters() if p.ndim > 1}
    masks = magnitude_masks(weights, allocate_erk({n: tuple(w.shape) for n, w in weights.items()}, density, {}))
    for key, parameter in model.named_parameters():
        if key in masks:
            parameter.data.masked_fill_(~masks[key], 0.0)
    records = torch.randint(0, 4000, (16, *shape)).float() if name == "text" else torch.rand(16, *shape)
    return fold_batch_norm(model)[0].eval(), records


def compute_bound(program: bytes) -> float:
    """Bytes that positions at their entropy and whole values take, and all that is no tensor."""
    total = float(len(program))
    for weight in read_program(program, "the program").weights:
        kind = {"float32": np.uint32, "float16": np.uint16, "int8": np.uint8}.get(weight.dtype)
        if kind is None or weight.data is None:
            continue
        words = np.frombuffer(weight.data, kind)
        share = np.count_nonzero(words) / max(len(words), 1)
        entropy = 0.0 if share in (0.0, 1.0) else -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
        total += entropy * len(words) / 8 + np.count_nonzero(words) * words.itemsize - words.nbytes
    return float(total)


def median_cpu(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Name -> CPU seconds, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(found) for name, found in times.items()}


def load_without_library(path: Path) -> object:
    """The session, its blocks decoded by numpy."""
    with mock.patch("sctool.runtimes.executorch.find_decoder", lambda: decode_blob_into):
        return open_session(path)


def time_loads(dense: Path, sparse: Path, zipped: bytes, rounds: int) -> dict[str, float]:
    """The columns of loading."""

    def load_zipped() -> object:
        (dense.parent / "unzipped.pte").write_bytes(gzip.decompress(zipped))
        return open_session(dense.parent / "unzipped.pte")

    calls = {
        "pte": lambda: open_session(dense), "spte": lambda: open_session(sparse),
        "numpy": lambda: load_without_library(sparse), "gzip": load_zipped,
    }  # fmt: skip
    median_cpu(calls, 1)
    loads = median_cpu(calls, rounds)
    return {
        "load_cpu_spte_to_pte": round(loads["spte"] / loads["pte"], 3),
        "load_cpu_numpy_to_pte": round(loads["numpy"] / loads["pte"], 3),
        "load_cpu_gzip_to_pte": round(loads["gzip"] / loads["pte"], 3),
        "load_cpu_pte_ms": round(1000 * loads["pte"], 2),
    }


def measure_loads(name: str, density: float, precision: Precision, folder: Path, rounds: int) -> dict[str, float]:
    """Of one cell, without its other columns."""
    model, records = make_model(name, density)
    arguments = {"max_batch": MAX_BATCH, "precision": precision, "calibration": records}
    whole = export_pte(model, records[:2], **arguments).program  # type: ignore[arg-type]
    parts = export_pte(model, records[:2], apart=True, **arguments)  # type: ignore[arg-type]
    (folder / "model.pte").write_bytes(whole)
    (folder / "model.spte").write_bytes(pack(parts.program, parts.data))
    return time_loads(folder / "model.pte", folder / "model.spte", gzip.compress(whole, 9, mtime=0), rounds)


def measure(name: str, density: float, precision: Precision, folder: Path, rounds: int) -> dict[str, object]:
    model, records = make_model(name, density)
    arguments = {"max_batch": MAX_BATCH, "precision": precision, "calibration": records}
    whole = export_pte(model, records[:2], **arguments).program  # type: ignore[arg-type]
    parts = export_pte(model, records[:2], apart=True, **arguments)  # type: ignore[arg-type]
    packed = pack(parts.program, parts.data)
    assert read_spte(packed, "the package").unpack_data() == parts.data
    dense, sparse, zipped = folder / "model.pte", folder / "model.spte", gzip.compress(whole, 9, mtime=0)
    dense.write_bytes(whole)
    sparse.write_bytes(packed)
    sessions = {"dense": open_session(dense), "sparse": open_session(sparse)}
    one = records[:1].numpy()
    assert all((session.run(one) == sessions["dense"].run(one)).all() for session in sessions.values())
    runs = median_cpu({key: lambda s=s: [s.run(one) for _ in range(CALLS)] for key, s in sessions.items()}, rounds)
    np.save(folder / "input.npy", one)
    peaks = {}
    for path in (dense, sparse):
        found = profile_on_host(
            path, path.suffix[1:], opener=OPENER, input_path=folder / "input.npy", repeats=1, iterations=1, warm_up=2
        )  # type: ignore[arg-type]
        peaks[path.suffix] = found.peak_memory_mib - found.baseline_memory_mib
    bound = compute_bound(whole)
    sizes = {
        "pte": len(whole), "spte": len(packed), "gzip_9": len(zipped), "xz_9": len(lzma.compress(whole, preset=9)),
        "zstd_19": len(zstandard.ZstdCompressor(level=19).compress(whole)),
    }  # fmt: skip
    return {
        "model": name, "density": density, "precision": precision, **{f"{key}_bytes": n for key, n in sizes.items()},
        "bound_bytes": round(bound), "spte_to_bound": round(len(packed) / float(bound), 4),
        **{f"spte_to_{key}": round(len(packed) / n, 4) for key, n in sizes.items() if key != "spte"},
        **time_loads(dense, sparse, zipped, rounds),
        "run_cpu_spte_to_pte": round(runs["sparse"] / runs["dense"], 3),
        "peak_memory_spte_to_pte": round(peaks[".spte"] / peaks[".pte"], 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--loads", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = CELLS[1:2] if options.smoke else CELLS
    rows = list(csv.DictReader(options.output.open())) if options.output.exists() and not options.smoke else []
    by_cell = {(row["model"], float(row["density"]), row["precision"]): row for row in rows}
    for cell in cells:
        if (cell in by_cell) != options.loads:
            continue
        with tempfile.TemporaryDirectory() as folder:
            measure_cell = measure_loads if options.loads else measure
            row = measure_cell(*cell, Path(folder), 2 if options.smoke else ROUNDS)
        print(cell, row, flush=True)
        if not options.loads:
            rows.append({})
        by_cell.setdefault(cell, rows[-1]).update({key: str(value) for key, value in row.items()})
        if not options.smoke:
            with options.output.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
