"""The real adb client against a stand-in phone: what works, and every way it can fail."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sctool.errors import DeviceError
from sctool.runtimes.device.adb import AdbSession, Attached, choose_device, list_attached, peek_attached

from .daemon import Daemon, Faults

Attach = Callable[..., Daemon]


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.05)


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "payload.bin"
    path.write_bytes(os.urandom(700_000))
    return path


def test_push_run_pull_and_nothing_left(attach: Attach, payload: Path, tmp_path: Path) -> None:
    phone = attach()
    session = AdbSession()
    assert session.name == phone.serial and session.tier == "device"
    pushed = session.push(payload, "sub/payload.bin")
    assert pushed.startswith(session.folder)
    done = session.run(["sh", "-c", "cp sub/payload.bin copy; echo out; echo err >&2; exit 7"], timeout_s=20)
    assert (done.exit_code, done.stdout, done.stderr) == (7, "out\n", "err\n")
    session.pull("copy", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == payload.read_bytes()
    session.close()
    assert phone.left_behind == []


def test_quoting_survives_the_phones_shell(attach: Attach) -> None:
    attach()
    session = AdbSession()
    awkward = ["a b", "$HOME", "'", '"', ";", "*", "\\", "&& false"]
    done = session.run(["printf", "%s\\n", *awkward], timeout_s=20)
    assert done.stdout.splitlines() == awkward


def test_exit_codes_do_not_need_shell_v2(attach: Attach) -> None:
    attach(faults=Faults(no_shell_v2=True))
    done = AdbSession().run(["sh", "-c", "echo out; echo err >&2; exit 9"], timeout_s=20)
    assert (done.exit_code, done.stdout.strip(), done.stderr.strip()) == (9, "out", "err")


def test_affinity_is_passed_to_taskset(attach: Attach) -> None:
    phone = attach()
    done = AdbSession().run(["grep", "Cpus_allowed_list", "/proc/self/status"], timeout_s=20, cores=[0])
    assert done.stdout.split() == ["Cpus_allowed_list:", "0"]
    assert "taskset 1 grep" in phone.commands[-1]


@pytest.mark.parametrize(
    ("phone", "model", "soc", "abi", "system"),
    [
        ("pixel-8-pro", "Google Pixel 8 Pro", "Google Tensor G3", "arm64-v8a", "Android 14 (API 34)"),
        ("realme-note-50", "realme realme Note 50", "T612", "arm64-v8a", "Android 14 (API 34)"),
        ("redmi-k40-gaming", "Xiaomi M2101K9C", "MT6893", "arm64-v8a", "Android 13 (API 33)"),
        ("galaxy-s5-neo", "samsung SM-G903F", "exynos5", "armeabi-v7a", None),
    ],
)
def test_facts_of_real_phones(attach: Attach, phone: str, model: str, soc: str, abi: str, system: str | None) -> None:
    attach(phone)
    facts = AdbSession().facts()
    assert (facts.model, facts.soc, facts.abi) == (model, soc, abi)
    if system:
        assert facts.system == system
    assert facts.memory_kib == 11726712
    assert facts.cluster("big") == (6, 7) and facts.cluster("mid") == (4, 5) and facts.cluster("little") == (0, 1, 2, 3)


def test_no_phone(adb_server: str) -> None:
    with pytest.raises(DeviceError, match="No phone is attached"):
        AdbSession()


def test_two_phones_need_a_serial(attach: Attach) -> None:
    first, second = attach(), attach("realme-note-50")
    with pytest.raises(DeviceError, match="Several devices") as caught:
        AdbSession()
    assert first.serial in str(caught.value) and second.serial in str(caught.value)
    assert AdbSession(second.serial).facts().soc == "T612"


def test_a_serial_that_is_not_there(attach: Attach) -> None:
    attach()
    with pytest.raises(DeviceError, match="No device nobody"):
        AdbSession("nobody")


def test_unauthorised(attach: Attach, adb_server: str) -> None:
    phone = attach(faults=Faults(unauthorised=True))
    wait_for(lambda: any(device.state == "unauthorized" for device in list_attached(adb_server)))
    with pytest.raises(DeviceError, match=r"is (unauthorized|authorizing).*llow USB debugging"):
        AdbSession(phone.serial)


def test_offline(attach: Attach, adb_server: str) -> None:
    phone = attach(faults=Faults(silent=True))
    wait_for(lambda: bool(list_attached(adb_server)))
    with pytest.raises(DeviceError, match=r"is (offline|connecting|authorizing)"):
        AdbSession(phone.serial)


def test_every_state_has_a_next_step() -> None:
    for state in ("unauthorized", "offline", "no permissions (user in plugdev group)", "recovery", "something new"):
        with pytest.raises(DeviceError, match=r"\. \S+"):
            choose_device([Attached("S", state)], None)


def test_unplugged_in_mid_push(attach: Attach, payload: Path) -> None:
    attach(faults=Faults(unplug_after_bytes=200_000))
    session = AdbSession()
    with pytest.raises(DeviceError, match="connection was lost"):
        session.push(payload, "payload.bin")
    session.close()  # says nothing, though the phone may be gone


TORN = """
import os
from sctool.runtimes.device.adb import AdbSession
print(AdbSession().folder, flush=True)
os._exit(1)
"""


def test_what_a_torn_session_left_is_removed_by_the_next(attach: Attach) -> None:
    phone = attach()
    torn = subprocess.run([sys.executable, "-c", TORN], capture_output=True, text=True, timeout=60, check=False)
    left = torn.stdout.strip().rpartition("/")[2]
    (phone.root / "data/local/tmp/sctool-ffffffff-1").mkdir()
    assert phone.left_behind == sorted([left, "sctool-ffffffff-1"])
    AdbSession().close()
    assert phone.left_behind == ["sctool-ffffffff-1"], "another machine's session is not ours to end"


def test_a_full_phone(attach: Attach, payload: Path) -> None:
    phone = attach(faults=Faults(full_after_bytes=100_000))
    session = AdbSession()
    with pytest.raises(DeviceError, match=r"No space left.*storage is full"):
        session.push(payload, "payload.bin")
    session.close()
    assert phone.left_behind == []


def test_a_push_that_landed_short(attach: Attach, payload: Path) -> None:
    attach(faults=Faults(cut_after_bytes=100_000))
    with pytest.raises(DeviceError, match="of 700000 bytes"):
        AdbSession().push(payload, "payload.bin")


def test_a_shell_that_never_answers(attach: Attach) -> None:
    phone = attach(faults=Faults(hang_on="slow-program"))
    session = AdbSession()
    started = time.monotonic()
    with pytest.raises(DeviceError, match="did not end within 1 s"):
        session.run(["slow-program"], timeout_s=1)
    assert time.monotonic() - started < 10
    session.close()
    assert phone.left_behind == []


def test_unplugged_while_a_command_runs(attach: Attach) -> None:
    attach(faults=Faults(unplug_on="fatal-program"))
    session = AdbSession()
    with pytest.raises(DeviceError, match=r"connection was lost.*--resume"):
        session.run(["fatal-program"], timeout_s=20)


def test_a_lost_exit_code_is_no_success(attach: Attach) -> None:
    attach(faults=Faults(lose_exit_of="echo fine"))
    session = AdbSession()
    with pytest.raises(DeviceError, match="Cannot run a command"):
        session.run(["echo", "fine"], timeout_s=20)


def test_a_killed_server(attach: Attach, adb_server: str) -> None:
    phone = attach()
    session = AdbSession()
    subprocess.run([adb_server, "kill-server"], check=True, capture_output=True, timeout=20)
    with pytest.raises(DeviceError, match=r"not found|connection was lost"):
        session.run(["true"], timeout_s=20)
    session.close()
    subprocess.run([adb_server, "connect", phone.serial], check=True, capture_output=True, timeout=20)
    again = AdbSession()
    again.close()
    assert phone.left_behind == []


def test_a_look_leaves_the_server_as_it_was(attach: Attach, adb_server: str) -> None:
    phone = attach()
    assert [device.serial for device in peek_attached()] == [phone.serial]
    assert list_attached(adb_server), "the server that ran goes on"
    subprocess.run([adb_server, "kill-server"], check=True, capture_output=True, timeout=20)
    assert peek_attached() == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(os.environ["ANDROID_ADB_SERVER_PORT"]))) != 0


def test_pulling_what_is_not_there(attach: Attach, tmp_path: Path) -> None:
    attach()
    with pytest.raises(DeviceError, match="Cannot pull absent"):
        AdbSession().pull("absent", tmp_path / "absent")
