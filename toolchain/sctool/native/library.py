"""The sparse runtime's shared library through its C interface, and the registration of its ExecuTorch backend."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sctool.errors import ArtifactError, NativeRuntimeMissing
from sctool.native.build import find_library

BACKEND = "SctoolSparse"
DOMAIN, OPERATOR = "ai.sctool", "SparseProgram"
"""What the runtime is called in ONNX files."""
MOST_THREADS = 64
HINT = "Build it: `sctool doctor --build-runtime` (needs a C++ compiler and cmake)."
_ERROR_BYTES = 300
_REGISTER = "_ZN10executorch7runtime16register_backendERKNS0_7BackendE"
_RESIZE = "_ZN10executorch7runtime8internal18resize_tensor_implEPNS0_7etensor10TensorImplENS0_8ArrayRefIiEE"

_loaded: dict[Path, ctypes.CDLL] = {}
_registered: set[Path] = set()


def load_library(path: Path | None = None) -> ctypes.CDLL:
    """The library at `path`, or the one that was built for this version; NativeRuntimeMissing where there is none."""
    found = path or find_library()
    if found is None:
        raise NativeRuntimeMissing("The sparse runtime is not built.", hint=HINT)
    if found not in _loaded:
        try:
            library = ctypes.CDLL(str(found))
        except OSError as error:
            raise NativeRuntimeMissing(f"Cannot load {found}: {error}.", hint=HINT) from error
        _declare(library)
        _loaded[found] = library
    return _loaded[found]


def host_isa() -> str:
    """The instruction set whose kernels run here; without the library, the one that most machines of this kind have."""
    try:
        return str(load_library().sctool_sparse_find_isa(None).decode())
    except NativeRuntimeMissing:
        return "neon" if platform.machine().lower() in ("arm64", "aarch64") else "avx2"


def fma_peak(isa: str | None = None) -> float:
    """The most multiply-accumulates in a nanosecond that one thread does here, from registers alone; the best of many
    short runs."""
    return float(load_library().sctool_sparse_fma_peak(isa.encode() if isa else None))


def read_bandwidth(size_bytes: int, isa: str | None = None) -> float:
    """The most bytes in a nanosecond that one thread reads of `size_bytes`, over and over: a cache's, or the memory's."""
    return float(load_library().sctool_sparse_read_bandwidth(isa.encode() if isa else None, size_bytes))


def register_backend(bindings: str) -> None:
    """Give ExecuTorch's runtime, the extension module in the file `bindings`, the backend "SctoolSparse"; once a process.

    The library imports no symbol of ExecuTorch: what it needs is looked up in the extension module and handed over.
    Raises NativeRuntimeMissing where it is not built, or built or looked up against another version.
    """
    library = load_library()
    key = Path(str(library._name))
    if key in _registered:
        return
    extension = ctypes.CDLL(bindings)
    try:
        register = library.sctool_sparse_register
        addresses = [ctypes.cast(getattr(extension, name), ctypes.c_void_p) for name in (_REGISTER, _RESIZE)]
    except AttributeError as error:
        raise NativeRuntimeMissing(
            f"The sparse backend does not fit the installed executorch: {error}.",
            hint="Install executorch==1.4.1, then `sctool doctor --build-runtime`.",
        ) from error
    register.argtypes, register.restype = [ctypes.c_void_p, ctypes.c_void_p], ctypes.c_int
    if (code := register(*addresses)) != 0:
        raise NativeRuntimeMissing(f"ExecuTorch refused the sparse backend with error {code}.", hint=HINT)
    _registered.add(key)


def operator_library() -> Path:
    """The library that ONNX Runtime's register_custom_ops_library takes; NativeRuntimeMissing where it is not built."""
    return Path(str(load_library()._name))


def set_hosted_threads(threads: int) -> None:
    """Give the programs that ExecuTorch and ONNX Runtime load from now on `threads` threads each, as far as the library has
    so many (64). Raises NativeRuntimeMissing where it is not built."""
    load_library().sctool_sparse_set_threads(min(threads, MOST_THREADS))


