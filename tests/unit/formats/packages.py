"""Data files made by ExecuTorch's own serialiser."""

from __future__ import annotations

import functools

from executorch.exir._serialize.data_serializer import DataEntry, DataPayload
from executorch.extension.flat_tensor.serialize.serialize import FlatTensorSerializer


def make_ptd(blocks: dict[str, bytes]) -> bytes:
    """A .ptd that holds `blocks`; equal blocks are kept apart."""
    return _serialise(tuple(blocks.items()))


@functools.lru_cache(maxsize=64)
def _serialise(blocks: tuple[tuple[str, bytes], ...]) -> bytes:
    entries = {key: DataEntry(number, 16, None) for number, (key, _) in enumerate(blocks)}
    return bytes(FlatTensorSerializer().serialize(DataPayload([content for _, content in blocks], entries)))
