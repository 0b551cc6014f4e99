"""The main job on the digits: what it writes, that it writes the same again, and what it does when things go wrong."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.conftest import SHORT
from typer.testing import CliRunner, Result

from sctool.cli.app import app
from sctool.domain.config import validate_config
from sctool.workflows.compress import compress
from sctool.workflows.export import export
from sctool.workflows.run_directory import MASKS, MODEL, read_run, read_tensors


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def digest(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_the_run_holds_what_it_promises(made_run: Path) -> None:
    run = read_run(made_run)
    weights, masks = read_tensors(made_run / MODEL), read_tensors(made_run / MASKS)
    kept = sum(int(mask.sum()) for mask in masks.values())
    size = sum(mask.numel() for mask in masks.values())
    assert kept == round(0.1 * size)
    for name, mask in masks.items():
        assert not bool(weights[name][~mask.bool()].any())
    assert len(run.candidates) == 4
    for index in range(2):
        tried = [c for c in run.candidates if c["round"] == index]
        chosen = [c for c in tried if c["selected"]]
        assert len(chosen) == 1 and chosen[0]["tm_score"] == max(c["tm_score"] for c in tried)
        for c in tried:
            assert c["tm_score"] == pytest.approx(c["task_accuracy"] / max(c["attack_accuracy"], 0.5))
            assert c["nnz"] == kept
    winner = next(c["name"] for c in run.candidates if c["selected"] and c["round"] == 0)
    assert {c["parent"] for c in run.candidates if c["round"] == 1} == {winner}
    for model in ("dense", "sparse"):
        assert run.summary[model]["test_accuracy"] > 0.85  # chance is 0.1


def test_same_seed_same_bytes_in_another_process(made_run: Path, tmp_path: Path) -> None:
    """Weights, masks, split and bundle, byte for byte."""
    config = tmp_path / "c.toml"
    config.write_text("[compress]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in SHORT.items()))
    again = tmp_path / "again"
    for arguments in (["compress", str(config), "-o", str(again)], ["export", str(again)]):
        done = subprocess.run([sys.executable, "-m", "sctool", *arguments, "-q"], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    names = ["model.safetensors", "masks.safetensors", "dense.safetensors", "split.safetensors", "config.json"]
    assert digest(made_run, names) == digest(again, names)
    bundle = ["model.onnx", "model.pte", "model.spte", "manifest.json", "MODEL_CARD.md", "sbom.cdx.json"]
    assert digest(made_run / "bundles/android", bundle) == digest(again / "bundles/android", bundle)


def test_other_seed_other_weights(made_run: Path, tmp_path: Path) -> None:
    compress(validate_config({"compress": {**SHORT, "seed": 1}}, where="test"), tmp_path / "run")
    assert digest(made_run, [MODEL]) != digest(tmp_path / "run", [MODEL])


def test_the_manifest_tells_the_truth(made_run: Path) -> None:
    bundle = made_run / "bundles" / "android"
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        content = (bundle / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["size_bytes"], entry["sha256"])
    model = onnx.load(bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [v.name for v in model.graph.input] == [manifest["input"]["name"]]
    assert [v.name for v in model.graph.output] == [manifest["output"]["name"]]
    text = (bundle / "model.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in text and b"site-packages" not in text
    sizes = manifest["sizes"]
    assert sizes["onnx_bytes"] == len(text) < 0.2 * sizes["dense_onnx_bytes"]
    assert all(parity["records"] >= 256 for parity in manifest["parity"].values())
    masks = read_tensors(made_run / MASKS)
    by_size = sorted(layer["nnz"] for layer in manifest["layers"] if len(layer["shape"]) > 1)
    assert by_size == sorted(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("target", ["linux-arm64", "host", "ios"])
def test_other_targets(run_copy: Path, target: str) -> None:
    folder, manifest = export(run_copy, target=target)
    assert manifest["target"] == target and folder.name == target


def test_verify_passes_and_shows_every_column(bundle_copy: Path) -> None:
    done = call("verify", bundle_copy, "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert [column["kind"] for column in record["columns"]] == ["dense", "sparse", "artifact", "artifact", "artifact"]
    for column in record["columns"]:
        for attack in column["attacks"]:
            assert attack["auc"]["low"] <= attack["auc"]["value"] <= attack["auc"]["high"]
            assert attack["members"] == attack["non_members"] > 200
    written = json.loads((bundle_copy / "verification.json").read_text())
    assert written["verdict"] == "pass"


def test_verify_without_the_run_judges_the_artifacts_alone(bundle_copy: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    bundle_copy.rename(alone)
    record = json.loads(call("verify", alone, "--json").stdout)
    assert [column["kind"] for column in record["columns"]] == ["artifact", "artifact", "artifact"]
    with_run = json.loads(call("verify", alone, "--run", tmp_path / "run", "--json").stdout)
    assert with_run["columns"][2]["attacks"] == record["columns"][0]["attacks"]


def test_a_gate_under_the_figures_is_a_leak(bundle_copy: Path) -> None:
    done = call("verify", bundle_copy, "--max-auc", "0.01")
    assert done.exit_code == 7
    assert "over the limit of 0.01" in done.stderr and "verdict: LEAK" in done.stdout
    as_json = call("verify", bundle_copy, "--max-auc", "0.01", "--json")
    assert as_json.exit_code == 7 and json.loads(as_json.stdout)["verdict"] == "leak"


NOISY = """
import numpy as np
from sklearn.datasets import load_digits

