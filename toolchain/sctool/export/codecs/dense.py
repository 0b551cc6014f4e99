"""The tensor as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from sctool.export.codecs.codec import Encoded


class Dense:
    """Four bytes for each weight, zero or not."""

    name = "dense"

    def encode(self, name: str, tensor: NDArray[np.float32]) -> Encoded:
        return Encoded([numpy_helper.from_array(np.asarray(tensor, order="C"), name)], [])
