"""Files and directories that appear whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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

    What a killed process left half-written of it is removed. Raises OutputError where the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path, "partial")
        with _folder_beside(path, "partial") as folder:
            temporary = folder / path.name
            temporary.write_bytes(data)
            temporary.chmod(0o644)
            os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error


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
    empty one, and nothing else. Staging folders of this output whose process was killed are removed. Raises OutputError
    where `path` may not be replaced, and where the parent cannot be written.
    """
    refuse_existing(path, overwrite=overwrite, marker=marker)
    path = path.absolute()
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path, "partial")
            staging = stack.enter_context(_folder_beside(path, "partial"))
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
    _remove_stale(path, "old")


def _swap_in(staging: Path, path: Path) -> None:
    if not os.path.lexists(path):
        os.replace(staging, path)
        return
    with _folder_beside(path, "old") as aside:
        os.replace(path, aside / "old")
        try:
            os.replace(staging, path)
        except OSError:
            os.replace(aside / "old", path)
            raise


@contextmanager
def _folder_beside(path: Path, kind: str) -> Iterator[Path]:
    """A new folder `.NAME.KIND-*` beside `path`, locked as long as the block lasts, then removed.

    The kernel drops the lock when the process ends, however it ends: a folder without one is nobody's any more.
    """
    folder, lock = _make_locked(path, kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _make_locked(path: Path, kind: str) -> tuple[Path, int | None]:
    """The folder and the descriptor that holds its lock: None where the file system knows no locks of folders, so that
    nobody there removes what was left. Who sweeps between the making and the locking takes an empty folder away: make
    another."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.{kind}-"))
        try:
            lock = _lock(folder)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:
            return folder, None
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_stale(path: Path, kind: str) -> None:
    """Remove what `_folder_beside` left beside `path` of processes that are no more. What cannot be removed, stays."""
    made = re.compile(rf"\.{re.escape(path.name)}\.{kind}-[a-z0-9_]{{8}}")
    with suppress(OSError):
        for folder in path.parent.iterdir():
            if not made.fullmatch(folder.name):
                continue
            with suppress(OSError):
                lock = _lock(folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int:
    """A descriptor that holds the lock of `folder`. BlockingIOError where another has it, OSError where `folder` is a link
    or cannot be locked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"Cannot write {path}: {error.strerror or error}.",
        hint="Check its permissions and free space, or name another output.",
    )
