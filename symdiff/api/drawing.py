"""`sd.draw`: the computational graph of an expression, with shapes, values and gradients on the same picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from symdiff.api.drawing_formulas import formulas
from symdiff.api.drawing_graph import Graph
from symdiff.api.drawing_numbers import Shown, numbers
from symdiff.errors import ArgumentError
from symdiff.frontend.expr import Expr
from symdiff.ir.dims import Size, evaluate, size_names
from symdiff.ir.graph import Value
from symdiff.render.drawing import Drawing, Edge, Grouping, Node, Picture, Row, group, intuition, shape_text

LIMIT = 60  # boxes of a picture that is still legible


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

    f: an expression, or a list or a dict (name -> expression) of them.
    wrt: a variable of f, or a list of them: every node between them and f gets its upstream gradient, its local
        derivatives, and what it sends downstream (on the wires); numbers with `at`, short formulas without.
    at: arrays by symbol name, for forward values.
    sizes: numbers of named dimensions, shown instead of the names.
    functions: for undefined functions, as in `evaluate`.
    limit: boxes in the picture; larger graphs are grouped. digits: of every number.

    Raises ArgumentError when a name in `at` is missing or unknown, when a variable is not in f, or when `wrt` is given
    for several results at once; DerivativeError when f has no derivative.
    """
    graph = Graph(*_results(f), wrt)
    if wrt is not None and len(graph.results) != 1:
        raise ArgumentError(f"draw: wrt with {len(graph.results)} results, expected one; draw them one by one")
    boxes = group([graph.kinds[v] for v in graph.drawn], graph.wires(), limit)
    shown = Shown()
    if at is not None:
        shown = numbers(graph, boxes, at, sizes or {}, functions, digits)
    elif graph.variables:
        shown = formulas(graph, boxes)
    return Drawing(_picture(graph, boxes, shown, sizes or {}))


def _results(f: Any) -> tuple[list[Value], list[str]]:
    """The results and their names, "" for those that have none."""
    named: list[tuple[str, Any]]
    if isinstance(f, Mapping):
        named = [(str(name), item) for name, item in f.items()]
    else:
        named = [("", item) for item in f] if isinstance(f, (list, tuple)) else [("", f)]
    values: list[Value] = []
    for _, item in named:
        if not isinstance(item, Expr):
            raise ArgumentError(f"draw: given {item!r} of type {type(item).__name__}, expected a symbolic expression")
        values.append(item.value)
    if not values:
        raise ArgumentError("draw: no expression given, expected at least one")
    return values, [name for name, _ in named]


# -------------------------------------------------------------------- the picture
def _picture(graph: Graph, boxes: Grouping, shown: Shown, sizes: Mapping[str, int]) -> Picture:
    nodes: list[Node] = []
    for members in boxes.groups:
        value = graph.drawn[members[-1]]
        if len(members) == 1:
            nodes.append(_node(graph, value, shown, sizes))
        else:
            nodes.append(_group_node(graph, [graph.drawn[i] for i in members], shown, sizes))
    title = "computational graph of " + ", ".join(graph.names[r] for r in graph.results)
    result = graph.names[graph.results[0]]
    remark = f"{shown.mark}z is the gradient of {result} in z" if shown.mark else ""
    return Picture(tuple(nodes), tuple(_edges(graph, boxes, shown, sizes)), title, remark)


def _shape(value: Value, sizes: Mapping[str, int]) -> str:
    def number(size: Size) -> Size:
        return evaluate(size, sizes) if set(size_names([size])) <= set(sizes) else size

    return shape_text([number(s) for s in value.shape], value.type.dtype)


def _rows(graph: Graph, value: Value, shown: Shown) -> list[Row]:
    rows: list[Row] = []
    if value in shown.values:
        rows.append(Row("value", "value", shown.values[value]))
    if value in shown.upstream:
        key = "gradient" if value.is_param else "upstream"
        rows.append(Row("upstream", shown.mark + graph.names[value] if shown.mark else key, shown.upstream[value]))
    return rows


def _node(graph: Graph, value: Value, shown: Shown, sizes: Mapping[str, int]) -> Node:
    rows = _rows(graph, value, shown)
    name = graph.names[value]
    for i, a in graph.uses(value):
        if (value, i) in shown.local:
            rows.append(Row("local", f"∂{name}/∂{graph.names[a]}", shown.local[value, i]))
    moving = [a in graph.index for a in value.args]
    text = "" if value.is_param else graph.formula(value)
    note = intuition(value, moving) if graph.variables else ""
    return Node(name, graph.kinds[value], text, _shape(value, sizes), note, tuple(rows))


def _group_node(graph: Graph, members: Sequence[Value], shown: Shown, sizes: Mapping[str, int]) -> Node:
    """A box for several nodes; with one value to hand on (a chain) it shows that value."""
    first, last = members[0], members[-1]
    names = f"{graph.names[first]}..{graph.names[last]}"
    listed = ", ".join(graph.names[v] for v in members[:4]) + (", …" if len(members) > 4 else "")
    kind = graph.kinds[last]
    if kind != "operation" or graph.kinds[first] != "operation":
        word = {"input": "inputs", "result": "results", "operation": "operations"}.get(kind, "nodes")
        return Node(names, "group", f"{len(members)} {word}", note=listed)
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


def _edges(graph: Graph, boxes: Grouping, shown: Shown, sizes: Mapping[str, int]) -> list[Edge]:
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
                edges.append(Edge(source, target, _label(a, shown, sizes), *shown.downstream.get((v, i), ("", ""))))
            else:
                bundles.setdefault((source, target), {})[a] = None
    for (source, target), values in bundles.items():
        label = _label(next(iter(values)), shown, sizes) if len(values) == 1 else f"{len(values)} values"
        edges.append(Edge(source, target, label))
    return edges


def _label(value: Value, shown: Shown, sizes: Mapping[str, int]) -> str:
    """On a wire: the shape, or the value of a scalar."""
    text = _shape(value, sizes)
    return text if value.type.rank else shown.values.get(value, text)
