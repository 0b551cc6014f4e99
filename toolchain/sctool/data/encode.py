"""Columns of text to features: numbers standardised, words one-hot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sctool.errors import DataError

Cells = NDArray[np.str_]


def number_labels(
    cells: Cells, *, strip: str, missing: Sequence[str], where: str
) -> tuple[NDArray[np.int64], list[str]]:
    """y [N] and the names of the classes: in the order of numbers where all are numbers, else of the alphabet."""
    values = np.char.strip(cells, strip) if strip else cells
    gone = np.isin(values, list(missing))
    if gone.any():
        raise DataError(
            f"{where}: {int(gone.sum())} labels are missing (first: record {int(gone.argmax()) + 1}).",
            hint="Remove these records.",
        )
    names, y = np.unique(values, return_inverse=True)
    if len(names) > 10_000:
        raise DataError(f"{where}: {len(names)} different labels.", hint="Is this the label's column?")
    numbers = _to_numbers(names)
    if numbers is not None:
        order = np.argsort(numbers, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        names, y = names[order], place[y]
    return y.astype(np.int64), [str(name) for name in names]


def encode_columns(
    cells: Cells, names: Sequence[str], *, missing: Sequence[str], standardise: bool, max_categories: int,
    max_bytes: int, where: str,
) -> tuple[NDArray[np.float32], list[dict[str, object]]]:  # fmt: skip
    """x [N, F] from cells [N, columns], and what was done to each column, so that new records can be encoded alike."""
    if not names:
        raise DataError(f"{where}: no column is left beside the label.", hint="Drop fewer columns.")
    blocks: list[NDArray[np.float32]] = []
    done: list[dict[str, object]] = []
    width = 0
    for column, name in enumerate(names):
        values = cells[:, column]
        gone = np.isin(values, list(missing))
        numbers = _to_numbers(values[~gone]) if not gone.all() else None
        if numbers is None:
            block, note = _one_hot(values, gone, name, max_categories, where)
        else:
            block, note = _scale(numbers, gone, standardise, name, where)
        width += block.shape[1]
        if width * len(cells) * 4 > max_bytes:
            raise DataError(f"{where}: the features take over {max_bytes} bytes.", hint="Drop some columns.")
        blocks.append(block)
        done.append({"name": name, **note})
    return np.concatenate(blocks, axis=1), done


def _to_numbers(values: Cells) -> NDArray[np.float64] | None:
    try:
        return values.astype(np.float64)
    except ValueError:
        return None


def _scale(
    numbers: NDArray[np.float64], gone: NDArray[np.bool_], standardise: bool, name: str, where: str
) -> tuple[NDArray[np.float32], dict[str, object]]:
    if not np.isfinite(numbers).all():
        raise DataError(f"{where}: column {name!r} holds infinite numbers.", hint="Remove or replace them.")
    mean, deviation = float(numbers.mean()), float(numbers.std())
    if not np.isfinite([mean, deviation]).all():
        raise DataError(f"{where}: the numbers of column {name!r} are too large.", hint="Scale them down.")
    full = np.full(len(gone), mean)
    full[~gone] = numbers
    if not standardise:
        return full.astype(np.float32)[:, None], {"kind": "keep", "fill": mean}
    scaled = (full - mean) / (deviation or 1.0)
    return scaled.astype(np.float32)[:, None], {"kind": "standardise", "mean": mean, "std": deviation or 1.0}


def _one_hot(
    values: Cells, gone: NDArray[np.bool_], name: str, limit: int, where: str
) -> tuple[NDArray[np.float32], dict[str, object]]:
    categories, place = np.unique(np.where(gone, "?", values), return_inverse=True)
    if len(categories) > limit:
        raise DataError(
            f"{where}: column {name!r} has {len(categories)} different texts; the limit is {limit}.",
            hint="Drop the column, or raise `max_categories`.",
        )
    block = np.zeros((len(values), len(categories)), np.float32)
    block[np.arange(len(values)), place] = 1
    return block, {"kind": "one-hot", "categories": [str(value) for value in categories]}
