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
    """`key`: its name in the program's or data file's named data, or "" where the payload itself holds it: `data`. `size`
    in bytes. `role`: the layer and what of it, such as "linear weight"; "constant" where unknown."""

    key: str
    data: memoryview | None
    size: int
    dtype: str
    shape: tuple[int, ...]
    role: str


def read_constants(payload: memoryview) -> list[Constant]:
    """The constants of an XNNPACK payload, in the order of its values. ValueError on damage."""
    graph, own = _open(payload)
    stored = [_locate(entry, own) for entry in graph.tables(8)]
    stored = stored or [("", block, len(block)) for block in (entry.data(0) for entry in graph.tables(6))]
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
        key, data, size = stored[index]
        shape = tuple(tensor.numbers(2, "I"))
        if len(shape) > _MAX_DIMS:
            raise ValueError(f"a constant of {len(shape)} dimensions")
        role = roles.get(tensor.number(6), "constant")
        found.append(Constant(key, data, size, _TYPES.get(tensor.number(0, "h"), "?"), shape, role))
    return found


def _locate(entry: Table, own: memoryview) -> tuple[str, memoryview | None, int]:
    """(key, bytes in the payload's `own` constant data where there is no key, size) of a constant."""
    offset, size, key = entry.number(0, "Q"), entry.number(1, "Q"), entry.text(2)
    if key:
        return key, None, size
    if offset + size > len(own):
        raise ValueError("a constant leaves its payload")
    return "", own[offset : offset + size], size


def _open(payload: memoryview) -> tuple[Table, memoryview]:
    """The graph, and the constant data that the payload holds itself."""
    if bytes(payload[4:8]) != b"XH00":
        return Buffer(payload).root(), payload[:0]
    start, size, base, extent = struct.unpack_from("<IIIQ", payload, 10)
    if start + size > len(payload) or base + extent > len(payload):
        raise ValueError("the header of an XNNPACK payload does not fit its size")
    return Buffer(payload[start : start + size]).root(), payload[base : base + extent]


def _read_roles(graph: Table) -> dict[int, str]:
    roles: dict[int, str] = {}
    for node in graph.tables(1):
        layer, body = _LAYERS.get(node.number(0, "B")), node.table(1)
        if layer and body:
            name, weight, bias = layer
            roles[body.number(weight)] = f"{name} weight"
            roles[body.number(bias)] = f"{name} bias"
    return roles
