"""Channels that carry nothing are taken out, exactly.

A channel between a layer and those that read it goes where each reader either has only zeros for it or sees a constant
there, which moves into its bias. A constant comes from a filter whose weights are all zero (its bias, through what
follows), or from a depthwise filter of that kind. A reader that pads with zeros takes no constant but 0: at the border the
padding would show. What adds two paths, or is an output of the graph, blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sctool.export.passes.channel_flow import Step, narrow_step, pass_through
from sctool.export.passes.channel_readers import Reader, close_reader, find_ignored, is_plain, reads_channels
from sctool.export.passes.editable import EditableGraph, Vector, attribute_of


class RemoveDeadChannels:
    """Of Conv, Gemm and MatMul, through elementwise functions, pools, flattening, biases and depthwise convolutions."""

    name = "remove_dead_channels"

    def refuses(self, model: onnx.ModelProto) -> str:
        return (
            "the graph has control flow"
            if any(a.HasField("g") for node in model.graph.node for a in node.attribute)
            else ""
        )

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        graph = EditableGraph(model)
        while any([_shrink(graph, node) for node in graph.nodes]):
            pass
        return graph.finish()

    def breaks(self, before: onnx.ModelProto, after: onnx.ModelProto) -> str:
        graph = EditableGraph(after)
        left = [node.name for node in graph.nodes if _shrink(graph, node)]
        return f"left dead channels behind {left[0]!r}" if left else ""


def _find_filters(graph: EditableGraph, node: onnx.NodeProto) -> tuple[NDArray[Any], int] | None:
    """(weight, its axis of outputs) of a layer whose outputs can be taken one by one."""
    weight = graph.own_weight(node, 1)
    if weight is None:
        return None
    if node.op_type == "Conv" and attribute_of(node, "group", 1) == 1:
        return weight, 0
    if node.op_type == "Gemm" and not attribute_of(node, "transA", 0) and is_plain(node):
        return weight, 0 if attribute_of(node, "transB", 0) else 1
    if node.op_type == "MatMul" and weight.ndim == 2:
        return weight, 1
    return None


def _shrink(graph: EditableGraph, node: onnx.NodeProto) -> bool:
    """Take out the dead channels that `node` makes; whether there were any."""
    found = _find_filters(graph, node)
    if found is None:
        return False
    weight, axis = found
    bias_name = node.input[2] if len(node.input) > 2 else ""
    bias = graph.own_weight(node, 2) if bias_name else None
    count = weight.shape[axis]
    if bias_name and (bias is None or bias.shape != (count,)):
        return False
    others = tuple(other for other in range(weight.ndim) if other != axis)
    constant = np.where(weight.any(axis=others), np.nan, 0.0 if bias is None else bias.astype(np.float64))
    steps: list[Step] = []
    readers: list[Reader] = []
    channel_last = node.op_type != "Conv"
    if not _follow(graph, node.output[0], constant, 1, channel_last, steps, readers) or not readers:
        return False
    dead = np.all([find_ignored(graph, reader, count) for reader in readers], axis=0)
    if dead.all():
        dead[0] = False
    if not dead.any():
        return False
    keep = np.flatnonzero(~dead)
    for reader in readers:
        close_reader(graph, reader, keep, count)
    for step in steps:
        narrow_step(graph, step, keep)
    graph.arrays[node.input[1]] = np.take(weight, keep, axis)
    if bias is not None:
        graph.arrays[bias_name] = bias[keep]
    return True


def _follow(
    graph: EditableGraph,
    value: str,
    constant: Vector,
    repeats: int,
    last: bool,
    steps: list[Step],
    readers: list[Reader],
) -> bool:
    """Walk from `value`, whose channels (axis -1 with `last`, else 1) are `constant` [C * repeats], to all its readers;
    False where something on the way ties them to anything else."""
    if value in graph.outputs:
        return False
    for node in graph.readers.get(value, []):
        if list(node.input).count(value) != 1 or len(node.output) != 1:
            return False
        if node.input[0] == value and reads_channels(graph, node, last, len(constant)):
            readers.append(Reader(node, repeats, constant))
            continue
        step = pass_through(graph, node, value, constant, repeats, last)
        if step is None:
            return False
        kind, seen, more = step
        steps.append(kind)
        flat = last or node.op_type in ("Flatten", "Reshape")
        if not _follow(graph, node.output[0], seen, more, flat, steps, readers):
            return False
    return True
