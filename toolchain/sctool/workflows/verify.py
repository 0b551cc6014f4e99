"""The attacks again, on the exported bytes, in the runtimes that execute them, on records that no search has seen."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sctool import __version__
from sctool.atomic import write_file, write_json
from sctool.data.dataset import Dataset
from sctool.domain.artifact import Optimisation
from sctool.domain.config import Config, VerifyConfig
from sctool.domain.measurement import AttackResult
from sctool.domain.membership import Canaries, MembershipSplit
from sctool.errors import ArtifactError, ConfigError, DataError
from sctool.export.model_card import write_model_card
from sctool.export.parity import compare_logits
from sctool.runtimes.inside import extract_features
from sctool.safety.evaluate import blind_baseline, evaluate_attack, shuffled_control
from sctool.safety.exposure import find_exposed, split_by_class
from sctool.safety.one_run import audit_one_run
from sctool.safety.registry import ATTACKS, create_attack
from sctool.safety.statistics import margin
from sctool.workflows.carrying import scan_files, tell_carried
from sctool.workflows.judge import FALSE_ALARMS, Gates, Judged, judge
from sctool.workflows.junit import to_junit
from sctool.workflows.on_device import OnDevice, add_device, describe_agreement
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.regression import find_regressions, read_baseline
from sctool.workflows.run_directory import read_canaries
from sctool.workflows.shadows import Way, train_shadows
from sctool.workflows.signals import Extras, collect_signals, create_attacks, measure_accuracy
from sctool.workflows.subject import Column, Subject, open_subject

CHANCE_SIGMAS = 3.3
"""A control over chance by so many standard errors means that the records or the audit are at fault, not the model."""
CONTROL = "modified_entropy"
QUERIES = 5
"""Queries a record where an attack asks about altered copies: the record and four."""


@dataclass(frozen=True)
class Audit:
    """Which attacks run, and what for. `attacks`: names, or ["all"]; empty: those of the config, and, with shadow
    models, all that shadow models serve. `optimisation`: ONNX Runtime's level."""

    attacks: tuple[str, ...] = ()
    shadows: int = 0
    way: Way = "masks"
    jobs: int = 1
    optimisation: Optimisation = "all"


DEFAULT_AUDIT = Audit()
WITH_SHADOWS = ("lira_online", "lira_offline", "bavaria", "rmia", "base")


@dataclass
class _Findings:
    """Of all columns: what goes into the record, and what is judged."""

    records: list[dict[str, Any]] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)


