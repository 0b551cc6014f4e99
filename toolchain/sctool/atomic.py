"""Files and directories that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sctool.errors import OutputError


def refuse_existing(path: Path, *, overwrite: bool, marker: str | None = None) -> None:
    """Raise OutputError where `path` exists and may not be replaced.

    With a `marker`, --overwrite replaces only an empty directory or one that holds the marker: a mistyped path costs
    no one a home directory.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise OutputError(f"{path} exists already.", hint="Pass --overwrite to replace it, or name another output.")
    if marker is None:
        if path.is_dir():
            raise OutputError(f"{path} is a directory.", hint="Name a file.")
        return
    if not path.is_dir() or (not (path / marker).is_file() and any(path.iterdir())):
        raise OutputError(
            f"{path} was not written by sctool (it holds no {marker}): --overwrite does not replace it.",
            hint="Name another output, or remove it yourself.",
        )


def write_file(path: Path, content: bytes | str) -> None:
    """Write `content` beside `path`, then rename: a reader sees the old file or the new one.

    Raises OutputError where the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys; NaN is refused."""
    write_file(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def check_writable(path: Path) -> None:
    """Make the parent of `path` and try to write beside it, before hours of work. OutputError where that fails."""
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def new_directory(path: Path, *, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty staging folder that becomes `path` when the block ends without an error.

    `marker` is a file that every directory of this kind holds: `overwrite` replaces a directory that has it, or an
    empty one, and nothing else. Raises OutputError otherwise, and where the parent cannot be written.
    """
    refuse_existing(path, overwrite=overwrite, marker=marker)
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.partial-"))
        staging.chmod(0o755)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield staging
        _swap_in(staging, path)
    except OSError as error:
        if error.filename is not None and str(staging) in str(error.filename):
            raise _unwritable(path, error) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap_in(staging: Path, path: Path) -> None:
    if not os.path.lexists(path):
        os.replace(staging, path)
        return
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old-"))
    os.replace(path, aside / "old")
    try:
        os.replace(staging, path)
    except OSError:
        os.replace(aside / "old", path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"Cannot write {path}: {error.strerror or error}.",
        hint="Check its permissions and free space, or name another output.",
    )
