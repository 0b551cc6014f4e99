"""How a latency is measured so that it means something; every broken rule makes the figure "not trusted", with the reason.

Each repeat is a process of its own, with a warm-up of its own: a warm-up in another process warms nothing. Before each,
clocks, temperatures and battery are read, and where they are over an absolute ceiling the repeat waits, up to a limit.
Threads and cores are asked for and read back from the kernel. Memory is read in a process that is not timed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sctool.atomic import write_file
from sctool.domain.device import DeviceFacts
from sctool.domain.measurement import LatencyProfile, MeasuredOn
from sctool.errors import ArtifactError, ConfigError, DeviceError, SctoolError
from sctool.profiling.state import Ceilings, DeviceState, find_excess

LEAST_REPEATS, LEAST_ITERATIONS = 3, 30
MOST_SPREAD = 1.25
"""Between the slowest and the fastest repeat's median."""
MOST_CLOCK_LOSS = 0.9
MOST_SWITCHES = 0.05
"""Involuntary context switches a call."""
CAVEAT = "measured in a shell's process: an app in the foreground or background may get other cores and clocks"


@dataclass(frozen=True)
class Plan:
    """`cluster`: "all", "big", "mid" or "little". Waits at most `cool_down_s` before a repeat."""

    repeats: int = 5
    iterations: int = 100
    warm_up: int = 20
    threads: int = 1
    cluster: str = "all"
    warm_loads: int = 3
    cool_down_s: float = 300.0
    fixed_performance: bool = False
    ceilings: Ceilings = field(default_factory=Ceilings)


class Bench(Protocol):
    """One artifact on one device. `measure` runs it in a process of its own and returns the runner's record."""

    artifact: str
    sha256: str
    runtime: str
    tier: MeasuredOn
    device: str

    def facts(self) -> DeviceFacts: ...

    def read_state(self) -> DeviceState: ...

    def measure(
        self, *, threads: int, warm_up: int, iterations: int, warm_loads: int, cores: tuple[int, ...]
    ) -> dict[str, Any]: ...


