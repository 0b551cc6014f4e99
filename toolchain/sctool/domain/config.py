"""The validated configuration of a run (TOML in, pydantic out, JSON schema on demand)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from sctool.domain.compress_config import CompressConfig
from sctool.domain.data_config import DataConfig
from sctool.domain.section import Count, Section, UnitInterval
from sctool.errors import ConfigError
from sctool.resources import suggest


class ModelConfig(Section):
    source: str = Field("mlp", description="A model of the zoo, or 'package.module:callable' returning an nn.Module.")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the builder.")


class SafetyConfig(Section):
    selection_attacks: list[str] = Field(
        default_factory=lambda: ["modified_entropy"], min_length=1,
        description="Safety tests of the search; the worst counts, or, with weights, their weighted mean.",
    )  # fmt: skip
    selection_weights: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    attacker: Literal["candidate", "warm", "round"] = Field(
        "candidate",
        description="Fitted on each candidate; warm: a slow one from its fit on the round's parent; round: there alone.",
    )
    selection: Literal["tm", "constraints", "pareto"] = "tm"
    constraints: str = Field("", description="For example: accuracy >= 0.9 and attack_auc <= 0.55")
    front_limit: Count = Field(8, description="Models kept for a later pick, with selection = pareto.")
    audit_attacks: list[str] = Field(
        default_factory=lambda: ["modified_entropy", "confidence", "correctness", "neural"], min_length=1
    )
    tm_exponent: Annotated[float, Field(gt=0)] = 1.0
    tm_tolerance: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="Among TM-scores within so many standard errors of the best, the highest task accuracy wins.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _agree(self) -> SafetyConfig:
        if self.selection_weights and len(self.selection_weights) != len(self.selection_attacks):
            raise ValueError("selection_weights must have one weight for each of selection_attacks, or be empty")
        if (self.selection == "constraints") != bool(self.constraints.strip()):
            raise ValueError('constraints go with selection = "constraints", and that needs some')
        return self


class ExportConfig(Section):
    target: str = "android"
    codec: Literal["auto", "small", "fast", "ort", "dense", "rice", "pfor", "rows", "gap8", "bitmask", "coo"] = Field(
        "auto",
        description="auto: the smallest within the budgets; small; fast: to load; ort: for .ort files; or one codec.",
    )
    values: Literal["float32", "split", "float16", "int8", "codebook256", "codebook16"] = Field(
        "float32", description="Of model.onnx; split: exact too, smaller, slower to load; the others round."
    )
    load_budget: Annotated[float, Field(ge=1)] = Field(
        2.0, description="With codec = auto: estimated CPU time of loading, in multiples of the dense model's."
    )
    memory_budget: Annotated[float, Field(ge=1)] | None = Field(
        None, examples=[1.5],
        description="With codec = auto: estimated peak memory of loading, in multiples of the dense model's; default: 1.5.",
    )  # fmt: skip
    passes: list[Literal["fold_constants", "remove_dead_channels", "share_duplicates"]] = Field(
        ["fold_constants", "remove_dead_channels", "share_duplicates"],
        description="What is done to the ONNX graph before it is stored; answers stay the same.",
    )
    backend: Literal["xnnpack", "sparse"] | None = Field(
        None, examples=["xnnpack"],
        description="Of the .pte: sparse takes the layers where zeros save time; default: what the target's delegate says.",
    )  # fmt: skip
    max_batch: Count = 256
    parity_max_abs_error: Annotated[float, Field(gt=0)] = 1e-4
    parity_min_top1_agreement: UnitInterval = 1.0
    precisions: list[Literal["float32", "float16", "int8"]] = Field(["float32"])
    sparse_package: bool = Field(
        True, description="Also write .spte: the ExecuTorch model with its weights stored sparse."
    )
    float16_max_relative_error: Annotated[float, Field(gt=0)] = Field(
        0.02, description="Largest error of a logit, as a share of the largest logit; top-1 agreement with float32."
    )
    float16_min_top1_agreement: UnitInterval = 0.99
    int8_max_relative_error: Annotated[float, Field(gt=0)] = 0.3
    int8_min_top1_agreement: UnitInterval = 0.95


class VerifyConfig(Section):
    max_attack_accuracy: UnitInterval = 0.60
    max_auc: UnitInterval = 0.60
    max_tpr_at_1pct_fpr: UnitInterval = 0.15
    max_class_auc: UnitInterval = Field(
        0.70, description="AUC within one class, where it has ten members and ten others: a leak that averages hide."
    )
    attack_seeds: Count = Field(
        3, description="Attackers that start from random numbers are fitted so many times; their mean score counts."
    )


class ProfileConfig(Section):
    threads: Count = 1
    repeats: Count = 5
    iterations: Count = 100
    warm_up: Annotated[int, Field(ge=0)] = 20


class Config(Section):
    name: str = Field("digits", pattern=r"^[A-Za-z0-9._-]+$")
    output: str = Field("runs/digits", description="The run directory, relative to the working directory.")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    compress: CompressConfig = CompressConfig()
    safety: SafetyConfig = SafetyConfig()
    export: ExportConfig = ExportConfig()
    verify: VerifyConfig = VerifyConfig()
    profile: ProfileConfig = ProfileConfig()


def load_config(path: Path | None, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file (None: all defaults), lay `section.key=value` overrides over it, and validate.

    Raises ConfigError naming the file, the key, the value and what would be valid.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"Cannot read {path}: {error.strerror}.", hint="`sctool init` writes a config that works as it is."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}.", hint="Mend that line.") from error
    for override in overrides:
        _lay_over(tree, override)
    return validate_config(tree, where=str(path) if path else "the settings")


def validate_config(tree: dict[str, Any], *, where: str) -> Config:
    """Build a Config from plain values; ConfigError on the first thing wrong."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, where)) from error


def _lay_over(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set {override!r} has no '='.", hint="Write --set section.key=value.")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is a value, not a section.", hint="Check the key.")
    node[last] = value


def _explain(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        model: Any = Config
        for part in location[:-1]:
            model = model.model_fields[part].annotation
        return f"{where}: unknown key {key!r}. {suggest(location[-1], list(model.model_fields))}"
    more = f" ({error.error_count() - 1} more.)" if error.error_count() > 1 else ""
    return f"{where}: {key} = {first['input']!r}: {first['msg']}.{more}"
