"""Which records shadow models are trained on, and the recipe that they follow: the attacked model's own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset
from sctool.domain.membership import IndexArray, MembershipSplit
from sctool.sparsity.losses import LossSpec, parse_loss
from sctool.sparsity.order import mix_seed
from sctool.workflows.run_directory import MASKS, Run
from sctool.workflows.training import count_steps

POPULATION_LIMIT = 2000
SHADOW_SEED = 7_919


@dataclass(frozen=True)
class Pool:
    """Rows of the data set: `rows` [P], of which each shadow model is trained on a half, and `population` [Z], on which
    none is. Both sorted."""

    rows: IndexArray
    population: IndexArray

    @property
    def asked(self) -> IndexArray:
        """[P + Z], sorted: what every shadow model answers."""
        return np.sort(np.concatenate([self.rows, self.population]))


def plan_pool(split: MembershipSplit, seed: int) -> Pool:
    """Twice as many rows as the model had members, so that a half is as many as it was trained on.

    All audited records are among them, then members, then other non-members; what is left over is the population. With
    few non-members the pool is smaller, and so are the shadow models' training sets.
    """
    generator = np.random.default_rng(mix_seed(seed, SHADOW_SEED))
    members = split["train"]
    audited = np.concatenate([split.pair(pair)[0] for pair in ("audit", "audit_fit")])
    names = ("validation", "test", "attack_fit_non_members", "attack_select_non_members")
    spare = generator.permutation(np.concatenate([split[name] for name in names]))
    audited_others = np.setdiff1d(audited, members)
    keep_out = min(POPULATION_LIMIT, max(len(spare) // 3, len(spare) - (len(members) - len(audited_others))))
    wanted = max(0, min(len(members) - len(audited_others), len(spare) - keep_out))
    rows = np.sort(np.concatenate([members, audited_others, spare[:wanted]]))
    return Pool(rows.astype(np.int64), np.sort(spare[wanted : wanted + keep_out]).astype(np.int64))


def deal_in(pool: Pool, count: int, seed: int) -> NDArray[np.bool_]:
    """bool [count, P]: each row is in for exactly half of the `count` shadow models (rounded down)."""
    generator = np.random.default_rng(mix_seed(seed, SHADOW_SEED, 1))
    ranks = generator.random((count, len(pool.rows))).argsort(axis=0).argsort(axis=0)
    return np.asarray(ranks < count // 2)


def make_shadow_split(pool: Pool, is_in: NDArray[np.bool_], split: MembershipSplit, number: int) -> MembershipSplit:
    """The split of shadow model `number`: its members are pool.rows[is_in [P]], its non-members the rest of the pool.

    Parts that training or a search looks at are as large as the attacked model's, or as there are records for; `test`
    and the audit's parts are empty.
    """
    generator = np.random.default_rng(mix_seed(split.seed, SHADOW_SEED, 2, number))
    members, others = generator.permutation(pool.rows[is_in]), generator.permutation(pool.rows[~is_in])
    empty = np.zeros(0, np.int64)
    parts = {name: empty for name in split.parts}
    parts["train"] = np.sort(members)
    inside = ["attack_fit_members", "attack_select_members", "quantisation"]
    outside = ["attack_fit_non_members", "attack_select_non_members", "validation"]
    for names, rows in ((inside, members), (outside, others)):
        share = min(1.0, len(rows) / max(1, sum(len(split[name]) for name in names)))
        for name in names:
            size = int(share * len(split[name]))
            parts[name], rows = np.sort(rows[:size]), rows[size:]
    return MembershipSplit(parts, split.seed, hashlib.sha256(parts["train"].tobytes()).hexdigest())


@dataclass(frozen=True)
class Stretch:
    """Train with `loss` until step `end`."""

    loss: LossSpec
    end: int


def read_stretches(run: Run) -> list[Stretch]:
    """What the run's model went through: the warm-up, then what each selected round trained with, to its last step."""
    config = run.config.compress
    first = parse_loss(config.loss, where="compress.loss")
    stretches = [Stretch(first, config.warm_up_steps)] if config.warm_up_steps else []
    by_name = {record["name"]: record for record in run.candidates}
    end: str | None = run.summary["picked"] or run.summary["ended_with"]
    last = end or next((record["name"] for record in reversed(run.candidates) if record["selected"]), None)
    lineage = []
    while last in by_name:
        lineage.append(by_name[last])
        last = by_name[last]["parent"]
    for record in reversed(lineage):
        stretches.append(Stretch(parse_loss(record["loss"], where="candidates.jsonl"), int(record["steps"])))
    if end is None:
        stretches.append(Stretch(stretches[-1].loss if stretches else first, count_steps(config)))
    return stretches


def identify(run: Run, data: Dataset, pool: Pool, count: int, queries: int, way: str) -> str:
    """A hash of all that the answers of the shadow models follow from, the records too; a setting that is None is as
    one that does not exist."""
    config = run.config.model_dump(mode="json", include={"model", "data", "compress", "safety"}, exclude_none=True)
    for key in ("jobs", "checkpoint_minutes"):
        config["compress"].pop(key, None)
    content: dict[str, Any] = {
        "config": config, "masks": run.summary["files"][MASKS], "split": run.summary["split"]["sha256"],
        "pool": [hashlib.sha256(rows.tobytes()).hexdigest() for rows in (pool.rows, pool.population)],
        "records": data.sha256,
        "count": count, "queries": queries, "way": way, "schema": 2,
        "stretches": [[str(stretch.loss), stretch.end] for stretch in read_stretches(run)],
        "torch": run.summary["versions"]["torch"],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
