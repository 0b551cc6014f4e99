"""From a delegated part of an edge program to the sparse runtime's graph: operators matched, tails fused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from sctool.export.sparse.forms import find_forms
from sctool.export.sparse.graph import Activation, Graph, Kind, Operator, Storage, ValueKind, Window
from sctool.export.sparse.int8 import computes_int8
from sctool.export.sparse.nodes import (
    activation_of,
    convolution_window,
    factors_of,
    flattens,
    name_of,
    pool_window,
    record_shape,
    turns_line,
    unary_of,
)

DENSE_FROM = 0.95
"""The density from which positions cost more than the zeros that they leave out."""
Constant = Callable[[fx.Node], torch.Tensor | None]


def _storage(matrix: np.ndarray[Any, np.dtype[np.float32]], *, run_sparse: bool) -> Storage:
    """A matrix that runs dense is stored sparse all the same where that is smaller."""
    if run_sparse:
        return Storage.SPARSE
    return Storage.SPARSE_RUN_DENSE if np.count_nonzero(matrix) < DENSE_FROM * matrix.size else Storage.DENSE


def _arithmetic(values: ValueKind, matrix: np.ndarray[Any, np.dtype[np.float32]], last: fx.Node) -> ValueKind:
    """QUANTISED where the layer that makes `last` is one for it; else int8 is stored alone."""
    elements = math.prod(record_shape(last) or (1,))
    if values is ValueKind.QUANTISED and not computes_int8(
        int(np.count_nonzero(matrix)), len(matrix), elements // len(matrix)
    ):
        return ValueKind.INT8
    return values


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
        self._forms = find_forms(nodes)

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
            raise ValueError(f"{node.name} is not float32 [B, F], [B, C, L], [B, T, F] or [B, C, H, W]")
        self._ids[node] = self._graph.add_value(shape, tokens=node in self._forms.tokens)
        return self._ids[node]

    def _emit(self, node: fx.Node) -> None:
        name = name_of(node)
        if name == "aten.convolution.default":
            self._weighted(node, Kind.CONVOLUTION)
        elif name == "aten.linear.default":  # of tokens: a convolution over a line of them
            self._weighted(node, Kind.CONVOLUTION if node in self._forms.tokens else Kind.LINEAR)
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
        elif (function := unary_of(node)) is not None:
            self._append(Operator(Kind.UNARY, self._inputs(node), self._make(node), function=function))
        elif (factors := factors_of(node)) is not None:
            inputs = (self._ids[factors[0]], self._ids[factors[1]])
            self._append(Operator(Kind.MULTIPLY, inputs, self._make(node)))
        elif name == "aten.native_layer_norm.default":
            self._layer_norm(node)
        elif turns_line(node):
            self._ids[node] = self._inputs(node)[0]
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
        slides = name_of(node) == "aten.convolution.default"
        window = convolution_window(node) if slides else Window(1, 1)
        self._append(
            Operator(
                kind, (self._ids[source],), self._make(last), activation,  # type: ignore[index]
                window=window if kind is Kind.CONVOLUTION else None,
                groups=int(node.args[8]) if slides else 1,  # type: ignore[arg-type]
                residual=residual, weights=matrix.reshape(len(matrix), -1), bias=shift,
                storage=_storage(matrix, run_sparse=self._sparse(node)), values=_arithmetic(self._values, matrix, last),
            )
        )  # fmt: skip

    def _layer_norm(self, node: fx.Node) -> None:
        source, _, scale, shift, epsilon = node.args
        values = next(iter(node.users))  # getitem 0; the partitioner takes no norm whose other results are used
        self._fused.add(values)
        width = (record_shape(values) or (0,))[-1]
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        self._append(
            Operator(
                Kind.LAYER_NORM, (self._ids[source],), self._make(values), epsilon=float(epsilon),  # type: ignore[index, arg-type]
                weights=(ones if scale is None else self._array(scale)).reshape(1, -1),  # type: ignore[union-attr]
                bias=zeros if shift is None else self._array(shift),
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
