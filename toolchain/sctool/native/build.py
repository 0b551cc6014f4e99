"""Finds the sparse runtime's shared library, and builds it from the sources that travel with the package.

Search order: the folder on SCTOOL_NATIVE, the package itself (prebuilt wheels), the user's cache. A library in the cache
lies under a hash of its sources and of executorch's version: after an upgrade the old one is not found, and is built anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from sctool.errors import NativeRuntimeMissing

LIBRARY = "libsctool_sparse.dylib" if sys.platform == "darwin" else "libsctool_sparse.so"
RUNNER = "sctool_runner"
VARIABLE = "SCTOOL_NATIVE"
_PACKAGE = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 600


def find_sources() -> Path | None:
    """The folder of the C++ sources: in the checkout, or in the installed package."""
    for folder in (_PACKAGE / "_data" / "sparse_runtime", _PACKAGE.parent / "sparse_runtime"):
        if (folder / "CMakeLists.txt").is_file():
            return folder
    return None


def find_library() -> Path | None:
    """The shared library that was built for this version, or None."""
    return _find(LIBRARY)


def find_runner() -> Path | None:
    """The stand-alone runner for this machine, or None."""
    return _find(RUNNER)


def _find(name: str) -> Path | None:
    named = os.environ.get(VARIABLE)
    folders = [Path(named)] if named else [_PACKAGE / "_native", *filter(None, [cache_folder()])]
    return next((path for folder in folders if (path := folder / name).is_file()), None)


def cache_folder() -> Path | None:
    """Where a build goes; None without sources."""
    sources = find_sources()
    if sources is None:
        return None
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sctool" / "native" / _digest(sources)


def missing_tools() -> list[str]:
    """What a build lacks, in words; empty where it can go on."""
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    missing = []
    if find_sources() is None:
        missing.append("the C++ sources")
    if not any(shutil.which(name) for name in compilers):
        missing.append("a C++ compiler (g++ or clang++)")
    if not shutil.which("cmake"):
        missing.append("cmake")
    if not shutil.which("ninja") and not shutil.which("make"):
        missing.append("ninja or make")
    return missing


def build_library() -> Path:
    """Compile library and runner into the folder on SCTOOL_NATIVE or the cache, whole or not at all; a minute.

    Returns the library's path. Raises NativeRuntimeMissing where a tool is missing or the compiler fails.
    """
    if missing := missing_tools():
        raise NativeRuntimeMissing(f"Cannot build the sparse runtime without {', '.join(missing)}.", hint="Install it.")
    sources = find_sources()
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else cache_folder()
    assert sources is not None and folder is not None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sctool-build-") as work:
            compile_sources(sources, Path(work), executorch_include=executorch_include())
            folder.mkdir(exist_ok=True)
            for name in (RUNNER, LIBRARY):
                _place(Path(work) / name, folder / name)
    except OSError as error:
        raise NativeRuntimeMissing(
            f"Cannot write the sparse runtime to {folder}: {error.strerror}.", hint=f"Name a folder in {VARIABLE}."
        ) from error
    return folder / LIBRARY


def compile_sources(
    sources: Path, work: Path, *, executorch_include: Path | None, options: tuple[str, ...] = (),
    targets: tuple[str, ...] = (), environment: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Run cmake in `work`, with more `options` for its configuration, for `targets` alone where some are named.

    `environment` comes on top of this process's own. Raises NativeRuntimeMissing with the first error.
    """
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    include = [f"-DEXECUTORCH_INCLUDE={executorch_include}"] if executorch_include else []
    only = ["--target", *targets] if targets else []
    for command in (
        ["cmake", "-S", str(sources), "-B", str(work), *generator, *include, *options],
        ["cmake", "--build", str(work), *only],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S,
                env={**os.environ, **(environment or {})}, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise NativeRuntimeMissing(
                f"The build took over {_TIMEOUT_S} s.", hint="Try on an idle machine."
            ) from error
        if done.returncode != 0:
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
            reason = lines[0][:300] if lines else f"{command[0]} ended with {done.returncode}"
            raise NativeRuntimeMissing(
                f"The sparse runtime did not build: {reason}.", hint="Is the compiler from 2021 on?"
            )


def executorch_include() -> Path | None:
    """The headers that the executorch wheel ships, or None."""
    spec = find_spec("executorch")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "include" / "executorch" / "runtime").is_dir():
            return Path(place) / "include"
    return None


def _place(built: Path, place: Path) -> None:
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copy2(built, beside)
    os.replace(beside, place)


def digest_sources(sources: Path) -> str:
    """A hash of all that is compiled: the sources, and the headers of the runners beside them."""
    digest = hashlib.sha256()
    beside = sources.parent / "device_runner"
    for folder in (sources, beside):
        for path in sorted(folder.rglob("*")):
            wanted = (".h",) if folder == beside else (".cpp", ".h", ".txt", ".map")
            if path.is_file() and path.suffix in wanted:
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _digest(sources: Path) -> str:
    """Of the sources and of the executorch whose headers they are compiled against."""
    try:
        version = metadata.version("executorch")
    except metadata.PackageNotFoundError:
        version = "none"
    return hashlib.sha256(f"{version} {digest_sources(sources)}".encode()).hexdigest()[:16]
