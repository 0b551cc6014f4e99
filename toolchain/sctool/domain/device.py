"""A place where a runner's bytes are executed: an attached phone, an emulated Arm processor, this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sctool.domain.measurement import MeasuredOn


@dataclass(frozen=True)
class Completed:
    """What a command on a device ended with."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Core:
    """One core; `max_khz` is None where the device does not say."""

    number: int
    max_khz: int | None


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself; None is "unknown", never a guess."""

    model: str | None
    soc: str | None
    abi: str | None
    system: str | None
    build: str | None
    cores: tuple[Core, ...]
    memory_kib: int | None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "cores": [vars(core) for core in self.cores]}

    def cluster(self, name: str) -> tuple[int, ...]:
        """The cores of "all", "big" (the highest clock), "little" (the lowest) or "mid" (all between); () where unknown."""
        if name == "all":
            return tuple(core.number for core in self.cores)
        clocks = sorted({core.max_khz for core in self.cores if core.max_khz is not None})
        if not clocks or any(core.max_khz is None for core in self.cores):
            return ()
        wanted = {"big": clocks[-1:], "little": clocks[:1], "mid": clocks[1:-1]}[name]
        return tuple(core.number for core in self.cores if core.max_khz in wanted)


class DeviceSession(Protocol):
    """A folder on a device, and commands that run there; `close` removes the folder.

    Every method raises DeviceError where the device is gone, full or does not answer in time.
    """

    tier: MeasuredOn
    name: str
    folder: str

    def push(self, source: Path, name: str, *, executable: bool = False) -> str:
        """Copy `source` into the folder as `name`; returns its path on the device."""
        ...

    def run(self, command: Sequence[str], *, timeout_s: float, cores: Sequence[int] = ()) -> Completed:
        """Run `command` in the folder, on `cores` alone where some are named."""
        ...

    def pull(self, name: str, destination: Path) -> None:
        """Copy the folder's file `name` to `destination`."""
        ...

    def facts(self) -> DeviceFacts:
        """What the device says of itself."""
        ...

    def close(self) -> None:
        """Remove the folder; never raises."""
        ...


CLUSTERS = ("all", "big", "mid", "little")
