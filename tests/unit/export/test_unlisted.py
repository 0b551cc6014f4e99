"""What somebody laid into a bundle: a part of it by its looks is refused, anything else is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sctool.errors import ArtifactError
from sctool.export.manifest import DocumentEntry, Manifest, read_manifest
from sctool.export.unlisted import OWN, find_unlisted, tell_unlisted

SEED = Path(__file__).resolve().parents[3] / "fuzz" / "corpus" / "manifest"


@pytest.fixture
def manifest() -> Manifest:
    entry = DocumentEntry(sha256="0" * 64, size_bytes=0)
    return read_manifest(SEED).model_copy(update={"documents": {"android/README.md": entry, "sbom.cdx.json": entry}})


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_listed_files_and_what_sctool_writes_are_no_strangers(manifest: Manifest, tmp_path: Path) -> None:
    lay(tmp_path, *manifest.files, *manifest.documents, *OWN, "model.onnx.verification.json")
    assert find_unlisted(tmp_path, manifest) == []
    assert tell_unlisted([]) == []


def test_what_a_user_keeps_there_is_named(manifest: Manifest, tmp_path: Path) -> None:
    lay(tmp_path, "report.html", "notes/a\x1b[2J.txt", "notes/verification.json")
    found = find_unlisted(tmp_path, manifest)
    assert found == ["notes/a\\x1b[2J.txt", "notes/verification.json", "report.html"]
    assert "report.html" in tell_unlisted(found)[0]
    assert tell_unlisted([str(number) for number in range(7)])[0].endswith(" 0, 1, 2, 3, 4 and 2 more.")


@pytest.mark.parametrize(
    "name",
    ["second.onnx", "MODEL2.PTE", "model.ptd", "notes/deep/x.tflite", "m.mlpackage/Manifest.json", "android/App.kt",
     "android/libs/a", "android/verification.json"],
)  # fmt: skip
def test_what_would_pass_for_a_part_of_it_is_refused(manifest: Manifest, tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="is not in the manifest"):
        find_unlisted(lay(tmp_path, name), manifest)


def test_links_are_refused_and_not_followed(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(ArtifactError, match="a link"):
        find_unlisted(tmp_path, manifest)
