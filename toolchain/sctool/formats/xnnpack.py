"""What an XNNPACK delegate holds: constants and the layers that use them (backends/xnnpack, schema XN00/XN01)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sctool.formats.flatbuffer import Buffer, Table

BACKEND = "XnnpackBackend"
_TYPES = {
    1: "float32", 2: "float16", 3: "int8", 4: "uint8", 5: "int32", 6: "int8", 7: "int32", 8: "int4", 9: "int8",
    10: "int4", 11: "int8", 12: "int32", 13: "float32", 14: "bfloat16",
}  # fmt: skip
_LAYERS = {2: ("linear", 1, 2), 7: ("convolution", 16, 17), 13: ("depthwise convolution", 16, 17),
           39: ("transposed convolution", 16, 17)}  # fmt: skip
"""Type in the union of nodes -> name, field of the weights' id, field of the bias's id."""
_MAX_DIMS = 8


@dataclass(frozen=True)
class Constant:
    """`key`: its name in the program's or data file's named data, or "" where the bytes lie in the payload itself, at
    `offset`. `size` in bytes. `role`: the layer and what of it, such as "linear weight"; "constant" where unknown."""

    key: str
    offset: int
    size: int
    dtype: str
    shape: tuple[int, ...]
    role: str


def read_constants(payload: memoryview) -> list[Constant]:
    """The constants of an XNNPACK payload, in the order of its values. ValueError on damage."""
    graph, base, extent = _open(payload)
    stored = [(t.number(0, "Q"), t.number(1, "Q"), t.text(2)) for t in graph.tables(8)]
    roles = _read_roles(graph)
    found = []
    for value in graph.tables(2):
        kind, body = value.number(0, "B"), value.table(1)
        tensor = body.table(0) if body and kind == 2 else body
        if tensor is None:
            continue
        index = tensor.number(3)
        if index == 0:
            continue
        offset, size, key = stored[index]
        if not key and offset + size > extent:
            raise ValueError("a constant leaves its payload")
        shape = tuple(tensor.numbers(2, "I"))
        if len(shape) > _MAX_DIMS:
            raise ValueError(f"a constant of {len(shape)} dimensions")
        role = roles.get(tensor.number(6), "constant")
        found.append(
            Constant(key, 0 if key else base + offset, size, _TYPES.get(tensor.number(0, "h"), "?"), shape, role)
        )
    return found


def _open(payload: memoryview) -> tuple[Table, int, int]:
    """The graph, and where the payload's own constant data begin and how many there are."""
    if bytes(payload[4:8]) != b"XH00":
        return Buffer(payload).root(), 0, len(payload)
    start, size, base, extent = struct.unpack_from("<IIIQ", payload, 10)
    if start + size > len(payload) or base + extent > len(payload):
        raise ValueError("the header of an XNNPACK payload does not fit its size")
    return Buffer(payload[start : start + size]).root(), base, extent


def _read_roles(graph: Table) -> dict[int, str]:
    roles: dict[int, str] = {}
    for node in graph.tables(1):
        layer, body = _LAYERS.get(node.number(0, "B")), node.table(1)
        if layer and body:
            name, weight, bias = layer
            roles[body.number(weight)] = f"{name} weight"
            roles[body.number(bias)] = f"{name} bias"
    return roles
