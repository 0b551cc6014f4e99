"""Models for signals [B, channels, length], as from a phone's sensors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sctool.models.shapes import signal_input


class Cnn1d(nn.Module):
    """[B, D, L] -> logits [B, C]: a block of conv + BatchNorm + ReLU + max-pool 2 for each of `channels`, mean, Linear.

    `kernel` is odd; a length of at least 2 to the number of blocks.
    """

    def __init__(
        self, input_shape: Sequence[int], classes: int, channels: Sequence[int] = (64, 128, 128), kernel: int = 5
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("found channels = []; needed at least one block")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"found kernel = {kernel}; needed an odd number of at least 1")
        before, _ = signal_input(input_shape, needed=2 ** len(channels))
        blocks: list[nn.Module] = []
        for after in channels:
            blocks += [
                nn.Conv1d(before, after, kernel, padding=kernel // 2), nn.BatchNorm1d(after), nn.ReLU(),
                nn.MaxPool1d(2),
            ]  # fmt: skip
            before = after
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).mean(-1))
        return logits
