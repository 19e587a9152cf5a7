"""Jacobians by vertex elimination on the linearized program: cross-country mode.

Eliminating a vertex multiplies every map into it with every map out of it (Griewank and Walther, Evaluating
Derivatives, 2008, chapters 9 and 10). Forward and reverse mode are the orders from the variables and from the results;
others can be cheaper, as in a bottleneck R^n -> R^2 -> R^n. The cheapest is NP-hard to find (Naumann 2008), so it is
searched: see `orders`. A vertex is a whole array, a map keeps its Kronecker deltas (see `terms`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symdiff.diff.emit import Building, Prices
from symdiff.diff.graph import Elimination
from symdiff.diff.orders import cheapest_order
from symdiff.diff.tangents import Linear, linearize
from symdiff.diff.terms import Term, dense
from symdiff.ir.builder import Builder
from symdiff.ir.dims import Size, size_names
from symdiff.ir.graph import Value, topological

MIDDLING = 50


def representative(names: Sequence[str]) -> list[dict[str, int]]:
    """Sizes to judge by when none are given: all middling, and each small and large among the others."""
    middling = dict.fromkeys(names, MIDDLING)
    return [middling, *({**middling, name: size} for name in names for size in (MIDDLING // 16, MIDDLING * 8))]


def eliminate(
    builder: Builder, ys: Sequence[Value], xs: Sequence[Value], points: Sequence[Mapping[str, int]] | None = None
) -> list[list[Value | None]]:
    """[[dy/dx for x in xs] for y in ys]; None where y does not depend on x.

    points: sizes of the named dimensions that the order is chosen for, by default representative ones.
    """
    if len(xs) > 1 and _nested(xs):  # a variable that another one feeds would hold back what flows through it
        columns = [eliminate(builder, ys, [x], points) for x in xs]
        return [[column[i][0] for column in columns] for i in range(len(ys))]
    graph = linearize(builder, ys, xs)
    names = sorted(size_names(_sizes(graph)))
    given = [{**dict.fromkeys(names, MIDDLING), **point} for point in points or representative(names)]
    prices = Prices(given)
    order = cheapest_order(graph, prices)
    emitter = Building(builder, prices)
    work = Elimination(graph, emitter)
    for vertex in order:
        work.eliminate(vertex)
    rows: list[list[Value | None]] = []
    for y, sink in zip(ys, graph.sinks, strict=True):
        row: list[Value | None] = []
        for number, x in enumerate(xs):
            total: Value | None = None
            for path in work.paths(number, sink) if sink is not None else ():
                part = dense(emitter, path, y.type, x.type, y.type.dtype)
                total = part if total is None else emitter.plus(total, part)
            row.append(total)
        rows.append(row)
    return rows


def _nested(xs: Sequence[Value]) -> bool:
    """Whether a variable is computed from another."""
    given = set(xs)
    return any(a in given for v in topological([x for x in xs if not x.is_param]) for a in v.args)


def _sizes(graph: Linear) -> list[Size]:
    """Sizes of arrays and of labels inside maps."""
    shapes = [kind.shape for kind in graph.types]
    shapes += [edge.link.sizes for edge in graph.edges if isinstance(edge.link, Term)]
    return list(dict.fromkeys(s for shape in shapes for s in shape))
