"""A Core ML package with sparse weights: a bitmask and the non-zeros, as Core ML stores them. Made on any system, run on
Apple's alone; what can be checked here is checked: that the package's weights are the model's."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sctool.errors import ExportError, NativeRuntimeMissing
from sctool.quiet import silence, silence_native

MIN_SIZE = 1024
SPARSE_FROM = 0.5
"""Share of zeros from which a tensor is stored sparse: below it, the mask costs more than it saves."""
_NAMESPACE = uuid.UUID("5c7001a0-0000-4000-8000-000000000000")


def export_core_ml(model: nn.Module, example: torch.Tensor, path: Path) -> int:
    """Write `path` (.mlpackage) for one record like `example` [2, ...], input "input", output "logits"; returns how many
    of its tensors are stored sparse.

    Raises NativeRuntimeMissing without coremltools, ExportError where it cannot convert the model or where the written
    weights are not the model's. Same model, same bytes.
    """
    with silence(), silence_native():
        try:
            import coremltools as ct
            from coremltools.optimize import coreml as compress
        except ImportError as error:
            raise NativeRuntimeMissing(
                f"coremltools is not installed: {error}.", hint="pip install 'sctool[ios]'"
            ) from error
        try:
            with torch.no_grad():
                traced: Any = torch.jit.trace(model.eval(), example[:1])  # type: ignore[no-untyped-call]
            converted = ct.convert(
                traced, inputs=[ct.TensorType(name="input", shape=tuple(example[:1].shape))],
                outputs=[ct.TensorType(name="logits")], minimum_deployment_target=ct.target.iOS16,
                compute_precision=ct.precision.FLOAT32, skip_model_load=True,
            )  # fmt: skip
            rule = compress.OpThresholdPrunerConfig(
                threshold=1e-30, minimum_sparsity_percentile=SPARSE_FROM, weight_threshold=MIN_SIZE
            )
            sparse = compress.prune_weights(converted, compress.OptimizationConfig(global_config=rule))
            _check_weights(compress.decompress_weights(sparse), model, compress)
            count = sum(
                operation.op_type == "constexpr_sparse_to_dense"
                for operation in sparse._mil_program.functions["main"].operations
            )
            with tempfile.TemporaryDirectory(prefix="sctool-coreml-") as folder:
                made = Path(folder) / "model.mlpackage"
                sparse.save(str(made))
                _fix_identifiers(made / "Manifest.json")
                shutil.copytree(made, path)
        except ExportError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ExportError(
                f"Cannot export to Core ML: {type(error).__name__}: {reason}.",
                hint="The other files of the bundle are whole; report it.",
            ) from error
    return int(count)


def _check_weights(package: Any, model: nn.Module, compress: Any) -> None:
    """ExportError where a large weight of the model is in the package in no form."""
    stored = [
        np.asarray(entry.val) for entry in compress.get_weights_metadata(package, weight_threshold=MIN_SIZE).values()
    ]
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if values.size < MIN_SIZE:
            continue
        forms = [values, values.T]
        if not any(array.size == values.size and any(np.array_equal(array.reshape(form.shape), form) for form in forms)
                   for array in stored):  # fmt: skip
            raise ExportError(f"The Core ML package does not hold {name} as it is.", hint="Report it.")


def _fix_identifiers(manifest: Path) -> None:
    """Identifiers from what they name, in place of random ones."""
    record = json.loads(manifest.read_text(encoding="utf-8"))
    renamed = {
        key: str(uuid.uuid5(_NAMESPACE, entry["path"])).upper() for key, entry in record["itemInfoEntries"].items()
    }
    record["itemInfoEntries"] = {renamed[key]: entry for key, entry in record["itemInfoEntries"].items()}
    record["rootModelIdentifier"] = renamed[record["rootModelIdentifier"]]
    manifest.write_text(json.dumps(record, indent=4, sort_keys=True) + "\n", encoding="utf-8")
