"""A graph whose weights are decoded by nodes, in stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from sctool.export.codecs.scope import Scope
from sctool.export.stages import assign_stages, count_stages, join_stages
from sctool.export.units import FRAME, read_framed


@dataclass(frozen=True)
class StoredUnit:
    """How one unit is stored: its parts, and what decoding them leaves over. framed: whether a table is given back so."""

    scopes: list[Scope]
    left_bytes: float
    framed: bool = False


def assemble(dense: onnx.ModelProto, stored: Mapping[str, StoredUnit], stage_ns: float) -> onnx.ModelProto:
    """A copy of `dense` with the units `stored` as they say, in stages of which one more takes `stage_ns`."""
    left = {name: unit.left_bytes for name, unit in stored.items() if any(scope.nodes for scope in unit.scopes)}
    staged = assign_stages(left, count_stages(list(left.values()), stage_ns))
    stages: list[list[Scope]] = [[] for _ in range(max(staged.values(), default=0) + 1)]
    for name, unit in stored.items():
        stages[staged.get(name, 0)] += unit.scopes
    nodes, constants = join_stages(stages)
    framed = {name for name, unit in stored.items() if unit.framed}
    if framed:
        constants.append(numpy_helper.from_array(np.array([0, 1], np.int64), FRAME))
    return _rebuild(dense, [scope for scopes in stages for scope in scopes], nodes, constants, framed)


def _rebuild(
    dense: onnx.ModelProto, scopes: list[Scope], nodes: list[onnx.NodeProto], constants: list[TensorProto],
    framed: set[str],
) -> onnx.ModelProto:  # fmt: skip
    proto = onnx.ModelProto()
    proto.CopyFrom(dense)
    stored = {scope.tensor for scope in scopes}
    kept = {t.name: t for t in dense.graph.initializer if t.name not in stored}
    kept.update({part.name: part for scope in scopes for part in scope.initialisers})
    rest = read_framed(proto.graph.node, framed)
    shapes = [value for value in proto.graph.value_info if value.name not in framed]
    del proto.graph.initializer[:], proto.graph.node[:], proto.graph.value_info[:]
    proto.graph.value_info.extend(shapes)
    proto.graph.initializer.extend([*kept.values(), *constants])
    proto.graph.node.extend([*nodes, *rest])
    for scope in scopes:
        proto.graph.sparse_initializer.extend(scope.sparse_initialisers)
        proto.graph.value_info.extend(scope.shapes)
    return proto
