"""Blocks of sparse packages decoded by the native library: what sctool.formats.blob decodes, bit for bit, in less time."""

from __future__ import annotations

import ctypes
from dataclasses import astuple

import numpy as np

from sctool.errors import NativeRuntimeMissing
from sctool.formats.blob import BlobHeader, decode_blob_into
from sctool.formats.spte import Decode
from sctool.native.library import load_library


def find_decoder() -> Decode:
    """The native decoder where the library is built and has one, numpy's otherwise."""
    try:
        return bind_decoder(load_library())
    except (NativeRuntimeMissing, AttributeError):
        return decode_blob_into


def bind_decoder(library: ctypes.CDLL) -> Decode:
    """The decoder of `library`; AttributeError where it was built without."""
    function = library.sctool_sparse_decode_block
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    function.argtypes, function.restype = [pointer, pointer, size, pointer, size], ctypes.c_int

    def decode(header: BlobHeader, streams: memoryview, out: memoryview) -> None:
        header.check()
        fields = (ctypes.c_uint64 * 11)(*astuple(header))
        stored, room = np.frombuffer(streams, np.uint8), np.frombuffer(out, np.uint8)
        if function(fields, stored.ctypes.data, stored.nbytes, room.ctypes.data, room.nbytes):
            decode_blob_into(header, streams, out)  # says what is wrong

    return decode
