"""Values rounded to float16, widened again at load."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sctool.export.codecs.codec import Cost, Quantised
from sctool.export.codecs.scope import Scope


class Half:
    """Two bytes a value; a relative error of up to 2**-11."""

    name = "float16"
    opset = 7
    cost = Cost(3e4, 0.0, 4.0, 0, 4)

    def quantise(self, tensor: NDArray[Any]) -> Quantised | None:
        with np.errstate(over="ignore"):
            codes = tensor.astype(np.float16) + np.float16(0)
        if tensor.dtype != np.float32 or not np.isfinite(codes).all():
            return None
        return Quantised(codes, 16, np.dtype(np.float32))

    def restore(self, quantised: Quantised) -> NDArray[Any]:
        return quantised.codes.astype(np.float32)

    def add_lift(self, scope: Scope, codes: NDArray[Any], shape: tuple[int, ...], quantised: Quantised) -> str:
        return self.add_lift_stored(scope, scope.constant("values", codes.reshape(shape)), quantised)

    def add_lift_stored(self, scope: Scope, name: str, quantised: Quantised) -> str:
        return scope.add("Cast", [name], to=onnx.TensorProto.FLOAT)
