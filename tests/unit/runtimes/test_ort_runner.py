"""The C parts by themselves, compiled for this machine: runner, hash, classes of instructions, model caches."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sctool.errors import NativeRuntimeMissing
from sctool.resources import device_runner_folder
from sctool.runtimes.device.build import build_host_runner
from sctool.runtimes.device.registry import on_device
from sctool.runtimes.device.runner import _host_library
from sctool.runtimes.device.session import DeviceArtifact
from sctool.runtimes.onnxruntime import OnnxRuntimeSession

SOURCES = device_runner_folder()


@pytest.fixture(scope="module")
def runner() -> Path:
    try:
        return build_host_runner()
    except NativeRuntimeMissing as error:
        pytest.skip(str(error))


def compile_and_run(folder: Path, text: str, *arguments: str) -> str:
    """A harness around our C, with sanitizers where the compiler has them."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, program = folder / "harness.c", folder / "harness"
    source.write_text(text)
    flags = ["-std=gnu11", "-O1", f"-I{SOURCES}", str(source), "-o", str(program)]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    built = subprocess.run([compiler, *sanitizers, *flags], capture_output=True, text=True, check=False)
    if built.returncode:
        built = subprocess.run([compiler, *flags], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


HASHER = r"""
#include <stdio.h>
#include <stdlib.h>
#include "sha256.h"
int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    size_t size = strtoul(argv[i], NULL, 10);
    uint8_t *data = malloc(size ? size : 1);
    for (size_t k = 0; k < size; k++) data[k] = (uint8_t)(k * 7 + size);
    char text[65];
    sha256_hex(data, size, text);
    puts(text);
    free(data);
  }
  return 0;
}
"""


def test_hashes_are_sha256_at_every_length_around_a_block(tmp_path: Path) -> None:
    sizes = [*range(0, 132), 1000, 65536, 100_001]
    found = compile_and_run(tmp_path, HASHER, *map(str, sizes)).split()
    expected = [hashlib.sha256(bytes((k * 7 + size) & 255 for k in range(size))).hexdigest() for size in sizes]
    assert found == expected


CLASSES = {
    "load": "f9400020 39400020 b9800020 a8c17bfd 3dc00000 fc616800 ad400400 4c407800 58000000 c85f7c20 c8dffc20",
    "store": "f9000020 79000020 a9bf7bfd 3d800000 ad000400 4c007800 c8007c41 c89ffc20 f8000020",
    "branch": "14000000 94000000 d65f03c0 d61f0000 b4000000 54000000",
    "integer": "91000400 8b020020 9b020c20 d2800020 9a820020 9ac20820",
    "vector_fma": "4e22cc20 4fa21020 1f020c20 4ea2cc20 4fa25020 4e420c20 4ec20c20 4f021020 1f220c20",
    "vector_dot": "4e829420 4f82e020 6e829420",
    "vector_other": "4e22d420 6e22dc20 4e22f420 4e040c00 1e270000 4fa29020 6fa20020 0f522020 4e421420",
}
"""What GNU as makes of ldr, ldrb, ldrsw, ldp, ld1, ldxr, ldar; str, stp, st1, stxr, stlr; b, ret, cbz; add, madd, csel,
udiv; fmla, fmadd, fmls; sdot, udot; fadd, fmul, fmax, dup, fmov."""
CLASSIFIER = r"""
#include "count_plugin.c"
#include <stdlib.h>
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t a, void (*b)(qemu_plugin_id_t, unsigned)) {}
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t a, void (*b)(qemu_plugin_id_t, struct qemu_plugin_tb *)) {}
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t a, void (*b)(qemu_plugin_id_t, void *), void *c) {}
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *a) { return 0; }
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *a, size_t b) { return NULL; }
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *a) { return NULL; }
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *a, enum qemu_plugin_op b, void *c, uint64_t d) {}
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *a, void (*b)(unsigned, void *),
                                            enum qemu_plugin_cb_flags c, void *d) {}
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *a,
  void (*b)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *),
  enum qemu_plugin_cb_flags c, enum qemu_plugin_mem_rw d, void *e) {}
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t a) { return a; }
int main(int argc, char **argv) {
  if (argc > 2 && argv[1][0] == 'c')
    for (int i = 2; i < argc; i++) on_memory(0, 2, strtoull(argv[i], NULL, 0), NULL);
  else
    for (int i = 1; i < argc; i++) puts(names[classify((uint32_t)strtoul(argv[i], NULL, 16))]);
  printf("%llu %llu %llu\n", (unsigned long long)level1.accesses, (unsigned long long)level1.misses,
         (unsigned long long)level2.misses);
  return 0;
}
"""


def test_instructions_fall_into_their_classes(tmp_path: Path) -> None:
    words = [(word, name) for name, text in CLASSES.items() for word in text.split()]
    found = compile_and_run(tmp_path, CLASSIFIER, *(word for word, _ in words)).splitlines()[:-1]
    assert [(word, name) for (word, _), name in zip(words, found, strict=True)] == words


def naive_caches(addresses: list[int]) -> list[int]:
    """Accesses, misses of the first and of the second cache: lists of lines, the most recently used first."""
    sets: dict[tuple[int, int], list[int]] = {}
    counts = [0, 0, 0]

    def touch(level: int, line: int) -> bool:
        size, ways = ((256, 4), (1024, 8))[level]
        held = sets.setdefault((level, line % size), [])
        hit = line in held
        if hit:
            held.remove(line)
        held.insert(0, line)
        del held[ways:]
        return hit

    for address in addresses:
        for line in range(address >> 6, ((address + 3) >> 6) + 1):
            counts[0] += 1
            if not touch(0, line):
                counts[1] += 1
                counts[2] += not touch(1, line)
    return counts


def test_the_model_caches_are_least_recently_used(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    near = generator.integers(0, 2**21, 3000)
    aliased = generator.integers(0, 12, 1500) * (1 << 16) + generator.integers(0, 80, 1500)
    addresses = [int(value) for value in generator.permutation(np.concatenate([near, aliased]))]
    found = compile_and_run(tmp_path, CLASSIFIER, "c", *map(str, addresses)).split()
    assert [int(value) for value in found] == naive_caches(addresses)


@pytest.mark.parametrize("records", [1, 2, 63, 64, 65, 130])
def test_the_runner_answers_as_python_does(runner: Path, made_run: Path, records: int) -> None:
    path = made_run / "bundles/android/model.onnx"
    x = np.random.default_rng(records).random((records, 64), np.float32)
    with on_device("host") as session:
        found = DeviceArtifact(session, path).run(x)
    np.testing.assert_allclose(found, OnnxRuntimeSession(path).run(x), atol=1e-6)


def test_the_record_holds_every_sample_and_what_was_really_set(runner: Path, made_run: Path) -> None:
    path = made_run / "bundles/android/model.onnx"
    core = min(os.sched_getaffinity(0))
    with on_device("host") as session:
        artifact = DeviceArtifact(session, path)
        work = artifact.work(np.zeros((1, 64), np.float32), iterations=7, warm_up=2, warm_loads=3)
        record = artifact.measure(work, timeout_s=60, cores=(core,))
    assert len(record["samples_ns"]) == 7 and len(record["warm_load_ns"]) == 3
    assert all(value > 0 for value in [*record["samples_ns"], *record["warm_load_ns"], record["cold_load_ns"]])
    assert set(record["affinity"]) == {str(core)}
    assert record["model_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["vm_hwm_kib"] > record["baseline_vm_hwm_kib"] > 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"--model": "absent.onnx"}, 3), ({"--input": "absent.f32"}, 3), ({"--input": "torn.f32"}, 3),
        ({"--output": "no/such/folder/y"}, 3), ({"--input": "empty.f32"}, 3), ({"--library": "absent.so"}, 4),
        ({"--library": "libc.so.6"}, 4), ({"--model": "garbage.onnx"}, 5), ({"--shape": "63"}, 3), ({"--shape": "2,32"}, 5),
        ({"--shape": ""}, 2), ({"--shape": "64,"}, 2), ({"--shape": "0"}, 2), ({"--shape": "-64"}, 2),
        ({"--shape": "1,1,1,1,1,1,1,1,1,1"}, 2), ({"--shape": "16777216,16777216"}, 2), ({"--shape": "6x4"}, 2),
        ({"--batch": "0"}, 2), ({"--batch": "99999999999999999999"}, 2), ({"--iterations": "many"}, 2),
        ({"--iterations": "3", "--batch": "9"}, 3), ({"--threads": "-1"}, 2), ({"--no-such-option": "1"}, 2),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_a_code(
    runner: Path, made_run: Path, tmp_path: Path, changes: dict[str, str], code: int
) -> None:
    np.zeros((2, 64), np.float32).tofile(tmp_path / "x.f32")
    (tmp_path / "torn.f32").write_bytes(b"\0" * 511)
    (tmp_path / "empty.f32").write_bytes(b"")
    (tmp_path / "garbage.onnx").write_bytes(os.urandom(4000))
    given = {"--library": str(_host_library()), "--model": str(made_run / "bundles/android/model.onnx"),
             "--input": "x.f32", "--shape": "64", "--output": "y.f32", **changes}  # fmt: skip
    command = [str(runner), *(part for pair in given.items() for part in pair)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("ort_runner: ") and done.stderr.count("\n") == 1 and done.stdout == ""


def test_an_option_without_its_value_is_named(runner: Path) -> None:
    done = subprocess.run([str(runner), "--model"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--model: has no value" in done.stderr


def test_the_line_is_json_and_nothing_else_is_printed(runner: Path, made_run: Path, tmp_path: Path) -> None:
    np.zeros((2, 64), np.float32).tofile(tmp_path / "x.f32")
    command = [str(runner), "--library", str(_host_library()), "--model", str(made_run / "bundles/android/model.onnx"),
               "--input", "x.f32", "--shape", "64", "--output", "y.f32"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["records"] == 2 and (tmp_path / "y.f32").stat().st_size == 2 * 10 * 4
