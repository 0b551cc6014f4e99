"""Who is a member, who is not: the promises of MembershipSplit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sctool.data.source import load_dataset, resolve_split
from sctool.data.splits import PAIRS, make_split
from sctool.domain.data_config import DataConfig, SplitConfig
from sctool.domain.membership import PARTS
from sctool.errors import DataError


@settings(max_examples=40)
@given(st.lists(st.integers(40, 160), min_size=2, max_size=5), st.integers(0, 2**31))
def test_parts_are_disjoint_balanced_and_complete(counts: list[int], seed: int) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    split = make_split(y, SplitConfig(seed=seed))
    assert set(split.parts) == set(PARTS)
    outside = ["validation", "test", *(f"{pair}_non_members" for pair in PAIRS)]
    for one, two in itertools.combinations(["train", *outside], 2):
        assert not np.intersect1d(split[one], split[two]).size, (one, two)
    for one, two in itertools.combinations([f"{pair}_members" for pair in PAIRS], 2):
        assert not np.intersect1d(split[one], split[two]).size, (one, two)
    for part in [*(f"{pair}_members" for pair in PAIRS), "quantisation"]:
        assert np.isin(split[part], split["train"]).all()
    for pair in PAIRS:
        members, others = split[f"{pair}_members"], split[f"{pair}_non_members"]
        assert (np.bincount(y[members], minlength=len(counts)) == np.bincount(y[others], minlength=len(counts))).all()
        rows, flags = split.pair(pair)
        np.testing.assert_array_equal(flags, np.isin(rows, split["train"]))
    assert all(len(np.unique(rows)) == len(rows) > 0 for rows in split.parts.values())
    assert max(rows.max() for rows in split.parts.values()) < len(y)


def test_same_seed_same_split_other_seed_other_split() -> None:
    y = np.repeat(np.arange(3), 80).astype(np.int64)
    one, same, other = (make_split(y, SplitConfig(seed=seed)) for seed in (1, 1, 2))
    assert one.sha256 == same.sha256 != other.sha256


def test_a_class_with_too_few_records_is_named_with_what_it_would_take() -> None:
    y = np.array([0] * 100 + [1] * 5, np.int64)
    with pytest.raises(DataError, match=r"Class 1 has 5 records.*at least 17 records"):
        make_split(y, SplitConfig())


@pytest.mark.parametrize(
    "shares", [{"train": 0.9}, {"train": 0.2, "validation": 0.1, "attack_fit": 0.1, "audit": 0.1, "test": 0.1}]
)
def test_shares_over_the_whole_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(DataError, match="Lower some shares"):
        make_split(np.repeat([0, 1], 100).astype(np.int64), SplitConfig(**shares))


def test_official_parts_are_kept_apart() -> None:
    y = np.tile(np.arange(3), 200).astype(np.int64)
    in_train = np.random.default_rng(0).permutation(np.repeat([True, False], [400, 200]))
    shares = SplitConfig(
        official=True, train=0.95, validation=0.1, test=0.1, attack_fit=0.15, attack_select=0.15, audit_fit=0.2,
        audit=0.3,
    )  # fmt: skip
    split = make_split(y, shares, in_train)
    for part, rows in split.parts.items():
        inside = part in ("train", "quantisation") or (part.endswith("_members") and "non" not in part)
        assert (in_train[rows] == inside).all(), part
    inside, outside = np.bincount(y[in_train]), np.bincount(y[~in_train])
    assert len(split["train"]) == sum(int(0.95 * n) for n in inside)
    assert len(split["audit_members"]) == len(split["audit_non_members"]) == sum(int(0.3 * n) for n in outside)
    assert len({*split["train"], *split["quantisation"]}) == len(split["train"])
    with pytest.raises(DataError, match=r"class 0 has \d+ members; the attack parts ask for"):
        make_split(y, shares.model_copy(update={"train": 0.2}), in_train)
    with pytest.raises(DataError, match=r"non-member parts sum to 1\.100"):
        make_split(y, shares.model_copy(update={"validation": 0.2}), in_train)
    with pytest.raises(DataError, match="do not say which records"):
        make_split(y, shares)
    with pytest.raises(DataError, match=r"Class 2 has \d+ training and 0 test records"):
        make_split(y, shares, in_train | (y == 2))


def test_the_split_of_the_digits_stays_what_it_was() -> None:
    """Runs and bundles out there name its hash."""
    split = make_split(load_dataset("digits").y, resolve_split(DataConfig()))
    assert split.sha256 == "952aef5472e9b87cac8b10505831107ffbce7b1289bcb262368faca47b6a1b7a"
