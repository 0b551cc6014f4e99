"""The configuration of a run: its records, and how they are split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sctool.domain.section import Section, Share


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
