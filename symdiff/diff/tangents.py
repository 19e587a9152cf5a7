"""The linearized program as a graph: what elimination eliminates from.

Forward mode with one tangent per variable and no seed axes gives a program that is linear in the tangents. Its values
are the vertices, every use of an operand an edge that carries a linear map. So every op is covered by its own forward
rule, whatever kind that is: a softmax becomes products, a sum and a difference, a solve a product and a solve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from symdiff.diff.forward import forward
from symdiff.diff.terms import Dead, Factor, Link, Operator, Term, identity_term, term
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Labels, parse_spec
from symdiff.ir.dims import Size
from symdiff.ir.graph import Value, topological
from symdiff.ir.op import Multilinear, Partials, Rules
from symdiff.ir.types import TensorType

_TRAILING = {"reshape": "rank", "cumsum": "axis", "concatenate": "axis", "gather": "axis"}
_PEELED = 4
"""Functions of one operand that are looked through for a broadcast below them."""
_CONSTANTS = frozenset({"const", "array", "size", "iota"})


@dataclass(frozen=True, slots=True)
class Edge:
    source: int
    target: int
    link: Link


@dataclass(slots=True)
class Linear:
    """Vertices in topological order, by type; the first are the variables, `sinks` the results.

    curved: vertices with something below them that can be infinite, which a dead branch must not meet.
    """

    types: list[TensorType] = field(default_factory=list[TensorType])
    edges: list[Edge] = field(default_factory=list[Edge])
    sources: int = 0
    sinks: list[int | None] = field(default_factory=list["int | None"])
    curved: set[int] = field(default_factory=set[int])


def linearize(builder: Builder, ys: Sequence[Value], xs: Sequence[Value]) -> Linear:
    """The graph of the derivative of `ys` in `xs`; a result without influence has no sink."""
    taken = {v.name for v in topological([*ys, *xs]) if v.is_param}
    seeds: dict[Value, Handle] = {}
    for number, x in enumerate(xs):
        name = f"tangent_{number}"
        while name in taken:
            name += "_"
        taken.add(name)
        seeds[x] = Handle(builder, builder.param(name, TensorType(x.type.dtype, x.shape)))
    tangents = forward(builder, ys, seeds, 0)
    graph = Linear()
    number_of: dict[Value, int] = {}
    for x in xs:
        number_of[seeds[x].value] = len(graph.types)
        graph.types.append(x.type)
    graph.sources = len(xs)
    for value in topological([t.value for t in tangents if t is not None]):
        moving = [i for i, a in enumerate(value.args) if a in number_of]
        if value in number_of or not moving:
            continue
        number = number_of[value] = len(graph.types)
        graph.types.append(value.type)
        for i, link in _links(builder, value, moving):
            source = number_of[value.args[i]]
            graph.edges.append(Edge(source, number, link))
            if source in graph.curved or link.exposed:
                graph.curved.add(number)
    for t in tangents:
        source = number_of.get(t.value) if t is not None else None
        if t is None or source is None:
            graph.sinks.append(None)
            continue
        # A vertex of its own, for the value may be used further on too.
        graph.sinks.append(len(graph.types))
        graph.edges.append(Edge(source, len(graph.types), identity_term(t.shape)))
        graph.types.append(t.value.type)
    return graph


def _links(builder: Builder, value: Value, moving: Sequence[int]) -> list[tuple[int, Link]]:
    """The linear map from every moving operand."""
    rule, xs = builder.opset.rule(value.op), [Handle(builder, a) for a in value.args]
    attrs = dict(value.attrs)
    if isinstance(rule, Partials):
        y = Handle(builder, value)
        partials = rule.partials(y, *xs, **attrs)
        dead = rule.dead(y, *xs, **attrs) if rule.dead else (None,) * len(xs)
        found: list[tuple[int, Link]] = []
        for i in moving:
            link = _diagonal(builder, value, partials[i], dead[i])
            if link is not None:
                found.append((i, link))
        return found
    if isinstance(rule, Multilinear):
        return [(i, _contraction(builder, value, i)) for i in moving]
    return [(i, Operator(value, i, _lead(value, i), not isinstance(rule, Rules))) for i in moving]


def _lead(value: Value, place: int) -> int:
    """Leading axes of operand `place` that the instruction passes along untouched."""
    name, rank = value.op.name, value.args[place].type.rank
    if value.op.elementwise:
        return rank
    if name in _TRAILING:
        touched = abs(value.attr(_TRAILING[name]))
    elif name in ("slice", "embed"):
        touched = len(value.attr("starts"))
    elif name in ("tril", "triu", "symmetric"):
        touched = 2
    elif name == "scatter_add":
        return value.type.rank - abs(value.attr("axis"))
    elif name in ("solve", "triangular_solve"):
        touched = value.args[0].type.rank
    else:
        touched = rank
    return rank - touched


def _diagonal(builder: Builder, value: Value, partial: Handle | int | None, dead: Handle | None) -> Term | None:
    """An elementwise map."""
    labels = tuple(range(value.type.rank))
    sizes: dict[int, Size] = dict(enumerate(value.shape))
    if partial is None or (isinstance(partial, int) and partial == 0):
        return None
    mask = None
    if dead is not None:
        node, own = peeled(builder, dead.value, labels)
        mask = Dead(node, own)
    if isinstance(partial, int):
        return term(labels, labels, sizes, (), partial, mask, mask is not None)
    node, own = peeled(builder, partial.value, labels)
    number = node.attr("value") if node.op.name == "const" else None
    if number is not None and not isinstance(number, str):
        return term(labels, labels, sizes, (), number, mask, mask is not None) if number else None
    return term(labels, labels, sizes, [Factor(node, own, _safe(node))], 1, mask, mask is not None)


def _contraction(builder: Builder, value: Value, place: int) -> Term:
    """The other operands of a contraction as factors."""
    spec = parse_spec(value.attr("spec"))
    sizes: dict[int, Size] = dict(zip(spec.free, value.attr("sizes", ()), strict=True))
    factors: list[Factor] = []
    for i, (arg, labels) in enumerate(zip(value.args, spec.operands, strict=True)):
        sizes.update(zip(labels, arg.shape, strict=True))
        if i != place:
            node, own = peeled(builder, arg, labels)
            factors.append(Factor(node, own, _safe(node)))
    return term(spec.output, spec.operands[place], sizes, factors)


def _safe(value: Value) -> bool:
    return value.op.name in _CONSTANTS


def peeled(builder: Builder, value: Value, labels: Labels) -> tuple[Value, Labels]:
    """An array and its labels without axes along which it only repeats."""
    inner, own = value, labels
    around: list[Value] = []
    while True:
        if inner.op.name == "const" and inner.type.rank:
            inner, own = builder.const(inner.attr("value"), (), inner.type.dtype), ()
        elif inner.op.elementwise and len(inner.args) == 1 and len(around) < _PEELED:
            around.append(inner)
            inner = inner.args[0]
        elif inner.op.name == "contract" and len(inner.args) == 1:
            spec = parse_spec(inner.attr("spec"))
            if spec.summed or len(set(spec.output)) < len(spec.output):
                break
            place = dict(zip(spec.output, own, strict=True))
            inner, own = inner.args[0], tuple([place[x] for x in spec.operands[0]])
        else:
            break
    if len(set(own)) == len(set(labels)) and (around or own != labels):
        return value, labels
    for function in reversed(around):
        inner = builder.make(function.op, (inner,), function.attrs)
    return inner, own
