"""Other builds of the same sources: sanitizers, the fuzzer, Arm under emulation."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sctool.errors import NativeRuntimeMissing
from sctool.export.sparse.graph import Activation, Graph, Kind, Operator, Storage, Unary, Window
from sctool.export.sparse.payload import write_payload
from sctool.runtimes.device.cross import build_sparse_runner
from sctool.runtimes.device.kit import CPU, find_kit
from tests.native.conftest import SOURCES, Builder, need, run_payload
from tests.native.oracle import answer, convolution, draw, mlp, relative_error
from tests.native.quantised_oracle import answer_quantised, quantise

pytestmark = pytest.mark.slow
THREADS = """
#include <thread>
#include <vector>
#include "sctool_sparse.h"
#include <cstdio>
#include <cstdlib>
int main(int, char** words) {
  std::FILE* file = std::fopen(words[1], "rb");
  std::vector<unsigned char> bytes(1 << 20);
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      char error[100];
      sctool_session* session =
          sctool_sparse_load_threaded(bytes.data(), bytes.size(), nullptr, 1 + t % 3, error, sizeof error);
      std::vector<float> x(5 * sctool_sparse_input_floats(session, 0), 1.0f), y(5 * sctool_sparse_output_floats(session, 0));
      const float* in[] = {x.data()};
      float* out[] = {y.data()};
      const int calls = std::atoi(words[2]);
      for (int i = 0; i < calls; ++i) {
        if (sctool_sparse_run(session, i * 3 / calls == 1 ? 1 : 5, in, out, error, sizeof error)) std::abort();
      }
      sctool_sparse_free(session);
    });
  }
  for (std::thread& thread : threads) thread.join();
}
"""


def cases() -> dict[str, Graph]:
    rng = np.random.default_rng(0)
    three = Window(3, 3, 1, 1, 1, 1, 1)
    return {
        "sparse": convolution(
            rng, 20, 30, 8, 8, three, density=0.1, storage=Storage.SPARSE, activation=Activation.RELU
        ),
        "wide": convolution(rng, 5, 30, 13, 17, three, density=0.1, storage=Storage.SPARSE),
        "tall": convolution(rng, 8, 12, 32, 16, three, density=0.4, storage=Storage.SPARSE),
        "halved": convolution(rng, 9, 7, 12, 12, Window(3, 3, 2, 1, 1, 1, 1), density=0.3, storage=Storage.SPARSE),
        "pointwise": convolution(rng, 40, 30, 6, 6, Window(1, 1), density=0.2, storage=Storage.SPARSE),
        "dense": convolution(rng, 6, 21, 4, 4, three),
        "depthwise": convolution(rng, 6, 6, 12, 12, three, groups=6, activation=Activation.HARD_SWISH),
        "mlp": mlp(rng, [50, 40, 7], 0.1, Storage.SPARSE),
        "tokens": token_block(rng),
        "line": gated_line(rng),
    }


def token_block(rng: np.random.Generator) -> Graph:
    """Layer norm, a sparse linear layer, GELU, a shortcut, the mean over tokens."""
    graph = Graph(8)
    x, normed, mixed, active, added = (graph.add_value((11, 20), tokens=True) for _ in range(5))
    graph.inputs, graph.outputs = [x], [graph.add_value((20,))]
    graph.operators = [
        Operator(Kind.LAYER_NORM, (x,), normed, weights=draw(rng, (1, 20)), bias=draw(rng, (20,)), epsilon=1e-5),
        Operator(
            Kind.CONVOLUTION, (normed,), mixed, window=Window(1, 1), weights=draw(rng, (20, 20), 0.2),
            storage=Storage.SPARSE,
        ),
        Operator(Kind.UNARY, (mixed,), active, function=Unary.GELU),
        Operator(Kind.ADD, (active, x), added),
        Operator(Kind.GLOBAL_MEAN, (added,), graph.outputs[0]),
    ]  # fmt: skip
    return graph


def gated_line(rng: np.random.Generator) -> Graph:
    """A convolution over a line, scaled by a gate of its own means."""
    graph = Graph(8)
    x, made = graph.add_value((3, 19)), graph.add_value((5, 17))
    mean, gate = graph.add_value((5, 1)), graph.add_value((5, 1))
    graph.inputs, graph.outputs = [x], [graph.add_value((5, 17))]
    graph.operators = [
        Operator(
            Kind.CONVOLUTION, (x,), made, window=Window(1, 3), weights=draw(rng, (5, 9), 0.5), storage=Storage.SPARSE
        ),
        Operator(Kind.GLOBAL_MEAN, (made,), mean),
        Operator(Kind.UNARY, (mean,), gate, function=Unary.HARD_SIGMOID),
        Operator(Kind.MULTIPLY, (made, gate), graph.outputs[0]),
    ]
    return graph


def hold_against_oracle(command: list[str], folder: Path) -> None:
    for graph in cases().values():
        for batch in (1, 8):  # record by record, and by columns
            x = draw(np.random.default_rng(1), (batch, *graph.shapes[0]))
            written = run_payload(command, write_payload(graph), x.tobytes(), batch, folder)
            found = np.frombuffer(written, np.float32).reshape(batch, -1)
            assert relative_error(found, answer(graph, [x])[0]) <= 1e-5
    for name in ("sparse", "halved", "pointwise", "mlp"):
        graph = quantise(cases()[name])
        graph.operators = graph.operators[:1]
        graph.outputs = [graph.operators[0].output]
        for batch in (1, 5):
            x = draw(np.random.default_rng(1), (batch, *graph.shapes[0]))
            written = run_payload(command, write_payload(graph), x.tobytes(), batch, folder)
            np.testing.assert_array_equal(
                np.frombuffer(written, np.float32).reshape(batch, -1), answer_quantised(graph, [x])
            )


def test_address_and_undefined_behaviour_sanitizers(builder: Builder, library: ctypes.CDLL, tmp_path: Path) -> None:
    """The kernels of every instruction set that runs here."""
    folder = builder("asan", "-DSCTOOL_SANITIZE=address,undefined", "-DSCTOOL_WIDE_KERNELS=ON")
    for isa in ("portable", "neon", "avx2", "avx512"):
        if library.sctool_sparse_find_isa(isa.encode()) is not None:
            hold_against_oracle([str(folder / "sctool_runner"), "--isa", isa], tmp_path)


def test_thread_sanitizer_finds_no_race_within_sessions_and_between_them(builder: Builder, tmp_path: Path) -> None:
    folder = builder("tsan", "-DSCTOOL_SANITIZE=thread", "-DSCTOOL_RUNNER=OFF")
    (tmp_path / "threads.cpp").write_text(THREADS)
    compiled = subprocess.run(
        ["c++", "-std=c++17", "-fsanitize=thread", "-I", SOURCES / "include", tmp_path / "threads.cpp",
         folder / "libsctool_core.a", "-pthread", "-o", tmp_path / "threads"], capture_output=True, text=True,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr[-2000:]
    rng, three = np.random.default_rng(0), Window(3, 3, 1, 1, 1, 1, 1)
    large = [  # for threads to share one record of: its tiles, and its output channels
        convolution(rng, 16, 24, 32, 32, three, density=0.4, storage=Storage.SPARSE),
        convolution(rng, 128, 128, 4, 4, three, density=0.6, storage=Storage.SPARSE),
    ]
    # Calls of the MLP are as many as its layout needs to change twice.
    for graph, calls in [(cases()["sparse"], 20), (cases()["mlp"], 1000), *((graph, 20) for graph in large)]:
        (tmp_path / "p.scsp").write_bytes(write_payload(graph))
        done = subprocess.run(
            [tmp_path / "threads", tmp_path / "p.scsp", str(calls)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]


def test_the_fuzzer_finds_nothing_in_its_seeds_and_a_few_seconds(builder: Builder, tmp_path: Path) -> None:
    need("clang++")
    folder = builder(
        "fuzz", "-DSCTOOL_SANITIZE=address,undefined", "-DSCTOOL_FUZZER=ON", "-DSCTOOL_RUNNER=OFF",
        "-DCMAKE_CXX_COMPILER=clang++",
    )  # fmt: skip
    for target, name, seconds in (("sctool_fuzz", "corpus", 5), ("sctool_fuzz_block", "blocks", 2)):
        seeds = SOURCES / "fuzz" / name
        assert len(list(seeds.iterdir())) >= 5
        found = tmp_path / name
        found.mkdir()
        done = subprocess.run(
            [folder / target, found, seeds, f"-max_total_time={seconds}", "-rss_limit_mb=4096", "-seed=1"],
            capture_output=True, text=True, timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]


def test_on_arm_under_emulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        kit, runner = find_kit(), build_sparse_runner()
    except NativeRuntimeMissing as error:
        pytest.skip(str(error))
    for name, value in kit.environment.items():
        monkeypatch.setenv(name, value)
    hold_against_oracle([str(kit.qemu), "-cpu", CPU, str(runner), "--isa", "neon"], tmp_path)
