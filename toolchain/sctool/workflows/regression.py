"""Whether a model leaks more than the one before it, beyond what the audits' noise explains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scipy.stats import norm

from sctool.errors import ArtifactError

Record = dict[str, Any]
FALSE_ALARMS = 0.05
"""How often, at most, two models that leak alike are told apart, over all figures compared (Bonferroni)."""
FIGURES = (("AUC", "auc"), ("attack accuracy", "balanced_accuracy"))
Z = 1.959964


def read_baseline(path: Path) -> Record:
    """The verification.json at `path`, or that of the bundle at `path`. ArtifactError where there is none to read."""
    file = path / "verification.json" if path.is_dir() else path
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not isinstance(record["columns"], list):
            raise ValueError("it is no verification")
        for column in record["columns"]:
            for attack in column["attacks"]:
                _read(attack["auc"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"Cannot read the baseline {file}: {error}.", hint="`sctool verify OLD_BUNDLE` makes one."
        ) from error
    return record


def find_regressions(columns: list[Record], baseline: Record) -> dict[str, list[str]]:
    """Column name -> what is worse than in the baseline's artifact of the same name: higher by more than the noise of
    both audits, one-sided. Attacks that only one of the two ran are not compared."""
    old = {
        (column["name"], attack["attack"]): attack
        for column in baseline["columns"]
        if column["kind"] == "artifact"
        for attack in column["attacks"]
    }
    pairs = [
        (column["name"], attack, old[column["name"], attack["attack"]])
        for column in columns
        if column["kind"] == "artifact"
        for attack in column["attacks"]
        if (column["name"], attack["attack"]) in old
    ]
    limit = float(norm.isf(FALSE_ALARMS / max(1, len(pairs) * len(FIGURES))))
    found: dict[str, list[str]] = {}
    for name, now, before in pairs:
        for title, key in FIGURES:
            (value, error), (was, old_error) = _read(now[key]), _read(before[key])
            noise = (error**2 + old_error**2) ** 0.5
            if value - was > limit * noise:
                found.setdefault(name, []).append(
                    f"{name}: {title} of {now['attack']} rose from {was:.3f} to {value:.3f}, by more than "
                    f"{limit * noise:.3f}, which noise would explain."
                )
    return found


def _read(figure: Record) -> tuple[float, float]:
    """(value, standard error)."""
    return float(figure["value"]), (float(figure["high"]) - float(figure["low"])) / (2 * Z)
