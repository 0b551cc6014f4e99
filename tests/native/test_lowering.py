"""Models whose values have three dimensions, gates and norms: what is taken, and the answers in both hosts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sctool.export.executorch import export_sparse_pte
from sctool.export.sparse.onnx import export_sparse_onnx
from sctool.native.costs import CostTable, load_costs
from sctool.runtimes.registry import open_session

pytestmark = pytest.mark.slow


class Signal(nn.Module):
    """Convolutions, pools and gates over lines."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 8, 5, padding=2, stride=2), nn.Conv1d(8, 16, 3)
        self.pool, self.gate = nn.MaxPool1d(2), nn.Conv1d(16, 16, 1)
        self.last, self.norm = nn.Linear(16 * 6, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(self.pool(functional.hardswish(self.first(x)))))
        x = x * self.gate(x.mean(-1, keepdim=True))
        logits: Tensor = functional.gelu(self.norm(self.last(x.flatten(1))))
        return logits


class Mixer(nn.Module):
    """Tokens: norms, linear layers, shortcuts; dropout that does nothing is no border."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(2))
        self.up, self.down = nn.Linear(24, 48), nn.Linear(48, 24)
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.down(self.drop(functional.gelu(self.up(self.norms[0](x)), approximate="tanh"))))
        logits: Tensor = self.last(self.norms[1](x).mean(1))
        return logits


class Gated(nn.Module):
    """Squeeze and excitation as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardswish(self.first(x))
        x = functional.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True))) * x
        logits: Tensor = self.last(x.mean((2, 3)))
        return logits


class Encoder(nn.Module):
    """PyTorch's own encoder layer: attention runs elsewhere, and mixes tokens and records where nobody else does."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 4, 48, dropout=0.1, batch_first=True, norm_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.layers(x).mean(1))
        return logits


def all_here() -> CostTable:
    """A table by which every layer that can be taken is."""
    table = load_costs("avx512")
    rows = {
        name: tuple(replace(row, ns_per_mac=1e3 * row.ns_per_mac) for row in found) if "xnnpack" in name else found
        for name, found in table.rows.items()
    }
    return replace(table, rows=rows, boundary_ns=0.0, boundary_ns_per_float=0.0)


@pytest.mark.parametrize(
    ("build", "shape", "elsewhere", "nodes"),
    [
        (Signal, (3, 32), set(), {"SparseProgram"}),
        (Mixer, (7, 24), set(), {"SparseProgram"}),
        (Gated, (3, 9, 9), set(), {"SparseProgram"}),
        (Encoder, (7, 24), {"in_proj_weight", "weight"}, None),
    ],
)
def test_answers_in_both_hosts(
    library: ctypes.CDLL, tmp_path: Path, build: Callable[[], nn.Module], shape: tuple[int, ...], elsewhere: set[str],
    nodes: set[str] | None,
) -> None:  # fmt: skip
    """`elsewhere`: last names of the weights that stay with the host; `nodes`: of the ONNX file."""
    torch.manual_seed(0)
    model, example = build().eval(), torch.randn(2, *shape)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= torch.rand(parameter.shape) < 0.3
    made = export_sparse_onnx(model, example, max_batch=4, costs=all_here())
    program = export_sparse_pte(model, example, max_batch=4, costs=all_here())
    (tmp_path / "m.onnx").write_bytes(made.proto.SerializeToString())
    (tmp_path / "m.pte").write_bytes(program.content)
    if nodes is not None:
        assert {node.op_type for node in made.proto.graph.node} == nodes and len(made.payloads) == 1
    for choices in (made.choices, program.choices):
        assert {choice.name.rpartition(".")[2] for choice in choices if choice.backend == "xnnpack"} <= elsewhere
        assert any(choice.backend != "xnnpack" for choice in choices)
    x = torch.randn(9, *shape)
    for name in ("m.onnx", "m.pte"):
        found = open_session(tmp_path / name).run(x.numpy())
        np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-5, atol=1e-5)


class Position(nn.Module):
    """Adds a parameter that has one record: no activation of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.last = nn.Parameter(torch.randn(1, 7, 24)), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last((x + self.place).mean(1))
        return logits


def test_what_has_no_batch_stays_outside(library: ctypes.CDLL, tmp_path: Path) -> None:
    model, example = Position().eval(), torch.randn(2, 7, 24)
    (tmp_path / "m.pte").write_bytes(export_sparse_pte(model, example, max_batch=4, costs=all_here()).content)
    x = torch.randn(6, 7, 24)
    found = open_session(tmp_path / "m.pte").run(x.numpy())
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-5, atol=1e-5)
