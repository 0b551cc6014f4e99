"""Data files made by ExecuTorch's own serialiser."""

from __future__ import annotations

import functools

from executorch.exir._serialize.data_serializer import DataEntry, DataPayload
from executorch.extension.flat_tensor.serialize.serialize import FlatTensorSerializer


def make_ptd(blocks: dict[str, bytes]) -> bytes:
    """A .ptd that holds `blocks`, equal ones apart, and a second name, again_KEY, for the first of them."""
    return _serialise(tuple(blocks.items()))


@functools.lru_cache(maxsize=64)
def _serialise(blocks: tuple[tuple[str, bytes], ...]) -> bytes:
    entries = {key: DataEntry(number, 16, None) for number, (key, _) in enumerate(blocks)}
    entries |= {f"again_{key}": entry for key, entry in list(entries.items())[:1]}
    return bytes(FlatTensorSerializer().serialize(DataPayload([content for _, content in blocks], entries)))
