"""Reader for CSV files of texts: one column the class, the others text (AG-News, Yelp)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from sctool.data.bag import Words, count_words, number_words
from sctool.data.dataset import Dataset, check_dataset
from sctool.data.encode import number_labels
from sctool.data.files import read_text, unreadable
from sctool.errors import DataError

MAX_NAME = 200
Features = Annotated[int, Field(ge=1, le=2**20)]


def read_text_csv(
    path: Path, more: Sequence[str] = (), label: Annotated[int, Field(ge=0)] = 0, header: bool = False,
    features: Features = 1024, words: Words = "hashed", per_class: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:  # fmt: skip
    """x [N, features]: counts of words over all columns but the label's; `per_class`: the first so many (0: all)."""
    classes: list[str] = []
    texts: list[str] = []
    taken: dict[str, int] = {}
    for file in [path, *(path.parent / name for name in more)]:
        for name, text in _read_rows(file, label, header):
            taken[name] = taken.get(name, 0) + 1
            if not per_class or taken[name] <= per_class:
                classes.append(name)
                texts.append(text)
    if not texts:
        raise DataError(f"{path} holds no records.", hint="Check the file and the option `header`.")
    y, labels = number_labels(np.array(classes, dtype=str), strip="", missing=[""], where=path.name)
    flat, lengths, vocabulary = number_words(texts)
    x = count_words(flat, lengths, vocabulary, features=features, words=words, where=path.name)
    done: dict[str, object] = {"kind": "bag of words", "words": words, "features": features}
    return check_dataset(x, y, source=path.name, labels=labels, normalisation=done)


def _read_rows(path: Path, label: int, header: bool) -> Iterator[tuple[str, str]]:
    """Class and text of each record."""
    width = 0
    try:
        for number, row in enumerate(csv.reader(io.StringIO(read_text(path, limit=2**31), newline="")), 1):
            if not row or (header and number == 1):
                continue
            width = width or len(row)
            if len(row) != width or width < 2 or label >= width:
                raise DataError(
                    f"{path}, record {number}: {len(row)} cells; expected {max(width, label + 1, 2)}.",
                    hint="Expected a class and texts, in quotes; the file may be truncated.",
                )
            if len(row[label]) > MAX_NAME:
                raise DataError(
                    f"{path}, record {number}: its class has {len(row[label])} characters; the limit is {MAX_NAME}.",
                    hint="Check the option `label`: which column, from 0, holds the class.",
                )
            yield row[label].strip(), " ".join(row[:label] + row[label + 1 :])
    except csv.Error as error:
        raise unreadable(path, error) from error
