"""An Arm processor under QEMU's user mode: the true Arm code, its answers and its counts; never its speed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sctool.domain.device import Completed, DeviceFacts
from sctool.domain.measurement import MeasuredOn
from sctool.errors import DeviceError, NativeRuntimeMissing
from sctool.runtimes.device.build import build_counter, build_still_clock
from sctool.runtimes.device.kit import CPU, EmulatorKit, find_kit
from sctool.runtimes.device.local import LocalSession, run_process


class EmulatedSession(LocalSession):
    """A temporary folder whose commands are aarch64 programs."""

    tier: MeasuredOn = "emulator"

    def __init__(self, kit: EmulatorKit | None = None, cpu: str = CPU) -> None:
        """NativeRuntimeMissing where the kit is not installed."""
        self.kit = kit or find_kit()
        self.cpu = cpu
        super().__init__(f"qemu-aarch64 {cpu}")

    def run(self, command: Sequence[str], *, timeout_s: float, cores: Sequence[int] = ()) -> Completed:
        """`cores` are not an emulator's to choose: they are ignored."""
        return self._emulate([], command, timeout_s)

    def count(self, command: Sequence[str], *, timeout_s: float) -> list[dict[str, int]]:
        """Run `command`; what each marked call of the model took: instructions by class, cache accesses and misses.

        The program sees a clock that stands almost still: what it does must not follow the host's load.
        NativeRuntimeMissing where this QEMU takes no plug-ins, DeviceError where the command fails or has several threads.
        """
        clock = Path(self.push(build_still_clock(self.kit), "still_clock.so"))
        result = Path(self.folder) / "counts.json"
        result.unlink(missing_ok=True)
        options = ["-plugin", f"{build_counter()},out={result}", "-E", f"LD_PRELOAD=./{clock.name}"]
        done = self._emulate(options, command, timeout_s)
        if not result.is_file():
            reason = (done.stderr.strip().splitlines() or [f"exit {done.exit_code}"])[-1]
            if "plugin" in reason:
                raise NativeRuntimeMissing(
                    f"{self.kit.qemu} takes no plug-in: {reason}.",
                    hint="Counts need Debian's dynamic qemu-user 7.2 or 8.2.",
                )
            raise DeviceError(f"The counted run failed: {reason}.", hint="Check the artifact with `sctool verify`.")
        found = json.loads(result.read_text(encoding="ascii"))
        if found["threads"] != 1:
            raise DeviceError(
                f"The counted program started {found['threads'] - 1} more threads; one count cannot tell them apart.",
                hint="`sctool doctor --install-emulator` installs the ONNX Runtime that counts were tried with.",
            )
        calls: list[dict[str, int]] = found["calls"]
        return calls

    def facts(self) -> DeviceFacts:
        version = run_process(
            [str(self.kit.qemu), "--version"], timeout_s=30, environment=self.kit.environment
        ).stdout.splitlines()
        return DeviceFacts(
            model=f"QEMU user mode, {self.cpu}", soc=None, abi="aarch64", system="Linux (emulated)",
            build=version[0] if version else None, cores=(), memory_kib=None,
        )  # fmt: skip

    def _emulate(self, options: Sequence[str], command: Sequence[str], timeout_s: float) -> Completed:
        """With an environment of its own: the guest's stack, and with it its counts, would follow the caller's."""
        qemu = [str(self.kit.qemu), "-cpu", self.cpu, *options, "-L", str(self.kit.arm)]
        return run_process(
            [*qemu, *command], folder=Path(self.folder), timeout_s=timeout_s,
            environment={"LC_ALL": "C", **self.kit.environment}, inherit=False,
        )  # fmt: skip