class Journal:
    """Repeats that were measured, as JSON lines: a call that was torn goes on after the last whole one."""

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self._path = path
        self._lines: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            if resume:
                self._lines = _read_journal(path)
                whole = [json.dumps({"key": key, **line}, sort_keys=True) + "\n" for key, line in self._lines.items()]
                write_file(path, "".join(whole))
            else:
                path.unlink()

    def get(self, key: str) -> dict[str, Any] | None:
        return self._lines.get(key)

    @contextmanager
    def mentioned_in_errors(self) -> Iterator[None]:
        """An error of the block says what is kept here for --resume, unless it speaks of that itself."""
        try:
            yield
        except SctoolError as error:
            if self._path is not None and self._lines and "--resume" not in str(error):
                kept = f"{self._path} keeps {len(self._lines)} measurements: --resume goes on after them."
                error.hint = f"{error.hint} {kept}" if error.hint else kept
            raise

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Written through at once. DeviceError where the disk is full."""
        self._lines[key] = record
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, **record}, sort_keys=True) + "\n")
        except OSError as error:
            raise DeviceError(
                f"Cannot write {self._path}: {error.strerror}.", hint="Free space, then --resume."
            ) from error


def measure(
    bench: Bench, plan: Plan, journal: Journal, *, wait: Callable[[float], None] = time.sleep,
    tell: Callable[[int], None] = lambda done: None,
) -> LatencyProfile:  # fmt: skip
    """All repeats of `plan`, and the memory pass. Raises ConfigError for a cluster that the device does not have."""
    facts = bench.facts()
    cores = _choose_cores(facts, plan, bench.device)
    settings = (plan.threads, plan.cluster, plan.warm_up, plan.iterations, plan.fixed_performance)
    regime = "/".join(map(str, (bench.sha256, bench.device, facts.build, *settings)))
    records = []
    for number in range(plan.repeats):
        tell(number)
        key = f"{regime}/{number}"
        record = journal.get(key)
        if record is None:
            record = _one_repeat(bench, plan, cores, wait)
            journal.add(key, record)
        records.append(record)
    memory = journal.get(f"{regime}/memory")
    if memory is None:
        memory = bench.measure(threads=plan.threads, warm_up=2, iterations=1, warm_loads=0, cores=cores)
        journal.add(f"{regime}/memory", memory)
    distrust = _find_broken_rules(records, plan, cores, facts, bench.tier)
    runs = [record["run"] for record in records]
    warm_loads = [load for run in runs for load in run["warm_load_ns"]]
    return LatencyProfile(
        artifact=bench.artifact, runtime=f"{bench.runtime} {runs[0]['runtime_version']}", measured_on=bench.tier,
        machine=_describe(facts, bench.device), threads=plan.threads, batch_size=1, warm_up=plan.warm_up,
        samples_ms=np.asarray([run["samples_ns"] for run in runs], dtype=np.float64) / 1e6,
        cold_load_ms=_median([run["cold_load_ns"] for run in runs]) / 1e6, warm_load_ms=_median(warm_loads) / 1e6,
        peak_memory_mib=_known(memory["vm_hwm_kib"]) / 1024,
        baseline_memory_mib=_known(memory["baseline_vm_hwm_kib"]) / 1024,
        distrust=tuple(distrust), cluster=plan.cluster,
        cores=tuple(sorted({allowed for run in runs for allowed in run["affinity"]})), device=facts.to_json(),
        states=tuple({"before": r["before"], "after": r["after"], "waited_s": r["waited_s"]} for r in records),
        notes=_notes(records, bench.tier), fixed_performance=plan.fixed_performance,
    )  # fmt: skip


def _known(value: float | None) -> float:
    """A runner says None, or -1 where it is C, for what it cannot tell."""
    return float("nan") if value is None or value < 0 else float(value)


def _median(values: Sequence[float | None]) -> float:
    """NaN where one is unknown, or there are none."""
    return float(np.median([_known(value) for value in values])) if values else float("nan")


def _one_repeat(bench: Bench, plan: Plan, cores: tuple[int, ...], wait: Callable[[float], None]) -> dict[str, Any]:
    before, waited_s = _await_cool(bench, plan, wait)
    run = bench.measure(
        threads=plan.threads, warm_up=plan.warm_up, iterations=plan.iterations, warm_loads=plan.warm_loads, cores=cores
    )
    after = bench.read_state()
    return {
        "run": run, "before": before.to_json(), "after": after.to_json(), "waited_s": waited_s,
        "too_hot": find_excess(before, plan.ceilings), "hot_after": find_excess(after, plan.ceilings),
    }  # fmt: skip


def _await_cool(bench: Bench, plan: Plan, wait: Callable[[float], None]) -> tuple[DeviceState, float]:
    """The state that the repeat starts with, and how long it took to come about; over the ceiling after the limit too."""
    waited_s, step_s = 0.0, 5.0
    state = bench.read_state()
    while find_excess(state, plan.ceilings) and waited_s < plan.cool_down_s:
        wait(step_s)
        waited_s += step_s
        state = bench.read_state()
    return state, waited_s


def _choose_cores(facts: DeviceFacts, plan: Plan, device: str) -> tuple[int, ...]:
    if plan.cluster == "all":
        return ()
    cores = facts.cluster(plan.cluster)
    if not cores:
        clocks = sorted({core.max_khz for core in facts.cores if core.max_khz})
        raise ConfigError(
            f"{device} has no {plan.cluster} cluster that it tells of (clocks: {clocks or 'unknown'}).",
            hint="Use --cluster all, big or little.",
        )
    if plan.threads > len(cores):
        raise ConfigError(
            f"{plan.threads} threads on the {len(cores)} {plan.cluster} cores of {device}.",
            hint="Ask for fewer threads.",
        )
    return cores


def _find_broken_rules(
    records: list[dict[str, Any]], plan: Plan, cores: tuple[int, ...], facts: DeviceFacts, tier: MeasuredOn
) -> list[str]:
    found = judge_samples([record["run"]["samples_ns"] for record in records], plan.warm_up)
    for number, record in enumerate(records):
        found += [f"repeat {number}: {reason}" for reason in _judge_repeat(record, plan, cores)]
    if not any(record["before"]["clocks_khz"] for record in records):
        found.append("clocks are unknown: the device does not tell them")
    return found


def judge_samples(samples: Sequence[Sequence[float]], warm_up: int) -> list[str]:
    """The rules that times alone can break; `samples` [repeat, iteration] in any unit."""
    found = []
    if len(samples) < LEAST_REPEATS:
        found.append(f"{len(samples)} repeats, at least {LEAST_REPEATS} tell how much they differ")
    if len(samples[0]) < LEAST_ITERATIONS:
        found.append(f"{len(samples[0])} iterations a repeat, at least {LEAST_ITERATIONS} give percentiles")
    if warm_up < 1:
        found.append("no warm-up")
    medians = [float(np.median(row)) for row in samples]
    if max(medians) > MOST_SPREAD * min(medians):
        found.append(f"the repeats' medians differ by {max(medians) / min(medians):.2f} x (at most {MOST_SPREAD:g} x)")
    return found


def _judge_repeat(record: dict[str, Any], plan: Plan, cores: tuple[int, ...]) -> list[str]:
    run, found = record["run"], []
    found += [f"started with {reason} after {record['waited_s']:g} s" for reason in record["too_hot"]]
    found += [f"ended with {reason}" for reason in record["hot_after"]]
    before, after = record["before"]["clocks_khz"], record["after"]["clocks_khz"]
    watched = [str(core) for core in cores] or sorted(before)
    highest = [max((clocks[core] for core in watched if core in clocks), default=0) for clocks in (before, after)]
    if highest[0] and highest[1] and highest[1] < MOST_CLOCK_LOSS * highest[0]:
        found.append(f"the clock fell from {highest[0]} to {highest[1]} kHz")
    if not run["affinity"]:
        found.append("the kernel does not tell which cores it ran on")
    elif cores and any(not set(parse_core_list(allowed)) <= set(cores) for allowed in run["affinity"]):
        found.append(f"ran on cores {', '.join(sorted(set(run['affinity'])))}, asked for {', '.join(map(str, cores))}")
    if run["threads"] is None:
        found.append("the runner does not tell how many threads it has")
    elif run["threads"] != plan.threads:
        found.append(f"ran {run['threads']} threads, asked for {plan.threads}")
    calls = plan.iterations + plan.warm_up
    if run["involuntary_switches"] is None:
        found.append("nothing tells how often it was interrupted")
    elif run["involuntary_switches"] > max(MOST_SWITCHES * calls, 5):
        found.append(f"interrupted {run['involuntary_switches']} times in {calls} calls: other programs ran")
    return found


def parse_core_list(text: str) -> list[int]:
    """The kernel's "0-3,7" as numbers. ArtifactError for anything else."""
    cores: list[int] = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if not found:
            raise ArtifactError(f"{text!r} is no list of cores.", hint="Measure again.")
        cores += range(int(found[1]), int(found[2] or found[1]) + 1)
    return cores


def _notes(records: list[dict[str, Any]], tier: MeasuredOn) -> tuple[str, ...]:
    notes = [CAVEAT] if tier == "device" else []
    if any(record["before"].get("charging") for record in records):
        notes.append("charging while it was measured: USB power warms a phone")
    notes += sorted({note for record in records for note in record["run"].get("notes", ())})
    waited = sum(record["waited_s"] for record in records)
    if waited:
        notes.append(f"waited {waited:g} s for it to cool down")
    return tuple(notes)


def _describe(facts: DeviceFacts, device: str) -> str:
    return ", ".join(filter(None, (facts.model or device, facts.soc, facts.system)))


def _read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """All whole lines; a torn last one is dropped. ArtifactError where another line is no record."""
    found: dict[str, dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            found[str(record.pop("key"))] = record
        except (ValueError, KeyError, AttributeError) as error:
            if number >= len(lines) - 1:
                break
            raise ArtifactError(
                f"{path}, line {number + 1}, is damaged.", hint="Remove the file, or measure without --resume."
            ) from error
    return found
