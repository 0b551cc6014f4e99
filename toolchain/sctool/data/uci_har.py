"""Reader for "UCI HAR Dataset", a text tree or its .zip: raw signals of a phone's sensors in windows of 128 samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.files import decode_text, read_text, read_zip
from sctool.errors import DataError

SIGNALS = [f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
WINDOW = 128
MAX_TEXT_BYTES = 2**28
INNER_ZIP = "UCI HAR Dataset.zip"
Part = Literal["train", "test"]
_Read = Callable[[str], str]


def read_uci_har(
    path: Path, parts: Sequence[Part] = ("train", "test"), overlap: bool = False,
    label: Literal["activity", "subject"] = "activity",
) -> Dataset:  # fmt: skip
    """x [N, 9, 128] in g and rad/s, y the activity or the person; from the folder, or from the .zip (also in a .zip).

    Neighbouring windows share half their samples: a random split would put half of a member into a non-member. So,
    unless `overlap`, every other window of a chain is dropped.
    """
    x: list[NDArray[np.float32]] = []
    y: list[NDArray[np.int64]] = []
    read = _open(path, parts)
    for part in parts:
        signals, activity, subject = _read_part(path, read, part)
        keep = np.ones(len(activity), bool) if overlap else _drop_overlapping(signals, activity, subject)
        x.append(signals[keep])
        y.append((activity if label == "activity" else subject)[keep])
    labels = _read_names(path, read("activity_labels.txt")) if label == "activity" else None
    numbers = np.concatenate(y) - 1 if y else np.zeros(0, np.int64)
    if labels is None:
        people, numbers = np.unique(numbers, return_inverse=True)
        labels = [f"person {number + 1}" for number in people]
    return check_dataset(np.concatenate(x) if x else np.zeros((0, 9, WINDOW)), numbers, source=path.name, labels=labels)


def _list_files(part: str) -> list[str]:
    """The labels, the people, and one file a signal."""
    signals = [f"{part}/Inertial Signals/{name}_{part}.txt" for name in SIGNALS]
    return [f"{part}/y_{part}.txt", f"{part}/subject_{part}.txt", *signals]


def _open(path: Path, parts: Sequence[Part]) -> _Read:
    """A function from a file's name in the tree to its text."""
    if path.suffix != ".zip":
        return lambda name: read_text(path / name, limit=MAX_TEXT_BYTES)
    names = ["activity_labels.txt", *(name for part in parts for name in _list_files(part))]

    def find(member: str) -> str | None:
        return next((name for name in names if member == name or member.endswith(f"/{name}")), None)

    found = read_zip(path, find, inner=INNER_ZIP)

    def read(name: str) -> str:
        if name not in found:
            raise DataError(f"No {name} in {path}.", hint="Download it again, whole.")
        return decode_text(found[name], f"{path}: {name}")

    return read


def _read_part(path: Path, read: _Read, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    files = _list_files(part)
    activity, subject = (_read_numbers(path, name, read(name)) for name in files[:2])
    signals = np.empty((len(activity), len(SIGNALS), WINDOW), np.float32)
    for channel, name in enumerate(files[2:]):
        table = _read_table(path, name, read(name), WINDOW)
        if len(table) != len(activity) or len(subject) != len(activity):
            raise DataError(
                f"{path}, {part}: {len(table)} windows of {name}, {len(activity)} labels, {len(subject)} subjects.",
                hint="Unpack the data set whole.",
            )
        signals[:, channel] = table
    return signals, activity, subject


def _read_numbers(path: Path, name: str, text: str) -> NDArray[np.int64]:
    """One whole number from 1 a line: [rows]."""
    values = _read_table(path, name, text, 1)[:, 0]
    if not ((values >= 1) & (values <= 1000) & (values == np.round(values))).all():
        raise DataError(f"{path}: {name} holds other than whole numbers from 1.", hint="Unpack it again.")
    return values.astype(np.int64)


def _read_table(path: Path, name: str, text: str, columns: int) -> NDArray[np.float32]:
    """Numbers [rows, columns] from text; what is too large for float32 becomes infinite."""
    try:
        with np.errstate(over="ignore"):
            values = np.array(text.split(), np.float64).astype(np.float32)
    except ValueError as error:
        raise DataError(
            f"{path}: {name}: {str(error)[:100]}.", hint="Expected numbers alone; unpack it again."
        ) from error
    rows = sum(1 for line in text.splitlines() if line.strip())
    if rows == 0 or len(values) != rows * columns:
        raise DataError(
            f"{path}: {name} has {len(values)} numbers in {rows} lines; expected {columns} a line.",
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


def _read_names(path: Path, text: str) -> list[str]:
    """Line k: "k NAME"."""
    pairs = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    if [pair[0] for pair in pairs] != [str(k + 1) for k in range(len(pairs))] or any(len(p) != 2 for p in pairs):
        raise DataError(
            f"{path}: activity_labels.txt: expected lines '1 NAME', '2 NAME', ....", hint="Unpack it again."
        )
    return [pair[1].strip().lower() for pair in pairs]
