"""From a run to a bundle: fold, export, sparsify last, reload what was written, hold it against eager."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sctool import __version__
from sctool.atomic import new_directory, refuse_existing, write_file
from sctool.data.source import load_dataset
from sctool.domain.target import Target, load_target
from sctool.errors import ArtifactError, ExportError
from sctool.export.executorch import export_pte, export_sparse_pte
from sctool.export.fold import fold_batch_norm
from sctool.export.manifest import FILE as MANIFEST
from sctool.export.manifest import (
    BackendEntry,
    FileEntry,
    LayerEntry,
    Manifest,
    ParityEntry,
    TensorEntry,
    write_manifest,
)
from sctool.export.onnx import export_onnx, serialise_onnx, sparsify_onnx
from sctool.export.parity import compare_logits
from sctool.export.sizes import gzip_size
from sctool.native.costs import load_costs
from sctool.runtimes.eager import EagerSession
from sctool.runtimes.registry import open_session
from sctool.workflows.kernels import target_isa
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.run_directory import DENSE, MASKS, Run, load_run_model, read_run, read_split, read_tensors

PARITY_RECORDS = 512
ANY_BATCH = 2**20
ONNX_FILE, PTE_FILE = "model.onnx", "model.pte"
PTE_NOTE = "XNNPACK stores and computes dense weights by its design: this file is as large as the dense model's"
SPARSE_NOTE = "stored sparse; the layers of `backends` run on their non-zeros alone, in the backend SctoolSparse"
ONNX_NOTE = "stored sparse, computed dense: ONNX Runtime unfolds the weights when it loads the file"


def export(
    run_path: Path,
    *,
    target: str | None = None,
    backend: Literal["xnnpack", "sparse"] | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    progress: Progress = ignore_progress,
) -> tuple[Path, dict[str, Any]]:
    """Write the bundle of a run for `target` (default: the run's config) and return its path and manifest.

    `backend` of the .pte: "sparse" puts the layers where that pays on our runtime (default: the config's, else what the
    target's delegate says). NativeRuntimeMissing where that is not built: what was written could not be loaded again.
    Raises ArtifactError for a damaged run, ConfigError for an unknown target, and ExportError where a model cannot be
    exported or where a written file, loaded again, does not answer as eager PyTorch does. Same run, same bytes.
    """
    run = read_run(run_path)
    settings = run.config.export
    device_target = load_target(target or settings.target)
    folder = output or run_path / "bundles" / device_target.name
    refuse_existing(folder, overwrite=overwrite, marker=MANIFEST)
    torch.set_num_threads(1)
    records = _parity_records(run)
    model = load_run_model(run)
    _check_zeros(run)
    reference = EagerSession(model).run(records)
    folded, note = fold_batch_norm(load_run_model(run))
    example = torch.from_numpy(records[:2])
    with new_directory(folder, overwrite=overwrite, marker=MANIFEST) as staging:
        progress(0, 4, "exporting ONNX")
        unpacked = export_onnx(folded, example, max_batch=ANY_BATCH)
        sparse, layers = sparsify_onnx(unpacked, settings.codec)
        dense_bytes = _dense_baseline_bytes(run, example)
        write_file(staging / ONNX_FILE, serialise_onnx(sparse))
        progress(1, 4, "exporting ExecuTorch")
        sparse_pte = (backend or settings.backend or device_target.delegate) == "sparse"
        content, backends = _export_pte(folded, example, settings.max_batch, device_target, sparse=sparse_pte)
        write_file(staging / PTE_FILE, content)
        progress(2, 4, "comparing with eager")
        parity = {name: _check_parity(run, staging / name, records, reference) for name in (ONNX_FILE, PTE_FILE)}
        files = {
            ONNX_FILE: _entry(
                staging / ONNX_FILE, "onnx", "onnxruntime", _codecs(layers), f"{ONNX_NOTE}. {note}".strip()
            ),
            PTE_FILE: _entry(
                staging / PTE_FILE,
                "pte",
                "executorch+sparse" if sparse_pte else "executorch+xnnpack",
                "rice" if sparse_pte else "dense",
                f"{SPARSE_NOTE if sparse_pte else PTE_NOTE}. {note}".strip(),
            ),
        }
        sizes = {
            "dense_onnx_bytes": len(dense_bytes),
            "gzip_dense_onnx_bytes": gzip_size(serialise_onnx(unpacked)),
            "onnx_bytes": files[ONNX_FILE].size_bytes,
            "pte_bytes": files[PTE_FILE].size_bytes,
        }
        manifest = _manifest(run, device_target.name, files, layers, sizes, parity, reference.shape[1], backends)
        write_manifest(staging, manifest)
        progress(4, 4, "exported")
    return folder, manifest.model_dump(mode="json")


def _export_pte(
    model: torch.nn.Module, example: torch.Tensor, max_batch: int, target: Target, *, sparse: bool
) -> tuple[bytes, list[BackendEntry]]:
    """The .pte, and which backend takes which layer and why."""
    if not sparse:
        return export_pte(model, example, max_batch=max_batch), []
    program = export_sparse_pte(model, example, max_batch=max_batch, costs=load_costs(target_isa(target)))
    entries = [
        BackendEntry(
            layer=choice.name.removeprefix("model."), backend=choice.backend, nnz=choice.nnz, reason=choice.reason,
            sparse_us=choice.sparse_us, dense_us=choice.dense_us, xnnpack_us=choice.xnnpack_us,
        )
        for choice in program.choices
    ]  # fmt: skip
    return program.content, entries


def _parity_records(run: Run) -> NDArray[np.float32]:
    """Up to PARITY_RECORDS real records: test and validation first, train where these are too few."""
    data = load_dataset(run.config.data.source, run.config.data.root)
    split = read_split(run)
    rows = np.concatenate([split["test"], split["validation"], split["train"]])[:PARITY_RECORDS]
    if len(data.x) <= rows.max() or list(data.x.shape[1:]) != list(run.summary["data"]["input_shape"]):
        raise ArtifactError(f"The data {run.config.data.source!r} are not those of {run.path}.", hint="Restore them.")
    records: NDArray[np.float32] = data.x[rows]
    return records


def _check_zeros(run: Run) -> None:
    """Every weight outside the run's masks must be zero: what ships is what was selected."""
    weights, masks = read_tensors(run.path / "model.safetensors"), read_tensors(run.path / MASKS)
    for name, mask in masks.items():
        if name not in weights or weights[name].shape != mask.shape or bool(weights[name][~mask.bool()].any()):
            raise ArtifactError(
                f"{run.path}: weight {name!r} does not fit its mask.", hint="Run `sctool compress` again."
            )


def _dense_baseline_bytes(run: Run, example: torch.Tensor) -> bytes:
    folded, _ = fold_batch_norm(load_run_model(run, DENSE))
    return serialise_onnx(export_onnx(folded, example, max_batch=ANY_BATCH))


def _check_parity(run: Run, path: Path, records: NDArray[np.float32], reference: NDArray[np.float32]) -> ParityEntry:
    settings = run.config.export
    parity = compare_logits(reference, open_session(path).run(records))
    if not parity.holds(settings.parity_max_abs_error, settings.parity_min_top1_agreement):
        raise ExportError(
            f"{path.name} lost parity with eager on {parity.records} records: max abs error {parity.max_abs_error:.3g} "
            f"(limit {settings.parity_max_abs_error:g}), top-1 agreement {parity.top1_agreement:.4f} "
            f"(limit {settings.parity_min_top1_agreement:g}).",
            hint="Nothing was written; try export.codec = 'dense' to see which step changes the answers.",
        )
    return ParityEntry(**vars(parity))


def _codecs(layers: list[LayerEntry]) -> str:
    return "+".join(sorted({layer.codec for layer in layers}))


def _entry(path: Path, kind: Any, runtime: str, codec: str, note: str) -> FileEntry:
    content = path.read_bytes()
    return FileEntry(
        sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), format=kind, runtime=runtime,
        precision="float32", codec=codec, note=note,
    )  # fmt: skip


def _manifest(
    run: Run, target: str, files: dict[str, FileEntry], layers: list[LayerEntry], sizes: dict[str, int],
    parity: dict[str, ParityEntry], classes: int, backends: list[BackendEntry],
) -> Manifest:  # fmt: skip
    data = run.summary["data"]
    return Manifest(
        tool_versions={
            "sctool": __version__,
            **{n: version(n) for n in ("torch", "onnx", "onnxruntime", "executorch")},
        },
        target=target,
        run_sha256=run.sha256,
        files=files,
        input=TensorEntry(name="input", dtype="float32", shape=[None, *data["input_shape"]]),
        output=TensorEntry(name="logits", dtype="float32", shape=[None, classes]),
        max_batch=run.config.export.max_batch,
        normalisation=data["normalisation"],
        labels=data["labels"],
        data={"source": run.config.data.source, "records": data["records"], "input_shape": data["input_shape"]},
        split=run.summary["split"],
        layers=layers,
        backends=backends,
        density=run.summary["density"],
        sizes=sizes,
        parity=parity,
    )
