"""How channels, and constants in them, pass a node between the layer that makes them and those that read them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from sctool.export.passes.editable import EditableGraph, Vector, attribute_of, pads

UNARY = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Erf",
    "Gelu", "Clip", "Identity", "Abs", "Neg", "Sqrt", "Exp", "Mish",
)  # fmt: skip
"""Work on each element alone."""
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")


@dataclass
class Step:
    """A node between a layer and its readers whose own channels go along: its constants' axis of channels."""

    node: onnx.NodeProto
    slices: dict[str, int] = field(default_factory=dict)
    repeats: int = 1


def pass_through(
    graph: EditableGraph, node: onnx.NodeProto, value: str, constant: Vector, repeats: int, last: bool
) -> tuple[Step, Vector, int] | None:
    """(step, constants after it, inputs a channel after it), or None where channels do not pass one by one."""
    kind, rank = node.op_type, graph.ranks.get(value, 0)
    if kind in UNARY and node.input[0] == value and all(name in graph.arrays for name in node.input[1:] if name):
        return Step(node), _evaluate(graph, node, constant), repeats
    if kind in POOLS and not last and node.input[0] == value:
        if kind.startswith("Reduce") and not _reduces_space(graph, node, rank):
            return None
        padded_mean = kind == "AveragePool" and (pads(node) or attribute_of(node, "ceil_mode", 0))
        return Step(node), np.where(constant == 0, 0.0, np.nan) if padded_mean else constant, repeats
    if kind in ("Flatten", "Reshape") and node.input[0] == value and not last and repeats == 1:
        return _flatten(graph, node, constant, rank)
    if kind in ("Add", "Mul", "Sub") and len(node.input) == 2:
        return _with_vector(graph, node, value, constant, repeats, last, rank)
    if kind == "Conv" and node.input[0] == value and not last and repeats == 1:
        return _depthwise(graph, node, constant)
    return None


def narrow_step(graph: EditableGraph, step: Step, keep: NDArray[np.int64]) -> None:
    """Leave of the step's own constants what belongs to the channels `keep`."""
    left = (keep[:, None] * step.repeats + np.arange(step.repeats)).reshape(-1)
    for name, axis in step.slices.items():
        graph.arrays[name] = np.take(graph.arrays[name], left, axis)
    if step.node.op_type == "Conv":
        next(a for a in step.node.attribute if a.name == "group").i = len(keep)
    if step.node.op_type == "Reshape":
        graph.set_width(step.node, len(left))


def _evaluate(graph: EditableGraph, node: onnx.NodeProto, constant: Vector) -> Vector:
    """An elementwise function of the constants; NaN stays NaN."""
    known = ~np.isnan(constant)
    result = np.full(len(constant), np.nan)
    if known.any():
        alone = helper.make_node(node.op_type, ["x", *node.input[1:]], ["y"])
        alone.attribute.extend(node.attribute)
        rest = {name: graph.arrays[name] for name in node.input[1:] if name}
        evaluator = ReferenceEvaluator(alone, opsets={"": graph.opset})
        (result[known],) = evaluator.run(None, {"x": constant[known].astype(np.float32), **rest})
    return result


def _reduces_space(graph: EditableGraph, node: onnx.NodeProto, rank: int) -> bool:
    """ReduceMean and ReduceMax over all axes after the channels, kept."""
    axes = attribute_of(node, "axes", None)
    if axes is None and len(node.input) > 1 and node.input[1] in graph.arrays:
        axes = graph.arrays[node.input[1]].tolist()
    if axes is None or not attribute_of(node, "keepdims", 1) or rank < 3:
        return False
    return sorted(axis % rank for axis in axes) == list(range(2, rank))


def _flatten(
    graph: EditableGraph, node: onnx.NodeProto, constant: Vector, rank: int
) -> tuple[Step, Vector, int] | None:
    """[N, C, ...] -> [N, C * R], by Flatten or by Reshape to a constant [., C * R] or [., -1]."""
    repeats = graph.spatial_sizes.get(node.input[0])
    if rank < 3 or repeats is None:
        return None
    if node.op_type == "Flatten" and attribute_of(node, "axis", 1) != 1:
        return None
    if node.op_type == "Reshape":
        target = graph.arrays.get(node.input[1], np.zeros(0)).tolist()
        if len(target) != 2 or target[1] not in (-1, len(constant) * repeats) or target[0] == 0 != target[1]:
            return None
    return Step(node, repeats=repeats), np.repeat(constant, repeats), repeats


def _with_vector(
    graph: EditableGraph, node: onnx.NodeProto, value: str, constant: Vector, repeats: int, last: bool, rank: int
) -> tuple[Step, Vector, int] | None:
    """Add, Sub or Mul with an initialiser that has an element a channel, or one in all."""
    place = 1 if node.input[0] == value else 0
    other = graph.own_weight(node, place)
    if other is None or (node.op_type == "Sub" and place == 0):
        return None
    axis_from_end = 1 if last else rank - 1
    if other.size == 1:
        vector, slices = np.repeat(other.reshape(-1), len(constant)), {}
    elif other.ndim >= axis_from_end and other.shape[other.ndim - axis_from_end] == other.size == len(constant):
        vector, slices = other.reshape(-1), {node.input[place]: other.ndim - axis_from_end}
    else:
        return None
    with np.errstate(invalid="ignore"):
        operate = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[node.op_type]
        seen = operate(constant, vector.astype(np.float64))
    if node.op_type == "Mul":
        seen = np.where(vector == 0, 0.0, seen)
    return Step(node, slices, repeats), seen, repeats


def _depthwise(graph: EditableGraph, node: onnx.NodeProto, constant: Vector) -> tuple[Step, Vector, int] | None:
    weight = graph.own_weight(node, 1)
    bias = graph.own_weight(node, 2) if len(node.input) > 2 else np.zeros(len(constant), np.float32)
    if (
        weight is None
        or bias is None
        or attribute_of(node, "group", 1) != len(constant)
        or len(weight) != len(constant)
    ):
        return None
    sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.float64)
    seen = np.where((constant != 0) & pads(node), np.nan, constant) * sums + bias
    seen = np.where(weight.reshape(len(weight), -1).any(axis=1), seen, bias)
    slices = {node.input[1]: 0} | ({node.input[2]: 0} if len(node.input) > 2 else {})
    return Step(node, slices), seen, 1
