"""Reader for tables: CSV (also .gz, .xz), an .npz of strings, or parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.encode import encode_columns, number_labels
from sctool.data.files import MAX_BYTES, read_text, unreadable
from sctool.data.npz import read_arrays
from sctool.errors import DataError

Cells = NDArray[np.str_]
MAX_CELL = 1000
MISSING = ("", "?", "NA", "nan", "NaN")


def read_table(
    path: Path, label: str | int, more: Sequence[str] = (), header: bool = True, columns: Sequence[str] = (),
    delimiter: Literal["auto", ",", ";", "\t"] = "auto", comment: str = "", drop: Sequence[str] = (),
    label_strip: str = "", missing: Sequence[str] = MISSING, numeric: Literal["standardise", "keep"] = "standardise",
    max_categories: Annotated[int, Field(ge=2)] = 100,
) -> Dataset:  # fmt: skip
    """x [N, F]: columns of numbers standardised (or kept), columns of text one-hot, in the order of the columns.

    `label`: the label's column, by name or (from 0) by place; `more`: further files of the same folder, read after;
    `columns`: names for a file without a header; `comment`: lines that begin so are left out; `label_strip`: characters
    cut from the ends of labels. A missing number becomes its column's mean, missing text a category of its own.
    """
    names: list[str] = []
    cells: list[Cells] = []
    for file in [path, *(path.parent / name for name in more)]:
        found, part = _read_cells(file, header, list(columns), delimiter, comment)
        if cells and found != names:
            raise DataError(f"{file} has columns {found[:5]}..., {path.name} has {names[:5]}....", hint="Check `more`.")
        names, cells = found, [*cells, part]
    table = np.concatenate(cells)
    at = _find_column(names, label, path)
    drop_at = {_find_column(names, name, path) for name in drop} | {at}
    y, labels = number_labels(table[:, at], strip=label_strip, missing=missing, where=f"{path.name}, {names[at]!r}")
    keep = [column for column in range(len(names)) if column not in drop_at]
    x, columns_done = encode_columns(
        table[:, keep], [names[column] for column in keep], missing=missing, standardise=numeric == "standardise",
        max_categories=max_categories, max_bytes=MAX_BYTES, where=path.name,
    )  # fmt: skip
    done: dict[str, object] = {"kind": "table", "columns": columns_done}
    return check_dataset(x, y, source=path.name, labels=labels, normalisation=done)


def _find_column(names: list[str], wanted: str | int, path: Path) -> int:
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return wanted
    if wanted in names:
        return names.index(str(wanted))
    raise DataError(f"{path} has no column {wanted!r}.", hint=f"Its columns: {', '.join(names[:20])}.")


def _read_cells(path: Path, header: bool, columns: list[str], delimiter: str, comment: str) -> tuple[list[str], Cells]:
    """Names of the columns and all cells as text [N, columns]."""
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix == ".npz":
        arrays = read_arrays(path, ["x", "y"])
        x, y = arrays["x"], arrays["y"]
        if x.ndim != 2 or y.shape != (len(x),) or len(x) == 0:
            raise DataError(f"{path}: x {list(x.shape)}, y {list(y.shape)}; expected [N, F], [N].", hint="Check it.")
        if max(x.dtype.itemsize, y.dtype.itemsize) > 4 * MAX_CELL:
            raise DataError(f"{path} has room for over {MAX_CELL} characters a cell, the limit.", hint="Check it.")
        try:
            table = np.column_stack([x.astype(str), y.astype(str)])
        except ValueError as error:
            raise unreadable(path, error) from error
        return _name_columns(path, table.shape[1], columns), table
    rows = list(_split_rows(path, delimiter, comment))
    if header and rows:
        columns, rows = [name.strip() for name in rows[0]], rows[1:]
    if not rows:
        raise DataError(f"{path} holds no records.", hint="Check the file and the option `header`.")
    names = _name_columns(path, len(rows[0]), columns)
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise DataError(
                f"{path}, record {number}: {len(row)} cells; expected {len(names)}.",
                hint="Check the options `delimiter`, `comment` and `columns`; the file may be truncated.",
            )
    if max(len(cell) for row in rows for cell in row) * 4 * len(rows) * len(names) > MAX_BYTES:
        raise DataError(f"{path}: its cells take over {MAX_BYTES} bytes as text of one width.", hint="Drop long texts.")
    return names, np.char.strip(np.array(rows, dtype=str))


def _name_columns(path: Path, count: int, columns: list[str]) -> list[str]:
    names = columns or [str(k) for k in range(count)]
    if len(names) != count or len(set(names)) != count:
        raise DataError(
            f"{path} has {count} columns, {len(set(names))} different names are known.",
            hint="Give `columns` a name for each, or check the header.",
        )
    return names


def _split_rows(path: Path, delimiter: str, comment: str) -> Iterator[list[str]]:
    text = read_text(path)
    if delimiter == "auto":
        lines = (line for line in io.StringIO(text) if line.strip() and not (comment and line.startswith(comment)))
        first = next(lines, "")
        delimiter = max(",;\t", key=first.count)
    kept = (line for line in io.StringIO(text, newline="") if not (comment and line.startswith(comment)))
    try:
        for row in csv.reader(kept, delimiter=delimiter, skipinitialspace=True):
            if max(map(len, row), default=0) > MAX_CELL:
                raise DataError(
                    f"{path} has a cell of over {MAX_CELL} characters, the limit.",
                    hint="Check the quotes; for texts there is the reader text_csv.",
                )
            if row and (len(row) > 1 or row[0].strip()):
                yield row
    except csv.Error as error:
        raise unreadable(path, error) from error


def _read_parquet(path: Path) -> tuple[list[str], Cells]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            f"{path}: reading parquet needs pyarrow, which is not installed.",
            hint="pip install 'sctool[parquet]', or save the table as CSV.",
        ) from error
    try:
        table = parquet.read_table(path)
        columns = [["" if v is None else str(v) for v in column.to_pylist()] for column in table.columns]
    except Exception as error:  # pyarrow has its own error tree; the file is at fault in all of it.
        raise unreadable(path, error) from error
    if not columns or not columns[0]:
        raise DataError(f"{path} holds no records.", hint="Check the file.")
    return list(table.column_names), np.array(columns, dtype=str).T
