"""What one call of a model has to do, counted from its graph."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]

KINDS = ("conv", "pointwise", "depthwise", "dense", "weights", "activations", "nodes")


class Work(BaseModel):
    """At batch 1: millions of multiply-adds by kernel (`conv`: wider than 1x1; `pointwise`: 1x1; `dense`: matrix products),
    megabytes of weights and of activations that kernels read and write, and how many kernels there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conv: Amount = 0.0
    pointwise: Amount = 0.0
    depthwise: Amount = 0.0
    dense: Amount = 0.0
    weights: Amount = 0.0
    activations: Amount = 0.0
    nodes: Amount = 0.0

    @property
    def mmacs(self) -> float:
        """Millions of multiply-adds."""
        return self.conv + self.pointwise + self.depthwise + self.dense

    def amounts(self) -> tuple[float, ...]:
        """In the order of KINDS."""
        return tuple(float(getattr(self, kind)) for kind in KINDS)
