"""Archives, pickles and tables that are built to do harm, or to take all memory: told, and nothing done."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sctool.data import files, images, npz, table
from sctool.data.cifar import read_cifar
from sctool.data.files import read_file, read_tar, read_text, read_zip
from sctool.data.image_folder import read_image_folder
from sctool.data.npz import read_npz
from sctool.data.safe_pickle import parse_pickle
from sctool.data.table import read_table
from sctool.data.text_csv import read_text_csv
from sctool.data.tokens import read_tokens
from sctool.errors import DataError


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_a_tar_over_its_limit_stops_there(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar.gz", [(tarfile.TarInfo("x/train"), bytes(3_000_000))])
    assert path.stat().st_size < 10_000
    assert len(read_tar(path, {"train"}, limit=2**22)["train"]) == 3_000_000
    with pytest.raises(DataError, match="more than its limit"):
        read_tar(path, {"train"}, limit=2**20)
    with pytest.raises(DataError, match="more than its limit"):
        read_tar(path, {"none of it"}, limit=2**20)


@pytest.mark.parametrize("name", ["/etc/train", "a/../../train"])
def test_a_tar_that_leaves_its_folder(tmp_path: Path, name: str) -> None:
    path = make_tar(tmp_path / "a.tar.gz", [(tarfile.TarInfo(name), b"x")])
    with pytest.raises(DataError, match="no plain file inside the archive"):
        read_tar(path, {"train"})
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_tar_with_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("x/train")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(DataError, match="no plain file inside the archive"):
        read_tar(make_tar(tmp_path / "a.tar.gz", [(member, b"")]), {"train"})


def test_a_sparse_member_that_claims_a_terabyte(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x/train")
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[386:398] = head[398:410] = b"00000000000\0"
    head[483:495] = struct.pack(">B3xq", 0x80, 2**40)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(head) + bytes(1024)))
    with tarfile.open(path) as archive:
        assert archive.getmembers()[0].size == 2**40
    with pytest.raises(DataError, match="no plain file inside the archive"):
        read_tar(path, {"train"})


def test_a_tar_of_headers_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longname = tarfile.TarInfo("././@LongLink")
    longname.type, longname.size = tarfile.GNUTYPE_LONGNAME, 512
    block = longname.tobuf(tarfile.GNU_FORMAT) + b"a" * 511 + b"\0"
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(block * 20_000 + bytes(1024)))
    with pytest.raises(DataError):
        read_tar(path, {"train"})
    monkeypatch.setattr(files, "MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="over 3 members"):
        read_tar(make_tar(path, [(tarfile.TarInfo(str(k)), b"") for k in range(5)]), {"train"})


def test_what_is_no_tar(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    for content in (b"", b"<html>", gzip.compress(b"no tar" * 300), gzip.compress(bytes(100)) + b"rubbish"):
        path.write_bytes(content)
        with pytest.raises(DataError):
            read_cifar(path)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_files(tmp_path: Path, ending: str, pack: Any) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(pack(b"0" * 2_000_000))
    assert len(read_file(path)) == 2_000_000
    with pytest.raises(DataError, match="more than 1000 bytes, the limit"):
        read_file(path, limit=1000)
    for damaged in (path.read_bytes()[:-5], b"no archive", path.read_bytes()[:40]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="Cannot read"):
            read_file(path)


def test_nothing_is_left_out_behind_an_xz_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.xz"
    path.write_bytes(lzma.compress(b"one") + bytes(4))
    assert read_file(path) == b"one"
    path.write_bytes(lzma.compress(b"one") + lzma.compress(b"two"))
    with pytest.raises(DataError, match=r"follows the end of the \.xz stream"):
        read_file(path)


def test_folders_pipes_and_other_codings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(DataError, match="it is no file"):
            read_file(path)
    (tmp_path / "a.csv").write_bytes("größe,y\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_text(tmp_path / "a.csv")


def write_zip(path: Path, *members: tuple[str, bytes]) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)
    return path


def test_zips(tmp_path: Path) -> None:
    def wanted(name: str) -> str | None:
        return "a" if name.endswith("/a") else None

    path = write_zip(tmp_path / "a.zip", ("x/a", b"1"), ("../b", b"2"))
    assert read_zip(path, wanted) == {"a": b"1"} and not (tmp_path.parent / "b").exists()
    outer = write_zip(tmp_path / "b.zip", ("in.zip", path.read_bytes()))
    assert read_zip(outer, wanted, inner="in.zip") == {"a": b"1"} and read_zip(outer, wanted) == {}
    with pytest.raises(DataError, match="holds a twice"):
        read_zip(write_zip(path, ("x/a", b"1"), ("y/a", b"2")), wanted)
    with pytest.raises(DataError, match="unpacks to more than 1000 bytes"):
        read_zip(write_zip(path, ("x/a", bytes(2000))), wanted, limit=1000)
    whole = path.read_bytes()
    for content in (b"", whole[:40], whole[:-30], whole.replace(b"\x08\x00", b"\x63\x00")):
        path.write_bytes(content)
        with pytest.raises(DataError, match="Cannot read"):
            read_zip(path, wanted)
    with pytest.raises(DataError, match="No file"):
        read_zip(tmp_path / "none.zip", wanted)


def pack_npy(shape: str, body: bytes, kind: str = "<f4") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".encode()
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def test_bombs_in_an_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros that unpack a thousandfold, and a head that announces a petabyte."""
    path = tmp_path / "a.npz"
    y = pack_npy("(4,)", np.array([0, 1, 0, 1]).tobytes(), "<i8")
    write_zip(path, ("x.npy", pack_npy("(1, 1000000)", bytes(4_000_000))), ("y.npy", y))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(npz, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match=r"unpacks to 4000\d+ bytes; the limit is 1048576"):
        read_npz(path)
    for shape in ("(1099511627776, 256)", "(99999999999999999999,)", "(-1, 2)", "('a',)", "(" * 500 + ")" * 500):
        write_zip(path, ("x.npy", pack_npy(shape, bytes(64))), ("y.npy", y))
        with pytest.raises(DataError, match="not a readable"):
            read_npz(path)
    write_zip(path, ("x", b"no array"), ("y", b"none"))
    with pytest.raises(DataError, match="holds"):
        read_npz(path)
    write_zip(path, ("x.npy", pack_npy("(4, 2)", bytes(32), "O")), ("y.npy", y))
    with pytest.raises(DataError, match="not a readable"):
        read_npz(path)


