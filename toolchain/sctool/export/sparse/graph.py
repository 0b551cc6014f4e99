"""What the sparse runtime executes: values, and operators over them in order. sparse_runtime/README.md has the format."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Kind(IntEnum):
    CONVOLUTION = 1
    LINEAR = 2
    ADD = 3
    ACTIVATION = 4
    MAX_POOL = 5
    AVERAGE_POOL = 6
    GLOBAL_MEAN = 7
    CONCAT = 8
    FLATTEN = 9
    UNARY = 10
    MULTIPLY = 11
    LAYER_NORM = 12


class Activation(IntEnum):
    NONE = 0
    RELU = 1
    RELU6 = 2
    HARD_SWISH = 3


class Unary(IntEnum):
    """Functions that are no activation of a layer before them."""

    HARD_SIGMOID = 0
    GELU = 1
    GELU_TANH = 2


class ValueKind(IntEnum):
    """How a matrix's values are stored. All but QUANTISED compute in float32: that is int8 times inputs that are quantised
    to uint8 as the program runs, with a scale for each record and layer."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT8 = 2
    QUANTISED = 3


class Storage(IntEnum):
    """How a matrix is stored, and whether its zeros take part when it runs."""

    DENSE = 0
    SPARSE = 1
    SPARSE_RUN_DENSE = 2


@dataclass(frozen=True)
class Window:
    """A kernel that slides: sides, one stride for both directions, padding before and after."""

    height: int
    width: int
    stride: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    pad_right: int = 0


@dataclass(frozen=True)
class Operator:
    """One step: `weights` [rows, columns] float32 (of a convolution [channels out, channels in * height * width]).

    Of a layer norm `weights` [1, channels] and `bias` are scale and shift.
    """

    kind: Kind
    inputs: tuple[int, ...]
    output: int
    activation: Activation = Activation.NONE
    window: Window | None = None
    groups: int = 1
    residual: int | None = None
    weights: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    storage: Storage = Storage.DENSE
    values: ValueKind = ValueKind.FLOAT32
    function: Unary = Unary.HARD_SIGMOID
    epsilon: float = 0.0


@dataclass
class Graph:
    """`shapes`: of one record of each value, (F,), (C, L), (C, H, W) or, where its number is among `tokens`, (T, F); inputs
    and outputs name values by their number."""

    max_batch: int
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    tokens: set[int] = field(default_factory=set)

    def add_value(self, shape: tuple[int, ...], *, tokens: bool = False) -> int:
        """The number of a new value."""
        self.shapes.append(shape)
        if tokens:
            self.tokens.add(len(self.shapes) - 1)
        return len(self.shapes) - 1
