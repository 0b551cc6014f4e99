"""ONNX Runtime on the CPU, by default at its own default optimisation level (all): what a stock deployment runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sctool.domain.artifact import Optimisation
from sctool.errors import ArtifactError, NativeRuntimeMissing
from sctool.native.library import DOMAIN, operator_library, set_hosted_threads

LEVELS: dict[Optimisation, onnxruntime.GraphOptimizationLevel] = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
BATCH = 1024
"""Records a call: bounds the memory of activations."""


class OnnxRuntimeSession:
    """A loaded .onnx file with one input and logits as its first output."""

    name = "onnxruntime"

    def __init__(self, path: Path, *, threads: int = 1, optimisation: Optimisation = "all") -> None:
        """Load `path`; ArtifactError where ONNX Runtime refuses it, NativeRuntimeMissing where it holds nodes of the sparse
        runtime and that is not built."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = LEVELS[optimisation]
        try:
            content = path.read_bytes()
            if DOMAIN.encode() in content:
                options.register_custom_ops_library(str(operator_library()))
                set_hosted_threads(threads)
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except NativeRuntimeMissing:
            raise
        except Exception as error:  # ONNX Runtime raises a dozen classes of its own, all of them for a bad file here.
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise ArtifactError(f"ONNX Runtime cannot load {path}: {reason}.", hint="Export the run again.") from error
        self._path = path
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C]; split into batches of at most `BATCH`.

        Raises ArtifactError where the model cannot take the batch.
        """
        batch = np.ascontiguousarray(batch)
        chunks = []
        for i in range(0, len(batch), BATCH):
            try:
                chunks.append(self._session.run(None, {self._input: batch[i : i + BATCH]})[0])
            except Exception as error:
                reason = " ".join(str(error).split())[:160].rstrip(".")
                raise ArtifactError(
                    f"ONNX Runtime cannot run {self._path} on {list(batch.shape)}: {reason}.",
                    hint="Export the run again.",
                ) from error
        return np.asarray(chunks[0] if len(chunks) == 1 else np.concatenate(chunks), dtype=np.float32)