def test_arrays_without_features_and_numbers_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((4, 0)), y=np.array([0, 1, 0, 1]))
    with pytest.raises(DataError, match="no features"):
        read_npz(path)
    np.savez(path, x=np.full((4, 2), 1e300), y=np.array([0, 1, 0, 1]))
    with warnings.catch_warnings(), pytest.raises(DataError, match="over 3e38"):
        warnings.simplefilter("error")
        read_npz(path)
    np.savez(path, x=np.zeros((4, 2)), y=np.array([0, 1, 0, 1]), train=np.array([1, 0, 1, 0]))
    with pytest.raises(DataError, match=r"`train` is int64 \[4\]; expected bool \[4\]"):
        read_npz(path)


def nest(levels: int) -> bytes:
    """Opcodes that leave one list on the stack; it holds a list twice, that one too, ...: 2 ** levels items in all."""
    if levels == 0:
        return b"]q\x00"
    return b"]q" + bytes([levels]) + b"(" + nest(levels - 1) + b"h" + bytes([levels - 1]) + b"e"


def test_a_bomb_as_the_shape_of_an_array_is_not_spelled_out() -> None:
    """Its text would have 2 ** 60 characters."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87R"
    state = b"(K\x01" + nest(60) + b"\x85" + dtype + b"\x89C\x01atb."
    with pytest.raises(DataError, match="unknown shape"):
        parse_pickle(b"\x80\x03" + array + state, source="x")


def test_a_long_key_many_times_is_cut_short() -> None:
    key, pairs = b"k" * 1_000_000, 5000
    content = b"\x80\x03}B" + struct.pack("<I", len(key)) + key + b"q\x00Ns(" + b"h\x00N" * pairs + b"u."
    with pytest.raises(DataError, match="unpacked too often"):
        parse_pickle(content, source="x")


def test_long_names_of_classes_are_not_copied(tmp_path: Path) -> None:
    """A meta file whose names are all one long text, by reference."""
    for name in ("train", "test"):
        batch = {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 1], b"coarse_labels": [0, 1]}
        (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
    long = b"x" * 1_000_000
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [long] * 100}, 3))
    tracemalloc.start()
    with pytest.raises(DataError, match="does not name up to 100 classes"):
        read_cifar(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_images_of_sixteen_bits_are_not_cut_off(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read_image_folder(tmp_path, colour="grey")


def test_images_within_the_limit_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 30)).save(tmp_path / name / "1.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1199)
    with pytest.raises(DataError, match="40 x 30 pixels; the limit is 1199"):
        read_image_folder(tmp_path)
    monkeypatch.setattr(images, "MAX_PIXELS", 1200)
    monkeypatch.setattr(images, "MAX_BYTES", 28_799)
    with pytest.raises(DataError, match="2 images of 40 x 30 take over"):
        read_image_folder(tmp_path)
    (tmp_path / "a" / "1.png").write_bytes(b"GIF89a" + bytes(40))
    with pytest.raises(DataError, match="Cannot read"):
        read_image_folder(tmp_path)


def test_tables_of_one_long_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text of one width, every cell would take as much as the longest."""
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "x" * 5000 + ",1\n2,0\n")
    with pytest.raises(DataError, match="a cell of over 1000 characters"):
        read_table(path, "y")
    path.write_text("a,y\n" + "x" * 900 + ",1\n" + "2,0\n" * 200)
    monkeypatch.setattr(table, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match="its cells take over"):
        read_table(path, "y")
    path.write_text('a,y\n2,0\n"open,1\n2,0\n')
    with pytest.raises(DataError, match=r"record 2: 1 cells; expected 2"):
        read_table(path, "y")
    np.savez(tmp_path / "t.npz", x=np.array([["a"]]), y=np.array(["y" * 2000]))
    with pytest.raises(DataError, match="room for over 1000 characters"):
        read_table(tmp_path / "t.npz", 1)
    np.savez(tmp_path / "t.npz", x=np.array([[b"\xff"]]), y=np.array([1]))
    with pytest.raises(DataError, match="Cannot read"):
        read_table(tmp_path / "t.npz", 1)


def test_texts_in_the_place_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'"1","{"long " * 100}"\n"2","b"\n')
    with pytest.raises(DataError, match="record 1: its class has 500 characters"):
        read_text_csv(path, label=1)
    path.write_text(f'"1","{"x" * 200_000}"\n')
    with pytest.raises(DataError, match="Cannot read"):
        read_text_csv(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"length": np.zeros(0, int), "y": np.zeros(0, int)},
        {"length": np.array([2**63, 2**63 + 2], np.uint64)},
        {"length": np.array([-1, 3])},
        {"x": np.array([0.0, 1.0])},
        {"vocab": np.array([1, 2])},
    ],
)
def test_tokens_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any]) -> None:
    good = {"x": np.array([0, 1]), "length": np.array([1, 1]), "y": np.array([0, 1]), "vocab": np.array(["a", "b"])}
    np.savez(tmp_path / "t.npz", **{**good, **arrays})
    with pytest.raises(DataError, match="do not fit together"):
        read_tokens(tmp_path / "t.npz")
