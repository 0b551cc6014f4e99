"""Records of the training set inside a file: a model that ships must not carry them, not even by accident.

Bytes: each record is rendered as programs store it, and a file is searched for all of them at once by a rolling hash
(Karp & Rabin 1987) of each one's most varied stretch; a hit counts where the whole record is there, or nearly. Tensors:
a row that is a record but for scale and offset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW = 64
SHORTEST = 16
FEWEST_CHANGES = 8
"""Changes from one byte to the next that a stretch needs, to be told from padding and tables."""
NEARLY = 0.9
"""Share of a record's bytes that make it nearly there."""
CORRELATION = 0.999
FEWEST_VALUES = 16
_PIECE = 2**22
_BASE = 0x9E3779B97F4A7C15 | 1
_INVERSE = pow(_BASE, -1, 2**64)
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Carried:
    """Record `record` (its place among those searched for) is at byte `offset`, `rendering` says how; `share` of its
    bytes are there."""

    record: int
    rendering: str
    offset: int
    share: float


def render_records(x: NDArray[np.float32], raw: NDArray[np.float64]) -> Iterator[tuple[str, Bytes]]:
    """x [N, ...] as the model sees it, raw [N, ...] as it was before -> (how, bytes [N, L]), each way that a program may
    keep it: numbers of 4 and of 2 bytes, and, where the raw values fit, whole bytes and single bits."""
    flat, whole = x.reshape(len(x), -1), raw.reshape(len(raw), -1)
    yield "float32", np.ascontiguousarray(flat, "<f4").view(np.uint8)
    with np.errstate(over="ignore"):
        yield "float16", np.ascontiguousarray(flat, "<f2").view(np.uint8)
    if not np.array_equal(flat, whole):
        yield "float32, not normalised", np.ascontiguousarray(whole, "<f4").view(np.uint8)
    rounded = np.round(whole)
    if np.abs(whole - rounded).max(initial=0) < 1e-3 and rounded.min(initial=0) >= 0 and rounded.max(initial=0) <= 255:
        yield "bytes", rounded.astype(np.uint8)
        if rounded.max(initial=0) <= 1:
            yield "bits", np.packbits(rounded.astype(bool), axis=1)


def find_records(content: bytes, rendering: str, records: Bytes) -> list[Carried]:
    """Each of records [N, L] that is in `content`, or at least NEARLY; those too short or too even to tell are left
    out. O(len(content) log N)."""
    length = records.shape[1] if records.ndim == 2 else 0
    if length < SHORTEST or len(content) < SHORTEST:
        return []
    window = min(WINDOW, length)
    starts, tellable = _choose_windows(records, window)
    rows = np.flatnonzero(tellable)
    stretches = records[rows[:, None], starts[rows, None] + np.arange(window)]
    hashes = _hash_stretches(stretches)
    order = np.argsort(hashes, kind="stable")
    found = []
    for offset, value in _scan(content, window, hashes[order]):
        for k in order[np.searchsorted(hashes[order], value, "left") : np.searchsorted(hashes[order], value, "right")]:
            row = int(rows[k])
            begin = offset - int(starts[row])
            share = _compare(content, begin, records[row])
            if share >= NEARLY:
                found.append(Carried(row, rendering, begin, share))
    return found


def find_rows(tensor: NDArray[np.floating], x: NDArray[np.float32]) -> list[tuple[int, int]]:
    """(row of the tensor, record) where a row, or a column, of `tensor` is a record of x [N, ...] but for scale and
    offset; of records of at least FEWEST_VALUES values."""
    records = x.reshape(len(x), -1)
    width = records.shape[1]
    if width < FEWEST_VALUES or tensor.size < width or tensor.size % width:
        return []
    views = [tensor.reshape(-1, width)]
    if tensor.ndim > 1 and tensor.shape[0] == width:
        views.append(tensor.reshape(width, -1).T)
    target = _standardise(records)
    found = []
    for view in views:
        for begin in range(0, len(view), 1024):
            likeness = _standardise(view[begin : begin + 1024]) @ target.T
            found += [(begin + int(a), int(b)) for a, b in np.argwhere(likeness > CORRELATION)]
    return found


def _choose_windows(records: Bytes, window: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each record's most varied stretch begins, and whether it is varied enough."""
    changes = np.cumsum(np.diff(records, axis=1) != 0, axis=1, dtype=np.int32)
    changes = np.concatenate([np.zeros((len(records), 1), np.int32), changes], axis=1)
    inside = changes[:, window - 1 :] - changes[:, : changes.shape[1] - window + 1]
    starts = inside.argmax(axis=1).astype(np.int64)
    return starts, inside[np.arange(len(records)), starts] >= FEWEST_CHANGES


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """base ** 0, 1, ... modulo 2 ** 64."""
    steps = np.full(count, base, np.uint64)
    steps[0] = 1
    return np.cumprod(steps, dtype=np.uint64)


def _hash_stretches(stretches: Bytes) -> NDArray[np.uint64]:
    """[N, W] -> sum_j (byte_j + 1) base ** j, modulo 2 ** 64."""
    values = stretches.astype(np.uint64) + np.uint64(1)
    return np.asarray((values * _powers(_BASE, stretches.shape[1])).sum(axis=1, dtype=np.uint64))


def _scan(content: bytes, window: int, wanted: NDArray[np.uint64]) -> Iterator[tuple[int, np.uint64]]:
    """(offset, hash) of every stretch whose hash is among the sorted `wanted`, piece by piece."""
    if len(wanted) == 0:
        return
    everything = np.frombuffer(content, np.uint8)
    for begin in range(0, max(len(everything) - window + 1, 0), _PIECE):
        part = everything[begin : begin + _PIECE + window - 1].astype(np.uint64) + np.uint64(1)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(part * _powers(_BASE, len(part)), dtype=np.uint64)])
        hashes = (sums[window:] - sums[:-window]) * _powers(_INVERSE, len(part) - window + 1)
        at = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        for place in np.flatnonzero(wanted[at] == hashes):
            yield begin + int(place), hashes[place]


def _compare(content: bytes, begin: int, record: Bytes) -> float:
    """Share of the record's bytes that are at `begin`."""
    low, high = max(begin, 0), min(begin + len(record), len(content))
    there = np.frombuffer(content, np.uint8)[low:high]
    return float((there == record[low - begin : high - begin]).sum()) / len(record)


def _standardise(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each row with mean 0 and norm 1; a constant row becomes 0."""
    centred = rows.astype(np.float64) - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(norm > 1e-12, norm, np.inf), dtype=np.float32)
