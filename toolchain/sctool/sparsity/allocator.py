"""Memory that a step frees is wanted again by the next one: keep it, where the C library would give it back."""

from __future__ import annotations

import ctypes
import functools
import sys

KEPT_BYTES = 2**27
"""Freed blocks up to this size stay with the process."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (glibc, malloc.h)."""


@functools.cache
def keep_freed_memory() -> bool:
    """Whether this process now keeps what it frees; once is enough.

    glibc gives large blocks back to the kernel, which then fills each step's activations with zeros, a page at a time:
    up to a fifth of a small CNN's step (benchmarks/README.md). The price is a heap with gaps: the process peaks at 590 MiB
    instead of 490 for a small CNN on 32 x 32 images, at 1,850 instead of 1,350 for ResNet-18. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, KEPT_BYTES) == 1 for name in (TRIM_THRESHOLD, MMAP_THRESHOLD))
