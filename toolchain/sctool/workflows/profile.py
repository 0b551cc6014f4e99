"""What each artifact of a bundle costs: on this host, on a phone, or in counts under emulation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool import __version__
from sctool.atomic import check_writable, refuse_existing, write_file, write_json
from sctool.domain.config import ProfileConfig
from sctool.domain.measurement import LatencyProfile
from sctool.domain.target import Target, load_target
from sctool.errors import ArtifactError
from sctool.profiling.budget import ALLOWED, check_budget, check_estimates, not_gated, note_packages
from sctool.profiling.calibration import to_target
from sctool.profiling.estimate import estimate, read_anchor_models, read_costs
from sctool.profiling.host import profile_on_host
from sctool.profiling.protocol import Journal, Plan, measure
from sctool.profiling.table import to_csv
from sctool.profiling.work import count_work
from sctool.runtimes.device.emulator import EmulatedSession
from sctool.runtimes.device.executor import ExecutorArtifact, check_runner, note_unused
from sctool.runtimes.device.registry import EMULATED, HOST, on_device
from sctool.runtimes.device.runner import Refusal
from sctool.runtimes.device.session import RUNNABLE, DeviceArtifact, open_artifact
from sctool.workflows.bench import TIMEOUT_S, RunnerBench, count_cost, steady_clocks
from sctool.workflows.bundle import Bundle, find_run, load_records, open_bundle
from sctool.workflows.progress import Progress, ignore_progress

OPENER = "sctool.runtimes.registry:open_session"
NO_RUNNER = "{name} was NOT measured on {device}: {reason}."
UNMARKED = "{name} was NOT counted: an executor_runner does not say where a call begins and ends."
NO_TRACE = "{name} has no trace: an executor_runner writes ExecuTorch's own ETDump instead."
NOT_HERE = "{target} is not here: nothing was measured. With the phone: --device attached."
NO_LATENCY = "Under emulation nothing is a latency: instruction counts are a relative cost, the same in every run."


@dataclass(frozen=True)
class Place:
    """Where to measure. `device`: see `open_device`; None: what the target says, else this host's own processes.

    `calibrate`: a target file to write, with what was measured as its anchors. `trace`: a folder for a Chrome trace of
    each artifact's layers, from a run of its own. `executorch_runner`: a user's executor_runner for stock .pte files.
    """

    device: str | None = None
    target: str | None = None
    cluster: str = "all"
    resume: bool = False
    cool_down_s: float = 300.0
    allow_estimates: bool = False
    fixed_performance: bool = False
    trace: Path | None = None
    calibrate: Path | None = None
    executorch_runner: Path | None = None


@dataclass
class _Findings:
    profiles: list[LatencyProfile] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    estimates: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


HERE = Place()
FAMILY = "arm"
TRACED_CALLS = 5
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "int8": "int8"}


def profile(
    path: Path, *, threads: int | None = None, repeats: int | None = None, iterations: int | None = None,
    warm_up: int | None = None, data_source: str | None = None, place: Place = HERE, output: Path | None = None,
    csv: Path | None = None, progress: Progress = ignore_progress,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Profile every artifact of the bundle at `path` on a real record; writes profile.json and returns it with its path.

    Settings left None come from the run's config, else from the defaults. On a device each repeat is written to
    profile.jsonl at once, so that a torn call goes on with `place.resume`; `csv` gets the figures as a table.

    A target that is not here is estimated. Raises ArtifactError for a damaged bundle, ConfigError for an unknown target,
    and DeviceError where the device or the measuring process fails.
    """
    bundle = open_bundle(path)
    origin = find_run(bundle, None)
    data, split = load_records(bundle, data_source, origin)
    base = origin.config.profile if origin else ProfileConfig()
    given = {"threads": threads, "repeats": repeats, "iterations": iterations, "warm_up": warm_up}
    settings = base.model_copy(update={key: value for key, value in given.items() if value is not None})
    target = load_target(place.target or bundle.manifest.target)
    records: NDArray[np.float32] = data.x[split["test"][:1]]
    file = output or path / "profile.json"
    check_writable(file)
    if place.calibrate:
        refuse_existing(place.calibrate, overwrite=False)
    device = _device_of(place, target)
    check_runner(place.executorch_runner, device)
    if device is None and place.target and target.kind != "host":
        findings = _estimate(bundle, target, progress)
    elif device is None:
        findings = _on_host(bundle, settings, records, progress)
    else:
        findings = _on_device(bundle, device, target, settings, place, records, file.with_suffix(".jsonl"), progress)
    progress(1, 1, "measured")
    sizes = {name: entry.size_bytes for name, entry in bundle.manifest.files.items()}
    result = {
        "schema_version": 2,
        "sctool": __version__,
        "target": target.name,
        "budget": target.budget.model_dump(exclude_none=True) or None,
        "violations": check_budget(findings.profiles, sizes, target)
        + (check_estimates(findings.estimates, target) if place.allow_estimates else []),
        "notes": findings.notes
        + note_packages(sizes, target)
        + not_gated(findings.profiles, target, found=_where(findings, place)),
        "profiles": [item.to_json() for item in findings.profiles],
        "costs": findings.costs,
        "estimates": findings.estimates,
    }
    write_json(file, result)
    if place.calibrate:
        counted = [item for item in findings.profiles if bundle.manifest.files[item.artifact].format == "onnx"]
        works = {item.artifact: count_work(path / item.artifact) for item in counted}
        write_file(place.calibrate, to_target(place.calibrate.stem, counted, works))
    if csv:
        write_file(csv, to_csv(result))
    return file, result


