"""Layers that read channels: which of them a layer does without, and what it takes to do without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sctool.export.passes.editable import EditableGraph, Vector, attribute_of, pads


@dataclass
class Reader:
    """A layer that reads channels, `repeats` inputs in a row for each; `seen`: the constant there, NaN where none."""

    node: onnx.NodeProto
    repeats: int
    seen: Vector


def reads_channels(graph: EditableGraph, node: onnx.NodeProto, last: bool, channels: int) -> bool:
    """Whether `node` is a layer over `channels` inputs whose weight can be narrowed and whose bias can be added to."""
    weight = graph.own_weight(node, 1)
    if weight is None:
        return False
    if node.op_type == "Conv":
        bias_fits = len(node.input) < 3 or node.input[2] in graph.arrays
        return not last and attribute_of(node, "group", 1) == 1 and weight.shape[1] == channels and bias_fits
    if not last or weight.ndim != 2:
        return False
    if node.op_type == "Gemm":
        bias_fits = len(node.input) < 3 or graph.arrays.get(node.input[2], np.zeros(0)).shape == (
            _outputs(node, weight),
        )
        return (
            not attribute_of(node, "transA", 0) and is_plain(node) and bias_fits and _inputs(node, weight) == channels
        )
    return node.op_type == "MatMul" and weight.shape[0] == channels


def find_ignored(graph: EditableGraph, reader: Reader, channels: int) -> NDArray[np.bool_]:
    """bool [C]: channels that the reader does without."""
    columns = _columns(graph, reader).reshape(channels * reader.repeats, -1)
    unread = ~columns.any(axis=1)
    known = reader.seen == 0 if reader.node.op_type == "Conv" and pads(reader.node) else ~np.isnan(reader.seen)
    if reader.node.op_type == "MatMul" and _find_bias_after(graph, reader.node) is None:
        known = reader.seen == 0
    return np.asarray((unread | known).reshape(channels, reader.repeats).all(axis=1))


def close_reader(graph: EditableGraph, reader: Reader, keep: NDArray[np.int64], channels: int) -> None:
    """Narrow a reader to `keep`, and let its bias take over what the others gave."""
    columns = _columns(graph, reader).astype(np.float64)
    gone = np.setdiff1d(np.arange(channels), keep)
    rows = (gone[:, None] * reader.repeats + np.arange(reader.repeats)).reshape(-1)
    seen = np.nan_to_num(reader.seen[rows])
    if seen.any():
        per_output = columns[rows].reshape(len(rows), columns.shape[1], -1).sum(axis=2)
        bias_node, place = (reader.node, 2) if reader.node.op_type != "MatMul" else _find_bias_after(graph, reader.node)  # type: ignore[misc]
        graph.set_bias(bias_node, place, seen @ per_output)
    left = (keep[:, None] * reader.repeats + np.arange(reader.repeats)).reshape(-1)
    name = reader.node.input[1]
    graph.arrays[name] = np.take(graph.arrays[name], left, _input_axis(reader.node))


def is_plain(node: onnx.NodeProto) -> bool:
    """Whether a Gemm scales neither its product nor its bias."""
    return bool(attribute_of(node, "alpha", 1.0) == 1.0 and attribute_of(node, "beta", 1.0) == 1.0)


def _inputs(node: onnx.NodeProto, weight: NDArray[Any]) -> int:
    return int(weight.shape[1 if attribute_of(node, "transB", 0) else 0])


def _outputs(node: onnx.NodeProto, weight: NDArray[Any]) -> int:
    return int(weight.shape[0 if attribute_of(node, "transB", 0) else 1])


def _columns(graph: EditableGraph, reader: Reader) -> NDArray[Any]:
    """The weight with its axis of inputs first."""
    weight = graph.arrays[reader.node.input[1]]
    return np.moveaxis(weight, _input_axis(reader.node), 0)


def _input_axis(node: onnx.NodeProto) -> int:
    return 1 if node.op_type == "Conv" or attribute_of(node, "transB", 0) else 0


def _find_bias_after(graph: EditableGraph, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int] | None:
    """The Add of an initialiser [outputs] that alone reads a MatMul's output, and the place of that input."""
    readers = graph.readers.get(node.output[0], [])
    if len(readers) != 1 or readers[0].op_type != "Add" or node.output[0] in graph.outputs:
        return None
    place = 1 if readers[0].input[0] == node.output[0] else 0
    bias = graph.arrays.get(readers[0].input[place])
    width = graph.arrays[node.input[1]].shape[1]
    return (readers[0], place) if bias is not None and bias.shape == (width,) else None
