"""A model as its exported file of lower precision would answer: for shadow models of a file whose rounding matters."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sctool.domain.artifact import Precision, Session
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.export.precision import lower_precision
from sctool.runtimes.registry import open_session
from sctool.workflows.onnx_files import ANY_BATCH, CALIBRATION_RECORDS

Records = NDArray[np.float32]


def lower_session(model: nn.Module, precision: Precision, calibration: Records) -> Session:
    """ONNX Runtime on `model` in `precision`, its ranges from `calibration` [N, ...], as `sctool export` makes them.

    Stored densely: how zeros are stored moves no answer. Raises ExportError where the model cannot be exported.
    """
    folded, _ = fold_batch_norm(copy.deepcopy(model).eval())
    dense = export_onnx(folded, torch.from_numpy(calibration[:2]), max_batch=ANY_BATCH)
    lowered = lower_precision(dense, precision, calibration[:CALIBRATION_RECORDS])
    with tempfile.TemporaryDirectory(prefix="sctool-") as folder:
        path = Path(folder) / "lowered.onnx"
        path.write_bytes(serialise_onnx(lowered))
        return open_session(path)
