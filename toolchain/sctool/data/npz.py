"""Reader for .npz archives of plain arrays x [N, ...] and y [N]; no pickle is ever loaded."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from sctool.data.dataset import Dataset, check_dataset
from sctool.errors import DataError

MAX_BYTES = 16 * 2**30


def read_npz(path: Path) -> Dataset:
    """Read x and y (and, where present, `labels`: strings) from `path`. DataError on anything else."""
    if not path.is_file():
        raise DataError(f"No file {path}.", hint="Give a path to an .npz with arrays x and y.")
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
        if declared > MAX_BYTES:
            raise DataError(f"{path} unpacks to {declared} bytes; the limit is {MAX_BYTES}.", hint="Give less data.")
        with np.load(path, allow_pickle=False) as arrays:
            missing = {"x", "y"} - set(arrays.files)
            if missing:
                raise DataError(
                    f"{path} holds {sorted(arrays.files)}; {sorted(missing)} missing.",
                    hint="Save with np.savez(x=, y=).",
                )
            labels = [str(v) for v in arrays["labels"]] if "labels" in arrays.files else None
            return check_dataset(arrays["x"], arrays["y"], source=path.name, labels=labels)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable .npz: {error}.", hint="Write it again with np.savez.") from error
