"""Reader for a folder with one sub-folder of images a class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.images import Colour, list_images, read_images
from sctool.errors import DataError

Side = Annotated[int, Field(ge=1, le=4096)]
Limit = Annotated[int, Field(ge=0)]


def read_image_folder(path: Path, size: Side | None = None, colour: Colour = "rgb", per_class: Limit = 0) -> Dataset:
    """x [N, 3 or 1, H, W] in 0..255; classes are the sub-folders by name; `per_class`: the first so many (0: all)."""
    if not path.is_dir():
        raise DataError(f"{path} is no folder.", hint="Give a folder with one sub-folder of images a class.")
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if len(folders) < 2:
        raise DataError(
            f"{path} has {len(folders)} sub-folders; expected one a class, at least 2.",
            hint="Sort the images into folders named as their classes.",
        )
    files = [list_images(folder, per_class) for folder in folders]
    y = np.repeat(np.arange(len(files)), [len(chunk) for chunk in files])
    x = read_images([file for chunk in files for file in chunk], size=size, colour=colour)
    return check_dataset(x, y, source=path.name, labels=[folder.name for folder in folders])
