"""The ExecuTorch runtime from its Python bindings, with the XNNPACK backend that they hold and the sparse one of ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sctool.errors import ArtifactError
from sctool.formats.damage import reading
from sctool.formats.ptd import read_ptd
from sctool.formats.pte import is_pte, read_program
from sctool.formats.spte import KIND, is_spte, read_spte
from sctool.native.blocks import find_decoder
from sctool.native.library import BACKEND, register_backend, set_hosted_threads
from sctool.quiet import silence_native

Call = Callable[[tuple[torch.Tensor]], Any]
MOST_ELEMENTS = 1 << 28
"""Of one record of a sparse package's input."""


class ExecuTorchSession:
    """A loaded .pte or .spte file whose method `forward` takes one input and gives logits."""

    name = "executorch"
    _held: Any  # what the runtime's method belongs to
    _method: Call

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load `path`, the method and its weights included; ArtifactError where it is no ExecuTorch program or the runtime
        refuses it, NativeRuntimeMissing where it needs the sparse backend and that is not built.

        `threads` is the size of the runtime's pool, which all sessions of the process share; the sparse backend's programs
        have pools of their own.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"Cannot read {path}: {error.strerror}.", hint="Export the run again.") from error
        self._path = path
        self._program, self._data = _unpack(content, path)  # the runtime reads from both for as long as it lives
        self._forward: Call = self._forward_first
        with silence_native():
            from executorch.extension.pybindings import _portable_lib as bindings

            if BACKEND.encode() in content:
                register_backend(bindings.__file__)
                set_hosted_threads(threads)
            if bindings._threadpool_get_thread_count() != threads:
                bindings._unsafe_reset_threadpool(threads)  # one pool for the process; unsafe only while a model runs
            try:
                sizes = self._load(bindings)
                self._max_batch, self._shape = sizes[0], sizes[1:]
                if self._max_batch < 1:
                    raise ValueError(f"its input has shape {list(sizes)}")
            except Exception as error:
                reason = " ".join(str(error).split())[:160]
                raise ArtifactError(
                    f"ExecuTorch cannot load {path}: {reason}.", hint="Export the run again."
                ) from error

    def _load(self, bindings: Any) -> list[int]:
        """Load the method `forward`; the sizes of its input."""
        checked = bindings.Verification.InternalConsistency
        if self._data is None:
            self._held = bindings._load_program_from_buffer(self._program, program_verification=checked)
            method = self._held.load_method("forward")
            self._method = method.call
            return _input_sizes(method.method_meta())
        # Only a module takes a data file, and it loads the method when that is first called.
        self._held = bindings._load_for_executorch_from_buffer(
            self._program, data_map_buffer=self._data, program_verification=checked
        )
        self._method = self._held.forward
        sizes = _input_sizes(self._held.method_meta("forward"))
        if math.prod(sizes[1:]) > MOST_ELEMENTS:
            raise ValueError(f"its input has shape {sizes}, more than {MOST_ELEMENTS:,} numbers a record")
        self._method((torch.zeros([1, *sizes[1:]]),))
        return sizes

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C]; split into batches that the program has room for.

        Raises ArtifactError where the program cannot take the batch or is damaged in a way that loading did not show.
        """
        if list(batch.shape[1:]) != self._shape:  # the runtime itself would take a smaller shape, and answer nonsense
            raise ArtifactError(
                f"ExecuTorch cannot run {self._path} on {list(batch.shape)}: it takes [B, {str(self._shape)[1:]}.",
                hint="Give it records of the shape that it was exported for.",
            )
        tensor = torch.from_numpy(np.ascontiguousarray(batch))
        chunks = []
        for i in range(0, len(tensor), self._max_batch):
            try:
                answer = self._forward((tensor[i : i + self._max_batch],))
            except RuntimeError as error:
                raise ArtifactError(
                    f"ExecuTorch cannot run {self._path} on {list(batch.shape)}: {' '.join(str(error).split())[:160]}.",
                    hint="Export the run again.",
                ) from error
            chunks.append(np.array(answer[0].numpy(), dtype=np.float32))
        return np.concatenate(chunks)

    def _forward_first(self, inputs: tuple[torch.Tensor]) -> Any:
        """The first call starts the runtime's thread pool, which logs what it thinks of the processor."""
        with silence_native():
            answer = self._method(inputs)
        self._forward = self._method
        return answer


def _input_sizes(meta: Any) -> list[int]:
    return [int(size) for size in meta.input_tensor_meta(0).sizes()]


def _unpack(content: bytes, path: Path) -> tuple[bytes, bytes | None]:
    """(program, data file or None). ArtifactError where it is neither kind of file, or where weights are missing: the
    runtime itself would read them from nowhere, and crash."""
    program, data, there = content, None, set[str]()
    if is_spte(content):
        package = read_spte(content, str(path))
        with reading(str(path), KIND):
            program, data = bytes(package.program), package.unpack_data(find_decoder())
        there = {block.key for block in read_ptd(data, str(path)).blocks}
    if not is_pte(program):
        raise ArtifactError(f"{path} is not an ExecuTorch program.", hint="Export the run again.")
    missing = [key for key in read_program(program, str(path)).missing if key not in there]
    if missing:
        raise ArtifactError(
            f"{path} needs a data file: {len(missing)} of its weights lie elsewhere.",
            hint="Name the sparse package (.spte) or a program that holds its weights.",
        )
    return program, data
