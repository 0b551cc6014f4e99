"""Values as places in a small table that fits them ("deep compression", Han, Mao, Dally, ICLR 2016, section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sctool.export.codecs.bits import add_unpack
from sctool.export.codecs.codec import Cost, Quantised
from sctool.export.codecs.scope import Scope

ROUNDS = 25
_TINY = np.finfo(np.float32).tiny


def fit_table(values: NDArray[np.float32], entries: int) -> NDArray[np.float32]:
    """Rising float32 [<= entries]: centres of 1-D k-means from the quantiles of `values` [n >= 1], without zero."""
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.unique(np.quantile(ordered, (np.arange(entries) + 0.5) / entries))
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(edges)
        moved = np.diff(sums[edges])[counts > 0] / counts[counts > 0]
        if np.array_equal(moved, centres):
            break
        centres = moved
    table = centres.astype(np.float32)
    table[table == 0] = _TINY
    return np.unique(table)


class Codebook:
    """`entries` is 16 or 256; entry 0 is 0.0."""

    def __init__(self, entries: int) -> None:
        self.name = f"codebook{entries}"
        self.opset = {16: 18, 256: 7}[entries]
        self.cost = Cost(1e5, 0.0, 8.0, 0, 11)
        self._entries = entries
        self._width = {16: 4, 256: 8}[entries]

    def quantise(self, tensor: NDArray[Any]) -> Quantised | None:
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            return None
        table = np.zeros(1, np.float32)
        codes = np.zeros(tensor.shape, np.uint8)
        if tensor.any():
            values = tensor[tensor != 0]
            fitted = fit_table(values, self._entries - 1)
            middles = (fitted[1:].astype(np.float64) + fitted[:-1]) / 2
            codes[tensor != 0] = 1 + np.searchsorted(middles, values)
            table = np.concatenate([table, fitted])
        return Quantised(codes, self._width, np.dtype(np.float32), table=table)

    def restore(self, quantised: Quantised) -> NDArray[Any]:
        assert quantised.table is not None
        return np.asarray(quantised.table[quantised.codes])

    def add_lift(self, scope: Scope, codes: NDArray[Any], shape: tuple[int, ...], quantised: Quantised) -> str:
        return self.add_lift_stored(scope, add_unpack(scope, "values", codes, self._width, shape), quantised)

    def add_lift_stored(self, scope: Scope, name: str, quantised: Quantised) -> str:
        assert quantised.table is not None
        place = scope.add("Cast", [name], to=onnx.TensorProto.INT32)
        return scope.add("Gather", [scope.constant("table", quantised.table), place])
