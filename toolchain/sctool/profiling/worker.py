"""The process that loads one artifact and runs it: `python -m sctool.profiling.worker`, one JSON request on stdin.

The answer is one JSON object on the real stdout; whatever a runtime prints goes to stderr. Nothing is imported beyond
numpy, the opener and the modules in `preload`, so the process's peak memory is that of the artifact's runtime.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from sctool.domain.artifact import Session
from sctool.errors import ConfigError, DataError, NativeRuntimeMissing, SctoolError


class Request(TypedDict):
    """What the worker is asked to do."""

    mode: Literal["latency", "memory"]
    path: str
    opener: str
    preload: list[str]
    input_path: str
    threads: int
    repeats: int
    iterations: int
    warm_up: int
    warm_loads: int
    batch_size: int


def answer(request: Request) -> dict[str, Any]:
    """The figures of one pass."""
    for module in request["preload"]:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise NativeRuntimeMissing(
                f"Cannot import {module}: {error}.", hint="Install it, then run `sctool doctor`."
            ) from error
    open_session = resolve(request["opener"])
    batch = read_batch(Path(request["input_path"]), request["batch_size"])
    measure = _measure_latency if request["mode"] == "latency" else _measure_memory
    return measure(request, open_session, batch)


def resolve(opener: str) -> Callable[..., Session]:
    """The callable at "package.module:callable"."""
    module, _, name = opener.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"Cannot import the opener {opener!r}: {error}.", hint="Give package.module:callable."
        ) from error
    if not callable(found):
        raise ConfigError(f"The opener {opener!r} is not callable.", hint="Give package.module:callable.")
    result: Callable[..., Session] = found
    return result


def read_batch(path: Path, batch_size: int) -> NDArray[np.float32]:
    """The first `batch_size` records of an .npy file, or of the only (or "input") tensor of a .safetensors file."""
    try:
        if path.suffix == ".safetensors":
            records = _read_safetensors(path, batch_size)
        else:
            records = np.load(path, mmap_mode="r", allow_pickle=False)
            records = records[:batch_size] if records.ndim else records
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"Cannot read inputs from {path}: {error}.", hint="Give a .npy or .safetensors file."
        ) from error
    if records.ndim == 0 or len(records) < batch_size:
        found = len(records) if records.ndim else 0
        raise DataError(f"{path} holds {found} records, the batch needs {batch_size}.", hint="Give more records.")
    return np.array(records, dtype=np.float32, order="C")


def _read_safetensors(path: Path, batch_size: int) -> NDArray[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as stored:
            names = list(stored.keys())
            name = "input" if "input" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise ValueError(f"it holds {len(names)} tensors and none is called 'input'")
            records: NDArray[Any] = stored.get_slice(name)[:batch_size]
            return records
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def peak_memory_mib() -> float:
    """The process's largest resident set until now, in MiB."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _measure_latency(
    request: Request, open_session: Callable[..., Session], batch: NDArray[np.float32]
) -> dict[str, Any]:
    path, threads = Path(request["path"]), request["threads"]
    session, cold_load_ms = _timed(lambda: open_session(path, threads=threads))
    warm_loads: list[float] = []
    for _ in range(request["warm_loads"]):
        del session
        session, load_ms = _timed(lambda: open_session(path, threads=threads))
        warm_loads.append(load_ms)
    samples: list[list[float]] = []
    gc.disable()
    for _ in range(request["repeats"]):
        for _ in range(request["warm_up"]):
            session.run(batch)
        row = []
        for _ in range(request["iterations"]):
            start = time.perf_counter_ns()
            session.run(batch)
            row.append((time.perf_counter_ns() - start) / 1e6)
        samples.append(row)
    gc.enable()
    return {
        "runtime": session.name,
        "cold_load_ms": cold_load_ms,
        "warm_load_ms": statistics.median(warm_loads),
        "samples_ms": samples,
    }


def _measure_memory(
    request: Request, open_session: Callable[..., Session], batch: NDArray[np.float32]
) -> dict[str, Any]:
    baseline = peak_memory_mib()
    session = open_session(Path(request["path"]), threads=request["threads"])
    for _ in range(max(2, request["warm_up"])):
        session.run(batch)
    return {"runtime": session.name, "baseline_memory_mib": baseline, "peak_memory_mib": peak_memory_mib()}


def _timed(call: Callable[[], Session]) -> tuple[Session, float]:
    start = time.perf_counter_ns()
    result = call()
    return result, (time.perf_counter_ns() - start) / 1e6


def main() -> None:
    """Read the request, answer it; an SctoolError is answered too, any other error is the process's own."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as reply:
        os.dup2(2, 1)
        request: Request = json.loads(sys.stdin.read())
        try:
            result = answer(request)
        except SctoolError as error:
            result = {"error": {"class": type(error).__name__, "message": error.message, "hint": error.hint}}
        json.dump(result, reply)


if __name__ == "__main__":
    main()
