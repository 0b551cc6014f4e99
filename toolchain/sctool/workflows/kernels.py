"""Which of the sparse runtime's cost tables stands for a device target."""

from __future__ import annotations

from sctool.domain.target import Target
from sctool.native.library import host_isa

_ISAS = {"arm64-v8a": "neon", "arm64": "neon", "aarch64": "neon", "x86_64": "avx2"}


def target_isa(target: Target) -> str:
    """The instruction set of the target's table; that of this machine where the target does not say."""
    return _ISAS.get(target.abi) or host_isa()
