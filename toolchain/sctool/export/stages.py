"""Decoding in stages, so that what one stage leaves over is freed before the next begins.

ONNX Runtime folds constants in passes, up to ten, and keeps every intermediate result until its pass ends. Within a pass it
infers shapes from what it has folded, but not the shape of what a node with a subgraph gives: that happens between passes.
So where a Scan's body widens a row to a shape that this pass computes, the Scan's output has an open shape until the pass is
over, and `Shape` of it is a constant from the next pass on. Its axes but the first are empty: the constant is zeros, which
Reshape reads as "this axis as it is", and what it reshapes is the same constant, a pass later. Folding removes the Scan,
unexecuted, with the last Shape of it. A runtime that folds otherwise gets the same weights, sooner or at each call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sctool.export.codecs.scope import Scope

MAX_STAGES = 8
"""ONNX Runtime makes ten passes, of which the last finds nothing to do."""
OPSET = 15
"""Of Shape with `start` and `end`."""
STAGE_NS, NODE_NS, BYTE_NS = 1e6, 3e3, 0.4
"""CPU time of a pass over the graph, at least, and for each node of the model; and of touching a byte of fresh memory (x86
host, one thread)."""
_AXES = 5
"""Of constants that are delayed, at most."""


def price_stage(nodes: int, opset: int) -> float:
    """CPU time in ns of one stage more in a model of `nodes`; infinite where `opset` has no stages."""
    return STAGE_NS + NODE_NS * nodes if opset >= OPSET else math.inf


def count_stages(left: Sequence[float], stage_ns: float) -> int:
    """In how many to decode what leaves over `left` bytes each: where another of `stage_ns` saves no more than it takes."""
    several = range(1, min(MAX_STAGES, max(sum(each > 0 for each in left), 1)) + 1)
    return min(several, key=lambda stages: stages * stage_ns + BYTE_NS * sum(left) / stages)


def fill_stage(left: Sequence[float], stages: int) -> float:
    """Bytes that the fullest of `stages` leaves over, about."""
    return max(max(left, default=0.0), sum(left) / stages)


def assign_stages(left: Mapping[str, float], stages: int) -> dict[str, int]:
    """Tensor -> stage, each about as full; the fullest first, while fewest weights are unfolded."""
    filled = [0.0] * stages
    taken: dict[str, int] = {}
    for tensor in sorted(left, key=lambda name: (-left[name], name)):
        stage = filled.index(min(filled))
        filled[stage] += left[tensor]
        taken[tensor] = stage
    order = sorted(range(stages), key=lambda stage: -filled[stage])
    return {tensor: order.index(stage) for tensor, stage in taken.items()}


def join_stages(stages: Sequence[Sequence[Scope]]) -> tuple[list[NodeProto], list[TensorProto]]:
    """(nodes in order, initialisers beside the scopes' own) of scopes by stage."""
    nodes = [node for scope in stages[0] for node in scope.nodes] if stages else []
    initialisers: list[TensorProto] = []
    if len(stages) > 1:
        initialisers = [
            numpy_helper.from_array(np.zeros(_AXES, np.int64), "stages/open"),
            numpy_helper.from_array(np.array(0, np.int64), "stages/axis"),
            numpy_helper.from_array(np.zeros((1, *[1] * _AXES), np.uint8), "stages/row"),
        ]
        nodes.append(_node("CumSum", ["stages/open", "stages/axis"], "stages/0/open"))
    for stage, scopes in enumerate(stages[1:], 1):
        nodes += _open(stage)
        nodes += _delay(scopes, stage)
    return nodes, initialisers


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    folder, _, own = output.rpartition("/")
    return helper.make_node(operator, list(inputs), [output], f"{folder}/{operator}_{own}", **attributes)


def _open(stage: int) -> list[NodeProto]:
    """`stages/N/open`: int64 zeros [_AXES], a constant in the pass after the one that makes `stages/N-1/open` one."""
    row = helper.make_tensor_value_info("row", TensorProto.UINT8, [1] * _AXES)
    wide = helper.make_tensor_value_info("wide", TensorProto.UINT8, [f"axis_{i}" for i in range(_AXES)])
    widen = helper.make_node("Expand", ["row", f"stages/{stage - 1}/open"], ["wide"], "Expand")
    body = helper.make_graph([widen], "widen", [row], [wide])
    scan = _node("Scan", ["stages/row"], f"stages/{stage}/wide", body=body, num_scan_inputs=1)
    return [scan, _node("Shape", [scan.output[0]], f"stages/{stage}/open", start=1)]


def _delay(scopes: Sequence[Scope], stage: int) -> list[NodeProto]:
    """The scopes' nodes; those that read nothing but initialisers read the smallest of them through Reshape."""
    sizes = {tensor.name: tensor.ByteSize() for scope in scopes for tensor in scope.initialisers}
    ranks = {tensor.name: len(tensor.dims) for scope in scopes for tensor in scope.initialisers}
    nodes: list[NodeProto] = []
    made: set[str] = set()
    for scope in scopes:
        for node in scope.nodes:
            delayed = NodeProto()
            delayed.CopyFrom(node)
            if all(name in sizes for name in node.input):
                place = min(range(len(node.input)), key=lambda at, n=node: sizes[n.input[at]])  # type: ignore[misc]
                name = node.input[place]
                like, late = f"stages/{stage}/axes_{ranks[name]}", f"{name}/stage_{stage}"
                if like not in made:
                    nodes.append(_node("Shape", [f"stages/{stage}/wide"], like, start=1, end=1 + ranks[name]))
                if late not in made:
                    nodes.append(_node("Reshape", [name, like], late))
                made |= {like, late}
                delayed.input[place] = late
            nodes.append(delayed)
    return nodes
