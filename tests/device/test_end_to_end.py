"""verify and profile on the true Arm binary: under emulation, on a stand-in phone by the real adb, on an attached phone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sctool.cli.app import app
from sctool.errors import ArtifactError, DeviceError
from sctool.runtimes.device.kit import EmulatorKit
from sctool.runtimes.device.registry import on_device
from sctool.runtimes.device.session import DeviceArtifact
from sctool.runtimes.eager import EagerSession
from sctool.workflows.compare import compare
from sctool.workflows.profile import Place, profile
from sctool.workflows.run_directory import load_run_model, read_run
from sctool.workflows.verify import verify

from .daemon import Daemon, Faults

Attach = Callable[..., Daemon]


@pytest.fixture(params=["emulated", "phone"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for `open_device`: the emulator; the attached phone that SCTOOL_TEST_PHONE names, else a stand-in."""
    if request.param == "phone":
        if named := os.environ.get("SCTOOL_TEST_PHONE"):
            yield named
            return
        attach: Attach = request.getfixturevalue("attach")
        yield attach(emulator=request.getfixturevalue("kit")).serial
        return
    request.getfixturevalue("kit")
    yield "emulated"


def test_the_arm_binary_answers_as_eager_does(device: str, made_run: Path) -> None:
    x = np.random.default_rng(0).random((70, 64), np.float32)
    expected = EagerSession(load_run_model(read_run(made_run))).run(x)
    with on_device(device) as session:
        artifact = DeviceArtifact(session, made_run / "bundles/android/model.onnx")
        found = artifact.run(x)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(artifact.run(x[:1]), found[:1])


def test_a_sparse_program_answers_as_eager_does(device: str, sparse_bundle: Path, made_run: Path) -> None:
    """300 records: more than the program's largest batch."""
    x = np.random.default_rng(0).random((300, 64), np.float32)
    expected = EagerSession(load_run_model(read_run(made_run))).run(x)
    with on_device(device) as session:
        artifact = DeviceArtifact(session, sparse_bundle / "model.pte")
        np.testing.assert_allclose(artifact.run(x), expected, atol=1e-4)
        work = artifact.work(x[:1], iterations=3, warm_up=1, warm_loads=2)
        record = artifact.measure(work, timeout_s=60)
    assert (artifact.runtime, record["isa"], record["threads"]) == ("sparse", "neon", 1)
    assert len(record["samples_ns"]) == 3 and len(record["warm_load_ns"]) == 2


@pytest.mark.slow
def test_sparse_and_dense_side_by_side(
    attach: Attach, kit: EmulatorKit, sparse_bundle: Path, run_copy: Path, tmp_path: Path
) -> None:
    """verify, profile with traces and counts of a bundle whose .pte is sparse."""
    bundle = run_copy / "bundles" / "sparse"
    shutil.copytree(sparse_bundle, bundle)
    phone = os.environ.get("SCTOOL_TEST_PHONE") or attach(emulator=kit).serial
    _, verified = verify(bundle, device=phone)
    agreement = {name.partition(" ")[0]: found for name, found in verified["device"]["agreement"].items()}
    assert set(agreement) == {"model.onnx", "model.pte"}
    assert all(found["max_abs_error"] <= 1e-4 and found["top1_agreement"] == 1.0 for found in agreement.values())
    assert agreement["model.pte"]["compared_with"] == "model.pte (ExecuTorch)"
    place = Place(phone, cool_down_s=0.0, trace=tmp_path / "traces")
    _, profiled = profile(bundle, repeats=1, iterations=3, warm_up=1, place=place)
    assert [item["runtime"].partition(" ")[0] for item in profiled["profiles"]] == ["onnxruntime", "sparse"]
    traced = json.loads((tmp_path / "traces/model.pte.trace.json").read_text())
    assert traced and all("linear" in event["name"] for event in traced)
    costs = {item["artifact"]: item for item in profile(bundle, place=Place(target="android-emulated"))[1]["costs"]}
    assert costs["model.pte"]["by_class"]["vector_fma"] < costs["model.onnx"]["by_class"]["vector_fma"] / 3


@pytest.mark.slow
def test_verify_agrees_with_the_hosts_audit(device: str, bundle_copy: Path) -> None:
    _, found = verify(bundle_copy, device=device)
    columns = {column["name"]: column for column in found["columns"]}
    there = next(name for name in columns if name.startswith("model.onnx (on "))
    agreement = found["device"]["agreement"][there]
    assert agreement["max_abs_error"] <= 1e-4 and agreement["top1_agreement"] == 1.0
    assert agreement["max_auc_difference"] <= 0.01
    assert columns[there]["parity"]["max_abs_error"] <= 1e-4
    assert columns[there]["test_accuracy"] == columns["model.onnx (ONNX Runtime)"]["test_accuracy"]
    assert any("model.pte was NOT verified on" in note for note in found["notes"])
    assert found["device"]["tier"] == ("emulator" if device == "emulated" else "device")


