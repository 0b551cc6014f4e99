"""Readers of tables, texts and sensor signals, on small files of the true format."""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sctool.data.bag import split_words
from sctool.data.table import read_table
from sctool.data.text_csv import read_text_csv
from sctool.data.tokens import read_tokens
from sctool.data.uci_har import SIGNALS, read_uci_har
from sctool.errors import DataError

ADULT = """39, State-gov, 77516, <=50K
50, ?, 83311, >50K
38, Private, 215646, <=50K

"""
ADULT_TEST = "|1x3 Cross validator\n25, Private, 226802, >50K.\n"
COLUMNS = ["age", "workclass", "fnlwgt", "income"]


@pytest.mark.parametrize("end", ["", ".gz", ".xz"])
def test_adult_as_distributed(tmp_path: Path, end: str) -> None:
    pack: Any = {"": lambda b: b, ".gz": gzip.compress, ".xz": lzma.compress}[end]
    (tmp_path / f"adult.data{end}").write_bytes(pack(ADULT.encode()))
    (tmp_path / f"adult.test{end}").write_bytes(pack(ADULT_TEST.encode()))
    data = read_table(
        tmp_path / f"adult.data{end}", "income", more=[f"adult.test{end}"], header=False, comment="|", columns=COLUMNS,
        label_strip=" .",
    )  # fmt: skip
    assert data.labels == ["<=50K", ">50K"] and data.y.tolist() == [0, 1, 0, 1]
    ages = np.array([39, 50, 38, 25.0])
    assert np.allclose(data.x[:, 0], (ages - ages.mean()) / ages.std(), atol=1e-6)
    assert data.x[:, 1:4].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    columns: Any = data.normalisation["columns"]
    assert columns[1] == {"name": "workclass", "kind": "one-hot", "categories": ["?", "Private", "State-gov"]}


def test_a_table_with_header_semicolons_numbers_as_labels_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeffa;grade;note\n1;10;x\n;9;y\n3;2;x\n")
    data = read_table(path, "grade", numeric="keep", drop=["note"])
    assert data.labels == ["2", "9", "10"] and data.y.tolist() == [2, 1, 0] and data.x.tolist() == [[1], [2], [3]]
    assert read_table(path, 1).x.shape == (3, 3)


def test_a_table_of_strings_in_an_npz(tmp_path: Path) -> None:
    x = np.array([["1", "red"], ["2", "blue"], ["4", "red"]])
    np.savez(tmp_path / "t.npz", x=x, y=np.array([0, 1, 1]))
    data = read_table(tmp_path / "t.npz", "2", numeric="keep")
    assert data.x.tolist() == [[1, 0, 1], [2, 1, 0], [4, 0, 1]] and data.y.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,b\n1,2\n3\n", {"label": "b"}, "record 2: 1 cells; expected 2"),
        ("a,b\n1,2\n", {"label": "c"}, "no column 'c'"),
        ("a,a\n1,2\n", {"label": "a"}, "2 columns, 1 different names"),
        ("a,b\n", {"label": "b"}, "no records"),
        ("a,b\n1,\n2,x\n", {"label": "b"}, "1 labels are missing"),
        ("a,b\ninf,1\n2,2\n", {"label": "b"}, "infinite"),
        ("a,b\nx,1\ny,2\nz,1\n", {"label": "b", "max_categories": 2}, "3 different texts; the limit is 2"),
        ("b\n1\n2\n", {"label": "b"}, "no column is left"),
    ],
)
def test_bad_tables_are_told(tmp_path: Path, text: str, options: dict[str, Any], words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(path, **options)


def test_parquet_is_read_or_its_need_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(DataError, match="needs pyarrow"):
            read_table(path, "b")
        return
    pyarrow.parquet.write_table(pyarrow.table({"a": [1.0, 2.0, None], "b": ["x", "y", "x"]}), path)
    data = read_table(path, "b", numeric="keep")
    assert data.x.tolist() == [[1], [2], [1.5]] and data.y.tolist() == [0, 1, 0]
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match="Cannot read"):
        read_table(path, "b")


@given(st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.sampled_from("abc")), min_size=3, max_size=20))
@settings(max_examples=60, deadline=None)
def test_encoding_against_a_loop(rows: list[tuple[float, str]]) -> None:
    from sctool.data.encode import encode_columns

    cells = np.array([[repr(number), word] for number, word in rows], dtype=str)
    x, _ = encode_columns(
        cells, ["n", "w"], missing=[""], standardise=False, max_categories=9, max_bytes=2**20, where="t"
    )
    words = sorted({word for _, word in rows})
    for row, (number, word) in zip(x, rows, strict=True):
        assert row[0] == pytest.approx(number, rel=1e-6) and row[1:].tolist() == [float(word == w) for w in words]


NEWS = '"3","Oil up, again","Crude\\\\nrose; it\'s up"\n"1","Peace","talks ""resume"""\n"3","Gold","gold GOLD"\n'


