"""Whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool import atomic
from sctool.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


@given(content=st.binary(max_size=64))
def test_write_file_writes_what_it_is_given(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("w") / "deep" / "file"
    atomic.write_file(path, content)
    assert path.read_bytes() == content
    assert names(path.parent) == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic.write_file(path, "old")
    monkeypatch.setattr("sctool.atomic.os.replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        atomic.write_file(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "x.json", {"value": float("nan")})
    assert names(tmp_path) == []
    atomic.write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    assert list(json.loads((tmp_path / "x.json").read_text())) == ["a", "b"]


def test_new_directory_appears_whole(tmp_path: Path) -> None:
    with atomic.new_directory(tmp_path / "deep" / "out", marker="old") as staging:
        (staging / "f").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "f").read_text() == "1"
    assert names(tmp_path / "deep") == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, FileNotFoundError])
@pytest.mark.parametrize("existing", [False, True])
def test_new_directory_leaves_nothing_new_on_an_exception(
    tmp_path: Path, error: type[BaseException], existing: bool
) -> None:
    out = tmp_path / "out"
    if existing:
        out.mkdir()
        (out / "old").touch()
    with pytest.raises(error), atomic.new_directory(out, overwrite=True, marker="old") as staging:
        (staging / "f").touch()
        raise error
    assert names(tmp_path) == (["out"] if existing else [])
    assert not existing or names(out) == ["old"]


def test_overwrite_swaps(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(OutputError, match="exists already"), atomic.new_directory(out, marker="old"):
        pass
    with atomic.new_directory(out, overwrite=True, marker="old") as staging:
        (staging / "new").touch()
    assert names(out) == ["new"]
    assert names(tmp_path) == ["out"]


def test_a_failed_swap_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    real = os.replace

    def replace(source: str | Path, destination: str | Path) -> None:
        if ".partial-" in str(source):
            raise OSError(28, "No space left on device", str(source))
        real(source, destination)

    monkeypatch.setattr("sctool.atomic.os.replace", replace)
    with pytest.raises(OutputError), atomic.new_directory(out, overwrite=True, marker="old"):
        pass
    assert names(out) == ["old"]
    assert names(tmp_path) == ["out"]


KILLED = """
import sys
from pathlib import Path
from sctool import atomic
with atomic.new_directory(Path(sys.argv[1]), marker="x", overwrite=True) as staging:
    (staging / "half").touch()
    print(flush=True)
    sys.stdin.read()
"""


KILLED_WRITE = """
import os, sys
from pathlib import Path
from sctool import atomic
def stall(*_):
    print("half", flush=True)
    sys.stdin.read()
os.replace = stall
atomic.write_file(Path(sys.argv[1]), "new")
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    out, command = tmp_path / "out", [sys.executable, "-c", KILLED]
    others = [".out.partial-", ".out.partial-mine", ".other.partial-abcdefgh", ".out.partial-abcdefgh0"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".out.partial-abcdefgh").symlink_to(tmp_path / others[0])
    with subprocess.Popen([*command, str(out)], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout and process.stdout.readline()
        (living,) = tmp_path.glob(".out.partial-*/half")
        with atomic.new_directory(out, marker="x"):
            pass
        assert living.exists()
        process.kill()
    assert living.exists()
    with atomic.new_directory(out, marker="x", overwrite=True):
        assert not living.exists()
    assert names(tmp_path) == sorted([*others, ".out.partial-abcdefgh", "out"])


def test_a_write_that_was_killed_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic.write_file(path, "old")
    with subprocess.Popen([sys.executable, "-c", KILLED_WRITE, str(path)], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout and process.stdout.readline()
        (half,) = tmp_path.glob(".file.partial-*/file")
        atomic.write_file(path, "newer")
        assert half.exists()
        process.kill()
    assert half.exists() and path.read_text() == "newer"
    atomic.write_file(path, "newest")
    assert names(tmp_path) == ["file"] and path.read_text() == "newest"


def test_an_output_set_aside_by_a_killed_swap_stays_until_there_is_another(tmp_path: Path) -> None:
    aside = tmp_path / ".out.old-abcdefgh" / "old"
    aside.mkdir(parents=True)
    with pytest.raises(RuntimeError), atomic.new_directory(tmp_path / "out", marker="x"):
        raise RuntimeError
    assert aside.exists()
    with atomic.new_directory(tmp_path / "out", marker="x"):
        pass
    assert names(tmp_path) == ["out"]


def test_a_folder_that_a_sweep_takes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = tempfile.mkdtemp, []

    def make(**options: str) -> str:
        made.append(real(**options))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr("sctool.atomic.tempfile.mkdtemp", make)
    with atomic.new_directory(tmp_path / "out", marker="x") as staging:
        assert str(staging) == made[1]


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sctool.atomic.fcntl.flock", fail)
    (tmp_path / ".out.partial-abcdefgh").mkdir()
    with atomic.new_directory(tmp_path / "out", marker="x"):
        pass
    assert names(tmp_path) == [".out.partial-abcdefgh", "out"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OutputError):
        atomic.refuse_existing(tmp_path / "link", overwrite=False)


def test_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        atomic.write_file(tmp_path / "file" / "x", "")
    with pytest.raises(OutputError, match="Cannot write"), atomic.new_directory(tmp_path / "file" / "x", marker="old"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_read_only_parent(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            atomic.write_file(tmp_path / "x", "")
    finally:
        tmp_path.chmod(0o755)


def test_overwrite_spares_what_sctool_did_not_write(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").touch()
    with pytest.raises(OutputError, match="does not replace"), atomic.new_directory(home, marker="x", overwrite=True):
        pass
    with pytest.raises(OutputError, match="is a directory"):
        atomic.refuse_existing(home, overwrite=True)
    (home / "thesis.tex").unlink()
    with atomic.new_directory(home, marker="x", overwrite=True):
        pass
    assert names(home) == []
