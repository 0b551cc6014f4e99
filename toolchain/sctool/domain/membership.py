"""Who is a member, and what an attacker sees of each record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IndexArray = NDArray[np.int64]

PARTS = (
    "train", "validation", "test", "quantisation",
    "attack_fit_members", "attack_fit_non_members", "attack_select_members", "attack_select_non_members",
    "audit_fit_members", "audit_fit_non_members", "audit_members", "audit_non_members",
)  # fmt: skip


@dataclass(frozen=True)
class MembershipSplit:
    """Index sets into the data set, int64 [n]; see DESIGN section 4.

    The four `*_members` sets are disjoint subsets of `train`; `validation`, `test` and the four `*_non_members` sets
    are disjoint from `train` and from one another. `quantisation` is a subset of `train`.
    """

    parts: dict[str, IndexArray]
    seed: int
    sha256: str

    def __getitem__(self, part: str) -> IndexArray:
        return self.parts[part]

    def pair(self, name: str) -> tuple[IndexArray, NDArray[np.bool_]]:
        """Indices and membership of `name` ("attack_fit", "attack_select", "audit_fit", "audit"): members first."""
        members, others = self.parts[f"{name}_members"], self.parts[f"{name}_non_members"]
        flags = np.concatenate([np.ones(len(members), bool), np.zeros(len(others), bool)])
        return np.concatenate([members, others]), flags


@dataclass(frozen=True)
class Signals:
    """All that a black-box attack sees.

    logits: float32 [N, Q, C], Q queries a record; labels: int64 [N]; is_member: bool [N].
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_member: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if (
            self.logits.ndim != 3
            or self.labels.shape != (len(self.logits),)
            or self.is_member.shape != self.labels.shape
        ):
            raise ValueError(
                f"logits {self.logits.shape}, labels {self.labels.shape}, is_member {self.is_member.shape}: "
                "expected [N, Q, C], [N], [N]"
            )

    def __len__(self) -> int:
        return len(self.labels)
