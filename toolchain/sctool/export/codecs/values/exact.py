"""The values as they are, bit for bit, in the tensor's own type."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from sctool.export.codecs.codec import Cost, Quantised
from sctool.export.codecs.scope import Scope


class Exact:
    """Four bytes a value for float32."""

    name = "float32"
    opset = 1
    cost = Cost()

    def quantise(self, tensor: NDArray[Any]) -> Quantised | None:
        return Quantised(tensor, 8 * tensor.itemsize, tensor.dtype)

    def restore(self, quantised: Quantised) -> NDArray[Any]:
        return quantised.codes

    def add_lift(self, scope: Scope, codes: NDArray[Any], shape: tuple[int, ...], quantised: Quantised) -> str:
        return scope.constant("values", codes.reshape(shape))

    def add_lift_stored(self, scope: Scope, name: str, quantised: Quantised) -> str:
        return name
