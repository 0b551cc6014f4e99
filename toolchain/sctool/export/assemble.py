"""A graph whose weights are decoded by nodes: tensors in rows together, all in stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from sctool.export.codecs.codec import Quantised
from sctool.export.codecs.positions.rows import can_band, encode_group
from sctool.export.codecs.scope import Scope
from sctool.export.stages import OPSET, assign_stages, count_stages, join_stages

GROUPED = {"rows": False, "rows+split": True}
"""Pairs of codecs that decode several tensors at once -> whether in bands."""


@dataclass(frozen=True)
class StoredTensor:
    """How one tensor is stored: by which pair of codecs, its parts, and what decoding them leaves over."""

    codec: str
    scope: Scope
    quantised: Quantised
    left_bytes: float


@dataclass(frozen=True)
class Assembled:
    """`stored_bytes`: of each tensor, with its share of what several are decoded from."""

    proto: onnx.ModelProto
    stored_bytes: dict[str, int]


def assemble(dense: onnx.ModelProto, stored: Mapping[str, StoredTensor], opset: int) -> Assembled:
    """A copy of `dense` with the tensors `stored` as they say."""
    left = {name: each.left_bytes for name, each in stored.items() if each.scope.nodes}
    staged = assign_stages(left, count_stages(list(left.values())) if opset >= OPSET else 1)
    sizes = {name: each.scope.stored_bytes for name, each in stored.items()}
    stages: list[list[Scope]] = [[] for _ in range(max(staged.values(), default=0) + 1)]
    for stage, scopes in enumerate(stages):
        members = {name: stored[name] for name in stored if staged.get(name, 0) == stage}
        if opset >= OPSET:
            for codec in GROUPED:
                scopes += _group(f"{codec}/{stage}", codec, members, sizes)
        scopes += [each.scope for each in members.values()]
    nodes, constants = join_stages(stages)
    return Assembled(_rebuild(dense, [scope for scopes in stages for scope in scopes], nodes, constants), sizes)


def _group(name: str, codec: str, members: dict[str, StoredTensor], sizes: dict[str, int]) -> list[Scope]:
    """Scopes of what of `members` is decoded together, taken out of it; `sizes` told anew."""
    together = {tensor: each.quantised for tensor, each in members.items() if each.codec == codec and _can_group(each)}
    if len(together) < 2:
        return []
    scopes = encode_group(name, together, GROUPED[codec])
    values = {tensor: int(np.count_nonzero(quantised.codes)) for tensor, quantised in together.items()}
    for tensor in together:
        share = values[tensor] / max(sum(values.values()), 1)
        sizes[tensor] = scopes[tensor].stored_bytes + round(share * scopes[name].stored_bytes)
        del members[tensor]
    return list(scopes.values())


def _can_group(stored: StoredTensor) -> bool:
    quantised = stored.quantised
    as_is = quantised.codes.dtype == quantised.dtype == np.float32 and quantised.scale is None
    return as_is and (not GROUPED[stored.codec] or can_band(quantised))


def _rebuild(
    dense: onnx.ModelProto, scopes: list[Scope], nodes: list[onnx.NodeProto], constants: list[TensorProto]
) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(dense)
    stored = {scope.tensor for scope in scopes}
    kept = {t.name: t for t in dense.graph.initializer if t.name not in stored}
    kept.update({part.name: part for scope in scopes for part in scope.initialisers})
    rest = list(proto.graph.node)
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend([*kept.values(), *constants])
    proto.graph.node.extend([*nodes, *rest])
    for scope in scopes:
        proto.graph.sparse_initializer.extend(scope.sparse_initialisers)
        proto.graph.value_info.extend(scope.shapes)
    return proto
