"""Programs that load an artifact on a device, run it and say in one JSON line what that cost.

A runner for another format is one class like `OrtRunner` and one line in `RUNNERS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sctool.domain.device import Completed, DeviceSession
from sctool.errors import ArtifactError, DeviceError, NativeRuntimeMissing
from sctool.formats.pte import read_program
from sctool.native import build as native
from sctool.native.library import BACKEND, DOMAIN, HINT
from sctool.runtimes.device.build import build_arm_runner, build_host_runner
from sctool.runtimes.device.cross import build_sparse_runner
from sctool.runtimes.device.kit import LIBRARIES, ORT_LIBRARY, find_kit

USAGE, FILES, RUNTIME, MODEL = 2, 3, 4, 5
"""Exit codes that every runner keeps to."""
ARM = ("arm64-v8a", "aarch64", "arm64")


@dataclass(frozen=True)
class Work:
    """What a runner is to do: answer for every record (`iterations` 0), or time so many calls on the first batch."""

    model: str
    input: str
    output: str
    shape: tuple[int, ...]
    batch: int = 1
    threads: int = 1
    warm_up: int = 0
    iterations: int = 0
    warm_loads: int = 0


class Runner(Protocol):
    """`formats`: the suffixes of the files that it runs."""

    @property
    def kind(self) -> str: ...
    @property
    def formats(self) -> tuple[str, ...]: ...

    def refuses(self, path: Path) -> str | None:
        """Why it cannot run the file at `path`, which has one of its suffixes; None where it can, or will say itself."""
        ...

    def install(self, session: DeviceSession) -> Sequence[str]:
        """Put the program and its libraries onto the device; returns the command line's beginning."""
        ...


class OrtRunner:
    """Stock ONNX Runtime behind its C interface."""

    kind = "onnxruntime"
    formats = (".onnx",)

    def refuses(self, path: Path) -> str | None:
        if path.is_file() and DOMAIN.encode() in path.read_bytes():
            return "the sparse runtime's operator does not go there with ONNX Runtime; the sparse .pte does"
        return None

    def install(self, session: DeviceSession) -> Sequence[str]:
        """NativeRuntimeMissing where the device's runner cannot be built, DeviceError for an ABI that it does not serve."""
        if session.tier == "host":
            runner = session.push(build_host_runner(), "ort_runner", executable=True)
            return [runner, "--library", str(_host_library())]
        _demand_arm(session)
        kit = find_kit()
        if session.tier == "emulator":
            runner = session.push(build_arm_runner(kit), "ort_runner", executable=True)
            folder = str(kit.arm)
        else:
            for name in (*LIBRARIES, ORT_LIBRARY):
                session.push(kit.arm / name, name, executable=True)
            runner = session.push(build_arm_runner(kit), "ort_runner", executable=True)
            folder = session.folder
        loader = f"{folder}/{LIBRARIES[0]}"
        return [loader, "--library-path", folder, runner, "--library", f"{folder}/{ORT_LIBRARY}"]


class SparseRunner:
    """The sparse runtime alone: for an ExecuTorch program that is all one part of its own."""

    kind = "sparse"
    formats = (".pte",)

    def refuses(self, path: Path) -> str | None:
        try:
            methods = read_program(path.read_bytes(), str(path)).methods
        except (ArtifactError, OSError):
            return None
        parts = [delegate.backend for method in methods for delegate in method.delegates]
        operators = sum(len(method.operators) for method in methods)
        if BACKEND not in parts:
            return "it is a program for stock ExecuTorch: name an executor_runner with --executorch-runner"
        if parts != [BACKEND] or operators:
            others = sorted({part for part in parts if part != BACKEND}) + (["plain operators"] if operators else [])
            return (
                f"{parts.count(BACKEND)} of its parts are for the sparse runtime, others for "
                f"{', '.join(others) or 'none'}; the runner takes programs of one part"
            )
        return None

    def install(self, session: DeviceSession) -> Sequence[str]:
        """NativeRuntimeMissing where the device's runner cannot be built, DeviceError for an ABI that it does not serve."""
        if session.tier == "host":
            program = native.find_runner()
            if program is None:
                raise NativeRuntimeMissing("The sparse runtime is not built.", hint=HINT)
        else:
            _demand_arm(session)
            program = build_sparse_runner()
        return [session.push(program, native.RUNNER, executable=True)]


RUNNERS: dict[str, Callable[[], Runner]] = {"onnxruntime": OrtRunner, "sparse": SparseRunner}


@dataclass(frozen=True)
class Refusal:
    """Why nothing takes a file to a device."""

    reason: str


def find_runner(path: Path) -> Runner | Refusal:
    """The runner for the file, or why there is none."""
    reasons = []
    for create in RUNNERS.values():
        runner = create()
        if path.suffix.lower() not in runner.formats:
            continue
        reason = runner.refuses(path)
        if reason is None:
            return runner
        reasons.append(reason)
    return Refusal("; ".join(reasons) or f"no runner here takes {path.suffix or 'such'} files to a device")


def _demand_arm(session: DeviceSession) -> None:
    abi = session.facts().abi
    if abi not in ARM:
        raise DeviceError(
            f"{session.name} has ABI {abi or 'unknown'}; the runner serves {', '.join(ARM)}.",
            hint="Use a 64-bit Arm device.",
        )


def work_arguments(work: Work) -> list[str]:
    """The command line's end: the same for every runner."""
    return [
        "--model", work.model, "--input", work.input, "--output", work.output,
        "--shape", ",".join(map(str, work.shape)), "--batch", str(work.batch), "--threads", str(work.threads),
        "--warm-up", str(work.warm_up), "--iterations", str(work.iterations), "--warm-loads", str(work.warm_loads),
    ]  # fmt: skip


def read_line(done: Completed, what: str) -> dict[str, Any]:
    """The runner's JSON line. ArtifactError where it refused the model, DeviceError for all else that went wrong."""
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.exit_code}"])[-1].strip().rstrip(".")
    if done.exit_code == MODEL:
        raise ArtifactError(f"Cannot run {what}: {reason}.", hint="Export the run again.")
    if done.exit_code == RUNTIME:
        raise NativeRuntimeMissing(
            f"Cannot run {what}: {reason}.", hint="`sctool doctor --install-emulator` sets it up."
        )
    line = next((line for line in reversed(done.stdout.splitlines()) if line.startswith("{")), None)
    if done.exit_code or line is None:
        raise DeviceError(f"The runner of {what} ended with {done.exit_code}: {reason}.", hint="Try again.")
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DeviceError(f"The runner of {what} printed no JSON: {line[:80]!r}.", hint="Try again.") from error
    if not isinstance(record, dict) or record.get("schema") != 1:
        raise DeviceError(f"The runner of {what} speaks another version: {line[:80]!r}.", hint="Install it again.")
    return record


def _host_library() -> Path:
    """libonnxruntime of the installed wheel."""
    from importlib.util import find_spec

    spec = find_spec("onnxruntime")
    folder = Path(spec.origin).parent / "capi" if spec and spec.origin else Path("absent")
    found = sorted(folder.glob("libonnxruntime.so.*")) + sorted(folder.glob("libonnxruntime*.dylib"))
    if not found:
        raise NativeRuntimeMissing(f"{folder} holds no libonnxruntime.", hint="Reinstall onnxruntime.")
    return found[0]
