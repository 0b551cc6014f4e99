"""Channels that carry nothing are taken out, exactly.

A channel between a layer and those that read it goes where each reader either has only zeros for it or sees a constant
there, which moves into its bias. A constant comes from a filter whose weights are all zero (its bias, through what
follows), or from a depthwise filter of that kind. A reader that pads with zeros takes no constant but 0: at the border the
padding would show. What adds two paths, or is an output of the graph, blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

UNARY = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Erf",
    "Gelu", "Clip", "Identity", "Abs", "Neg", "Sqrt", "Exp", "Mish",
)  # fmt: skip
"""Work on each element alone."""
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")
Vector = NDArray[np.float64]


@dataclass
class _Step:
    """A node between a layer and its readers whose own channels go along: its constants' axis of channels."""

    node: onnx.NodeProto
    slices: dict[str, int] = field(default_factory=dict)
    repeats: int = 1


@dataclass
class _Reader:
    """A layer that reads channels, `repeats` inputs in a row for each; `seen`: the constant there, NaN where none."""

    node: onnx.NodeProto
    repeats: int
    seen: Vector


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
        graph = _Graph(model)
        while any([_shrink(graph, node) for node in graph.nodes]):
            pass
        return graph.finish()

    def breaks(self, before: onnx.ModelProto, after: onnx.ModelProto) -> str:
        graph = _Graph(after)
        left = [node.name for node in graph.nodes if _shrink(graph, node)]
        return f"left dead channels behind {left[0]!r}" if left else ""


