"""Which layers that run sparse compute in int8, where a program asks for it."""

from __future__ import annotations

QUANTISED_FROM = 8192
"""Multiply-adds of one record from which int8 arithmetic saves more than quantising the inputs takes (Zen 5: a linear layer
with fewer non-zeros is slower so). Smaller layers, the last one among them, lose no accuracy either."""
MOST_A_ROW = 1000
"""Non-zeros of a row, in the mean, up to which its sums stay whole numbers in float32, as the format demands: at 64 each,
what evenly spread weights have in the mean. A layer that does not keep to it is stored in int8 and runs in float32."""
MOST_DENSITY = 0.5
"""Above, dense int8 kernels are the measure, not float32 ones."""
SHARE = 0.5
"""Of what such a layer takes in float32, with AVX-512 (benchmarks/results/int8_arithmetic.csv: 0.3 to 0.65)."""


def computes_int8(nnz: int, size: int, rows: int, positions: int) -> bool:
    """Whether a layer of `size` weights, `nnz` of them there, is one for int8: `rows` output channels at each position."""
    return nnz * positions >= QUANTISED_FROM and nnz <= min(MOST_A_ROW * rows, MOST_DENSITY * size)
