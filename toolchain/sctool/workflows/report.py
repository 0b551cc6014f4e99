"""One self-contained page from what the other commands wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sctool.atomic import refuse_existing, write_file
from sctool.errors import ArtifactError
from sctool.export.manifest import read_manifest
from sctool.report.page import render_report
from sctool.workflows.run_directory import read_run


def report(run_path: Path, *, bundle: Path | None = None, output: Path | None = None, overwrite: bool = False) -> Path:
    """Write the report of a run; parts that are not there yet are named as missing. Returns the page's path.

    Raises ArtifactError for a damaged run or bundle, or where the run has several bundles and none is named.
    """
    run = read_run(run_path)
    page = output or run_path / "report.html"
    refuse_existing(page, overwrite=overwrite)
    folder = bundle or _only_bundle(run_path)
    manifest = verification = profile = None
    if folder is not None:
        content = read_manifest(folder)
        if content.run_sha256 != run.sha256:
            raise ArtifactError(f"{folder} was exported from another run than {run_path}.", hint="Export it again.")
        manifest = content.model_dump(mode="json")
        verification = _read_optional(folder / "verification.json")
        profile = _read_optional(folder / "profile.json")
    write_file(page, render_report(run.summary, run.candidates, manifest, verification, profile))
    return page


def _only_bundle(run_path: Path) -> Path | None:
    """Bundles of the dense baseline count where there is no other."""
    every = sorted(path.parent for path in run_path.glob("bundles/*/manifest.json"))
    found = [path for path in every if read_manifest(path).model == "sparse"] or every
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ArtifactError(f"{run_path} has several bundles: {names}.", hint="Name one with --bundle.")
    return found[0] if found else None


def _read_optional(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(
            f"{path} is damaged: {error}.", hint="Run `sctool verify` or `sctool profile` again."
        ) from error
    return record