class _Graph:
    """A copy of a model with its weights as arrays, and who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        self.nodes = list(graph.node)
        self.outputs = {value.name for value in graph.output}
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._before = dict(self.arrays)
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        shapes = _find_shapes(self._model)
        self.ranks = {name: len(shape) for name, shape in shapes.items()}
        self.spatial_sizes = {name: math.prod(shape[2:]) for name, shape in shapes.items() if all(shape[2:])}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def own_weight(self, node: onnx.NodeProto, place: int) -> NDArray[Any] | None:
        """The float32 initialiser at input `place`, where this node alone reads it."""
        name = node.input[place] if len(node.input) > place else ""
        array = self.arrays.get(name)
        shared = len(self.readers.get(name, ())) != 1 or list(node.input).count(name) != 1
        return None if array is None or shared or array.dtype != np.float32 else array

    def set_bias(self, node: onnx.NodeProto, place: int, extra: Vector) -> None:
        """Add to the bias at input `place`, which is made where there is none."""
        name = node.input[place] if len(node.input) > place else ""
        base = self.arrays[name].astype(np.float64) if name else np.zeros(len(extra))
        if not name or len(self.readers[name]) > 1:
            fresh = f"{node.output[0]}/bias"
            if name:
                self.readers[name].remove(node)
                node.input[place] = fresh
            else:
                node.input.append(fresh)
            self.readers[fresh] = [node]
            name = fresh
        self.arrays[name] = (base + extra).astype(np.float32)

    def set_width(self, reshape: onnx.NodeProto, width: int) -> None:
        """Make a Reshape to [., W] one to [., width]."""
        name, target = reshape.input[1], self.arrays[reshape.input[1]].copy()
        if target[1] == -1:
            return
        target[1] = width
        if len(self.readers[name]) > 1:
            self.readers[name].remove(reshape)
            name = f"{reshape.output[0]}/shape"
            reshape.input[1], self.readers[name] = name, [reshape]
        self.arrays[name] = target

    def finish(self) -> onnx.ModelProto:
        graph = self._model.graph
        kept = [tensor for tensor in graph.initializer if self.arrays[tensor.name] is self._before[tensor.name]]
        known = {tensor.name for tensor in kept}
        made = [numpy_helper.from_array(np.ascontiguousarray(array), name)
                for name, array in self.arrays.items() if name not in known]  # fmt: skip
        if not made:
            return self._model
        order = {name: number for number, name in enumerate(self.arrays)}
        tensors = sorted([*kept, *made], key=lambda tensor: order[tensor.name])
        del graph.initializer[:], graph.value_info[:]
        graph.initializer.extend(tensors)
        return onnx.shape_inference.infer_shapes(self._model, data_prop=True)


def _find_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes as inferred; 0 for what is open."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _pads(node: onnx.NodeProto) -> bool:
    automatic = _attribute(node, "auto_pad", b"NOTSET")
    return any(_attribute(node, "pads", [])) or automatic in (b"SAME_UPPER", b"SAME_LOWER")


def _filters(graph: _Graph, node: onnx.NodeProto) -> tuple[NDArray[Any], int] | None:
    """(weight, its axis of outputs) of a layer whose outputs can be taken one by one."""
    weight = graph.own_weight(node, 1)
    if weight is None:
        return None
    if node.op_type == "Conv" and _attribute(node, "group", 1) == 1:
        return weight, 0
    if node.op_type == "Gemm" and not _attribute(node, "transA", 0) and _plain(node):
        return weight, 0 if _attribute(node, "transB", 0) else 1
    if node.op_type == "MatMul" and weight.ndim == 2:
        return weight, 1
    return None


def _plain(node: onnx.NodeProto) -> bool:
    return bool(_attribute(node, "alpha", 1.0) == 1.0 and _attribute(node, "beta", 1.0) == 1.0)


def _shrink(graph: _Graph, node: onnx.NodeProto) -> bool:
    """Take out the dead channels that `node` makes; whether there were any."""
    found = _filters(graph, node)
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
    steps: list[_Step] = []
    readers: list[_Reader] = []
    channel_last = node.op_type != "Conv"
    if not _follow(graph, node.output[0], constant, 1, channel_last, steps, readers) or not readers:
        return False
    dead = np.all([_ignored(graph, reader, count) for reader in readers], axis=0)
    if dead.all():
        dead[0] = False
    if not dead.any():
        return False
    keep = np.flatnonzero(~dead)
    for reader in readers:
        _close(graph, reader, keep, count)
    for step in steps:
        _narrow(graph, step, keep)
    graph.arrays[node.input[1]] = np.take(weight, keep, axis)
    if bias is not None:
        graph.arrays[bias_name] = bias[keep]
    return True


def _follow(
    graph: _Graph, value: str, constant: Vector, repeats: int, last: bool, steps: list[_Step], readers: list[_Reader]
) -> bool:
    """Walk from `value`, whose channels (axis -1 with `last`, else 1) are `constant` [C * repeats], to all its readers;
    False where something on the way ties them to anything else."""
    if value in graph.outputs:
        return False
    for node in graph.readers.get(value, []):
        if list(node.input).count(value) != 1 or len(node.output) != 1:
            return False
        if node.input[0] == value and _reads(graph, node, last, len(constant)):
            readers.append(_Reader(node, repeats, constant))
            continue
        step = _pass_through(graph, node, value, constant, repeats, last)
        if step is None:
            return False
        kind, seen, more = step
        steps.append(kind)
        flat = last or node.op_type in ("Flatten", "Reshape")
        if not _follow(graph, node.output[0], seen, more, flat, steps, readers):
            return False
    return True


def _reads(graph: _Graph, node: onnx.NodeProto, last: bool, channels: int) -> bool:
    """Whether `node` is a layer over `channels` inputs whose weight can be narrowed and whose bias can be added to."""
    weight = graph.own_weight(node, 1)
    if weight is None:
        return False
    if node.op_type == "Conv":
        bias_fits = len(node.input) < 3 or node.input[2] in graph.arrays
        return not last and _attribute(node, "group", 1) == 1 and weight.shape[1] == channels and bias_fits
    if not last or weight.ndim != 2:
        return False
    if node.op_type == "Gemm":
        bias_fits = len(node.input) < 3 or graph.arrays.get(node.input[2], np.zeros(0)).shape == (
            _outputs(node, weight),
        )
        return not _attribute(node, "transA", 0) and _plain(node) and bias_fits and _inputs(node, weight) == channels
    return node.op_type == "MatMul" and weight.shape[0] == channels


def _inputs(node: onnx.NodeProto, weight: NDArray[Any]) -> int:
    return int(weight.shape[1 if _attribute(node, "transB", 0) else 0])


def _outputs(node: onnx.NodeProto, weight: NDArray[Any]) -> int:
    return int(weight.shape[0 if _attribute(node, "transB", 0) else 1])


def _pass_through(
    graph: _Graph, node: onnx.NodeProto, value: str, constant: Vector, repeats: int, last: bool
) -> tuple[_Step, Vector, int] | None:
    """(step, constants after it, inputs a channel after it), or None where channels do not pass one by one."""
    kind, rank = node.op_type, graph.ranks.get(value, 0)
    if kind in UNARY and node.input[0] == value and all(name in graph.arrays for name in node.input[1:] if name):
        return _Step(node), _evaluate(graph, node, constant), repeats
    if kind in POOLS and not last and node.input[0] == value:
        if kind.startswith("Reduce") and not _reduces_space(graph, node, rank):
            return None
        padded_mean = kind == "AveragePool" and (_pads(node) or _attribute(node, "ceil_mode", 0))
        return _Step(node), np.where(constant == 0, 0.0, np.nan) if padded_mean else constant, repeats
    if kind in ("Flatten", "Reshape") and node.input[0] == value and not last and repeats == 1:
        return _flatten(graph, node, constant, rank)
    if kind in ("Add", "Mul", "Sub") and len(node.input) == 2:
        return _with_vector(graph, node, value, constant, repeats, last, rank)
    if kind == "Conv" and node.input[0] == value and not last and repeats == 1:
        return _depthwise(graph, node, constant)
    return None


def _evaluate(graph: _Graph, node: onnx.NodeProto, constant: Vector) -> Vector:
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


def _reduces_space(graph: _Graph, node: onnx.NodeProto, rank: int) -> bool:
    """ReduceMean and ReduceMax over all axes after the channels, kept."""
    axes = _attribute(node, "axes", None)
    if axes is None and len(node.input) > 1 and node.input[1] in graph.arrays:
        axes = graph.arrays[node.input[1]].tolist()
    if axes is None or not _attribute(node, "keepdims", 1) or rank < 3:
        return False
    return sorted(axis % rank for axis in axes) == list(range(2, rank))


def _flatten(graph: _Graph, node: onnx.NodeProto, constant: Vector, rank: int) -> tuple[_Step, Vector, int] | None:
    """[N, C, ...] -> [N, C * R], by Flatten or by Reshape to a constant [., C * R] or [., -1]."""
    repeats = graph.spatial_sizes.get(node.input[0])
    if rank < 3 or repeats is None:
        return None
    if node.op_type == "Flatten" and _attribute(node, "axis", 1) != 1:
        return None
    if node.op_type == "Reshape":
        target = graph.arrays.get(node.input[1], np.zeros(0)).tolist()
        if len(target) != 2 or target[1] not in (-1, len(constant) * repeats) or target[0] == 0 != target[1]:
            return None
    return _Step(node, repeats=repeats), np.repeat(constant, repeats), repeats


def _with_vector(
    graph: _Graph, node: onnx.NodeProto, value: str, constant: Vector, repeats: int, last: bool, rank: int
) -> tuple[_Step, Vector, int] | None:
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
    return _Step(node, slices, repeats), seen, repeats


def _depthwise(graph: _Graph, node: onnx.NodeProto, constant: Vector) -> tuple[_Step, Vector, int] | None:
    weight = graph.own_weight(node, 1)
    bias = graph.own_weight(node, 2) if len(node.input) > 2 else np.zeros(len(constant), np.float32)
    if weight is None or bias is None or _attribute(node, "group", 1) != len(constant) or len(weight) != len(constant):
        return None
    sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.float64)
    seen = np.where((constant != 0) & _pads(node), np.nan, constant) * sums + bias
    seen = np.where(weight.reshape(len(weight), -1).any(axis=1), seen, bias)
    slices = {node.input[1]: 0} | ({node.input[2]: 0} if len(node.input) > 2 else {})
    return _Step(node, slices), seen, 1


def _ignored(graph: _Graph, reader: _Reader, channels: int) -> NDArray[np.bool_]:
    """bool [C]: channels that the reader does without."""
    columns = _columns(graph, reader).reshape(channels * reader.repeats, -1)
    unread = ~columns.any(axis=1)
    known = reader.seen == 0 if reader.node.op_type == "Conv" and _pads(reader.node) else ~np.isnan(reader.seen)
    if reader.node.op_type == "MatMul" and _find_bias_after(graph, reader.node) is None:
        known = reader.seen == 0
    return np.asarray((unread | known).reshape(channels, reader.repeats).all(axis=1))


def _columns(graph: _Graph, reader: _Reader) -> NDArray[Any]:
    """The weight with its axis of inputs first."""
    weight = graph.arrays[reader.node.input[1]]
    return np.moveaxis(weight, _input_axis(reader.node), 0)


def _input_axis(node: onnx.NodeProto) -> int:
    return 1 if node.op_type == "Conv" or _attribute(node, "transB", 0) else 0


def _find_bias_after(graph: _Graph, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int] | None:
    """The Add of an initialiser [outputs] that alone reads a MatMul's output, and the place of that input."""
    readers = graph.readers.get(node.output[0], [])
    if len(readers) != 1 or readers[0].op_type != "Add" or node.output[0] in graph.outputs:
        return None
    place = 1 if readers[0].input[0] == node.output[0] else 0
    bias = graph.arrays.get(readers[0].input[place])
    width = graph.arrays[node.input[1]].shape[1]
    return (readers[0], place) if bias is not None and bias.shape == (width,) else None


def _close(graph: _Graph, reader: _Reader, keep: NDArray[np.int64], channels: int) -> None:
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


def _narrow(graph: _Graph, step: _Step, keep: NDArray[np.int64]) -> None:
    left = (keep[:, None] * step.repeats + np.arange(step.repeats)).reshape(-1)
    for name, axis in step.slices.items():
        graph.arrays[name] = np.take(graph.arrays[name], left, axis)
    if step.node.op_type == "Conv":
        next(a for a in step.node.attribute if a.name == "group").i = len(keep)
    if step.node.op_type == "Reshape":
        graph.set_width(step.node, len(left))
