"""The main job in one go: compress, export, verify, profile, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sctool.domain.config import Config
from sctool.workflows.compress import compress
from sctool.workflows.export import export
from sctool.workflows.profile import profile
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.report import report
from sctool.workflows.verify import verify


@dataclass(frozen=True)
class Results:
    """What each step gave, and where."""

    summary: dict[str, Any]
    bundle: Path
    manifest: dict[str, Any]
    verification: dict[str, Any]
    profile: dict[str, Any]
    report: Path


def run(
    config: Config, output: Path, *, overwrite: bool = False, resume: bool = False,
    progress: Progress = ignore_progress,
) -> Results:  # fmt: skip
    """Do all five. A leak does not stop it: the report is what explains the leak."""
    summary = compress(config, output, overwrite=overwrite, resume=resume, progress=progress)
    bundle, manifest = export(output, progress=progress)
    _, verification = verify(bundle, progress=progress)
    _, figures = profile(bundle, progress=progress)
    return Results(summary, bundle, manifest, verification, figures, report(output))
