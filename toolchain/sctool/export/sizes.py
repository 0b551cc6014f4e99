"""What a user would get by hand: the dense file, gzipped."""

from __future__ import annotations

import gzip


def gzip_size(content: bytes) -> int:
    """Bytes of gzip -9 of `content`."""
    return len(gzip.compress(content, compresslevel=9, mtime=0))
