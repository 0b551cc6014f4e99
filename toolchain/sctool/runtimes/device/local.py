"""Folders and processes of this machine: the base of the host's and the emulator's sessions."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sctool.domain.device import Completed, DeviceFacts
from sctool.domain.measurement import MeasuredOn
from sctool.errors import DeviceError
from sctool.runtimes.device.facts import SCRIPT, parse_facts


class LocalSession:
    """This machine's processor and a temporary folder."""

    tier: MeasuredOn = "host"

    def __init__(self, name: str = "host") -> None:
        self.name = name
        self._folder = Path(tempfile.mkdtemp(prefix="sctool-"))
        self.folder = str(self._folder)

    def push(self, source: Path, name: str, *, executable: bool = False) -> str:
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            path.chmod(0o755 if executable else 0o644)
        except OSError as error:
            raise DeviceError(
                f"Cannot copy {source} to {path}: {error.strerror or error}.", hint="Free space there."
            ) from error
        return str(path)

    def run(self, command: Sequence[str], *, timeout_s: float, cores: Sequence[int] = ()) -> Completed:
        return run_process([*_taskset(cores), *command], folder=self._folder, timeout_s=timeout_s)

    def pull(self, name: str, destination: Path) -> None:
        try:
            shutil.copyfile(self._folder / name, destination)
        except OSError as error:
            raise DeviceError(
                f"{self.name} holds no {name}: {error.strerror or error}.", hint="The runner wrote nothing: try again."
            ) from error

    def facts(self) -> DeviceFacts:
        return parse_facts(run_process(["sh", "-c", SCRIPT], folder=self._folder, timeout_s=20).stdout)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def run_process(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    inherit: bool = True,
) -> Completed:
    """Run `command`; its whole process group ends with it. `inherit`: `environment` comes on top of this process's own.

    Raises DeviceError where it cannot start or does not end in time.
    """
    try:
        process = subprocess.Popen(
            list(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**(os.environ if inherit else {}), **(environment or {})}, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise DeviceError(
            f"Cannot start {command[0]}: {error.strerror or error}.", hint="`sctool doctor` says what is missing."
        ) from error
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"{Path(command[0]).name} did not end within {timeout_s:g} s.",
            hint="Ask for less work, or look whether the device hangs.",
        ) from error
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    return Completed(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def affinity_mask(cores: Sequence[int]) -> str:
    """The hexadecimal mask that `taskset` takes, without 0x."""
    return format(sum(1 << core for core in set(cores)), "x")


def _taskset(cores: Sequence[int]) -> list[str]:
    return ["taskset", affinity_mask(cores)] if cores else []
