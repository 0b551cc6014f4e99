"""From a data source of the configuration to a Dataset: a calibration recipe, an .npz, or 'module:callable'."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.digits import read_digits
from sctool.data.npz import read_npz
from sctool.errors import ConfigError, DataError
from sctool.plugins import load_callable
from sctool.resources import find_resource

READERS: dict[str, Callable[[], Dataset]] = {"digits": read_digits}


class Recipe(BaseModel):
    """A calibration file: which data, read how. See calibration/README.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    reader: Literal["digits"]
    source: str
    licence: str


def read_recipe(path: Path) -> Recipe:
    """Parse one calibration TOML; ConfigError with the file's name on anything wrong."""
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Cannot read recipe {path}: {error}.", hint="See calibration/README.md.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"Recipe {path}: {key}: {first['msg']}.", hint="See calibration/README.md.") from error


def load_dataset(source: str) -> Dataset:
    """Load and check the data named by `source`; ConfigError for a wrong name, DataError for wrong content."""
    if source.endswith(".npz"):
        return read_npz(Path(source))
    if ":" in source:
        made = load_callable(source, what="data.source")()
        if not isinstance(made, tuple) or len(made) != 2:
            raise DataError(
                f"{source} returned {type(made).__name__}; expected a tuple (x, y).", hint="Return two arrays."
            )
        return check_dataset(made[0], made[1], source=source)
    return READERS[read_recipe(find_resource("calibration", source)).reader]()