@pytest.mark.slow
def test_profile_on_a_phone(attach: Attach, kit: EmulatorKit, bundle_copy: Path, tmp_path: Path) -> None:
    phone = os.environ.get("SCTOOL_TEST_PHONE") or attach(emulator=kit).serial
    table = tmp_path / "figures.csv"
    file, found = profile(
        bundle_copy, repeats=3, iterations=30, warm_up=2, place=Place(phone, cool_down_s=0.0), csv=table
    )
    (measured,) = found["profiles"]
    assert measured["measured_on"] == "device" and measured["tag"] == "measured"
    assert len(measured["samples_ms"]) == 3 and all(len(row) == 30 for row in measured["samples_ms"])
    assert measured["device"]["abi"] == "arm64-v8a" and measured["device"]["model"] in measured["machine"]
    assert measured["latency_over_repeats_ms"]["p50"]["low"] <= measured["latency_over_repeats_ms"]["p50"]["high"]
    assert measured["peak_memory_mib"] > measured["baseline_memory_mib"] > 0
    assert table.read_text().startswith("artifact,") and "model.onnx" in table.read_text()
    assert file.with_suffix(".jsonl").read_text().count("\n") == 4
    if "SCTOOL_TEST_PHONE" not in os.environ:
        assert not measured["trusted"], "a stand-in's clocks are unknown"


@pytest.mark.slow
def test_a_torn_profile_goes_on(attach: Attach, kit: EmulatorKit, bundle_copy: Path) -> None:
    """Unplugged before the third repeat: an error, and the first two are not measured again."""
    phone = attach(emulator=kit)
    journal = bundle_copy / "profile.jsonl"
    place = Place(phone.serial, cool_down_s=0.0)
    profile(bundle_copy, repeats=2, iterations=5, warm_up=1, place=place)
    kept = journal.read_text().splitlines()[:2]
    journal.write_text("\n".join(kept) + "\n" + '{"key": "torn')
    phone.faults.unplug_on = "ort_runner"
    with pytest.raises(DeviceError, match=r"connection was lost.*--resume"):
        profile(
            bundle_copy, repeats=3, iterations=5, warm_up=1, place=Place(phone.serial, resume=True, cool_down_s=0.0)
        )
    assert journal.read_text().splitlines() == [json.dumps(json.loads(line), sort_keys=True) for line in kept]
    again = attach(emulator=kit)
    assert again.serial != phone.serial


@pytest.mark.slow
def test_resume_measures_only_what_is_missing(attach: Attach, kit: EmulatorKit, bundle_copy: Path) -> None:
    phone = attach(emulator=kit)

    def run(repeats: int, *, resume: bool) -> dict[str, Any]:
        place = Place(phone.serial, resume=resume, cool_down_s=0.0)
        return profile(bundle_copy, repeats=repeats, iterations=5, warm_up=1, place=place)[1]["profiles"][0]

    first = run(2, resume=False)
    phone.commands.clear()
    second = run(3, resume=True)
    assert second["samples_ms"][:2] == first["samples_ms"]
    assert sum("--iterations 5" in command for command in phone.commands) == 1
    assert phone.left_behind == []


def test_a_32_bit_phone_is_refused(attach: Attach, bundle_copy: Path) -> None:
    phone = attach("galaxy-s5-neo")
    with pytest.raises(DeviceError, match="ABI armeabi-v7a"):
        profile(bundle_copy, place=Place(phone.serial))
    assert phone.left_behind == []


@pytest.mark.slow
def test_verify_on_a_phone_that_fills_up(attach: Attach, kit: EmulatorKit, bundle_copy: Path) -> None:
    phone = attach(emulator=kit, faults=Faults(full_after_bytes=1_000_000))
    with pytest.raises(DeviceError, match="storage is full"):
        verify(bundle_copy, device=phone.serial)
    assert phone.left_behind == []
    assert not (bundle_copy / "verification.json").exists()


