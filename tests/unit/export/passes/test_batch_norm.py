"""BatchNorm folding: same answers, every zero stays a zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.models.vision import SmallCnn


def test_answers_and_zeros_stay() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SmallCnn((1, 8, 8), 3)
        model(torch.randn(32, 1, 8, 8))  # moves the running statistics
        weight = model.features[0].weight
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            weight.masked_fill_(torch.rand_like(weight) < 0.8, 0.0)
            model.features[1].weight[:4].neg_()  # type: ignore[union-attr, operator]
        x = torch.randn(5, 1, 8, 8)
    expected = model.eval()(x)
    folded, note = fold_batch_norm(model)
    assert note == ""
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-5)
    after = dict(folded.named_parameters())["features.0.weight"]
    assert torch.equal(after == 0, weight == 0)
    assert not (after.signbit() & (after == 0)).any()


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_is_left_and_said() -> None:
    model = _Branching()
    folded, note = fold_batch_norm(model)
    assert folded is model
    assert note.startswith("BatchNorm was not folded:")
