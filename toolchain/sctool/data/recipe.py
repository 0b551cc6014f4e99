"""A calibration recipe: which data set, where its files may lie, how they are read, and how the records are split."""

from __future__ import annotations

import inspect
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    ValidationError,
    create_model,
    model_validator,
)

from sctool.data.cifar import read_cifar
from sctool.data.dataset import Dataset
from sctool.data.digits import read_digits
from sctool.data.idx import read_idx
from sctool.data.image_folder import read_image_folder
from sctool.data.npz import read_npz
from sctool.data.table import read_table
from sctool.data.text_csv import read_text_csv
from sctool.data.tiny_imagenet import read_tiny_imagenet
from sctool.data.tokens import read_tokens
from sctool.data.uci_har import read_uci_har
from sctool.domain.data_config import SplitSettings
from sctool.errors import ConfigError, DataError
from sctool.resources import suggest

READERS: dict[str, Callable[..., Dataset]] = {
    "digits": read_digits, "npz": read_npz, "idx": read_idx, "cifar": read_cifar, "image_folder": read_image_folder,
    "tiny_imagenet": read_tiny_imagenet, "table": read_table, "text_csv": read_text_csv, "tokens": read_tokens,
    "uci_har": read_uci_har,
}  # fmt: skip
"""Name -> function of a path (digits: of nothing) and options."""
_HINT = "See calibration/README.md."
_Scale = Annotated[float, Field(ge=1e-6, le=1e6)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Section):
    """One form in which the data set may be on disk."""

    reader: str
    path: str = Field("", description="File or folder under a data root, or absolute; empty for what needs none.")
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fit_the_reader(self) -> Source:
        if self.reader not in READERS:
            raise ValueError(f"unknown reader {self.reader!r}. {suggest(self.reader, list(READERS))}")
        if bool(self.path) != ("path" in inspect.signature(READERS[self.reader]).parameters):
            raise ValueError(f"reader {self.reader!r} needs {'no ' if self.path else 'a '}path")
        check_options(self.reader, self.options)
        return self


class Normalisation(_Section):
    """x / divide, then (x - mean) / std for each channel, the first dimension of a record."""

    divide: _Scale = 1.0
    mean: list[FiniteFloat] = Field(default_factory=list)
    std: list[_Scale] = Field(default_factory=list)

    @model_validator(mode="after")
    def _agree(self) -> Normalisation:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std need one number a channel each")
        return self


class Recipe(_Section):
    """A calibration file. See calibration/README.md."""

    name: str
    title: str
    licence: str
    obtain: str = Field(description="How to get the data.")
    sources: list[Source] = Field(min_length=1)
    shape: list[PositiveInt] = Field(default_factory=list)
    labels: list[str] = Field(
        default_factory=list, description="Names of the classes, where the files only number them."
    )
    normalisation: Normalisation | None = None
    split: SplitSettings = SplitSettings()
    authors_split: SplitSettings | None = None


def read_recipe(path: Path) -> Recipe:
    """Parse one calibration TOML; ConfigError with the file's name on anything wrong."""
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Cannot read recipe {path}: {error}.", hint=_HINT) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
        raise ConfigError(f"Recipe {path}: {key}: {reason}.", hint=_HINT) from error


def check_options(reader: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` as the reader's signature wants them; ValueError naming the key and what is valid."""
    function = READERS[reader]
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "path"
    }
    for name in options:
        if name not in fields:
            raise ValueError(f"reader {reader!r} has no option {name!r}. {suggest(name, list(fields) or ['none'])}")
    model = create_model(reader, __config__=ConfigDict(strict=False), **fields)
    try:
        checked = model.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"reader {reader!r}, option {where}: {first['msg']} (found {first['input']!r})") from error
    return {name: getattr(checked, name) for name in fields}


def load_recipe(recipe: Recipe, roots: list[Path]) -> Dataset:
    """Read the first of the recipe's sources in the first of `roots` that holds one; DataError where none does."""
    looked: list[str] = []
    for root in roots:
        for source in recipe.sources:
            path = root / source.path
            if source.path and path.exists():
                return _finish(recipe, _read(source, path))
            looked += [str(path)] if source.path else []
    for source in recipe.sources:
        if not source.path:
            return _finish(recipe, _read(source))
    raise DataError(
        f"The data of {recipe.name!r} are not there: no {', '.join(looked)}.",
        hint=f"{recipe.obtain} Then set SCTOOL_DATA or data.root to the folder that holds them.",
    )


def _read(source: Source, *path: Path) -> Dataset:
    return READERS[source.reader](*path, **check_options(source.reader, source.options))


def _finish(recipe: Recipe, data: Dataset) -> Dataset:
    """The records in the recipe's shape, normalised, their classes named."""
    x, done, labels = data.x, data.normalisation, data.labels
    if recipe.shape:
        if math.prod(recipe.shape) != math.prod(x.shape[1:]):
            raise DataError(f"{recipe.name}: records of shape {list(x.shape[1:])}, not {recipe.shape}.", hint=_HINT)
        x = x.reshape(len(x), *recipe.shape)
    if recipe.labels and all(label.isdecimal() for label in labels):
        if len(recipe.labels) != len(labels):
            raise DataError(f"{recipe.name}: {len(labels)} classes, not {len(recipe.labels)}.", hint=_HINT)
        labels = recipe.labels
    if recipe.normalisation:
        if done.get("kind") != "none":
            raise DataError(f"{recipe.name}: the reader has normalised the records already.", hint=_HINT)
        x, done = _normalise(recipe.name, recipe.normalisation, x)
    return Dataset(x, data.y, labels, done, recipe.name, data.in_train)


def _normalise(
    name: str, scale: Normalisation, x: NDArray[np.float32]
) -> tuple[NDArray[np.float32], dict[str, object]]:
    """x [N, C, ...], changed in its place where it may be (a large set is there once), and what was done to it."""
    if scale.mean and len(scale.mean) != x.shape[1]:
        raise DataError(f"{name}: {len(scale.mean)} means for {x.shape[1]} channels.", hint=_HINT)
    x = x if x.flags.writeable else x.copy()
    x /= np.float32(scale.divide)
    if not scale.mean:
        return x, {"kind": "divide", "by": scale.divide}
    along = (-1, *[1] * (x.ndim - 2))
    x -= np.array(scale.mean, np.float32).reshape(along)
    x /= np.array(scale.std, np.float32).reshape(along)
    return x, {"kind": "channels", "by": scale.divide, "mean": scale.mean, "std": scale.std}
