"""What depends on constants alone is computed now."""

from __future__ import annotations

import onnx
import onnx_ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript import optimizer

LARGEST = 2**24
"""Elements: a constant of more is left to the runtime, so that folding makes no file larger than it must."""


class FoldConstants:
    """By onnxscript's folding, which keeps initialisers that nothing is gained from."""

    name = "fold_constants"

    def refuses(self, model: onnx.ModelProto) -> str:
        return ""

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        changed = onnx_ir.from_proto(model)
        optimizer.fold_constants(changed, output_size_limit=LARGEST)
        LiftConstantsToInitializersPass()(changed)
        RemoveUnusedNodesPass()(changed)
        return onnx_ir.to_proto(changed)

    def breaks(self, before: onnx.ModelProto, after: onnx.ModelProto) -> str:
        more = len(after.graph.node) - len(before.graph.node)
        return f"added {more} nodes" if more > 0 else ""
