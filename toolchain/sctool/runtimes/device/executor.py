"""A user's own ExecuTorch `executor_runner` on a device: stock .pte files answered and timed by the binary that is there.

Its options are read from its own `--help`; what a build lacks (a smaller batch, times, threads) is said, not guessed. It
answers at the program's largest batch, so records go over in chunks of that size, the last one filled up with zeros.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.domain.device import Completed, DeviceSession
from sctool.errors import ArtifactError, ConfigError, DeviceError
from sctool.formats.damage import reading
from sctool.formats.pte import TensorSpec, read_program
from sctool.formats.spte import KIND, is_spte, read_spte

FORMATS = (".pte", ".spte")
UNUSED = (
    "--executorch-runner {path} was not used: it takes .pte and .spte files that no runner of sctool takes, "
    "and there is none."
)
NEEDED = ("model_path", "inputs", "output_file")
PROBE_TIMEOUT_S, ANSWER_TIMEOUT_S = 60.0, 600.0
_OPTION = re.compile(r"^\s+-{1,2}([a-z][a-z0-9_]*)\b", re.MULTILINE)
_ITERATION = re.compile(r"Iteration \d+ of \d+: ([0-9.]+) ms")
_TOTAL = re.compile(r"executed successfully (\d+) time\(s\) in ([0-9.]+) ms")
_LOAD = re.compile(r"Model loaded in ([0-9.]+) ms")
_STATUS = re.compile(r"^sctool-status ([A-Za-z_]+):\s*(\S+)", re.MULTILINE)
_WATCH = """
"$@" & runner=$!
while [ -d /proc/$runner ]; do
  sed -n -E 's/^(Cpus_allowed_list|VmHWM|nonvoluntary_ctxt_switches):/sctool-status &/p' \
    /proc/$runner/status /proc/$runner/task/*/status 2>/dev/null
  grep -q '^State:.Z' /proc/$runner/status 2>/dev/null && break
  sleep 0.2
done
wait $runner
"""
"""Runs the command and prints what the kernel says of it, five times a second: it tells nothing of itself."""


class ExecutorArtifact:
    """A .pte, or an .spte unpacked byte for byte, and an executor_runner, pushed to a device."""

    def __init__(self, session: DeviceSession, path: Path, runner: Path) -> None:
        """ArtifactError for a program that cannot be run this way, DeviceError where `runner` is not what it must be."""
        self.session, self.path, self.runtime = session, path, "executorch"
        self.name = f"on {session.name}"
        content = path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._version = f"executor_runner {hashlib.sha256(runner.read_bytes()).hexdigest()[:12]}"
        self._runner = session.push(runner, "executor_runner", executable=True)
        self._options = self._probe(runner)
        program, data = _unpack(content, path)
        self._input = _read_input(program, path)
        self._model = ["--model_path", self._push(program, f"{self.sha256[:12]}.pte")]
        if data is not None:
            self._demand("data_path", "it cannot read weights from a file of their own")
            self._model += ["--data_path", self._push(data, f"{self.sha256[:12]}.ptd")]
        if "method_name" in self._options:
            self._model += ["--method_name", "forward"]
        if "print_output" in self._options:
            self._model += ["--print_output", "none"]
        self._answers: dict[bytes, NDArray[np.float32]] = {}

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C], a process for each chunk of records; what was asked is remembered."""
        if batch.shape[1:] != self._input.shape[1:]:
            raise ArtifactError(
                f"{self.path.name} takes records {list(self._input.shape[1:])}, found {list(batch.shape[1:])}.",
                hint="Give it records of the shape that it was exported for.",
            )
        key = hashlib.sha256(np.ascontiguousarray(batch).tobytes()).digest()
        if key not in self._answers:
            most = self._input.shape[0]
            chunks = [self._answer(batch[begin : begin + most]) for begin in range(0, len(batch), most)]
            self._answers[key] = np.concatenate(chunks)
        return self._answers[key].copy()

    def measure_calls(
        self, records: NDArray[np.float32], *, threads: int, warm_up: int, iterations: int, warm_loads: int,
        cores: tuple[int, ...], timeout_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        """The record of so many calls on the first of `records`, as our own runners print it; None: it does not tell.

        Where it prints no time of each call, the only sample is the mean over all of them, warm-up included. It loads once.
        """
        command = [self._runner, *self._model, "--inputs", self._push_records(records[:1])]
        self._demand("num_executions", "it runs a program once")
        command += ["--num_executions", str(warm_up + iterations)]
        if self._input.shape[0] > 1:
            most = self._input.shape[0]
            self._demand("input_shapes", f"it runs this program at its largest batch alone, which is {most}")
            command += ["--input_shapes", "x".join(map(str, (1, *self._input.shape[1:])))]
        known = "cpu_threads" in self._options
        command += ["--cpu_threads", str(threads)] if known else []
        done = self.session.run(["sh", "-c", _WATCH, "sh", *command], timeout_s=timeout_s, cores=cores)
        self._demand_success(done)
        text = done.stdout + done.stderr
        samples, notes = _read_times(text, warm_up)
        status: dict[str, list[str]] = {}
        for name, value in _STATUS.findall(text):
            status.setdefault(name, []).append(value)
        load = _LOAD.search(text)
        return {
            "schema": 1, "runner": self.runtime, "runtime_version": self._version, "model_sha256": self.sha256,
            "threads": threads if known else None, "batch": 1, "warm_up": warm_up, "warm_load_ns": [],
            "cold_load_ns": round(float(load[1]) * 1e6) if load else None, "samples_ns": samples,
            "affinity": sorted(set(status.get("Cpus_allowed_list", []))), "baseline_vm_hwm_kib": None,
            "vm_hwm_kib": max(map(int, status["VmHWM"])) if "VmHWM" in status else None,
            "involuntary_switches": max(map(int, status.get("nonvoluntary_ctxt_switches", ["0"]))) if status else None,
            "notes": notes,
        }  # fmt: skip

    def _probe(self, runner: Path) -> set[str]:
        """The options that it says it has; gflags prints them and ends with 1."""
        done = self.session.run([self._runner, "--help"], timeout_s=PROBE_TIMEOUT_S)
        options = set(_OPTION.findall(done.stdout + done.stderr))
        if missing := [name for name in NEEDED if name not in options]:
            lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.exit_code}").splitlines()
            what = f"it has no --{', --'.join(missing)}" if options else f"{lines[-1].strip()[:160].rstrip('.')}"
            raise DeviceError(
                f"{runner} does not run on {self.session.name} as an executor_runner: {what}.",
                hint="Build ExecuTorch's examples/portable/executor_runner for the device's ABI, of version 1.0 or later.",
            )
        return options

    def _demand(self, option: str, otherwise: str) -> None:
        if option not in self._options:
            raise DeviceError(
                f"This executor_runner has no --{option}: {otherwise}.", hint="Build it from a newer ExecuTorch."
            )

    def _answer(self, records: NDArray[np.float32]) -> NDArray[np.float32]:
        output = f"{self.session.folder}/answer"
        command = [self._runner, *self._model, "--inputs", self._push_records(records), "--output_file", output]
        self._demand_success(self.session.run(command, timeout_s=ANSWER_TIMEOUT_S))
        with tempfile.TemporaryDirectory(prefix="sctool-logits-") as folder:
            file = Path(folder) / "output.f32"
            self.session.pull("answer-0.bin", file)
            size, most = file.stat().st_size, self._input.shape[0]
            if size == 0 or size % (4 * most):
                raise DeviceError(
                    f"The executor_runner wrote {size} bytes for {most} records.", hint="Is its first output float32?"
                )
            logits = np.fromfile(file, dtype="<f4").reshape(most, -1)
        return logits[: len(records)].astype(np.float32)

    def _demand_success(self, done: Completed) -> None:
        if done.exit_code == 0:
            return
        lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
        telling = [
            line for line in lines if "rror" in line or "ailed" in line or line.startswith(("E ", "F "))
        ] or lines
        reason = telling[0][:200].rstrip(".") if telling else "no message"
        signal = -done.exit_code if done.exit_code < 0 else max(0, done.exit_code - 128)
        ending = f"was killed by signal {signal}" if signal else f"ended with {done.exit_code}"
        raise ArtifactError(
            f"The executor_runner {ending} on {self.path.name}: {reason}.",
            hint="Was it built with the backends that the program needs (XNNPACK), and for its ExecuTorch version?",
        )

    def _push_records(self, records: NDArray[np.float32]) -> str:
        """As large as the program's input at its largest batch: what a runner asks for."""
        full = np.zeros(self._input.shape, dtype="<f4")
        full[: len(records)] = records
        return self._push(full.tobytes(), "input.f32")

    def _push(self, content: bytes, name: str) -> str:
        with tempfile.TemporaryDirectory(prefix="sctool-push-") as folder:
            file = Path(folder) / name
            file.write_bytes(content)
            return self.session.push(file, name)


def note_unused(path: Path | None, *, used: bool) -> list[str]:
    """What to say of a user's runner that took no file to the device; nothing where it did, or where none was named."""
    return [] if path is None or used else [UNUSED.format(path=path)]


def check_runner(path: Path | None, device: str | None) -> None:
    """ConfigError where the file that --executorch-runner names is none, or where no device is named to run it on."""
    if path is None:
        return
    if not path.is_file():
        raise ConfigError(f"--executorch-runner {path} is no file.", hint="Name the binary itself.")
    if device is None:
        raise ConfigError(
            "--executorch-runner runs on a device, and none is named.", hint="Add --device attached, host or emulated."
        )


def _unpack(content: bytes, path: Path) -> tuple[bytes, bytes | None]:
    """(program, data file or None)."""
    if not is_spte(content):
        return content, None
    package = read_spte(content, str(path))
    with reading(str(path), KIND):
        return bytes(package.program), package.unpack_data()


def _read_input(program: bytes, path: Path) -> TensorSpec:
    """What the method `forward` takes: [largest batch, ...]."""
    found = next((method for method in read_program(program, str(path)).methods if method.name == "forward"), None)
    if found is None or len(found.inputs) != 1 or found.inputs[0].dtype != "float32" or len(found.inputs[0].shape) < 2:
        raise ArtifactError(
            f"{path.name} has no method `forward` of one float32 input with a batch.", hint="Export the run again."
        )
    return found.inputs[0]


def _read_times(text: str, warm_up: int) -> tuple[list[int], list[str]]:
    """Nanoseconds of each timed call, or their mean where that is all; and what there is to know of it."""
    each = [round(float(value) * 1e6) for value in _ITERATION.findall(text)]
    if len(each) > warm_up:
        return each[warm_up:], []
    total = _TOTAL.search(text)
    if total is None or int(total[1]) == 0:
        raise DeviceError(
            "The executor_runner printed no times.",
            hint="Build it with EXECUTORCH_ENABLE_LOGGING=ON and EXECUTORCH_PAL_DEFAULT=posix: Android's logs go elsewhere.",
        )
    mean = round(float(total[2]) * 1e6 / int(total[1]))
    return [mean], [f"the executor_runner tells a mean over {total[1]} calls alone, {warm_up} of them to warm up"]
