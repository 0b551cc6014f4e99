"""What drop and grow criteria may look at, for one layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LayerEvidence:
    """Everything has the weight's shape.

    `mask`: True where a weight exists; `gradient`: of the loss on a batch of training records, everywhere; `momentum`:
    the optimiser's, plus the gradient; `fired`: True where a weight has ever existed (ITOP). `member_gradient` and
    `non_member_gradient`: of the mean loss on the members and the non-members of `attack_fit`; None where no criterion
    in use asks for them.
    """

    weight: Tensor
    mask: Tensor
    gradient: Tensor
    momentum: Tensor
    fired: Tensor
    member_gradient: Tensor | None = None
    non_member_gradient: Tensor | None = None
