"""Dense ONNX from PyTorch, and its bytes."""

from __future__ import annotations

import onnx
import torch
from torch import nn

from sctool.errors import ExportError
from sctool.quiet import silence


def export_onnx(model: nn.Module, example: torch.Tensor, *, max_batch: int) -> onnx.ModelProto:
    """Dense ONNX of `model` for input [B, ...] like `example` [2, ...], 1 <= B; input "input", output "logits".

    Raises ExportError where PyTorch cannot export the model.
    """
    batch = torch.export.Dim("batch", min=1, max=max_batch)
    try:
        with silence(), torch.no_grad():
            program = torch.onnx.export(
                model.eval(), (example,), dynamo=True, verbose=False, input_names=["input"], output_names=["logits"],
                dynamic_shapes=({0: batch},),
            )  # fmt: skip
    except Exception as error:
        raise ExportError(_reason("ONNX", error), hint="Simplify the model's forward, or run with --debug.") from error
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    strip_traces(proto)
    return proto


def _reason(what: str, error: Exception) -> str:
    return f"Cannot export to {what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}."


def strip_traces(proto: onnx.ModelProto) -> None:
    """Remove stack traces and doc strings: they hold this machine's paths, and change the bytes."""
    del proto.metadata_props[:]
    graph = proto.graph
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.doc_string = ""


def serialise_onnx(proto: onnx.ModelProto) -> bytes:
    """The file's bytes, the same for the same graph. ExportError over protobuf's 2 GiB."""
    if proto.ByteSize() >= 2**31:
        raise ExportError(
            f"The ONNX file would have {proto.ByteSize()} bytes; the limit is 2 GiB.", hint="Lower the density."
        )
    return bytes(proto.SerializeToString(deterministic=True))
