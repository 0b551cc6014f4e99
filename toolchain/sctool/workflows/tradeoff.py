"""`sctool bench tradeoff`: every cell of a study trained, audited and written down; stopped, it goes on where it was."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from sctool.atomic import check_writable, write_file, write_json
from sctool.domain.candidate import tm_score
from sctool.errors import ArtifactError, SctoolError
from sctool.report.tradeoff import draw_tradeoff
from sctool.runtimes.eager import EagerSession
from sctool.workflows.experiment import Experiment, prepare_experiment
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.search import run_search
from sctool.workflows.search_state import start_search
from sctool.workflows.signals import attack_session, measure_accuracy
from sctool.workflows.study import Cell, cut_into_cells, read_study
from sctool.workflows.training import describe_privacy, needs_dense

FIGURES = (
    "test_accuracy", "train_accuracy", "attack_accuracy", "attack_auc", "tpr_at_1pct_fpr", "tm_score", "seconds",
    "cpu_seconds",
)  # fmt: skip
"""Figures of a row that are averaged over seeds; seconds of the wall, and of the processor where others share it."""


def bench_tradeoff(
    studies: Sequence[Path], output: Path, *, jobs: int = 1, progress: Progress = ignore_progress
) -> dict[str, Any]:
    """Run what is missing of all cells of `studies`, `jobs` at a time, each a process with one thread.

    Writes cells/KEY.json for each, and from all of them tradeoff.csv (a row a run), summary.csv (means over seeds with
    95 % intervals) and tradeoff.svg. A cell that fails is written down with its error, does not stop the others, and
    is tried again by the next call.
    """
    cells = [cell for path in studies for cell in cut_into_cells(read_study(path), where=str(path))]
    check_writable(output / "tradeoff.csv")
    missing = [cell for cell in cells if (row := _read_row(output, cell)) is None or row["error"]]
    done = len(cells) - len(missing)
    progress(done, len(cells), f"{done} of {len(cells)} were there")
    for row in _run_all(missing, jobs):
        write_json(output / "cells" / f"{row['key']}.json", row)
        done += 1
        progress(done, len(cells), row["name"])
        _write_tables(output, cells)
    summary = _write_tables(output, cells)
    rows = [row for cell in cells if (row := _read_row(output, cell)) is not None]
    failed = [row for row in rows if row["error"]]
    return {"output": str(output), "cells": len(cells), "ran": len(missing), "failed": failed, "summary": summary}


def _run_all(cells: list[Cell], jobs: int) -> Any:
    from joblib import Parallel, delayed

    return Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(run_cell)(cell) for cell in cells)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train and audit one cell; an sctool error becomes part of the row."""
    torch.set_num_threads(1)
    began, began_cpu = time.perf_counter(), time.process_time()
    row: dict[str, Any] = {
        "key": cell.key, "name": cell.name, "study": cell.study, "method": cell.method, "defence": cell.defence,
        "density": cell.density, "seed": cell.seed, "error": "",
    }  # fmt: skip
    try:
        experiment = prepare_experiment(cell.config)
        dense = needs_dense(cell.config.compress)
        state = run_search(experiment, start_search(experiment), ignore_progress, lambda *_: None, skip_dense=not dense)
        row["seconds"], row["cpu_seconds"] = time.perf_counter() - began, time.process_time() - began_cpu
        model = state.result
        row |= _audit(experiment, EagerSession(model.model))
        row["nnz"] = sum(int(mask.sum()) for mask in model.masks.values())
        row["exploration"] = model.exploration
        row["chosen"] = [record["label"] for record in state.records if record["selected"]]
        row["privacy"] = describe_privacy(experiment) if cell.config.compress.rule == "private" else None
    except SctoolError as error:
        row["error"] = f"{type(error).__name__}: {error}"
    return row


def _audit(experiment: Experiment, session: EagerSession) -> dict[str, Any]:
    """The figures of a model on `test` and on the audit's records, which nothing before has seen.

    `attack_accuracy`, `attack_auc` and `tpr_at_1pct_fpr` are each the worst of all attacks.
    """
    config, data, split = experiment.config, experiment.data, experiment.split
    results = attack_session(
        session, data, split, attacks=config.safety.audit_attacks, fit="audit_fit", score="audit",
        seed=config.compress.seed,
    )  # fmt: skip
    test = measure_accuracy(session, data, split["test"])
    worst = max(results, key=lambda r: r.balanced_accuracy.value)
    tprs = [tpr.value for r in results if (tpr := r.tpr_at_fpr[0.01]) is not None]
    return {
        "test_accuracy": test,
        "train_accuracy": measure_accuracy(session, data, split["train"]),
        "attack_accuracy": worst.balanced_accuracy.value,
        "attack": worst.attack,
        "attack_auc": max(r.auc.value for r in results),
        "tpr_at_1pct_fpr": max(tprs) if tprs else None,
        "tm_score": tm_score(test, worst.balanced_accuracy.value, config.safety.tm_exponent),
        "audited": {"members": len(split["audit_members"]), "non_members": len(split["audit_non_members"])},
        "attacks": [result.to_json() for result in results],
    }


def _read_row(output: Path, cell: Cell) -> dict[str, Any] | None:
    path = output / "cells" / f"{cell.key}.json"
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row["key"] != cell.key:
            raise ValueError("its key is another")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"Cannot read {path}: {error}.", hint="Remove it: the cell is run again.") from error
    return dict(row)


def _write_tables(output: Path, cells: list[Cell]) -> list[dict[str, Any]]:
    """The tables and the figure, from every cell that is there."""
    rows = [row for cell in cells if (row := _read_row(output, cell)) is not None and not row["error"]]
    plain = ["study", "method", "defence", "density", "seed", *FIGURES, "attack", "nnz", "exploration"]
    write_file(output / "tradeoff.csv", _to_csv(plain, rows))
    summary = summarise(rows)
    columns = ["study", "method", "defence", "density", "seeds"]
    columns += [f"{figure}{end}" for figure in FIGURES for end in ("", "_low", "_high")]
    write_file(output / "summary.csv", _to_csv(columns, summary))
    if summary:
        write_file(output / "tradeoff.svg", draw_tradeoff(summary))
    return summary


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds with Student's 95 % interval, by study, method, defence and density; no interval for one seed."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["study"], row["method"], row["defence"], row["density"]), []).append(row)
    summary = []
    for (study, method, defence, density), members in groups.items():
        record: dict[str, Any] = {
            "study": study, "method": method, "defence": defence, "density": density, "seeds": len(members),
        }  # fmt: skip
        for figure in FIGURES:
            values = [row[figure] for row in members if row[figure] is not None]
            record |= _interval(figure, values)
        summary.append(record)
    return sorted(summary, key=lambda r: (r["study"], r["density"], -r["tm_score"]))


def _interval(figure: str, values: list[float]) -> dict[str, float | None]:
    if not values:
        return {figure: None, f"{figure}_low": None, f"{figure}_high": None}
    mean = float(np.mean(values))
    if len(values) < 2:
        return {figure: mean, f"{figure}_low": None, f"{figure}_high": None}
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {figure: mean, f"{figure}_low": mean - half, f"{figure}_high": mean + half}


def _to_csv(columns: list[str], rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_format(row.get(column)) for column in columns])
    return stream.getvalue()


def _format(value: Any) -> Any:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else value
