"""What sparse storage costs, by codec and layer, beside what a user would do by hand: pack the dense file."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Sequence
from typing import Any

from sctool.export.sparsify import LayerSizes, SparseModel, total


def gzip_size(content: bytes) -> int:
    """Bytes of gzip -9 of `content`."""
    return len(gzip.compress(content, compresslevel=9, mtime=0))


def xz_size(content: bytes) -> int:
    """Bytes of xz -9 of `content`."""
    return len(lzma.compress(content, preset=9))


def zstd_size(content: bytes) -> int | None:
    """Bytes of zstd -19 of `content`; None where no zstd is installed."""
    try:
        import zstandard
    except ImportError:
        return None
    return len(zstandard.ZstdCompressor(level=19).compress(content))


def bound_size(dense: bytes, layers: Sequence[LayerSizes]) -> int:
    """Bytes of the file at the bound: `dense` with each layer's n H(density) bits of positions and its values."""
    return round(len(dense) - sum(layer.dense_bytes - layer.bound_bytes for layer in layers))


def tabulate_sizes(dense: bytes, packed: SparseModel, shipped_bytes: int) -> dict[str, Any]:
    """`files`: bytes of the dense file, of it packed by hand, at the bound, with each codec alone (nothing larger than
    dense), and as it ships; `layers`: the same by layer."""
    layers = packed.sizes
    rest = len(dense) - sum(layer.dense_bytes for layer in layers)
    codecs = sorted({name for layer in layers for name in layer.codec_bytes} - {"dense"})
    return {
        "files": {
            "dense": len(dense), "dense, gzip -9": gzip_size(dense), "dense, zstd -19": zstd_size(dense),
            "dense, xz -9": xz_size(dense), "bound": bound_size(dense, layers),
            **{f"codec {name}": rest + total(layers, name) for name in codecs}, "as it ships": shipped_bytes,
        },
        "layers": [
            {"name": layer.name, "shape": layer.shape, "density": layer.density, "codec": layer.codec,
             "bound_bytes": round(layer.bound_bytes), "bytes": layer.codec_bytes}
            for layer in layers
        ],
    }  # fmt: skip
