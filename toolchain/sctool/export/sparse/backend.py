"""The ahead-of-time half of the ExecuTorch backend "SctoolSparse": a delegated program becomes a payload.

ExecuTorch finds the class by its name among the subclasses of BackendDetails, so that importing this file registers it.
"""

from __future__ import annotations

import json
from typing import Any, final

import torch
from executorch.exir.backend.backend_details import BackendDetails, PreprocessResult
from executorch.exir.backend.compile_spec_schema import CompileSpec
from torch import fx
from torch.export import ExportedProgram

from sctool.export.sparse.graph import ValueKind
from sctool.export.sparse.lowering import lower
from sctool.export.sparse.payload import write_payload

SPEC = "sctool"


@final
class SctoolSparse(BackendDetails):  # type: ignore[misc]
    @staticmethod
    def preprocess(edge_program: ExportedProgram, compile_specs: list[CompileSpec]) -> PreprocessResult:
        """The payload of `edge_program`; the compile spec says the largest batch and which weights to store sparse."""
        settings = json.loads(next(spec.value for spec in compile_specs if spec.key == SPEC))
        sparse = set(settings["sparse"])
        constant = constants_of(edge_program)

        def stored_sparse(node: fx.Node) -> bool:
            weight = node.args[1]
            return isinstance(weight, fx.Node) and parameter_name(edge_program, weight) in sparse

        graph = lower(
            edge_program.graph, constant, settings["max_batch"], stored_sparse, ValueKind[settings["values"].upper()]
        )
        return PreprocessResult(write_payload(graph))


def parameter_name(program: ExportedProgram, node: fx.Node) -> str | None:
    """The name, in the exported module, of the parameter or constant behind a placeholder."""
    signature = program.graph_signature
    for names in (
        signature.inputs_to_parameters, signature.inputs_to_buffers, signature.inputs_to_lifted_tensor_constants
    ):  # fmt: skip
        if node.name in names:
            return str(names[node.name])
    return None


def constants_of(program: ExportedProgram) -> Any:
    """Placeholder -> its tensor, or None where it is an input."""

    def constant(node: fx.Node) -> torch.Tensor | None:
        name = parameter_name(program, node)
        if name is None:
            return None
        found = program.state_dict.get(name)
        tensor = program.constants.get(name) if found is None else found
        return tensor if isinstance(tensor, torch.Tensor) else None

    return constant
