"""The session that answers for a model, wherever it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ArtifactFormat = Literal["onnx", "pte", "spte"]
Precision = Literal["float32", "float16", "int8"]
Optimisation = Literal["none", "basic", "extended", "all"]
"""How far ONNX Runtime may rewrite a graph when it loads it; what is deployed decides, "all" where nobody chose."""


class Session(Protocol):
    """A loaded model that turns a batch into logits, whatever runs underneath."""

    name: str

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C]; any B >= 1 (implementations split it where they must)."""
        ...
