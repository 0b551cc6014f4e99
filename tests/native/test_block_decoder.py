"""The native decoder of a package's blocks against numpy's: the same bytes, the same refusals with the same words."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sctool.formats.blob import BlobHeader, decode_blob, decode_blob_into, encode_blob
from sctool.formats.spte import Decode, pack, read_spte
from sctool.native import blocks
from tests.unit.formats.packages import make_ptd

RUNTIME = Path(__file__).resolve().parents[2] / "toolchain" / "sparse_runtime"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Decode:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the C++ decoder cannot be built")
    library = tmp_path_factory.mktemp("blocks") / "blocks.so"
    sources = [RUNTIME / "package" / name for name in ("c_interface.cpp", "sparse_package.cpp", "block.cpp")]
    options = ["-std=c++17", "-O1", "-shared", "-fPIC", f"-I{RUNTIME / 'include'}", "-o", library]
    subprocess.run(["g++", *map(str, [*options, *sources])], check=True, timeout=120)
    return blocks.bind_decoder(ctypes.CDLL(str(library)))


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    kind = np.dtype(draw(st.sampled_from(["<u1", "<u2", "<u4", "<f4", "<f2"])))
    size, density = draw(st.integers(0, 1500)), draw(st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    words = rng.normal(size=size).astype(kind) if kind.kind == "f" else rng.integers(0, 256**kind.itemsize, size)
    return np.where(rng.random(size) < density, words, 0).astype(kind).tobytes() + draw(st.binary(max_size=3))


def attempt(decode: Decode, header: BlobHeader, streams: bytes) -> bytes | str:
    """The block, with a guard on either side that must stay as it was; or the error's words."""
    room = bytearray(b"\xa5" * (header.size + 16))
    try:
        decode(header, memoryview(streams), memoryview(room)[8 : 8 + header.size])
    except ValueError as error:
        return str(error)
    finally:
        assert room[:8] == room[-8:] == b"\xa5" * 8
    return bytes(room[8:-8])


@given(content=contents())
@settings(deadline=None, max_examples=60)
def test_every_block_comes_back_bit_for_bit(decoder: Decode, content: bytes) -> None:
    assert attempt(decoder, *encode_blob(content)) == content


FIELDS = ("word", "positions", "values", "position_k", "exponent_k", "highest", "shift", "stored", "position_unary")


@given(contents(), st.sampled_from(FIELDS), st.integers(0, 300), st.integers(0, 2**32), st.integers(-2, 2))
@settings(deadline=None, max_examples=150)
def test_damage_is_refused_as_numpy_refuses_it(
    decoder: Decode, content: bytes, field: str, value: int, seed: int, change: int
) -> None:
    """Bytes changed, cut or added, and headers that lie: the answer is numpy's, nothing is written out of bounds."""
    header, streams = encode_blob(content)
    rng = np.random.default_rng(seed)
    damaged = bytearray(streams[: len(streams) + min(change, 0)] + bytes(max(change, 0)))
    for place in rng.integers(0, max(len(damaged), 1), 2 if damaged else 0):
        damaged[place] ^= 1 << int(rng.integers(8))
    for told in (header, replace(header, **{field: value})):
        assert attempt(decoder, told, bytes(damaged)) == attempt(decode_blob_into, told, bytes(damaged))


def test_the_library_itself_refuses_what_does_not_fit(decoder: Decode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the check before it: otherwise a header that lies would be believed."""
    content = np.eye(40, dtype=np.float32).tobytes()
    header, streams = encode_blob(content)
    asked: list[BlobHeader] = []
    monkeypatch.setattr(BlobHeader, "check", lambda self: None)
    monkeypatch.setattr(blocks, "decode_blob_into", lambda told, *_: asked.append(told))
    lies = [
        replace(header, stored=2**40), replace(header, size=2**63), replace(header, word=260), replace(header, shift=200),
        replace(header, position_unary=2**62), replace(header, size=header.size + 4), replace(header, highest=255 + 256),
    ]  # fmt: skip
    for lie in lies:
        decoder(lie, memoryview(streams), memoryview(bytearray(header.size)))
    assert asked == lies


def test_another_name_for_a_block_is_not_decoded_again() -> None:
    weights = np.eye(30, dtype=np.float32).tobytes()
    calls: list[int] = []

    def decode(header: BlobHeader, streams: memoryview, out: memoryview) -> None:
        calls.append(header.size)
        out[:] = decode_blob(header, streams)

    data = make_ptd({"a": weights, "b": bytes(len(weights))})
    assert read_spte(pack(b"program", data), "here").unpack_data(decode) == data
    assert calls == [len(weights)] * 2


def test_without_the_library_numpy_decodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCTOOL_NATIVE", str(tmp_path))
    assert blocks.find_decoder() is decode_blob_into
