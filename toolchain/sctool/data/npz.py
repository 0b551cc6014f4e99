"""Reader for .npz archives of plain arrays x [N, ...] and y [N]; no pickle is ever loaded."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.files import MAX_BYTES
from sctool.errors import DataError

_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, RuntimeError, OverflowError, MemoryError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError,
)  # fmt: skip


def read_npz(path: Path) -> Dataset:
    """Read x and y (and, where present, `labels`: strings, `train`: bool [N]) from `path`. DataError on anything else."""
    arrays = read_arrays(path, ["x", "y"], optional=["labels", "train"])
    labels = [str(v) for v in np.atleast_1d(arrays["labels"])] if "labels" in arrays else None
    return check_dataset(arrays["x"], arrays["y"], source=path.name, labels=labels, in_train=arrays.get("train"))


def read_arrays(path: Path, names: Sequence[str], *, optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The arrays `names`, and those of `optional` that are there. DataError where one is missing or damaged."""
    if not path.is_file():
        raise DataError(f"No file {path}.", hint="Give a path to an .npz with arrays x and y.")
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
        if declared > MAX_BYTES:
            raise DataError(f"{path} unpacks to {declared} bytes; the limit is {MAX_BYTES}.", hint="Give less data.")
        with np.load(path, allow_pickle=False) as arrays:
            missing = set(names) - set(arrays.files)
            if missing:
                raise DataError(
                    f"{path} holds {sorted(arrays.files)}; {sorted(missing)} missing.",
                    hint=f"Save with np.savez({', '.join(f'{name}=' for name in names)}).",
                )
            found = {name: arrays[name] for name in [*names, *optional] if name in arrays.files}
    except _DAMAGE as error:
        raise DataError(f"{path} is not a readable .npz: {error}.", hint="Write it again with np.savez.") from error
    if any(not isinstance(array, np.ndarray) for array in found.values()):
        raise DataError(f"{path} holds members that are no arrays.", hint="Write it again with np.savez.")
    return found
