"""Dense ONNX from PyTorch, then sparse storage: the last thing done to the graph."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from sctool.errors import ExportError
from sctool.export.codecs.codec import Encoded
from sctool.export.codecs.registry import CODECS
from sctool.export.manifest import LayerEntry
from sctool.quiet import silence

MIN_SIZE = 1024
"""Smaller tensors stay dense: decoding costs some 0.2 ms each at load."""


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
    _strip_traces(proto)
    return proto


def _reason(what: str, error: Exception) -> str:
    return f"Cannot export to {what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}."


def _strip_traces(proto: onnx.ModelProto) -> None:
    """Remove stack traces and doc strings: they hold this machine's paths, and change the bytes."""
    del proto.metadata_props[:]
    graph = proto.graph
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.doc_string = ""


def sparsify_onnx(dense: onnx.ModelProto, codec: str) -> tuple[onnx.ModelProto, list[LayerEntry]]:
    """A copy of `dense` with its large float tensors in sparse storage ("auto": the smallest codec for each).

    A tensor is never stored larger than dense. Raises ExportError where the result is not valid ONNX.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(dense)
    names = list(CODECS) if codec == "auto" else ["dense", codec]
    kept: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    records: list[LayerEntry] = []
    for initialiser in proto.graph.initializer:
        array = numpy_helper.to_array(initialiser)
        if initialiser.data_type != onnx.TensorProto.FLOAT:
            kept.append(initialiser)
            continue
        name, encoded = _smallest(initialiser.name, array, names if array.size >= MIN_SIZE else ["dense"])
        kept += encoded.initialisers
        nodes += encoded.nodes
        nnz = int(np.count_nonzero(array))
        records.append(
            LayerEntry(
                name=initialiser.name, shape=list(array.shape), size=array.size, nnz=nnz,
                density=nnz / max(array.size, 1), dense_bytes=array.nbytes, stored_bytes=encoded.stored_bytes,
                codec=name,
            )
        )  # fmt: skip
    rest = list(proto.graph.node)
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(kept)
    proto.graph.node.extend([*nodes, *rest])
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        raise ExportError(_reason("sparse ONNX", error), hint="Use --set export.codec=dense and report it.") from error
    return proto, records


def _smallest(name: str, array: NDArray[np.float32], codecs: list[str]) -> tuple[str, Encoded]:
    tried = {codec: CODECS[codec].encode(name, array) for codec in codecs}
    best = min(tried, key=lambda codec: (tried[codec].stored_bytes, codec != "dense"))
    return best, tried[best]


def serialise_onnx(proto: onnx.ModelProto) -> bytes:
    """The file's bytes, the same for the same graph. ExportError over protobuf's 2 GiB."""
    if proto.ByteSize() >= 2**31:
        raise ExportError(
            f"The ONNX file would have {proto.ByteSize()} bytes; the limit is 2 GiB.", hint="Lower the density."
        )
    return bytes(proto.SerializeToString(deterministic=True))
