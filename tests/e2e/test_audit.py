"""The whole audit: shadow models that are trained once, a leak that only they see, and verdicts that hold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from tests.conftest import SHORT

from sctool.data.recipe import load_recipe
from sctool.data.source import load_dataset
from sctool.domain.config import validate_config
from sctool.errors import ConfigError, DataError
from sctool.safety.registry import ATTACKS
from sctool.workflows.compress import compress
from sctool.workflows.export import export
from sctool.workflows.judge import Gates
from sctool.workflows.run_directory import read_run, read_split
from sctool.workflows.shadows import FOLDER, train_shadows
from sctool.workflows.verify import Audit, verify


@pytest.mark.slow
def test_all_attacks_run_on_all_columns(bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mock(wraps=load_recipe)
    monkeypatch.setattr("sctool.data.source.load_recipe", read)
    _, found = verify(bundle_copy, audit=Audit(("all",), 4), output=tmp_path / "v.json")
    columns = {column["kind"]: {each["attack"] for each in column["attacks"]} for column in found["columns"]}
    assert columns["sparse"] == columns["dense"] == set(ATTACKS)
    assert columns["artifact"] == set(ATTACKS) - {"white_box"}
    assert set(found["threat_models"]) == set(ATTACKS)
    assert found["shadows"]["count"] == 4 and found["shadows"]["population"] > 100
    for column in found["columns"]:
        exposure = column["exposure"]
        assert len(exposure["records"]) == 10 and len(exposure["by_class"]) == 10
    assert read.call_count == 1
    again = verify(bundle_copy, audit=Audit(("rmia",), 4), output=tmp_path / "w.json")[1]
    assert [each["attack"] for each in again["columns"][0]["attacks"]] == ["rmia"]


@pytest.mark.slow
def test_shadow_models_are_trained_once_and_the_same_side_by_side(run_copy: Path, tmp_path: Path) -> None:
    run = read_run(run_copy)
    first = train_shadows(run, 4, queries=2)["sparse"]
    files = sorted((run_copy / FOLDER).glob("*/*.npz"))
    stamps = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 4
    again = train_shadows(run, 4, queries=2)["sparse"]
    np.testing.assert_array_equal(first.margins, again.margins)
    assert stamps == [file.stat().st_mtime_ns for file in files]
    shutil.rmtree(run_copy / FOLDER)
    np.testing.assert_array_equal(first.margins, train_shadows(run, 4, queries=2, jobs=2)["sparse"].margins)
    members = first.margins[:, :, 0][first.is_in].mean()
    assert members > first.margins[:, :, 0][~first.is_in].mean()


@pytest.mark.slow
def test_a_search_of_its_own_for_each_shadow_model(run_copy: Path) -> None:
    found = train_shadows(read_run(run_copy), 4, way="search")["sparse"]
    assert np.isfinite(found.margins).all()


@pytest.mark.slow
def test_shadow_training_goes_on_after_kill(run_copy: Path) -> None:
    command = [sys.executable, "-m", "sctool", "verify", str(run_copy / "bundles" / "android"), "--shadows", "6", "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment) as process:
        deadline = time.monotonic() + 120
        while not list((run_copy / FOLDER).glob("*/*.npz")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    done = {file: file.stat().st_mtime_ns for file in (run_copy / FOLDER).glob("*/*.npz")}
    assert 0 < len(done) < 6
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode in (0, 7), finished.stderr
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in done.items())
    assert len(list((run_copy / FOLDER).glob("*/*.npz"))) == 6


@pytest.mark.slow
def test_shadow_models_answer_as_a_file_of_eight_bits_does(tmp_path: Path) -> None:
    precisions = {"export": {"precisions": ["float32", "int8"]}}
    compress(validate_config({"compress": SHORT, **precisions}, where="test"), tmp_path / "run")
    bundle, _ = export(tmp_path / "run")
    _, found = verify(bundle, audit=Audit(("lira_online",), 4))
    auc = {column["name"]: column["attacks"][0]["auc"]["value"] for column in found["columns"]}
    assert {"model.int8.onnx (ONNX Runtime)", "model.int8.pte (ExecuTorch)"} <= set(auc)
    answers = train_shadows(read_run(tmp_path / "run"), 4, kinds=("sparse", "sparse:int8"))
    exact, rounded = answers["sparse"].margins, answers["sparse:int8"].margins
    assert 1e-4 < float(np.abs(exact - rounded).mean()) < 0.2 * float(exact.std())


def write_records(path: Path, seed: int) -> None:
    """3,000 noisy records of 5 classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(3000) % 5
    x = rng.normal(size=(3000, 60)).astype(np.float32)
    x[np.arange(3000), y] += 1.0
    np.savez(path, x=x, y=y)


