"""Sparse packages: what goes in comes out bit for bit; what is damaged is refused before anything is allocated for it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.unit.formats.packages import make_ptd

from sctool.errors import ArtifactError
from sctool.formats.blob import GAPS, SPLIT, BlobHeader, decode_blob, encode_blob
from sctool.formats.ptd import read_ptd
from sctool.formats.spte import MAX_UNPACKED, pack, read_spte

PROGRAM = bytes(range(200))


def make_weights(rng: np.random.Generator, size: int, density: float) -> NDArray[np.float32]:
    return np.where(rng.random(size) < density, rng.normal(size=size), 0).astype(np.float32)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Words of any bits, zero but for a share of them."""
    kind = draw(st.sampled_from(["<u1", "<u2", "<u4", "<f4", "<f2"]))
    size, density = draw(st.integers(0, 3000)), draw(st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind[1] == "f":
        words = rng.normal(size=size).astype(kind)
    else:
        words = rng.integers(0, 2 ** (8 * int(kind[2])), size).astype(kind)
    words[rng.random(size) >= density] = 0
    return words.tobytes() + draw(st.binary(max_size=3))


@given(blocks())
@example(b"")
@example(struct.pack("<5f", -0.0, float("nan"), float("inf"), 1e-45, 3e38))
@example(bytes(70_000 * 4) + struct.pack("<f", 1.5) + bytes(2**18))
@settings(deadline=None)
def test_every_block_comes_back_bit_for_bit(block: bytes) -> None:
    header, streams = encode_blob(block)
    assert decode_blob(header, memoryview(streams)) == block
    assert len(streams) <= len(block)


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2])
def test_a_block_of_weights_is_smaller_than_positions_at_entropy_and_whole_values(density: float) -> None:
    rng = np.random.default_rng(0)
    weights = make_weights(rng, 200_000, density)
    header, streams = encode_blob(weights.tobytes())
    kept = np.count_nonzero(weights)
    share = kept / weights.size
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) * weights.size / 8
    assert (header.positions, header.values, header.word) == (GAPS, SPLIT, 4)
    assert len(streams) < 0.92 * (entropy + 4 * kept)


def test_bits_that_no_word_uses_are_left_out() -> None:
    """XNNPACK keeps a convolution's float16 weights in words of four bytes."""
    weights = np.random.default_rng(0).normal(size=5000).astype(np.float16).astype("<f4")
    header, streams = encode_blob(weights.tobytes())
    assert header.shift == 13 and len(streams) < 0.5 * weights.nbytes
    assert decode_blob(header, memoryview(streams)) == weights.tobytes()


@given(st.lists(blocks(), max_size=4), st.binary(max_size=100))
@settings(deadline=None, max_examples=30)
def test_a_package_gives_back_program_and_data(contents: list[bytes], program: bytes) -> None:
    data = make_ptd({f"key{number}": content for number, content in enumerate(contents)})
    packed = pack(program, data)
    package = read_spte(packed, "here")
    assert bytes(package.program) == program and package.unpack_data() == data
    assert packed == pack(program, data)
    assert {block.key for block in package.blocks} == {block.key for block in read_ptd(data, "here").blocks}
    names = {block.key: decode_blob(block.header, block.streams) for block in package.blocks}
    assert not contents or names["again_key0"] == names["key0"] == contents[0]


def make_package() -> bytes:
    rng = np.random.default_rng(0)
    weights = make_weights(rng, 900, 0.1).tobytes()
    return pack(PROGRAM, make_ptd({"a": weights, "b": bytes(range(64))}))


@given(st.data())
@settings(max_examples=200)
def test_damage_is_told(data: st.DataObject) -> None:
    content = bytearray(make_package())
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    content[place] ^= 1 << bit
    with pytest.raises(ArtifactError, match="no readable sparse package"):
        read_spte(bytes(content), "here")


def mend(content: bytearray) -> bytes:
    """With the checksums of what it now holds."""
    struct.pack_into("<I", content, 56, zlib.crc32(memoryview(content)[64:]))
    struct.pack_into("<I", content, 60, zlib.crc32(memoryview(content)[:60]))
    return bytes(content)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_forged_packages_are_refused_or_unpack_within_their_claims(data: st.DataObject) -> None:
    """With checksums that fit, so that what lies behind them is reached."""
    content = bytearray(make_package())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    forged = mend(content)
    try:
        package = read_spte(forged, "here")
        assert package.data_bytes + len(package.program) <= 65536 * len(forged)
        unpacked = package.unpack_data()
    except (ArtifactError, ValueError):
        return
    assert len(unpacked) == package.data_bytes


@pytest.mark.parametrize(("place", "kind"), [(24, "<Q"), (32, "<Q"), (40, "<Q"), (48, "<Q"), (12, "<I"), (16, "<Q")])
@pytest.mark.parametrize("value", [2**31, 2**32 - 1])
def test_claims_of_gigabytes_are_refused_before_anything_is_allocated(place: int, kind: str, value: int) -> None:
    content = bytearray(make_package())
    struct.pack_into(kind, content, place, value)
    with pytest.raises(ArtifactError):
        read_spte(mend(content), "here")


def test_a_header_that_promises_more_than_its_streams_allocates_nothing() -> None:
    header = BlobHeader(MAX_UNPACKED, word=4, positions=GAPS, stored=2**29)
    with pytest.raises(ValueError, match="stored bytes"):
        decode_blob(header, memoryview(b"1234"))
    with pytest.raises(ValueError, match="positions"):
        decode_blob(replace(header, position_unary=2**40), memoryview(b""))


def test_an_unknown_version_is_named() -> None:
    content = bytearray(make_package())
    content[8] = 9
    with pytest.raises(ArtifactError, match="version 9"):
        read_spte(mend(content), "here")


def test_only_data_files_are_packed() -> None:
    with pytest.raises(ArtifactError, match=r"\.ptd"):
        pack(PROGRAM, b"not a data file")
    data = bytearray(make_ptd({"a": b"12345", "b": b"6789"}))
    data[read_ptd(bytes(data), "here").blocks[0].offset + 6] = 1
    with pytest.raises(ArtifactError, match="outside its blocks"):
        pack(PROGRAM, bytes(data))
