"""Image files to one array: every file decoded by Pillow, from a short list of formats, within a limit of pixels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sctool.data.files import MAX_BYTES, unreadable
from sctool.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp"}
MAX_PIXELS = 2**26
Colour = Literal["rgb", "grey"]


def list_images(folder: Path, per_class: int = 0) -> list[Path]:
    """The image files of `folder` in the order of their names, at most `per_class` where that is not 0."""
    found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in ENDINGS and entry.name[0] != ".")
    if not found:
        raise DataError(f"No images in {folder}.", hint=f"Put files there that end in {', '.join(sorted(ENDINGS))}.")
    return found[:per_class] if per_class else found


def read_images(files: Sequence[Path], *, size: int | None, colour: Colour) -> NDArray[np.uint8]:
    """[N, 3 or 1, H, W] in 0..255. `size`: the side of a square that all are resized to; None: all must agree."""
    first = _read_image(files[0], size, colour)
    if len(files) * first.size * 4 > MAX_BYTES:
        raise DataError(
            f"{len(files)} images of {first.shape[-1]} x {first.shape[-2]} take over {MAX_BYTES} bytes.",
            hint="Give a smaller `size`, or a limit `per_class`.",
        )
    images = np.empty((len(files), *first.shape), np.uint8)
    for row, path in enumerate(files):
        image = first if row == 0 else _read_image(path, size, colour)
        if image.shape != first.shape:
            raise DataError(
                f"{path} has {_describe(image)}, {files[0].name} has {_describe(first)}.",
                hint="Give the option `size`, to which all are resized.",
            )
        images[row] = image
    return images


def _describe(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[2]} x {image.shape[1]} pixels"


def _read_image(path: Path, size: int | None, colour: Colour) -> NDArray[np.uint8]:
    """One image [channels, H, W]."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if math.prod(image.size) > MAX_PIXELS:
                    raise DataError(
                        f"{path} has {image.size[0]} x {image.size[1]} pixels; the limit is {MAX_PIXELS} in all.",
                        hint="Make it smaller, or remove it.",
                    )
                if image.mode[0] in "IF":
                    raise DataError(
                        f"{path} has pixels of more than 8 bits (mode {image.mode}), which would be cut off at 255.",
                        hint="Scale it to 8 bits, or save the records as an .npz.",
                    )
                plain = image.convert("RGB" if colour == "rgb" else "L")
                if size is not None and plain.size != (size, size):
                    plain = plain.resize((size, size), Image.Resampling.BILINEAR)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a damaged file drives them to.
        raise unreadable(path, error) from error
    pixels = np.asarray(plain, dtype=np.uint8)
    return pixels[None] if colour == "grey" else np.ascontiguousarray(pixels.transpose(2, 0, 1))
