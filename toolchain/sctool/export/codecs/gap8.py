"""Positions as uint8 gaps: Cast -> CumSum -> ScatterElements into zeros -> Reshape, all of static shape.

Every gap is at most 255: a longer one is bridged by explicit zeros. ONNX Runtime folds the nodes into a dense
initialiser when the session is made, so the running time is that of the dense model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sctool.export.codecs.codec import Encoded

LONGEST = 255


def encode_gaps(flat: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(gaps uint8 [K], values float32 [K]) of a vector: cumsum(gaps) are the values' positions.

    Only the bit pattern of +0.0 is left out, so -0.0 and NaN come back bit for bit. K is at least 1.
    """
    positions = np.flatnonzero(flat.view(np.uint32))
    if len(positions) == 0:
        return np.zeros(1, np.uint8), np.zeros(1, np.float32)
    distance = np.diff(positions, prepend=0)
    bridges = np.maximum(distance - 1, 0) // LONGEST
    last = np.cumsum(bridges + 1) - 1
    gaps = np.full(last[-1] + 1, LONGEST, np.uint8)
    gaps[last] = (distance - bridges * LONGEST).astype(np.uint8)
    values = np.zeros(len(gaps), np.float32)
    values[last] = flat[positions]
    return gaps, values


def decode_gaps(gaps: NDArray[np.uint8], values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The vector [size] that encode_gaps was given; the numpy oracle of the nodes."""
    flat = np.zeros(size, np.float32)
    flat[np.cumsum(gaps, dtype=np.int64)] = values
    return flat


class Gap8:
    """One byte of position and four of value for each stored weight."""

    name = "gap8"

    def encode(self, name: str, tensor: NDArray[np.float32]) -> Encoded:
        gaps, values = encode_gaps(np.ascontiguousarray(tensor).reshape(-1))
        wide = np.int64 if tensor.size > np.iinfo(np.int32).max else np.int32
        constants: dict[str, NDArray[Any]] = {
            "gaps": gaps, "values": values, "axis": np.array(0, np.int64),
            "size": np.array([tensor.size], np.int64), "shape": np.array(tensor.shape, np.int64),
        }  # fmt: skip
        position_type = onnx.TensorProto.INT64 if wide is np.int64 else onnx.TensorProto.INT32
        zero = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.0])

        def part(suffix: str) -> str:
            return f"{name}/{suffix}"

        nodes = [
            helper.make_node("Cast", [part("gaps")], [part("wide_gaps")], part("Cast"), to=position_type),
            helper.make_node("CumSum", [part("wide_gaps"), part("axis")], [part("positions")], part("CumSum")),
            helper.make_node("ConstantOfShape", [part("size")], [part("zeros")], part("ConstantOfShape"), value=zero),
            helper.make_node(
                "ScatterElements", [part("zeros"), part("positions"), part("values")], [part("flat")],
                part("ScatterElements"), axis=0,
            ),
            helper.make_node("Reshape", [part("flat"), part("shape")], [name], part("Reshape")),
        ]  # fmt: skip
        return Encoded([numpy_helper.from_array(array, part(key)) for key, array in constants.items()], nodes)
