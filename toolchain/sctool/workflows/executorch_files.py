"""The ExecuTorch files of a bundle: for each precision a program, and the same program as a sparse package."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sctool.atomic import write_file
from sctool.domain.artifact import ArtifactFormat, Precision
from sctool.domain.config import ExportConfig
from sctool.domain.target import Target
from sctool.errors import ExportError
from sctool.export.executorch import export_pte, export_sparse_pte
from sctool.export.manifest import BackendEntry, FileEntry
from sctool.export.sparse.choice import LayerChoice
from sctool.export.sparse.int8 import beats_dense_int8
from sctool.export.storage_rules import PACKAGE, SPARSE_BACKEND, XNNPACK, StorageRule
from sctool.formats.spte import MAX_UNPACKED, pack
from sctool.native.costs import load_costs
from sctool.workflows.kernels import target_isa

RUNTIME, SPARSE_RUNTIME = "executorch+xnnpack", "executorch+sparse"
PTE_NOTE = "XNNPACK stores and computes dense weights by its design: this file is as large as the dense model's"
SPARSE_NOTE = "stored sparse; the layers of `backends` run on their non-zeros alone, in the backend SctoolSparse"
QUANTISED_NOTE = (
    f"{SPARSE_NOTE}; the larger of these compute in int8, with a scale for each record and layer, the others in float32"
)
NOTHING_SPARSE_NOTE = "stored and computed dense by XNNPACK: in no layer do zeros save time, as `backends` says"
SPTE_NOTE = "the program beside it with its weights stored sparse; unpacked, byte for byte, when it is loaded"


def write_executorch(
    folder: Path,
    settings: ExportConfig,
    model: nn.Module,
    example: torch.Tensor,
    note: str,
    calibration: NDArray[np.float32],
    *,
    package: bool,
    sparse_for: Target | None = None,
) -> tuple[dict[str, FileEntry], list[BackendEntry]]:
    """Write the run's `model` into `folder` in every precision of `settings`, with `package` also as sparse packages; file
    name -> entry of the manifest. `calibration` [M, ...]: records that int8 takes its ranges from.

    With `sparse_for`, the float32 program puts the layers where that pays on that target on our sparse runtime, and the
    int8 one does where the target's processor has dot products for it; which backend takes which layer comes second.
    `note` goes with each file. Raises ExportError where the model cannot be exported or is over 2 GiB.
    """
    files: dict[str, FileEntry] = {}
    backends: list[BackendEntry] = []
    for precision in settings.precisions:
        arguments = {
            "max_batch": settings.max_batch,
            "precision": precision,
            "calibration": torch.from_numpy(calibration),
        }
        path = folder / name_file(precision, "pte")
        if sparse_for is not None and precision in _sparse_precisions(sparse_for):
            entry, choices = _write_sparse(path, settings, model, example, sparse_for, precision, note)
            backends += choices
            if entry is not None:
                files[path.name] = entry
                continue
        write_file(path, _checked(export_pte(model, example, **arguments).program))  # type: ignore[arg-type]
        entry = describe_file(path, "pte", RUNTIME, "dense", f"{PTE_NOTE}. {note}".strip(), XNNPACK, precision)
        files[path.name] = entry
        if package:
            parts = export_pte(model, example, apart=True, **arguments)  # type: ignore[arg-type]
            path = folder / name_file(precision, "spte")
            write_file(path, pack(_checked(parts.program), _checked(parts.data)))
            files[path.name] = describe_file(path, "spte", RUNTIME, "rice+split", SPTE_NOTE, PACKAGE, precision)
    return files, backends


def _sparse_precisions(target: Target) -> tuple[Precision, ...]:
    """Those that the sparse runtime is fast in on `target`: int8 takes AVX-512's dot products; elsewhere XNNPACK's is."""
    return ("float32", "int8") if target_isa(target) == "avx512" else ("float32",)


def _write_sparse(
    path: Path, settings: ExportConfig, model: nn.Module, example: torch.Tensor, target: Target, precision: Precision,
    note: str,
) -> tuple[FileEntry | None, list[BackendEntry]]:  # fmt: skip
    """The .pte with the sparse runtime first, by the cost table of the target's processor. No file where `precision` is
    int8 and XNNPACK's own int8, which is dense, is as fast."""
    program = export_sparse_pte(
        model, example, max_batch=settings.max_batch, costs=load_costs(target_isa(target)),
        values="quantised" if precision == "int8" else precision,
    )  # fmt: skip
    choices = [describe_choice(choice, path.name) for choice in program.choices]
    ways = {choice.backend for choice in choices}
    if precision == "int8" and not beats_dense_int8(program.choices):
        return None, []
    write_file(path, _checked(program.content))
    if ways <= {"xnnpack"}:
        return describe_file(path, "pte", RUNTIME, "dense", f"{NOTHING_SPARSE_NOTE}. {note}".strip(), XNNPACK), choices
    told = f"{QUANTISED_NOTE if precision == 'int8' else SPARSE_NOTE}. {note}".strip()
    return describe_file(path, "pte", SPARSE_RUNTIME, "rice", told, SPARSE_BACKEND, precision), choices


def describe_choice(choice: LayerChoice, file: str) -> BackendEntry:
    """The manifest's entry of where a layer of `file` runs."""
    elsewhere: Literal["xnnpack", "onnxruntime"] = "onnxruntime" if file.endswith(".onnx") else "xnnpack"
    return BackendEntry(
        layer=choice.name.removeprefix("model."), backend=elsewhere if choice.backend == "xnnpack" else choice.backend,
        nnz=choice.nnz, reason=choice.reason, sparse_us=choice.sparse_us, dense_us=choice.dense_us,
        xnnpack_us=choice.xnnpack_us, file=file,
    )  # fmt: skip


def name_file(precision: Precision, suffix: str) -> str:
    """ "model.pte" for float32, "model.int8.pte" for int8."""
    return f"model.{suffix}" if precision == "float32" else f"model.{precision}.{suffix}"


def describe_file(
    path: Path, kind: ArtifactFormat, runtime: str, codec: str, note: str, rule: StorageRule, precision: str = "float32"
) -> FileEntry:
    """The manifest's entry of the file at `path`."""
    content = path.read_bytes()
    return FileEntry(
        sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), format=kind, runtime=runtime,
        precision=precision, codec=codec, note=note, stores=rule.stores, computes=rule.computes, because=rule.because,
    )  # fmt: skip


def _checked(content: bytes) -> bytes:
    if len(content) > MAX_UNPACKED:
        raise ExportError(
            f"An ExecuTorch file of {len(content)} bytes; the limit is {MAX_UNPACKED}.",
            hint="Export a smaller model, or ONNX alone.",
        )
    return content
