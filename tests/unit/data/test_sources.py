"""Data that users bring: what is refused, and in which words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sctool.data.npz import read_npz
from sctool.data.source import load_dataset
from sctool.errors import ConfigError, DataError

GOOD = {"x": np.zeros((6, 3), np.float32), "y": np.array([0, 1, 0, 1, 0, 1])}


def save(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **{**GOOD, **arrays})
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    data = load_dataset(str(save(tmp_path, labels=np.array(["cat", "dog"]))))
    assert data.x.shape == (6, 3) and data.x.dtype == np.float32 and data.labels == ["cat", "dog"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.full((6, 3), np.nan)}, "6 of 6 records hold NaN or infinity"),
        ({"x": np.array([[np.inf, 1]] * 6)}, "NaN or infinity"),
        ({"x": np.zeros(6)}, r"x has shape \[6\]"),
        ({"x": np.zeros((5, 3))}, r"y \[6\]"),
        ({"y": np.zeros((6, 1), int)}, r"y \[6, 1\]"),
        ({"y": np.zeros(6, int)}, "1 classes"),
        ({"y": np.array([-1, 0, 1, 0, 1, 0])}, "run from -1"),
        ({"y": np.array([0.0, 1, 0, 1, 0, 1])}, "whole-number labels"),
        ({"x": np.array([["a", "b"]] * 6)}, "expected numbers"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, "no records"),
        ({"labels": np.array(["one"])}, "1 names are given"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_npz(save(tmp_path, **arrays))


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sctool-was-here"),)


def test_no_pickle_is_ever_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "trap.npz"
    np.savez(path, x=np.array([_Trap()], dtype=object), y=np.array([0]))
    with pytest.raises(DataError, match="not a readable"):
        read_npz(path)
    path.write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(DataError, match="not a readable"):
        read_npz(path)
    assert not (tmp_path / "sctool-was-here").exists()


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_truncated_files(tmp_path: Path, cut: int) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="not a readable"):
        read_npz(path)


def test_missing_array_and_missing_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"\['y'\] missing"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(DataError, match="No file"):
        read_npz(tmp_path / "b.npz")


def test_a_callable_is_called_and_a_wrong_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_source.py").write_text(
        "import numpy as np\ndef load():\n    return np.zeros((4, 2)), np.array([0, 1, 0, 1])\ndef wrong():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_dataset("own_source:load").x.shape == (4, 2)
    with pytest.raises(DataError, match="returned int"):
        load_dataset("own_source:wrong")
    with pytest.raises(ConfigError, match="Did you mean 'load'"):
        load_dataset("own_source:laod")
    with pytest.raises(ConfigError, match="cannot import 'no_such_module_at_all'"):
        load_dataset("no_such_module_at_all:load")
    with pytest.raises(ConfigError, match="Did you mean 'digits'"):
        load_dataset("digitz")
