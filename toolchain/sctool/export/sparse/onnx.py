"""ONNX files whose sparse parts are nodes of the sparse runtime: ai.sctool::SparseProgram, one for each part, with its
payload as an attribute; all else is standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import fx, nn
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.utils.fuser_utils import fuse_by_partitions

from sctool.errors import ExportError
from sctool.export.convolutions import plain_convolutions
from sctool.export.onnx import export_onnx
from sctool.export.sparse.choice import LayerChoice
from sctool.export.sparse.graph import Graph, ValueKind
from sctool.export.sparse.lowering import lower
from sctool.export.sparse.nodes import record_shape
from sctool.export.sparse.payload import write_payload
from sctool.export.sparse.plan import Among, Plan, plan_layers
from sctool.export.sparse.views import drop_copies, free_views_of_sizes
from sctool.native.costs import CostTable
from sctool.native.library import DOMAIN, OPERATOR
from sctool.quiet import silence

WHOLE = [torch.ops.aten.linear.default, torch.ops.aten.hardswish.default, torch.ops.aten.hardsigmoid.default]
"""What PyTorch would take apart, and the runtime has as one operator."""
_PART = "sparse_part_"


@dataclass(frozen=True)
class SparseOnnx:
    """`payloads`: of the file's nodes, in their order; `choices`: of each weighted layer, who runs it."""

    proto: onnx.ModelProto
    choices: list[LayerChoice]
    payloads: list[bytes]


def export_sparse_onnx(
    model: nn.Module, example: torch.Tensor, *, max_batch: int, costs: CostTable, values: str = "float32"
) -> SparseOnnx:
    """ONNX of `model` for input "input" [B, ...] like `example` [2, ...] and output "logits", with the layers where `costs`
    says that it pays in nodes of the sparse runtime; what is left to ONNX Runtime is weighed at XNNPACK's cost.

    `max_batch` records at a time run in such a node, whatever B is. Raises ExportError where the model cannot be exported.
    """
    module = _capture(model, example, max_batch)
    parameters = dict(module.named_parameters()) | dict(module.named_buffers())
    nonzeros = {name: int(parameter.count_nonzero()) for name, parameter in parameters.items()}
    plan = plan_layers(module.graph, _weight_name, nonzeros, costs, quantised=values == "quantised")
    payloads = _take_out(module, plan, parameters, max_batch, ValueKind[values.upper()])
    proto = export_onnx(module, example, max_batch=max_batch)
    for node in proto.graph.node:
        if node.domain == DOMAIN:
            number = next(attribute.i for attribute in node.attribute if attribute.name == "number")
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("payload", payloads[number]))
    return SparseOnnx(proto, plan.choices, payloads)


def _capture(model: nn.Module, example: torch.Tensor, max_batch: int) -> fx.GraphModule:
    """The model as one graph of core operators, linear layers whole, parameters as get_attr nodes."""
    shapes = ({0: torch.export.Dim("batch", min=1, max=max_batch)},)
    table: dict[Any, Any] = dict(torch.export.default_decompositions())
    for operator in WHOLE:
        table.pop(operator, None)
    try:
        with silence(), torch.no_grad(), plain_convolutions():
            program = torch.export.export(model.eval(), (example,), dynamic_shapes=shapes).run_decompositions(table)
            module = program.module(check_guards=False)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ExportError(f"Cannot trace the model: {reason}.", hint="Simplify the model's forward.") from error
    module.graph.set_codegen(fx.graph.CodeGen())
    made = fx.GraphModule(module, module.graph)  # a class of its own: PyTorch forbids eval() on the exported one
    free_views_of_sizes(made)
    drop_copies(made)
    return made


def _weight_name(node: fx.Node) -> str | None:
    return str(node.target) if node.op == "get_attr" else None


def _take_out(
    module: fx.GraphModule, plan: Plan, parameters: dict[str, Any], max_batch: int, values: ValueKind
) -> list[bytes]:
    """Replace every part of `module` that the plan takes by a call of the operator; their payloads."""
    sparse = set(plan.sparse)
    parts = CapabilityBasedPartitioner(
        module, Among(plan.nodes), allows_single_node_partition=True
    ).propose_partitions()
    fuse_by_partitions(module, [part.nodes for part in parts], prefix=_PART, always_return_tuple=True)
    payloads: list[bytes] = []
    for node in list(module.graph.nodes):
        if node.op == "call_module" and str(node.target).startswith(_PART):
            graph = _lower_part(module, node, sparse, parameters, max_batch, values)
            setattr(module, str(node.target), _Part(len(payloads), graph, _result_shapes(module, node)))
            node.args = tuple(value for value in node.all_input_nodes if _weight_name(value) is None)
            payloads.append(write_payload(graph))
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return payloads


def _lower_part(
    module: fx.GraphModule, node: fx.Node, sparse: set[str], parameters: dict[str, Any], max_batch: int, values: ValueKind
) -> Graph:  # fmt: skip
    """The part that `node` calls, as the runtime's graph."""
    inner = module.get_submodule(str(node.target))
    assert isinstance(inner, fx.GraphModule)
    outer = dict(zip(inner.graph.find_nodes(op="placeholder"), node.all_input_nodes, strict=True))

    def name(placeholder: Any) -> str | None:
        return _weight_name(outer[placeholder]) if placeholder in outer else None

    def constant(placeholder: fx.Node) -> torch.Tensor | None:
        return parameters.get(name(placeholder) or "")

    return lower(inner.graph, constant, max_batch, lambda layer: name(layer.args[1]) in sparse, values)


def _result_shapes(module: fx.GraphModule, node: fx.Node) -> list[tuple[int, ...]]:
    """Of one record of everything that the part called by `node` gives."""
    inner = module.get_submodule(str(node.target))
    assert isinstance(inner, fx.GraphModule)
    results: Any = inner.graph.output_node().args[0]
    return [record_shape(part) or () for part in results]


class _Part(nn.Module):
    """Stands for part `number` while PyTorch exports: what the operator takes and gives, not what it computes."""

    def __init__(self, number: int, graph: Graph, wanted: list[tuple[int, ...]]) -> None:
        super().__init__()
        self._number, self._wanted = number, wanted
        self._shapes = [graph.shapes[output] for output in graph.outputs]

    def forward(self, *inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        batch = inputs[0].shape[0]
        made = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{OPERATOR}", inputs, {"number": self._number}, dtypes=[torch.float32] * len(self._shapes),
            shapes=[[batch, *shape] for shape in self._shapes], version=1,
        )  # fmt: skip
        # A line may leave the operator as a map of height one.
        pairs = zip(made, self._shapes, self._wanted, strict=True)
        return [part if shape == wanted else part.reshape(batch, *wanted) for part, shape, wanted in pairs]
