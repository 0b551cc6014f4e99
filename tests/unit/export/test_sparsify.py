"""Which codec stores which tensor, the file as a whole, and its sizes."""

from __future__ import annotations

import gzip
import lzma
from math import comb, inf, log2
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sctool.export.codecs.choose import (
    ELEMENT_BYTES,
    ELEMENT_NS,
    NEAR,
    PROCESS_BYTES,
    SESSION_NS,
    Budgets,
    Option,
    choose_codecs,
)
from sctool.export.codecs.registry import POSITIONS, VALUES
from sctool.export.onnx import serialise_onnx
from sctool.export.sizes import tabulate_sizes
from sctool.export.sparsify import Storage, bound_bytes, sparsify_onnx
from sctool.export.stages import OPSET, price_stage

Vector = NDArray[np.float32]


def sparse_weight(density: float, shape: tuple[int, ...] = (200, 160), seed: int = 0) -> Vector:
    rng = np.random.default_rng(seed)
    flat = np.zeros(int(np.prod(shape)), np.float32)
    kept = rng.permutation(flat.size)[: round(density * flat.size)]
    flat[kept] = rng.normal(size=len(kept))
    return flat.reshape(shape)


def make_model(*weights: Vector, opset: int = 18) -> onnx.ModelProto:
    """x @ w for each weight, added up."""
    nodes = [helper.make_node("MatMul", ["x", f"layer{i}.weight"], [f"y{i}"]) for i in range(len(weights))]
    nodes.append(helper.make_node("Sum", [f"y{i}" for i in range(len(weights))], ["y"]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, weights[0].shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, weights[0].shape[1]])],
        [numpy_helper.from_array(weight, f"layer{i}.weight") for i, weight in enumerate(weights)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def answer(model: onnx.ModelProto | bytes, x: Vector) -> Vector:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


X = np.random.default_rng(9).normal(size=(3, 200)).astype(np.float32)


@pytest.mark.parametrize("rule", ["auto", "small", "fast", "ort", *POSITIONS])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 0.79, 1.0])
def test_every_rule_answers_as_the_dense_model_and_is_no_larger(rule: str, density: float) -> None:
    model = make_model(sparse_weight(density))
    before = model.SerializeToString()
    packed = sparsify_onnx(model, rule)
    assert model.SerializeToString() == before
    np.testing.assert_array_equal(answer(packed.proto, X), answer(model, X))
    (layer,) = packed.layers
    assert layer.nnz == round(density * 32_000) and layer.why
    assert len(packed.proto.SerializeToString()) <= len(before) + 600
    assert layer.stored_bytes <= layer.dense_bytes + 200


@pytest.mark.parametrize(
    ("density", "expected"),
    [(0.05, "rice+split"), (0.2, "rice+split"), (0.5, "bitmask+split"), (1.0, "dense+split")],
)
def test_auto_takes_the_smallest(density: float, expected: str) -> None:
    packed = sparsify_onnx(make_model(sparse_weight(density, (400, 500))), Storage(load_budget=9))
    (layer,), (sizes,) = packed.layers, packed.sizes
    assert f"{layer.codec}+{layer.values}" == expected == sizes.codec
    assert layer.stored_bytes == min(sizes.codec_bytes.values())
    assert set(sizes.codec_bytes) == {f"{p}{v}" for p in set(POSITIONS) - {"coo"} for v in ("", "+split")}


def test_within_two_percent_of_the_bound() -> None:
    for density in (0.05, 0.1, 0.2):
        packed = sparsify_onnx(make_model(sparse_weight(density, (1000, 600))), "rice")
        (sizes,) = packed.sizes
        assert sizes.bound_bytes < packed.layers[0].stored_bytes < 1.02 * sizes.bound_bytes
        small = sparsify_onnx(make_model(sparse_weight(density, (1000, 600))), "small")
        assert small.layers[0].stored_bytes < 0.95 * sizes.bound_bytes  # the bound has 32 bits a value


@settings(deadline=None)
@given(st.integers(1, 500), st.data())
def test_the_bound_is_what_counting_all_masks_gives(size: int, data: st.DataObject) -> None:
    """log2 of the binomial coefficient is at most n H(k / n), and no more than log2(n + 1) under it."""

    nnz = data.draw(st.integers(0, size))
    bits = 8 * bound_bytes(size, nnz, 0) if nnz < size else 0.0
    exact = log2(comb(size, nnz))
    assert bound_bytes(size, nnz, 32) <= 4 * size
    if 0 < nnz < size:
        entropy = 8 * bound_bytes(size, nnz, 32) - 32 * nnz
        assert entropy <= exact + log2(size + 1) + 1e-6
        assert 8 * bound_bytes(size, nnz, 32) >= min(exact + 32 * nnz, 32 * size) - 1e-6
    assert bits == 0.0  # a value of no bits: nothing to store, whatever the mask


