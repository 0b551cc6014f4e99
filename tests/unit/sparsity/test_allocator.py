"""A process that trains keeps the memory that a step frees."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MEASURE = """
import resource, torch
from sctool.sparsity.allocator import keep_freed_memory
torch.set_num_threads(1)
assert keep_freed_memory()
def step():
    blocks = [torch.ones(2**20) for _ in range(24)]  # 4 MiB each: all of them are freed together
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_later_steps_find_their_memory_where_it_was() -> None:
    found = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    # 24 blocks of 1,024 pages, ten times; as the allocator is by itself, all of them in two runs of three.
    assert int(found) < 1000
