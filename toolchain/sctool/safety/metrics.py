"""ROC, AUC, accuracies and TPR at a low FPR, each with its 95 % interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, hypergeom, mannwhitneyu, norm, rankdata

from sctool.domain.measurement import Interval

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]
FPRS = (0.001, 0.01, 0.1)
_Z = float(norm.ppf(0.975))


def roc(scores: Scores, is_member: Flags) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(fpr, tpr), each [K + 1], from (0, 0) to (1, 1): a step for each distinct score, no interpolation, no hull."""
    _check(scores, is_member)
    order = np.argsort(-scores, kind="stable")
    sorted_scores, flags = scores[order], is_member[order]
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)
    hits, alarms = np.cumsum(flags)[ends], np.cumsum(~flags)[ends]
    return (
        np.concatenate([[0.0], alarms / max(int((~is_member).sum()), 1)]),
        np.concatenate([[0.0], hits / max(int(is_member.sum()), 1)]),
    )


def auc(scores: Scores, is_member: Flags) -> Interval:
    """P(member scores higher) + P(tie) / 2, with DeLong's interval on the logit scale (DeLong et al. 1988; Sun & Xu
    2014 for the midranks). At perfect separation DeLong's variance is 0: the far end is then Hanley and McNeil's rule
    of three, 3 / min(members, non-members) away.
    """
    _check(scores, is_member)
    members, others = scores[is_member], scores[~is_member]
    m, n = len(members), len(others)
    everyone = rankdata(np.concatenate([members, others]))
    placement_m = (everyone[:m] - rankdata(members)) / n
    placement_n = 1 - (everyone[m:] - rankdata(others)) / m
    value = float(placement_m.mean())
    variance = (placement_m.var(ddof=1) / m if m > 1 else 0.0) + (placement_n.var(ddof=1) / n if n > 1 else 0.0)
    if variance <= 0 or not 0 < value < 1:
        reach = min(1.0, 3 / min(m, n))
        return Interval(value, max(0.0, value - reach), min(1.0, value + reach))
    centre, half = math.log(value / (1 - value)), _Z * math.sqrt(variance) / (value * (1 - value))
    return Interval(value, _logistic(centre - half), _logistic(centre + half))


def proportion(successes: int, trials: int) -> Interval:
    """successes / trials with the Clopper-Pearson interval."""
    low = float(beta.ppf(0.025, successes, trials - successes + 1)) if successes > 0 else 0.0
    high = float(beta.ppf(0.975, successes + 1, trials - successes)) if successes < trials else 1.0
    return Interval(successes / trials, low, high)


def accuracy(predicted: Flags, is_member: Flags) -> Interval:
    """Share of right guesses."""
    return proportion(int((predicted == is_member).sum()), len(is_member))


def balanced_accuracy(predicted: Flags, is_member: Flags) -> Interval:
    """(TPR + TNR) / 2; the interval joins the two Clopper-Pearson intervals, which are of independent records, by
    their distances from the estimate in quadrature (MOVER; Zou & Donner 2008)."""
    tpr = proportion(int(predicted[is_member].sum()), int(is_member.sum()))
    tnr = proportion(int((~predicted[~is_member]).sum()), int((~is_member).sum()))
    value = (tpr.value + tnr.value) / 2
    down = math.hypot(tpr.value - tpr.low, tnr.value - tnr.low) / 2
    up = math.hypot(tpr.high - tpr.value, tnr.high - tnr.value) / 2
    return Interval(value, max(0.0, value - down), min(1.0, value + up))


def tpr_at_fpr(scores: Scores, is_member: Flags, limit: float) -> Interval | None:
    """The largest TPR with FPR <= limit (Clopper-Pearson at that threshold); None with fewer than 1 / limit
    non-members, where the figure would rest on no record at all."""
    if int((~is_member).sum()) * limit < 1 - 1e-9:
        return None
    fpr, tpr = roc(scores, is_member)
    members = int(is_member.sum())
    return proportion(round(float(tpr[fpr <= limit + 1e-12].max()) * members), members)


def auc_p_value(scores: Scores, is_member: Flags) -> float:
    """P(an AUC at least this large) where membership has nothing to do with the scores: Mann-Whitney, with ties."""
    _check(scores, is_member)
    if len(np.unique(scores)) == 1:
        return 1.0
    return float(mannwhitneyu(scores[is_member], scores[~is_member], alternative="greater", method="asymptotic").pvalue)


def accuracy_p_value(predicted: Flags, is_member: Flags) -> float:
    """P(members guessed at least so much more often than others) by chance: Fisher's exact test, one-sided."""
    hits, alarms = int(predicted[is_member].sum()), int(predicted[~is_member].sum())
    return float(hypergeom.sf(hits - 1, len(is_member), int(is_member.sum()), hits + alarms))


def tpr_p_value(scores: Scores, is_member: Flags, limit: float) -> float | None:
    """P(a TPR at least this large at FPR <= limit) by chance; None as in `tpr_at_fpr`.

    With a false alarms allowed, x members come before the (a + 1)-th non-member exactly where the first x + a records
    hold at most a non-members. With ties a little too large.
    """
    found = tpr_at_fpr(scores, is_member, limit)
    if found is None:
        return None
    others, members = int((~is_member).sum()), int(is_member.sum())
    allowed, hits = int(others * limit + 1e-9), round(found.value * members)
    return float(hypergeom.cdf(allowed, members + others, others, min(hits + allowed, members + others)))


def _check(scores: Scores, is_member: Flags) -> None:
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN")
    if scores.shape != is_member.shape or is_member.all() or not is_member.any():
        raise ValueError(f"scores {scores.shape}, is_member {is_member.shape}: both members and non-members are needed")


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
