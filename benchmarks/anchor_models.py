"""Counts the work of the models that published latencies are of, and fits what each kind of work costs on Arm phones.

pip install --no-deps torchvision    (for the architectures alone; no weights are loaded)
python benchmarks/anchor_models.py   (10 minutes; writes targets/anchors/models.toml and costs.toml)
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from sctool.atomic import write_file
from sctool.domain.target import load_target
from sctool.domain.work import KINDS, Work
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.profiling.estimate import fit_costs
from sctool.profiling.work import count_work
from sctool.resources import list_resources

ANCHORS = Path(__file__).resolve().parent.parent / "targets" / "anchors"
PHONES_OF = "fp32"


class MobileNetV1(nn.Sequential):
    """Howard et al. 2017, width 1."""

    def __init__(self) -> None:
        def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU(),
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            ]  # fmt: skip

        plan = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2),
                *[(512, 512, 1)] * 5, (512, 1024, 2), (1024, 1024, 1)]  # fmt: skip
        layers = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        for step in plan:
            layers += block(*step)
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


class CaffeNet(nn.Sequential):
    """AlexNet as Caffe ships it: 227 x 227, groups of two."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5),
            nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5),
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
            nn.Linear(9216, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000),
        )  # fmt: skip


def architectures() -> dict[str, tuple[Callable[[], nn.Module], int]]:
    """Name in the published tables -> (builder, input side)."""
    for name in ("nms", "qnms"):  # its wheel wants another torch; the detectors' operators are not needed
        torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
    from torchvision import models

    return {
        "squeezenet": (models.squeezenet1_1, 227),
        "mobilenet": (MobileNetV1, 224),
        "mobilenet-v2": (models.mobilenet_v2, 224),
        "mobilenet-v3-large": (models.mobilenet_v3_large, 224),
        "mnasnet": (models.mnasnet1_0, 224),
        "efficientnet-b0": (models.efficientnet_b0, 224),
        "regnety-400m": (models.regnet_y_400mf, 224),
        "googlenet": (lambda: models.googlenet(aux_logits=False, init_weights=False), 224),
        "resnet-18": (models.resnet18, 224),
        "alexnet": (CaffeNet, 227),
        "vgg-16": (models.vgg16, 224),
        "resnet-50": (models.resnet50, 224),
    }


def export_architecture(name: str, folder: Path) -> Path:
    """The .onnx of `name`, made once."""
    file = folder / f"{name}.onnx"
    if not file.is_file():
        builder, side = architectures_once()[name]
        model = builder().eval()
        write_file(file, serialise_onnx(export_onnx(model, torch.rand(2, 3, side, side), max_batch=8)))
    return file


_MADE: dict[str, tuple[Callable[[], nn.Module], int]] = {}


def architectures_once() -> dict[str, tuple[Callable[[], nn.Module], int]]:
    if not _MADE:
        _MADE.update(architectures())
    return _MADE


def say_work(work: Work) -> str:
    return "".join(f"{kind} = {getattr(work, kind):.4g}\n" for kind in KINDS)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(os.environ.get("SCTOOL_MODELS") or tempfile.mkdtemp(prefix="sctool-models-"))
    folder.mkdir(parents=True, exist_ok=True)
    works = {}
    for name in architectures_once():
        works[name] = count_work(export_architecture(name, folder))
        sys.stderr.write(f"{name}: {works[name].mmacs:.0f} million multiply-adds\n")
    head = "# Counted by benchmarks/anchor_models.py; units as in sctool/domain/work.py: million multiply-adds, megabytes.\n"
    write_file(
        ANCHORS / "models.toml", head + "".join(f"\n[models.{name}]\n{say_work(work)}" for name, work in works.items())
    )
    phones = [load_target(name) for name in list_resources("targets")]
    figures = [
        (works[anchor.model], anchor.latency_ms, number)
        for number, phone in enumerate(
            [p for p in phones if sum(a.precision == PHONES_OF and a.model in works for a in p.anchors) >= 5]
        )
        for anchor in phone.anchors
        if anchor.model in works and anchor.precision == PHONES_OF
    ]
    costs = fit_costs(*map(list, zip(*figures, strict=True)), "arm")
    unit = costs.amounts[0]
    head = (
        "# What a unit of work costs, relative to a million multiply-adds of a wide convolution: fitted by\n"
        f"# benchmarks/anchor_models.py to {len(figures)} published latencies of {len({f[2] for f in figures})} phones.\n"
    )
    rows = "".join(f"{kind} = {value / unit:.4g}\n" for kind, value in zip(KINDS, costs.amounts, strict=False))
    write_file(ANCHORS / "costs.toml", f"{head}\n[costs.arm]\n{rows}")


if __name__ == "__main__":
    main()
