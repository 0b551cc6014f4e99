"""Which operators the sparse runtime has."""

from __future__ import annotations

import math

from torch import fx

from sctool.export.sparse.forms import Forms
from sctool.export.sparse.nodes import (
    LIMITS,
    activation_of,
    arguments,
    batch_of,
    convolution_window,
    factors_of,
    flattens,
    mean_axes,
    name_of,
    normalises_channels,
    pool_window,
    record_shape,
    turns_line,
    unary_of,
)
from sctool.native.costs import LayerKind

MOST_OUTPUTS = 65534
"""Of a layer whose zeros are left out."""


def kind_of(node: fx.Node) -> LayerKind | None:
    """Which rows of a cost table a weighted layer goes by; None for what is none."""
    name = name_of(node)
    if name == "aten.linear.default":
        return "linear" if len(record_shape(node) or (0,)) == 1 else "pointwise"
    if name != "aten.convolution.default" or record_shape(node) is None:
        return None
    shape = tuple(node.args[1].meta["val"].shape)  # type: ignore[union-attr]
    if len(shape) not in (3, 4):
        return None
    if int(node.args[8]) > 1:  # type: ignore[arg-type]
        return "depthwise"
    return "pointwise" if math.prod(shape[2:]) == 1 else "spatial"


def output_pixels(node: fx.Node) -> int:
    """How often each weight of a layer is used for one record."""
    shape = record_shape(node) or (1,)
    return shape[0] if name_of(node) == "aten.linear.default" and len(shape) == 2 else math.prod(shape[1:])


def may_be_sparse(node: fx.Node) -> bool:
    """Whether a weighted layer's zeros can be left out: not in groups, nor with more outputs than 16 bits number."""
    weight = node.args[1]
    if isinstance(weight, fx.Node) and weight.meta["val"].shape[0] > MOST_OUTPUTS:
        return False
    return name_of(node) == "aten.linear.default" or int(node.args[8]) == 1  # type: ignore[arg-type]


def runs_here(node: fx.Node, forms: Forms) -> bool:
    """Whether the runtime has a kernel for a weighted layer."""
    source = node.args[0]
    if not isinstance(source, fx.Node) or not _has_forms(node, forms):
        return False
    before, after = record_shape(source), record_shape(node)
    if before is None or after is None:
        return False
    if name_of(node) == "aten.linear.default":
        tokens = before[0] if len(before) == 2 else 1
        return len(before) <= 2 and max(before[-1], after[-1]) <= LIMITS["channels"] and tokens <= LIMITS["side"]
    window = convolution_window(node)
    if window is None or max(before[0], after[0]) > LIMITS["channels"]:
        return False
    if max(*before[1:], *after[1:]) > LIMITS["side"]:
        return False
    # The packed planes of one channel must be within reach of 16-bit offsets, whatever the vector's width.
    return window.width * window.stride * (16 + window.height) * after[-1] <= LIMITS["tile"]


def is_item(node: fx.Node) -> bool:
    """Whether a node picks one of several results."""
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


def is_plain(node: fx.Node, forms: Forms) -> bool:
    """An operator without weights that are worth sparing, and that the runtime has."""
    if node.op != "call_function":
        return False
    if is_item(node):
        source = node.args[0]
        return bool(isinstance(source, fx.Node) and node.args[1] == 0 and is_plain(source, forms))
    shape, inputs = record_shape(node), [record_shape(part) for part in arguments(node)]
    if shape is None or not inputs or None in inputs or not _has_forms(node, forms):
        return False
    if any(batch_of(part) != batch_of(node) for part in arguments(node)):
        return False
    return _has_operator(node, shape, inputs, forms)


def _has_operator(node: fx.Node, shape: tuple[int, ...], inputs: list[tuple[int, ...] | None], forms: Forms) -> bool:
    name = name_of(node)
    if name == "aten.add.Tensor":
        both = [part for part in node.args[:2] if isinstance(part, fx.Node)]
        return bool(len(both) == 2 and all(part == shape for part in inputs) and node.kwargs.get("alpha", 1) == 1)
    if name == "aten.max_pool2d_with_indices.default":
        return len(node.users) == 1 and pool_window(node) is not None
    if name == "aten.avg_pool2d.default":
        return pool_window(node) is not None
    if name == "aten.mean.dim":
        source = arguments(node)[0]
        flat = len(shape) == 1 or len(shape) == 3
        if len(inputs[0] or ()) == 2:
            return mean_axes(node) == ([1] if source in forms.tokens else [2])
        return flat and mean_axes(node) == [2, 3]
    if name == "aten.cat.default":
        return bool(len(node.args) > 1 and node.args[1] == 1)
    if name == "aten.native_layer_norm.default":
        return normalises_channels(node)
    if name == "aten.mul.Tensor":
        return factors_of(node) is not None and not (node in forms.tokens and inputs[0] != inputs[1])
    if flattens(node):
        return arguments(node)[0] not in forms.tokens
    return activation_of(node) is not None or unary_of(node) is not None or turns_line(node)


def _has_forms(node: fx.Node, forms: Forms) -> bool:
    """Whether what the node reads and makes is a form that the runtime knows, for a batch of records."""
    return not any(part in forms.mixed for part in (*arguments(node), node))
