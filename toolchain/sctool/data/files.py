"""Files as bytes: limited in size; .gz, .xz, .tar.gz and .zip are unpacked in memory, never to disk."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from sctool.errors import DataError

MAX_BYTES = 16 * 2**30
MAX_FILE_BYTES = 2**30
MAX_MEMBERS = 10_000
_DAMAGE = (
    OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, struct.error, MemoryError,
    ValueError, ArithmeticError, LookupError, RuntimeError,
)  # fmt: skip


def read_file(path: Path, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of `path`, unpacked where it ends in .gz or .xz. DataError where damaged or over `limit` bytes."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        with path.open("rb") as file:
            if path.suffix == ".gz":
                content = _read_up_to(gzip.GzipFile(fileobj=file), limit + 1)
            elif path.suffix == ".xz":
                unpack = lzma.LZMADecompressor(memlimit=2**29)
                content = unpack.decompress(_read_up_to(file, limit + 1), max_length=limit + 1)
                if not unpack.eof and len(content) <= limit:
                    raise EOFError("it ends too early")
                if unpack.unused_data.strip(b"\0"):
                    raise ValueError("something follows the end of the .xz stream")
            else:
                content = _read_up_to(file, limit + 1)
    except _DAMAGE as error:
        raise unreadable(path, error) from error
    if len(content) > limit:
        raise DataError(f"{path} holds more than {limit} bytes, the limit.", hint="Is this the right file?")
    return content


def _read_up_to(stream: IO[bytes] | gzip.GzipFile, count: int) -> bytes:
    """At most `count` bytes, in pieces: one read of so many would take the memory for all of them at once."""
    pieces: list[bytes] = []
    while count > 0 and (piece := stream.read(min(count, 2**20))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_text(path: Path, *, limit: int = MAX_FILE_BYTES) -> str:
    """`read_file` as UTF-8 text, a byte order mark dropped."""
    return decode_text(read_file(path, limit=limit), str(path))


def decode_text(content: bytes, where: str) -> str:
    """UTF-8 text, a byte order mark dropped; DataError naming `where` for anything else."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text: {error}.", hint="Save it as UTF-8.") from error


def read_tar(path: Path, names: set[str], *, limit: int = MAX_FILE_BYTES) -> dict[str, bytes]:
    """The regular files of a .tar.gz whose last name part is in `names`, by that name.

    DataError for a damaged archive, for more than `limit` bytes unpacked, for a member that leaves the archive's
    folder, and for a name that is there twice.
    """
    found: dict[str, bytes] = {}
    try:
        with path.open("rb") as file, gzip.GzipFile(fileobj=file) as plain:
            stream = _Limited(plain, limit, path)
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for count, member in enumerate(archive, 1):
                    parts = PurePosixPath(member.name)
                    if count > MAX_MEMBERS:
                        raise DataError(f"{path} has over {MAX_MEMBERS} members.", hint="Is this the right archive?")
                    plain_file = member.isfile() and not member.issparse()
                    if parts.is_absolute() or ".." in parts.parts or not (plain_file or member.isdir()):
                        raise DataError(
                            f"{path} has a member {member.name!r} that is no plain file inside the archive.",
                            hint="Do not trust this archive; download it again from its home.",
                        )
                    if member.isfile() and parts.name in names:
                        if parts.name in found:
                            raise DataError(f"{path} holds {parts.name} twice.", hint="Download it again.")
                        content = archive.extractfile(member)
                        found[parts.name] = content.read() if content else b""
            while stream.read(2**20):
                pass
    except _DAMAGE as error:
        raise unreadable(path, error) from error
    return found


def read_zip(
    path: Path, wanted: Callable[[str], str | None], *, inner: str = "", limit: int = MAX_FILE_BYTES
) -> dict[str, bytes]:
    """The members of a .zip for which `wanted(name)` gives a key, by that key; `inner`: a .zip within, read instead.

    DataError for a damaged or encrypted archive, for more than `limit` bytes, and for a key that is there twice.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            nested = [entry for entry in archive.infolist() if inner and PurePosixPath(entry.filename).name == inner]
            if not nested:
                return _read_members(path, archive, wanted, limit)
            found = _read_members(path, archive, lambda name: inner if name == nested[0].filename else None, limit)
            with zipfile.ZipFile(io.BytesIO(found[inner])) as within:
                return _read_members(path, within, wanted, limit)
    except _DAMAGE as error:
        raise unreadable(path, error) from error


def _read_members(
    path: Path, archive: zipfile.ZipFile, wanted: Callable[[str], str | None], limit: int
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    left = limit
    for entry in archive.infolist():
        key = wanted(entry.filename)
        if key is None:
            continue
        left -= entry.file_size
        if left < 0:
            raise DataError(f"{path} unpacks to more than {limit} bytes, the limit.", hint="Is this the right archive?")
        if key in found:
            raise DataError(f"{path} holds {key} twice.", hint="Download it again.")
        found[key] = archive.read(entry)
    return found


def unreadable(path: Path, error: BaseException | str) -> DataError:
    """The DataError for a file that cannot be opened or is damaged."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"No file {path}.", hint="Check the path; it must be complete as downloaded.")
    reason = str(error) or type(error).__name__
    return DataError(f"Cannot read {path}: {reason}.", hint="Download or write it again; it may be truncated.")


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes."""

    def __init__(self, stream: gzip.GzipFile, limit: int, path: Path) -> None:
        self._stream, self._left, self._path = stream, limit, path

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(f"{self._path} unpacks to more than its limit.", hint="Is this the right archive?")
        return content
