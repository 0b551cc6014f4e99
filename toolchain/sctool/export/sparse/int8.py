"""Which layers that run sparse compute in int8, where a program asks for it, and whether it should."""

from __future__ import annotations

from collections.abc import Sequence

from sctool.export.sparse.choice import LayerChoice

QUANTISED_FROM = 8192
"""Multiply-adds of one record from which int8 arithmetic saves more than quantising the inputs takes (Zen 5: a linear layer
with fewer non-zeros is slower so). Smaller layers, the last one among them, lose no accuracy either."""
MOST_A_ROW = 1000
"""Non-zeros of a row, in the mean, up to which its sums stay whole numbers in float32, as the format demands: at 64 each,
what evenly spread weights have in the mean. A layer that does not keep to it is stored in int8 and runs in float32."""
WORTH_DENSITY = 1 / 3
"""Of a whole program: above, XNNPACK's dense int8 is about as fast (ResNet-18 on Zen 5: sparse int8 is 1.7 times as fast at
0.25, no faster at 0.51)."""
SHARE = 0.5
"""Of what such a layer takes in float32, with AVX-512 (benchmarks/results/int8_arithmetic.csv: 0.3 to 0.65)."""


def computes_int8(nnz: int, rows: int, positions: int) -> bool:
    """Whether a layer of `rows` output channels at `positions` of them is one for int8."""
    return nnz * positions >= QUANTISED_FROM and nnz <= MOST_A_ROW * rows


def beats_dense_int8(choices: Sequence[LayerChoice]) -> bool:
    """Whether a program of these layers is worth running sparse in int8: its density, each layer weighted by what XNNPACK
    takes for it in float32."""
    if not any(choice.backend == "sparse" for choice in choices):
        return False
    work = [choice.xnnpack_us or 0.0 for choice in choices]
    done = sum(choice.density * time for choice, time in zip(choices, work, strict=True))
    return done <= WORTH_DENSITY * sum(work)
