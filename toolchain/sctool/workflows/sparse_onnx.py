"""The ONNX file of a bundle whose sparse parts are nodes of the sparse runtime, beside the plain one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sctool.atomic import write_file
from sctool.domain.target import Target
from sctool.export.manifest import BackendEntry, FileEntry
from sctool.export.onnx import serialise_onnx
from sctool.export.sparse.onnx import export_sparse_onnx
from sctool.export.storage_rules import ORT_SPARSE_OPERATOR
from sctool.native.costs import load_costs
from sctool.workflows.executorch_files import describe_choice, describe_file
from sctool.workflows.kernels import target_isa

NAME = "model.sparse.onnx"
RUNTIME = "onnxruntime+sparse"
NOTE = (
    "stored sparse; the layers of `backends` run on their non-zeros alone, in the operator ai.sctool::SparseProgram: "
    "ONNX Runtime needs the sparse runtime's library for it (register_custom_ops_library)"
)


def write_sparse_onnx(
    folder: Path, model: nn.Module, example: torch.Tensor, note: str, *, max_batch: int, target: Target
) -> tuple[dict[str, FileEntry], list[BackendEntry]]:
    """Write `model` for ONNX Runtime with the sparse runtime where that pays on `target`; file name -> entry of the
    manifest, and who runs which layer. Nothing where it pays nowhere.

    Raises ExportError where the model cannot be exported.
    """
    made = export_sparse_onnx(model, example, max_batch=max_batch, costs=load_costs(target_isa(target)))
    if not made.payloads:
        return {}, []
    path = folder / NAME
    write_file(path, serialise_onnx(made.proto))
    entry = describe_file(path, "onnx", RUNTIME, "rice", f"{NOTE}. {note}".strip(), ORT_SPARSE_OPERATOR)
    return {NAME: entry}, [describe_choice(choice, NAME) for choice in made.choices]