def load():
    bunch = load_digits()
    rng = np.random.default_rng(0)
    y = bunch.target.copy()
    wrong = rng.random(len(y)) < 0.4
    y[wrong] = rng.integers(0, 10, wrong.sum())
    return bunch.data / 16.0, y
"""


def test_an_overfitted_dense_model_fails_the_default_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two labels in five are noise, so a dense model that fits them all has learnt them by heart."""
    (tmp_path / "noisy_digits.py").write_text(NOISY)
    monkeypatch.chdir(tmp_path)
    settings = {
        "data": {"source": "noisy_digits:load"},
        "compress": {**SHORT, "density": 1.0, "warm_up_steps": 2500, "weight_decay": 0.0},
    }
    compress(validate_config(settings, where="test"), tmp_path / "run")
    assert read_run(tmp_path / "run").summary["sparse"]["train_accuracy"] > 0.99
    bundle, _ = export(tmp_path / "run")
    done = call("verify", bundle)
    assert done.exit_code == 7, done.output
    assert "LEAK: model.onnx" in done.stdout and "LEAK: model.pte" in done.stdout
    record = json.loads((bundle / "verification.json").read_text())
    assert record["verdict"] == "leak"
    for column in record["columns"][2:]:
        assert column["attacks"][0]["auc"]["low"] > 0.6


def test_profile_measures_in_processes_of_their_own(bundle_copy: Path) -> None:
    done = call("profile", bundle_copy, "--repeats", 2, "--iterations", 20, "--warm-up", 2, "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert [p["artifact"] for p in record["profiles"]] == ["model.onnx", "model.pte", "model.spte"]
    for p in record["profiles"]:
        assert p["measured_on"] == "host" and p["threads"] == 1 and p["machine"]
        assert np.array(p["samples_ms"]).shape == (2, 20)
        assert 0 < p["latency_ms"]["p50"] <= p["latency_ms"]["p90"] <= p["latency_ms"]["p99"]
        assert p["peak_memory_mib"] > p["baseline_memory_mib"] > 0


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    path.unlink()
    if how != "missing":
        path.write_bytes(bytes(content[: len(content) // 2] if how == "truncated" else content))


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize("name", ["model.safetensors", "masks.safetensors", "split.safetensors", "config.json",
                                  "candidates.jsonl"])  # fmt: skip
def test_a_damaged_run_is_refused(run_copy: Path, name: str, how: str) -> None:
    spoil(run_copy / name, how)
    done = call("export", run_copy, "--overwrite")
    assert done.exit_code == 8 and name in done.stderr, done.output


@pytest.mark.parametrize("command", ["verify", "profile"])
@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize("name", ["model.onnx", "model.pte", "model.spte"])
def test_a_damaged_bundle_is_refused(bundle_copy: Path, name: str, how: str, command: str) -> None:
    spoil(bundle_copy / name, how)
    done = call(command, bundle_copy)
    assert done.exit_code == 8 and name in done.stderr, done.output


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"schema_version": 1}', '{"files": {"../../etc/passwd": {}}}', "[" * 100_000]
)
def test_a_damaged_manifest_is_refused(bundle_copy: Path, content: str) -> None:
    (bundle_copy / "manifest.json").write_text(content)
    done = call("verify", bundle_copy)
    assert done.exit_code == 8 and "manifest.json" in done.stderr, done.output


def test_a_file_outside_the_bundle_is_refused(bundle_copy: Path) -> None:
    path = bundle_copy / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text())
    manifest["files"]["../model.onnx"] = manifest["files"].pop("model.onnx")
    path.write_text(json.dumps(manifest))
    assert call("verify", bundle_copy).exit_code == 8


def test_existing_outputs_are_refused_and_kept(run_copy: Path) -> None:
    before = digest(run_copy, [MODEL])
    done = call("compress", "-o", run_copy)
    assert done.exit_code == 12 and "--overwrite" in done.stderr
    assert call("export", run_copy).exit_code == 12
    call("report", run_copy)
    assert call("report", run_copy).exit_code == 12
    assert digest(run_copy, [MODEL]) == before


def test_parity_is_a_gate(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that loses one weight is caught on what was written, and nothing is left behind."""
    from sctool.export.codecs.values.exact import Exact

    real = Exact.add_lift

    def lossy(self: Exact, scope: Any, codes: Any, shape: Any, quantised: Any) -> str:
        spoilt = codes.copy()
        spoilt[np.abs(spoilt).argmax()] = 0
        return real(self, scope, spoilt, shape, quantised)

    monkeypatch.setattr(Exact, "add_lift", lossy)
    done = call("export", run_copy, "-o", run_copy / "lossy")
    assert done.exit_code == 6 and "lost parity" in done.stderr, done.output
    assert not (run_copy / "lossy").exists() and not list(run_copy.glob(".lossy*"))


def test_the_whole_way_in_one_go(tmp_path: Path) -> None:
    settings = [f"compress.{key}={json.dumps(value)}" for key, value in SHORT.items()]
    arguments = [part for setting in settings for part in ("--set", setting)]
    done = call("run", *arguments, "-o", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["verification"]["verdict"] == "pass"
    assert Path(record["report"]).read_text().startswith("<!doctype html>")
