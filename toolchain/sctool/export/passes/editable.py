"""A graph in the hands of a pass: its weights as arrays, and who reads what."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Vector = NDArray[np.float64]


class EditableGraph:
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
        """The model as it is now, its shapes inferred anew where an array has changed."""
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


def attribute_of(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The attribute's value, or `default` where it is not set."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def pads(node: onnx.NodeProto) -> bool:
    """Whether a convolution or pool sees zeros around its input."""
    automatic = attribute_of(node, "auto_pad", b"NOTSET")
    return any(attribute_of(node, "pads", [])) or automatic in (b"SAME_UPPER", b"SAME_LOWER")