def _where(findings: _Findings, place: Place) -> tuple[str, ...]:
    """Where figures come from besides measurements, and whether an estimate may decide."""
    found = (("emulator",) if findings.costs else ()) + (("an estimate",) if findings.estimates else ())
    return (*found, ALLOWED) if place.allow_estimates else found


def _device_of(place: Place, target: Target) -> str | None:
    """The device to measure on; None: this host's own processes, or nothing where a target that is not here was named."""
    if place.device:
        return place.device
    if place.target and target.emulate:
        return EMULATED
    return HOST if place.trace else None


def _estimate(bundle: Bundle, target: Target, progress: Progress) -> _Findings:
    """For a target that is not here: relative costs always, milliseconds where it has published or measured anchors."""
    findings = _Findings(notes=[NOT_HERE.format(target=target.name)])
    costs, models = read_costs(FAMILY), read_anchor_models()
    for name, entry in bundle.manifest.files.items():
        if entry.runtime != "onnxruntime":
            findings.notes.append(f"{name} was not estimated: work is counted from ONNX files of standard operators.")
            continue
        progress(0, 1, f"counting {name}")
        work = count_work(bundle.path / name)
        found = estimate(work, target, costs, models, _PRECISIONS.get(entry.precision, "fp32"))
        findings.estimates.append({"artifact": name, "work": work.model_dump(), **found.to_json()})
    if not findings.estimates:
        raise ArtifactError("This bundle has no ONNX file to estimate.", hint="Export one.")
    return findings


def _on_host(bundle: Bundle, settings: ProfileConfig, records: NDArray[np.float32], progress: Progress) -> _Findings:
    findings = _Findings()
    with tempfile.TemporaryDirectory(prefix="sctool-profile-") as folder:
        record = Path(folder) / "input.npy"
        np.save(record, records, allow_pickle=False)
        for number, (name, entry) in enumerate(bundle.manifest.files.items()):
            progress(number, len(bundle.manifest.files), f"measuring {name}")
            findings.profiles.append(
                profile_on_host(
                    bundle.path / name, entry.format, opener=OPENER, input_path=record, threads=settings.threads,
                    repeats=settings.repeats, iterations=settings.iterations, warm_up=settings.warm_up,
                )
            )  # fmt: skip
    return findings


def _on_device(
    bundle: Bundle, device: str, target: Target, settings: ProfileConfig, place: Place, records: NDArray[np.float32],
    journal_path: Path, progress: Progress,
) -> _Findings:  # fmt: skip
    findings = _Findings()
    plan = Plan(
        settings.repeats, settings.iterations, settings.warm_up, settings.threads, place.cluster,
        cool_down_s=place.cool_down_s, fixed_performance=place.fixed_performance,
    )  # fmt: skip
    files = [bundle.path / name for name in bundle.manifest.files]
    used = False
    with on_device(device, cpu=target.emulate) as session, steady_clocks(session, wanted=place.fixed_performance):
        journal = Journal(None if isinstance(session, EmulatedSession) else journal_path, resume=place.resume)
        with journal.mentioned_in_errors():
            for number, file in enumerate(files):
                progress(number, len(files), f"measuring {file.name} on {session.name}")
                artifact = open_artifact(session, file, place.executorch_runner)
                if isinstance(artifact, Refusal):
                    findings.notes.append(NO_RUNNER.format(name=file.name, device=session.name, reason=artifact.reason))
                    continue
                used |= isinstance(artifact, ExecutorArtifact)
                if isinstance(session, EmulatedSession):
                    _count(session, artifact, records, findings)
                    continue
                findings.profiles.append(measure(RunnerBench(artifact, records), plan, journal))
                if place.trace:
                    _trace(artifact, records, place.trace, findings)
    if not findings.profiles and not findings.costs:
        raise ArtifactError(f"Nothing of this bundle runs on {device}.", hint=RUNNABLE)
    findings.notes += note_unused(place.executorch_runner, used=used)
    if findings.costs:
        findings.notes.insert(0, NO_LATENCY)
    return findings


def _count(
    session: EmulatedSession, artifact: DeviceArtifact | ExecutorArtifact, records: NDArray[np.float32],
    findings: _Findings,
) -> None:  # fmt: skip
    if isinstance(artifact, DeviceArtifact):
        findings.costs.append(count_cost(session, artifact, records))
    else:
        findings.notes.append(UNMARKED.format(name=artifact.path.name))


def _trace(
    artifact: DeviceArtifact | ExecutorArtifact, records: NDArray[np.float32], folder: Path, findings: _Findings
) -> None:
    if not isinstance(artifact, DeviceArtifact):
        findings.notes.append(NO_TRACE.format(name=artifact.path.name))
        return
    folder.mkdir(parents=True, exist_ok=True)
    work = artifact.work(records, iterations=TRACED_CALLS, warm_up=TRACED_CALLS)
    artifact.trace(work, folder / f"{artifact.path.name}.trace.json", timeout_s=TIMEOUT_S)
