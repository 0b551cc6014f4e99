"""A packed model in ONNX Runtime Web, the WebAssembly build: the stand-in for runtimes that nobody compiles here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sctool.export import assemble
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.sparsify import Storage, sparsify_onnx
from sctool.models.tabular import Mlp

VERSION = "1.30.0"
RUN = """
const ort = require('onnxruntime-web');
const fs = require('fs');
const [model, input, rows, width] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';
(async () => {
  const session = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(model)), {executionProviders: ['wasm']});
  const bytes = fs.readFileSync(input);
  const data = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const feed = {input: new ort.Tensor('float32', data, [Number(rows), Number(width)])};
  const answer = await session.run(feed);
  console.log(JSON.stringify({dims: answer.logits.dims, data: Array.from(answer.logits.data)}));
})().catch((error) => { console.error(String(error)); process.exit(1); });
"""


@pytest.fixture(scope="module")
def web() -> Path:
    """A folder with the npm package, kept between runs in SCTOOL_CACHE or the system's temporary folder."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    cache = Path(os.environ.get("SCTOOL_CACHE", tempfile.gettempdir()))
    folder = cache / f"sctool-onnxruntime-web-{VERSION}-{os.getuid()}"
    if not folder.exists():
        staging = Path(tempfile.mkdtemp(prefix="sctool-npm-", dir=cache))
        (staging / "package.json").write_text('{"private": true}')
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"onnxruntime-web@{VERSION}"],
            cwd=staging, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(staging)
            pytest.skip(f"npm cannot install onnxruntime-web {VERSION}: {done.stderr.strip()[-200:]}")
        (staging / "run.js").write_text(RUN)
        try:
            staging.rename(folder)
        except OSError:  # another worker was first
            shutil.rmtree(staging)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("storage", "stages"),
    [
        (Storage("rice", "split"), 2), (Storage("rows", "split"), 1), (Storage("pfor"), 2), (Storage("gap8", "int8"), 1),
        (Storage("bitmask", "codebook16"), 2), (Storage("coo"), 1),
    ],
    ids=lambda given: f"{given.rule}-{given.values}" if isinstance(given, Storage) else f"stages-{given}",
)  # fmt: skip
def test_web_assembly_answers_as_onnxruntime(
    web: Path, storage: Storage, stages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sctool.runtimes.onnxruntime import OnnxRuntimeSession

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Mlp((40,), 7, hidden=[96, 96, 96])
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.masked_fill_(torch.rand_like(parameter) < 0.85, 0.0)
    dense = export_onnx(model, torch.zeros(2, 40), max_batch=64)
    monkeypatch.setattr(assemble, "count_stages", lambda left, _: stages)
    packed = sparsify_onnx(dense, storage)
    assert sum(node.op_type == "Scan" for node in packed.proto.graph.node) == stages - 1
    assert any(layer.codec == storage.rule for layer in packed.layers)
    stacked = any(node.op_type == "GatherND" for node in packed.proto.graph.node)
    assert (
        stacked or storage.rule == "coo" or storage.values in ("codebook16", "int8")
    )  # whose tables and scales may differ
    path, x = tmp_path / "model.onnx", np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    path.write_bytes(serialise_onnx(packed.proto))
    (tmp_path / "input.bin").write_bytes(x.tobytes())
    done = subprocess.run(
        ["node", str(web / "run.js"), str(path), str(tmp_path / "input.bin"), "5", "40"], cwd=web, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert answer["dims"] == [5, 7]
    found = np.array(answer["data"], np.float32).reshape(5, 7)
    np.testing.assert_allclose(found, OnnxRuntimeSession(path).run(x), atol=1e-5)
