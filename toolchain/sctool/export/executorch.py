"""ExecuTorch programs: for the XNNPACK delegate alone, which stores weights dense, or with the sparse runtime first.

float16: weights and arithmetic in half precision, inputs and answers in float32; XNNPACK keeps a convolution's weights as
float32 words all the same. int8: static post-training quantisation (pt2e), weights symmetric for each output channel, so
that zeros stay zeros, activations for each tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sctool.domain.artifact import Precision
from sctool.errors import ExportError
from sctool.export.convolutions import plain_convolutions
from sctool.formats.pte import read_program
from sctool.native.costs import CostTable
from sctool.native.library import BACKEND
from sctool.quiet import silence

if TYPE_CHECKING:
    from sctool.export.sparse.choice import LayerChoice

DATA = "weights"
"""Tag of the constants that go into the data file."""
CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class ExecuTorchFiles:
    """`program`: a .pte; `data`: the .ptd with its weights, empty where the program holds them itself; `delegates`: backend
    and bytes of each part of the program that one takes."""

    program: bytes
    data: bytes
    delegates: list[tuple[str, bytes]]


class _Wrapped(nn.Module):
    """Gives every parameter a name that begins with a letter: XNNPACK's passes rely on it."""

    def __init__(self, model: nn.Module, *, half: bool) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half() if half else model
        self._half = half

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x.half()).float() if self._half else self.model(x)
        return logits


def export_pte(
    model: nn.Module, example: torch.Tensor, *, max_batch: int, precision: Precision = "float32",
    calibration: torch.Tensor | None = None, apart: bool = False, passes: Sequence[Any] = (), first: Sequence[Any] = (),
) -> ExecuTorchFiles:  # fmt: skip
    """A program whose method `forward` takes float32 [B, ...] like `example` [2, ...], 1 <= B <= max_batch.

    int8 takes its ranges from the records of `calibration` [N, ...]. `apart`: the weights go into a data file. `passes` go
    over the edge program; then the partitioners `first` choose before XNNPACK's. Raises ExportError where the model cannot
    be exported.
    """
    if precision == "int8" and (calibration is None or len(calibration) == 0):
        raise ExportError("int8 needs records for its ranges; the split part `quantisation` has none.",
                          hint="Give it a share: --set data.split.quantisation=0.02.")  # fmt: skip
    try:
        with silence(), torch.no_grad(), plain_convolutions():
            files = _export(model, example, max_batch, precision, calibration, apart, passes, first)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"Cannot export to ExecuTorch ({precision}): {type(error).__name__}: {reason}.",
            hint="Simplify the model's forward, or run with --debug.",
        ) from error
    most = read_program(files.program, "the program").methods[0].inputs[0].shape[0]
    if most < max_batch:
        raise ExportError(
            f"The ExecuTorch program takes batches of up to {most}, not {max_batch}: the model's code bounds them.",
            hint=f"Set export.max_batch={most}, or take the condition on the batch out of the model's forward.",
        )
    return files


def _export(
    model: nn.Module, example: torch.Tensor, max_batch: int, precision: Precision, calibration: torch.Tensor | None,
    apart: bool, passes: Sequence[Any], first: Sequence[Any],
) -> ExecuTorchFiles:  # fmt: skip
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes.external_constants_pass import delegate_external_constants_pass_unlifted

    shapes = ({0: torch.export.Dim("batch", min=1, max=max_batch)},)
    wrapped = _Wrapped(model, half=precision == "float16").eval()
    program = torch.export.export(wrapped, (example,), dynamic_shapes=shapes)
    if precision == "int8":
        assert calibration is not None
        quantised = _quantise(program.module(), calibration)
        program = torch.export.export(quantised, (example,), dynamic_shapes=shapes)
    if apart:
        unlifted = program.module()
        delegate_external_constants_pass_unlifted(unlifted, lambda node: DATA)
        program = torch.export.export(unlifted, (example,), dynamic_shapes=shapes)
    # ExecuTorch's check of the graph evaluates "is the batch that of the example?", and the answer fixes the batch.
    edge = to_edge_transform_and_lower(
        program, transform_passes=list(passes), partitioner=[*first, XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )  # fmt: skip
    delegates = [
        (str(part.backend_id), bytes(part.processed_bytes))
        for part in edge.exported_program().graph_module.children()
        if hasattr(part, "processed_bytes")
    ]
    lowered = edge.to_executorch(ExecutorchBackendConfig(external_constants=(lambda node: DATA) if apart else False))
    return ExecuTorchFiles(bytes(lowered.buffer), bytes(lowered._tensor_data.get(DATA, b"")), delegates)


def _quantise(module: Any, calibration: torch.Tensor) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantiser = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(module, quantiser)
    with torch.backends.mkldnn.flags(enabled=True):
        for batch in _batches(calibration):
            prepared(batch)
    return convert_pt2e(prepared)


def _batches(records: torch.Tensor) -> Iterator[torch.Tensor]:
    """At least two records a batch: a batch of one is a shape of its own to torch.export."""
    if len(records) < 2:
        records = records.repeat(2, *[1] * (records.ndim - 1))
    for begin in range(0, len(records) - 1, CALIBRATION_BATCH):
        yield records[begin : begin + CALIBRATION_BATCH]


@dataclass(frozen=True)
class SparseProgram:
    """A .pte; for each weighted layer which backend takes it and why; and the payloads of the sparse runtime in it.

    Where one payload is the whole model, the stand-alone runner runs it too.
    """

    content: bytes
    choices: list[LayerChoice]
    payloads: list[bytes]


def export_sparse_pte(
    model: nn.Module, example: torch.Tensor, *, max_batch: int, costs: CostTable, values: str = "float32"
) -> SparseProgram:
    """As export_pte, with the layers where `costs` says that it pays on the backend "SctoolSparse".

    `values`: how their weights are stored, float32, float16 or int8; "quantised": int8, and the larger layers that run
    sparse compute so. Raises ExportError.
    """
    with silence():
        from sctool.export.sparse.partition import SparsePartitioner
        from sctool.export.sparse.views import drop_copies, free_views_of_sizes

    nonzeros = {f"model.{name}": int(parameter.count_nonzero()) for name, parameter in model.named_parameters()}
    partitioner = SparsePartitioner(nonzeros, costs=costs, max_batch=max_batch, values=values)
    files = export_pte(
        model, example, max_batch=max_batch, passes=[free_views_of_sizes, drop_copies], first=[partitioner]
    )
    payloads = [payload for backend, payload in files.delegates if backend == BACKEND]
    return SparseProgram(files.program, partitioner.choices, payloads)
