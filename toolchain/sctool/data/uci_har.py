"""Reader for the text tree "UCI HAR Dataset": raw signals of a phone's sensors in windows of 128 samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.files import read_text
from sctool.errors import DataError

SIGNALS = [f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
WINDOW = 128
MAX_TEXT_BYTES = 2**28


def read_uci_har(
    path: Path, parts: Sequence[Literal["train", "test"]] = ("train", "test"), overlap: bool = False,
    label: Literal["activity", "subject"] = "activity",
) -> Dataset:  # fmt: skip
    """x [N, 9, 128] in g and rad/s, y the activity or the person.

    Neighbouring windows share half their samples: a random split would put half of a member into a non-member. So,
    unless `overlap`, every other window of a chain is dropped.
    """
    x: list[NDArray[np.float32]] = []
    y: list[NDArray[np.int64]] = []
    for part in parts:
        signals, activity, subject = _read_part(path, part)
        keep = np.ones(len(activity), bool) if overlap else _drop_overlapping(signals, activity, subject)
        x.append(signals[keep])
        y.append((activity if label == "activity" else subject)[keep])
    labels = _read_names(path / "activity_labels.txt") if label == "activity" else None
    numbers = np.concatenate(y) - 1 if y else np.zeros(0, np.int64)
    if labels is None:
        people, numbers = np.unique(numbers, return_inverse=True)
        labels = [f"person {number + 1}" for number in people]
    return check_dataset(np.concatenate(x) if x else np.zeros((0, 9, WINDOW)), numbers, source=path.name, labels=labels)


def _read_part(path: Path, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    activity = _read_table(path / part / f"y_{part}.txt", 1)[:, 0]
    subject = _read_table(path / part / f"subject_{part}.txt", 1)[:, 0]
    folder = path / part / "Inertial Signals"
    signals = np.empty((len(activity), len(SIGNALS), WINDOW), np.float32)
    for channel, name in enumerate(SIGNALS):
        table = _read_table(folder / f"{name}_{part}.txt", WINDOW)
        if len(table) != len(activity) or len(subject) != len(activity):
            raise DataError(
                f"{path}, {part}: {len(table)} windows of {name}, {len(activity)} labels, {len(subject)} subjects.",
                hint="Unpack the data set whole.",
            )
        signals[:, channel] = table
    return signals, activity.astype(np.int64), subject.astype(np.int64)


def _read_table(path: Path, columns: int) -> NDArray[np.float64]:
    """Numbers [rows, columns] from text."""
    text = read_text(path, limit=MAX_TEXT_BYTES)
    try:
        values = np.array(text.split(), np.float64)
    except ValueError as error:
        raise DataError(f"{path}: {str(error)[:100]}.", hint="Expected numbers alone; unpack it again.") from error
    rows = sum(1 for line in text.splitlines() if line.strip())
    if rows == 0 or len(values) != rows * columns:
        raise DataError(
            f"{path} has {len(values)} numbers in {rows} lines; expected {columns} a line.",
            hint="Unpack it again; it may be truncated.",
        )
    return values.reshape(rows, columns)


def _drop_overlapping(
    signals: NDArray[np.float32], activity: NDArray[np.int64], subject: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which windows stay: in a chain, where each begins with the second half of the one before, every other one."""
    half = WINDOW // 2
    chained = (signals[:-1, :, half:] == signals[1:, :, :half]).all(axis=(1, 2))
    chained &= (activity[:-1] == activity[1:]) & (subject[:-1] == subject[1:])
    keep = np.ones(len(signals), bool)
    for row, follows in enumerate(chained, 1):
        keep[row] = not (follows and keep[row - 1])
    return keep


def _read_names(path: Path) -> list[str]:
    """Line k: "k NAME"."""
    pairs = [line.split(maxsplit=1) for line in read_text(path).splitlines() if line.strip()]
    if [pair[0] for pair in pairs] != [str(k + 1) for k in range(len(pairs))] or any(len(p) != 2 for p in pairs):
        raise DataError(f"{path}: expected lines '1 NAME', '2 NAME', ....", hint="Unpack it again.")
    return [pair[1].strip().lower() for pair in pairs]
