"""Name -> device session: `emulated`, `host`, `attached`, or a phone's serial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sctool.domain.device import DeviceSession

EMULATED, HOST, ATTACHED = "emulated", "host", "attached"


def open_device(name: str, *, cpu: str | None = None) -> DeviceSession:
    """A session on `name`: "emulated", "host", "attached" (the only phone there is), else the phone with that serial.

    `cpu` is the processor that the emulator plays (default: a Cortex-A76).

    Raises DeviceError where the phone is not there or not ready, NativeRuntimeMissing where the emulator or adb is not.
    """
    if name == EMULATED:
        from sctool.runtimes.device.emulator import EmulatedSession
        from sctool.runtimes.device.kit import CPU

        return EmulatedSession(cpu=cpu or CPU)
    if name == HOST:
        from sctool.runtimes.device.local import LocalSession

        return LocalSession()
    from sctool.runtimes.device.adb import AdbSession

    return AdbSession(None if name == ATTACHED else name)


@contextmanager
def on_device(name: str, *, cpu: str | None = None) -> Iterator[DeviceSession]:
    """`open_device`, closed when the block ends, however it ends."""
    session = open_device(name, cpu=cpu)
    try:
        yield session
    finally:
        session.close()
