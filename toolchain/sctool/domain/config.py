"""The validated configuration of a run (TOML in, pydantic out, JSON schema on demand)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sctool.errors import ConfigError
from sctool.resources import suggest

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(Section):
    source: str = Field("mlp", description="A model of the zoo, or 'package.module:callable' returning an nn.Module.")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the builder.")


class SplitConfig(Section):
    """Shares of all records; they sum to at most 1. Each attack part is half members (taken from train).

    With `official`, train is a share of the set's training part, and the others are shares of its test part.
    """

    seed: int = 0
    train: Share = 0.34
    validation: Share = 0.14
    test: Share = 0.18
    attack_fit: Share = Field(0.06, description="Members of this part; as many non-members come on top.")
    attack_select: Share = 0.08
    audit_fit: Share = 0.06
    audit: Share = 0.14
    quantisation: Share = Field(0.1, description="Subset of train for quantisation ranges.")
    official: bool | None = Field(
        None, description="Members come from the data set's own training part, the others from its test part."
    )


class SplitSettings(Section):
    """What a config says of the split; the rest is the recipe's, and then SplitConfig's own."""

    seed: int | None = Field(None, ge=0, examples=[0])
    train: Share | None = Field(None, examples=[0.34])
    validation: Share | None = Field(None, examples=[0.14])
    test: Share | None = Field(None, examples=[0.18])
    attack_fit: Share | None = Field(
        None, examples=[0.06], description="Members of this part, out of train; as many non-members come on top."
    )
    attack_select: Share | None = Field(None, examples=[0.08])
    audit_fit: Share | None = Field(None, examples=[0.06])
    audit: Share | None = Field(None, examples=[0.14])
    quantisation: Share | None = Field(None, examples=[0.1], description="Subset of train for quantisation ranges.")
    official: bool | None = Field(
        None,
        examples=[False],
        description="Members come from the set's own training part, the others from its test part.",
    )

    def over(self, base: SplitConfig) -> SplitConfig:
        """`base` with what is set here."""
        return SplitConfig.model_validate({**base.model_dump(), **self.model_dump(exclude_none=True)})


class DataConfig(Section):
    source: str = Field("digits", description="A calibration recipe, a path to an .npz (x, y), or 'module:callable'.")
    root: str | None = Field(
        None, examples=["data"], description="Where a recipe's files lie; else SCTOOL_DATA, then ./data."
    )
    protocol: Literal["design", "authors"] | None = Field(
        None, examples=["design"], description="Which of a recipe's splits: ours, or the SafeCompress authors'."
    )
    split: SplitSettings = SplitSettings()


class CompressConfig(Section):
    seed: int = 0
    density: Share = 0.1
    distribution: Literal["erk", "uniform", "latency"] = Field(
        "erk", description="latency: erk, bent so far that it takes no more run time than uniform."
    )
    latency_costs: Literal["target", "positions", "avx2", "avx512", "neon"] | None = Field(
        None,
        examples=["target"],
        description="What latency goes by: the sparse runtime's cost table of the export target or an instruction set, or "
        "the number of output positions.",
    )
    fan_in: Literal["free", "constant"] | None = Field(
        None, examples=["free"],
        description="constant: every output of a layer keeps as many weights as every other (SRigL).",
    )  # fmt: skip
    density_schedule: Literal["constant", "gradual"] = Field(
        "constant", description="gradual: from dense to the density over the rounds."
    )
    first_layer: Literal["masked", "dense"] = "masked"
    last_layer: Literal["masked", "dense"] = "masked"
    leave_dense: list[str] = Field(default_factory=list, description="Parameter names that are never masked.")
    start: Literal["random", "dense"] = Field(
        "random", description="dense: the search begins with the largest weights of the trained dense model."
    )
    initialisation: Literal["sparse_he", "model"] = Field(
        "sparse_he", description="Of a random start: He's for the inputs that each output has left, or the model's own."
    )
    dense_checkpoint: str = Field(
        "", description="A .safetensors state dict of the trained dense model; empty: it is trained here."
    )
    candidates: list[str] = Field(
        default_factory=lambda: [
            "magnitude/gradient",
            "safety/gradient",
            "magnitude/gradient/cross_entropy+cutmix+weight_decay:0.002",
            "magnitude/random/cross_entropy",
        ],
        description="What competes in a round: drop/grow, drop/grow/loss, keep or keep/loss.",
    )
    rounds: Annotated[int, Field(ge=0)] = 5
    last_update_round: Annotated[int, Field(ge=0)] = Field(
        0, description="From this round on the topology stays and only the losses compete; 0: never."
    )
    warm_up_steps: Annotated[int, Field(ge=0)] = 200
    steps_per_round: Count = 120
    final_steps: Annotated[int, Field(ge=0)] = 300
    halving: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=lambda: [0.5],
        description="Shares of a round's steps at which all are tested and the worse half stops; [] trains all in full.",
    )
    drop_fraction: Share = 0.3
    drop_decay: Literal["cosine", "linear", "constant"] = "cosine"
    dense_steps: Count = 600
    batch_size: Count = 64
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    learning_rate_schedule: Literal["cosine", "step", "constant"] = "cosine"
    momentum: UnitInterval = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    loss: str = Field(
        "cross_entropy+cutmix",
        description="For candidates that name none, and for the warm-up: NAME:STRENGTH+REGULARISER:STRENGTH...",
    )
    teachers: Annotated[int, Field(ge=0)] = Field(
        0, description="Sparse teachers for the loss soft:HARD_SHARE; each record is left out by some of them."
    )
    teachers_without: Count = Field(2, description="Teachers that leave a record out; their mean is its soft label.")
    teacher_steps: Count = 600
    teacher_loss: str | None = Field(None, examples=["cross_entropy"], description="What the teachers train with.")
    teacher_temperature: Annotated[float, Field(gt=0)] = 1.5
    rule: Literal["backpropagate", "distil", "dmp", "adversarial", "private"] = Field(
        "backpropagate", description="How gradients are made; all but the first bring their own loss."
    )
    rule_options: dict[str, float] = Field(default_factory=dict)
    early_stopping: bool = Field(
        True, description="Test on through the final training, and end with the best model of all tests."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] | None = Field(
        None, examples=["auto"], description="auto: CUDA where there is some, else the CPU."
    )
    autocast: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, examples=["float32"], description="Precision of forward passes in training; weights stay float32."
    )
    jobs: Count | None = Field(
        None, examples=[1], description="Candidates of a round that train side by side, a process each, on the CPU."
    )
    canaries: Annotated[int, Field(ge=10)] | None = Field(
        None,
        examples=[100],
        description="Mislabelled test records, each trained on by the toss of a coin, from which verify bounds epsilon.",
    )  # fmt: skip
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(
        5.0, description="A stopped run goes on from its last checkpoint: sctool compress --resume."
    )

    @field_validator("halving")
    @classmethod
    def _rise(cls, shares: list[float]) -> list[float]:
        if sorted(set(shares)) != shares:
            raise ValueError("the shares must rise")
        return shares


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
    precisions: list[Literal["float32", "float16", "int8"]] = ["float32"]
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
