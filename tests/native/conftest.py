"""The compiled parts, built once a test run from this checkout's sources; without a compiler the tests skip."""

from __future__ import annotations

import ctypes
import fcntl
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sctool.native import build
from sctool.native.library import load_library
from sctool.workflows.export import export

SOURCES = Path(__file__).resolve().parents[2] / "toolchain" / "sparse_runtime"
Builder = Callable[..., Path]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The shared library, from the cache where these very sources were built before."""
    if missing := build.missing_tools():
        pytest.skip(f"no build without {', '.join(missing)}")
    folder = build.cache_folder()
    assert folder is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "test.lock").open("w") as lock:  # one of the parallel workers builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = build.find_library() or build.build_library()
    return load_library(found)


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """(name, cmake options) -> the folder of a build without the wide kernels: a third of the time."""
    made: dict[str, Path] = {}

    def make(name: str, *options: str) -> Path:
        if missing := build.missing_tools():
            pytest.skip(f"no build without {', '.join(missing)}")
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            build.compile_sources(
                SOURCES, made[name], executorch_include=None, options=("-DSCTOOL_WIDE_KERNELS=OFF", *options)
            )
        return made[name]

    yield make


@pytest.fixture(scope="session")
def sparse_bundle(made_run: Path, library: ctypes.CDLL, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(made_run, backend="sparse", output=tmp_path_factory.mktemp("sparse") / "bundle")[0]


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
        [*command, "--payload", folder / "p.scsp", "--input", folder / "x.bin", "--output", folder / "y.bin",
         "--batch", str(batch)], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return (folder / "y.bin").read_bytes()