OPTIONS = {
    "a": [Option("dense", 1000, 0.0), Option("rice", 100, 9e6), Option("gap8", 130, 2e6), Option("coo", 90, 1e5)],
    "b": [Option("dense", 500, 0.0), Option("rice", 400, 9e6), Option("gap8", 405, 8e6)],
}


def test_auto_gives_up_the_fewest_bytes_for_the_budget() -> None:
    elements = 1_000_000
    dense = SESSION_NS + ELEMENT_NS * elements

    def choose(load: float) -> dict[str, str]:
        chosen = choose_codecs(OPTIONS, "auto", elements=elements, budgets=Budgets(load, 9))
        assert all(choice.why == "the smallest" or "over the load budget" in choice.why for choice in chosen.values())
        return {tensor: choice.name for tensor, choice in chosen.items()}

    assert choose(1 + 18.1e6 / dense) == {"a": "rice", "b": "rice"}
    assert choose(1 + 11.1e6 / dense) == {"a": "gap8", "b": "rice"}
    assert choose(1.0) == {"a": "dense", "b": "dense"}


def test_auto_gives_up_bytes_for_memory() -> None:
    """One tensor that no stage has room for, and five that fit in turns but not at once."""
    elements = 1_000_000
    dense = PROCESS_BYTES + ELEMENT_BYTES * elements
    hungry = [Option("dense", 900, 0), Option("rice", 100, 2, "split", 30e6), Option("rows", 120, 1, "split", 10e6)]
    options = {f"t{i}": [Option("dense", 900, 0.0), Option("rice", 100, 2, "split", 8e6)] for i in range(5)}
    for staged in (True, False):
        budgets = Budgets(9, 1 + 20e6 / dense, price_stage(100, OPSET if staged else OPSET - 1))
        chosen = choose_codecs({"big": hungry, **options}, "auto", elements=elements, budgets=budgets)
        assert chosen["big"].name in (["rows+split"] if staged else ["rows+split", "dense"])
        assert "over the memory budget of" in chosen["big"].why
        kept = [chosen[name].name for name in options]
        assert kept == ["rice+split"] * 5 if staged else kept.count("rice+split") <= 2


def test_the_other_rules() -> None:
    def taken(rule: str) -> dict[str, str]:
        found = choose_codecs(OPTIONS, rule, elements=10, budgets=Budgets(1, 1))  # type: ignore[arg-type]
        return {tensor: choice.name for tensor, choice in found.items()}

    assert taken("small") == {"a": "rice", "b": "rice"}
    assert taken("fast") == {"a": "gap8", "b": "gap8"}  # 35 bytes of the 50 that it may add
    assert choose_codecs({}, "auto", elements=0, budgets=Budgets(2, 1.5)) == {}
    assert taken("ort") == {"a": "coo", "b": "dense"}
    assert taken("gap8") == {"a": "gap8", "b": "gap8"}


drawn_options = st.dictionaries(
    st.sampled_from("abcdef"),
    st.lists(st.tuples(st.sampled_from(["rice", "gap8", "pfor"]), st.integers(1, 2000), st.floats(0, 1e7),
                       st.just("float32"), st.floats(0, 1e8)), max_size=4),
    min_size=1,
).map(lambda drawn: {t: [Option("dense", 1000, 0.0), *{o[0]: Option(*o) for o in found}.values()]
                     for t, found in drawn.items()})  # fmt: skip


@settings(deadline=None)
@given(drawn_options, st.floats(1, 3), st.floats(1, 3), st.booleans())
def test_auto_keeps_the_budgets_or_has_nothing_left_to_exchange(
    options: dict[str, list[Option]], load: float, memory: float, staged: bool
) -> None:
    chosen = choose_codecs(options, "auto", elements=1000, budgets=Budgets(load, memory, 2e6 if staged else inf))
    used = [next(o for o in options[t] if o.name == c.name) for t, c in chosen.items()]
    assert sum(o.load_ns for o in used) <= (load - 1) * (SESSION_NS + ELEMENT_NS * 1000) + 1e-6
    left = [o.left_bytes for o in used]
    assert max(left) <= (memory - 1) * (PROCESS_BYTES + ELEMENT_BYTES * 1000)
    assert staged or sum(left) <= (memory - 1) * (PROCESS_BYTES + ELEMENT_BYTES * 1000)
    assert all(o.stored_bytes <= 1000 for o in used)


@settings(deadline=None)
@given(drawn_options)
def test_fast_is_no_slower_and_no_more_than_a_tenth_larger_than_small(options: dict[str, list[Option]]) -> None:
    def total(rule: str) -> tuple[int, float]:
        chosen = choose_codecs(options, rule, elements=1000, budgets=Budgets(1, 1))  # type: ignore[arg-type]
        used = [next(o for o in options[t] if o.name == c.name) for t, c in chosen.items()]
        return sum(o.stored_bytes for o in used), sum(o.load_ns for o in used)

    (small, slow), (size, time) = total("small"), total("fast")
    assert small <= size <= NEAR * small and time <= slow