class PayloadSession:
    """A loaded payload without ExecuTorch around it: one input, one output, or several of each."""

    def __init__(
        self, payload: bytes, *, isa: str | None = None, threads: int = 1, library: ctypes.CDLL | None = None
    ) -> None:
        """`threads`, 1 to 64, counts the caller's. ArtifactError where the payload is damaged or `isa` is not here."""
        self._library = library or load_library()
        self._error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._session = self._library.sctool_sparse_load_threaded(
            payload, len(payload), isa.encode() if isa else None, threads, self._error, _ERROR_BYTES
        )
        if not self._session:
            reason = self._error.value.decode(errors="replace")
            raise ArtifactError(f"The sparse runtime cannot load the program: {reason}.", hint="Export the run again.")
        self.isa = str(self._library.sctool_sparse_isa(self._session).decode())
        self.max_batch = int(self._library.sctool_sparse_max_batch(self._session))
        self._sizes = [
            [int(floats(self._session, i)) for i in range(count(self._session))]
            for count, floats in (
                (self._library.sctool_sparse_inputs, self._library.sctool_sparse_input_floats),
                (self._library.sctool_sparse_outputs, self._library.sctool_sparse_output_floats),
            )
        ]

    @property
    def input_floats(self) -> list[int]:
        """Floats of one record of each input."""
        return self._sizes[0]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights as they lie in memory now: a batch's first call may add a layout of its own."""
        return int(self._library.sctool_sparse_weight_bytes(self._session))

    def run(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Inputs [B, ...] in the payload's order -> outputs [B, elements]. ArtifactError where they do not fit."""
        held = [np.ascontiguousarray(array, dtype=np.float32) for array in inputs]
        batch = len(held[0])
        if [array.size for array in held] != [size * batch for size in self._sizes[0]]:
            raise ArtifactError(
                f"The program takes {self._sizes[0]} floats a record, found {[array.shape for array in held]}."
            )
        outputs = [np.empty((batch, size), np.float32) for size in self._sizes[1]]
        if self._library.sctool_sparse_run(
            self._session, batch, _pointers(held), _pointers(outputs), self._error, _ERROR_BYTES
        ):
            raise ArtifactError(f"The sparse runtime cannot run: {self._error.value.decode(errors='replace')}.")
        return outputs

    def time_steps(self) -> list[int]:
        """The fastest run of every operator since the last call, in nanoseconds; empty the first time: it starts it."""
        times = (ctypes.c_int64 * 65535)()
        count = self._library.sctool_sparse_time_steps(self._session, times, len(times))
        return [int(time) for time in times[:count]]

    def __del__(self) -> None:
        if getattr(self, "_session", None):
            self._library.sctool_sparse_free(self._session)
            self._session = None


def _pointers(arrays: Sequence[NDArray[np.float32]]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _declare(library: ctypes.CDLL) -> None:
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    signatures: dict[str, tuple[list[object], object]] = {
        "sctool_sparse_load_threaded": ([ctypes.c_char_p, size, text, ctypes.c_uint32, text, size], pointer),
        "sctool_sparse_set_threads": ([ctypes.c_uint32], ctypes.c_int),
        "sctool_sparse_free": ([pointer], None),
        "sctool_sparse_run": ([pointer, ctypes.c_uint32, pointer, pointer, text, size], ctypes.c_int),
        "sctool_sparse_inputs": ([pointer], ctypes.c_uint32),
        "sctool_sparse_outputs": ([pointer], ctypes.c_uint32),
        "sctool_sparse_input_floats": ([pointer, ctypes.c_uint32], ctypes.c_uint64),
        "sctool_sparse_output_floats": ([pointer, ctypes.c_uint32], ctypes.c_uint64),
        "sctool_sparse_max_batch": ([pointer], ctypes.c_uint32),
        "sctool_sparse_weight_bytes": ([pointer], ctypes.c_uint64),
        "sctool_sparse_time_steps": ([pointer, pointer, ctypes.c_uint32], ctypes.c_uint32),
        "sctool_sparse_fma_peak": ([text], ctypes.c_double),
        "sctool_sparse_read_bandwidth": ([text, ctypes.c_uint64], ctypes.c_double),
        "sctool_sparse_isa": ([pointer], text),
        "sctool_sparse_find_isa": ([text], text),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
