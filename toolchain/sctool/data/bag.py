"""Texts as bags of words: [N, features] counts."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sctool.data.files import MAX_BYTES
from sctool.errors import DataError

Words = Literal["hashed", "frequent"]
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def split_words(text: str) -> list[str]:
    """Lower-case words, digits among them, without punctuation; the literal backslash-n of some sets is a space."""
    return _WORD.findall(text.replace("\\n", " ").lower())


def number_words(texts: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """All words of all texts as numbers [total], the length of each text [N], and the word behind each number."""
    numbers: dict[str, int] = {}
    chunks: list[NDArray[np.int64]] = []
    for text in texts:
        chunks.append(np.array([numbers.setdefault(word, len(numbers)) for word in split_words(text)], np.int64))
    flat = np.concatenate(chunks) if chunks else np.zeros(0, np.int64)
    return flat, np.array([len(chunk) for chunk in chunks], np.int64), list(numbers)


def count_words(
    flat: NDArray[np.int64], lengths: NDArray[np.int64], vocabulary: Sequence[str], *, features: int, words: Words,
    where: str,
) -> NDArray[np.float32]:  # fmt: skip
    """x [N, features]: how often each word is in each text.

    hashed: a word's column is its CRC-32 modulo `features`, so no vocabulary is needed later; frequent: the columns are
    the most frequent words (ties by alphabet), all others are left out.
    """
    if len(lengths) * features * 4 > MAX_BYTES:
        raise DataError(f"{where}: {len(lengths)} texts x {features} features are too large.", hint="Lower `features`.")
    if words == "hashed":
        columns = np.array([zlib.crc32(word.encode()) % features for word in vocabulary], np.int64)
    else:
        counts = np.bincount(flat, minlength=len(vocabulary))
        best = sorted(range(len(vocabulary)), key=lambda k: (-int(counts[k]), vocabulary[k]))[:features]
        columns = np.full(len(vocabulary), -1, np.int64)
        columns[best] = np.arange(len(best))
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = columns[flat] if len(flat) else flat
    x = np.zeros((len(lengths), features), np.float32)
    np.add.at(x, (rows[places >= 0], places[places >= 0]), np.float32(1))
    return x
