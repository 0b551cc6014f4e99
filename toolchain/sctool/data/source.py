"""From the data section of a config to records and their split: a recipe, an .npz, or 'module:callable'."""

from __future__ import annotations

import os
from pathlib import Path

from sctool.data.dataset import Dataset, check_dataset
from sctool.data.npz import read_npz
from sctool.data.recipe import Recipe, load_recipe, read_recipe
from sctool.domain.data_config import DataConfig, SplitConfig
from sctool.errors import ConfigError, DataError
from sctool.plugins import load_callable
from sctool.resources import find_resource

ROOT_VARIABLE = "SCTOOL_DATA"


def load_dataset(source: str, root: str | None = None) -> Dataset:
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
    return load_recipe(_find_recipe(source), data_roots(root))


def data_roots(given: str | None) -> list[Path]:
    """Folders that may hold a recipe's files, the strongest first: data.root, SCTOOL_DATA, ./data."""
    named = [given] if given else os.environ.get(ROOT_VARIABLE, "").split(os.pathsep)
    return [Path(part) for part in named if part] + ([] if given else [Path("data")])


def resolve_split(config: DataConfig) -> SplitConfig:
    """The whole split: what the config says over the recipe's split of data.protocol over the defaults."""
    base = SplitConfig()
    if _is_recipe(config.source):
        recipe = _find_recipe(config.source)
        own = recipe.split
        if config.protocol == "authors":
            if recipe.authors_split is None:
                raise ConfigError(
                    f"Recipe {recipe.name!r} has no split of the authors.", hint="Leave data.protocol out."
                )
            own = recipe.authors_split
        base = own.over(base)
    elif config.protocol:
        raise ConfigError(
            f"data.protocol = {config.protocol!r} needs a recipe; data.source is {config.source!r}.",
            hint="Leave data.protocol out, or write a recipe.",
        )
    return config.split.over(base)


def _is_recipe(source: str) -> bool:
    return not source.endswith(".npz") and ":" not in source


def _find_recipe(source: str) -> Recipe:
    return read_recipe(find_resource("calibration", source))
