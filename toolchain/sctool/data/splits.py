"""Who is a member, who is not, who may see whom: one disjoint split by seed and class (DESIGN section 4)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sctool.domain.data_config import SplitConfig
from sctool.domain.membership import MembershipSplit
from sctool.errors import DataError

PAIRS = ("attack_fit", "attack_select", "audit_fit", "audit")


def make_split(y: NDArray[np.int64], config: SplitConfig, in_train: NDArray[np.bool_] | None = None) -> MembershipSplit:
    """Split the records of y [N] by class, so that members and non-members come from the same distribution.

    Every class gives the same rounded number of records to both sides of a pair. With `config.official`, members come
    from the records of `in_train` and all others from the rest: `train` is a share of the former, the other shares are
    of the latter. DataError where a class has too few records, or the shares exceed the whole.
    """
    non_members = [("validation", config.validation), ("test", config.test)]
    non_members += [(f"{pair}_non_members", getattr(config, pair)) for pair in PAIRS]
    outside = sum(share for _, share in non_members)
    if config.official:
        if outside > 1 + 1e-9:
            raise DataError(f"data.split: non-member parts sum to {outside:.3f} (limit 1).", hint="Lower some shares.")
        if in_train is None:
            raise DataError(
                "data.split.official: the data do not say which records are of their training part.",
                hint='Leave it out (and data.protocol = "authors"), or give the data set as its authors distribute it.',
            )
    total, inside = config.train + outside, sum(getattr(config, pair) for pair in PAIRS)
    if not config.official and (total > 1 + 1e-9 or inside > config.train + 1e-9):
        raise DataError(
            f"data.split: train and non-member parts sum to {total:.3f} (limit 1) and the members of the attack parts "
            f"to {inside:.3f} (limit train = {config.train}).",
            hint="Lower some shares.",
        )
    generator = np.random.default_rng(config.seed)
    parts: dict[str, list[NDArray[np.int64]]] = {}
    for label in np.unique(y):
        rows = generator.permutation(np.flatnonzero(y == label)).astype(np.int64)
        others = None
        if config.official and in_train is not None:
            rows, others = rows[in_train[rows]], rows[~in_train[rows]]
        _deal_class(rows, others, int(label), config, non_members, parts)
    arrays = {name: np.sort(np.concatenate(chunks)) for name, chunks in parts.items()}
    return MembershipSplit(arrays, config.seed, hash_split(arrays))


def _deal_class(
    rows: NDArray[np.int64], others: NDArray[np.int64] | None, label: int, config: SplitConfig,
    non_members: list[tuple[str, float]], parts: dict[str, list[NDArray[np.int64]]],
) -> None:  # fmt: skip
    """Members from `rows`; the rest from `others`, or, where that is None, from what `rows` has left."""

    def put(name: str, chunk: NDArray[np.int64]) -> None:
        parts.setdefault(name, []).append(chunk)

    pool = rows if others is None else others
    sizes = {name: int(share * len(pool)) for name, share in non_members}
    train_size = int(config.train * len(rows))
    short = [name for name, size in {**sizes, "train": train_size}.items() if size < 1]
    if short:
        smallest = min(getattr(config, name.removesuffix("_non_members")) for name in short)
        found = f"{len(rows)} records" if others is None else f"{len(rows)} training and {len(others)} test records"
        raise DataError(
            f"Class {label} has {found}: none is left for {short[0]}.",
            hint=f"Give at least {int(np.ceil(1 / smallest))} records a class, or raise that part's share.",
        )
    needed = sum(sizes[f"{pair}_non_members"] for pair in PAIRS)
    if train_size < needed:
        raise DataError(
            f"data.split: class {label} has {train_size} members; the attack parts ask for {needed}.",
            hint="Raise train, or lower the shares of the attack parts.",
        )
    train, rest = rows[:train_size], rows[train_size:] if others is None else others
    put("train", train)
    put("quantisation", train[: max(1, int(config.quantisation * train_size))])
    for name, size in sizes.items():
        chunk, rest = rest[:size], rest[size:]
        put(name, chunk)
    # Members are dealt from the other end than `quantisation`, so that ranges and audit share no record where possible.
    for pair in PAIRS:
        size = sizes[f"{pair}_non_members"]
        train, chunk = train[: len(train) - size], train[len(train) - size :]
        put(f"{pair}_members", chunk)


def hash_split(parts: dict[str, NDArray[np.int64]]) -> str:
    """sha256 over the names and indices of all parts, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(name.encode() + b"\0" + parts[name].astype("<i8").tobytes() + b"\0")
    return digest.hexdigest()
