"""What lies beside the models in a bundle: signature, bill of materials, model card, the manifest's schema."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minisign import KeyPair

from sctool.errors import ArtifactError, ConfigError
from sctool.export.manifest import FILE as MANIFEST
from sctool.export.manifest import Manifest, read_manifest, write_manifest
from sctool.export.model_card import NOT_VERIFIED, render_model_card
from sctool.export.sbom import render_sbom
from sctool.export.signature import FILE as SIGNATURE
from sctool.export.signature import check_signature, read_signing_key
from sctool.workflows.inspect import manifest_schema

ROOT = Path(__file__).resolve().parents[3]
SEED = ROOT / "fuzz" / "corpus" / "manifest"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with a manifest."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_manifest(folder, read_manifest(SEED))
    return folder


def make_keys(folder: Path, password: str = "") -> tuple[Path, Path]:
    pair = KeyPair.generate()
    if password:
        pair.secret_key.encrypt(password)
    (folder / "k.key").write_bytes(bytes(pair.secret_key))
    (folder / "k.pub").write_bytes(bytes(pair.public_key))
    return folder / "k.key", folder / "k.pub"


def never() -> str:
    raise AssertionError("no password is needed")


def sign(bundle: Path, key: Path) -> bytes:
    read_signing_key(key, never).sign(bundle, read_manifest(bundle))
    return (bundle / SIGNATURE).read_bytes()


def test_a_signature_is_repeatable_and_holds(bundle: Path, tmp_path: Path) -> None:
    key, public = make_keys(tmp_path)
    assert sign(bundle, key) == sign(bundle, key)
    assert check_signature(bundle, public).startswith("sctool bundle for ")


def test_minisign_itself_agrees(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("minisign") is None:
        pytest.skip("no minisign on this machine")
    key, public = tmp_path / "m.key", tmp_path / "m.pub"
    made = subprocess.run(["minisign", "-G", "-W", "-f", "-s", str(key), "-p", str(public)], capture_output=True)
    if made.returncode:
        pytest.skip("this minisign makes no key without a password")
    sign(bundle, key)
    check = ["minisign", "-Vm", str(bundle / MANIFEST), "-p", str(public)]
    assert subprocess.run(check, capture_output=True).returncode == 0
    subprocess.run(["minisign", "-S", "-s", str(key), "-m", str(bundle / MANIFEST)], check=True, capture_output=True)
    check_signature(bundle, public)


def test_an_encrypted_key_wants_its_password(bundle: Path, tmp_path: Path) -> None:
    key, public = make_keys(tmp_path, "open sesame")
    read_signing_key(key, lambda: "open sesame").sign(bundle, read_manifest(bundle))
    check_signature(bundle, public)
    with pytest.raises(ConfigError, match="password is wrong"):
        read_signing_key(key, lambda: "sesame")


def test_what_is_unsigned_altered_or_anothers_is_refused(bundle: Path, tmp_path: Path) -> None:
    key, public = make_keys(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = make_keys(tmp_path / "other")
    with pytest.raises(ArtifactError, match="is not signed"):
        check_signature(bundle, public)
    signature = sign(bundle, key)
    with pytest.raises(ArtifactError, match="is not the signature of"):
        check_signature(bundle, other)
    (bundle / SIGNATURE).write_bytes(signature.replace(b"sctool bundle", b"sctool Bundle"))
    with pytest.raises(ArtifactError, match="is not the signature of"):
        check_signature(bundle, public)
    (bundle / SIGNATURE).write_bytes(signature)
    (bundle / MANIFEST).write_text((bundle / MANIFEST).read_text().replace('"android"', '"Android"'))
    with pytest.raises(ArtifactError, match="is not the signature of"):
        check_signature(bundle, public)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_signatures_and_keys_are_told(bundle: Path, tmp_path: Path, data: st.DataObject) -> None:
    key, public = make_keys(tmp_path)
    sign(bundle, key)
    name = data.draw(st.sampled_from([SIGNATURE, "k.pub", "k.key"]))
    path = bundle / name if name == SIGNATURE else tmp_path / name
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    try:
        if name == "k.key":
            read_signing_key(key, lambda: "guess")
        else:
            check_signature(bundle, public)
    except (ArtifactError, ConfigError) as error:
        assert error.exit_code in (3, 8)


def test_keys_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the key"):
        read_signing_key(tmp_path / "absent", never)
    (tmp_path / "large").write_bytes(b"x" * 10_000)
    with pytest.raises(ConfigError, match="is no secret key"):
        read_signing_key(tmp_path / "large", never)
    with pytest.raises(ConfigError, match="Cannot read the key"):
        check_signature(tmp_path, tmp_path / "absent")


def test_the_bill_of_materials_is_valid_and_repeatable() -> None:
    manifest = read_manifest(SEED)
    text = render_sbom(manifest)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert text == render_sbom(read_manifest(SEED))
    bom = json.loads(text)
    hashes = {part["name"]: part["hashes"][0]["content"] for part in bom["components"] if "hashes" in part}
    assert hashes == {name: entry.sha256 for name, entry in manifest.files.items()}
    assert {part["purl"] for part in bom["components"] if "purl" in part} >= {"pkg:pypi/torch@" + v.replace("+", "%2B")
        for n, v in manifest.tool_versions.items() if n == "torch"}  # fmt: skip
    assert "timestamp" not in bom["metadata"]


def make_verification() -> dict[str, object]:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    attacks = [
        {"attack": name, "auc": interval(auc), "balanced_accuracy": interval(auc - 0.01), "tpr_at_fpr": {"0.01": None}}
        for name, auc in (("confidence", 0.55), ("modified_entropy", 0.61))
    ]
    return {
        "sctool": "0.1.0", "verdict": "leak", "failures": ["model.onnx | leaks."],
        "gates": {"max_attack_accuracy": 0.6, "max_auc": 0.6, "max_tpr_at_1pct_fpr": 0.15},
        "blind_baseline": {"members": 200, "non_members": 201, "auc": interval(0.5)},
        "columns": [{"name": "model.onnx (ONNX Runtime)", "kind": "artifact", "test_accuracy": 0.93, "attacks": attacks}],
    }  # fmt: skip


def test_the_card_says_that_nothing_was_verified_until_something_was() -> None:
    manifest = read_manifest(SEED)
    before, after = render_model_card(manifest, None), render_model_card(manifest, make_verification())
    assert NOT_VERIFIED in before and "Verdict" not in before
    assert NOT_VERIFIED not in after and "**leak**" in after
    assert "| model.onnx (ONNX Runtime) | modified entropy | 0.610 [0.560, 0.660] |" in after and "withheld" in after
    assert "93.0 %" in after and "200 members and 201 non-members" in after
    for name, entry in manifest.files.items():
        assert f"| {name} | {entry.runtime} |" in before
        assert f"`{name}`: stored {entry.stores}, computed {entry.computes} because {entry.because}." in before
    for heading in ("Files", "Data", "Accuracy", "Leakage", "Limits"):
        assert f"\n## {heading}\n" in before


def test_the_schema_in_docs_is_the_programs_and_every_key_is_explained() -> None:
    """`sctool inspect --schema > docs/manifest.schema.json` mends it."""
    assert json.loads((ROOT / "docs" / "manifest.schema.json").read_text()) == manifest_schema()
    text = (ROOT / "docs" / "manifest.md").read_text()
    for name in [*Manifest.model_fields, *type(next(iter(read_manifest(SEED).files.values()))).model_fields]:
        assert f"`{name}`" in text, name


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_manifests_are_told(bundle: Path, data: st.DataObject) -> None:
    content = bytearray((SEED / MANIFEST).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (bundle / MANIFEST).write_bytes(content)
    try:
        manifest = read_manifest(bundle)
    except ArtifactError:
        return
    assert render_model_card(manifest, None).encode("utf-8", "replace")
