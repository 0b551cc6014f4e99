"""What of the tool's surroundings is here, and what to do about what is not."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from sctool.native.build import find_library, missing_tools
from sctool.profiling.machine import cpu_model, usable_cores
from sctool.resources import list_resources, search_path

_PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "executorch")
_PYTHON = ((3, 11), (3, 13))
_LEAST_FREE_GIB = 2.0
# The extension itself imports in 2 s, the wrapper (portable_lib, under which later versions hide it) in 7 s.
_BACKENDS = """
import torch
try:
    from executorch.extension.pybindings import _portable_lib as lib
except ImportError:
    from executorch.extension.pybindings import portable_lib as lib
print("BACKENDS", *lib._get_registered_backend_names())
"""


@dataclass(frozen=True)
class Check:
    """One finding; `next_step` says what to do where it is not ok."""

    name: str
    ok: bool
    level: Literal["required", "optional"]
    found: str
    next_step: str | None = None


def examine(folder: Path | None = None, *, timeout_s: float = 4.0) -> list[Check]:
    """Look at everything the tool needs or can use; disk space is that of `folder` (default: the current one).

    Never raises for what is missing. `timeout_s` bounds the one slow check, ExecuTorch's backends.
    """
    return [
        _python(),
        *(_package(name) for name in _PACKAGES),
        _xnnpack(timeout_s),
        _program("C++ compiler", ("c++", "g++", "clang++"), "Install g++ or clang++ to build the sparse runtime."),
        _program("cmake", ("cmake",), "Install cmake to build the sparse runtime."),
        _adb(),
        _sparse_runtime(),
        _disk(folder or Path.cwd()),
        Check("cores", True, "optional", f"{usable_cores()} usable, {cpu_model()}"),
        _threads(),
        _resources("targets", "SCTOOL_TARGETS"),
        _resources("calibration", "SCTOOL_CALIBRATION"),
    ]  # fmt: skip


def _python() -> Check:
    oldest, newest = _PYTHON
    ok = oldest <= sys.version_info[:2] <= newest
    step = f"Use Python {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}."
    return Check("python", ok, "required", platform.python_version(), None if ok else step)


def _package(name: str) -> Check:
    version = _version(name)
    step = None if version else f"Install it: {sys.executable} -m pip install {name}"
    return Check(name, version is not None, "required", version or "not installed", step)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _xnnpack(timeout_s: float) -> Check:
    """Whether the wheel's runtime has XNNPACK, asked in a process of its own: the import is slow and prints."""
    name = "executorch XNNPACK"
    if _version("executorch") is None:
        return Check(name, False, "required", "executorch is not installed", "Install executorch first.")
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", _BACKENDS],
            capture_output=True, text=True, errors="replace", timeout=timeout_s, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Check(
            name, False, "optional", f"unknown: no answer within {timeout_s:g} s", "Try again on an idle machine."
        )
    backends = next((line.split()[1:] for line in answer.stdout.splitlines() if line.startswith("BACKENDS")), None)
    if backends is None:
        lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit {answer.returncode}"
        return Check(name, False, "required", reason, "Reinstall executorch with the torch version it asks for.")
    ok = "XnnpackBackend" in backends
    found = f"backends: {', '.join(backends) or 'none'}"
    return Check(name, ok, "required", found, None if ok else "Install an executorch wheel with the XNNPACK backend.")


def _program(name: str, candidates: Sequence[str], step: str) -> Check:
    path = next((found for candidate in candidates if (found := shutil.which(candidate))), None)
    return Check(name, path is not None, "optional", path or "not found", None if path else step)


def _adb() -> Check:
    """In PATH, or in the wheel of adbutils."""
    path, bundled = shutil.which("adb"), _version("adbutils")
    found = path or (f"with adbutils {bundled}" if bundled else "not found")
    ok = bool(path or bundled)
    return Check("adb", ok, "optional", found, None if ok else "pip install adbutils, to measure on a phone.")


def _sparse_runtime() -> Check:
    """Whether the kernels for sparse .pte files are built; all else works without them."""
    found = find_library()
    if found is not None:
        return Check("sparse runtime", True, "optional", str(found))
    missing = missing_tools()
    step = f"Install {', '.join(missing)}, then" if missing else "Run"
    return Check("sparse runtime", False, "optional", "not built", f"{step} `sctool doctor --build-runtime`.")


def _disk(folder: Path) -> Check:
    try:
        free_gib = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        return Check("free disk", False, "required", f"{folder}: {error.strerror}", "Name a folder that exists.")
    ok = free_gib >= _LEAST_FREE_GIB
    step = None if ok else f"Free at least {_LEAST_FREE_GIB:g} GiB: runs and bundles are written there."
    return Check("free disk", ok, "required", f"{free_gib:.1f} GiB in {folder}", step)


def _threads() -> Check:
    value = os.environ.get("OMP_NUM_THREADS")
    if value is None:
        return Check("threads", True, "optional", "OMP_NUM_THREADS is not set: torch takes every core")
    ok = value.isdecimal() and 1 <= int(value) <= usable_cores()
    step = None if ok else f"Set OMP_NUM_THREADS to 1 ... {usable_cores()}, or unset it."
    return Check("threads", ok, "optional", f"OMP_NUM_THREADS={value}", step)


def _resources(kind: str, variable: str) -> Check:
    found = list_resources(kind)
    folders = os.pathsep.join(str(folder) for folder in search_path(kind))
    step = None if found else f"Reinstall sctool, or name a folder in {variable}."
    return Check(kind, bool(found), "required", f"{len(found)} in {folders}", step)
