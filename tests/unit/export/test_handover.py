"""What an app's developer gets beside the files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sctool.domain.target import load_target
from sctool.errors import ArtifactError, ExportError
from sctool.export.coreml import _check_weights, export_core_ml
from sctool.export.handover import FILES, write_handover
from sctool.export.manifest import DocumentEntry, Manifest, check_files, read_manifest, write_manifest
from sctool.workflows.bundle import open_bundle

ROOT_FILES = {"manifest.json", "model.onnx", "model.pte"}


def test_android_gets_snippets_for_the_versions_and_shapes_of_the_bundle(made_run: Path) -> None:
    bundle = made_run / "bundles/android"
    manifest = read_manifest(bundle)
    gradle = (bundle / "android/build.gradle.kts").read_text()
    kotlin = (bundle / "android/SctoolModel.kt").read_text()
    readme = (bundle / "android/README.md").read_text()
    assert f'onnxruntime-android:{manifest.tool_versions["onnxruntime"]}"' in gradle
    assert f'executorch-android:{manifest.tool_versions["executorch"]}"' in gradle
    assert "longArrayOf(1, 64)" in kotlin and "CLASSES = 10" in kotlin and f'"{manifest.input.name}" to input' in kotlin
    assert f"{manifest.files['model.onnx'].size_bytes:,} bytes" in readme
    assert (
        f"| ONNX Runtime | 1.29.0 | 32,232,640 bytes | 12,154,165 bytes | {manifest.tool_versions['onnxruntime']} |"
        in readme
    )
    assert re.search(r"ExecuTorch [0-9.]+: unknown", readme) and "the download grows by about 12.2 MB" in readme
    assert kotlin.index('setenv("ORT_DISABLE_TELEMETRY", "1", true)') < kotlin.index("OrtEnvironment.getEnvironment()")
    assert "**Telemetry.**" in readme
    for text in (gradle, kotlin):
        assert text.count("{") == text.count("}") and text.count("(") == text.count(")") and "{%" not in text


@pytest.mark.parametrize(("target", "expected"), [("android", 3), ("ios", 2), ("host", 0), ("linux-arm64", 0)])
def test_each_platform_gets_its_own_and_the_same_bytes(bundle_copy: Path, target: str, expected: int) -> None:
    manifest = read_manifest(bundle_copy)
    written = write_handover(bundle_copy, load_target(target), manifest, "not exported")
    first = [path.read_bytes() for path in written]
    again = write_handover(bundle_copy, load_target(target), manifest, "not exported")
    assert len(written) == expected and [path.read_bytes() for path in again] == first


def test_no_snippet_for_a_runtime_that_the_bundle_has_no_file_for(bundle_copy: Path) -> None:
    manifest = read_manifest(bundle_copy)
    alone = manifest.model_copy(update={"files": {"model.onnx": manifest.files["model.onnx"]}})
    write_handover(bundle_copy, load_target("android"), alone, None)
    for name in ("build.gradle.kts", "SctoolModel.kt", "README.md"):
        text = (bundle_copy / "android" / name).read_text()
        assert "onnx" in text.lower()
    assert "executorch-android" not in (bundle_copy / "android/build.gradle.kts").read_text()
    assert not re.search(r"org\.pytorch", (bundle_copy / "android/SctoolModel.kt").read_text())


def test_the_manifest_covers_every_file_but_itself_and_the_card(made_run: Path) -> None:
    bundle = made_run / "bundles/android"
    manifest = read_manifest(bundle)
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert there - {*manifest.files, *manifest.documents} == {"manifest.json", "MODEL_CARD.md"}
    assert set(FILES["android"]) < set(manifest.documents)


@pytest.mark.parametrize("name", FILES["android"])
def test_a_changed_or_missing_hand_over_is_refused(bundle_copy: Path, name: str) -> None:
    manifest, path = read_manifest(bundle_copy), bundle_copy / name
    check_files(bundle_copy, manifest)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ArtifactError, match="damaged or altered"):
        check_files(bundle_copy, manifest)
    path.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        check_files(bundle_copy, manifest)


def test_a_model_that_was_added_is_refused(bundle_copy: Path) -> None:
    assert open_bundle(bundle_copy).unlisted == []
    (bundle_copy / "second.onnx").touch()
    with pytest.raises(ArtifactError, match=r"second.onnx is not in the manifest"):
        open_bundle(bundle_copy)


def test_a_bundle_of_an_earlier_version_lists_no_hand_over_and_still_reads(bundle_copy: Path) -> None:
    manifest = read_manifest(bundle_copy)
    documents = {name: entry for name, entry in manifest.documents.items() if "/" not in name}
    write_manifest(bundle_copy, manifest.model_copy(update={"documents": documents}))
    (bundle_copy / "android/README.md").write_text("changed")
    check_files(bundle_copy, read_manifest(bundle_copy))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "a//x", "a/", "./x", "a\\x", "a/.x", "a\n", "a/" * 200 + "x"])
def test_no_document_lies_outside_the_bundle(made_run: Path, name: str) -> None:
    manifest = read_manifest(made_run / "bundles/android").model_dump()
    entry = DocumentEntry(sha256="0" * 64, size_bytes=0).model_dump()
    with pytest.raises(ValidationError, match="documents"):
        Manifest.model_validate({**manifest, "documents": {name: entry}})


def test_snippets_load_no_file_that_needs_the_sparse_runtime(bundle_copy: Path) -> None:
    manifest = read_manifest(bundle_copy)
    sparse = manifest.files["model.pte"].model_copy(update={"runtime": "executorch+sparse"})
    write_handover(
        bundle_copy, load_target("android"),
        manifest.model_copy(update={"files": {**manifest.files, "model.pte": sparse}}), None,
    )  # fmt: skip
    texts = {path.name: path.read_text() for path in (bundle_copy / "android").iterdir()}
    assert "executorch-android" not in texts["build.gradle.kts"] and "of the two" not in texts["build.gradle.kts"]
    assert "model.pte" not in texts["SctoolModel.kt"] and '"model.onnx"' in texts["SctoolModel.kt"]
    assert "`model.pte` want sctool's sparse runtime" in texts["README.md"]


def sparse_net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    with torch.no_grad():
        model[0].weight.mul_(torch.rand_like(model[0].weight) < 0.1)
    return model.eval()


def test_core_ml_stores_zeros_as_a_mask_and_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    model, example = sparse_net(), torch.rand(2, 64)
    one, other = tmp_path / "one.mlpackage", tmp_path / "other.mlpackage"
    assert export_core_ml(model, example, one) == 1
    assert export_core_ml(model, example, other) == 1
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 3
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)
    weights = (one / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    dense = 64 * 128 * 4 + 128 * 10 * 4
    assert weights < 0.5 * dense


def test_core_ml_weights_that_are_not_the_models_are_refused() -> None:
    class Entry:
        val = np.zeros((64, 128), np.float32)

    class Compress:
        @staticmethod
        def get_weights_metadata(package: object, weight_threshold: int) -> dict[str, Entry]:
            return {"w": Entry()}

    with pytest.raises(ExportError, match=r"does not hold 0\.weight"):
        _check_weights(None, sparse_net(), Compress)


@pytest.mark.slow
def test_export_for_ios_writes_a_package_or_says_why_not(made_run: Path, tmp_path: Path) -> None:
    from sctool.workflows.export import export

    folder, _ = export(made_run, target="ios", output=tmp_path / "ios")
    readme = (folder / "ios/README.md").read_text()
    package = folder / "ios/model.mlpackage"
    assert package.is_dir() == ("`ios/model.mlpackage`, " in readme)
    assert package.is_dir() or "not exported" in readme
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    inside = {path.relative_to(folder).as_posix() for path in package.rglob("*") if path.is_file()}
    assert inside | set(FILES["ios"]) < set(manifest.documents)
