"""Compiles runners, counting plug-in and its clock from toolchain/device_runner, once for each source and compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sctool.errors import NativeRuntimeMissing
from sctool.resources import device_runner_folder
from sctool.runtimes.device.kit import EmulatorKit, cache_folder
from sctool.runtimes.device.local import run_process

_FLAGS = ("-O2", "-std=gnu11", "-Wall")
_TIMEOUT_S = 300.0


def build_arm_runner(kit: EmulatorKit) -> Path:
    """The ONNX Runtime runner for aarch64 Linux."""
    return _compile(kit.compiler, ["ort_runner.c"], ["-ldl"], "ort_runner", kit.environment)


def build_host_runner() -> Path:
    """The same for this machine. NativeRuntimeMissing without a C compiler."""
    return _compile(_host_compiler(), ["ort_runner.c"], ["-ldl"], "ort_runner")


def build_counter() -> Path:
    """QEMU's plug-in that counts instructions; a shared library of this machine."""
    return _compile(_host_compiler(), ["count_plugin.c"], ["-shared", "-fPIC", "-fvisibility=hidden"], "count.so")


def build_still_clock(kit: EmulatorKit) -> Path:
    """A shared library for aarch64 Linux that keeps the time from the program that it is preloaded into."""
    return _compile(kit.compiler, ["still_clock.c"], ["-shared", "-fPIC"], "still_clock.so", kit.environment)


def _host_compiler() -> Path:
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found is None:
        raise NativeRuntimeMissing("There is no C compiler.", hint="Install gcc or clang, then run `sctool doctor`.")
    return Path(found)


def _compile(
    compiler: Path, sources: Sequence[str], options: Sequence[str], name: str,
    environment: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    folder = device_runner_folder()
    digest = hashlib.sha256(f"{compiler}{compiler.stat().st_mtime_ns}{_FLAGS}{options}".encode())
    for path in sorted([*folder.glob("*.h"), *(folder / source for source in sources)]):
        digest.update(path.read_bytes())
    built = cache_folder() / "build" / digest.hexdigest()[:16] / name
    if built.is_file():
        return built
    built.parent.mkdir(parents=True, exist_ok=True)
    temporary = built.with_name(f"{name}.{os.getpid()}")
    command = [str(compiler), *_FLAGS, *(str(folder / source) for source in sources), "-o", str(temporary), *options]
    done = run_process(command, timeout_s=_TIMEOUT_S, environment=environment)
    if done.exit_code:
        lines = (
            [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no message"]
        )
        raise NativeRuntimeMissing(
            f"{compiler.name} cannot compile {name}: {lines[0].strip()}.", hint="`sctool doctor` says what is missing."
        )
    os.replace(temporary, built)
    return built
