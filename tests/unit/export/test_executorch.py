"""ExecuTorch programs in each precision, run by the real runtime: answers, zeros, batches, weights in their own file."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sctool.domain.artifact import Precision
from sctool.errors import ArtifactError, ExportError
from sctool.export.executorch import ExecuTorchFiles, export_pte
from sctool.formats.ptd import read_ptd
from sctool.formats.pte import read_program
from sctool.formats.spte import pack, read_spte
from sctool.runtimes.executorch import ExecuTorchSession

SHAPE = (3, 8, 8)
TOLERANCE: dict[Precision, float] = {"float32": 1e-5, "float16": 0.01, "int8": 0.1}
PRECISIONS: list[Precision] = ["float32", "float16", "int8"]


def make_cnn() -> nn.Module:
    """Sparse, its biases apart."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
        )  # fmt: skip
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.masked_fill_(torch.rand_like(parameter) < 0.85, 0.0)
    return model.eval()


def make_records(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(count))


@functools.cache
def export(precision: Precision, *, apart: bool = False, max_batch: int = 64) -> ExecuTorchFiles:
    return export_pte(
        make_cnn(), make_records(2), max_batch=max_batch, precision=precision, calibration=make_records(48), apart=apart
    )


def count_weights(program: bytes) -> dict[str, int]:
    """Non-zeros of the weights that a program holds, by their order."""
    kinds = {"float32": "<f4", "float16": "<f2", "int8": "i1"}
    return {
        str(number): int(np.count_nonzero(np.frombuffer(weight.data, kinds[weight.dtype])))
        for number, weight in enumerate(read_program(program, "here").weights)
        if weight.role.endswith("weight") and weight.data is not None
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_answers_zeros_and_batches(precision: Precision, tmp_path: Path) -> None:
    model, records = make_cnn(), make_records(70)
    path = tmp_path / "model.pte"
    path.write_bytes(export(precision).program)
    answers = ExecuTorchSession(path).run(records.numpy())
    expected = model(records).detach().numpy()
    assert np.abs(answers - expected).max() <= TOLERANCE[precision] * np.abs(expected).max()
    kept = [int(np.count_nonzero(p.detach().numpy())) for p in model.parameters() if p.ndim > 1]
    found = list(count_weights(path.read_bytes()).values())
    assert len(found) == len(kept)
    assert all(0 < a <= b for a, b in zip(found, kept, strict=True))
    assert precision == "int8" or found == kept
    assert read_program(path.read_bytes(), "here").methods[0].inputs[0].shape == (64, *SHAPE)


def test_int8_weights_take_a_quarter_of_float32() -> None:
    sizes = [
        sum(weight.size for weight in read_program(export(precision).program, "here").weights if len(weight.shape) > 1)
        for precision in ("int8", "float32")
    ]
    assert 4 * sizes[0] == sizes[1]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_apart_answer_bit_for_bit_as_weights_within(precision: Precision, tmp_path: Path) -> None:
    whole, parts = export(precision), export(precision, apart=True)
    (tmp_path / "model.pte").write_bytes(whole.program)
    packed = pack(parts.program, parts.data)
    (tmp_path / "model.spte").write_bytes(packed)
    assert read_spte(packed, "here").unpack_data() == parts.data
    assert len(packed) < len(whole.program)
    records = make_records(9).numpy()
    first, second = (ExecuTorchSession(tmp_path / name).run(records) for name in ("model.pte", "model.spte"))
    np.testing.assert_array_equal(first, second)


def test_a_program_without_its_weights_is_refused_and_does_not_crash(tmp_path: Path) -> None:
    """The runtime itself ends in a segmentation fault here."""
    parts = export("float32", apart=True)
    (tmp_path / "model.pte").write_bytes(parts.program)
    with pytest.raises(ArtifactError, match="needs a data file: 6 of its weights"):
        ExecuTorchSession(tmp_path / "model.pte")
    first = read_ptd(parts.data, "here").blocks[0]
    spoilt = parts.data.replace(first.key.encode(), b"x" * len(first.key))
    (tmp_path / "model.spte").write_bytes(pack(parts.program, spoilt))
    with pytest.raises(ArtifactError, match="needs a data file: 1 of its weights"):
        ExecuTorchSession(tmp_path / "model.spte")


class _WithTable(nn.Module):
    """An embedding, which XNNPACK does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.table(x.long()).mean(1))
        return logits


def test_weights_outside_delegates_go_into_the_package_too(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _WithTable().eval()
    records = torch.randint(0, 50, (5, 7)).float()
    parts = export_pte(model, records[:2], max_batch=8, apart=True)
    keys = {block.key: block for block in read_ptd(parts.data, "here").blocks}
    assert len(keys) == 3 and any(block.dtype == "float32" and block.shape == (50, 16) for block in keys.values())
    assert set(read_program(parts.program, "here").missing) == set(keys)
    (tmp_path / "model.spte").write_bytes(pack(parts.program, parts.data))
    answers = ExecuTorchSession(tmp_path / "model.spte").run(records.numpy())
    np.testing.assert_allclose(answers, model(records).detach().numpy(), atol=1e-5)


def test_layers_with_the_same_values_share_a_block(tmp_path: Path) -> None:
    """Two norms that are both ones and zeros: ExecuTorch writes one block under two names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 3)).eval()
    parts = export_pte(model, torch.randn(2, 16), max_batch=4, apart=True)
    blocks = read_ptd(parts.data, "here").blocks
    assert len({block.offset for block in blocks}) < len(blocks)
    (tmp_path / "model.spte").write_bytes(pack(parts.program, parts.data))
    records = torch.randn(3, 16)
    answers = ExecuTorchSession(tmp_path / "model.spte").run(records.numpy())
    np.testing.assert_allclose(answers, model(records).detach().numpy(), atol=1e-5)


def test_int8_without_records_is_told() -> None:
    with pytest.raises(ExportError, match="int8 needs records"):
        export_pte(make_cnn(), make_records(2), max_batch=4, precision="int8", calibration=make_records(0))


class _Attention(nn.Module):
    """Products of two activations, outside the delegates in part."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm, self.last = nn.Linear(8, 24), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(self.norm(x)).chunk(3, -1)
        logits: Tensor = self.last((torch.softmax(q @ k.transpose(1, 2), -1) @ v).mean(1))
        return logits


def test_attention_takes_any_batch_up_to_the_bound(tmp_path: Path) -> None:
    """ExecuTorch's own check of the graph would fix the batch at the example's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, records = _Attention().eval(), torch.randn(9, 5, 8)
    program = export_pte(model, records[:2], max_batch=6).program
    (tmp_path / "model.pte").write_bytes(program)
    assert read_program(program, "here").methods[0].inputs[0].shape == (6, 5, 8)
    session = ExecuTorchSession(tmp_path / "model.pte")
    for count in (1, 3, 6, 9):
        expected = model(records[:count]).detach().numpy()
        np.testing.assert_allclose(session.run(records[:count].numpy()), expected, atol=1e-5)


class _Bounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(x)
        return logits if x.shape[0] < 7 else logits * 2


def test_a_model_that_bounds_its_batch_is_told() -> None:
    with pytest.raises(ExportError, match="ExecuTorch"):
        export_pte(_Bounded().eval(), torch.randn(2, 6), max_batch=16)
