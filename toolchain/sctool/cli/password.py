"""The signing key, and the password that opens it: from SCTOOL_KEY_PASSWORD, else asked for on the terminal."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sctool.errors import ConfigError

if TYPE_CHECKING:
    from sctool.export.signature import SigningKey

VARIABLE = "SCTOOL_KEY_PASSWORD"


def read_key(path: Path) -> SigningKey:
    """The secret key at `path`. ConfigError where it is unusable, or encrypted and nobody is there to ask."""
    from sctool.export.signature import read_signing_key

    return read_signing_key(path, lambda: _ask(path))


def _ask(path: Path) -> str:
    given = os.environ.get(VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise ConfigError(f"The key {path} is encrypted.", hint=f"Set {VARIABLE}, or run on a terminal.")
    return getpass.getpass(f"Password of {path}: ")
