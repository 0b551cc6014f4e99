"""Who is a member, and what an attacker sees of each record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

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
class Canaries:
    """Records for the one-run audit: rows int64 [m] of the data set; the labels int64 [m] that they are trained with;
    is_in bool [m], whether they are, drawn with probability 1/2 each."""

    rows: IndexArray
    labels: IndexArray
    is_in: NDArray[np.bool_]


@dataclass(frozen=True)
class Shadows:
    """What S shadow models say of the same records.

    margins: float64 [S, N, Q], log p_y - log(1 - p_y) of each query; is_in: bool [S, N], whether a shadow model was
    trained on the record.
    """

    margins: NDArray[np.float64]
    is_in: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.margins.ndim != 3 or self.is_in.shape != self.margins.shape[:2]:
            raise ValueError(f"margins {self.margins.shape}, is_in {self.is_in.shape}: expected [S, N, Q], [S, N]")

    def take(self, rows: NDArray[Any]) -> Shadows:
        """Of these records alone."""
        return Shadows(self.margins[:, rows], self.is_in[:, rows])


@dataclass(frozen=True)
class Population:
    """Records that neither the model nor any shadow model was trained on.

    margins: float64 [Z], the model's; shadow_margins: float64 [S, Z]. Query 0, the records as they are.
    """

    margins: NDArray[np.float64]
    shadow_margins: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.margins.ndim != 1 or self.shadow_margins.shape[1:] != self.margins.shape:
            raise ValueError(f"margins {self.margins.shape}, shadow_margins {self.shadow_margins.shape}: [Z], [S, Z]")


@dataclass(frozen=True)
class Signals:
    """All that an attack sees.

    logits: float32 [N, Q, C], Q queries a record, the first the record itself, the others altered copies of it; labels:
    int64 [N]; is_member: bool [N]. What only some attacks look at is None where nobody gathered it: `records` float32
    [N, F], flat; `features` float32 [N, G] from inside the model; `shadows`; `population`.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_member: NDArray[np.bool_]
    records: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    shadows: Shadows | None = None
    population: Population | None = None

    def __post_init__(self) -> None:
        n = len(self.logits)
        if self.logits.ndim != 3 or self.labels.shape != (n,) or self.is_member.shape != (n,):
            raise ValueError(
                f"logits {self.logits.shape}, labels {self.labels.shape}, is_member {self.is_member.shape}: "
                "expected [N, Q, C], [N], [N]"
            )
        for name in ("records", "features"):
            extra = getattr(self, name)
            if extra is not None and (extra.ndim != 2 or len(extra) != n):
                raise ValueError(f"{name} {extra.shape}: expected [{n}, any]")
        if self.shadows and self.shadows.margins.shape[1:] != self.logits.shape[:2]:
            raise ValueError(f"shadows {self.shadows.margins.shape}: expected [S, {n}, {self.logits.shape[1]}]")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> Signals:
        """These records alone: an index array or a bool [N]."""
        return Signals(
            self.logits[rows], self.labels[rows], self.is_member[rows],
            None if self.records is None else self.records[rows],
            None if self.features is None else self.features[rows],
            None if self.shadows is None else self.shadows.take(rows), self.population,
        )  # fmt: skip

    def with_membership(self, is_member: NDArray[np.bool_]) -> Signals:
        """The same signals, others taken for members."""
        return replace(self, is_member=is_member)
