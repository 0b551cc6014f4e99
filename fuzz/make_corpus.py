"""Writes the seeds in fuzz/corpus, and the program among the sparse runtime's seeds: small real files.

python fuzz/make_corpus.py     # from the project's folder
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from sctool.domain.config import validate_config
from sctool.export.executorch import export_pte, export_sparse_pte
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.sparsify import Storage, sparsify_onnx
from sctool.formats.spte import pack
from sctool.native.costs import load_costs
from sctool.workflows.compress import compress
from sctool.workflows.export import export

CORPUS = Path(__file__).resolve().parent / "corpus"
NATIVE = CORPUS.parents[1] / "toolchain" / "sparse_runtime" / "fuzz" / "corpus"
SHORT = {"rounds": 1, "warm_up_steps": 20, "steps_per_round": 10, "final_steps": 10, "dense_steps": 20,
         "candidates": ["magnitude/gradient"], "loss": "cross_entropy", "halving": [], "early_stopping": False}  # fmt: skip

STORAGES = {"rows": Storage("rows"), "pfor": Storage("pfor"), "split": Storage("rice", "split")}


def make_model(widths: tuple[int, ...] = (12, 90, 3)) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(widths)]
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1]).eval()
    with torch.no_grad():
        for layer in layers:
            if layer.weight.numel() > 1000:
                layer.weight.masked_fill_(torch.rand_like(layer.weight) < 0.9, 0.0)
    return model


def make_staged() -> bytes:
    """Three weights decoded in as many stages, which a file so small would not have of itself."""
    dense = export_onnx(make_model((12, 90, 12, 90)), torch.zeros(2, 12), max_batch=4)
    with mock.patch("sctool.export.assemble.count_stages", return_value=3):
        return serialise_onnx(sparsify_onnx(dense, "rows").proto)


def main() -> None:
    model, example = make_model(), torch.zeros(2, 12)
    files: dict[str, dict[str, bytes]] = {"onnx": {}, "pte": {}, "ptd": {}, "spte": {}, "manifest": {}}
    for precision in ("float32", "float16", "int8"):
        arguments = {"max_batch": 4, "precision": precision, "calibration": torch.randn(8, 12)}
        parts = export_pte(model, example, apart=True, **arguments)  # type: ignore[arg-type]
        files["pte"][f"{precision}.pte"] = export_pte(model, example, **arguments).program  # type: ignore[arg-type]
        files["pte"][f"{precision}_apart.pte"] = parts.program
        files["ptd"][f"{precision}.ptd"] = parts.data
        files["spte"][f"{precision}.spte"] = pack(parts.program, parts.data)
    sparse = export_sparse_pte(model, example, max_batch=4, costs=load_costs("avx2"))
    (NATIVE / "program.pte").write_bytes(sparse.content)
    dense = export_onnx(model, example, max_batch=4)
    files["onnx"] = {
        "dense.onnx": serialise_onnx(dense),
        "stages.onnx": make_staged(),
        "sparse.onnx": serialise_onnx(sparsify_onnx(dense).proto),
        **{f"{name}.onnx": serialise_onnx(sparsify_onnx(dense, storage).proto) for name, storage in STORAGES.items()},
    }
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        compress(validate_config({"compress": SHORT}, where="the seeds"), run)
        bundle, _ = export(run)
        files["manifest"]["manifest.json"] = (bundle / "manifest.json").read_bytes()
    for kind, seeds in files.items():
        (CORPUS / kind).mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (CORPUS / kind / name).write_bytes(content)
            print(kind, name, len(content))


if __name__ == "__main__":
    main()
