"""Which operators the sparse runtime has."""

from __future__ import annotations

from torch import fx

from sctool.export.sparse.lowering import (
    LIMITS,
    activation_of,
    convolution_window,
    flattens,
    name_of,
    pool_window,
    record_shape,
)
from sctool.native.costs import LayerKind


def kind_of(node: fx.Node) -> LayerKind | None:
    """Which rows of a cost table a weighted layer goes by; None for what is none."""
    name = name_of(node)
    if name == "aten.linear.default":
        return "linear"
    if name != "aten.convolution.default" or record_shape(node) is None:
        return None
    shape = tuple(node.args[1].meta["val"].shape)  # type: ignore[union-attr]
    if len(shape) != 4:
        return None
    if int(node.args[8]) > 1:  # type: ignore[arg-type]
        return "depthwise"
    return "pointwise" if shape[2:] == (1, 1) else "spatial"


def may_be_sparse(node: fx.Node) -> bool:
    """Whether a weighted layer's zeros can be left out: not in groups."""
    return name_of(node) == "aten.linear.default" or int(node.args[8]) == 1  # type: ignore[arg-type]


def runs_here(node: fx.Node) -> bool:
    """Whether the runtime has a kernel for a weighted layer."""
    before, after = record_shape(node.args[0]), record_shape(node)  # type: ignore[arg-type]
    if before is None or after is None or max(before[0], after[0]) > LIMITS["channels"]:
        return False
    if name_of(node) == "aten.linear.default":
        return len(before) == 1
    window = convolution_window(node)
    if window is None or max(*before[1:], *after[1:]) > LIMITS["side"]:
        return False
    # The packed planes of one channel must be within reach of 16-bit offsets, whatever the vector's width.
    return window.width * window.stride * (16 + window.height) * after[2] <= LIMITS["tile"]


def is_item(node: fx.Node) -> bool:
    """Whether a node picks one of several results."""
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


def is_plain(node: fx.Node) -> bool:
    """An operator without weights that the runtime has."""
    if node.op != "call_function":
        return False
    if is_item(node):
        pool = node.args[0]
        return bool(isinstance(pool, fx.Node) and node.args[1] == 0 and is_plain(pool))
    name, shape = name_of(node), record_shape(node)
    if shape is None:
        return False
    inputs = [record_shape(part) for part in node.all_input_nodes]
    if None in inputs:
        return False
    if name == "aten.add.Tensor":
        both = [part for part in node.args[:2] if isinstance(part, fx.Node)]
        return bool(len(both) == 2 and all(part == shape for part in inputs) and node.kwargs.get("alpha", 1) == 1)
    if name == "aten.max_pool2d_with_indices.default":
        return len(node.users) == 1 and pool_window(node) is not None
    if name == "aten.avg_pool2d.default":
        return pool_window(node) is not None
    if name == "aten.mean.dim":
        axes = sorted(int(axis) % 4 for axis in node.args[1])  # type: ignore[union-attr, arg-type]
        return len(inputs[0] or ()) == 3 and axes == [2, 3]
    if name == "aten.cat.default":
        return bool(len(node.args) > 1 and node.args[1] == 1)
    return activation_of(node) is not None or flattens(node)
