"""Writes a graph as the bytes that the sparse runtime loads; sparse_runtime/README.md has the format."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh64_intdigest

from sctool.export.sparse.graph import Graph, Kind, Operator, Storage, ValueKind, Window
from sctool.export.sparse.rice import choose_k, encode_positions

MAGIC, VERSION = b"SCSP", 2
MOST_OF_ROW = (2**24 - 1) // 255
"""What the magnitudes of a row's int8 weights may add up to where the runtime computes with them."""
_NO_VALUE = 0xFFFF
_TOKENS = 4
"""The form of [T, F]; those of other shapes are their ranks."""


def write_payload(graph: Graph) -> bytes:
    """The payload of `graph`; struct.error or ValueError where a number does not fit the format."""
    parts = [struct.pack("<IH", graph.max_batch, len(graph.shapes))]
    parts += [
        struct.pack(f"<B{len(shape)}I", _TOKENS if number in graph.tokens else len(shape), *shape)
        for number, shape in enumerate(graph.shapes)
    ]
    parts.append(_ids(graph.inputs))
    parts.append(struct.pack("<H", len(graph.operators)))
    parts += [_operator(operator) for operator in graph.operators]
    parts.append(_ids(graph.outputs))
    body = b"".join(parts)
    return MAGIC + struct.pack("<IQ", VERSION, xxh64_intdigest(body)) + body


def _ids(ids: list[int] | tuple[int, ...]) -> bytes:
    return struct.pack(f"<H{len(ids)}H", len(ids), *ids)


def _operator(operator: Operator) -> bytes:
    parts = [struct.pack("<BB", operator.kind, operator.activation), _ids(operator.inputs)]
    parts.append(struct.pack("<H", operator.output))
    if operator.kind is Kind.CONVOLUTION:
        residual = _NO_VALUE if operator.residual is None else operator.residual
        parts += [_window(operator.window), struct.pack("<IH", operator.groups, residual)]
    if operator.kind in (Kind.CONVOLUTION, Kind.LINEAR):
        if operator.weights is None:
            raise ValueError(f"{operator.kind.name} without weights")
        parts += [_matrix(operator.weights, operator.storage, operator.values), _bias(operator.bias)]
    if operator.kind in (Kind.MAX_POOL, Kind.AVERAGE_POOL):
        parts.append(_window(operator.window))
    if operator.kind is Kind.UNARY:
        parts.append(struct.pack("<B", operator.function))
    if operator.kind is Kind.LAYER_NORM:
        if operator.weights is None or operator.bias is None:
            raise ValueError("a layer norm without scale or shift")
        parts += [struct.pack("<f", operator.epsilon), _floats(operator.weights), _floats(operator.bias)]
    return b"".join(parts)


def _window(window: Window | None) -> bytes:
    if window is None:
        raise ValueError("an operator that slides has no window")
    return struct.pack(
        "<7B", window.height, window.width, window.stride,
        window.pad_top, window.pad_left, window.pad_bottom, window.pad_right,
    )  # fmt: skip


def _matrix(matrix: NDArray[np.float32], storage: Storage, kind: ValueKind) -> bytes:
    rows, columns = matrix.shape
    sparse = storage is not Storage.DENSE
    head = struct.pack("<BII", storage, rows, columns)
    flat = np.ascontiguousarray(matrix, dtype="<f4").reshape(-1)
    positions = np.flatnonzero(flat) if sparse else np.arange(flat.size)
    if sparse:
        k = choose_k(len(positions), flat.size)
        stream = encode_positions(positions, k)
        head += struct.pack("<IBI", len(positions), k, len(stream)) + stream
    values, rows_of = flat[positions], positions // columns
    if kind is ValueKind.QUANTISED and not (storage is Storage.SPARSE and sums_stay_exact(values, rows_of, rows)):
        kind = ValueKind.INT8
    return head + struct.pack("<B", kind) + _values(values, rows_of, rows, kind)


def sums_stay_exact(values: NDArray[np.float32], rows_of: NDArray[np.int64], rows: int) -> bool:
    """Whether float32 holds every sum of a row's int8 weights times inputs of up to 255, as the runtime demands."""
    steps = np.abs(_quantise(values, rows_of, rows)[1].astype(np.int64))
    return bool(np.bincount(rows_of, steps, rows).max(initial=0) <= MOST_OF_ROW)


def _values(values: NDArray[np.float32], rows_of: NDArray[np.int64], rows: int, kind: ValueKind) -> bytes:
    if kind is ValueKind.FLOAT32:
        return values.tobytes()
    if kind is ValueKind.FLOAT16:
        return bytes(values.astype("<f2").tobytes())
    scales, steps = _quantise(values, rows_of, rows)
    return bytes(scales.tobytes() + steps.tobytes())


def _quantise(
    values: NDArray[np.float32], rows_of: NDArray[np.int64], rows: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """(a scale for each row, int8 for each value)."""
    largest = np.zeros(rows, np.float32)
    np.maximum.at(largest, rows_of, np.abs(values))
    scales = (largest / 127).astype("<f4")
    divisor = np.where(scales > 0, scales, 1).astype(np.float32)
    return scales, np.clip(np.rint(values / divisor[rows_of]), -127, 127).astype(np.int8)


def _bias(bias: NDArray[np.float32] | None) -> bytes:
    return b"\0" if bias is None else b"\1" + _floats(bias)


def _floats(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()
