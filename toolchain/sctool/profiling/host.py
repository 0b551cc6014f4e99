"""Latency and memory of an artifact on this machine, each measured in a process that does nothing else.

Two processes an artifact: one is timed, another's peak memory is read, so neither disturbs the other. Cold load is the
first load in a fresh process after the runtime's import; whether the file is in the page cache is not controlled (it
usually is, the file having just been written). Warm load is the median of later loads in the same process. Each repeat
has a warm-up of its own, in the timed process; repeats are kept apart from iterations.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import sctool
from sctool import errors
from sctool.domain.artifact import ArtifactFormat
from sctool.domain.measurement import LatencyProfile
from sctool.errors import ArtifactError, ConfigError, DeviceError, SctoolError
from sctool.profiling.machine import describe_machine
from sctool.profiling.protocol import judge_samples
from sctool.profiling.worker import Request

# The modules whose import belongs to the baseline, not to the artifact.
_PRELOAD: dict[ArtifactFormat, tuple[str, ...]] = {
    "onnx": ("onnxruntime",),
    "pte": ("torch", "executorch.extension.pybindings._portable_lib"),
    "spte": ("torch", "executorch.extension.pybindings._portable_lib"),
}
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_WARM_LOADS = 5


def profile_on_host(
    path: Path,
    format: ArtifactFormat,
    *,
    opener: str,
    input_path: Path,
    threads: int = 1,
    repeats: int = 5,
    iterations: int = 50,
    warm_up: int = 10,
    batch_size: int = 1,
    timeout_s: float = 600.0,
    preload: Sequence[str] | None = None,
) -> LatencyProfile:
    """Measure the artifact at `path` with the first `batch_size` records of `input_path` (.npy or .safetensors).

    `opener` is "package.module:callable", called in the worker as callable(path, threads=threads) for a Session.
    `preload` names the modules to import before the baseline is read (default: the format's runtime). `timeout_s` is
    for each of the two processes.

    Raises ConfigError (settings), ArtifactError (missing, or it cannot be loaded or run), DeviceError (the worker
    crashed or hung) and whatever SctoolError the opener raises.
    """
    for name, value, least in (("threads", threads, 1), ("repeats", repeats, 1), ("iterations", iterations, 1),
                               ("warm_up", warm_up, 0), ("batch_size", batch_size, 1)):  # fmt: skip
        if value < least:
            raise ConfigError(f"{name} is {value}.", hint=f"Give at least {least}.")
    if not path.is_file():
        raise ArtifactError(f"No artifact {path}.", hint="Export the model first.")
    request: Request = {
        "mode": "latency",
        "path": str(path.absolute()),
        "opener": opener,
        "preload": list(_PRELOAD[format] if preload is None else preload),
        "input_path": str(input_path.absolute()),
        "threads": threads,
        "repeats": repeats,
        "iterations": iterations,
        "warm_up": warm_up,
        "warm_loads": _WARM_LOADS,
        "batch_size": batch_size,
    }
    memory = _ask({**request, "mode": "memory"}, timeout_s)
    timing = _ask(request, timeout_s)
    return LatencyProfile(
        artifact=path.name,
        runtime=timing["runtime"],
        measured_on="host",
        machine=describe_machine(),
        threads=threads,
        batch_size=batch_size,
        warm_up=warm_up,
        samples_ms=np.asarray(timing["samples_ms"], dtype=np.float64),
        cold_load_ms=timing["cold_load_ms"],
        warm_load_ms=timing["warm_load_ms"],
        peak_memory_mib=memory["peak_memory_mib"],
        baseline_memory_mib=memory["baseline_memory_mib"],
        distrust=tuple(judge_samples(timing["samples_ms"], warm_up)),
    )


def _ask(request: Request, timeout_s: float) -> dict[str, Any]:
    """The worker's answer to `request`; its whole process group ends with it."""
    worker = subprocess.Popen(
        # -P: a folder called onnx in the user's current directory must not hide the package.
        [sys.executable, "-P", "-W", "ignore", "-m", "sctool.profiling.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=_environment(request["threads"]),
        start_new_session=True,
    )
    try:
        output, noise = worker.communicate(json.dumps(request), timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"Profiling {request['path']} did not end within {timeout_s:g} s.",
            hint="Ask for fewer iterations or a longer time-out, or check the model.",
        ) from error
    finally:
        _end(worker)
    last_line = next((line.strip() for line in reversed(noise.splitlines()) if line.strip()), "no message").rstrip(".")
    if worker.returncode < 0:
        name = signal.Signals(-worker.returncode).name
        raise DeviceError(
            f"The process that runs {request['path']} was ended by {name}: {last_line}.",
            hint="The runtime crashed or ran out of memory: export the artifact again, or free memory.",
        )
    if worker.returncode > 0:
        raise ArtifactError(
            f"Cannot run {request['path']}: {last_line}.", hint="Check the artifact with `sctool verify`."
        )
    try:
        reply: dict[str, Any] = json.loads(output)
    except ValueError as error:
        raise DeviceError(
            f"The process that runs {request['path']} gave no figures: {last_line}.", hint="Try again."
        ) from error
    if "error" in reply:
        kind = getattr(errors, reply["error"]["class"], SctoolError)
        raise kind(reply["error"]["message"], hint=reply["error"]["hint"])
    return reply


def _environment(threads: int) -> dict[str, str]:
    package_folder = str(Path(sctool.__file__).resolve().parent.parent)
    paths = [package_folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), "PYTHONPATH": os.pathsep.join(paths)}


def _end(worker: subprocess.Popen[str]) -> None:
    if worker.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    for stream in (worker.stdin, worker.stdout, worker.stderr):
        if stream is not None:
            stream.close()
