"""The tensors that an ONNX file holds, as they lie there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import numpy_helper

from sctool.errors import ArtifactError


def read_initialisers(path: Path) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """(name, values) of each initialiser of floating-point numbers; those in other files are left out.

    ArtifactError where the file is no ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ArtifactError(f"Cannot read {path}: {error}.", hint="Export the run again.") from error
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            continue
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError):
            continue
        if values.dtype.kind == "f" and np.isfinite(values).all():
            yield tensor.name, values
