"""What an app's developer needs beside the files: how to load them on Android and iOS, in which versions, at what cost."""

from __future__ import annotations

import math
import tomllib
import zlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sctool.atomic import write_file
from sctool.domain.target import Target
from sctool.export.manifest import FileEntry, Manifest

TEMPLATES = Path(__file__).parent / "handover"
FILES = {
    "android": {
        "android/README.md": "android.md.j2",
        "android/build.gradle.kts": "build.gradle.kts.j2",
        "android/SctoolModel.kt": "SctoolModel.kt.j2",
    },
    "ios": {"ios/README.md": "ios.md.j2", "ios/SctoolModel.swift": "SctoolModel.swift.j2"},
}


def write_handover(bundle: Path, target: Target, manifest: Manifest, core_ml: str | None) -> list[Path]:
    """Write the hand-over for the target's platform into `bundle`, whose artifacts lie there; returns the files, none
    for a platform without one. `core_ml` says what became of the Core ML package. Same bundle, same bytes."""
    wanted = FILES.get(target.platform, {})
    environment = Environment(  # noqa: S701 - Kotlin, Swift and Markdown, no HTML
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["product_of"] = math.prod
    shape = [size for size in manifest.input.shape if size is not None]
    files = {
        name: {**entry.model_dump(), "deflated_bytes": len(zlib.compress((bundle / name).read_bytes(), 9))}
        for name, entry in manifest.files.items()
    }
    written = []
    for name, template in wanted.items():
        text = environment.get_template(template).render(
            manifest=manifest, target=target, files=files, shape=shape, classes=manifest.output.shape[-1],
            versions=manifest.tool_versions, core_ml=core_ml,
            runtimes=_read_sizes(manifest.tool_versions), onnx=_first_stock(manifest, "onnx"),
            pte=_first_stock(manifest, "pte"),
            own=[name for name, entry in manifest.files.items() if _needs_sparse_runtime(entry)],
        )  # fmt: skip
        write_file(bundle / name, text)
        written.append(bundle / name)
    return written


def _read_sizes(versions: dict[str, str]) -> list[dict[str, Any]]:
    """What is known of the runtimes' libraries, ONNX Runtime's first; `pinned`: the version that the bundle asks for."""
    known = tomllib.loads((TEMPLATES / "runtime_sizes.toml").read_text(encoding="utf-8"))
    return [
        {"deflated_bytes": None, **entry, "pinned": versions.get(name, entry["version"])}
        for name, entry in known.items()
    ]


def _first_stock(manifest: Manifest, format: str) -> str | None:
    """The first file of that format that a released AAR runs: none that needs the sparse runtime's library."""
    return next(
        (name for name, entry in manifest.files.items() if entry.format == format and not _needs_sparse_runtime(entry)),
        None,
    )


def _needs_sparse_runtime(entry: FileEntry) -> bool:
    return entry.runtime.endswith("+sparse")