def verify(
    path: str | Path, *, run: Path | None = None, config: Path | None = None, data_source: str | None = None,
    gates: Gates | None = None, audit: Audit = DEFAULT_AUDIT, baseline: Path | None = None, output: Path | None = None,
    junit: Path | None = None, signed_by: Path | None = None, device: str | None = None,
    executorch_runner: Path | None = None, progress: Progress = ignore_progress,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Verify what `path` names (see `open_subject`); writes verification.json (default: into the bundle, else beside the
    file) and returns it with its path. A bundle's model card gets the figures.

    With `baseline`, an earlier verification or its bundle, what leaks more than there by more than noise is a leak too;
    `junit` gets the verdict as XML. With `device` (see `open_device`) the artifacts are run and audited there too,
    stock .pte files where `executorch_runner` names an executor_runner for it.

    Raises ArtifactError for a damaged file, ConfigError for an attack that cannot run, DataError where the data are not
    the run's or where a control (the blind baseline, shuffled membership) beats chance. A leak is no exception here: the
    record's verdict says "leak".
    """
    before = read_baseline(baseline) if baseline else None
    with (
        open_subject(
            path, run=run, config=config, data_source=data_source, optimisation=audit.optimisation, signed_by=signed_by
        ) as opened,
        add_device(opened, device, executorch_runner) as (subject, on),
    ):
        limits = (gates or Gates()).over(subject.config.verify)
        verification = _verify(subject, limits, audit, before, on, progress)
        file, bundle = output or subject.record, subject.bundle
    write_json(file, verification)
    if bundle and output is None:
        write_model_card(bundle.path, bundle.manifest, verification)
    if junit:
        write_file(junit, to_junit(verification))
    return file, verification


def _verify(
    subject: Subject, limits: VerifyConfig, audit: Audit, before: dict[str, Any] | None, on: OnDevice | None,
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    data, split, config, columns = subject.data, subject.split, subject.config, subject.columns
    names = _choose_attacks(config, audit)
    if audit.shadows and subject.origin is None:
        raise ConfigError("Shadow models follow the recipe of a run, which is not there.", hint="Name it with --run.")
    for column in columns:
        _check_answers(column, data)
    blind = _blind(data, split, config.compress.seed)
    control = _control(columns[min(1, len(columns) - 1)], data, split, config.compress.seed)
    shadows = {}
    if audit.shadows and subject.origin:
        shadows = train_shadows(
            subject.origin, audit.shadows, data=data, queries=_count_queries(names), way=audit.way,
            kinds=_list_kinds(columns), jobs=audit.jobs, progress=progress,
        )  # fmt: skip
    canaries = read_canaries(subject.origin) if subject.origin else None
    carried = scan_files(subject.files, data, split)
    findings = _Findings()
    audit_rows, _ = split.pair("audit")
    reference = {
        column.model: column.session.run(data.x[audit_rows]) for column in columns if column.kind in ("dense", "sparse")
    }
    for number, column in enumerate(columns):
        progress(number, len(columns), f"attacking {column.name}")
        extras = Extras(
            _count_queries(names), records=True, shadows=shadows.get(column.shadow_kind),
            inside=functools.partial(extract_features, column.inside) if column.inside else None,
        )  # fmt: skip
        runnable = _runnable(names, extras, audit)
        _attack(column, subject, runnable, extras, limits.attack_seeds, canaries, findings)
        if column.kind == "artifact" and column.model in reference:
            answers = column.session.run(data.x[audit_rows])
            findings.records[-1]["parity"] = compare_logits(reference[column.model], answers).to_json()
    device = describe_agreement(on, findings.records, subject, audit_rows) if on else None
    progress(len(columns), len(columns), "verified")
    failures, doubtful = judge(findings.judged, limits)
    failures = tell_carried(carried) + failures
    worse = find_regressions(findings.records, before) if before else {}
    for record in findings.records:
        record["regressions"] = worse.get(record["name"], [])
        failures += record["regressions"]
    return {
        "schema_version": 2,
        "sctool": __version__,
        "verdict": "leak" if failures else "pass",
        "failures": failures,
        "false_alarm_rate": FALSE_ALARMS,
        "notes": subject.notes + _not_judged(split) + doubtful,
        "gates": limits.model_dump(),
        "threat_models": {name: create_attack(name).threat_model for name in names},
        "columns": findings.records,
        "baseline": None if before is None else before.get("artifacts", {}),
        "blind_baseline": blind.to_json(curve=True),
        "shuffled_control": control.to_json(),
        "carried_records": carried,
        "shadows": _describe_shadows(shadows, split, audit),
        "seed": config.compress.seed,
        "optimisation": audit.optimisation,
        "split_sha256": split.sha256,
        "artifacts": subject.artifacts,
        "device": device,
    }


def _check_answers(column: Column, data: Dataset) -> None:
    """ArtifactError where the model does not tell the data's classes apart."""
    answer = column.session.run(data.x[:2])
    if answer.shape != (2, data.classes):
        raise ArtifactError(
            f"{column.name} answers {list(answer.shape)} for 2 records; the data have {data.classes} classes.",
            hint="Is this the model of these data?",
        )


def _choose_attacks(config: Config, audit: Audit) -> list[str]:
    """ConfigError for an unknown name."""
    if audit.attacks == ("all",):
        return list(ATTACKS)
    names = list(audit.attacks or config.safety.audit_attacks)
    if not audit.attacks and audit.shadows:
        names += [name for name in WITH_SHADOWS if name not in names]
    for name in names:
        create_attack(name)
    return names


def _list_kinds(columns: list[Column]) -> list[str]:
    """The run's own models first: all columns of a run are attacked alike."""
    return list(dict.fromkeys(["sparse", "dense", *(column.shadow_kind for column in columns)]))


def _count_queries(names: list[str]) -> int:
    """Altered copies cost a runtime as many answers again: only where an attack asks for them."""
    return QUERIES if any("queries" in create_attack(name).needs for name in names) else 1


def _runnable(names: list[str], extras: Extras, audit: Audit) -> list[str]:
    """Those of `names` that this column can be attacked by. ConfigError where one was named that no column can."""
    lacking = {name: create_attack(name).needs - extras.held for name in names}
    if audit.attacks != ("all",):
        create_attacks([name for name in names if lacking[name] - {"features"}], extras, where="--attacks")
    return [name for name in names if not lacking[name]]


def _attack(
    column: Column, subject: Subject, names: list[str], extras: Extras, seeds: int, canaries: Canaries | None,
    findings: _Findings,
) -> None:  # fmt: skip
    """Every attack on one column. Whoever holds the phone holds the weights: what looks inside is judged on the model in
    PyTorch that was exported, all else on the artifacts."""
    data, split, seed = subject.data, subject.split, subject.config.compress.seed
    fitted_on = collect_signals(column.session, data, split, "audit_fit", extras)
    scored_on = collect_signals(column.session, data, split, "audit", extras)
    results = [evaluate_attack(create_attack(name), fitted_on, scored_on, seed, seeds=seeds) for name in names]
    for name, result in zip(names, results, strict=True):
        inside = "features" in create_attack(name).needs
        if column.kind == "artifact" or (column.kind == subject.shipped and inside):
            findings.judged.append(Judged(column.name, result, scored_on.labels))
    worst = max(results, key=lambda result: result.auc.value)
    rows, _ = split.pair("audit")
    findings.records.append(
        {
            "name": column.name, "kind": column.kind, "parity": None,
            "test_accuracy": measure_accuracy(column.session, data, split["test"]),
            "attacks": [result.to_json(curve=True) for result in results],
            "one_run": _audit_one_run(column, data, canaries),
            "exposure": {
                "attack": worst.attack, "by_class": [figure.to_json() for figure in split_by_class(worst, scored_on.labels)],
                "records": find_exposed(worst, rows),
            },
        }
    )  # fmt: skip


def _audit_one_run(column: Column, data: Dataset, canaries: Canaries | None) -> dict[str, Any] | None:
    """The lower bound on epsilon that the column's answers to the canaries give; not for the dense model, which the same
    canaries went into only where it was trained here."""
    if canaries is None or column.model == "dense":
        return None
    logits = column.session.run(data.x[canaries.rows])
    return audit_one_run(margin(logits, canaries.labels), canaries.is_in).to_json()


def _blind(data: Dataset, split: MembershipSplit, seed: int) -> AttackResult:
    """The attacker who sees no model; DataError where it beats chance by more than noise."""
    fit_rows, fit_members = split.pair("audit_fit")
    rows, members = split.pair("audit")
    result = blind_baseline(_features(data, fit_rows), fit_members, _features(data, rows), members, seed)
    if _beats_chance(result):
        raise DataError(
            f"The blind baseline, which sees no model, tells members from non-members (AUC {result.auc}).",
            hint="The split is broken: shuffle the data so that both come from one distribution. No verdict is given.",
        )
    return result


def _control(column: Column, data: Dataset, split: MembershipSplit, seed: int) -> AttackResult:
    """An attack on membership that was dealt at random; DataError where it beats chance by more than noise."""
    fit, held_out = (collect_signals(column.session, data, split, pair) for pair in ("audit_fit", "audit"))
    result = shuffled_control(create_attack(CONTROL), fit, held_out, seed)
    if _beats_chance(result):
        raise DataError(
            f"With membership dealt at random the {CONTROL} attack still finds it (AUC {result.auc}).",
            hint="The audit's records are not independent: are there duplicates among them? No verdict is given.",
        )
    return result


def _beats_chance(result: AttackResult) -> bool:
    sigma = max((result.auc.high - result.auc.low) / (2 * 1.96), 1e-6)
    return result.auc.value - CHANCE_SIGMAS * sigma > 0.5


def _features(data: Dataset, rows: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    flat = data.x[rows].reshape(len(rows), -1)
    return np.concatenate([flat, data.y[rows, None].astype(np.float32)], axis=1)


def _not_judged(split: MembershipSplit) -> list[str]:
    """What no gate could judge, for want of records."""
    others = len(split["audit_non_members"])
    if others >= 100:
        return []
    return [f"TPR at 1 % FPR was withheld and not judged: it takes 100 non-members, the audit has {others}."]


def _describe_shadows(shadows: dict[str, Any], split: MembershipSplit, audit: Audit) -> dict[str, Any] | None:
    if not shadows:
        return None
    answers = shadows["sparse"]
    return {
        "count": audit.shadows, "way": audit.way, "population": len(answers.population),
        "members": float(answers.is_in.sum(axis=1).mean()), "members_of_the_model": len(split["train"]),
    }  # fmt: skip
