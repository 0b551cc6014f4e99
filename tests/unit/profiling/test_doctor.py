from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sctool.profiling import doctor


def by_name(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in checks}


def answering(stdout: str, stderr: str = "") -> Any:
    return lambda command, **_: subprocess.CompletedProcess(command, 0, stdout, stderr)


def test_every_failure_has_a_next_step_and_names_are_unique(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sctool.profiling.doctor.subprocess.run", answering("noise\nBACKENDS XnnpackBackend\n"))
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = doctor.examine(tmp_path)
    found = by_name(checks)
    assert len(found) == len(checks)
    assert all(check.next_step for check in checks if not check.ok)
    assert all(check.next_step is None for check in checks if check.ok)
    assert found["adb"].level == "optional"
    assert found["executorch XNNPACK"].ok
    assert found["targets"].ok


@pytest.mark.parametrize("stdout", ["BACKENDS QnnBackend\n", "BACKENDS\n", ""])
def test_missing_backend(stdout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1")
    monkeypatch.setattr("sctool.profiling.doctor.subprocess.run", answering(stdout, "ImportError: no\n"))
    assert not doctor._xnnpack(1.0).ok


def test_slow_backend_is_unknown_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Any, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 1.0)

    monkeypatch.setattr(doctor, "_version", lambda name: "1")
    monkeypatch.setattr("sctool.profiling.doctor.subprocess.run", run)
    check = doctor._xnnpack(1.0)
    assert (check.ok, check.level) == (False, "optional")


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert "pip install onnx" in (doctor._package("onnx").next_step or "")
    assert not doctor._xnnpack(1.0).ok


@pytest.mark.parametrize(("value", "ok"), [("1", True), ("0", False), ("many", False), ("", False)])
def test_thread_variable(value: str, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert doctor._threads().ok is ok


def test_disk_of_a_missing_folder(tmp_path: Path) -> None:
    assert not doctor._disk(tmp_path / "absent").ok


def test_adb_is_found_in_the_wheel_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_version", lambda name: "2.12.0" if name == "adbutils" else None)
    assert (doctor._adb().ok, doctor._adb().found) == (True, "with adbutils 2.12.0")
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert not doctor._adb().ok and doctor._adb().next_step
