"""Values as int8 with a scale a channel, symmetric, so that zeros stay zeros; multiplied out at load.

By Cast and Mul, which ONNX Runtime folds. DequantizeLinear would stay in the graph, or be fused with what follows into
something that answers differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sctool.export.codecs.codec import Cost, Quantised
from sctool.export.codecs.scope import Scope

LARGEST = 127


class Int8:
    """One byte a value; a channel's scale is max |w| / 127. Channels lie along axis 0, or, in a matrix, along axis 1 where
    that fits better: a MatMul's weight has its outputs there."""

    name = "int8"
    opset = 7
    cost = Cost(6e4, 0.0, 6.0, 4, 4)

    def quantise(self, tensor: NDArray[Any]) -> Quantised | None:
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            return None
        axes = [0, 1] if tensor.ndim == 2 else [0]
        return min((_quantise_along(tensor, axis) for axis in axes), key=lambda found: _squared_error(tensor, found))

    def restore(self, quantised: Quantised) -> NDArray[Any]:
        assert quantised.scale is not None
        return np.asarray(quantised.codes.astype(np.float32) * quantised.scale)

    def add_lift(self, scope: Scope, codes: NDArray[Any], shape: tuple[int, ...], quantised: Quantised) -> str:
        return self.add_lift_stored(scope, scope.constant("values", codes.reshape(shape)), quantised)

    def add_lift_stored(self, scope: Scope, name: str, quantised: Quantised) -> str:
        return scope.add("Cast", [name], to=onnx.TensorProto.FLOAT)


def _quantise_along(tensor: NDArray[np.float32], channels: int) -> Quantised:
    others = tuple(axis for axis in range(tensor.ndim) if axis != channels) if tensor.ndim > 1 else None
    top = np.abs(tensor).max(axis=others, keepdims=True, initial=0)
    scale = np.maximum(top / np.float32(LARGEST), np.finfo(np.float32).tiny).astype(np.float32)
    codes = np.clip(np.rint(tensor / scale), -LARGEST, LARGEST).astype(np.int8)
    return Quantised(codes, 8, np.dtype(np.float32), scale=scale)


def _squared_error(tensor: NDArray[np.float32], quantised: Quantised) -> float:
    assert quantised.scale is not None
    return float(np.square(quantised.codes * quantised.scale.astype(np.float64) - tensor).sum())
