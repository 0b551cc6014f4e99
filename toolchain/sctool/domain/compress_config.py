"""The configuration of a run: the search for a sparse model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sctool.domain.section import Count, Section, Share, UnitInterval


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
