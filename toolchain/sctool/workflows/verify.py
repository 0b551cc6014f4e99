"""The attack again, on the exported bytes, in the runtimes that execute them, on records that no search has seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sctool import __version__
from sctool.atomic import write_json
from sctool.data.dataset import Dataset
from sctool.domain.artifact import Session
from sctool.domain.config import Config, VerifyConfig
from sctool.domain.measurement import AttackResult
from sctool.domain.membership import MembershipSplit
from sctool.errors import DataError
from sctool.export.parity import compare_logits
from sctool.runtimes.eager import EagerSession
from sctool.runtimes.registry import open_session
from sctool.safety.evaluate import blind_baseline
from sctool.workflows.bundle import find_run, load_records, open_bundle
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.run_directory import DENSE, load_run_model
from sctool.workflows.signals import attack_session, measure_accuracy

RUNTIME_NAMES = {"onnx": "ONNX Runtime", "pte": "ExecuTorch"}
# A blind baseline over chance at this many standard errors means members and non-members differ in themselves.
BLIND_SIGMAS = 3.3


@dataclass(frozen=True)
class Gates:
    """Limits given by the caller; None: the run's config decides, else the defaults of VerifyConfig."""

    max_attack_accuracy: float | None = None
    max_auc: float | None = None
    max_tpr_at_1pct_fpr: float | None = None

    def over(self, config: VerifyConfig) -> VerifyConfig:
        return config.model_copy(update={key: value for key, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    session: Session


def verify(
    path: Path, *, run: Path | None = None, data_source: str | None = None, gates: Gates | None = None,
    output: Path | None = None, progress: Progress = ignore_progress,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Verify the bundle at `path`; writes verification.json (default: into the bundle) and returns it with its path.

    Raises ArtifactError for a damaged bundle, DataError where the data are not the run's or where the blind baseline
    shows that the split itself gives members away. A leak is no exception here: the record's verdict says "leak".
    """
    bundle = open_bundle(path)
    origin = find_run(bundle, run)
    data, split = load_records(bundle, data_source, origin)
    config = origin.config if origin else Config()
    limits = (gates or Gates()).over(config.verify)
    columns: list[_Column] = []
    if origin:
        columns.append(_Column("dense (eager)", "dense", EagerSession(load_run_model(origin, DENSE))))
        columns.append(_Column("sparse (eager)", "sparse", EagerSession(load_run_model(origin))))
    for name, entry in bundle.manifest.files.items():
        columns.append(
            _Column(
                f"{name} ({RUNTIME_NAMES[entry.format]})",
                "artifact",
                open_session(path / name),
            )
        )
    blind = _blind(data, split, config.compress.seed)
    audit_rows, _ = split.pair("audit")
    reference = columns[1].session.run(data.x[audit_rows]) if origin else None
    records, failures = [], []
    for number, column in enumerate(columns):
        progress(number, len(columns), f"attacking {column.name}")
        results = attack_session(
            column.session, data, split, attacks=config.safety.audit_attacks, fit="audit_fit", score="audit",
            seed=config.compress.seed,
        )  # fmt: skip
        parity = None
        if column.kind == "artifact" and reference is not None:
            parity = compare_logits(reference, column.session.run(data.x[audit_rows])).to_json()
        if column.kind == "artifact":
            failures += [text for result in results for text in _exceeded(column.name, result, limits)]
        records.append(
            {
                "name": column.name, "kind": column.kind, "parity": parity,
                "test_accuracy": measure_accuracy(column.session, data, split["test"]),
                "attacks": [result.to_json(curve=True) for result in results],
            }
        )  # fmt: skip
    progress(len(columns), len(columns), "verified")
    verification = {
        "schema_version": 1,
        "sctool": __version__,
        "verdict": "leak" if failures else "pass",
        "failures": failures,
        "notes": _not_judged(split),
        "gates": limits.model_dump(),
        "columns": records,
        "blind_baseline": blind.to_json(curve=True),
        "seed": config.compress.seed,
        "split_sha256": split.sha256,
        "artifacts": {name: entry.sha256 for name, entry in bundle.manifest.files.items()},
    }
    file = output or path / "verification.json"
    write_json(file, verification)
    return file, verification


def _blind(data: Dataset, split: MembershipSplit, seed: int) -> AttackResult:
    """The attacker who sees no model; DataError where it beats chance by more than noise."""
    fit_rows, fit_members = split.pair("audit_fit")
    rows, members = split.pair("audit")
    result = blind_baseline(_features(data, fit_rows), fit_members, _features(data, rows), members, seed)
    sigma = max((result.auc.high - result.auc.low) / (2 * 1.96), 1e-6)
    if result.auc.value - BLIND_SIGMAS * sigma > 0.5:
        raise DataError(
            f"The blind baseline, which sees no model, tells members from non-members (AUC {result.auc}).",
            hint="The split is broken: shuffle the data so that both come from one distribution. No verdict is given.",
        )
    return result


def _features(data: Dataset, rows: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    flat = data.x[rows].reshape(len(rows), -1)
    return np.concatenate([flat, data.y[rows, None].astype(np.float32)], axis=1)


def _not_judged(split: MembershipSplit) -> list[str]:
    """What no gate could judge, for want of records."""
    others = len(split["audit_non_members"])
    if others >= 100:
        return []
    return [f"TPR at 1 % FPR was withheld and not judged: it takes 100 non-members, the audit has {others}."]


def _exceeded(name: str, result: AttackResult, limits: VerifyConfig) -> list[str]:
    tpr = result.tpr_at_fpr.get(0.01)
    figures = (
        ("attack accuracy", result.balanced_accuracy, limits.max_attack_accuracy),
        ("AUC", result.auc, limits.max_auc),
        ("TPR at 1 % FPR", tpr, limits.max_tpr_at_1pct_fpr),
    )
    return [
        f"{name}: {what} of {result.attack} is {figure}, over the limit of {limit:g}."
        for what, figure, limit in figures
        if figure is not None and figure.value > limit
    ]
