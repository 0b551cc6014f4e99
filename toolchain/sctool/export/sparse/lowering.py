"""From a delegated part of an edge program to the sparse runtime's graph: operators matched, tails fused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx
from torch._ops import OpOverload

from sctool.export.sparse.graph import Activation, Graph, Kind, Operator, Storage, ValueKind, Window

LIMITS = {"channels": 65534, "side": 16384, "kernel": 31, "stride": 8, "tile": 65535}
"""Of the runtime: what is larger stays with another backend."""
DENSE_FROM = 0.95
"""The density from which positions cost more than the zeros that they leave out."""
Constant = Callable[[fx.Node], torch.Tensor | None]


def name_of(node: fx.Node) -> str:
    """ "aten.convolution.default" for a call of that operator; "" for anything else."""
    if node.op != "call_function":
        return ""
    overload = node.target if isinstance(node.target, OpOverload) else getattr(node.target, "_op", node.target)
    return str(overload) if isinstance(overload, OpOverload) else str(getattr(overload, "__name__", overload))


def record_shape(node: fx.Node) -> tuple[int, ...] | None:
    """[B, C, H, W] -> (C, H, W), [B, F] -> (F,), with B the only dimension that may vary; None for other shapes."""
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        value = value[0]
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.ndim not in (2, 4):
        return None
    sizes = list(value.shape)[1:]
    return tuple(int(size) for size in sizes) if all(isinstance(size, int) for size in sizes) else None


def activation_of(node: fx.Node) -> Activation | None:
    """Which of the runtime's activations a node is, or None."""
    name = name_of(node)
    if name == "aten.relu.default":
        return Activation.RELU
    if name == "aten.hardtanh.default" and tuple(node.args[1:]) == (0, 6):
        return Activation.RELU6
    if name == "aten.clamp.default" and tuple(node.args[1:]) == (0, 6):
        return Activation.RELU6
    return Activation.HARD_SWISH if name == "aten.hardswish.default" else None


def convolution_window(node: fx.Node) -> Window | None:
    """The window of a convolution that the runtime takes, or None."""
    _, weight, _, strides, paddings, dilations, transposed, _, _ = node.args
    kernel = list(weight.meta["val"].shape)[2:]  # type: ignore[union-attr]
    stride, padding, dilation = (_pair(part) for part in (strides, paddings, dilations))
    if transposed or len(kernel) != 2 or stride[0] != stride[1] or dilation != (1, 1):
        return None
    return _window(kernel, stride[0], padding)


def pool_window(node: fx.Node) -> Window | None:
    """The window of a maximum or average pool that the runtime takes, or None."""
    arguments = list(node.args)
    kernel = _pair(arguments[1])
    stride = _pair(arguments[2]) if len(arguments) > 2 and arguments[2] else kernel
    padding = _pair(arguments[3]) if len(arguments) > 3 else (0, 0)
    average = name_of(node) == "aten.avg_pool2d.default"
    rest = arguments[4:]
    if average:
        ceil = bool(rest[0]) if rest else False
        counts_padding = bool(rest[1]) if len(rest) > 1 else True
        if (not counts_padding and padding != (0, 0)) or (len(rest) > 2 and rest[2] is not None):
            return None
    else:
        if rest and _pair(rest[0]) != (1, 1):
            return None
        ceil = bool(rest[1]) if len(rest) > 1 else False
    return None if ceil or stride[0] != stride[1] else _window(list(kernel), stride[0], padding)


def _pair(value: Any) -> tuple[int, int]:
    sides = [value, value] if isinstance(value, int) else list(value)
    return (int(sides[0]), int(sides[-1]))


def _window(kernel: list[int], stride: int, padding: tuple[int, int]) -> Window | None:
    height, width = int(kernel[0]), int(kernel[1])
    if max(height, width) > LIMITS["kernel"] or stride > LIMITS["stride"]:
        return None
    if padding[0] >= height or padding[1] >= width:
        return None
    return Window(height, width, stride, padding[0], padding[1], padding[0], padding[1])


def flattens(node: fx.Node) -> bool:
    """Whether a view makes [B, C, H, W] into [B, C * H * W]."""
    if name_of(node) not in ("aten.view_copy.default", "aten.view.default"):
        return False
    before, after = record_shape(node.all_input_nodes[0]), record_shape(node)
    return before is not None and after is not None and len(before) == 3 and len(after) == 1 and (
        int(np.prod(before)) == after[0]
    )  # fmt: skip


def _storage(matrix: np.ndarray[Any, np.dtype[np.float32]], *, run_sparse: bool) -> Storage:
    """A matrix that runs dense is stored sparse all the same where that is smaller."""
    if run_sparse:
        return Storage.SPARSE
    return Storage.SPARSE_RUN_DENSE if np.count_nonzero(matrix) < DENSE_FROM * matrix.size else Storage.DENSE


def lower(nodes: fx.Graph, constant: Constant, max_batch: int, sparse: Callable[[fx.Node], bool],
          values: ValueKind = ValueKind.FLOAT32) -> Graph:  # fmt: skip
    """The graph of a delegated program; `constant` gives a parameter's tensor and None for what is none.

    `sparse` says of a convolution or linear node whether its zeros are left out. ValueError names an operator that is
    not the runtime's: the partitioner tags none such.
    """
    return _Lowering(nodes, constant, max_batch, sparse, values).run()


