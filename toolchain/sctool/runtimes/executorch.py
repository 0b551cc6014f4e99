"""The ExecuTorch runtime from its Python bindings, with the XNNPACK backend that they hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sctool.errors import ArtifactError

_IDENTIFIER = (b"ET12", b"ET13")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the runtime's native log lines away from the user: both file descriptors go to the null device."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(fd, os.dup(fd)) for fd in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for fd, _ in saved:
            os.dup2(null, fd)
        yield
    finally:
        for fd, copy in saved:
            os.dup2(copy, fd)
            os.close(copy)
        os.close(null)


class ExecuTorchSession:
    """A loaded .pte file whose method `forward` takes one input and gives logits."""

    name = "executorch"

    def __init__(self, path: Path, *, max_batch: int = 256) -> None:
        """Load `path`; ArtifactError where it is no ExecuTorch program or the runtime refuses it.

        `max_batch` is the largest batch the program was exported for; larger ones are split.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"Cannot read {path}: {error.strerror}.", hint="Export the run again.") from error
        if content[4:8] not in _IDENTIFIER:
            raise ArtifactError(f"{path} is not an ExecuTorch program.", hint="Export the run again.")
        self._max_batch = max_batch
        self._content = content  # the module reads from this buffer for as long as it lives
        with _silence():
            from executorch.extension.pybindings import _portable_lib as bindings

            try:
                self._module: Any = bindings._load_for_executorch_from_buffer(
                    content, program_verification=bindings.Verification.InternalConsistency
                )
                self._module.method_meta("forward")
            except Exception as error:
                reason = " ".join(str(error).split())[:160]
                raise ArtifactError(
                    f"ExecuTorch cannot load {path}: {reason}.", hint="Export the run again."
                ) from error

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C]; split into batches of at most `max_batch`."""
        tensor = torch.from_numpy(np.ascontiguousarray(batch))
        chunks = [
            np.array(self._module.forward((tensor[i : i + self._max_batch],))[0].numpy(), dtype=np.float32)
            for i in range(0, len(tensor), self._max_batch)
        ]
        return np.concatenate(chunks)
