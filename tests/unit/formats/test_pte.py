"""Our reader of ExecuTorch's files against ExecuTorch's own, and against damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.schema import Tensor
from executorch.extension.flat_tensor.serialize.serialize import FlatTensorSerializer
from hypothesis import given, settings
from hypothesis import strategies as st

from sctool.errors import ArtifactError
from sctool.formats.flatbuffer import MAX_VISITS, Buffer, Table
from sctool.formats.ptd import read_ptd
from sctool.formats.pte import read_program

SEEDS = Path(__file__).resolve().parents[3] / "fuzz" / "corpus"
PROGRAMS = sorted((SEEDS / "pte").glob("*.pte"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_methods_are_those_that_executorch_reads(path: Path) -> None:
    ours = read_program(path.read_bytes(), "here").methods
    theirs = deserialize_pte_binary(path.read_bytes()).program.execution_plan
    assert [m.name for m in ours] == [plan.name for plan in theirs]
    for method, plan in zip(ours, theirs, strict=True):
        assert [d.backend for d in method.delegates] == [d.id for d in plan.delegates]
        assert len(method.operators) == len(plan.operators)
        for specs, indices in ((method.inputs, plan.inputs), (method.outputs, plan.outputs)):
            for spec, index in zip(specs, indices, strict=True):
                value = plan.values[index].val
                assert isinstance(value, Tensor) and list(spec.shape) == list(value.sizes)
                assert spec.dtype == "float32" and value.scalar_type.name == "FLOAT"
                assert spec.dynamic == (value.shape_dynamism.value != 0)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_weights_are_found_in_the_program_or_said_to_lie_elsewhere(path: Path) -> None:
    program = read_program(path.read_bytes(), "here")
    shapes = sorted(weight.shape for weight in program.weights)
    assert shapes == [(3,), (3, 90), (90,), (90, 12)]
    if "apart" not in path.stem:
        assert program.missing == []
        return
    beside = (SEEDS / "ptd" / path.name.replace("_apart.pte", ".ptd")).read_bytes()
    assert set(program.missing) <= {block.key for block in read_ptd(beside, "here").blocks}
    assert len(program.missing) == 4


@pytest.mark.parametrize("path", sorted((SEEDS / "ptd").glob("*.ptd")), ids=lambda path: path.stem)
def test_blocks_are_those_that_executorch_reads(path: Path) -> None:
    content = path.read_bytes()
    theirs = FlatTensorSerializer().deserialize(content)  # type: ignore[arg-type]
    ours = {b.key: content[b.offset : b.offset + b.size] for b in read_ptd(content, "here").blocks}
    assert ours == {key: bytes(theirs.buffers[entry.buffer_index]) for key, entry in theirs.named_data.items()}


@pytest.mark.parametrize("path", [*PROGRAMS, *sorted((SEEDS / "ptd").glob("*.ptd"))], ids=lambda path: path.name)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damage_is_told_or_harmless(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    read = read_program if path.suffix == ".pte" else read_ptd
    try:
        read(bytes(content), "here")
    except ArtifactError as error:
        assert "here is no readable ExecuTorch" in error.message


@given(st.binary(max_size=400))
def test_other_bytes_are_refused(content: bytes) -> None:
    for read in (read_program, read_ptd):
        with pytest.raises(ArtifactError):
            read(content, "here")


def test_a_buffer_that_leads_along_endless_ways_is_left() -> None:
    """Eight tables, each with two hundred offsets to the next: 200 ** 7 ways, all of them forwards."""
    content = bytearray(16 + 8 * 1000)

    def put(place: int, value: int) -> None:
        content[place : place + 4] = value.to_bytes(4, "little", signed=True)

    put(0, 16)
    content[8:14] = b"".join(number.to_bytes(2, "little") for number in (6, 8, 4))  # one field, at 4 of each table
    for table in range(16, len(content), 1000):
        put(table, table - 8)
        put(table + 4, 4)
        put(table + 8, 200 if table + 1000 < len(content) else 0)
        for entry in range(table + 12, table + 812, 4):
            put(entry, table + 1000 - entry)

    def walk(table: Table) -> None:
        for each in table.tables(0):
            walk(each)

    with pytest.raises(ValueError, match=f"more than {MAX_VISITS} looks"):
        walk(Buffer(bytes(content)).root())
