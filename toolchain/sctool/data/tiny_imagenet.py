"""Reader for the TinyImageNet tree: train/<wnid>/images/*.JPEG and val/images with val_annotations.txt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.files import read_text
from sctool.data.image_folder import Limit, Side
from sctool.data.images import list_images, read_images
from sctool.errors import DataError


def read_tiny_imagenet(
    path: Path, parts: Sequence[Literal["train", "val"]] = ("train", "val"), size: Side = 64, per_class: Limit = 0
) -> Dataset:
    """x [N, 3, size, size] in 0..255, train first; `per_class` limits each part. Test has no labels and is not read."""
    train = path / "train"
    folders = sorted(entry.name for entry in train.iterdir() if entry.is_dir()) if train.is_dir() else []
    if len(folders) < 2 or not parts:
        raise DataError(f"{path} is not the TinyImageNet tree: no train/<wnid>/images.", hint="Unpack it whole.")
    files: list[Path] = []
    y: list[int] = []
    in_train: list[bool] = []
    for part in parts:
        for label, chunk in enumerate(_list_part(path, part, folders, per_class)):
            files += chunk
            y += [label] * len(chunk)
            in_train += [part == "train"] * len(chunk)
    x = read_images(files, size=size, colour="rgb")
    labels, flags = _read_words(path, folders), np.array(in_train, bool)
    return check_dataset(x, np.array(y, np.int64), source=path.name, labels=labels, in_train=flags)


def _list_part(path: Path, part: str, folders: list[str], per_class: int) -> list[list[Path]]:
    """The files of each class."""
    if part == "train":
        images = [path / "train" / name / "images" for name in folders]
        for folder in images:
            if not folder.is_dir():
                raise DataError(f"No folder {folder}.", hint="Unpack TinyImageNet whole.")
        return [list_images(folder, per_class) for folder in images]
    table = path / "val" / "val_annotations.txt"
    chunks: dict[str, list[Path]] = {name: [] for name in folders}
    for number, line in enumerate(read_text(table).splitlines(), 1):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in chunks or file != Path(file).name:
            raise DataError(
                f"{table}, line {number}: expected a file's name, a tab and one of the {len(folders)} class numbers.",
                hint="Unpack TinyImageNet whole.",
            )
        chunks[wnid].append(path / "val" / "images" / file)
    return [sorted(chunk)[:per_class] if per_class else sorted(chunk) for chunk in chunks.values()]


def _read_words(path: Path, folders: list[str]) -> list[str]:
    """The first word for each class from words.txt, else its number; both where a word stands for two classes."""
    if not (path / "words.txt").is_file():
        return folders
    pairs = (line.partition("\t") for line in read_text(path / "words.txt").splitlines())
    words = {wnid: text.split(",")[0].strip() for wnid, _, text in pairs}
    names = [words.get(wnid) or wnid for wnid in folders]
    return [name if names.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(names, folders, strict=True)]
