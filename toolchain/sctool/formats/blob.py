"""One block of weights stored sparse: where its words are not zero, and what they are; bit for bit.

A block is a row of words of 1, 2 or 4 bytes. Of the words that are not all zero bits, the gaps between them are Rice coded;
the words themselves are either kept, or, where they are floating-point numbers, split: the distance of each exponent from
the highest one is Rice coded, sign and mantissa are kept without the low bits that no word uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sctool.formats.rice import choose_k, decode_rice, encode_rice, fields_bytes, pack_fields, unpack_fields

EVERY, GAPS = 0, 1
"""Which words are stored: every one, or those at coded positions."""
WHOLE, SPLIT = 0, 1
"""How words are stored: as they are, or exponents apart."""
MANTISSA = {2: 10, 4: 23}
"""Bits of the mantissa of a word of so many bytes, as IEEE 754 has it."""
_EXPONENT = {2: 5, 4: 8}
Words = NDArray[np.unsignedinteger]
_TYPES: dict[int, np.dtype[np.unsignedinteger]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}


@dataclass(frozen=True)
class BlobHeader:
    """How a block is stored. `size`: its bytes when decoded; `stored`: words kept; the streams follow one another:
    positions' unary and remainders, exponents' unary and remainders, fields or whole words."""

    size: int
    word: int = 1
    positions: int = EVERY
    values: int = WHOLE
    position_k: int = 0
    exponent_k: int = 0
    highest: int = 0
    shift: int = 0
    stored: int = 0
    position_unary: int = 0
    exponent_unary: int = 0

    @property
    def words(self) -> int:
        return self.size // self.word

    @property
    def field_bits(self) -> int:
        """Bits of sign and mantissa that are kept of each word."""
        return MANTISSA[self.word] + 1 - self.shift if self.values == SPLIT else 8 * self.word

    def streams(self) -> tuple[int, int, int, int, int]:
        """Bytes of each stream."""
        return (
            self.position_unary, fields_bytes(self.position_k, self.stored) if self.positions == GAPS else 0,
            self.exponent_unary, fields_bytes(self.exponent_k, self.stored) if self.values == SPLIT else 0,
            fields_bytes(self.field_bits, self.stored),
        )  # fmt: skip

    def check(self) -> None:
        """ValueError where it describes what no encoder writes; afterwards all sizes follow from `size` alone."""
        if self.word not in _TYPES or self.size % self.word:
            raise ValueError(f"a block of {self.size} bytes in words of {self.word}")
        if self.positions not in (EVERY, GAPS) or self.values not in (WHOLE, SPLIT):
            raise ValueError(f"unknown codes {self.positions} and {self.values}")
        if self.stored > self.words or (self.positions == EVERY and self.stored != self.words):
            raise ValueError(f"{self.stored} words stored of {self.words}")
        if self.position_k > 30 or self.exponent_k > 8:
            raise ValueError(f"remainders of {self.position_k} and {self.exponent_k} bits")
        if self.positions == EVERY and (self.position_unary or self.position_k):
            raise ValueError("positions where none are needed")
        if self.position_unary > (self.words >> self.position_k) // 8 + self.stored // 8 + 2:
            raise ValueError(f"{self.position_unary} bytes for the positions of {self.stored} words")
        if self.values == WHOLE:
            if self.exponent_unary or self.exponent_k or self.highest or self.shift:
                raise ValueError("exponents of words that are whole")
        elif self.word == 1 or self.highest >= 1 << _EXPONENT[self.word] or self.shift > MANTISSA[self.word]:
            raise ValueError(f"exponents up to {self.highest} and a shift of {self.shift} in {self.word} bytes")
        elif self.exponent_unary > (self.stored * ((self.highest >> self.exponent_k) + 1)) // 8 + 1:
            raise ValueError(f"{self.exponent_unary} bytes for {self.stored} exponents")


def encode_blob(block: bytes | memoryview) -> tuple[BlobHeader, bytes]:
    """The smallest way to store `block`: its header and its streams."""
    tried = [_encode(block, word) for word in _TYPES if len(block) % word == 0]
    return min(tried, key=lambda one: len(one[1]))


def _encode(block: bytes | memoryview, word: int) -> tuple[BlobHeader, bytes]:
    words = np.frombuffer(block, _TYPES[word])
    places = np.flatnonzero(words)
    gaps = np.diff(places, prepend=-1) - 1
    k = choose_k(gaps)
    unary, remainders = encode_rice(gaps, k)
    header, streams, kept = BlobHeader(len(block), word, GAPS, stored=len(places)), [unary, remainders], words[places]
    header = replace(header, position_k=k, position_unary=len(unary))
    if len(unary) + len(remainders) + kept.nbytes >= words.nbytes:
        header, streams, kept = BlobHeader(len(block), word, stored=len(words)), [], words
    split = _split(kept, header) if word in MANTISSA and len(kept) else None
    if split is not None and sum(map(len, split[1])) < kept.nbytes:
        return split[0], b"".join([*streams, *split[1]])
    return header, b"".join([*streams, kept.tobytes()])


def _split(kept: Words, header: BlobHeader) -> tuple[BlobHeader, list[bytes]]:
    """Exponents apart from signs and mantissas."""
    mantissa = MANTISSA[header.word]
    whole = kept.astype(np.int64)
    exponents = (whole >> mantissa) & ((1 << _EXPONENT[header.word]) - 1)
    fields = (whole >> (8 * header.word - 1) << mantissa) | (whole & ((1 << mantissa) - 1))
    used = int(np.bitwise_or.reduce(fields)) | 1 << mantissa
    shift = (used & -used).bit_length() - 1
    highest = int(exponents.max())
    k = choose_k(highest - exponents)
    unary, remainders = encode_rice(highest - exponents, k)
    header = replace(
        header, values=SPLIT, exponent_k=k, highest=highest, shift=shift, exponent_unary=len(unary)
    )  # fmt: skip
    return header, [unary, remainders, pack_fields(fields >> shift, header.field_bits)]


def decode_blob(header: BlobHeader, streams: memoryview) -> bytes:
    """The block that encode_blob was given. ValueError on damage; nothing is allocated before the header is checked."""
    header.check()
    sizes = header.streams()
    if sum(sizes) != len(streams):
        raise ValueError(f"a block takes {sum(sizes)} stored bytes, {len(streams)} are there")
    ends = np.cumsum([0, *sizes])
    parts = [streams[begin:end] for begin, end in zip(ends[:-1], ends[1:], strict=True)]
    kept = _join(header, parts[2], parts[3], parts[4])
    if header.positions == EVERY:
        return kept.tobytes()
    places = np.cumsum(decode_rice(parts[0], parts[1], header.position_k, header.stored) + 1) - 1
    if header.stored and (places[-1] >= header.words or places[-1] < 0):
        raise ValueError(f"a word at {places[-1]} of {header.words}")
    words = np.zeros(header.words, _TYPES[header.word])
    words[places] = kept
    return words.tobytes()


def decode_blob_into(header: BlobHeader, streams: memoryview, out: memoryview) -> None:
    """The block, as decode_blob gives it, into `out`, which has header.size bytes."""
    out[:] = decode_blob(header, streams)


def _join(header: BlobHeader, unary: memoryview, remainders: memoryview, fields: memoryview) -> Words:
    """The words that are stored, in their order."""
    kind = _TYPES[header.word]
    if header.values == WHOLE:
        return np.frombuffer(fields, kind)
    mantissa = MANTISSA[header.word]
    distances = decode_rice(unary, remainders, header.exponent_k, header.stored)
    if header.stored and int(distances.max()) > header.highest:
        raise ValueError(f"an exponent {distances.max()} under the highest, {header.highest}")
    kept = unpack_fields(fields, header.field_bits, header.stored) << header.shift
    sign, fraction = kept >> mantissa, kept & ((1 << mantissa) - 1)
    words: Words = ((sign << (8 * header.word - 1)) | ((header.highest - distances) << mantissa) | fraction).astype(
        kind
    )
    return words
