"""Tables as a terminal of 80 characters shows them."""

from __future__ import annotations

import pytest

from sctool.cli.render import NARROW, _head_column

EMULATED = "model.onnx (on qemu-aarch64 cortex-a76)"


@pytest.mark.parametrize(
    "name", ["dense (eager)", "model.pte (ExecuTorch)", EMULATED, "model.onnx (on HT7A1Z0123456789ABC)"]
)
def test_five_models_have_narrow_names(name: str) -> None:
    assert max(map(len, _head_column(name, narrow=True).splitlines())) <= NARROW


def test_the_device_is_named_in_full_either_way() -> None:
    assert _head_column(EMULATED, narrow=False) == "model.onnx\n(on qemu-aarch64 cortex-a76)"
    assert "".join(_head_column(EMULATED, narrow=True).split()) == "model.onnxonqemu-aarch64cortex-a76"
