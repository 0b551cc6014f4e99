"""An artifact on a device as the profile protocol wants it, and what its calls take under emulation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.domain.device import DeviceFacts, DeviceSession
from sctool.domain.measurement import MeasuredOn
from sctool.errors import DeviceError
from sctool.profiling.state import DeviceState, read_state
from sctool.runtimes.device.emulator import EmulatedSession
from sctool.runtimes.device.executor import ExecutorArtifact
from sctool.runtimes.device.session import DeviceArtifact

TIMEOUT_S = 600.0
SWITCH_TIMEOUT_S = 30.0
COUNTED_CALLS = 4
"""The last one is reported: by then caches and allocator have settled."""
INSTRUCTIONS = ("load", "store", "branch", "integer", "vector_fma", "vector_dot", "vector_other", "other")


class RunnerBench:
    """A runner on a device, timing the first record of `records` [N, ...]."""

    def __init__(self, artifact: DeviceArtifact | ExecutorArtifact, records: NDArray[np.float32]) -> None:
        self._artifact, self._session, self._records = artifact, artifact.session, records[:1]
        self._facts = self._session.facts()
        self.artifact, self.sha256 = artifact.path.name, artifact.sha256
        self.runtime = artifact.runtime
        self.tier: MeasuredOn = self._session.tier
        self.device = self._session.name

    def facts(self) -> DeviceFacts:
        return self._facts

    def read_state(self) -> DeviceState:
        return read_state(self._session)

    def measure(
        self, *, threads: int, warm_up: int, iterations: int, warm_loads: int, cores: tuple[int, ...]
    ) -> dict[str, Any]:
        return self._artifact.measure_calls(
            self._records, threads=threads, warm_up=warm_up, iterations=iterations, warm_loads=warm_loads, cores=cores,
            timeout_s=TIMEOUT_S,
        )  # fmt: skip


@contextmanager
def steady_clocks(session: DeviceSession, *, wanted: bool) -> Iterator[None]:
    """Android's fixed-performance mode for as long as the block lasts: lower, steady clocks, fit to compare two models.

    DeviceError where the device has no such mode.
    """
    if not wanted:
        yield
        return
    switch = ["cmd", "power", "set-fixed-performance-mode-enabled"]
    if session.run([*switch, "true"], timeout_s=SWITCH_TIMEOUT_S).exit_code:
        raise DeviceError(f"{session.name} has no fixed-performance mode.", hint="Leave --fixed-performance out.")
    try:
        yield
    finally:
        with suppress(DeviceError):
            session.run([*switch, "false"], timeout_s=SWITCH_TIMEOUT_S)


def count_cost(session: EmulatedSession, artifact: DeviceArtifact, records: NDArray[np.float32]) -> dict[str, Any]:
    """What one call on the first record takes in the Arm code: instructions by class, misses of the model caches.

    A cost relative to other counts of this kind, the same in every run; on another machine cache misses may differ by a few
    in ten thousand. No time follows from it.
    """
    work = artifact.work(records[:1], iterations=COUNTED_CALLS)
    version = artifact.measure(work, timeout_s=TIMEOUT_S)["runtime_version"]
    calls = session.count(artifact.command(work), timeout_s=TIMEOUT_S)
    last = calls[-1]
    totals = [sum(call[name] for name in INSTRUCTIONS) for call in calls]
    return {
        "artifact": artifact.path.name, "sha256": artifact.sha256, "tag": "emulated", "cpu": session.cpu,
        "emulator": session.facts().build, "runtime": f"{artifact.runtime} {version}", "threads": 1,
        "instructions": totals[-1], "first_call_instructions": totals[0],
        "by_class": {name: last[name] for name in INSTRUCTIONS},
        "l1_accesses": last["l1_accesses"], "l1_misses": last["l1_misses"], "l2_misses": last["l2_misses"],
    }  # fmt: skip
