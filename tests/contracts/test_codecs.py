"""What every pair of position and value codec keeps to, executed by a real ONNX Runtime."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from onnx import helper

from sctool.export.codecs.codec import Quantised
from sctool.export.codecs.encode import describe_kin, encode_stack, encode_tensor, stack
from sctool.export.codecs.registry import POSITIONS, VALUES
from sctool.export.codecs.scope import Scope

PAIRS = list(itertools.product(POSITIONS, VALUES))
EXACT = ("float32", "split")
LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]
DECODERS = {
    "BitShift", "BitwiseAnd", "BitwiseOr", "Cast", "Compress", "ConstantOfShape", "CumSum", "Gather", "MaxUnpool", "Mul",
    "Range", "Reshape", "ScatterElements", "Slice", "Sub",
}  # fmt: skip
any_float32 = st.integers(0, 2**32 - 1).map(lambda bits: np.array([bits], np.uint32).view(np.float32)[0])


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def build(quantised: Quantised, positions: str, values: str, opset: int | None = None) -> onnx.ModelProto:
    """A model that answers with the tensor."""
    scope = encode_tensor("w", quantised, POSITIONS[positions], VALUES[values])
    needed = max(POSITIONS[positions].opset, VALUES[values].opset, 7)
    return wrap([scope], {"w": quantised.codes.shape}, quantised.dtype, opset or needed)


def wrap(
    scopes: list[Scope], answer: dict[str, tuple[int, ...]], dtype: np.dtype[Any], opset: int = 18
) -> onnx.ModelProto:
    """A model of all that is in `scopes`, which answers with the one tensor that `answer` gives the shape of."""
    ((name, shape),) = answer.items()
    out = helper.make_tensor_value_info("out", helper.np_dtype_to_tensor_dtype(dtype), list(shape))
    parts = {part.name: part for scope in scopes for part in scope.initialisers}
    graph = helper.make_graph(
        [*(node for scope in scopes for node in scope.nodes), helper.make_node("Identity", [name], ["out"])], "g", [],
        [out], list(parts.values()), value_info=[shape for scope in scopes for shape in scope.shapes],
        sparse_initializer=[sparse for scope in scopes for sparse in scope.sparse_initialisers],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(
    model: onnx.ModelProto, level: str = "ORT_ENABLE_ALL", threads: int = 1, save: Path | None = None
) -> NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if save is not None:
        options.optimized_model_filepath = str(save)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {})[0])


def draw(shape: tuple[int, ...], density: float, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=shape) * (rng.random(shape) < density) + 0.0, dtype=np.float32)


@pytest.mark.parametrize(("positions", "values"), PAIRS)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (40, 30), (5, 6, 7), (8, 4, 3, 3)])
def test_every_pair_gives_the_tensor_back(positions: str, values: str, shape: tuple[int, ...]) -> None:
    for density in (0.0, 0.02, 0.1, 0.4, 1.0):
        tensor = draw(shape, density)
        quantised = VALUES[values].quantise(tensor)
        assert quantised is not None
        expected = VALUES[values].restore(quantised)
        assert same_bits(run(build(quantised, positions, values)), expected)
        assert not expected[tensor == 0].any()
        if values in EXACT:
            assert same_bits(expected, tensor)


@pytest.mark.parametrize(("positions", "values"), [pair for pair in PAIRS if pair[0] not in ("dense", "coo")])
@pytest.mark.parametrize("shape", [(40, 30), (5, 6, 7)])
def test_a_framed_tensor_has_two_axes_more(positions: str, values: str, shape: tuple[int, ...]) -> None:
    for density in (0.0, 0.02, 0.1, 0.4, 1.0):
        quantised = VALUES[values].quantise(draw(shape, density))
        assert quantised is not None
        scope = encode_tensor("w", quantised, POSITIONS[positions], VALUES[values], framed=True)
        found = run(wrap([scope], {"w": (1, 1, *shape)}, quantised.dtype))
        assert same_bits(found, VALUES[values].restore(quantised)[None, None])


@pytest.mark.parametrize(("positions", "values"), [pair for pair in PAIRS if pair[0] not in ("dense", "coo")])
@pytest.mark.parametrize("shape", [(1200,), (40, 30), (5, 6, 7), (8, 4, 3, 3)])
def test_a_stack_gives_each_member_back(positions: str, values: str, shape: tuple[int, ...]) -> None:
    tensors = [draw(shape, density, seed) for seed, density in enumerate((0.1, 0.4, 0.0, 0.1))]
    codes = {f"w{number}": VALUES[values].quantise(tensor) for number, tensor in enumerate(tensors)}
    members = {name: each for name, each in codes.items() if each is not None}
    assert members.keys() == codes.keys()
    if describe_kin(members["w0"]) is None:
        assert all(each.table is not None for each in members.values())
        return
    assert len({describe_kin(each) for each in members.values()}) == 1
    whole = stack(list(members.values()))
    scopes = encode_stack("stack/s/0", list(members), whole, POSITIONS[positions], VALUES[values])
    assert [scope.tensor for scope in scopes] == ["stack/s/0", *members]
    for name, each in members.items():
        found = run(wrap(scopes, {name: shape}, each.dtype))
        assert same_bits(found, VALUES[values].restore(each))


@pytest.mark.parametrize("positions", [name for name in POSITIONS if name not in ("dense", "coo")])
@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8"])
@pytest.mark.parametrize("shape", [(40, 30), (8, 4, 3, 3)])
def test_a_stack_of_other_types(positions: str, dtype: str, shape: tuple[int, ...]) -> None:
    tensors = [np.abs(20 * draw(shape, 0.2, number)).astype(dtype) for number in range(3)]
    members = {f"w{number}": Quantised(each, 8 * each.itemsize, each.dtype) for number, each in enumerate(tensors)}
    scopes = encode_stack("s", list(members), stack(list(members.values())), POSITIONS[positions], VALUES["float32"])
    for name, each in members.items():
        assert same_bits(run(wrap(scopes, {name: shape}, each.dtype)), each.codes)


@pytest.mark.parametrize(("positions", "values"), PAIRS)
def test_every_level_and_number_of_threads(positions: str, values: str) -> None:
    tensor = draw((60, 50), 0.15)
    quantised = VALUES[values].quantise(tensor)
    assert quantised is not None
    expected = VALUES[values].restore(quantised)
    model = build(quantised, positions, values)
    for level, threads in itertools.product(LEVELS, (1, 2)):
        assert same_bits(run(model, level, threads), expected), (level, threads)


@pytest.mark.parametrize(("positions", "values"), PAIRS)
def test_nothing_is_left_to_decode_at_run_time(positions: str, values: str, tmp_path: Path) -> None:
    quantised = VALUES[values].quantise(draw((64, 48), 0.1))
    assert quantised is not None
    run(build(quantised, positions, values), "ORT_ENABLE_BASIC", save=tmp_path / "optimised.onnx")
    left = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert not left & DECODERS


@pytest.mark.parametrize(("positions", "values"), PAIRS)
def test_the_checker_passes_and_the_opset_is_the_lowest(positions: str, values: str) -> None:
    quantised = VALUES[values].quantise(draw((64, 48), 0.1))
    assert quantised is not None
    if positions == "coo":
        onnx.checker.check_model(build(quantised, positions, values))
        # the checker's own shape inference does not know sparse initialisers
        with pytest.raises(Exception, match=r"sparse_tensor|Mismatch"):
            onnx.checker.check_model(build(quantised, positions, values), full_check=True)
        return
    onnx.checker.check_model(build(quantised, positions, values), full_check=True)
    needed = max(POSITIONS[positions].opset, VALUES[values].opset)
    if needed > 7 and (positions, values) != ("rows", "split"):  # which needs no operators of split here
        with pytest.raises(Exception, match=r"."):
            lower = build(quantised, positions, values, opset=needed - 1)
            onnx.checker.check_model(lower, full_check=True)
            assert same_bits(run(lower), VALUES[values].restore(quantised))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("distance", [1, 255, 256, 257, 511, 65535, 65536, 70_000, 200_000])
def test_long_gaps(positions: str, distance: int) -> None:
    for start in (0, 1, 255, 256):
        flat = np.zeros(start + distance + 2, np.float32)
        flat[[start, start + distance]] = [1.5, -2.5]
        quantised = VALUES["float32"].quantise(flat)
        assert quantised is not None
        assert same_bits(run(build(quantised, positions, "float32")), flat)


@pytest.mark.parametrize("positions", [name for name in POSITIONS if name != "dense"])
def test_few_far_between_after_many(positions: str) -> None:
    """Patches whose own gaps are long, and gaps that are short and long by turns."""
    flat = np.zeros(300_000, np.float32)
    flat[:20_000:2] = 1
    flat[[100_000, 250_000, 250_001, 299_999]] = 2
    quantised = VALUES["float32"].quantise(flat)
    assert quantised is not None
    assert same_bits(run(build(quantised, positions, "float32")), flat)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16])
def test_other_types_than_float32(positions: str, dtype: type) -> None:
    tensor = (draw((60, 50), 0.15) * 40).astype(dtype)
    quantised = VALUES["float32"].quantise(tensor)
    assert quantised is not None
    assert same_bits(run(build(quantised, positions, "float32")), tensor)


@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("values", EXACT)
@pytest.mark.parametrize("positions", POSITIONS)
@given(flat=npst.arrays(np.float32, st.integers(1, 700), elements=any_float32, fill=st.just(np.float32(0))))
def test_any_bits_come_back(positions: str, values: str, flat: NDArray[np.float32]) -> None:
    quantised = VALUES[values].quantise(flat)
    assert quantised is not None
    assert same_bits(run(build(quantised, positions, values), "ORT_DISABLE_ALL"), flat)


@pytest.mark.parametrize("values", [name for name in VALUES if name not in EXACT])
def test_what_a_lossy_codec_cannot_hold_it_refuses(values: str) -> None:
    assert VALUES[values].quantise(np.array([1.0, np.inf], np.float32)) is None
    assert VALUES[values].quantise(np.array([1, 2], np.int8)) is None


@pytest.mark.parametrize("positions", ["dense", "rice", "rows"])
def test_split_keeps_what_has_another_exponent(positions: str) -> None:
    """-0.0, NaN with a payload, infinities, subnormals and the smallest and largest numbers, among common ones."""
    odd = np.array([0x80000000, 0x7FC01234, 0xFF800000, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x0C000000], np.uint32)
    flat = draw((60_000,), 0.3)
    flat[100::600][: len(odd)] = odd.view(np.float32)
    quantised = VALUES["split"].quantise(flat)
    assert quantised is not None
    model = build(quantised, positions, "split")
    assert same_bits(run(model), flat)
    assert model.ByteSize() < build(quantised, positions, "float32").ByteSize()
