"""An attached phone, by the real adb client: in PATH, or the one that the wheel of adbutils brings.

Every command ends with its exit code in a line of its own, since a phone whose adb lacks shell_v2 loses it. The folder
on the phone names this machine and process, so that what an earlier, torn session left is found and removed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sctool.domain.device import Completed, DeviceFacts
from sctool.domain.measurement import MeasuredOn
from sctool.errors import DeviceError, NativeRuntimeMissing
from sctool.runtimes.device.facts import SCRIPT, parse_facts
from sctool.runtimes.device.local import affinity_mask, run_process

FOLDER = "/data/local/tmp"
COMMAND_TIMEOUT_S = 30.0
RETRY_AFTER_S = 1.0
BYTES_PER_SECOND = 2**20
"""The slowest push that is waited for."""
_EXIT, _ERRORS = "sctool-exit:", "sctool-errors"
_STATES = {
    "unauthorized": "Unlock it and allow USB debugging for this computer.",
    "offline": "Plug it in again, or restart it; `adb kill-server` helps too.",
    "no permissions": "Give your user access to the USB device (udev rules, group plugdev).",
    "recovery": "Start Android on it.",
    "sideload": "Start Android on it.",
    "bootloader": "Start Android on it.",
    "authorizing": "Allow USB debugging on it, then try again.",
}
_GONE = ("device offline", "not found", "device still", "no devices", "closed", "connection reset", "protocol fault",
         "device unauthorized", "cannot connect", "failed to read", "connect failed", "unexpected eof")  # fmt: skip


@dataclass(frozen=True)
class Attached:
    """One line of `adb devices`."""

    serial: str
    state: str


def find_adb() -> str:
    """The path of adb. NativeRuntimeMissing where there is none."""
    if found := shutil.which("adb"):
        return found
    try:
        from adbutils import adb_path

        return str(adb_path())
    except Exception as error:
        raise NativeRuntimeMissing(
            "adb is not installed.", hint="pip install adbutils brings one; so do Android's platform tools."
        ) from error


def list_attached(adb: str | None = None) -> list[Attached]:
    """All devices that adb sees, in whatever state."""
    command = [adb or find_adb(), "devices"]
    done = run_process(command, timeout_s=COMMAND_TIMEOUT_S)
    if done.exit_code:  # a server that is just ending keeps the next one from starting
        time.sleep(RETRY_AFTER_S)
        done = run_process(command, timeout_s=COMMAND_TIMEOUT_S)
    if done.exit_code:
        raise DeviceError(f"adb does not work: {_last_line(done)}.", hint="Try `adb kill-server`, then again.")
    lines = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    return [Attached(serial, state.split(";")[0].strip()) for serial, state, *_ in lines]


def peek_attached() -> list[Attached]:
    """`list_attached`, leaving no adb server behind where none was running."""
    adb = find_adb()
    port = int(os.environ.get("ANDROID_ADB_SERVER_PORT", "5037"))
    with socket.socket() as probe:
        probe.settimeout(1.0)
        running = probe.connect_ex(("127.0.0.1", port)) == 0
    try:
        return list_attached(adb)
    finally:
        if not running:
            run_process([adb, "kill-server"], timeout_s=COMMAND_TIMEOUT_S)


def choose_device(attached: Sequence[Attached], serial: str | None) -> str:
    """The serial of the one device to use: `serial`, or the only one. DeviceError says what is attached otherwise."""
    named = ", ".join(f"{device.serial} ({device.state})" for device in attached) or "none"
    if serial is None:
        if not attached:
            raise DeviceError("No phone is attached.", hint="Plug one in and allow USB debugging; see `adb devices`.")
        if len(attached) > 1:
            raise DeviceError(f"Several devices are attached: {named}.", hint="Name one: --device SERIAL.")
        serial = attached[0].serial
    found = next((device for device in attached if device.serial == serial), None)
    if found is None:
        raise DeviceError(f"No device {serial}; attached: {named}.", hint="See `adb devices`.")
    if found.state != "device":
        hint = next((step for state, step in _STATES.items() if found.state.startswith(state)), "See `adb devices`.")
        raise DeviceError(f"Device {serial} is {found.state}.", hint=hint)
    return serial


class AdbSession:
    """A folder under /data/local/tmp of the phone with that serial (None: the only one)."""

    tier: MeasuredOn = "device"

    def __init__(self, serial: str | None = None) -> None:
        """Raises DeviceError for no phone, several, or one that is not ready; NativeRuntimeMissing without adb."""
        self._adb = find_adb()
        self.name = choose_device(list_attached(self._adb), serial)
        self.folder = f"{FOLDER}/{_folder_name(os.getpid())}"
        self._sweep()
        self._check(self._shell(f"rm -rf {self.folder} && mkdir -p {self.folder}"), "make a folder")

    def push(self, source: Path, name: str, *, executable: bool = False) -> str:
        path = f"{self.folder}/{name}"
        size = source.stat().st_size
        if "/" in name:
            self._check(self._shell(f"mkdir -p {shlex.quote(path.rpartition('/')[0])}"), "make a folder")
        timeout_s = COMMAND_TIMEOUT_S + size / BYTES_PER_SECOND
        done = run_process([self._adb, "-s", self.name, "push", str(source), path], timeout_s=timeout_s)
        if done.exit_code:
            raise self._explain(f"push {source.name} ({size} bytes)", done)
        quoted = shlex.quote(path)
        landed = self._shell(f"chmod {755 if executable else 644} {quoted} && wc -c < {quoted}")
        if landed.exit_code or landed.stdout.strip() != str(size):
            raise DeviceError(
                f"Device {self.name} holds {landed.stdout.strip() or 'none'} of {size} bytes of {source.name}.",
                hint="Is its storage full? Free some, then try again.",
            )
        return path

    def run(self, command: Sequence[str], *, timeout_s: float, cores: Sequence[int] = ()) -> Completed:
        pinned = f"taskset {affinity_mask(cores)} " if cores else ""
        return self._shell(f"cd {self.folder} && {pinned}{shlex.join(command)}", timeout_s=timeout_s)

    def pull(self, name: str, destination: Path) -> None:
        command = [self._adb, "-s", self.name, "pull", f"{self.folder}/{name}", str(destination)]
        done = run_process(command, timeout_s=COMMAND_TIMEOUT_S * 10)
        if done.exit_code:
            raise self._explain(f"pull {name}", done)

    def facts(self) -> DeviceFacts:
        return parse_facts(self._shell(SCRIPT).stdout)

    def close(self) -> None:
        try:
            self._shell(f"rm -rf {self.folder}", timeout_s=10.0)
        except DeviceError:
            return  # unplugged: the next session on this phone removes the folder

    def _sweep(self) -> None:
        """Remove the folders of this machine's processes that are no more."""
        listed = self._shell(f"ls -d {FOLDER}/sctool-* 2>/dev/null; true").stdout.split()
        mine = _folder_name(0).rpartition("-")[0] + "-"
        for path in listed:
            name = path.rpartition("/")[2]
            if name.startswith(mine) and name[len(mine) :].isdecimal() and not _alive(int(name[len(mine) :])):
                self._shell(f"rm -rf {FOLDER}/{name}")

    def _shell(self, command: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> Completed:
        """stdout and stderr apart and the exit code, whether or not the phone's adb keeps them."""
        errors = f"{FOLDER}/{_ERRORS}-{os.getpid()}"
        ending = f"code=$?; echo; echo {_EXIT}$code; tail -c 4000 {errors} 2>/dev/null; rm -f {errors}"
        line = f"( {command}\n) 2>{errors}; {ending}"
        done = run_process([self._adb, "-s", self.name, "shell", "-n", line], timeout_s=timeout_s)
        stdout, found, rest = done.stdout.replace("\r\n", "\n").rpartition(f"\n{_EXIT}")
        code, _, stderr = rest.partition("\n")
        if not found or not code.strip().isdecimal():
            raise self._explain("run a command", done)
        return Completed(int(code), stdout, stderr)

    def _check(self, done: Completed, what: str) -> None:
        if done.exit_code:
            raise self._explain(what, done)

    def _explain(self, what: str, done: Completed) -> DeviceError:
        reason = _last_line(done)
        hint = "Try again; `adb devices` says whether it is there."
        if "No space" in reason or "space left" in done.stdout + done.stderr:
            hint = "Its storage is full: free some, then try again."
        elif any(sign in reason.lower() for sign in _GONE) or reason == "no message":
            reason = f"the connection was lost ({reason})"
            hint = "Plug it in again, then go on with --resume; what was left on it goes at the next start."
        return DeviceError(f"Cannot {what} on device {self.name}: {reason}.", hint=hint)


def _last_line(done: Completed) -> str:
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("adb:", "error:")) or "rror" in line]
    return (telling or lines or ["no message"])[-1].removeprefix("adb: ").removeprefix("error: ").rstrip(".")


def _folder_name(process: int) -> str:
    return f"sctool-{zlib.crc32(socket.gethostname().encode()):08x}-{process}"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
