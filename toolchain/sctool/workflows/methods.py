"""The methods that `sctool bench tradeoff` compares, each as settings over a study's own: one harness, one trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sctool.domain.compress_config import CompressConfig
from sctool.errors import ConfigError
from sctool.resources import suggest
from sctool.workflows.training import count_steps

Settings = dict[str, Any]
"""Keys of CompressConfig."""
PLAIN: Settings = {
    "early_stopping": False, "halving": [], "loss": "cross_entropy", "last_update_round": 0, "teachers": 0,
    "teachers_without": 2, "teacher_steps": 600, "teacher_temperature": 1.5, "teacher_loss": None,
}  # fmt: skip
"""What a baseline does without: the search's own devices."""


def _at_once(base: CompressConfig) -> Settings:
    """As many steps, none of them a round."""
    return {"rounds": 0, "warm_up_steps": 0, "final_steps": count_steps(base), "candidates": ["keep"]}


def use_dense(base: CompressConfig) -> Settings:
    """The dense model."""
    return {**PLAIN, **_at_once(base), "density": 1.0}


def use_static(base: CompressConfig) -> Settings:
    """A random sparse model whose topology never changes."""
    return {**PLAIN, **_at_once(base)}


def use_one_shot(base: CompressConfig) -> Settings:
    """Train dense, keep the largest weights, fine-tune for as many steps again (Han et al. 2015)."""
    return {**PLAIN, **_at_once(base), "start": "dense", "dense_steps": count_steps(base)}


def use_gmp(base: CompressConfig) -> Settings:
    """Gradual magnitude pruning from a fresh dense model (Zhu & Gupta 2017)."""
    return {**PLAIN, "density_schedule": "gradual", "candidates": ["keep"]}


def use_set(base: CompressConfig) -> Settings:
    """SET (Mocanu et al. 2018)."""
    return {**PLAIN, "candidates": ["set/random"]}


def use_rigl(base: CompressConfig) -> Settings:
    """RigL (Evci et al., ICML 2020)."""
    return {**PLAIN, "candidates": ["magnitude/gradient"]}


def use_itop(base: CompressConfig) -> Settings:
    """In-time over-parametrisation: unfired positions first (Liu et al., ICML 2021)."""
    return {**PLAIN, "candidates": ["magnitude/unfired"]}


def use_distillation(base: CompressConfig) -> Settings:
    """RigL under a dense teacher, half hard and half soft labels (the authors' code)."""
    return {**use_rigl(base), "rule": "distil", "dense_steps": count_steps(base)}


def use_safecompress(base: CompressConfig) -> Settings:
    """The study's own search."""
    return {}


METHODS: dict[str, Callable[[CompressConfig], Settings]] = {
    "dense": use_dense, "static": use_static, "one_shot": use_one_shot, "gmp": use_gmp, "set": use_set,
    "rigl": use_rigl, "itop": use_itop, "distillation": use_distillation, "safecompress": use_safecompress,
}  # fmt: skip

DEFENCES: dict[str, Settings] = {
    "none": {},
    "label_smoothing": {"label_smoothing": 0.1},
    "confidence_penalty": {"loss": "confidence_penalty:0.5"},
    "relax": {"loss": "relax:0.5"},
    "relax_strong": {"loss": "relax:1.0"},
    "out_of_fold": {"loss": "soft:0.1", "teachers": 10, "teachers_without": 2},
    "adversarial": {"rule": "adversarial"},
    "dmp": {"rule": "dmp"},
    "dp_sgd": {"rule": "private", "rule_options": {"epsilon": 8.0, "clip": 1.0}},
}
"""out_of_fold: ours, after SELENA (workflows.teachers); RelaxLoss: Chen et al., ICLR 2022; adversarial: Nasr et al.
2018; DMP: Shejwalkar & Houmansadr 2021; DP-SGD at epsilon 8."""


def settings_of(method: str, defence: str, base: CompressConfig) -> Settings:
    """What the two lay over `base`; `method` is one of METHODS, or drop/grow. ConfigError where unknown or at odds."""
    if defence not in DEFENCES:
        raise ConfigError(f"Unknown defence {defence!r}.", hint=suggest(defence, list(DEFENCES)))
    own, extra = _settings_of_method(method, base), DEFENCES[defence]
    if "rule" in own and "rule" in extra:
        raise ConfigError(
            f"Method {method!r} and defence {defence!r} each make gradients their own way.", hint="Leave that pair out."
        )
    if extra.get("rule") == "dmp":
        return {**own, **extra, "dense_steps": max(own.get("dense_steps", 0), count_steps(base))}
    return {**own, **extra}


def _settings_of_method(method: str, base: CompressConfig) -> Settings:
    if "/" in method:  # its parts are checked where candidates are
        return {**PLAIN, "candidates": [method]}
    if method not in METHODS:
        raise ConfigError(
            f"Unknown method {method!r}.", hint=f"{suggest(method, list(METHODS))} Or write drop/grow, a search of one."
        )
    return METHODS[method](base)
