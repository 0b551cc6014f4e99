"""The worker process: figures, isolation, and every way it can fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sctool.domain.measurement import LatencyProfile
from sctool.errors import ArtifactError, ConfigError, DataError, DeviceError, ExportError, NativeRuntimeMissing
from sctool.profiling import worker
from sctool.profiling.host import profile_on_host
from sctool.profiling.machine import cpu_model, describe_machine


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "openers"))
    artifact = tmp_path / "model.onnx"
    artifact.write_bytes(b"x")
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.ones((4, 3), dtype=np.float32))

    def call(opener: str, **settings: Any) -> LatencyProfile:
        given = {"input_path": inputs, "repeats": 2, "iterations": 3, "warm_up": 1, "preload": (), "timeout_s": 60.0}
        if ":" not in opener:
            opener = f"fake_opener:{opener}"
        return profile_on_host(artifact, "onnx", opener=opener, **{**given, **settings})

    return call


def test_samples_keep_repeats_apart_and_a_chatty_runtime_does_no_harm(profile: Any) -> None:
    found = profile("opens", threads=2, batch_size=4)
    assert found.samples_ms.shape == (2, 3)
    assert (found.samples_ms > 0).all()
    assert (found.runtime, found.measured_on, found.threads, found.batch_size) == ("fake", "host", 2, 4)
    assert found.artifact == "model.onnx"
    assert found.machine == describe_machine()


def test_peak_memory_is_the_artifacts_above_the_baseline(profile: Any) -> None:
    ballast = np.ones(64 * 2**20, dtype=np.uint8)  # this process's memory must not count
    found = profile("opens_big")
    assert 60 <= found.peak_memory_mib - found.baseline_memory_mib <= 80
    assert 5 <= found.baseline_memory_mib <= 120
    assert ballast.any()


def test_cold_load_is_the_first_one_only(profile: Any) -> None:
    found = profile("slow_first")
    assert found.cold_load_ms >= 200 > found.warm_load_ms


@pytest.mark.parametrize(
    ("opener", "settings", "error", "text"),
    [
        ("raises", {}, ArtifactError, "no such operator: Frobnicate"),
        ("raises_ours", {}, ExportError, "Damaged graph. Export again."),
        ("crashes", {}, DeviceError, "SIGSEGV: about to fall over"),
        ("leaves_quietly", {}, DeviceError, "gave no figures"),
        ("absent", {}, ConfigError, "fake_opener:absent"),
        ("no_such_module:f", {}, ConfigError, "no_such_module"),
        (":f", {}, ConfigError, "package.module:callable"),
        ("fake_opener:sys", {}, ConfigError, "not callable"),
        ("opens", {"batch_size": 5}, DataError, "holds 4 records, the batch needs 5"),
        ("opens", {"input_path": Path("absent.npy")}, DataError, "absent.npy"),
        ("opens", {"preload": ("no_such_runtime",)}, NativeRuntimeMissing, "no_such_runtime"),
        ("opens", {"repeats": 0}, ConfigError, "repeats is 0"),
        ("opens", {"warm_up": -1}, ConfigError, "warm_up is -1"),
    ],
)
def test_failures_are_named(
    profile: Any, opener: str, settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        profile(opener, **settings)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worker_that_hangs_is_ended(profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("FAKE_PID_FILE", str(pid_file))
    with pytest.raises(DeviceError, match="did not end within 5 s"):
        profile("hangs", timeout_s=5.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_missing_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No artifact"):
        profile_on_host(tmp_path / "a.onnx", "onnx", opener="a:b", input_path=tmp_path / "x.npy")


def test_pickled_inputs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        worker.read_batch(path, 1)


@pytest.mark.parametrize("names", [("input",), ("anything",), ("input", "label")])
def test_safetensors_inputs(tmp_path: Path, names: tuple[str, ...]) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    save_file(dict.fromkeys(names, values), path)
    np.testing.assert_array_equal(worker.read_batch(path, 2), values[:2])


def test_ambiguous_or_damaged_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(1), "b": np.zeros(1)}, path)
    with pytest.raises(DataError, match="none is called 'input'"):
        worker.read_batch(path, 1)
    path.write_bytes(b"damaged")
    with pytest.raises(DataError):
        worker.read_batch(path, 1)


def test_scalar_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float32(1))
    with pytest.raises(DataError, match="holds 0 records"):
        worker.read_batch(tmp_path / "x.npy", 1)


@pytest.mark.parametrize(
    ("cpuinfo", "board", "expected"),
    [
        ("processor : 0\nmodel name\t: AMD  EPYC 7\n", None, "AMD EPYC 7"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n", "Raspberry Pi 5\0", "Raspberry Pi 5"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n", None, "CPU implementer 0x41 part 0xd0b"),
    ],
)
def test_cpu_model(tmp_path: Path, cpuinfo: str, board: str | None, expected: str) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    if board is not None:
        (tmp_path / "model").write_text(board)
    assert cpu_model(tmp_path / "cpuinfo", tmp_path / "model") == expected
