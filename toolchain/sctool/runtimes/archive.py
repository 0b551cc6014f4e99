"""Models inside an application: .apk, .aab, .aar, .ipa and plain .zip are zip archives; their models are streamed out.

Nothing else is unpacked, and to no path that the archive names. Links, members that leave the archive's folder, encrypted
members and archives that unpack to more than they may are refused.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sctool.errors import ArtifactError
from sctool.formats.suffixes import FOREIGN, RUN_HERE

SUFFIXES = (".apk", ".aab", ".aar", ".ipa", ".zip")
MAX_ENTRIES = 200_000
MAX_MODEL_BYTES = 4 * 2**30
MAX_RATIO = 1200
"""Deflate packs at most 1,032 to 1: what claims more is no honest archive."""
_CHUNK = 2**20
_DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, struct.error, ValueError, RuntimeError, LookupError)
_HINT = "Do not trust this archive; build it again."


@dataclass(frozen=True)
class FoundModel:
    """`name`: inside the archive; `path`: where its bytes were put."""

    name: str
    path: Path
    sha256: str


def extract_models(archive: Path, folder: Path) -> tuple[list[FoundModel], list[str]]:
    """Put every model of `archive` into `folder`, under names of our own, and name the models that no runtime here runs:
    nobody shall take them for verified.

    Raises ArtifactError for a damaged or hostile archive, and for one without a model.
    """
    try:
        with archive.open("rb") as file, zipfile.ZipFile(file) as content:
            entries = content.infolist()
            if len(entries) > MAX_ENTRIES:
                raise ArtifactError(f"{archive} has {len(entries)} members (limit {MAX_ENTRIES}).", hint=_HINT)
            for entry in entries:
                _check_member(archive, entry)
            models = [entry for entry in entries if _suffix(entry) in RUN_HERE and not entry.is_dir()]
            foreign = sorted({entry.filename for entry in entries if _suffix(entry) in FOREIGN})
            found = [
                _stream_out(archive, content, entry, folder / f"{number:03d}{_suffix(entry)}")
                for number, entry in enumerate(models)
            ]
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ArtifactError(
            f"Cannot read {archive}: {reason}.", hint="Is it a whole .apk, .aab, .ipa or .zip?"
        ) from error
    if not found:
        also = f"; it holds {', '.join(foreign[:3])}" if foreign else ""
        raise ArtifactError(
            f"{archive} holds no .onnx, no .pte and no .spte{also}.", hint="Which file does the app load?"
        )
    return found, foreign


def _suffix(entry: zipfile.ZipInfo) -> str:
    return PurePosixPath(entry.filename).suffix.lower()


def _check_member(archive: Path, entry: zipfile.ZipInfo) -> None:
    parts = PurePosixPath(entry.filename.replace("\\", "/"))
    wrong = ""
    if parts.is_absolute() or ".." in parts.parts:
        wrong = "leaves the archive's folder"
    elif stat.S_ISLNK(entry.external_attr >> 16):
        wrong = "is a link"
    elif _suffix(entry) in RUN_HERE and entry.flag_bits & 1:
        wrong = "is encrypted"
    elif _suffix(entry) in RUN_HERE and entry.file_size > MAX_MODEL_BYTES:
        wrong = f"unpacks to {entry.file_size} bytes (limit {MAX_MODEL_BYTES})"
    elif entry.file_size > MAX_RATIO * max(entry.compress_size, 1) + _CHUNK:
        wrong = f"unpacks to {entry.file_size} bytes from {entry.compress_size}"
    if wrong:
        raise ArtifactError(f"{archive}: {entry.filename!r} {wrong}.", hint=_HINT)


def _stream_out(archive: Path, content: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> FoundModel:
    """What is written is counted, whatever the archive says of it."""
    digest, size = hashlib.sha256(), 0
    with content.open(entry) as source, path.open("xb") as target:
        while piece := source.read(_CHUNK):
            size += len(piece)
            if size > entry.file_size:
                raise ArtifactError(f"{archive}: {entry.filename!r} unpacks to more than it says.", hint=_HINT)
            digest.update(piece)
            target.write(piece)
    return FoundModel(entry.filename, path, digest.hexdigest())
