"""What each kind of file does with sparsity, and the rule that decides it: said in the manifest and by `sctool inspect`.

A new runtime or delegate is one line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StorageRule:
    """`because`: why, naming the code that decides."""

    name: str
    stores: Literal["sparse", "dense", "unknown"]
    computes: Literal["sparse", "dense", "unknown"]
    because: str

    def __str__(self) -> str:
        return f"stored {self.stores}, computed {self.computes} because {self.because} (rule {self.name})"


ORT_FOLDS = StorageRule(
    "ort-constant-folding", "sparse", "dense",
    "ONNX Runtime folds the decoding nodes into dense initialisers when it makes the session (its ConstantFolding pass), "
    "and its kernels take dense weights",
)  # fmt: skip
ORT_UNFOLDED = StorageRule(
    "ort-folding-limit", "sparse", "dense",
    "ONNX Runtime folds no output over 1 GiB (optimization.constant_folding_max_output_size_in_bytes): these weights are "
    "decoded at every call",
)  # fmt: skip
ORT_SPARSE_INITIALISER = StorageRule(
    "ort-sparse-initialiser", "sparse", "dense",
    "ONNX Runtime turns a sparse_initializer into a dense tensor when it reads the model",
)  # fmt: skip
ORT_QUANTISED = StorageRule(
    "ort-quantised-dense", "dense", "dense",
    "its 8-bit numbers are stored whole, zeros and all, and DequantizeLinear stays in the graph for the quantised kernels, "
    "which are dense",
)  # fmt: skip
ORT_DENSE = StorageRule("ort-dense", "dense", "dense", "its initialisers are dense tensors, zeros and all")
XNNPACK = StorageRule(
    "xnnpack-dense-constants", "dense", "dense",
    "XNNPACK's serialiser writes constants whole, and its delegate never asks for sparse inference (XNNCompiler.cpp sets "
    "no XNN_FLAG_HINT_SPARSE_INFERENCE)",
)  # fmt: skip
PACKAGE = StorageRule(
    "package-unpacked-at-load", "sparse", "dense",
    "the sparse package is decoded when it is loaded: XNNPACK itself packs dense constants and never asks for sparse "
    "inference",
)  # fmt: skip
PORTABLE = StorageRule(
    "executorch-portable-dense", "dense", "dense", "ExecuTorch's portable kernels read dense tensors"
)  # fmt: skip
SPARSE_BACKEND = StorageRule(
    "sctool-sparse-backend", "sparse", "sparse",
    "the backend SctoolSparse takes the layers where its cost table says that zeros save time; XNNPACK takes the rest",
)  # fmt: skip
ORT_SPARSE_OPERATOR = StorageRule(
    "ort-sparse-operator", "sparse", "sparse",
    "nodes ai.sctool::SparseProgram hold the layers where zeros save time, and run in our operator library; ONNX Runtime's "
    "own kernels take the rest",
)  # fmt: skip
BACKENDS: dict[str, StorageRule] = {"XnnpackBackend": XNNPACK, "SctoolSparse": SPARSE_BACKEND}
"""ExecuTorch backend id -> what it does."""


def rule_of_backend(backend: str) -> StorageRule:
    """The rule of an ExecuTorch backend; what no one here knows is said to be unknown."""
    unknown = StorageRule("unknown-backend", "unknown", "unknown", f"only {backend} knows its own payload")
    return BACKENDS.get(backend, unknown)
