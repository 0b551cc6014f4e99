"""A commented config that works as it is, and the schema behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sctool.atomic import refuse_existing, write_file
from sctool.domain.config import Config

_COMMENTS = {
    "model": "mlp, small_cnn, lenet, alexnet, vgg16, resnet18, mobilenet_v2, cnn1d, or your own: \"package.module:build\".",
    "data": "A calibration recipe, the path of an .npz with x and y, or \"my_module:load\" returning (x, y).",
    "data.split": "Shares of all records; where nothing is set, the recipe's, or these.",
    "compress": "SafeCompress: each round tries every drop/grow pair from the same parent and keeps the best TM-score.",
    "safety": "The attack that selects during the search, and those that `verify` runs on the audit's records.",
    "export": "Where it ships: android, linux-arm64, host, ios (see `sctool targets`).",
    "verify": "Gates on the exported bytes; `sctool verify` exits with 7 when a figure is over its limit.",
    "profile": "How often the artifacts are run when they are timed.",
}  # fmt: skip


def config_schema() -> dict[str, Any]:
    """The JSON schema of the config file."""
    return Config.model_json_schema()


def render_config() -> str:
    """All settings at their defaults, as TOML with a comment over each section."""
    lines = [
        "# sctool configuration. Run it: sctool run sctool.toml",
        "# Override on the way: --set compress.density=0.05",
        "",
    ]
    _render(Config(), "", lines)
    return "\n".join(lines).rstrip() + "\n"


def write_config(path: Path, *, overwrite: bool = False) -> None:
    """Write the commented config to `path`; OutputError where it exists."""
    refuse_existing(path, overwrite=overwrite)
    write_file(path, render_config())


def _render(section: BaseModel, prefix: str, lines: list[str]) -> None:
    nested: list[tuple[str, BaseModel]] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            nested.append((f"{prefix}{name}", value))
            continue
        if field.description:
            lines.append(f"# {field.description}")
        if value is None:
            lines.append(f"# {name} = {_toml_value((field.examples or [''])[0])}")
        else:
            lines.append(f"{name} = {_toml_value(value)}")
    for name, value in nested:
        lines += ["", *([f"# {_COMMENTS[name]}"] if name in _COMMENTS else []), f"[{name}]"]
        _render(value, f"{name}.", lines)


def _toml_value(value: object) -> str:
    """TOML's strings, numbers, booleans and arrays are JSON's; the only table among the defaults is empty."""
    return "{}" if value == {} else json.dumps(value)
