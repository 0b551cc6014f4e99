"""How convolutions are traced so that a program takes batches of any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import nnpack


@contextmanager
def plain_convolutions() -> Iterator[None]:
    """Without oneDNN and NNPACK: choosing between them, PyTorch asks whether a batch has fewer than 16 records, and the
    program is then bounded by 15."""
    with torch.backends.mkldnn.flags(enabled=False), nnpack.flags(enabled=False):
        yield
