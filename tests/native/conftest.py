"""Builds of the sparse runtime with options of their own; without a compiler the tests skip."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sctool.native import build

SOURCES = Path(__file__).resolve().parents[2] / "toolchain" / "sparse_runtime"
Builder = Callable[..., Path]
ISAS = ["portable", "neon", "avx2", "avx512"]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, library: ctypes.CDLL) -> str:
    """Each instruction set that runs here."""
    if library.sctool_sparse_find_isa(request.param.encode()) is None:
        pytest.skip(f"this processor has no {request.param}")
    return str(request.param)


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """(name, cmake options) -> the folder of a build, without the wide kernels unless they are asked for: a third of the
    time."""
    made: dict[tuple[str, ...], Path] = {}

    def make(name: str, *options: str) -> Path:
        if missing := build.missing_tools():
            pytest.skip(f"no build without {', '.join(missing)}")
        if (name, *options) not in made:
            folder = tmp_path_factory.mktemp(name)
            build.compile_sources(
                SOURCES, folder, executorch_include=None, options=("-DSCTOOL_WIDE_KERNELS=OFF", *options)
            )
            made[name, *options] = folder
        return made[name, *options]

    yield make


def need(*programs: str) -> None:
    """Skip where one of `programs` is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run_payload(command: list[str], payload: bytes, x: bytes, batch: int, folder: Path) -> bytes:
    """What the stand-alone runner writes for raw float32 inputs."""
    for name, content in (("p.scsp", payload), ("x.bin", x)):
        (folder / name).write_bytes(content)
    done = subprocess.run(
        [*command, "--model", folder / "p.scsp", "--input", folder / "x.bin", "--output", folder / "y.bin",
         "--batch", str(batch)], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return (folder / "y.bin").read_bytes()
