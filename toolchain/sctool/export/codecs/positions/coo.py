"""ONNX's own sparse_initializer: a list of flat positions, for interchange, and for what re-reads weights in ORT format.

Positions lie in int64_data, where protobuf writes small numbers in fewer bytes; still the largest of all codecs. Of what
can be said against it: onnx.checker's full check fails on it, onnx_ir drops it, and quantisers and version converters
fail; but it alone stays sparse in a `.ort` file, which minimal builds of ONNX Runtime load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import onnx
from onnx import helper, numpy_helper

from sctool.export.codecs.codec import Cost, Quantised, ValueCodec
from sctool.export.codecs.placement import find_slots
from sctool.export.codecs.scope import Scope


class Coo:
    """Positions and codes; ONNX Runtime makes it dense when it reads the file."""

    name = "coo"
    opset = 11
    cost = Cost(3e4, 0.0, 20.0)
    lifts: ClassVar[Mapping[str, Cost]] = {}

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        if quantised.codes.ndim == 0:  # a sparse tensor has at least one axis
            return values.add_lift(scope, quantised.codes.reshape(-1), (), quantised)
        slots = find_slots(quantised)
        as_is = quantised.scale is None and quantised.table is None and quantised.codes.dtype == quantised.dtype
        name = scope.tensor if as_is else f"{scope.tensor}/codes"
        codes = numpy_helper.from_array(quantised.codes.reshape(-1)[slots], name)
        positions = helper.make_tensor(f"{name}/positions", onnx.TensorProto.INT64, [len(slots)], slots.tolist())
        scope.sparse_initialisers.append(helper.make_sparse_tensor(codes, positions, list(quantised.codes.shape)))
        return values.add_lift_stored(scope, name, quantised)
