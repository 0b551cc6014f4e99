"""File suffix -> session; each runtime is imported when its first file is opened."""

from __future__ import annotations

from pathlib import Path

from sctool.domain.artifact import Optimisation, Session
from sctool.errors import ArtifactError


def open_session(path: Path, *, threads: int = 1, optimisation: Optimisation = "all") -> Session:
    """Load `path` in the runtime that executes it; `optimisation` is for those that rewrite graphs when they load them.

    ArtifactError for an unknown suffix or a damaged file.
    """
    if path.suffix == ".onnx":
        from sctool.runtimes.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(path, threads=threads, optimisation=optimisation)
    if path.suffix in (".pte", ".spte"):
        from sctool.runtimes.executorch import ExecuTorchSession

        return ExecuTorchSession(path, threads=threads)
    raise ArtifactError(
        f"{path} is neither .onnx nor .pte nor .spte.", hint="Name an artifact that `sctool export` wrote."
    )
