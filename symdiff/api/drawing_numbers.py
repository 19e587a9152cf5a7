"""Values and gradients at every box of a drawing, as texts: numbers at a point.

Gradients come from one reverse sweep over a copy of the graph in which every use of a value is a value of its own. The
cotangent of a use is the downstream gradient of the operation that uses it; their sum is the upstream gradient of the
value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from symdiff.api.drawing_graph import Graph
from symdiff.api.numbers_text import array_text, diagonal_text, sum_text, wire_text
from symdiff.diff.reverse import reverse
from symdiff.errors import ArgumentError, DerivativeError
from symdiff.interp import bind_sizes, interpret
from symdiff.ir.builder import Handle
from symdiff.ir.contraction import identity
from symdiff.ir.dims import Shape, evaluate, product
from symdiff.ir.graph import Function, Value
from symdiff.ir.op import Op, Partials
from symdiff.ir.types import TensorType
from symdiff.render.drawing import Grouping, shape_text

LARGEST = 1 << 18  # entries of a local or upstream Jacobian that is still worth computing for a picture


@dataclass(slots=True)
class Shown:
    """Texts to show: forward values, upstream gradients, and by (node, place of operand) local and downstream ones, the
    latter short for the wire and longer for the table."""

    values: dict[Value, str] = field(default_factory=dict)
    upstream: dict[Value, str] = field(default_factory=dict)
    local: dict[tuple[Value, int], str] = field(default_factory=dict)
    downstream: dict[tuple[Value, int], tuple[str, str]] = field(default_factory=dict)
    mark: str = ""  # put before the name of a value, the name of its upstream gradient in formulas


def numbers(
    graph: Graph,
    boxes: Grouping,
    at: Mapping[str, Any],
    sizes: Mapping[str, int],
    functions: Mapping[str, Callable[..., Any]] | None,
    digits: int,
) -> Shown:
    names = [p.name for p in graph.params]
    missing = [n for n in names if n not in at]
    if missing:
        raise ArgumentError(f"draw: at has no value for {', '.join(missing)}; given: {', '.join(at) or 'none'}")
    unknown = [n for n in at if n not in names]
    if unknown:
        raise ArgumentError(f"draw: at names {', '.join(unknown)}, expected only {', '.join(names) or 'none'}")
    arrays = [np.asarray(at[n]) for n in names]
    known = bind_sizes(graph.params, [a.shape for a in arrays], sizes)
    heads, single = graph.heads(boxes)
    sweep = Sweep(graph, known) if graph.variables else None
    wanted: dict[Any, Value] = {("value", v): v if sweep is None else sweep.copy[v] for v in heads}
    if sweep is not None:
        wanted.update(sweep.wanted(heads, single))
    function = Function.of(graph.params, list(wanted.values()), "draw")
    found = dict(zip(wanted, interpret(function, arrays, known, functions), strict=True))
    shown = Shown()
    for key, array in found.items():
        match key:
            case ("value", v):
                shown.values[v] = array_text(array, digits)
            case ("upstream", v):
                shown.upstream[v] = array_text(array, digits)
            case ("local", v, i):
                shown.local[v, i] = (diagonal_text if v.op.elementwise else array_text)(array, digits)
            case ("downstream", v, i):
                shown.downstream[v, i] = (wire_text(array, digits), array_text(array, digits))
            case _:
                raise AssertionError(key)
    if sweep is not None:
        _sum_forks(graph, found, shown, digits)
        sweep.fill_shapes(heads, single, shown)
    return shown


def _sum_forks(graph: Graph, found: Mapping[Any, Any], shown: Shown, digits: int) -> None:
    """Where a scalar is used several times, show what its upstream gradient is the sum of: 5 = 2 + 3."""
    parts: dict[Value, list[Any]] = {}
    uses: dict[Value, int] = {}
    for v in graph.drawn:
        for i, a in graph.uses(v):
            uses[a] = uses.get(a, 0) + 1
            if ("downstream", v, i) in found:
                parts.setdefault(a, []).append(found["downstream", v, i])
    for a, terms in parts.items():
        if 1 < len(terms) <= 3 and len(terms) == uses[a] and a in shown.upstream and not np.ndim(terms[0]):
            shown.upstream[a] += " = " + sum_text(terms, digits)


# -------------------------------------------------------------------- gradients
def _same(types: Sequence[TensorType], attrs: dict[str, Any]) -> TensorType:
    return TensorType(types[0].dtype, types[0].shape)


# A use of a value: the value itself, but with a cotangent of its own. It lives only in the graphs of this module.
_USE = Op("use", _same, lambda x: x, Partials(lambda y, x: (1,)), elementwise=True, arity=1)


class Sweep:
    """A copy of the graph in which the uses between the variables and the result are values; its cotangents."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int] | None) -> None:
        """sizes: of all dimensions, to leave out what is too large; None for formulas, where nothing is."""
        self.graph, self.sizes = graph, sizes
        self.y = graph.results[0]
        if not self.y.type.floating:
            raise DerivativeError(f"draw: the function has dtype {self.y.type.dtype}: only floats have derivatives")
        for x in graph.variables:
            if not x.type.floating:
                raise DerivativeError(f"draw: {graph.names[x]} has dtype {x.type.dtype}: only floats have derivatives")
        self.active = set(graph.variables)
        self.copy: dict[Value, Value] = {}
        self.use: dict[tuple[Value, int], Value] = {}
        for value in graph.order:
            moving = value.type.floating and any(a in self.active for a in value.args)
            if moving:
                self.active.add(value)
            args: list[Value] = []
            for i, a in enumerate(value.args):
                if moving and a in self.active:
                    # Not through the builder, which would make equal uses one value again.
                    self.use[value, i] = Value(_USE, (self.copy[a],), (), TensorType(a.type.dtype, a.shape))
                    args.append(self.use[value, i])
                else:
                    args.append(self.copy[a])
            changed = any(a is not b for a, b in zip(args, value.args, strict=True))
            self.copy[value] = Value(value.op, tuple(args), value.attrs, value.type) if changed else value
        if self.y not in self.active:
            raise DerivativeError("draw: the function does not depend on the variables through floats")

    def affordable(self, shape: Shape) -> bool:
        return self.sizes is None or product(evaluate(s, self.sizes) for s in shape) <= LARGEST

    def is_use(self, value: Value) -> bool:
        return value.op is _USE

    def wanted(self, heads: Sequence[Value], single: set[Value]) -> dict[Any, Value]:
        """The derivatives to compute for boxes with the given last values; `single` boxes hold one operation."""
        rank = self.y.shape
        keys: dict[Any, Value] = {
            ("upstream", v): self.copy[v] for v in heads if v in self.active and self.affordable(rank + v.shape)
        }
        for (v, i), use in self.use.items():
            if v in single and self.affordable(rank + use.shape):
                keys["downstream", v, i] = use
        seed = Handle(self.graph.builder, identity(self.graph.builder, rank, self.y.type.dtype))
        cotangents = reverse(self.graph.builder, [(self.copy[self.y], seed)], list(keys.values()))
        found = {key: self._or_zero(c, rank + keys[key].shape) for key, c in zip(keys, cotangents, strict=True)}
        found.update({("local", *key): value for key, value in self.locals(single).items()})
        return found

    def locals(self, single: set[Value]) -> dict[tuple[Value, int], Value]:
        """The local Jacobians of the operations in `single`; of elementwise ones only the diagonal."""
        return {
            (v, i): self._local(v, use)
            for (v, i), use in self.use.items()
            if v in single and self.affordable(self._local_shape(v, use))
        }

    def _local_shape(self, v: Value, use: Value) -> Shape:
        return v.shape if v.op.elementwise else v.shape + use.shape

    def _local(self, v: Value, use: Value) -> Value:
        builder = self.graph.builder
        ones = builder.const(1, v.shape, v.type.dtype)
        seed = ones if v.op.elementwise else identity(builder, v.shape, v.type.dtype)
        (cotangent,) = reverse(builder, [(self.copy[v], Handle(builder, seed))], [use])
        return self._or_zero(cotangent, self._local_shape(v, use))

    def _or_zero(self, cotangent: Handle | None, shape: Shape) -> Value:
        return self.graph.builder.const(0, shape, self.y.type.dtype) if cotangent is None else cotangent.value

    def fill_shapes(self, heads: Sequence[Value], single: set[Value], shown: Shown) -> None:
        """What was too large to compute is shown by its shape."""
        for v in heads:
            if v in self.active:
                shown.upstream.setdefault(v, self._numbered(self.y.shape + v.shape))
        for (v, i), use in self.use.items():
            if v in single:
                shown.local.setdefault((v, i), self._numbered(self._local_shape(v, use)))
                text = self._numbered(self.y.shape + use.shape)
                shown.downstream.setdefault((v, i), (text, text))

    def _numbered(self, shape: Shape) -> str:
        return shape_text([evaluate(s, self.sizes or {}) for s in shape]) + " not computed"