@pytest.mark.slow
def test_counts_are_the_same_in_every_run_and_nothing_is_a_latency(kit: EmulatorKit, bundle_copy: Path) -> None:
    place = Place(target="android-emulated")
    one, found = profile(bundle_copy, place=place, output=bundle_copy / "one.json")
    other, again = profile(bundle_copy, place=place, output=bundle_copy / "other.json")
    assert found["profiles"] == [] and found["costs"] == again["costs"]
    (cost,) = found["costs"]
    assert cost["tag"] == "emulated" and sum(cost["by_class"].values()) == cost["instructions"]
    macs = 64 * 512 + 512 * 256 + 256 * 10
    assert macs / 4 <= cost["by_class"]["vector_fma"] <= macs / 2, "four multiply-adds an instruction, some tails apart"
    assert "ms" not in json.dumps(found["costs"]) and "memory" not in json.dumps(found["costs"])
    assert compare(one, other)[0]["ratio"] == 1.0


def test_a_phone_that_is_not_here_is_estimated_and_says_so(bundle_copy: Path, tmp_path: Path) -> None:
    table = tmp_path / "figures.csv"
    done = CliRunner().invoke(app, ["profile", str(bundle_copy), "--target", "redmi-note-7", "--csv", str(table)])
    assert done.exit_code == 0, done.output
    assert "Estimated for redmi-note-7, not measured" in done.output and "nothing was measured" in done.output
    assert "extrapolated" in table.read_text(), "the digits are far from every anchor"
    bare = CliRunner().invoke(app, ["profile", str(bundle_copy), "--target", "pixel-8", "--json"])
    (found,) = json.loads(bare.stdout)["estimates"]
    assert found["latency_ms"] is None and found["relative_cost"] > 0
    assert json.loads(bare.stdout)["profiles"] == []


@pytest.mark.slow
def test_counts_and_their_comparison_as_a_person_sees_them(kit: EmulatorKit, bundle_copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    command = ["profile", str(bundle_copy), "--target", "android-emulated", "--output", str(file)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "Counted, not timed" in done.output and "latency p50" not in done.output
    record = json.loads(file.read_text())
    record["costs"][0]["instructions"] = int(record["costs"][0]["instructions"] * 1.1)
    worse = tmp_path / "worse.json"
    worse.write_text(json.dumps(record))
    assert CliRunner().invoke(app, ["compare", str(file), str(file), "--max-ratio", "1.0"]).exit_code == 0
    regressed = CliRunner().invoke(app, ["compare", str(file), str(worse), "--max-ratio", "1.02"])
    assert regressed.exit_code == 9 and "1.100 x what it was" in regressed.stderr
    host = CliRunner().invoke(app, ["profile", str(bundle_copy), "--device", "host", "--iterations", "3", "--quiet"])
    assert host.exit_code == 0
    assert CliRunner().invoke(app, ["compare", str(file), str(bundle_copy)]).exit_code == 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_on_the_way_nothing_stays_on_the_phone(
    attach: Attach, kit: EmulatorKit, bundle_copy: Path, number: signal.Signals, code: int
) -> None:
    phone = attach(emulator=kit, faults=Faults(hang_on="--iterations"))
    command = [
        sys.executable,
        "-m",
        "sctool",
        "profile",
        str(bundle_copy),
        "--device",
        phone.serial,
        "--cool-down",
        "0",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children would ignore it
    )  # fmt: skip
    end = time.monotonic() + 120
    while "ort_runner" not in phone.left_behind_in_full() or "input.f32" not in phone.left_behind_in_full():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in stderr
    assert phone.left_behind == []
    assert not (bundle_copy / "profile.json").exists()


def test_a_damaged_model_is_the_artifacts_fault(kit: EmulatorKit, made_run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes((made_run / "bundles/android/model.onnx").read_bytes()[:5000])
    with on_device("emulated") as session, pytest.raises(ArtifactError, match="Cannot run model"):
        DeviceArtifact(session, broken).run(np.zeros((1, 64), np.float32))


def test_a_trace_of_the_layers_and_steady_clocks(
    attach: Attach, kit: EmulatorKit, bundle_copy: Path, tmp_path: Path
) -> None:
    phone = attach(emulator=kit)
    settings: dict[str, Any] = {"repeats": 1, "iterations": 2, "warm_up": 1}
    with pytest.raises(DeviceError, match="no fixed-performance mode"):
        profile(bundle_copy, place=Place(phone.serial, fixed_performance=True), **settings)
    (phone.root / "bin/cmd").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/modes\n')
    place = Place(phone.serial, fixed_performance=True, cool_down_s=0.0, trace=tmp_path / "traces")
    _, found = profile(bundle_copy, place=place, **settings)
    assert found["profiles"][0]["fixed_performance"] is True
    modes = (tmp_path / "modes").read_text().split()
    assert [mode for mode in modes if mode in ("true", "false")] == ["true", "false"]
    events = json.loads((tmp_path / "traces/model.onnx.trace.json").read_text())
    assert any("kernel_time" in event["name"] and event["ph"] == "X" for event in events)
    assert phone.left_behind == []
