"""Readers of image sets, on small files of the true format: idx, CIFAR's pickles, image folders, TinyImageNet."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sctool.data.cifar import read_cifar
from sctool.data.idx import read_idx
from sctool.data.image_folder import read_image_folder
from sctool.data.safe_pickle import parse_pickle
from sctool.data.tiny_imagenet import read_tiny_imagenet
from sctool.errors import DataError

Bytes = NDArray[np.uint8]


def draw(*shape: int, seed: int = 0, high: int = 256) -> Bytes:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def pack_idx(array: Bytes) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx_set(folder: Path, *, gz: bool = False, dot: bool = False) -> dict[str, Bytes]:
    arrays = {
        "train-images": draw(6, 5, 4), "train-labels": np.arange(6, dtype=np.uint8) % 3,
        "t10k-images": draw(3, 5, 4, seed=1), "t10k-labels": np.arange(3, dtype=np.uint8),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        file = f"{name}{'.' if dot else '-'}idx{array.ndim}-ubyte"
        content = pack_idx(array)
        (folder / (file + ".gz" if gz else file)).write_bytes(gzip.compress(content) if gz else content)
    return arrays


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_idx_files(tmp_path: Path, gz: bool, dot: bool) -> None:
    arrays = write_idx_set(tmp_path, gz=gz, dot=dot)
    data = read_idx(tmp_path)
    assert data.x.shape == (9, 1, 5, 4) and data.x.dtype == np.float32
    assert np.array_equal(data.x[:6, 0], arrays["train-images"]) and np.array_equal(
        data.x[6:, 0], arrays["t10k-images"]
    )
    assert data.y.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert data.in_train is not None and data.in_train.tolist() == [True] * 6 + [False] * 3
    assert read_idx(tmp_path, parts=["test"]).y.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b[:-1], "holds 119 bytes after"),
        (lambda b: b + b"x", "holds 121 bytes after"),
        (lambda b: b[:6], "holds 0 bytes after"),
        (lambda b: b"", "begins with nothing"),
        (lambda b: b[:2] + b"\x0d" + b[3:], "begins with 00 00 0d 03"),
        (lambda b: b[:4] + b"\xff" * 12 + b[16:], r"announces shape \[4294967295"),
    ],
)
def test_damaged_idx_files_are_told(tmp_path: Path, damage: Any, words: str) -> None:
    write_idx_set(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=words):
        read_idx(tmp_path)


def test_a_missing_or_broken_idx_file(tmp_path: Path) -> None:
    write_idx_set(tmp_path, gz=True)
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"Cannot read .*t10k-labels"):
        read_idx(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"No t10k-labels-idx1-ubyte \(or .gz\)"):
        read_idx(tmp_path)


def write_cifar(folder: Path, *, kind: int = 10, protocol: int = 2) -> tuple[Bytes, list[int]]:
    """As the sets are distributed: Python 2 pickles with byte keys; numpy rebuilds the array."""
    folder.mkdir(exist_ok=True)
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"] if kind == 10 else ["train", "test"]
    every, labels = [], []
    for number, name in enumerate(names):
        x, y = draw(4, 3072, seed=number), [(number + k) % kind for k in range(4)]
        every.append(x)
        labels += y
        batch = {b"batch_label": name.encode(), b"data": x, b"filenames": [b"a.png"] * 4}
        batch |= {b"labels": y} if kind == 10 else {b"fine_labels": y, b"coarse_labels": [k % 20 for k in y]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    classes = [f"thing {k}".encode() for k in range(kind)]
    meta = (
        {b"label_names": classes} if kind == 10 else {b"fine_label_names": classes, b"coarse_label_names": classes[:20]}
    )
    (folder / ("batches.meta" if kind == 10 else "meta")).write_bytes(pickle.dumps(meta, protocol))
    return np.concatenate(every).reshape(-1, 3, 32, 32), labels


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [10, 100])
def test_cifar_as_distributed(tmp_path: Path, kind: int, protocol: int) -> None:
    x, y = write_cifar(tmp_path / "set", kind=kind, protocol=protocol)
    data = read_cifar(tmp_path / "set")
    assert np.array_equal(data.x, x) and data.y.tolist() == y and data.labels[3] == "thing 3" and data.classes == kind
    assert data.in_train is not None and int((~data.in_train).sum()) == 4 and not data.in_train[-4:].any()
    if kind == 100:
        assert read_cifar(tmp_path / "set", labels="coarse").classes == 20


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_cifar_from_its_archive_and_hostile_archives(tmp_path: Path) -> None:
    x, _ = write_cifar(tmp_path / "set")
    files = [(p.name, p.read_bytes()) for p in sorted((tmp_path / "set").iterdir())]
    whole = [(tarfile.TarInfo(f"cifar-10-batches-py/{name}"), content) for name, content in files]
    assert np.array_equal(read_cifar(make_tar(tmp_path / "a.tar.gz", whole)).x, x)
    up = [(tarfile.TarInfo(f"../{name}"), content) for name, content in files]
    with pytest.raises(DataError, match="no plain file inside the archive"):
        read_cifar(make_tar(tmp_path / "b.tar.gz", up))
    link = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(DataError, match="no plain file inside the archive"):
        read_cifar(make_tar(tmp_path / "c.tar.gz", [(link, b"")]))
    with pytest.raises(DataError, match="twice"):
        read_cifar(make_tar(tmp_path / "d.tar.gz", whole + [(tarfile.TarInfo("other/meta"), b"")] * 2 + whole[:1]))
    (tmp_path / "e.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:-200])
    with pytest.raises(DataError, match="Cannot read"):
        read_cifar(tmp_path / "e.tar.gz")


def test_an_incomplete_cifar_is_told(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    (tmp_path / "data_batch_3").unlink()
    with pytest.raises(DataError, match="lacks data_batch_3 of CIFAR-10"):
        read_cifar(tmp_path)
    with pytest.raises(DataError, match=r"Cannot read|No file"):
        read_cifar(tmp_path / "nowhere")


class Trap:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch sctool-was-here",)


def make_bomb() -> bytes:
    """Lists of lists, each holding the one before twice: 2^60 items, were they ever written out."""
    level = [b"]q" + bytes([k]) + b"(h" + bytes([k - 1]) + b"h" + bytes([k - 1]) + b"e" for k in range(1, 60)]
    return b"\x80\x02]q\x00" + b"".join(level) + b"."


HOSTILE = {
    "a system call": pickle.dumps(Trap(), 2),
    "a system call inside": pickle.dumps({b"data": Trap(), b"labels": [1]}, 4),
    "eval by name": b"c__builtin__\neval\n(S'1+1'\ntR.",
    "eval by stack": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x031+1\x85R.",
    "persistent id": b"\x80\x02Q.",
    "an instance": b"(i__builtin__\nobject\n.",
    "a class of ours": pickle.dumps(Path("x"), 2),
    "an extension": b"\x80\x02\x82\x01.",
    "numpy with objects": pickle.dumps(np.array([Trap()], dtype=object), 2),
    "no end": pickle.dumps({b"data": 1}, 2)[:-1],
    "nothing": b"",
    "text": b"hello, this is no pickle",
    "an empty stack": b"\x80\x02.",
    "a huge length": b"\x80\x02X\xff\xff\xff\x7fabc.",
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_pickles_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        parse_pickle(HOSTILE[name], source="batch")
    write_cifar(tmp_path / "set")
    (tmp_path / "set" / "test_batch").write_bytes(HOSTILE[name])
    with pytest.raises(DataError):
        read_cifar(tmp_path / "set")
    assert not (tmp_path / "sctool-was-here").exists() and not (tmp_path / "set" / "sctool-was-here").exists()


def test_a_bomb_of_references_costs_nothing(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(make_bomb())
    with pytest.raises(DataError, match=r"expected a dict|complete pickle"):
        read_cifar(tmp_path)


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(PLAIN, st.integers(2, 5))
@settings(max_examples=150, deadline=None)
def test_plain_pickles_are_read_as_pickle_reads_them(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    assert parse_pickle(content, source="x") == pickle.loads(content)


@given(
    st.sampled_from(["u1", "<i4", ">i8", "<f4", "<f8"]),
    st.lists(st.integers(0, 4), max_size=3),
    st.booleans(),
    st.integers(2, 5),
)
@settings(max_examples=100, deadline=None)
def test_arrays_in_pickles(kind: str, shape: list[int], by_column: bool, protocol: int) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(kind)
    array = np.asfortranarray(array) if by_column else array
    found = parse_pickle(pickle.dumps({"a": array}, protocol), source="x")
    assert isinstance(found, dict) and found["a"].dtype == array.dtype and np.array_equal(found["a"], array)


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused_or_read_never_worse(content: bytes) -> None:
    with contextlib.suppress(DataError):
        parse_pickle(b"\x80\x02" + content, source="x")


def save_image(path: Path, pixels: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_an_image_folder(tmp_path: Path) -> None:
    cat, dog, grey = draw(4, 6, 3), draw(4, 6, 3, seed=1), draw(4, 6, seed=2)
    save_image(tmp_path / "cat" / "1.png", cat)
    save_image(tmp_path / "cat" / "2.bmp", grey)
    save_image(tmp_path / "dog" / "1.PNG", dog)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    data = read_image_folder(tmp_path)
    assert data.x.shape == (3, 3, 4, 6) and data.labels == ["cat", "dog"] and data.y.tolist() == [0, 0, 1]
    assert np.array_equal(data.x[0], cat.transpose(2, 0, 1)) and np.array_equal(data.x[1], np.stack([grey] * 3))
    assert read_image_folder(tmp_path, size=2, colour="grey", per_class=1).x.shape == (2, 1, 2, 2)
    save_image(tmp_path / "dog" / "2.png", draw(5, 5, 3))
    with pytest.raises(DataError, match=r"2\.png has 5 x 5 pixels, 1\.png has 6 x 4 pixels"):
        read_image_folder(tmp_path)


def test_bad_image_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="is no folder"):
        read_image_folder(tmp_path / "nowhere")
    save_image(tmp_path / "a" / "1.png", draw(4, 4, 3))
    with pytest.raises(DataError, match="has 1 sub-folders"):
        read_image_folder(tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="No images in"):
        read_image_folder(tmp_path)
    broken = tmp_path / "b" / "1.png"
    broken.write_bytes((tmp_path / "a" / "1.png").read_bytes()[:30])
    with pytest.raises(DataError, match=r"Cannot read .*1\.png"):
        read_image_folder(tmp_path)
    header = struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    broken.write_bytes(bomb + b"\x00\x00\x00\x00IEND\xaeB`\x82")
    with pytest.raises(DataError, match=r"60000 x 60000 pixels|Cannot read"):
        read_image_folder(tmp_path)


def write_tiny(root: Path) -> None:
    for wnid in ("n01", "n02"):
        for k in range(2):
            save_image(root / "train" / wnid / "images" / f"{wnid}_{k}.JPEG", draw(64, 64, 3, seed=k))
    rows = []
    for k, wnid in enumerate(["n02", "n01"]):
        save_image(root / "val" / "images" / f"val_{k}.JPEG", draw(64, 64, 3, seed=9 + k))
        rows.append(f"val_{k}.JPEG\t{wnid}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tfrog, toad\n")


def test_tiny_imagenet(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    data = read_tiny_imagenet(tmp_path)
    assert data.x.shape == (6, 3, 64, 64) and data.labels == ["goldfish", "frog"]
    assert data.y.tolist() == [0, 0, 1, 1, 0, 1]
    assert data.in_train is not None and data.in_train.tolist() == [True] * 4 + [False] * 2
    (tmp_path / "val" / "val_annotations.txt").write_text("../../x.JPEG\tn01\t0\n")
    with pytest.raises(DataError, match="line 1: expected a file's name"):
        read_tiny_imagenet(tmp_path)
    with pytest.raises(DataError, match="not the TinyImageNet tree"):
        read_tiny_imagenet(tmp_path / "train")
