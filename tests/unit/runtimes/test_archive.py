"""Models in an application's archive: streamed out under our own names; hostile archives are refused."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sctool.errors import ArtifactError
from sctool.runtimes import archive
from sctool.runtimes.archive import extract_models


def make_archive(path: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in members.items():
            content.writestr(name, data)
    return path


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def test_models_come_out_whole_and_nothing_else(tmp_path: Path) -> None:
    app = make_archive(
        tmp_path / "app.apk",
        {"assets/a.onnx": b"one", "assets/deep/b.PTE": b"two" * 99, "classes.dex": b"code", "x.tflite": b"other"},
    )
    out = tmp_path / "out"
    out.mkdir()
    found, foreign = extract_models(app, out)
    assert [model.name for model in found] == ["assets/a.onnx", "assets/deep/b.PTE"] and foreign == ["x.tflite"]
    assert [model.path.read_bytes() for model in found] == [b"one", b"two" * 99]
    assert all(model.sha256 == hashlib.sha256(model.path.read_bytes()).hexdigest() for model in found)
    assert sorted(path.name for path in out.iterdir()) == ["000.onnx", "001.pte"]


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("../a.onnx", "leaves the archive's folder"), ("/etc/a.onnx", "leaves the archive's folder"),
        ("b\\..\\..\\a.onnx", "leaves the archive's folder"), (link("a.onnx"), "is a link"),
        (link("readme"), "is a link"),
    ],
)  # fmt: skip
def test_members_that_leave_the_archive_are_refused(tmp_path: Path, member: str | zipfile.ZipInfo, words: str) -> None:
    app = make_archive(tmp_path / "app.zip", {"ok.onnx": b"1", member: b"/etc/passwd"})
    with pytest.raises(ArtifactError, match=words):
        extract_models(app, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.zip"]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_RATIO", 50)
    app = make_archive(tmp_path / "app.zip", {"a.onnx": b"\0" * (4 * 2**20)})
    with pytest.raises(ArtifactError, match="unpacks to 4194304 bytes from"):
        extract_models(app, tmp_path)
    monkeypatch.setattr(archive, "MAX_MODEL_BYTES", 2**20)
    with pytest.raises(ArtifactError, match="limit 1048576"):
        extract_models(app, tmp_path)
    monkeypatch.setattr(archive, "MAX_ENTRIES", 0)
    with pytest.raises(ArtifactError, match="1 members"):
        extract_models(app, tmp_path)


def test_an_encrypted_model_is_named(tmp_path: Path) -> None:
    app = make_archive(tmp_path / "app.zip", {"a.onnx": b"secret"})
    content = bytearray(app.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + offset] |= 1
    app.write_bytes(content)
    with pytest.raises(ArtifactError, match="is encrypted"):
        extract_models(app, tmp_path)


def test_an_archive_without_a_model_names_what_it_holds(tmp_path: Path) -> None:
    app = make_archive(tmp_path / "app.zip", {"m.tflite": b"1"})
    with pytest.raises(ArtifactError, match=r"holds no \.onnx, no \.pte and no \.spte; it holds m\.tflite"):
        extract_models(app, tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_damaged_archives_are_told_and_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    app = make_archive(tmp_path / "app.zip", {"a.onnx": b"weights" * 40, "b.txt": b"text"})
    content = bytearray(app.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    app.write_bytes(content)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    try:
        found, _ = extract_models(app, out)
    except ArtifactError:
        return
    assert all(model.path.parent == out for model in found)
