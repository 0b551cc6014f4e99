"""Compilers for aarch64, wherever they come from, and the sparse runtime's runner built with one of them.

The emulator kit's comes first: with it, the bytes that are emulated are those that go to a phone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from sctool.errors import NativeRuntimeMissing
from sctool.native.build import RUNNER, compile_sources, digest_sources, find_sources, missing_tools
from sctool.runtimes.device.kit import cache_folder, find_kit

HINT = "Get one: `sctool doctor --install-emulator`, g++-aarch64-linux-gnu, `pip install ziglang`, or the Android NDK."
NDK_API = 24
_LINUX = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64")
_ZIG_TARGET = "aarch64-linux-musl"
_NDK_VARIABLES = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_NDK")
_SDK_VARIABLES = ("ANDROID_HOME", "ANDROID_SDK_ROOT")


@dataclass(frozen=True)
class CrossCompiler:
    """`options`: what tells cmake to use it; `program`: the file whose change makes a build out of date."""

    name: str
    program: Path
    options: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def list_cross_compilers() -> list[CrossCompiler]:
    """The C++ compilers for aarch64 that are here, the preferred one first."""
    finders: tuple[Callable[[], Iterator[CrossCompiler]], ...] = (_kit, _system, _zig, _ndk)
    return [compiler for find in finders for compiler in find()]


def build_sparse_runner() -> Path:
    """The sparse runtime's runner as one static aarch64 program, built once for each source and compiler.

    NativeRuntimeMissing where no compiler is here, or where all of them fail: with the preferred one's error.
    """
    sources, compilers = find_sources(), list_cross_compilers()
    missing = [tool for tool in missing_tools() if "compiler" not in tool]
    if sources is None or missing:
        raise NativeRuntimeMissing(f"Cannot build the Arm runner without {', '.join(missing)}.", hint="Install it.")
    if not compilers:
        raise NativeRuntimeMissing("There is no C++ compiler for aarch64.", hint=HINT)
    failures = []
    for compiler in compilers:
        try:
            return _build(sources, compiler)
        except NativeRuntimeMissing as error:
            failures.append(error)
    raise failures[0]


def _build(sources: Path, compiler: CrossCompiler) -> Path:
    changed = compiler.program.stat().st_mtime_ns
    key = f"{compiler.name}{compiler.program}{changed}{compiler.options}{digest_sources(sources)}"
    built = cache_folder() / "build" / hashlib.sha256(key.encode()).hexdigest()[:16] / RUNNER
    if built.is_file():
        return built
    with tempfile.TemporaryDirectory(prefix="sctool-build-") as work:
        compile_sources(
            sources, Path(work), executorch_include=None, options=compiler.options, targets=(RUNNER,),
            environment=compiler.environment,
        )  # fmt: skip
        built.parent.mkdir(parents=True, exist_ok=True)
        temporary = built.with_name(f"{RUNNER}.{os.getpid()}")
        shutil.copy2(Path(work) / RUNNER, temporary)
    os.replace(temporary, built)
    return built


def _kit() -> Iterator[CrossCompiler]:
    with suppress(NativeRuntimeMissing):
        kit = find_kit()
        program = kit.compiler.with_name(kit.compiler.name.replace("gcc", "g++"))
        if program.is_file():
            yield CrossCompiler(
                f"{program.name} of the emulator kit", program, (*_LINUX, f"-DCMAKE_CXX_COMPILER={program}"),
                kit.environment,
            )  # fmt: skip


def _system() -> Iterator[CrossCompiler]:
    if found := shutil.which("aarch64-linux-gnu-g++"):
        yield CrossCompiler(found, Path(found), (*_LINUX, f"-DCMAKE_CXX_COMPILER={found}"))


def _zig() -> Iterator[CrossCompiler]:
    """`zig c++`, whose C library is musl; from PATH, or from the wheel `ziglang`."""
    spec = find_spec("ziglang")
    inside = [Path(place) / "zig" for place in (spec.submodule_search_locations or [])] if spec else []
    programs = [Path(found)] if (found := shutil.which("zig")) else [path for path in inside if path.is_file()]
    for program in programs:
        options = (
            *_LINUX, f"-DCMAKE_CXX_COMPILER={program};c++", f"-DCMAKE_CXX_COMPILER_TARGET={_ZIG_TARGET}",
            f"-DCMAKE_CXX_FLAGS=-target {_ZIG_TARGET}",
        )  # fmt: skip
        yield CrossCompiler(f"{program} ({_ZIG_TARGET})", program, options)


def _ndk() -> Iterator[CrossCompiler]:
    """By the NDK's own cmake file; bionic is linked statically."""
    named = [Path(os.environ[name]) for name in _NDK_VARIABLES if os.environ.get(name)]
    for variable in _SDK_VARIABLES:
        if os.environ.get(variable):
            named += sorted((Path(os.environ[variable]) / "ndk").glob("*"), reverse=True)
    for folder in named:
        toolchain = folder / "build" / "cmake" / "android.toolchain.cmake"
        if toolchain.is_file() and sys.platform != "win32":
            options = (
                f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DANDROID_ABI=arm64-v8a", f"-DANDROID_PLATFORM=android-{NDK_API}",
                "-DANDROID_STL=c++_static",
            )  # fmt: skip
            yield CrossCompiler(f"the NDK in {folder}", toolchain, options)
            return
