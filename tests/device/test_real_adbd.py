"""Both runners over the real adb, client and daemon: what the stand-in cannot show of the protocol and of the shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sctool.native.build import find_library
from sctool.runtimes.device.kit import EmulatorKit, cache_folder
from sctool.runtimes.eager import EagerSession
from sctool.workflows.run_directory import load_run_model, read_run

from .real_adbd import FORBIDDEN, SERIAL, Unavailable, fetch_root, wrap

PROBE = """
import json, sys
from pathlib import Path
import numpy as np
from sctool.runtimes.device.registry import on_device
from sctool.runtimes.device.session import DeviceArtifact
x = np.load(sys.argv[2])
found = {}
with on_device(sys.argv[1]) as session:
    found["abi"] = session.facts().abi
    found["exit"] = session.run(["sh", "-c", "exit 7"], timeout_s=60).exit_code
    for path in map(Path, sys.argv[3:]):
        artifact = DeviceArtifact(session, path)
        answers = artifact.run(x).tolist()
        work = artifact.work(x[:1], iterations=3, warm_up=1)
        found[path.name] = {"answers": answers, "line": artifact.measure(work, timeout_s=120, cores=(0,))}
with on_device(sys.argv[1]) as session:
    listed = session.run(["ls", "/data/local/tmp"], timeout_s=60).stdout.split()
    found["left"] = [name for name in listed if "errors" not in name and not session.folder.endswith(name)]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_both_runners_over_the_daemon_that_phones_run(
    kit: EmulatorKit, made_run: Path, sparse_bundle: Path, tmp_path: Path
) -> None:
    try:
        root = fetch_root(kit)
    except Unavailable as error:
        pytest.skip(f"no real adbd: {error}")
    x = np.random.default_rng(0).random((70, 64), np.float32)
    np.save(tmp_path / "x.npy", x)
    files = [str(sparse_bundle / name) for name in ("model.onnx", "model.pte")]
    command = [sys.executable, "-c", PROBE, SERIAL, str(tmp_path / "x.npy"), *files]
    environment = {**os.environ, "SCTOOL_CACHE": str(cache_folder()), "HOME": str(tmp_path), "ADB_MDNS": "0"}
    if native := find_library():
        environment["SCTOOL_NATIVE"] = str(native.parent)
    done = subprocess.run(
        wrap(root, kit, command), capture_output=True, text=True, timeout=280, env=environment, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    if done.returncode == FORBIDDEN:
        pytest.skip(f"no real adbd: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["abi"], found["exit"], found["left"]) == ("aarch64", 7, [])
    expected = EagerSession(load_run_model(read_run(made_run))).run(x)
    for name in ("model.onnx", "model.pte"):
        np.testing.assert_allclose(found[name]["answers"], expected, atol=1e-4)
        assert set(found[name]["line"]["affinity"]) == {"0"} and len(found[name]["line"]["samples_ns"]) == 3
