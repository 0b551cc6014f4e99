"""Random graphs, and what PyTorch answers for them in float64."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from sctool.export.sparse.graph import Activation, Graph, Kind, Operator, Storage, Unary, ValueKind, Window

Array = NDArray[np.float32]
ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.NONE: lambda x: x,
    Activation.RELU: torch.relu,
    Activation.RELU6: lambda x: x.clamp(0, 6),
    Activation.HARD_SWISH: functional.hardswish,
}


UNARIES: dict[Unary, Callable[[torch.Tensor], torch.Tensor]] = {
    Unary.HARD_SIGMOID: functional.hardsigmoid,
    Unary.GELU: functional.gelu,
    Unary.GELU_TANH: lambda x: functional.gelu(x, approximate="tanh"),
}


def draw_windows(largest: int) -> st.SearchStrategy[Window]:
    """Kernels of up to `largest` a side, with any padding below that, and strides up to 3."""
    sides = st.integers(1, largest)
    return sides.flatmap(lambda height: sides.flatmap(lambda width: st.builds(
        Window, st.just(height), st.just(width), st.integers(1, 3), st.integers(0, height - 1),
        st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, width - 1),
    )))  # fmt: skip


def draw(rng: np.random.Generator, shape: tuple[int, ...], density: float = 1.0) -> Array:
    """Normal numbers, all but a share `density` of them zero."""
    values = rng.standard_normal(shape).astype(np.float32)
    values[rng.random(shape) >= density] = 0.0
    return values


def convolution(
    rng: np.random.Generator, channels: int, out: int, height: int, width: int, window: Window, groups: int = 1,
    density: float = 1.0, storage: Storage = Storage.DENSE, activation: Activation = Activation.NONE,
    residual: bool = False, values: ValueKind = ValueKind.FLOAT32,
) -> Graph:  # fmt: skip
    """A graph of one convolution; input 0, and input 1 where there is a residual."""
    graph = Graph(8)
    x = graph.add_value((channels, height, width))
    y_shape = (
        out,
        (height + window.pad_top + window.pad_bottom - window.height) // window.stride + 1,
        (width + window.pad_left + window.pad_right - window.width) // window.stride + 1,
    )
    graph.inputs = [x]
    added = graph.add_value(y_shape) if residual else None
    if added is not None:
        graph.inputs.append(added)
    graph.outputs = [graph.add_value(y_shape)]
    weights = draw(rng, (out, channels // groups * window.height * window.width), density)
    graph.operators.append(
        Operator(
            Kind.CONVOLUTION, (x,), graph.outputs[0], activation, window, groups, added, weights, draw(rng, (out,)),
            storage, values,
        )
    )  # fmt: skip
    return graph


def mlp(rng: np.random.Generator, widths: list[int], density: float, storage: Storage) -> Graph:
    """Linear layers with ReLU between them."""
    graph = Graph(512)
    value = graph.add_value((widths[0],))
    graph.inputs = [value]
    for before, after in zip(widths, widths[1:], strict=False):
        made = graph.add_value((after,))
        weights, bias = draw(rng, (after, before), density), draw(rng, (after,))
        graph.operators.append(
            Operator(Kind.LINEAR, (value,), made, Activation.RELU, weights=weights, bias=bias, storage=storage)
        )
        value = made
    graph.outputs = [value]
    return graph


def answer(graph: Graph, inputs: list[Array]) -> list[NDArray[np.float64]]:
    """The outputs [B, elements] in float64."""
    values = {number: torch.from_numpy(x).double() for number, x in zip(graph.inputs, inputs, strict=True)}
    for operator in graph.operators:
        if operator.kind in (Kind.CONVOLUTION, Kind.GLOBAL_MEAN):  # over maps, whatever the form
            maps = {number: _as_map(value, number in graph.tokens) for number, value in values.items()}
            shape, tokens = graph.shapes[operator.output], operator.output in graph.tokens
            made = _apply(operator, maps).flatten(2)
            values[operator.output] = (made.transpose(1, 2) if tokens else made).reshape(len(made), *shape)
        else:
            values[operator.output] = _apply(operator, values)
    return [values[number].flatten(1).numpy() for number in graph.outputs]


def _as_map(value: torch.Tensor, tokens: bool) -> torch.Tensor:
    """[B, C, L] or tokens [B, T, F] -> a map of height one; others as they are."""
    if value.ndim != 3:
        return value
    return (value.transpose(1, 2) if tokens else value).unsqueeze(2)


def _apply(operator: Operator, values: dict[int, torch.Tensor]) -> torch.Tensor:
    x = values[operator.inputs[0]]
    window = operator.window
    if operator.kind in (Kind.CONVOLUTION, Kind.LINEAR):
        assert operator.weights is not None
        weights = torch.from_numpy(operator.weights).double()
        bias = None if operator.bias is None else torch.from_numpy(operator.bias).double()
        if operator.kind is Kind.LINEAR:
            y = functional.linear(x, weights, bias)
        else:
            assert window is not None
            padded = functional.pad(x, (window.pad_left, window.pad_right, window.pad_top, window.pad_bottom))
            kernel = weights.view(len(weights), -1, window.height, window.width)
            y = functional.conv2d(padded, kernel, bias, stride=window.stride, groups=operator.groups)
            if operator.residual is not None:
                y = y + values[operator.residual]
    elif operator.kind is Kind.UNARY:
        y = UNARIES[operator.function](x)
    elif operator.kind is Kind.MULTIPLY:
        factor = values[operator.inputs[1]]
        y = x * factor.reshape(*factor.shape[:2], *[1] * (x.ndim - 2)) if factor.ndim != x.ndim else x * factor
    elif operator.kind is Kind.LAYER_NORM:
        assert operator.weights is not None and operator.bias is not None
        scale, shift = (torch.from_numpy(part).double().flatten() for part in (operator.weights, operator.bias))
        y = functional.layer_norm(x, (len(scale),), scale, shift, operator.epsilon)
    elif operator.kind is Kind.ADD:
        y = x + values[operator.inputs[1]]
    elif operator.kind is Kind.GLOBAL_MEAN:
        y = x.mean((2, 3), keepdim=True)
    elif operator.kind is Kind.CONCAT:
        y = torch.cat([values[number] for number in operator.inputs], 1)
    elif operator.kind is Kind.FLATTEN:
        y = x.flatten(1)
    elif operator.kind in (Kind.MAX_POOL, Kind.AVERAGE_POOL):
        assert window is not None
        pool = functional.max_pool2d if operator.kind is Kind.MAX_POOL else functional.avg_pool2d
        y = pool(x, (window.height, window.width), window.stride, (window.pad_top, window.pad_left))
    else:
        y = x
    return ACTIVATIONS[operator.activation](y)


def relative_error(found: Array, expected: NDArray[np.float64]) -> float:
    """The largest difference as a share of the largest answer."""
    return float(np.abs(found - expected).max(initial=0) / max(1.0, np.abs(expected).max(initial=0)))


def drop_checksum(payload: bytes) -> bytes:
    """The same as version 1, which has none: spoilt, it gets as far as its damage."""
    return payload[:4] + struct.pack("<I", 1) + payload[16:]
