"""What lies in a bundle that its manifest does not know: refused where it could pass for a part of it, else named."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from sctool.errors import ArtifactError
from sctool.export.manifest import FILE as MANIFEST
from sctool.export.manifest import Manifest
from sctool.formats.suffixes import MODELS

OWN = frozenset(
    {MANIFEST, f"{MANIFEST}.minisig", "MODEL_CARD.md", "verification.json", "profile.json", "profile.jsonl"}
)
"""What sctool itself lays beside the listed files: what cannot hold its own hash, and what it finds out later."""
RECORD = ".verification.json"
"""How the record of a file that is verified by itself ends; it lies beside that file."""
MOST_NAMED = 5


def find_unlisted(bundle: Path, manifest: Manifest) -> list[str]:
    """The files under `bundle` that neither the manifest lists nor sctool writes there: sorted, with "/" between parts.

    Raises ArtifactError for the first that would be taken for a part of the bundle: a model, by its suffix; a file in a
    folder that holds a listed one (android/, ios/model.mlpackage/...); a link. Nothing is opened.
    """
    listed = {*manifest.files, *manifest.documents}
    folders = {PurePosixPath(name).parts[0] for name in listed if "/" in name}
    unlisted = [name for name in _walk(bundle) if name not in listed and name not in OWN]
    for name in unlisted:
        if reason := _forbids(bundle, PurePosixPath(name), folders):
            raise ArtifactError(
                f"{bundle}/{_show(name)} is not in the manifest, {reason}.",
                hint="Move it out of the bundle, or export again: `sctool export RUN --overwrite`.",
            )
    return [_show(name) for name in unlisted if "/" in name or not name.endswith(RECORD)]


def tell_unlisted(names: list[str]) -> list[str]:
    """A note on files that the manifest does not list; none where there are none."""
    if not names:
        return []
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return [f"Not in the manifest, no part of the bundle: {', '.join(names[:MOST_NAMED])}{more}."]


def _walk(bundle: Path) -> list[str]:
    """All files, and links to folders, which are not followed."""
    found = []
    for folder, folders, files in os.walk(bundle):
        inside = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [(Path(folder) / name).relative_to(bundle).as_posix() for name in (*files, *inside)]
    return sorted(found)


def _forbids(bundle: Path, name: PurePosixPath, folders: set[str]) -> str:
    """Why a file of that name may not lie there; empty where it may."""
    if any(part.lower().endswith(MODELS) for part in name.parts):
        return "and its name is a model's"
    if name.parts[0] in folders and len(name.parts) > 1:
        return f"which lists all that belongs into {name.parts[0]}/"
    if (bundle / name).is_symlink():
        return "and a link: a bundle ships plain files"
    return ""


def _show(name: str) -> str:
    """Names are whatever bytes a stranger liked: what a terminal would act upon, or cannot print, is escaped."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)
