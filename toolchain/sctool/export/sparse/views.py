"""Passes over captured programs that take away what stands between operators without doing anything."""

from __future__ import annotations

import torch
from torch import fx
from torch.fx.passes.infra.pass_base import PassResult

from sctool.export.sparse.nodes import flattens, name_of


def free_views_of_sizes(module: fx.GraphModule) -> PassResult:
    """view(x, [symbolic batch, n]) -> view(x, [-1, n]), so that a delegate has no input but tensors."""
    for node in list(module.graph.nodes):
        if flattens(node):
            node.args = (node.args[0], [-1, *node.args[1][1:]])
    for node in reversed(list(module.graph.nodes)):
        if node.op == "call_function" and not node.users and "sym_size" in str(node.target):
            module.graph.erase_node(node)
    module.recompile()
    return PassResult(module, True)


_COPIES = {"aten.clone.default", "dim_order_ops._clone_dim_order.default"}


def drop_copies(module: fx.GraphModule) -> PassResult:
    """Take out copies of what lies in memory as its copy would: what is left of dropout, for one."""
    for node in list(module.graph.nodes):
        if name_of(node) in _COPIES and isinstance(source := node.args[0], fx.Node) and source.op == "call_function":
            values = [part.meta.get("val") for part in (source, node)]
            if all(isinstance(value, torch.Tensor) and value.is_contiguous() for value in values):
                node.replace_all_uses_with(source)
                module.graph.erase_node(node)
    module.recompile()
    return PassResult(module, True)
