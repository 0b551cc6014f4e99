"""A pass over edge programs: flattening names no symbolic size, so that a delegate has no input but tensors."""

from __future__ import annotations

from torch import fx
from torch.fx.passes.infra.pass_base import PassResult

from sctool.export.sparse.lowering import flattens


def free_views_of_sizes(module: fx.GraphModule) -> PassResult:
    """view(x, [symbolic batch, n]) -> view(x, [-1, n])."""
    for node in list(module.graph.nodes):
        if flattens(node):
            node.args = (node.args[0], [-1, *node.args[1][1:]])
    for node in reversed(list(module.graph.nodes)):
        if node.op == "call_function" and not node.users and "sym_size" in str(node.target):
            module.graph.erase_node(node)
    module.recompile()
    return PassResult(module, True)
