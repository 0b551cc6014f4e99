"""What is wrong with a file, said as an ArtifactError that names the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from sctool.errors import ArtifactError

AGAIN = "Is it whole? Copy it again, or export the model again."


@contextmanager
def reading(where: str, kind: str) -> Iterator[None]:
    """Turn what a reader of bytes raises on damage into "WHERE is no readable KIND"."""
    try:
        yield
    except (ValueError, IndexError, KeyError, struct.error, UnicodeDecodeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ArtifactError(f"{where} is no readable {kind}: {reason}.", hint=AGAIN) from error
