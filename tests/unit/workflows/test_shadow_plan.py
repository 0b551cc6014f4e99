"""Who trains which shadow model."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sctool.data.splits import make_split
from sctool.domain.data_config import SplitConfig
from sctool.workflows.shadow_plan import deal_in, make_shadow_split, plan_pool


@given(st.integers(0, 99), st.integers(2, 8), st.sampled_from([0.2, 0.35, 0.5]))
def test_every_record_is_in_for_half_and_the_population_for_none(seed: int, half: int, train: float) -> None:
    y = np.arange(600) % 3
    shares = SplitConfig(
        seed=seed,
        train=train,
        validation=0.1,
        test=0.1,
        attack_fit=0.05,
        attack_select=0.05,
        audit_fit=0.05,
        audit=0.05,
    )
    split = make_split(y, shares)
    pool = plan_pool(split, seed)
    is_in = deal_in(pool, 2 * half, seed)
    assert is_in.shape == (2 * half, len(pool.rows)) and (is_in.sum(axis=0) == half).all()
    assert not np.isin(pool.population, pool.rows).any() and len(pool.population) > 0
    for pair in ("audit", "audit_fit"):
        assert np.isin(split.pair(pair)[0], pool.rows).all()
    assert not np.isin(pool.population, split["train"]).any()
    assert len(pool.rows) <= 2 * len(split["train"])
    own = make_shadow_split(pool, is_in[0], split, 0)
    np.testing.assert_array_equal(own["train"], pool.rows[is_in[0]])
    for name, rows in own.parts.items():
        inside = (
            name == "train" or name == "quantisation" or name.endswith("fit_members") or name.endswith("ct_members")
        )
        assert np.isin(rows, own["train"]).all() if inside else not np.isin(rows, own["train"]).any()
    assert set(own.parts) == set(split.parts)
