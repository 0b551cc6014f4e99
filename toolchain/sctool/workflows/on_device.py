"""The artifacts of a subject once more, on a device: what answers there is audited like what answers here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sctool.domain.artifact import Session
from sctool.domain.device import DeviceSession
from sctool.errors import ArtifactError, ExportError
from sctool.export.parity import compare_logits
from sctool.runtimes.device.executor import ExecutorArtifact, check_runner, note_unused
from sctool.runtimes.device.registry import on_device
from sctool.runtimes.device.runner import Refusal
from sctool.runtimes.device.session import RUNNABLE, open_artifact
from sctool.workflows.subject import RUNTIME_NAMES, Subject

NO_RUNNER = "{name} was NOT verified on {device}: {reason}."


@dataclass(frozen=True)
class OnDevice:
    """`twins`: name of a column on the device -> name of the same file's column here."""

    session: DeviceSession
    twins: dict[str, str]


@contextmanager
def add_device(
    subject: Subject, device: str | None, executorch_runner: Path | None = None
) -> Iterator[tuple[Subject, OnDevice | None]]:
    """`subject` with a column more for each artifact that runs on `device`; the device stays open for the block.

    `executorch_runner`: a user's own executor_runner, for the programs that no runner here takes.

    Raises DeviceError where the device fails, NativeRuntimeMissing where its tools are missing, ArtifactError where none
    of the artifacts runs there.
    """
    check_runner(executorch_runner, device)
    if device is None:
        yield subject, None
        return
    with on_device(device) as session:
        columns, notes, twins = [], [], {}
        twin_of = {column.name: column for column in subject.columns}
        for name in subject.artifacts:
            path = subject.files[name]
            opened = open_artifact(session, path, executorch_runner)
            if isinstance(opened, Refusal):
                notes.append(NO_RUNNER.format(name=name, device=session.name, reason=opened.reason))
                continue
            here = f"{name} ({RUNTIME_NAMES[path.suffix.lower()[1:]]})"
            title = f"{name} (on {session.name})"
            columns.append(replace(twin_of[here], name=title, session=opened, inside=None))
            twins[title] = here
        if not columns:
            raise ArtifactError(
                f"Nothing of this runs on {session.name}: {notes[0] if notes else 'it has no file'}", hint=RUNNABLE
            )
        used = any(isinstance(column.session, ExecutorArtifact) for column in columns)
        notes += note_unused(executorch_runner, used=used)
        joined = replace(subject, columns=subject.columns + columns, notes=subject.notes + notes)
        yield joined, OnDevice(session, twins)


def describe_agreement(
    on: OnDevice, records: list[dict[str, Any]], subject: Subject, rows: np.ndarray[Any, np.dtype[np.int64]]
) -> dict[str, Any]:
    """How far each column on the device is from the same file's here: logits on `rows`, and every attack's AUC.

    Raises ExportError where a float32 file's logits differ by more than the run's export limit.
    """
    sessions: dict[str, Session] = {column.name: column.session for column in subject.columns}
    by_name = {record["name"]: record for record in records}
    batch = subject.data.x[rows]
    limit = subject.config.export.parity_max_abs_error
    agreement = {}
    for name, twin in on.twins.items():
        parity = compare_logits(sessions[twin].run(batch), sessions[name].run(batch))
        if _is_float32(subject, name) and parity.max_abs_error > limit:
            raise ExportError(
                f"{name} does not answer as it does here: max abs error {parity.max_abs_error:.3g} (limit {limit:g}).",
                hint="Do not ship this file to such devices; report it with the device's facts.",
            )
        aucs = {attack["attack"]: attack["auc"]["value"] for attack in by_name[twin]["attacks"]}
        found = {attack["attack"]: attack["auc"]["value"] for attack in by_name[name]["attacks"]}
        agreement[name] = {
            "compared_with": twin, **parity.to_json(),
            "max_auc_difference": max((abs(found[attack] - aucs[attack]) for attack in found), default=0.0),
        }  # fmt: skip
    return {"tier": on.session.tier, "facts": on.session.facts().to_json(), "agreement": agreement}


def _is_float32(subject: Subject, name: str) -> bool:
    file = Path(name.partition(" (")[0])
    return not any(f".{precision}." in file.name for precision in ("float16", "int8"))
