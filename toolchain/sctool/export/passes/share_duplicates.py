"""Initialisers with the same type, shape and bytes become one."""

from __future__ import annotations

import onnx
import onnx_ir
from onnx_ir.passes.common import DeduplicateInitializersPass


class ShareDuplicates:
    """By onnx_ir's pass of that purpose."""

    name = "share_duplicates"

    def refuses(self, model: onnx.ModelProto) -> str:
        return ""

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        changed = onnx_ir.from_proto(model)
        DeduplicateInitializersPass(size_limit=2**31)(changed)
        return onnx_ir.to_proto(changed)

    def breaks(self, before: onnx.ModelProto, after: onnx.ModelProto) -> str:
        seen = [(t.data_type, tuple(t.dims), t.raw_data) for t in after.graph.initializer if t.raw_data]
        return "left two equal initialisers" if len(set(seen)) != len(seen) else ""
