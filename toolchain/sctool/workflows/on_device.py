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
from sctool.runtimes.device.registry import on_device
from sctool.runtimes.device.runner import find_runner
from sctool.runtimes.device.session import DeviceArtifact
from sctool.workflows.subject import RUNTIME_NAMES, Column, Subject

NO_RUNNER = "{name} was NOT verified on {device}: no runner here takes it to a device."


@dataclass(frozen=True)
class OnDevice:
    """`twins`: name of a column on the device -> name of the same file's column here."""

    session: DeviceSession
    twins: dict[str, str]


@contextmanager
def add_device(subject: Subject, device: str | None) -> Iterator[tuple[Subject, OnDevice | None]]:
    """`subject` with a column more for each artifact that runs on `device`; the device stays open for the block.

    Raises DeviceError where the device fails, NativeRuntimeMissing where its tools are missing, ArtifactError where none
    of the artifacts runs there.
    """
    if device is None:
        yield subject, None
        return
    with on_device(device) as session:
        columns, notes, twins = [], [], {}
        for name in subject.artifacts:
            path = subject.files[name]
            if find_runner(path) is None:
                notes.append(NO_RUNNER.format(name=name, device=session.name))
                continue
            here = f"{name} ({RUNTIME_NAMES[path.suffix.lower()[1:]]})"
            title = f"{name} (on {session.name})"
            column = Column(title, "artifact", DeviceArtifact(session, path), model=subject.shipped)
            columns.append(column)
            twins[column.name] = here
        if not columns:
            raise ArtifactError(
                f"Nothing of this runs on {session.name}.", hint="On devices .onnx files run; export one for it."
            )
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
