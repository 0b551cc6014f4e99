"""Lower precision by static post-training quantisation, before sparse storage: quantisers want the plain graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import TopologicalSortPass

from sctool.errors import ExportError
from sctool.export.onnx import strip_traces
from sctool.quiet import silence

LARGEST_HALF = 65504.0
BATCH = 64

Records = NDArray[np.float32]


def to_float16(model: onnx.ModelProto, records: Records) -> onnx.ModelProto:
    """Weights and activations in float16, input and outputs in float32; by ONNX Runtime's converter."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    halved = convert_float_to_float16(_copy(model), keep_io_types=True, max_finite_val=LARGEST_HALF)
    ordered = onnx_ir.from_proto(halved)
    TopologicalSortPass()(ordered)  # the converter leaves its Casts at the end
    sorted_model: onnx.ModelProto = onnx_ir.to_proto(ordered)
    return sorted_model


def to_int8(model: onnx.ModelProto, records: Records) -> onnx.ModelProto:
    """int8 by QuantizeLinear and DequantizeLinear: weights symmetric, a scale a channel, so that zeros stay zeros;
    activations a scale a tensor, from the ranges that `records` [N, ...] show. By ONNX Runtime's quantiser.

    Weights keep within 7 bits: with 8, x86 processors without VNNI saturate sums of two products at 16 bits and answer
    otherwise than Arm; with 7 all answer alike.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class _Records(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            name = model.graph.input[0].name
            self._batches = iter([{name: records[i : i + BATCH]} for i in range(0, len(records), BATCH)])

        def get_next(self) -> dict[str, Records] | None:
            return next(self._batches, None)

    with tempfile.TemporaryDirectory(prefix="sctool-") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            _copy(model), path, _Records(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, extra_options={"WeightSymmetric": True},
        )  # fmt: skip
        return onnx.load(path)


PRECISIONS: dict[str, Callable[[onnx.ModelProto, Records], onnx.ModelProto]] = {
    "float16": to_float16, "int8": to_int8,
}  # fmt: skip
CALIBRATED = ("int8",)
"""Those that take ranges from records; the others look at none."""


def lower_precision(model: onnx.ModelProto, precision: str, records: Records) -> onnx.ModelProto:
    """`model` in `precision`, ranges of activations taken from `records` [N, ...], of which float16 needs none. ExportError
    where that fails."""
    if precision in CALIBRATED and len(records) == 0:
        raise ExportError(
            f"There are no records to take the ranges of {precision} from.", hint="Raise data.split.quantisation."
        )
    try:
        with silence():
            lowered = PRECISIONS[precision](model, records)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"Cannot lower the model to {precision}: {type(error).__name__}: {reason}.",
            hint=f"Take {precision!r} out of --precision or export.precisions, or run with --debug.",
        ) from error
    strip_traces(lowered)
    return lowered


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The quantisers change what they are given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
