"""An artifact on a device as a Session: records go over, the runner answers, logits come back."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.domain.device import DeviceSession
from sctool.errors import ArtifactError, DeviceError
from sctool.runtimes.device.executor import FORMATS, ExecutorArtifact
from sctool.runtimes.device.runner import Refusal, Runner, Work, find_runner, read_line, work_arguments

BATCH = 64
"""Records a call of the runtime."""
TIMEOUT_S = 120.0
RUNNABLE = "On devices .onnx and the .pte of `export --backend sparse` run; other .pte files with --executorch-runner."
_TRACE = "trace"
SECONDS_PER_RECORD = 5.0
"""The slowest answer that is waited for: large models under emulation."""


class DeviceArtifact:
    """An artifact and its runner, pushed to a device."""

    def __init__(self, session: DeviceSession, path: Path, runner: Runner | None = None) -> None:
        """ArtifactError where no runner takes the file, DeviceError where the device fails."""
        found = runner or find_runner(path)
        if isinstance(found, Refusal):
            raise ArtifactError(f"Cannot run {path.name} on {session.name}: {found.reason}.", hint=RUNNABLE)
        self.session = session
        self.name = f"on {session.name}"
        self.path = path
        self.runtime = found.kind
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self._prefix = list(found.install(session))
        self._model = session.push(path, f"{path.stem}-{self.sha256[:8]}{path.suffix}")
        self._answers: dict[bytes, NDArray[np.float32]] = {}

    def work(self, records: NDArray[np.float32], **settings: Any) -> Work:
        """Push `records` [B, ...] and describe the work on them."""
        with tempfile.TemporaryDirectory(prefix="sctool-records-") as folder:
            file = Path(folder) / "input.f32"
            np.ascontiguousarray(records, dtype="<f4").tofile(file)
            pushed = self.session.push(file, "input.f32")
        output = f"{self.session.folder}/output.f32"
        return replace(Work(self._model, pushed, output, tuple(records.shape[1:]) or (1,)), **settings)

    def command(self, work: Work) -> list[str]:
        return [*self._prefix, *work_arguments(work)]

    def measure(self, work: Work, *, timeout_s: float, cores: tuple[int, ...] = ()) -> dict[str, Any]:
        """The runner's record of the work. DeviceError where the file that ran is not ours."""
        done = self.session.run(self.command(work), timeout_s=timeout_s, cores=cores)
        record = read_line(done, f"{self.path.name} on {self.session.name}")
        if record.get("model_sha256") != self.sha256:
            raise DeviceError(
                f"{self.session.name} ran a file with sha256 {str(record.get('model_sha256'))[:12]}..., "
                f"{self.path.name} has {self.sha256[:12]}....",
                hint="Something else wrote into its folder: try again.",
            )
        return record

    def measure_calls(
        self, records: NDArray[np.float32], *, threads: int, warm_up: int, iterations: int, warm_loads: int,
        cores: tuple[int, ...], timeout_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        """The runner's record of so many calls on the first of `records`."""
        work = self.work(records[:1], threads=threads, warm_up=warm_up, iterations=iterations, warm_loads=warm_loads)
        return self.measure(work, timeout_s=timeout_s, cores=cores)

    def trace(self, work: Work, destination: Path, *, timeout_s: float) -> None:
        """The runtime's own trace of `work` in Chrome's format: each call, each layer. DeviceError where there is none."""
        before = self._list_traces()
        command = [*self.command(work), "--trace", f"{self.session.folder}/{_TRACE}"]
        read_line(self.session.run(command, timeout_s=timeout_s), f"{self.path.name} on {self.session.name}")
        made = sorted(self._list_traces() - before)
        if not made:
            raise DeviceError(f"{self.session.name} wrote no trace.", hint="Is its storage full?")
        self.session.pull(made[-1], destination)

    def _list_traces(self) -> set[str]:
        listed = self.session.run(["ls", self.session.folder], timeout_s=TIMEOUT_S).stdout.split()
        return {name for name in listed if name.startswith(_TRACE)}

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C], all records in one call of the runner; what was asked is remembered."""
        key = hashlib.sha256(np.ascontiguousarray(batch).tobytes() + repr(batch.shape).encode()).digest()
        if key not in self._answers:
            self._answers[key] = self._ask(batch)
        return self._answers[key].copy()

    def _ask(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        work = self.work(batch, batch=min(BATCH, len(batch)))
        self.measure(work, timeout_s=TIMEOUT_S + SECONDS_PER_RECORD * len(batch))
        with tempfile.TemporaryDirectory(prefix="sctool-logits-") as folder:
            file = Path(folder) / "output.f32"
            self.session.pull("output.f32", file)
            logits = np.fromfile(file, dtype="<f4")
        if logits.size == 0 or logits.size % len(batch):
            raise DeviceError(
                f"{self.session.name} answered {logits.size} numbers for {len(batch)} records.", hint="Try again."
            )
        return logits.reshape(len(batch), -1).astype(np.float32)


def open_artifact(
    session: DeviceSession, path: Path, executorch_runner: Path | None = None
) -> DeviceArtifact | ExecutorArtifact | Refusal:
    """The file on the device, with a runner of ours where one takes it, else with the user's `executorch_runner`; or why
    it stays here."""
    runner = find_runner(path)
    if not isinstance(runner, Refusal):
        return DeviceArtifact(session, path, runner)
    if executorch_runner is not None and path.suffix.lower() in FORMATS:
        return ExecutorArtifact(session, path, executorch_runner)
    return runner