class _Lowering:
    def __init__(
        self, nodes: fx.Graph, constant: Constant, max_batch: int, sparse: Callable[[fx.Node], bool], values: ValueKind
    ) -> None:
        self._nodes, self._constant, self._sparse, self._values = nodes, constant, sparse, values
        self._graph = Graph(max_batch)
        self._ids: dict[fx.Node, int] = {}
        self._fused: set[fx.Node] = set()

    def run(self) -> Graph:
        for node in self._nodes.nodes:
            if node.op == "placeholder":
                if self._constant(node) is None:
                    self._graph.inputs.append(self._make(node))
            elif node.op == "output":
                for result in node.args[0]:
                    self._graph.outputs.append(self._ids[result])
            elif node.op == "call_function" and node not in self._fused:
                self._emit(node)
        return self._graph

    def _make(self, node: fx.Node) -> int:
        shape = record_shape(node)
        if shape is None:
            raise ValueError(f"{node.name} is not float32 [B, F] or [B, C, H, W]")
        self._ids[node] = self._graph.add_value(shape)
        return self._ids[node]

    def _emit(self, node: fx.Node) -> None:
        name = name_of(node)
        if name == "aten.convolution.default":
            self._weighted(node, Kind.CONVOLUTION)
        elif name == "aten.linear.default":
            self._weighted(node, Kind.LINEAR)
        elif name == "aten.add.Tensor":
            self._with_activation(node, Kind.ADD)
        elif activation_of(node) is not None:
            kind = activation_of(node) or Activation.NONE
            self._append(Operator(Kind.ACTIVATION, self._inputs(node), self._make(node), kind))
        elif name == "aten.max_pool2d_with_indices.default":
            values = next(iter(node.users))  # getitem 0; the partitioner takes no pool whose indices are used
            self._fused.add(values)
            self._append(Operator(Kind.MAX_POOL, self._inputs(node), self._make(values), window=pool_window(node)))
        elif name == "aten.avg_pool2d.default":
            self._append(Operator(Kind.AVERAGE_POOL, self._inputs(node), self._make(node), window=pool_window(node)))
        elif name == "aten.mean.dim":
            self._append(Operator(Kind.GLOBAL_MEAN, self._inputs(node), self._make(node)))
        elif name == "aten.cat.default":
            inputs = tuple(self._ids[part] for part in node.args[0])  # type: ignore[union-attr, index]
            self._append(Operator(Kind.CONCAT, inputs, self._make(node)))
        elif flattens(node):
            self._append(Operator(Kind.FLATTEN, self._inputs(node), self._make(node)))
        else:
            raise ValueError(f"{node.name}: {name} is no operator of the sparse runtime")

    def _append(self, operator: Operator) -> None:
        self._graph.operators.append(operator)

    def _inputs(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self._ids[part] for part in node.all_input_nodes if part in self._ids)

    def _with_activation(self, node: fx.Node, kind: Kind) -> None:
        inputs = tuple(self._ids[part] for part in node.args[:2])  # type: ignore[index]
        last, activation = self._tail(node)
        self._append(Operator(kind, inputs, self._make(last), activation))

    def _tail(self, node: fx.Node) -> tuple[fx.Node, Activation]:
        """(the node whose value is made, activation): the activation that alone uses `node` is fused."""
        users = list(node.users)
        if len(users) == 1 and (activation := activation_of(users[0])) is not None:
            self._fused.add(users[0])
            return users[0], activation
        return node, Activation.NONE

    def _weighted(self, node: fx.Node, kind: Kind) -> None:
        source, weight, bias = [*node.args, None][:3]
        matrix, shift = self._array(weight), self._array(bias) if bias is not None else None
        if matrix is None:
            raise ValueError(f"{node.name} has weights that are no constant")
        last, residual = node, None
        if kind is Kind.CONVOLUTION:
            last, residual = self._residual(node)
        last, activation = self._tail(last)
        self._append(
            Operator(
                kind, (self._ids[source],), self._make(last), activation,  # type: ignore[index]
                window=convolution_window(node) if kind is Kind.CONVOLUTION else None,
                groups=int(node.args[8]) if kind is Kind.CONVOLUTION else 1,  # type: ignore[arg-type]
                residual=residual, weights=matrix.reshape(len(matrix), -1), bias=shift,
                storage=_storage(matrix, run_sparse=self._sparse(node)), values=self._values,
            )
        )  # fmt: skip

    def _array(self, node: Any) -> np.ndarray[Any, np.dtype[np.float32]] | None:
        tensor = self._constant(node)
        return None if tensor is None else tensor.detach().cpu().numpy().astype(np.float32)

    def _residual(self, node: fx.Node) -> tuple[fx.Node, int | None]:
        """(the addition that alone uses `node`, the value that it adds) where that value is there already."""
        users = list(node.users)
        if len(users) != 1 or name_of(users[0]) != "aten.add.Tensor" or users[0] in self._fused:
            return node, None
        others = [part for part in users[0].args[:2] if part is not node]
        if len(others) != 1 or not isinstance(other := others[0], fx.Node) or other not in self._ids:
            return node, None
        if record_shape(other) != record_shape(node):
            return node, None
        self._fused.add(users[0])
        return users[0], self._ids[other]
