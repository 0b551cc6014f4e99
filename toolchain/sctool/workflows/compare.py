"""Two profiles side by side, from bundles or their profile.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sctool.errors import ArtifactError
from sctool.profiling.compare import compare_profiles


def compare(one: Path, other: Path) -> list[dict[str, Any]]:
    """Rows of `compare_profiles`. ArtifactError where one is no profile, ConfigError where the two are not comparable."""
    return compare_profiles(_read(one), _read(other))


def _read(path: Path) -> dict[str, Any]:
    file = path / "profile.json" if path.is_dir() else path
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(
            f"Cannot read {file}: {error.strerror}.", hint="`sctool profile BUNDLE` makes it."
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{file} is not valid JSON: {error}.", hint="Profile the bundle again.") from error
    if not isinstance(record, dict) or record.get("schema_version") != 2:
        raise ArtifactError(f"{file} is no profile of this version.", hint="Profile the bundle again.")
    return record
