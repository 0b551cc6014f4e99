"""Where the parts of one tensor's storage are collected: initialisers, decoding nodes, and the shapes between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

COMMON = "common/"
"""Names of constants that all tensors of a file share begin so."""
_FRAME = 4
"""Tag and length that protobuf writes before each part."""


@dataclass
class Scope:
    """Everything is named TENSOR/..., so that a viewer groups it; the last node's output is called as the tensor was.

    `shapes` holds what shape inference cannot know: ONNX Runtime folds no node whose output's shape is open.
    `framed`: axes of a tensor that is given back as [1, 1, *shape], as MaxUnpool makes it, which saves a copy; 0 where it
    has its own shape.
    """

    tensor: str
    framed: int = 0
    initialisers: list[onnx.TensorProto] = field(default_factory=list)
    sparse_initialisers: list[onnx.SparseTensorProto] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    shapes: list[onnx.ValueInfoProto] = field(default_factory=list)

    def constant(self, suffix: str, array: NDArray[Any]) -> str:
        """Store `array`; its name."""
        name = f"{self.tensor}/{suffix}"
        self.initialisers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def varints(self, suffix: str, numbers: NDArray[np.int64], dtype: int) -> str:
        """Store `numbers` >= 0 as a list of ONNX's integer type `dtype`: in a file, 7 bits of a number take a byte."""
        name = f"{self.tensor}/{suffix}"
        self.initialisers.append(helper.make_tensor(name, dtype, numbers.shape, numbers.reshape(-1).tolist()))
        return name

    def common(self, array: NDArray[Any], name: str = "") -> str:
        """A constant that other tensors' decoders use too; its name says what it holds, where it is given none."""
        shape = "x".join(map(str, array.shape)) if array.ndim > 1 else str(array.ndim)
        name = (
            COMMON + name if name else f"{COMMON}{array.dtype.char}{shape}:{','.join(map(str, array.ravel().tolist()))}"
        )
        if all(tensor.name != name for tensor in self.initialisers):
            self.initialisers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], *, output: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        number = len(self.nodes)
        output = output or f"{self.tensor}/{number}"
        label = f"{self.tensor}/{operator}_{number}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], label, **attributes))
        return output

    def frame(self, *extents: int) -> tuple[int, ...]:
        """The shape that positions and values of `extents` need: MaxUnpool's input has as many axes as its output.

        Axes of one element come first: behind the others, they make ONNX Runtime broadcast element by element.
        """
        return (1, 1, *[1] * (self.framed - len(extents)), *extents)

    def rename_last(self) -> None:
        """Call the last node's output as the tensor."""
        last = self.nodes[-1].output[0]
        self.nodes[-1].output[0] = self.tensor
        for shape in self.shapes:
            shape.name = self.tensor if shape.name == last else shape.name

    def state_shape(self, name: str, dtype: np.dtype[Any] | type, shape: Sequence[int]) -> None:
        """Write down the shape of `name`."""
        self.shapes.append(helper.make_tensor_value_info(name, onnx_type(dtype), list(shape)))

    @property
    def stored_bytes(self) -> int:
        """Bytes of all this in a file: constants, nodes and shapes with their names, but not what all tensors share."""
        own = [tensor for tensor in self.initialisers if not tensor.name.startswith(COMMON)]
        parts: list[Any] = [*own, *self.sparse_initialisers, *self.nodes, *self.shapes]
        return sum(part.ByteSize() + _FRAME for part in parts)


def onnx_type(dtype: np.dtype[Any] | type) -> int:
    """ONNX's number of a numpy dtype."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
