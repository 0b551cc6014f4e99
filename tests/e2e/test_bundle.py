"""A signed bundle in every precision: the same bytes again, refused when touched, shown by inspect."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from minisign import KeyPair
from tests.conftest import SHORT
from typer.testing import CliRunner, Result

from sctool.cli.app import app
from sctool.domain.config import validate_config
from sctool.export.model_card import NOT_VERIFIED
from sctool.workflows.compress import compress
from sctool.workflows.export import export

FILES = {f"model{precision}.{suffix}" for precision in ("", ".float16", ".int8") for suffix in ("pte", "spte")}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signing key k.key, its k.pub, and other.pub of another key."""
    folder = tmp_path_factory.mktemp("keys")
    pair = KeyPair.generate()
    (folder / "k.pub").write_bytes(bytes(pair.public_key))
    (folder / "other.pub").write_bytes(bytes(KeyPair.generate().public_key))
    pair.secret_key.encrypt("swordfish", opslimit=2**15, memlimit=2**24)
    (folder / "k.key").write_bytes(bytes(pair.secret_key))
    return folder


@pytest.fixture(scope="module")
def signed(made_run: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a signed bundle."""
    copy = tmp_path_factory.mktemp("signed") / "run"
    shutil.copytree(made_run, copy)
    command = [sys.executable, "-m", "sctool", "export", str(copy), "--overwrite", "--sign", str(keys / "k.key")]
    without = {key: value for key, value in os.environ.items() if key != "SCTOOL_KEY_PASSWORD"}
    refused = subprocess.run(command, capture_output=True, text=True, env=without, stdin=subprocess.DEVNULL)
    assert refused.returncode == 3 and "is encrypted" in refused.stderr and "SCTOOL_KEY_PASSWORD" in refused.stderr
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "SCTOOL_KEY_PASSWORD": "swordfish"}
    )
    assert done.returncode == 0, done.stderr
    return copy


def test_only_the_bundle_that_was_signed_is_verified(signed: Path, keys: Path, made_run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(signed / "bundles" / "android", bundle)
    assert NOT_VERIFIED in (bundle / "MODEL_CARD.md").read_text()
    done = call("verify", bundle, "--signed-by", keys / "k.pub", "--attacks", "confidence", "--json")
    assert done.exit_code == 0, done.output
    card = (bundle / "MODEL_CARD.md").read_text()
    assert NOT_VERIFIED not in card and "model.spte (ExecuTorch)" in card and "**pass**" in card
    again = call(
        "verify", bundle, "--signed-by", keys / "k.pub", "--attacks", "confidence", "--output", tmp_path / "v.json"
    )
    assert again.exit_code == 0, again.output  # the card that verify wrote is no damage
    for key, words in ((keys / "other.pub", "is not the signature of"), (keys / "absent", "Cannot read the key")):
        refused = call("verify", bundle, "--signed-by", key)
        assert refused.exit_code in (3, 8) and words in refused.stderr
    unsigned = call("verify", made_run / "bundles" / "android", "--signed-by", keys / "k.pub")
    assert unsigned.exit_code == 8 and "is not signed" in unsigned.stderr
    single = call("verify", bundle / "model.spte", "--run", signed, "--signed-by", keys / "k.pub")
    assert single.exit_code == 3 and "only bundles are signed" in single.stderr
    for name, words in (("manifest.json", "is not the signature of"), ("sbom.cdx.json", "damaged or altered"),
                        ("android/SctoolModel.kt", "damaged or altered")):  # fmt: skip
        content = (bundle / name).read_bytes()
        (bundle / name).write_bytes(content.replace(b"i", b"j", 1))
        refused = call("verify", bundle, "--signed-by", keys / "k.pub")
        assert refused.exit_code == 8 and words in refused.stderr, name
        (bundle / name).write_bytes(content)


def test_inspect_tells_what_a_bundle_holds(signed: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(signed / "bundles" / "android", bundle)
    done = call("inspect", bundle, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [Path(file["path"]).name for file in found["files"]] == list(manifest["files"])
    kept = sum(layer["nnz"] for layer in manifest["layers"])
    for file in found["files"]:
        assert sum(layer["nnz"] for layer in file["layers"]) == kept
        entry = manifest["files"][Path(file["path"]).name]
        assert file["size_bytes"] == entry["size_bytes"]
        assert {(item["rule"]["stores"], item["rule"]["computes"]) for item in file["runtimes"]} >= {
            (entry["stores"], entry["computes"])
        }
    assert any("matches its hash" in note for note in found["notes"])
    shown = call("inspect", bundle).stdout
    assert "stored sparse, computed dense because" in shown and "signed" in shown
    (bundle / "model.pte").write_bytes(b"spoilt")
    altered = json.loads(call("inspect", bundle, "--json").stdout)
    assert any("DAMAGED OR ALTERED" in note for note in altered["notes"]) and len(altered["files"]) == 2
    assert call("inspect", bundle / "model.pte").exit_code == 8
    assert call("inspect").exit_code == 3


@pytest.mark.slow
def test_every_precision_ships_and_is_the_same_again(tmp_path: Path) -> None:
    """In this process and in another one; attacked and measured like every file."""
    settings = {"compress": SHORT, "export": {"precisions": ["float32", "float16", "int8"]}}
    compress(validate_config(settings, where="test"), tmp_path / "run")
    bundle, manifest = export(tmp_path / "run", output=tmp_path / "bundle")
    command = [sys.executable, "-m", "sctool", "export", str(tmp_path / "run"), "-o", str(tmp_path / "again"), "-q"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert read_all(bundle) == read_all(tmp_path / "again")
    assert set(manifest["files"]) - {"model.onnx"} >= FILES
    sizes = manifest["sizes"]
    assert sizes["float16_pte_bytes"] < 0.6 * sizes["pte_bytes"] and sizes["int8_pte_bytes"] < 0.35 * sizes["pte_bytes"]
    assert sizes["spte_bytes"] < sizes["gzip_dense_onnx_bytes"] < sizes["pte_bytes"]
    assert sizes["int8_spte_bytes"] < sizes["float16_spte_bytes"] < sizes["spte_bytes"]
    for suffix in ("", ".float16", ".int8"):  # a package holds the program beside it
        assert manifest["parity"][f"model{suffix}.spte"] == manifest["parity"][f"model{suffix}.pte"]
    done = call("verify", bundle, "--run", tmp_path / "run", "--attacks", "confidence", "--json")
    assert done.exit_code == 0, done.output
    names = [column["name"] for column in json.loads(done.stdout)["columns"]]
    assert {f"{name} (ExecuTorch)" for name in FILES} <= set(names)
    done = call("profile", bundle, "--repeats", 1, "--iterations", 3, "--warm-up", 1, "--json")
    assert done.exit_code == 0, done.output
    assert {p["artifact"] for p in json.loads(done.stdout)["profiles"]} >= FILES
