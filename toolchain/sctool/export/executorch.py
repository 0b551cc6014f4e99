"""ExecuTorch program for the XNNPACK delegate; it stores weights dense, whatever their density."""

from __future__ import annotations

import torch
from torch import nn

from sctool.errors import ExportError
from sctool.quiet import silence


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
    try:
        with silence(), torch.no_grad():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            batch = torch.export.Dim("batch", min=1, max=max_batch)
            program = torch.export.export(_Wrapped(model).eval(), (example,), dynamic_shapes=({0: batch},))
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
            return bytes(lowered.buffer)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"Cannot export to ExecuTorch: {type(error).__name__}: {reason}.",
            hint="Simplify the model's forward, or run with --debug.",
        ) from error
