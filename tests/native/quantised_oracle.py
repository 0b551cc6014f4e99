"""int8 arithmetic of one layer in whole numbers, slowly: what every instruction set must answer to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sctool.export.sparse.graph import Activation, Graph, ValueKind, Window
from tests.native.oracle import Array


def quantise(graph: Graph) -> Graph:
    """The same layers in int8."""
    return replace(graph, operators=[replace(operator, values=ValueKind.QUANTISED) for operator in graph.operators])


def quantise_weights(weights: Array) -> tuple[Array, NDArray[np.int64]]:
    """(a scale for each row, whole numbers of -127 ... 127)."""
    scales = (np.abs(weights).max(1) / np.float32(127)).astype(np.float32)
    steps = np.rint(weights / np.where(scales > 0, scales, np.float32(1))[:, None])
    return scales, np.clip(steps, -127, 127).astype(np.int64)


def quantise_record(record: Array) -> tuple[np.float32, NDArray[np.int64]]:
    """(scale, bytes less their zero point)."""
    low, high = np.float32(min(record.min(), 0)), np.float32(max(record.max(), 0))
    length = np.float32(high - low)
    if length < 1e-30:
        return np.float32(0), np.zeros(record.shape, np.int64)
    inverse = np.float32(255) / length
    zero = int(np.rint(-low * inverse))
    return length / np.float32(255), np.clip(np.rint(record * inverse).astype(np.int64) + zero, 0, 255) - zero


def answer_quantised(graph: Graph, inputs: list[Array]) -> Array:
    """The outputs [B, elements] of a graph of one convolution or linear layer without activation or with ReLU."""
    (operator,) = graph.operators
    assert operator.weights is not None and operator.bias is not None
    window = operator.window or Window(1, 1)
    weight_scales, weights = quantise_weights(operator.weights)
    rows = []
    for number, record in enumerate(inputs[0]):
        scale, steps = quantise_record(record)
        planes = steps if steps.ndim == 3 else steps[:, None, None]
        padded = np.pad(planes, ((0, 0), (window.pad_top, window.pad_bottom), (window.pad_left, window.pad_right)))
        patches = torch.nn.functional.unfold(
            torch.from_numpy(padded[None].astype(np.float64)), (window.height, window.width), stride=window.stride
        )[0]
        sums = weights @ patches.numpy().astype(np.int64)
        y = sums.astype(np.float32) * (weight_scales * scale)[:, None] + operator.bias[:, None]
        if operator.residual is not None:
            y = y + inputs[1][number].reshape(y.shape)
        rows.append(np.maximum(y, np.float32(0)) if operator.activation is Activation.RELU else y)
    return np.stack(rows).reshape(len(rows), -1)
