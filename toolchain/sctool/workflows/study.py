"""A study: which methods at which densities and seeds, on one data set; read from TOML, cut into cells."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sctool.data.source import resolve_split
from sctool.domain.config import Config, validate_config
from sctool.domain.data_config import DataConfig
from sctool.errors import ConfigError
from sctool.workflows.methods import settings_of
from sctool.workflows.proposals import parse_proposals


class Entry(BaseModel):
    """Every method with every defence, at every density and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    methods: list[str] = Field(min_length=1)
    defences: list[str] = Field(default_factory=lambda: ["none"], min_length=1)
    densities: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    set: dict[str, Any] = Field(default_factory=dict, description="Keys of [config.compress] for these cells alone.")
    label: str = Field("", description="Takes the place of the methods' name in the table.")


class Study(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    cells: list[Entry] = Field(min_length=1)
    config: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run; `key` is the hash of all that its figures follow from."""

    study: str
    method: str
    defence: str
    density: float
    seed: int
    config: Config
    key: str

    @property
    def name(self) -> str:
        defence = "" if self.defence == "none" else f" + {self.defence}"
        return f"{self.study}: {self.method}{defence}, density {self.density:g}, seed {self.seed}"


def read_study(path: Path) -> Study:
    """Parse a study; ConfigError with the file and the key on anything wrong."""
    try:
        return Study.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Cannot read study {path}: {error}.", hint="See benchmarks/studies.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"Study {path}: {where}: {first['msg']}.", hint="See benchmarks/studies.") from error


def cut_into_cells(study: Study, *, where: str) -> list[Cell]:
    """All runs of the study, each once; dense models ignore the density and run once a seed, as density 1."""
    cells: dict[str, Cell] = {}
    for entry in study.cells:
        for method, defence, density, seed in product(entry.methods, entry.defences, entry.densities, entry.seeds):
            cell = _make_cell(study, entry, method, defence, 1.0 if method == "dense" else density, seed, where)
            cells.setdefault(cell.key, cell)
    return list(cells.values())


def _make_cell(study: Study, entry: Entry, method: str, defence: str, density: float, seed: int, where: str) -> Cell:
    base = validate_config(_lay_over(study.config, {"name": study.name}), where=where)
    compress = base.compress.model_dump() | {"density": density, "seed": seed} | entry.set
    tree = base.model_dump(mode="json")
    within = validate_config({**tree, "compress": compress}, where=where).compress
    tree["compress"] = compress | settings_of(method, defence, within)
    tree["data"]["split"]["seed"] = seed
    shares = resolve_split(DataConfig.model_validate(tree["data"]))
    tree["data"]["split"] = shares.model_dump(exclude_none=True)
    config = validate_config(tree, where=f"{where}: {method} + {defence}")
    parse_proposals(config.compress)
    label = entry.label or method
    return Cell(study.name, label, defence, density, seed, config, _hash_cell(tree, label, defence))


def _hash_cell(tree: dict[str, Any], label: str, defence: str) -> str:
    """16 hex digits of all that a cell's figures follow from; a setting that is None is as one that does not exist."""
    settings = {
        section: {key: value for key, value in tree[section].items() if value is not None}
        for section in ("model", "data", "compress", "safety")
    }
    if len(settings["compress"]["candidates"]) == 1 and not settings["compress"]["early_stopping"]:
        settings["safety"] = {key: settings["safety"][key] for key in ("audit_attacks", "tm_exponent")}  # none selects
    versions = {name: version(name) for name in ("torch", "numpy", "sctool")}
    identity = {"config": settings, "label": [label, defence], "versions": versions}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _lay_over(tree: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {**tree, **{key: value for key, value in more.items() if key not in tree}}
