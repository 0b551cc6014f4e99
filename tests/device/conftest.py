"""Stand-in phones, each test's own adb server, and the emulator kit where it is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sctool.errors import NativeRuntimeMissing
from sctool.native.build import find_library
from sctool.runtimes.device.adb import find_adb
from sctool.runtimes.device.kit import EmulatorKit, cache_folder, find_kit

from .daemon import Daemon, Faults

PHONES = Path(__file__).parent / "phones"
CLOCKS = {0: 1803000, 1: 1803000, 2: 1803000, 3: 1803000, 4: 2348000, 5: 2348000, 6: 2850000, 7: 2850000}


@pytest.fixture(scope="session")
def kit() -> EmulatorKit:
    try:
        return find_kit()
    except NativeRuntimeMissing as error:
        pytest.skip(f"no Arm emulator: {error}")


@pytest.fixture
def adb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The path of adb, with a server of the test's own on a free port."""
    try:
        adb = find_adb()
    except NativeRuntimeMissing as error:
        pytest.skip(str(error))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("SCTOOL_CACHE", str(cache_folder()))
    if native := find_library():  # adb writes to HOME, which is not the user's here
        monkeypatch.setenv("SCTOOL_NATIVE", str(native.parent))
    for name, value in (("ANDROID_ADB_SERVER_PORT", str(port)), ("HOME", str(home)), ("ADB_MDNS", "0"),
                        ("ADB_MDNS_AUTO_CONNECT", "0"), ("ADB_USB", "0")):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    subprocess.run([adb, "start-server"], capture_output=True, timeout=60, check=True)
    yield adb
    subprocess.run([adb, "kill-server"], capture_output=True, timeout=20, check=False)


@pytest.fixture
def attach(adb_server: str, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes a stand-in phone and plugs it in: attach("pixel-8-pro", emulator=kit, faults=Faults(...))."""
    made: list[Daemon] = []

    def call(
        phone: str = "pixel-8-pro",
        *,
        faults: Faults | None = None,
        emulator: EmulatorKit | None = None,
        **settings: Any,
    ) -> Daemon:
        root = tmp_path / f"phone{len(made)}"
        root.mkdir()
        shutil.copyfile(PHONES / f"{phone}.prop", root / "getprop")
        command = [str(emulator.qemu), "-cpu", "cortex-a76", "-L", str(emulator.arm)] if emulator else []
        environment = emulator.environment if emulator else {}
        daemon = Daemon(root, command, environment, faults or Faults(), **settings)
        (root / "proc/meminfo").write_text("MemTotal:       11726712 kB\n")
        for core, clock in CLOCKS.items():
            folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
            folder.mkdir(parents=True)
            (folder / "cpuinfo_max_freq").write_text(f"{clock}\n")
        made.append(daemon)
        connect = subprocess.Popen(
            [adb_server, "connect", daemon.serial], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if not (daemon.faults.silent or daemon.faults.unauthorised):
            assert connect.wait(timeout=20) == 0
        return daemon

    yield call
    for daemon in made:
        daemon.close()