@pytest.mark.slow
def test_an_overfitted_model_fails_the_default_gates_and_a_stranger_passes(tmp_path: Path) -> None:
    """The stranger is the very same model, asked about other records from the same source: none is a member of it."""
    data = tmp_path / "data.npz"
    write_records(data, 0)
    tree = {
        "compress": {**SHORT, "density": 0.9, "warm_up_steps": 400}, "data": {"source": str(data)},
        "model": {"options": {"hidden": [256, 128]}}, "verify": {"attack_seeds": 1},
    }  # fmt: skip
    compress(validate_config(tree, where="test"), tmp_path / "run")
    bundle, _ = export(tmp_path / "run")
    _, found = verify(bundle)
    assert found["verdict"] == "leak" and "over the limit" in found["failures"][0]
    write_records(data, 1)
    _, innocent = verify(bundle)
    assert innocent["verdict"] == "pass", innocent["failures"]


@pytest.mark.slow
def test_a_class_learnt_by_heart_is_caught_where_all_records_together_pass(tmp_path: Path) -> None:
    """16 classes, of which 14 are told apart with ease and the labels of the last two are the toss of a coin."""
    rng = np.random.default_rng(0)
    y = np.arange(6400) % 16
    x = rng.normal(size=(6400, 60)).astype(np.float32)
    x[np.arange(6400), np.minimum(y, 14)] += 8.0
    np.savez(tmp_path / "data.npz", x=x, y=y)
    tree = {
        "compress": {**SHORT, "density": 0.9, "warm_up_steps": 900}, "model": {"options": {"hidden": [256, 128]}},
        "data": {"source": str(tmp_path / "data.npz")}, "safety": {"audit_attacks": ["loss", "modified_entropy"]},
    }  # fmt: skip
    compress(validate_config(tree, where="test"), tmp_path / "run")
    bundle, _ = export(tmp_path / "run")
    _, found = verify(bundle)
    assert found["verdict"] == "leak"
    assert all("within class 14" in text or "within class 15" in text for text in found["failures"])
    assert verify(bundle, gates=Gates(max_class_auc=1.0))[1]["verdict"] == "pass"


@pytest.mark.slow
def test_the_dense_baseline_is_a_bundle_too(run_copy: Path) -> None:
    done = call("export", run_copy, "--dense", "--json", cwd=run_copy)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["model"] == "dense" and made["density"] == 1.0 and made["files"]["model.onnx"]["codec"] == "dense"
    assert "computed dense" in made["files"]["model.onnx"]["note"] and "stored sparse" not in str(made["files"])
    _, found = verify(Path(made["bundle"]), audit=Audit(("lira_online", "white_box"), 4))
    columns = {column["name"]: column for column in found["columns"]}
    files = [columns["model.onnx (ONNX Runtime)"], columns["model.pte (ExecuTorch)"]]
    for column in files:
        assert column["parity"]["max_abs_error"] < 1e-4
        [attack] = column["attacks"]
        dense, sparse = (
            next(a for a in columns[f"{name} (eager)"]["attacks"] if a["attack"] == "lira_online")
            for name in ("dense", "sparse")
        )
        assert attack["auc"]["value"] == pytest.approx(dense["auc"]["value"], abs=1e-3)
        assert attack["auc"]["value"] != pytest.approx(sparse["auc"]["value"], abs=1e-3)
    assert call("report", run_copy, cwd=run_copy).returncode == 0


