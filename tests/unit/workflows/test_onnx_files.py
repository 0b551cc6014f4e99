"""The ONNX files of a bundle, from a real run: precisions, zeros, what the passes did, and the plan that writes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from sctool.cli.app import app
from sctool.errors import ExportError
from sctool.export.manifest import read_manifest
from sctool.export.precision import lower_precision
from sctool.runtimes.eager import EagerSession
from sctool.runtimes.registry import open_session
from sctool.workflows.export import parity_gate
from sctool.workflows.export_records import read_export_records
from sctool.workflows.onnx_files import OnnxFiles, build_onnx, write_onnx
from sctool.workflows.run_directory import load_run_model, read_run
from sctool.workflows.subject import open_subject

LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]


@pytest.fixture(scope="module")
def records() -> np.ndarray:
    return np.random.default_rng(0).random((64, 64), np.float32)


@pytest.fixture(scope="module")
def built(made_run: Path, records: np.ndarray) -> OnnxFiles:
    run = read_run(made_run)
    settings = run.config.export.model_copy(update={"precisions": ["float32", "float16", "int8"]})
    return build_onnx(settings, load_run_model(run), replace(read_export_records(run), parity=records))


def test_every_precision_answers_within_its_gate(
    built: OnnxFiles, made_run: Path, records: np.ndarray, tmp_path: Path
) -> None:
    run = read_run(made_run)
    reference = EagerSession(load_run_model(run)).run(records)
    entries = write_onnx(tmp_path, built, "")
    assert list(entries) == ["model.onnx", "model.float16.onnx", "model.int8.onnx"]
    assert [entry.precision for entry in entries.values()] == ["float32", "float16", "int8"]
    for name, entry in entries.items():
        limit, _ = parity_gate(run.config.export, entry.precision, reference)
        found = open_session(tmp_path / name).run(records)
        assert np.abs(found - reference).max() <= limit
        assert entry.size_bytes == (tmp_path / name).stat().st_size
    sizes = [entry.size_bytes for entry in entries.values()]
    assert sizes[0] > sizes[1] > sizes[2]
    assert built.sizes["onnx_bytes"] == sizes[0] and built.sizes["int8_onnx_bytes"] == sizes[2]
    assert {layer.file for layer in built.layers} == set(entries)


def test_the_levels_of_optimisation_agree_on_int8(built: OnnxFiles, records: np.ndarray) -> None:
    """What runs quantised kernels answers as what multiplies the dequantised numbers."""
    content = built.files[2].packed.proto.SerializeToString()
    answers = []
    for level in LEVELS:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {"input": records})[0])
    step = np.abs(answers[0]).max() / 127
    for answer in answers[1:]:
        assert np.abs(answer - answers[0]).max() <= 1.01 * step  # one step of the quantised output
        assert (np.abs(answer - answers[0]) > 1e-6).mean() < 0.02


def test_zeros_stay_zeros(built: OnnxFiles, made_run: Path) -> None:
    weights = [w.detach().numpy() for w in load_run_model(read_run(made_run)).parameters() if w.ndim > 1]
    for file, kind in zip(
        built.files, (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8), strict=True
    ):
        stored = [
            numpy_helper.to_array(t) for t in file.dense.graph.initializer if t.data_type == kind and len(t.dims) == 2
        ]
        assert len(stored) == len(weights)
        for weight, array in zip(weights, stored, strict=True):
            same = array if array.shape == weight.shape else array.T
            assert not same[weight == 0].any() and np.abs(same).max() <= (
                64 if kind == onnx.TensorProto.INT8 else np.inf
            )


def test_passes_say_what_they_did(built: OnnxFiles) -> None:
    assert [entry.name for entry in built.removed] == ["fold_constants", "remove_dead_channels", "share_duplicates"]
    assert all(entry.nonzeros_removed >= 0 and entry.flops_removed >= 0 and not entry.note for entry in built.removed)


def test_no_records_no_quantisation_but_half_precision_all_the_same(built: OnnxFiles, records: np.ndarray) -> None:
    with pytest.raises(ExportError, match="no records"):
        lower_precision(built.plain.dense, "int8", records[:0])
    assert lower_precision(built.plain.dense, "float16", records[:0]) == lower_precision(
        built.plain.dense, "float16", records
    )


def test_a_dry_run_writes_nothing_and_shows_every_codec(made_run: Path, tmp_path: Path) -> None:
    before = sorted(path for path in made_run.rglob("*"))
    done = CliRunner().invoke(app, ["export", str(made_run), "--dry-run", "--codec", "small", "--json"])
    assert done.exit_code == 0, done.output
    files = json.loads(done.stdout)["onnx"]["model.onnx"]["files"]
    assert {"dense", "dense, gzip -9", "dense, xz -9", "bound", "codec rice", "codec gap8+split", "as it ships"} <= set(
        files
    )
    assert files["as it ships"] < files["dense, xz -9"] < files["dense, gzip -9"] < files["dense"]
    drawn = CliRunner().invoke(app, ["export", str(made_run), "--dry-run"])
    assert "Nothing was written." in drawn.stdout and "bound" in drawn.stdout
    assert sorted(path for path in made_run.rglob("*")) == before


def test_an_unknown_codec_is_named(made_run: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(made_run), "--codec", "rise", "--dry-run"])
    assert done.exit_code == 3 and "rise" in done.stderr and "rice" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "int4"], "Unknown precision 'int4'"),
        (["--precision", ""], "Unknown precision ''"),
        (["--precision", "float32,"], "Unknown precision ''"),
        (["--precision", "int8", "--backend", "sparse"], "computes in float32"),
    ],
)
def test_precisions_that_cannot_be_had_are_told(
    made_run: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = CliRunner().invoke(app, ["export", str(made_run), "--output", str(tmp_path / "bundle"), *arguments])
    assert done.exit_code == 3 and words in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_the_precision_named_at_export_goes_before_the_config(made_run: Path, tmp_path: Path) -> None:
    assert read_run(made_run).config.export.precisions == ["float32"]
    command = ["export", str(made_run), "--output", str(tmp_path / "bundle"), "--precision", "int8, int8"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    files = read_manifest(tmp_path / "bundle").files
    assert {name: entry.precision for name, entry in files.items()} == {
        "model.onnx": "float32", "model.int8.onnx": "int8", "model.int8.pte": "int8", "model.int8.spte": "int8",
    }  # fmt: skip
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert "| model.int8.pte | executorch+xnnpack | int8 |" in card
    with open_subject(tmp_path / "bundle", run=made_run, config=None, data_source=None) as subject:
        kinds = {column.name.split(" ")[0]: column.shadow_kind for column in subject.columns[2:]}
    assert kinds == {name: "sparse" if name == "model.onnx" else "sparse:int8" for name in files}
