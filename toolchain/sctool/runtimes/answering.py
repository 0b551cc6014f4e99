"""A model behind a callable of the user's: a server, a device, an app driven by a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.errors import ArtifactError

BATCH = 256


class CallableSession:
    """Answers with `function(batch)`: float32 [B, ...] -> logits, or log-probabilities, [B, C]."""

    name = "callable"

    def __init__(self, function: Callable[[NDArray[np.float32]], Any], *, reference: str) -> None:
        self._function, self._reference = function, reference

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C], BATCH records a call.

        Raises ArtifactError where the callable fails or answers anything else.
        """
        return np.concatenate([self._ask(batch[i : i + BATCH]) for i in range(0, len(batch), BATCH)])

    def _ask(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            answer = np.asarray(self._function(part), dtype=np.float32)
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise ArtifactError(
                f"{self._reference} failed on {list(part.shape)}: {type(error).__name__}: {reason}.",
                hint="It is called with float32 [B, ...] and answers [B, C].",
            ) from error
        if answer.ndim != 2 or len(answer) != len(part) or not np.isfinite(answer).all():
            raise ArtifactError(
                f"{self._reference} answered {list(answer.shape)} for {list(part.shape)}: expected finite numbers [B, C].",
                hint="Give logits, or logarithms of probabilities, one row a record.",
            )
        return answer