def test_what_cannot_be_done_is_said(bundle_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'rmia' needs"):
        verify(bundle_copy, audit=Audit(("rmia",)), output=tmp_path / "v.json")
    with pytest.raises(DataError, match="an even number from 4"):
        verify(bundle_copy, audit=Audit((), 3), output=tmp_path / "v.json")
    with pytest.raises(ConfigError, match="Unknown attack 'rmiaa'"):
        verify(bundle_copy, audit=Audit(("rmiaa",)), output=tmp_path / "v.json")
    alone = tmp_path / "alone"
    shutil.copytree(bundle_copy, alone)
    with pytest.raises(ConfigError, match="--run"):
        verify(alone, audit=Audit((), 4), output=tmp_path / "v.json")
    assert not (tmp_path / "v.json").exists()
    assert json.loads((bundle_copy / "manifest.json").read_text())


@pytest.mark.slow
def test_the_level_of_optimisation_is_what_is_deployed(made_run: Path, tmp_path: Path) -> None:
    """The same attacks on the same file: no level moves the leak by more than rounding."""
    found = {}
    for level in ("none", "all"):
        done = call("verify", made_run / "bundles" / "android" / "model.onnx", "--run", made_run, "--optimisation", level,
                    "--attacks", "loss", "--json", "--output", tmp_path / f"{level}.json", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        record = json.loads(done.stdout)
        assert record["optimisation"] == level
        found[level] = record["columns"][-1]
    assert found["none"]["parity"]["max_abs_error"] < 1e-4
    assert found["none"]["attacks"][0]["auc"] == pytest.approx(found["all"]["attacks"][0]["auc"], abs=1e-3)
    done = call("verify", made_run / "bundles" / "android", "--optimisation", "most", cwd=tmp_path)
    assert done.returncode == 3 and "'most'" in done.stderr and "extended" in done.stderr


def call(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sctool", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_an_application_is_verified_like_its_bundle(made_run: Path, tmp_path: Path) -> None:
    bundle = made_run / "bundles" / "android"
    with zipfile.ZipFile(tmp_path / "app.apk", "w") as app:
        for name in ("model.onnx", "model.pte", "model.spte"):
            app.write(bundle / name, f"assets/{name}")
        app.writestr("assets/other.tflite", b"?")
    done = call("verify", tmp_path / "app.apk", "--run", made_run, "--junit", "v.xml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    _, direct = verify(bundle, output=tmp_path / "direct.json")
    assert [column["kind"] for column in found["columns"]] == ["dense", "sparse", *["artifact"] * 3]
    for one, other in zip(found["columns"], direct["columns"], strict=True):
        assert [each["auc"] for each in one["attacks"]] == [each["auc"] for each in other["attacks"]]
    assert any("other.tflite was NOT verified" in note for note in found["notes"])
    assert set(found["artifacts"]) == {"assets/model.onnx", "assets/model.pte", "assets/model.spte"}
    assert (tmp_path / "app.apk.verification.json").is_file() and "<testsuites" in (tmp_path / "v.xml").read_text()
    again = call("verify", tmp_path / "app.apk", "--run", made_run, "--baseline", "direct.json", "-q", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_bundle_that_carries_training_records_leaks(bundle_copy: Path, tmp_path: Path) -> None:
    run = read_run(bundle_copy.parents[1])
    data, split = load_dataset("digits"), read_split(run)
    _, clean = verify(bundle_copy, output=tmp_path / "clean.json")
    assert clean["carried_records"]["found"] == [] and clean["carried_records"]["records"] == len(split["train"])
    member, stranger = int(split["train"][5]), int(split["test"][5])
    (bundle_copy / "assets").mkdir()
    (bundle_copy / "assets" / "warm_up.bin").write_bytes(b"\0" * 33 + data.x[[stranger, member]].tobytes())
    _, found = verify(bundle_copy, output=tmp_path / "v.json")
    assert found["verdict"] == "leak"
    assert f"assets/warm_up.bin carries training record {member} (float32, byte 289)" in found["failures"][0]
    assert [hit["record"] for hit in found["carried_records"]["found"]] == [member]


ANSWERING = """
import numpy as np

def answer(batch):
    rng = np.random.default_rng(int(abs(batch).sum() * 1000) % 2**32)
    return rng.normal(size=(len(batch), 10))

def half(batch):
    return np.zeros((len(batch) // 2, 10))

def few(batch):
    return np.zeros((len(batch), 3))

def broken(batch):
    raise RuntimeError("no network")
"""


@pytest.mark.slow
def test_a_callable_is_verified_and_its_faults_are_told(made_run: Path, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(ANSWERING)
    (tmp_path / "data.toml").write_text("[data]\nsource = 'digits'\n")
    done = call("verify", "served:answer", "--config", "data.toml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["columns"][0]["name"] == "served:answer"
    for name, words in (
        ("half", "answered [128, 10] for [256, 64]"), ("few", "answers [2, 3] for 2 records"),
        ("broken", "RuntimeError: no network"),
    ):  # fmt: skip
        done = call("verify", f"served:{name}", "--run", made_run, "-q", cwd=tmp_path)
        assert done.returncode == 8 and "Traceback" not in done.stderr
        assert words in done.stderr or (name == "half" and "answered [1, 10] for [2, 64]" in done.stderr)
    done = call("verify", "served:answer", cwd=tmp_path)
    assert done.returncode == 3 and "--config" in done.stderr
    done = call("verify", tmp_path / "served.py", "--run", made_run, cwd=tmp_path)
    assert done.returncode == 8 and "nothing that can be verified" in done.stderr


@pytest.mark.slow
def test_canaries_bound_epsilon_on_the_exported_bytes(tmp_path: Path) -> None:
    """A model that learns its records by heart gives itself away; one that was hardly trained does not."""
    write_records(tmp_path / "data.npz", 0)
    tree = {
        "data": {"source": str(tmp_path / "data.npz")}, "model": {"options": {"hidden": [256, 128]}},
        "compress": {**SHORT, "canaries": 150, "density": 0.9, "warm_up_steps": 1200},
    }  # fmt: skip
    compress(validate_config(tree, where="test"), tmp_path / "heart")
    short = {**tree["compress"], "warm_up_steps": 1, "steps_per_round": 1, "final_steps": 1}
    compress(validate_config({**tree, "compress": short}, where="test"), tmp_path / "hardly")
    bounds = {}
    for name in ("heart", "hardly"):
        bundle, _ = export(tmp_path / name)
        _, found = verify(bundle)
        columns = {column["kind"]: column["one_run"] for column in found["columns"]}
        assert columns["dense"] is None and columns["artifact"]["canaries"] == 150
        assert columns["artifact"]["epsilon"] == columns["sparse"]["epsilon"]
        bounds[name] = columns["artifact"]["epsilon"]
    assert bounds["heart"] > 1 > bounds["hardly"] and bounds["hardly"] == 0