def test_what_stays_dense_and_why() -> None:
    model = make_model(sparse_weight(0.1), sparse_weight(0.1, seed=1))
    small = sparse_weight(0.1, (200, 5))
    model.graph.initializer.append(numpy_helper.from_array(small, "small"))
    model.graph.input.append(helper.make_tensor_value_info("layer1.weight", TensorProto.FLOAT, [200, 160]))
    layers = {layer.name: layer for layer in sparsify_onnx(model).layers}
    assert layers["layer0.weight"].codec == "rows"
    assert (layers["small"].codec, layers["small"].why) == ("dense", "fewer than 1024 elements")
    assert layers["layer1.weight"].codec == "dense" and "input" in layers["layer1.weight"].why


def test_an_old_opset_takes_what_it_has() -> None:
    packed = sparsify_onnx(make_model(sparse_weight(0.1), opset=13))
    assert set(packed.sizes[0].codec_bytes) == {"dense", "gap8", "rows"} and packed.layers[0].codec == "gap8"
    np.testing.assert_array_equal(answer(packed.proto, X), answer(make_model(sparse_weight(0.1), opset=13), X))


@pytest.mark.parametrize("rule", ["small", "fast", "pfor", "rows", "bitmask"])
def test_tools_that_read_and_write_it_keep_it(rule: str, tmp_path: Path) -> None:
    """onnx.load and onnx_ir: the same answers, nothing left to decode at run time."""
    packed = sparsify_onnx(make_model(sparse_weight(0.3), sparse_weight(0.1, seed=1)), rule)
    path = tmp_path / "m.onnx"
    path.write_bytes(serialise_onnx(packed.proto))
    onnx.save(onnx.load(path), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").stat().st_size == path.stat().st_size
    onnx_ir.save(onnx_ir.load(path), tmp_path / "ir.onnx")
    for name in ("again.onnx", "ir.onnx"):
        content = (tmp_path / name).read_bytes()
        onnx.checker.check_model(content, full_check=True)
        np.testing.assert_array_equal(answer(content, X), answer(packed.proto, X))
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        left = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
        assert left <= {"MatMul", "Sum"}, left


def test_onnx_ir_loses_sparse_initialisers(tmp_path: Path) -> None:
    """What is stated of coo: should this fail one day, the statement can go."""
    packed = sparsify_onnx(make_model(sparse_weight(0.1)), "coo")
    assert len(packed.proto.graph.sparse_initializer) == 1
    again = onnx_ir.to_proto(onnx_ir.from_proto(packed.proto))
    assert len(again.graph.sparse_initializer) == 0


@pytest.mark.parametrize("alike", [True, False])
def test_nodes_are_named_after_their_tensor_or_its_stack(alike: bool) -> None:
    packed = sparsify_onnx(make_model(sparse_weight(0.1), sparse_weight(0.1 if alike else 0.3, seed=1)), "rice")
    decoding = packed.proto.graph.node[:-3]
    stack = {"stack/200x160/0"} if alike else set()
    assert {node.name.rpartition("/")[0] for node in decoding} == {"layer0.weight", "layer1.weight"} | stack
    assert len({node.name for node in decoding}) == len(decoding)
    assert all(node.name.rpartition("/")[2].startswith(node.op_type) for node in decoding)


@pytest.mark.parametrize("values", VALUES)
def test_rounded_values_are_smaller(values: str) -> None:
    weight = sparse_weight(0.1)
    packed = sparsify_onnx(make_model(weight), Storage("rice", values))
    exact = sparsify_onnx(make_model(weight), "rice")
    quantised = VALUES[values].quantise(weight)
    assert quantised is not None
    expected = answer(make_model(VALUES[values].restore(quantised)), X)
    np.testing.assert_allclose(answer(packed.proto, X), expected, atol=1e-5)
    assert packed.layers[0].values == values
    share = packed.layers[0].stored_bytes / exact.layers[0].stored_bytes
    largest = {"float16": 0.65, "int8": 0.5, "codebook256": 0.5, "codebook16": 0.4}
    assert share <= largest.get(values, 1.05)


def test_the_table_holds_what_packers_give() -> None:
    model = make_model(sparse_weight(0.1, (1000, 600)))
    dense, packed = serialise_onnx(model), sparsify_onnx(model)
    table = tabulate_sizes(dense, packed, 7)
    files = table["files"]
    assert len(gzip.compress(dense, 9, mtime=0)) == files["dense, gzip -9"]
    assert len(lzma.compress(dense, preset=9)) == files["dense, xz -9"]
    shipped = len(serialise_onnx(packed.proto))
    assert shipped < files["bound"] < files["codec rice"] < files["dense, xz -9"] < files["dense, gzip -9"]
    assert files["dense, zstd -19"] is None or shipped < files["dense, zstd -19"]
    assert abs(files["codec rice+split"] - shipped) < 2500 and files["as it ships"] == 7
    assert [layer["name"] for layer in table["layers"]] == ["layer0.weight"]
