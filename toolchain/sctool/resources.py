"""Finds the data files that travel with the package: targets and calibration recipes.

Search order: a plain path, the folders on SCTOOL_TARGETS / SCTOOL_CALIBRATION, the checkout, the installed package.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from sctool.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent
_VARIABLES = {"targets": "SCTOOL_TARGETS", "calibration": "SCTOOL_CALIBRATION"}


def search_path(kind: str) -> list[Path]:
    """Folders that may hold files of `kind` ("targets" or "calibration"), the strongest first."""
    given = [Path(part) for part in os.environ.get(_VARIABLES[kind], "").split(os.pathsep) if part]
    shipped = _PACKAGE / "_data" / kind
    return [*given, shipped if shipped.is_dir() else _CHECKOUT / kind]


def list_resources(kind: str) -> dict[str, Path]:
    """Name -> path of every TOML file of `kind`; an earlier folder hides a later one."""
    found: dict[str, Path] = {}
    for folder in search_path(kind):
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def find_resource(kind: str, name: str) -> Path:
    """The file of `kind` called `name`, or `name` itself where it is a path to a TOML file.

    Raises ConfigError with the nearest valid names where there is none.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if path.is_file():
            return path
        raise ConfigError(
            f"No file {name}.", hint=f"Give a path that exists, or one of: {', '.join(list_resources(kind))}."
        )
    found = list_resources(kind)
    if name in found:
        return found[name]
    raise ConfigError(f"Unknown {kind.rstrip('s')} {name!r}.", hint=suggest(name, found))


def suggest(name: str, valid: object) -> str:
    """A sentence that names the valid values nearest to `name`."""
    names = sorted(str(value) for value in valid)  # type: ignore[attr-defined]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"Valid: {', '.join(names)}."


def device_runner_folder() -> Path:
    """The C sources of the on-device runners: installed with the package, or in the checkout."""
    shipped = _PACKAGE / "_data" / "device_runner"
    return shipped if shipped.is_dir() else _CHECKOUT / "toolchain" / "device_runner"


def anchor_folder() -> Path:
    """What is known of the models that published latencies are of: targets/anchors, as shipped."""
    shipped = _PACKAGE / "_data" / "targets"
    return (shipped if shipped.is_dir() else _CHECKOUT / "targets") / "anchors"
