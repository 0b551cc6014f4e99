"""The sparse runtime as a partitioner of ExecuTorch's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, final

import torch
from executorch.exir.backend.compile_spec_schema import CompileSpec
from executorch.exir.backend.partitioner import DelegationSpec, Partitioner, PartitionResult
from executorch.exir.backend.utils import tag_constant_data
from torch.export import ExportedProgram
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner

from sctool.export.sparse.backend import SPEC, SctoolSparse, parameter_name
from sctool.export.sparse.choice import LayerChoice
from sctool.export.sparse.plan import Among, plan_layers
from sctool.native.costs import CostTable


@final
class SparsePartitioner(Partitioner):  # type: ignore[misc]
    """Tags what goes to SctoolSparse; put it before XNNPACK's partitioner, which takes the rest.

    `nonzeros`: parameter name in the exported module -> non-zeros (partitioners see weights without their values).
    """

    def __init__(
        self, nonzeros: Mapping[str, int], *, costs: CostTable, max_batch: int, values: str = "float32"
    ) -> None:
        super().__init__()
        self._nonzeros, self._costs, self._max_batch, self._values = nonzeros, costs, max_batch, values
        self.choices: list[LayerChoice] = []
        """What was decided, layer by layer; filled by partition()."""

    def ops_to_not_decompose(self, ep: ExportedProgram) -> tuple[list[Any], Any]:
        """Linear layers stay whole; XNNPACK asks for the same."""
        return [torch.ops.aten.linear.default], None

    def partition(self, exported_program: ExportedProgram) -> PartitionResult:
        plan = plan_layers(
            exported_program.graph, lambda node: parameter_name(exported_program, node), self._nonzeros, self._costs,
            quantised=self._values == "quantised",
        )  # fmt: skip
        self.choices = plan.choices
        settings = {"max_batch": self._max_batch, "sparse": plan.sparse, "values": self._values}
        spec = DelegationSpec(SctoolSparse.__name__, [CompileSpec(SPEC, json.dumps(settings).encode())])
        tags: dict[str, DelegationSpec] = {}
        proposed = CapabilityBasedPartitioner(
            exported_program.graph_module, Among(plan.nodes), allows_single_node_partition=True
        ).propose_partitions()
        for number, part in enumerate(proposed):
            tag = f"sctool_sparse_{number}"
            for node in part.nodes:
                node.meta["delegation_tag"] = tag
            tags[tag] = spec
        tag_constant_data(exported_program)
        return PartitionResult(exported_program, tags)
