"""How one tensor's zeros are left out of an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray


@dataclass(frozen=True)
class Encoded:
    """Initialisers to store, and nodes whose last output, called as the tensor was, is the dense tensor."""

    initialisers: list[onnx.TensorProto]
    nodes: list[onnx.NodeProto]

    @property
    def stored_bytes(self) -> int:
        return sum(len(tensor.raw_data) for tensor in self.initialisers)


class Codec(Protocol):
    """Encodes a float32 tensor of any shape without loss, bit for bit."""

    name: str

    def encode(self, name: str, tensor: NDArray[np.float32]) -> Encoded: ...
