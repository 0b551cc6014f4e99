"""ExecuTorch programs: for the XNNPACK delegate alone, which stores weights dense, or with the sparse runtime first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sctool.errors import ExportError
from sctool.native.costs import CostTable
from sctool.native.library import BACKEND
from sctool.quiet import silence

if TYPE_CHECKING:
    from sctool.export.sparse.partition import LayerChoice


class _Wrapped(nn.Module):
    """Gives every parameter a name that begins with a letter: XNNPACK's passes rely on it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return logits


def export_pte(model: nn.Module, example: torch.Tensor, *, max_batch: int) -> bytes:
    """The bytes of a .pte whose method `forward` takes [B, ...] like `example` [2, ...], 1 <= B <= max_batch.

    Raises ExportError where the model cannot be exported.
    """
    return _lower(model, example, max_batch=max_batch)[0]


def _lower(
    model: nn.Module, example: torch.Tensor, *, max_batch: int, passes: Sequence[Any] = (), first: Sequence[Any] = ()
) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The .pte, and (backend, bytes) of each delegate in it.

    `passes` go over the edge program; then the partitioners `first` choose before XNNPACK's.
    """
    try:
        with silence(), torch.no_grad():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            batch = torch.export.Dim("batch", min=1, max=max_batch)
            program = torch.export.export(_Wrapped(model).eval(), (example,), dynamic_shapes=({0: batch},))
            lowered = to_edge_transform_and_lower(
                program, transform_passes=list(passes), partitioner=[*first, XnnpackPartitioner()]
            )
            delegates = [
                (str(part.backend_id), bytes(part.processed_bytes))
                for part in lowered.exported_program().graph_module.children()
                if hasattr(part, "processed_bytes")
            ]
            return bytes(lowered.to_executorch().buffer), delegates
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"Cannot export to ExecuTorch: {type(error).__name__}: {reason}.",
            hint="Simplify the model's forward, or run with --debug.",
        ) from error


@dataclass(frozen=True)
class SparseProgram:
    """A .pte; for each weighted layer which backend takes it and why; and the payloads of the sparse runtime in it.

    Where one payload is the whole model, the stand-alone runner runs it too.
    """

    content: bytes
    choices: list[LayerChoice]
    payloads: list[bytes]


def export_sparse_pte(
    model: nn.Module, example: torch.Tensor, *, max_batch: int, costs: CostTable, values: str = "float32"
) -> SparseProgram:
    """As export_pte, with the layers where `costs` says that it pays on the backend "SctoolSparse".

    `values`: how their weights are stored, float32, float16 or int8. Raises ExportError.
    """
    with silence():
        from sctool.export.sparse.partition import SparsePartitioner
        from sctool.export.sparse.views import free_views_of_sizes

    nonzeros = {f"model.{name}": int(parameter.count_nonzero()) for name, parameter in model.named_parameters()}
    partitioner = SparsePartitioner(nonzeros, costs=costs, max_batch=max_batch, values=values)
    content, delegates = _lower(model, example, max_batch=max_batch, passes=[free_views_of_sizes], first=[partitioner])
    payloads = [payload for backend, payload in delegates if backend == BACKEND]
    return SparseProgram(content, partitioner.choices, payloads)