def test_a_csv_of_texts(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(NEWS)
    (tmp_path / "test.csv").write_text('"1","More","talks"\n')
    data = read_text_csv(tmp_path / "train.csv", more=["test.csv"], words="frequent", features=3)
    assert data.labels == ["1", "3"] and data.y.tolist() == [1, 0, 1, 0]
    assert data.x.shape == (4, 3) and data.x[2].max() == 3
    hashed = read_text_csv(tmp_path / "train.csv", features=64)
    assert hashed.x[2, zlib.crc32(b"gold") % 64] == 3 and hashed.x.sum() == 2 + 1 + 4 + 3 + 3
    assert len(read_text_csv(tmp_path / "train.csv", more=["test.csv"], per_class=1).y) == 2
    assert split_words("It's 5 o'clock\\nsomewhere_else!") == ["it's", "5", "o'clock", "somewhere", "else"]


@pytest.mark.parametrize(
    ("text", "words"),
    [('"1","a"\n"2"\n', "record 2: 1 cells"), ("", "no records"), ('"","a"\n"2","b"\n', "1 labels are missing")],
)
def test_bad_text_files(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_text_csv(tmp_path / "t.csv")


def test_tokens_count_as_their_words_do(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "t.npz", x=np.array([0, 1, 1, 2]), length=np.array([1, 3]), y=np.array([0, 1]),
        vocab=np.array(["gold", "oil", ""]),
    )  # fmt: skip
    data = read_tokens(tmp_path / "t.npz", features=256)
    assert data.x[0, zlib.crc32(b"gold") % 256] == 1 and data.x[1, zlib.crc32(b"oil") % 256] == 2
    assert data.x[1, zlib.crc32(b"#2") % 256] == 1 and data.x.sum() == 4
    np.savez(tmp_path / "u.npz", x=np.array([0, 3]), length=np.array([2]), y=np.array([0]), vocab=np.array(["a"]))
    with pytest.raises(DataError, match="do not fit together"):
        read_tokens(tmp_path / "u.npz")


def write_har(root: Path, *, overlap: bool) -> np.ndarray[Any, Any]:
    """Two people, two activities; with `overlap`, each window begins with the second half of the one before."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    (root / "activity_labels.txt").write_text("1 WALKING\n2 SITTING\n")
    every = []
    for part, rows in (("train", 6), ("test", 4)):
        folder = root / part / "Inertial Signals"
        folder.mkdir(parents=True)
        (root / part / f"y_{part}.txt").write_text("".join(f"{1 + (k >= rows // 2)}\n" for k in range(rows)))
        (root / part / f"subject_{part}.txt").write_text(
            "".join(f"{3 if part == 'train' else 5}\n" for _ in range(rows))
        )
        stream = rng.normal(size=(9, 64 * (rows + 1)))
        windows = np.stack([stream[:, 64 * k : 64 * k + 128] for k in range(rows)])
        if not overlap:
            windows = rng.normal(size=windows.shape)
        for channel, name in enumerate(SIGNALS):
            lines = ("  ".join(f"{v: .7e}" for v in row) for row in windows[:, channel])
            (folder / f"{name}_{part}.txt").write_text("".join(f" {line}\n" for line in lines))
        every.append(windows)
    return np.concatenate(every)


def test_uci_har_as_distributed(tmp_path: Path) -> None:
    x = write_har(tmp_path, overlap=False)
    data = read_uci_har(tmp_path)
    assert data.x.shape == (10, 9, 128) and np.allclose(data.x, x, atol=1e-6)
    assert data.labels == ["walking", "sitting"] and data.y.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    people = read_uci_har(tmp_path, label="subject")
    assert people.labels == ["person 3", "person 5"] and people.y.tolist() == [0] * 6 + [1] * 4


def test_uci_har_from_its_zip_and_the_zip_around_it(tmp_path: Path) -> None:
    root = tmp_path / "UCI HAR Dataset"
    x = write_har(root, overlap=False)
    inner, outer = tmp_path / "UCI HAR Dataset.zip", tmp_path / "human.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        for path in sorted(root.rglob("*.txt")):
            archive.write(path, path.relative_to(tmp_path))
            archive.writestr(f"__MACOSX/{path.relative_to(tmp_path).parent}/._{path.name}", b"\x00")
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(inner, inner.name)
        archive.writestr("UCI HAR Dataset.names", "...")
    for path in (root, inner, outer):
        data = read_uci_har(path)
        assert np.allclose(data.x, x, atol=1e-6) and data.labels == ["walking", "sitting"], path
    outer.write_bytes(inner.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"Cannot read .*human\.zip"):
        read_uci_har(outer)
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(root / "train" / "y_train.txt", "train/y_train.txt")
    with pytest.raises(DataError, match=r"No train/subject_train\.txt in .*human\.zip"):
        read_uci_har(outer)


@pytest.mark.parametrize("text", ["nan\n", "1.5\n", "0\n", "1e300\n"])
def test_activities_that_are_no_numbers_from_one(tmp_path: Path, text: str) -> None:
    write_har(tmp_path, overlap=False)
    (tmp_path / "train" / "y_train.txt").write_text(text * 6)
    with pytest.raises(DataError, match=r"y_train\.txt holds other than whole numbers"):
        read_uci_har(tmp_path)


def test_overlapping_windows_go_within_a_chain(tmp_path: Path) -> None:
    write_har(tmp_path, overlap=True)
    assert len(read_uci_har(tmp_path, overlap=True).y) == 10
    assert read_uci_har(tmp_path).y.tolist() == [0, 0, 1, 1, 0, 1]  # 1st and 3rd of three; the 1st of two


def test_a_truncated_signal_is_told(tmp_path: Path) -> None:
    write_har(tmp_path, overlap=False)
    path = tmp_path / "train" / "Inertial Signals" / "body_acc_x_train.txt"
    path.write_text(path.read_text()[:-170].rstrip() + "\n")
    with pytest.raises(DataError, match=r"numbers in 6 lines; expected 128"):
        read_uci_har(tmp_path)
    path.write_text("a b c\n")
    with pytest.raises(DataError, match="Expected numbers alone"):
        read_uci_har(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="No file"):
        read_uci_har(tmp_path)
