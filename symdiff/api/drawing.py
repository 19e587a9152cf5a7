"""`sd.draw`: the computational graph of an expression with shapes, forward values, and gradients on the same picture.

Composes: names and boxes from the IR, numbers by the reference interpreter, gradients by one reverse sweep over a copy
of the graph in which every use of a value is a value of its own. The cotangent of a use is the downstream gradient of
the operation that uses it; their sum is the upstream gradient of the value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from symdiff.api.numbers_text import array_text, diagonal_text, sum_text
from symdiff.diff.reverse import reverse
from symdiff.errors import ArgumentError, DerivativeError
from symdiff.frontend.expr import Expr
from symdiff.interp import bind_sizes, interpret
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import identity
from symdiff.ir.dims import Shape, Size, evaluate, size_names
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.op import Op, Partials
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.render.drawing import (
    Drawing,
    Edge,
    Grouping,
    Node,
    Picture,
    Row,
    formula,
    group,
    intuition,
    plain_constant,
    shape_text,
)
from symdiff.render.drawing.model import Kind

LIMIT = 60  # boxes of a picture that is still legible
LARGEST = 1 << 18  # entries of a local or upstream Jacobian that is still worth computing for a picture
_FOLDED = 16  # characters of a constant subexpression that goes into the label of its user


def draw(
    f: Any,
    wrt: Any = None,
    at: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    limit: int = LIMIT,
    digits: int = 4,
) -> Drawing:
    """Draw the computational graph of `f`.

    f: an expression, or a list or a dict (name -> expression) of them. wrt: a variable of f, or a list of them: with
    `at`, every node between them and f gets its upstream gradient, its local derivatives, and what it sends downstream
    (on the wires). at: arrays by symbol name, for forward values. sizes: numbers of named dimensions, shown instead of
    the names. functions: for undefined functions, as in `evaluate`. limit: boxes in the picture; larger graphs are
    grouped. digits: of every number.

    Raises ArgumentError when a name in `at` is missing or unknown, when a variable is not in f, or when `wrt` is given
    for several results at once; DerivativeError when f has no derivative.
    """
    graph = _Graph(*_results(f), wrt)
    if wrt is not None and len(graph.results) != 1:
        raise ArgumentError(f"draw: wrt with {len(graph.results)} results, expected one; draw them one by one")
    boxes = group([graph.kinds[v] for v in graph.drawn], graph.wires(), limit)
    shown = _Shown()
    if at is not None:
        shown = _numbers(graph, boxes, at, sizes or {}, functions, digits)
    return Drawing(_picture(graph, boxes, shown, sizes or {}))


def _results(f: Any) -> tuple[list[Value], list[str]]:
    """The results and their names, "" for those that have none."""
    named = f if isinstance(f, Mapping) else {}
    items = list(named.values()) if named else list(f) if isinstance(f, (list, tuple)) else [f]
    for item in items:
        if not isinstance(item, Expr):
            raise ArgumentError(f"draw: given {item!r} of type {type(item).__name__}, expected a symbolic expression")
    if not items:
        raise ArgumentError("draw: no expression given, expected at least one")
    return [item.value for item in items], [str(name) for name in named] if named else [""] * len(items)


# -------------------------------------------------------------------- the graph and its names
class _Graph:
    """What is drawn: values with names, kinds and formulas; constants are part of the formulas of their users."""

    def __init__(self, results: Sequence[Value], names: Sequence[str], wrt: Any) -> None:
        chosen = list(wrt) if isinstance(wrt, (list, tuple)) else [] if wrt is None else [wrt]
        for x in chosen:
            if not isinstance(x, Expr):
                raise ArgumentError(f"draw: wrt holds {x!r} of type {type(x).__name__}, expected symbolic expressions")
        self.builder = Builder(OPSET)
        mapping = self.builder.absorb([*results, *[x.value for x in chosen]])
        self.results = list(dict.fromkeys(mapping[r] for r in results))
        self.variables = [mapping[x.value] for x in chosen]
        self.order = topological(self.results)
        self.folded = _folded(self.order, self.results)
        self.drawn = [v for v in self.order if v not in self.folded]
        inside = set(self.drawn)
        for x, value in zip(chosen, self.variables, strict=True):
            if value not in inside:
                what = f"{value.name}" if value.is_param else f"{x!r}"
                raise ArgumentError(f"draw: {what} does not occur in the function, expected a variable of it")
        self.params = [v for v in self.order if v.is_param]
        given: dict[Value, str] = {}
        for r, name in zip(results, names, strict=True):
            given.setdefault(mapping[r], name)
        self.names = _names(self.drawn, given, [p.name for p in self.params])
        self.kinds: dict[Value, Kind] = {
            v: "input" if v.is_param else "result" if v in given else "operation" for v in self.drawn
        }
        self.index = {v: i for i, v in enumerate(self.drawn)}

    def uses(self, value: Value) -> list[tuple[int, Value]]:
        """The operands that are drawn, with their places."""
        return [(i, a) for i, a in enumerate(value.args) if a in self.index]

    def wires(self) -> list[tuple[int, int]]:
        return [(self.index[a], self.index[v]) for v in self.drawn for _, a in self.uses(v)]

    def formula(self, value: Value) -> str:
        return formula(value, [self.names.get(a) or self.folded[a] for a in value.args])


def _folded(order: Sequence[Value], results: Sequence[Value]) -> dict[Value, str]:
    """Constants, and short expressions of constants, by their text."""
    folded: dict[Value, str] = {}
    kept = set(results)
    for value in order:
        if value in kept or value.is_param:
            continue
        text = plain_constant(value) if not value.args else None
        if value.args and all(a in folded for a in value.args):
            text = formula(value, [folded[a] for a in value.args])
            text = text if len(text) <= _FOLDED else None
        if text is not None:
            folded[value] = text
    return folded


def _names(drawn: Sequence[Value], results: Mapping[Value, str], symbols: Sequence[str]) -> dict[Value, str]:
    """Symbols by their own names, results f or f1, f2, ..., what lies between z1, z2, ...; all names different."""
    taken = {*symbols, *filter(None, results.values())}
    nameless = [r for r, name in results.items() if not name and not r.is_param]
    stem = _free_stem(("f", "g", "y", "out"), taken)
    letter = _free_stem(("z", "v", "t", "s", "node"), {*taken, stem})
    names: dict[Value, str] = {}
    for number, r in enumerate(nameless, 1):
        names[r] = stem if len(nameless) == 1 else f"{stem}{number}"
    count = itertools.count(1)
    for value in drawn:
        if value.is_param:
            names[value] = value.name
        elif value not in names:
            names[value] = results.get(value) or f"{letter}{next(count)}"
    return names


def _free_stem(stems: Sequence[str], taken: Iterable[str]) -> str:
    """The first stem that begins no name in use; underscores help when all do."""
    used = list(taken)
    endless = (stem + "_" * k for k in itertools.count() for stem in stems)
    return next(s for s in endless if not any(n == s or n.removeprefix(s).isdigit() for n in used))


# -------------------------------------------------------------------- numbers
@dataclass(slots=True)
class _Shown:
    """Texts to show: forward values, upstream gradients, and by (node, place of operand) local and downstream ones."""

    values: dict[Value, str] = field(default_factory=dict)
    upstream: dict[Value, str] = field(default_factory=dict)
    local: dict[tuple[Value, int], str] = field(default_factory=dict)
    downstream: dict[tuple[Value, int], str] = field(default_factory=dict)


def _numbers(
    graph: _Graph,
    boxes: Grouping,
    at: Mapping[str, Any],
    sizes: Mapping[str, int],
    functions: Mapping[str, Callable[..., Any]] | None,
    digits: int,
) -> _Shown:
    names = [p.name for p in graph.params]
    missing = [n for n in names if n not in at]
    if missing:
        raise ArgumentError(f"draw: at has no value for {', '.join(missing)}; given: {', '.join(at) or 'none'}")
    unknown = [n for n in at if n not in names]
    if unknown:
        raise ArgumentError(f"draw: at names {', '.join(unknown)}, expected only {', '.join(names) or 'none'}")
    arrays = [np.asarray(at[n]) for n in names]
    known = bind_sizes(graph.params, [a.shape for a in arrays], sizes)
    # The last value of a box is the one it hands on.
    heads = [graph.drawn[members[-1]] for members in boxes.groups]
    single = {graph.drawn[members[0]] for members in boxes.groups if len(members) == 1}
    sweep = _Sweep(graph, known) if graph.variables else None
    wanted: dict[Any, Value] = {("value", v): v if sweep is None else sweep.copy[v] for v in heads}
    if sweep is not None:
        wanted.update(sweep.wanted(heads, single))
    function = Function.of(graph.params, list(wanted.values()), "draw")
    found = dict(zip(wanted, interpret(function, arrays, known, functions), strict=True))
    shown = _Shown()
    for key, array in found.items():
        match key:
            case ("value", v):
                shown.values[v] = array_text(array, digits)
            case ("upstream", v):
                shown.upstream[v] = array_text(array, digits)
            case ("local", v, i):
                shown.local[v, i] = (diagonal_text if v.op.elementwise else array_text)(array, digits)
            case ("downstream", v, i):
                shown.downstream[v, i] = array_text(array, digits)
            case _:
                raise AssertionError(key)
    if sweep is not None:
        _sum_forks(graph, found, shown, digits)
        sweep.fill_shapes(heads, single, shown)
    return shown


def _sum_forks(graph: _Graph, found: Mapping[Any, Any], shown: _Shown, digits: int) -> None:
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


class _Sweep:
    """A copy of the graph in which the uses between the variables and the result are values; its cotangents."""

    def __init__(self, graph: _Graph, sizes: Mapping[str, int]) -> None:
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
        return entries(shape, self.sizes) <= LARGEST

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
        for (v, i), use in self.use.items():
            if v in single and self.affordable(self._local_shape(v, use)):
                found["local", v, i] = self._local(v, use)
        return found

    def _local_shape(self, v: Value, use: Value) -> Shape:
        return v.shape if v.op.elementwise else v.shape + use.shape

    def _local(self, v: Value, use: Value) -> Value:
        """The Jacobian of one operation in one operand; of an elementwise one only the diagonal."""
        builder = self.graph.builder
        ones = builder.const(1, v.shape, v.type.dtype)
        seed = ones if v.op.elementwise else identity(builder, v.shape, v.type.dtype)
        (cotangent,) = reverse(builder, [(self.copy[v], Handle(builder, seed))], [use])
        return self._or_zero(cotangent, self._local_shape(v, use))

    def _or_zero(self, cotangent: Handle | None, shape: Shape) -> Value:
        return self.graph.builder.const(0, shape, self.y.type.dtype) if cotangent is None else cotangent.value

    def fill_shapes(self, heads: Sequence[Value], single: set[Value], shown: _Shown) -> None:
        """What was too large to compute is shown by its shape."""
        for v in heads:
            if v in self.active:
                shown.upstream.setdefault(v, self._numbered(self.y.shape + v.shape))
        for (v, i), use in self.use.items():
            if v in single:
                shown.local.setdefault((v, i), self._numbered(self._local_shape(v, use)))
                shown.downstream.setdefault((v, i), self._numbered(self.y.shape + use.shape))

    def _numbered(self, shape: Shape) -> str:
        return shape_text([evaluate(s, self.sizes) for s in shape]) + " not computed"


def entries(shape: Shape, sizes: Mapping[str, int]) -> int:
    """How many numbers an array of this shape holds."""
    total = 1
    for size in shape:
        total *= evaluate(size, sizes)
    return total


# -------------------------------------------------------------------- the picture
def _picture(graph: _Graph, boxes: Grouping, shown: _Shown, sizes: Mapping[str, int]) -> Picture:
    nodes: list[Node] = []
    for members in boxes.groups:
        value = graph.drawn[members[-1]]
        if len(members) == 1:
            nodes.append(_node(graph, value, shown, sizes))
        else:
            nodes.append(_group_node(graph, [graph.drawn[i] for i in members], shown, sizes))
    title = "computational graph of " + ", ".join(graph.names[r] for r in graph.results)
    return Picture(tuple(nodes), tuple(_edges(graph, boxes, shown, sizes)), title)


def _shape(value: Value, sizes: Mapping[str, int]) -> str:
    def number(size: Size) -> Size:
        return evaluate(size, sizes) if set(size_names([size])) <= set(sizes) else size

    return shape_text([number(s) for s in value.shape], value.type.dtype)


def _rows(graph: _Graph, value: Value, shown: _Shown) -> list[Row]:
    rows: list[Row] = []
    if value in shown.values:
        rows.append(Row("value", "value", shown.values[value]))
    if value in shown.upstream:
        rows.append(Row("upstream", "gradient" if value.is_param else "upstream", shown.upstream[value]))
    return rows


def _node(graph: _Graph, value: Value, shown: _Shown, sizes: Mapping[str, int]) -> Node:
    rows = _rows(graph, value, shown)
    name = graph.names[value]
    for i, a in graph.uses(value):
        if (value, i) in shown.local:
            rows.append(Row("local", f"∂{name}/∂{graph.names[a]}", shown.local[value, i]))
    moving = [a in graph.index for a in value.args]
    text = "" if value.is_param else graph.formula(value)
    note = intuition(value, moving) if graph.variables else ""
    return Node(name, graph.kinds[value], text, _shape(value, sizes), note, tuple(rows))


def _group_node(graph: _Graph, members: Sequence[Value], shown: _Shown, sizes: Mapping[str, int]) -> Node:
    """A box for several nodes; with one value to hand on (a chain) it shows that value."""
    first, last = members[0], members[-1]
    names = f"{graph.names[first]}..{graph.names[last]}"
    kind = graph.kinds[last]
    if kind != "operation" or graph.kinds[first] != "operation":
        word = {"input": "inputs", "result": "results", "operation": "operations"}.get(kind, "nodes")
        return Node(names, "group", f"{len(members)} {word}", note=names)
    counts: dict[str, int] = {}
    for v in members:
        counts[v.op.name] = counts.get(v.op.name, 0) + 1
    common = sorted(counts, key=lambda name: (-counts[name], name))
    listed = ", ".join(f"{counts[n]} {n}" if counts[n] > 1 else n for n in common[:3])
    listed += ", …" if len(common) > 3 else ""
    inside = set(members)
    handed = {a for v in graph.drawn if v not in inside for a in v.args if a in inside}
    rows = _rows(graph, last, shown) if handed == {last} else []
    return Node(names, "group", f"{len(members)} operations", _shape(last, sizes) if rows else "", listed, tuple(rows))


def _edges(graph: _Graph, boxes: Grouping, shown: _Shown, sizes: Mapping[str, int]) -> list[Edge]:
    """One wire per operand; into a box of several operations one per box it comes from."""
    single = {k for k, members in enumerate(boxes.groups) if len(members) == 1}
    bundles: dict[tuple[int, int], dict[Value, None]] = {}
    edges: list[Edge] = []
    for v in graph.drawn:
        target = boxes.box[graph.index[v]]
        for i, a in graph.uses(v):
            source = boxes.box[graph.index[a]]
            if source == target:
                continue
            if target in single:
                edges.append(Edge(source, target, _label(a, shown, sizes), shown.downstream.get((v, i), "")))
            else:
                bundles.setdefault((source, target), {})[a] = None
    for (source, target), values in bundles.items():
        label = _label(next(iter(values)), shown, sizes) if len(values) == 1 else f"{len(values)} values"
        edges.append(Edge(source, target, label))
    return edges


def _label(value: Value, shown: _Shown, sizes: Mapping[str, int]) -> str:
    """On a wire: the shape, or the value of a scalar."""
    text = _shape(value, sizes)
    return text if value.type.rank else shown.values.get(value, text)
