"""Reader for the idx files of MNIST and Fashion-MNIST, plain or .gz."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.files import read_file
from sctool.errors import DataError

_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 8


def read_idx(path: Path, parts: Sequence[Literal["train", "test"]] = ("train", "test")) -> Dataset:
    """x [N, 1, H, W] in 0..255 from a folder with {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz], train first."""
    images = [_read_array(_find(path, f"{_PREFIX[part]}-images", "idx3-ubyte"), 3) for part in parts]
    labels = [_read_array(_find(path, f"{_PREFIX[part]}-labels", "idx1-ubyte"), 1) for part in parts]
    if len({array.shape[1:] for array in images}) != 1:
        raise DataError(f"{path}: its parts hold images of different sizes.", hint="Give files of one data set.")
    in_train = np.concatenate([np.full(len(y), part == "train") for part, y in zip(parts, labels, strict=True)])
    x, y = np.concatenate(images)[:, None], np.concatenate(labels)
    return check_dataset(x, y, source=path.name, in_train=in_train)


def _find(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{sign}{kind}{ending}" for sign in "-." for ending in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"No {names[0]} (or .gz) in {folder}.", hint="Put the four files of the data set there.")


def _read_array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of one idx file: two zero bytes, type, number of dimensions, their sizes as big-endian uint32, bytes."""
    content = read_file(path)
    start = 4 + 4 * dimensions
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != expected:
        raise DataError(
            f"{path} begins with {content[:4].hex(' ') or 'nothing'}; an idx file of bytes in {dimensions} dimensions "
            f"begins with {expected.hex(' ')}.",
            hint="Download it again.",
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else ()
    if not shape or math.prod(shape) != len(content) - start:
        raise DataError(
            f"{path} announces shape {list(shape)} but holds {max(0, len(content) - start)} bytes after its head.",
            hint="Download it again; it may be truncated.",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
