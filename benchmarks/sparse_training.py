"""Steps of sparse training: on the non-zeros alone, against dense products under masks, as the papers' code runs them.

The peer is plain PyTorch: torch.optim.SGD with Nesterov momentum (its fastest, foreach), the masks applied after each
step. Times are medians over interleaved rounds, in one process, one thread; ratios are to the peer.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from sctool.sparsity.density import allocate_erk
from sctool.sparsity.order import DataOrder
from sctool.sparsity.topology import Masks, random_masks
from sctool.sparsity.trainer import TrainingSettings, start_training, train_until

WIDTHS = (446, 1024, 512, 256, 128, 30)
DENSITIES = (0.02, 0.05, 0.1, 0.2)
RECORDS, BATCH, STEPS, ROUNDS = 1500, 64, 30, 7


def make_model() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width, wider in zip(WIDTHS, WIDTHS[1:], strict=False):
        layers += [nn.Linear(width, wider), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def make_masks(model: nn.Module, density: float) -> Masks:
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.ndim == 2}
    return random_masks(shapes, allocate_erk(shapes, density, {}), torch.Generator().manual_seed(0))


def make_peer(masks: Masks, x: Tensor, y: Tensor, order: DataOrder) -> Callable[[], object]:
    """`STEPS` more steps of plain PyTorch a call."""
    model = make_model()
    optimiser = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4, nesterov=True, foreach=True)
    masked = [(p, masks[name]) for name, p in model.named_parameters() if name in masks]
    steps = iter(range(10**9))

    def train() -> None:
        for _ in range(STEPS):
            rows = order.rows(next(steps))
            optimiser.zero_grad()
            functional.cross_entropy(model(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                for parameter, mask in masked:
                    parameter.mul_(mask)

    return train


def make_ours(masks: Masks, x: Tensor, y: Tensor, order: DataOrder, *, dense: bool) -> Callable[[], object]:
    settings = TrainingSettings(0.05, 0.9, 5e-4, 10**6, dense_momentum=dense)
    state = start_training(make_model(), dict(masks))
    return lambda: train_until(state, x, y, settings, state.step + STEPS, order)


def measure(density: float) -> dict[str, float]:
    """Name -> seconds a step."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(RECORDS, WIDTHS[0], generator=generator) < 0.1).float()
    y = torch.randint(0, WIDTHS[-1], (RECORDS,), generator=generator)
    masks, order = make_masks(make_model(), density), DataOrder(RECORDS, BATCH, 0)
    ways = {
        "PyTorch, SGD and masks": make_peer(masks, x, y, order),
        "sctool, dense products": make_ours(masks, x, y, order, dense=True),
        "sctool": make_ours(masks, x, y, order, dense=False),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for train in ways.values():
        train()
    for _ in range(ROUNDS):
        for name, train in ways.items():
            began = time.perf_counter()
            train()
            times[name].append((time.perf_counter() - began) / STEPS)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    title = f"Training steps, MLP {'-'.join(map(str, WIDTHS))}, batch {BATCH}, host, one thread, {ROUNDS} rounds"
    table = Table(title=title)
    for column in ("density", "way", "ms a step", "to PyTorch"):
        table.add_column(column, justify="right")
    for density in DENSITIES:
        results = measure(density)
        base = next(iter(results.values()))
        for name, seconds in results.items():
            table.add_row(f"{density:g}", name, f"{1000 * seconds:.2f}", f"{seconds / base:.2f}")
        table.add_section()
    Console(width=100, file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
