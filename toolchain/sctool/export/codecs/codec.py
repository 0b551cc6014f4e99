"""What stores a tensor: a position codec says where the values are, a value codec what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sctool.export.codecs.scope import Scope


@dataclass(frozen=True)
class Quantised:
    """codes: of the tensor's shape, code 0 is +0.0 and nothing else is; width: bits that a code takes when stored.

    dtype: of the tensor that the nodes give back. table: float32 [T], what the codes stand for; scale: float32,
    multiplied at the end, of a shape that broadcasts over the tensor; None where there is no such step.
    """

    codes: NDArray[Any]
    width: int
    dtype: np.dtype[Any]
    table: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Cost:
    """What decoding adds when a model is loaded (x86 host, one thread; see benchmarks/storage.py): CPU time, in ns, and what
    it leaves over until its stage ends, in bytes; a tensor, an element, and a stored value."""

    tensor_ns: float = 0.0
    element_ns: float = 0.0
    value_ns: float = 0.0
    element_bytes: float = 0.0
    value_bytes: float = 0.0

    def take(self, elements: int, values: int) -> tuple[float, float]:
        """(ns, bytes) of a tensor."""
        time = self.tensor_ns + self.element_ns * elements + self.value_ns * values
        return time, self.element_bytes * elements + self.value_bytes * values


class ValueCodec(Protocol):
    """What is stored of each value. Zeros stay zeros."""

    name: str
    opset: int
    """The lowest that its nodes need."""
    cost: Cost

    def quantise(self, tensor: NDArray[Any]) -> Quantised | None:
        """The codes of `tensor`; None where this codec cannot hold it."""
        ...

    def restore(self, quantised: Quantised) -> NDArray[Any]:
        """What the nodes give: the numpy oracle."""
        ...

    def add_lift(self, scope: Scope, codes: NDArray[Any], shape: tuple[int, ...], quantised: Quantised) -> str:
        """Store `codes` [n] and add the nodes that turn them into values of `shape`, of n elements; their name."""
        ...

    def add_lift_stored(self, scope: Scope, name: str, quantised: Quantised) -> str:
        """The same for codes that are in the graph already, a number each."""
        ...


class PositionCodec(Protocol):
    """Where the codes other than 0 are. Decodes any shape, bit for bit."""

    name: str
    opset: int
    cost: Cost
    lifts: ClassVar[Mapping[str, Cost]]
    """Value codec -> its `cost` with these positions, where that is another than on its own."""

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        """Store `quantised` and add the nodes that give the dense tensor, unscaled; its name."""
        ...
