"""Reader for CIFAR-10 and CIFAR-100 in their Python form (a folder of pickles, or the .tar.gz); no pickle is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.files import read_file, read_tar
from sctool.data.safe_pickle import parse_pickle
from sctool.errors import DataError

_FILES = {
    10: {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"], "meta": ["batches.meta"]},
    100: {"train": ["train"], "test": ["test"], "meta": ["meta"]},
}
_HINT = "Give the folder cifar-10-batches-py or cifar-100-python, or the .tar.gz it comes in, whole."
MAX_BATCH_BYTES = 2**28
Part = Literal["train", "test"]


def read_cifar(
    path: Path, labels: Literal["fine", "coarse"] = "fine", parts: Sequence[Part] = ("train", "test")
) -> Dataset:
    """x [N, 3, 32, 32] in 0..255, train before test; `labels` chooses CIFAR-100's 100 or 20 classes."""
    every = {name for files in _FILES.values() for names in files.values() for name in names}
    if path.is_dir():
        files = {
            entry.name: read_file(entry, limit=MAX_BATCH_BYTES)
            for entry in sorted(path.iterdir())
            if entry.name in every
        }
    else:
        files = read_tar(path, every, limit=3 * MAX_BATCH_BYTES)
    kind = 10 if "test_batch" in files or "data_batch_1" in files else 100
    wanted = [name for part in parts for name in _FILES[kind][part]]
    missing = [name for name in [*wanted, *_FILES[kind]["meta"]] if name not in files]
    if missing or not wanted:
        raise DataError(f"{path} lacks {', '.join(missing) or 'all parts'} of CIFAR-{kind}.", hint=_HINT)
    key = "labels" if kind == 10 else f"{labels}_labels"
    batches = [_read_batch(files[name], key, f"{path.name}/{name}") for name in wanted]
    in_train = [np.full(len(y), name not in _FILES[kind]["test"]) for name, (_, y) in zip(wanted, batches, strict=True)]
    meta = _read_dict(files[_FILES[kind]["meta"][0]], f"{path.name}/{_FILES[kind]['meta'][0]}")
    names = meta.get("label_names" if kind == 10 else f"{labels}_label_names")
    if (
        not isinstance(names, list) or len(names) > 100
        or not all(isinstance(name, str | bytes) and len(name) <= 100 for name in names)
    ):  # fmt: skip
        raise DataError(f"{path}: its meta file does not name up to 100 classes.", hint=_HINT)
    texts = [name.decode("latin-1") if isinstance(name, bytes) else name for name in names]
    return check_dataset(
        np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches]), source=path.name, labels=texts,
        in_train=np.concatenate(in_train),
    )  # fmt: skip


def _read_dict(content: bytes, source: str) -> dict[object, object]:
    found = parse_pickle(content, source=source)
    if not isinstance(found, dict):
        raise DataError(f"{source} holds a {type(found).__name__}; expected a dict.", hint=_HINT)
    return found


def _read_batch(content: bytes, key: str, source: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _read_dict(content, source)
    x, y = batch.get("data"), batch.get(key)
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != 3072:
        raise DataError(f"{source}: 'data' is not an array of bytes [N, 3072].", hint=_HINT)
    if not isinstance(y, list) or len(y) != len(x) or not all(type(k) is int and 0 <= k < 100 for k in y):
        raise DataError(f"{source}: {key!r} is not a list of {len(x)} class numbers.", hint=_HINT)
    return x.reshape(-1, 3, 32, 32), np.array(y, np.int64)
