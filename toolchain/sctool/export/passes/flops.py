"""FLOPs of a graph, counted from its shapes."""

from __future__ import annotations

import math

import onnx


def count_flops(model: onnx.ModelProto) -> int:
    """Dense FLOPs of one record, two a multiplication, of Conv, Gemm and MatMul; open dimensions count as 1."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    shapes = {value.name: [max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim] for value in values}
    shapes.update({tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer})
    return sum(_node_flops(node, shapes) for node in inferred.graph.node)


def _node_flops(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    output, left, right = shapes.get(node.output[0]), shapes.get(node.input[0]), shapes.get(node.input[1])
    if output is None or left is None or right is None:
        return 0
    if node.op_type == "Conv":
        return 2 * math.prod(output) * math.prod(right[1:])
    flipped = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    return 2 * math.prod(output) * (left[0] if flipped else left[-1])
