"""ONNX Runtime, which reports what it runs to its maker unless it is told not to, is told so wherever sctool starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import sctool
from sctool.errors import NativeRuntimeMissing
from sctool.runtimes.device.build import build_host_runner
from sctool.runtimes.device.runner import _host_library

PACKAGE = Path(sctool.__file__).parents[1]


def run_and_list(folder: Path, command: Sequence[str | Path], code: int) -> list[str]:
    """What is in the home of a process afterwards; a build server's variables, which silence it too, are kept from it."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PACKAGE),
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".pyc")


@pytest.mark.parametrize(
    "module", ["sctool.runtimes.onnxruntime", "sctool.profiling.work", "sctool.export.passes.graph_pass"]
)
def test_python_leaves_no_identifier_behind(tmp_path: Path, module: str) -> None:
    """It makes one, and a database of events, when it is imported."""
    assert run_and_list(tmp_path, [sys.executable, "-c", f"import {module}"], 0) == []


def test_the_runner_leaves_no_identifier_behind(tmp_path: Path) -> None:
    try:
        runner = build_host_runner()
    except NativeRuntimeMissing as error:
        pytest.skip(str(error))
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "garbage.onnx").write_bytes(b"no model")
    (tmp_path / "x.f32").write_bytes(bytes(256))
    command = [runner, "--library", _host_library(), "--model", tmp_path / "garbage.onnx", "--input", tmp_path / "x.f32",
               "--shape", "64", "--output", tmp_path / "y.f32"]  # fmt: skip
    assert run_and_list(folder, command, 5) == []
