"""Every code, zero or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from sctool.export.codecs.codec import Cost, Quantised, ValueCodec
from sctool.export.codecs.scope import Scope


class Dense:
    """No positions at all."""

    name = "dense"
    opset = 1
    cost = Cost()
    lifts: ClassVar[Mapping[str, Cost]] = {}

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        return values.add_lift(scope, quantised.codes.reshape(-1), quantised.codes.shape, quantised)
