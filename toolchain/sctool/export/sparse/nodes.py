"""What a node of a captured program is: its operator, the shape of one record, its window; edge and core dialect alike."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from sctool.export.sparse.graph import Activation, Unary, Window

LIMITS = {"channels": 65534, "side": 16384, "kernel": 31, "stride": 8, "tile": 65535}
"""Of the runtime: what is larger stays with another backend."""
VIEWS = {"aten.view_copy.default", "aten.view.default"}
_SQUEEZES = {"aten.unsqueeze_copy.default", "aten.unsqueeze.default", "aten.squeeze_copy.dims", "aten.squeeze.dims"}


def name_of(node: fx.Node) -> str:
    """ "aten.convolution.default" for a call of that operator; "" for anything else."""
    if node.op != "call_function":
        return ""
    overload = node.target if isinstance(node.target, OpOverload) else getattr(node.target, "_op", node.target)
    return str(overload) if isinstance(overload, OpOverload) else str(getattr(overload, "__name__", overload))


def record_shape(node: fx.Node) -> tuple[int, ...] | None:
    """[B, C, H, W] -> (C, H, W), [B, C, L] -> (C, L), [B, F] -> (F,), with B the only side that may vary; else None."""
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        value = value[0]
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.ndim not in (2, 3, 4):
        return None
    sizes = list(value.shape)[1:]
    return tuple(int(size) for size in sizes) if all(isinstance(size, int) for size in sizes) else None


def activation_of(node: fx.Node) -> Activation | None:
    """Which of the runtime's activations a node is, or None."""
    name = name_of(node)
    if name == "aten.relu.default":
        return Activation.RELU
    if name == "aten.hardtanh.default" and tuple(node.args[1:]) == (0, 6):
        return Activation.RELU6
    if name == "aten.clamp.default" and tuple(node.args[1:]) == (0, 6):
        return Activation.RELU6
    return Activation.HARD_SWISH if name == "aten.hardswish.default" else None


def convolution_window(node: fx.Node) -> Window | None:
    """The window of a convolution that the runtime takes, or None; over a line it has height one."""
    _, weight, _, strides, paddings, dilations, transposed, *_ = node.args  # all lists but the weight
    sizes: list[Any] = [strides, paddings, dilations]
    kernel = list(weight.meta["val"].shape)[2:]  # type: ignore[union-attr]
    if transposed or len(kernel) not in (1, 2):
        return None
    if len(kernel) == 1:
        stride, padding, dilation = (int(part[0]) for part in sizes)
        return None if dilation != 1 else _window([1, *kernel], stride, (0, padding))
    strides, paddings, dilations = (_pair(part) for part in sizes)
    if strides[0] != strides[1] or dilations != (1, 1):
        return None
    return _window(kernel, strides[0], paddings)


def pool_window(node: fx.Node) -> Window | None:
    """The window of a maximum or average pool that the runtime takes, or None."""
    arguments = list(node.args)
    kernel = _pair(arguments[1])
    stride = _pair(arguments[2]) if len(arguments) > 2 and arguments[2] else kernel
    padding = _pair(arguments[3]) if len(arguments) > 3 else (0, 0)
    average = name_of(node) == "aten.avg_pool2d.default"
    rest = arguments[4:]
    if average:
        ceil = bool(rest[0]) if rest else False
        counts_padding = bool(rest[1]) if len(rest) > 1 else True
        if (not counts_padding and padding != (0, 0)) or (len(rest) > 2 and rest[2] is not None):
            return None
    else:
        if rest and _pair(rest[0]) != (1, 1):
            return None
        ceil = bool(rest[1]) if len(rest) > 1 else False
    if kernel[0] == 1 and (record_shape(node.all_input_nodes[0]) or (0,))[1:2] == (1,):
        stride = (stride[1], stride[1])  # down a map of height one nothing moves
    return None if ceil or stride[0] != stride[1] else _window(list(kernel), stride[0], padding)


def _pair(value: Any) -> tuple[int, int]:
    sides = [value, value] if isinstance(value, int) else list(value)
    return (int(sides[0]), int(sides[-1]))


def _window(kernel: list[int], stride: int, padding: tuple[int, int]) -> Window | None:
    height, width = int(kernel[0]), int(kernel[1])
    if max(height, width) > LIMITS["kernel"] or stride > LIMITS["stride"]:
        return None
    if padding[0] >= height or padding[1] >= width:
        return None
    return Window(height, width, stride, padding[0], padding[1], padding[0], padding[1])


def flattens(node: fx.Node) -> bool:
    """Whether a view makes [B, C, H, W] or [B, C, L] into a vector."""
    if name_of(node) not in VIEWS:
        return False
    before, after = record_shape(node.all_input_nodes[0]), record_shape(node)
    return before is not None and after is not None and len(before) > 1 and after == (math.prod(before),)


def arguments(node: fx.Node) -> list[fx.Node]:
    """The nodes that a node reads as its data, not as weights."""
    if name_of(node) in ("aten.linear.default", "aten.convolution.default", "aten.native_layer_norm.default"):
        return [part for part in node.args[:1] if isinstance(part, fx.Node)]
    return list(node.all_input_nodes)


def batch_of(node: fx.Node) -> str:
    """The first side of a node's value, by name where it varies."""
    value = node.meta.get("val")
    value = value[0] if isinstance(value, (list, tuple)) else value
    return str(value.shape[0]) if isinstance(value, torch.Tensor) and value.ndim else ""


def mean_axes(node: fx.Node) -> list[int]:
    """The axes of a mean, counted from the front."""
    rank = len(record_shape(arguments(node)[0]) or ()) + 1
    return sorted(int(axis) % rank for axis in node.args[1])  # type: ignore[union-attr, arg-type]


def turns_line(node: fx.Node) -> bool:
    """Whether a node makes a line [B, C, L] a map [B, C, 1, L], or the other way: the same in memory."""
    if name_of(node) not in _SQUEEZES:
        return False
    before, after = record_shape(arguments(node)[0]) or (), record_shape(node) or ()
    line, wide = sorted((before, after), key=len)
    return len(line) == 2 and wide == (line[0], 1, line[1])


def unary_of(node: fx.Node) -> Unary | None:
    """Which of the runtime's functions a node is, or None."""
    if name_of(node) == "aten.hardsigmoid.default":
        return Unary.HARD_SIGMOID
    if name_of(node) != "aten.gelu.default":
        return None
    return Unary.GELU_TANH if node.kwargs.get("approximate", "none") == "tanh" else Unary.GELU


def factors_of(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """Of a product: (a value as large as the product, one as large or with one number a channel), or None."""
    parts = [part for part in node.args[:2] if isinstance(part, fx.Node)]
    shape = record_shape(node)
    if name_of(node) != "aten.mul.Tensor" or len(parts) != 2 or shape is None:
        return None
    for whole, other in (parts, parts[::-1]):
        small = record_shape(other)
        by_channel = len(shape) > 1 and small == (shape[0], *[1] * (len(shape) - 1))
        if record_shape(whole) == shape and (small == shape or by_channel):
            return whole, other
    return None


def normalises_channels(node: fx.Node) -> bool:
    """Whether a layer norm goes over the last side of [B, F] or [B, T, F] alone, and only its first result is used."""
    shape = record_shape(arguments(node)[0])
    return (
        name_of(node) == "aten.native_layer_norm.default" and shape is not None and len(shape) <= 2
        and [int(side) for side in node.args[1]] == [shape[-1]]  # type: ignore[union-attr, arg-type]
        and len(node.users) == 1
    )  # fmt: skip
