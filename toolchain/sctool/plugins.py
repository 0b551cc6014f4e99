"""Loads 'package.module:callable' that a user names, from the working directory or the installed packages."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sctool.errors import ConfigError
from sctool.resources import suggest


def load_callable(reference: str, *, what: str) -> Callable[..., Any]:
    """The object behind `reference`. This runs the user's own code: name only modules that you trust.

    Raises ConfigError where the module cannot be imported or has no such callable.
    """
    module_name, _, attribute = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"{what} = {reference!r}: cannot import {module_name!r} ({type(error).__name__}: {error}).",
            hint="Run in the folder that holds it, or install it.",
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigError(
            f"{what} = {reference!r}: {module_name} has no callable {attribute!r}.", hint=suggest(attribute, public)
        )
    result: Callable[..., Any] = found
    return result
