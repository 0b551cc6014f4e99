"""An attack's figures on records that it was not fitted on, and the attacker who sees no model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sctool.domain.measurement import AttackResult
from sctool.domain.membership import Signals
from sctool.safety.attack import Attack
from sctool.safety.ensemble import fit_seeds
from sctool.safety.metrics import (
    FPRS,
    accuracy,
    accuracy_p_value,
    auc,
    auc_p_value,
    balanced_accuracy,
    roc,
    tpr_at_fpr,
    tpr_p_value,
)


def evaluate_attack(attack: Attack, fit: Signals, held_out: Signals, seed: int, *, seeds: int = 1) -> AttackResult:
    """Fit on `fit`, score `held_out`; the latter's membership is used for the figures alone. An attack that depends on
    the seed is fitted with `seeds` of them, from `seed` on: its score is the mean of theirs."""
    if seeds > 1 and attack.seeded:
        several = fit_seeds(attack, fit, seed, seeds)
        each = several.score_each(held_out)
        result = summarise_scores(attack.name, each.mean(axis=0), held_out.is_member, several.threshold)
        return replace(result, auc_by_seed=tuple(auc(scores, held_out.is_member).value for scores in each))
    fitted = attack.fit(fit, seed)
    scores = fitted.score(held_out)
    return summarise_scores(attack.name, scores, held_out.is_member, fitted.threshold)


def summarise_scores(
    name: str, scores: NDArray[np.float64], is_member: NDArray[np.bool_], threshold: float
) -> AttackResult:
    """All figures of scores [N] whose threshold was fixed beforehand."""
    predicted = scores >= threshold
    fpr, tpr = roc(scores, is_member)
    return AttackResult(
        attack=name, scores=scores, is_member=is_member, threshold=threshold,
        auc=auc(scores, is_member), accuracy=accuracy(predicted, is_member),
        balanced_accuracy=balanced_accuracy(predicted, is_member),
        tpr_at_fpr={limit: tpr_at_fpr(scores, is_member, limit) for limit in FPRS},
        p_values={
            "auc": auc_p_value(scores, is_member), "balanced_accuracy": accuracy_p_value(predicted, is_member),
            "tpr_at_1pct_fpr": tpr_p_value(scores, is_member, 0.01),
        },
        fpr=fpr, tpr=tpr,
    )  # fmt: skip


def shuffled_control(attack: Attack, fit: Signals, held_out: Signals, seed: int) -> AttackResult:
    """The attack where membership was dealt anew at random, to the records fitted on and those scored: whatever it finds
    over chance is the audit's own error."""
    generator = np.random.default_rng([seed, 1])
    dealt = [signals.with_membership(generator.permutation(signals.is_member)) for signals in (fit, held_out)]
    return evaluate_attack(attack, dealt[0], dealt[1], seed)


def blind_baseline(
    fit_x: NDArray[np.float32], fit_members: NDArray[np.bool_], x: NDArray[np.float32], is_member: NDArray[np.bool_],
    seed: int,
) -> AttackResult:  # fmt: skip
    """The attacker who sees the records [N, F] and no model (Das et al., "Blind baselines", 2024): a random forest.

    Where it beats chance, members and non-members differ in themselves and no attack figure means anything.
    """
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_estimators=100, min_samples_leaf=3, random_state=seed, n_jobs=1)
    forest.fit(fit_x, fit_members)
    scores = np.asarray(forest.predict_proba(x)[:, 1], dtype=np.float64)
    return summarise_scores("blind", scores, is_member, 0.5)
