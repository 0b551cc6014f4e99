"""Reader for an .npz of texts as token numbers: x [total], length [N], y [N], vocab [V]."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sctool.data.bag import Words, count_words
from sctool.data.dataset import Dataset, check_dataset
from sctool.data.npz import read_arrays
from sctool.data.text_csv import Features
from sctool.errors import DataError


def read_tokens(path: Path, features: Features = 1024, words: Words = "hashed") -> Dataset:
    """x [N, features]: counts of words, as read_text_csv gives them; a token without a word counts by its number."""
    arrays = read_arrays(path, ["x", "length", "y", "vocab"])
    flat, lengths, vocab = arrays["x"], arrays["length"], arrays["vocab"]
    whole = all(a.ndim == 1 and a.dtype.kind in "iu" for a in (flat, lengths, arrays["y"]))
    if (
        not whole or vocab.ndim != 1 or vocab.dtype.kind != "U" or 0 in (len(flat), len(lengths))
        or len(lengths) != len(arrays["y"]) or not 0 <= lengths.min() <= lengths.max() <= len(flat)
        or int(lengths.sum()) != len(flat) or not 0 <= flat.min() <= flat.max() < len(vocab)
    ):  # fmt: skip
        raise DataError(
            f"{path}: x, length, y and vocab do not fit together.",
            hint="Expected token numbers x [total], length [N] that sums to total, y [N] and words vocab [V].",
        )
    vocabulary = [str(word) or f"#{number}" for number, word in enumerate(vocab)]
    x = count_words(
        flat.astype(np.int64), lengths.astype(np.int64), vocabulary, features=features, words=words, where=path.name
    )
    done: dict[str, object] = {"kind": "bag of words", "words": words, "features": features}
    return check_dataset(x, arrays["y"], source=path.name, normalisation=done)
