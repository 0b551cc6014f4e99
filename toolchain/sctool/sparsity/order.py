"""Which records each step sees, as a function of the step alone: nothing to save, nothing to restore."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def seed_generator(*words: int) -> torch.Generator:
    """A stream of its own for each sequence of words, so that one part's draws do not move another's."""
    return torch.Generator().manual_seed(mix_seed(*words))


def mix_seed(*words: int) -> int:
    """63 well-mixed bits from non-negative words."""
    return int(np.random.SeedSequence(list(words)).generate_state(1, np.uint64)[0]) % 2**63


class DataOrder:
    """A fresh permutation of `records` rows each epoch, cut into batches; the last batch of an epoch may be short.

    A last batch of one record is left out: BatchNorm cannot take it.
    """

    def __init__(self, records: int, batch_size: int, *seed: int) -> None:
        self._records, self._batch_size, self._seed = records, batch_size, seed
        whole, rest = divmod(records, batch_size)
        self.steps_per_epoch = max(1, whole + (rest > 1))
        self._epoch = -1
        self._rows = torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        """int64 [B]: the rows of step `step`, counted from 0."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._rows = torch.randperm(self._records, generator=seed_generator(*self._seed, epoch))
            self._epoch = epoch
        return self._rows[batch * self._batch_size : (batch + 1) * self._batch_size]
