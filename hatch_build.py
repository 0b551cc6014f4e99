"""Puts the compiled sparse runtime into a wheel, which is then of one platform, where SCTOOL_BUILD_NATIVE is 1.

Without it the wheel is pure Python and holds the C++ sources; `sctool doctor --build-runtime` compiles them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

EXECUTORCH = "executorch==1.4.1"
LIBRARY = "libsctool_sparse.dylib" if sys.platform == "darwin" else "libsctool_sparse.so"


class NativeHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("SCTOOL_BUILD_NATIVE") != "1" or version == "editable":
            return
        work = Path(tempfile.mkdtemp(prefix="sctool-wheel-"))
        headers = work / "executorch"
        # Headers alone: no torch for a build.
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", headers, EXECUTORCH],
            check=True,
        )
        sources = Path(self.root) / "toolchain" / "sparse_runtime"
        include = headers / "executorch" / "include"
        subprocess.run(["cmake", "-S", sources, "-B", work, f"-DEXECUTORCH_INCLUDE={include}"], check=True)
        subprocess.run(["cmake", "--build", work], check=True)
        for name in (LIBRARY, "sctool_runner"):
            build_data["force_include"][str(work / name)] = f"sctool/_native/{name}"
        build_data["pure_python"] = False
        if sys.platform.startswith("linux"):
            # Any Python loads the library, on any Linux whose glibc is as new as this one.
            platforms = list(platform_tags())
            platform = next((tag for tag in platforms if tag.startswith("manylinux_")), platforms[0])
            build_data["tag"] = f"py3-none-{platform}"
        else:
            build_data["infer_tag"] = True
