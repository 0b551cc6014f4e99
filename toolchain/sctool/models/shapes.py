"""Sizes that several families share: input checks, and channels scaled by a width multiplier."""

from __future__ import annotations

from collections.abc import Sequence


def image_input(input_shape: Sequence[int], *, needed: int) -> tuple[int, int]:
    """(channels, shorter side) of [channels, height, width]; ValueError for another rank or a side under `needed`."""
    if len(input_shape) != 3:
        raise ValueError(f"found a record of {len(input_shape)} dimensions; needed 3: channels, height, width")
    channels, height, width = input_shape
    if min(height, width) < needed:
        raise ValueError(f"found an image of {height} x {width}; needed sides of at least {needed}")
    return channels, min(height, width)


def signal_input(input_shape: Sequence[int], *, needed: int) -> tuple[int, int]:
    """(channels, length) of [channels, length]; ValueError for another rank or a length under `needed`."""
    if len(input_shape) != 2:
        raise ValueError(f"found a record of {len(input_shape)} dimensions; needed 2: channels, length")
    channels, length = input_shape
    if length < needed:
        raise ValueError(f"found a length of {length}; needed at least {needed}")
    return channels, length


def scaled(channels: int, width: float) -> int:
    """`channels` times the multiplier `width`, rounded, at least 1; ValueError unless 0 < width."""
    if not width > 0:
        raise ValueError(f"found width = {width}; needed a multiplier above 0")
    return max(1, round(channels * width))
