"""The structure of a program's result: which terms it is the sum of, found from labels, slices and index arrays.

Takes a Function, typically a Jacobian as a sweep made it (its seed an identity that is only labels); gives terms whose
factors are values of a new program in the same parameters. Every instruction that is linear in the structured operand
moves places or joins labels; what cannot follow is taken as a plain array, which is one term over all of its axes.
Nothing is assumed about numbers of arguments; sizes are compared symbolically.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Spec, contract, label_sizes, parse_spec
from symdiff.ir.dims import Size
from symdiff.ir.graph import Function, Value
from symdiff.ops import OPSET
from symdiff.structured.joining import join
from symdiff.structured.moves import closed, cut, embedded, opened, reshaped
from symdiff.structured.reading import index_label, read
from symdiff.structured.terms import (
    Factor,
    Indirect,
    NoStructureError,
    Order,
    Term,
    collected,
    scaled,
    whole,
)

MOST_TERMS = 2000
"""Terms of one value; a sum of more is a plain array."""

_LINEAR = frozenset({"add", "sub", "neg", "mul", "div", "cast", "select", "contract", "slice", "embed", "reshape",
                     "concatenate"})  # fmt: skip


class Structure:
    """Terms of values of one program. `builder` holds the program's values and all factors."""

    def __init__(self, function: Function) -> None:
        self.builder = Builder(OPSET)
        self.mapping = self.builder.inline(function)
        self.params = [self.mapping[p] for p in function.params]
        values = [*self.params, *[self.mapping[v] for v in function.instrs]]
        self.order = Order(s for v in values for s in v.type.shape)
        self.terms: dict[Value, list[Term]] = {}
        results = [self.mapping[r] for r in function.results]
        self._outer = _reached(results)
        for value in dict.fromkeys(self.mapping[v] for v in function.instrs):
            if value.type.floating:
                self._visit(value)
        self.results = [self.of(r) for r in results]

    def of(self, value: Value) -> list[Term]:
        """The terms of a value; a plain one is one term."""
        found = self.terms.get(value)
        if found is not None:
            return found
        return collected(self.builder, [_plain_term(self, value)], value.type.dtype)

    def _visit(self, value: Value) -> None:
        rule = _RULES.get(value.op.name)
        if rule is None or not (any(a in self.terms for a in value.args) or self._starts(value)):
            return
        try:
            terms = collected(self.builder, rule(self, value), value.type.dtype)
        except NoStructureError:
            return
        if len(terms) <= MOST_TERMS:
            self.terms[value] = terms

    def _starts(self, value: Value) -> bool:
        """Whether a value of plain operands has structure: a delta, a window, an outer product at the outside."""
        if value.op.name == "contract":
            spec = parse_spec(value.attr("spec"))
            return len(set(spec.output)) < len(spec.output) or (
                value in self._outer and len(spec.output) > 1 and len(value.args) != 1
            ) or (value in self._outer and bool(spec.free) and len(value.args) == 1)  # fmt: skip
        return value.op.name == "embed" and value in self._outer

    def plain(self, value: Value) -> bool:
        return value not in self.terms


def _reached(results: Sequence[Value]) -> set[Value]:
    """Values that a result is linear in, through operations that keep structure."""
    found: set[Value] = set()
    stack = list(results)
    while stack:
        value = stack.pop()
        if value not in found:
            found.add(value)
            if value.op.name in _LINEAR:
                stack += [a for a in value.args if a.type.floating]
    return found


def _plain_term(s: Structure, value: Value) -> Term:
    """A plain array as a term; of a filled one only the number is kept."""
    labels = tuple(range(value.type.rank))
    sizes = dict(enumerate(value.type.shape))
    places = tuple(whole(x) for x in labels)
    return Term((read(s.builder, value, places, sizes),), sizes, places)


# -------------------------------------------------------------------- elementwise
def _add(s: Structure, value: Value) -> list[Term]:
    a, b = value.args
    return [*s.of(a), *(_negated(s, s.of(b), value.type.dtype) if value.op.name == "sub" else s.of(b))]


def _negated(s: Structure, terms: Sequence[Term], dtype: str) -> list[Term]:
    """The smallest factor of every term negated."""
    found: list[Term] = []
    for term in terms:
        first, *others = sorted(term.factors, key=lambda f: len(f.labels)) or [_one(s, dtype)]
        negative = Factor(Handle(s.builder, first.value).op("neg").value, first.labels)
        found.append(Term((negative, *others), term.sizes, term.places))
    return found


def _one(s: Structure, dtype: str) -> Factor:
    return Factor(s.builder.const(1, (), dtype), ())


def _neg(s: Structure, value: Value) -> list[Term]:
    return _negated(s, s.of(value.args[0]), value.type.dtype)


def _mul(s: Structure, value: Value) -> list[Term]:
    a, b = value.args
    if not s.plain(a) and not s.plain(b):
        labels = tuple(range(value.type.rank))
        return _joined(s, [a, b], [labels, labels], labels, dict(enumerate(value.type.shape)))
    terms, other = (s.of(a), b) if not s.plain(a) else (s.of(b), a)
    return [Term((*t.factors, read(s.builder, other, t.places, t.sizes)), t.sizes, t.places) for t in terms]


def _div(s: Structure, value: Value) -> list[Term]:
    a, b = value.args
    if not s.plain(b):
        raise NoStructureError
    found: list[Term] = []
    for term in s.of(a):
        below = read(s.builder, b, term.places, term.sizes)
        hosts = [f for f in term.factors if set(below.labels) <= set(f.labels)]
        host = min(hosts, key=lambda f: len(f.labels)) if hosts else _one(s, value.type.dtype)
        labels = tuple(dict.fromkeys((*host.labels, *below.labels)))
        parts = [contract(s.builder, [f.value], [f.labels], labels, term.sizes) for f in (host, below)]
        quotient = Factor(s.builder.make(value.op, tuple(parts)), labels)
        found.append(Term((*(f for f in term.factors if f is not host), quotient), term.sizes, term.places))
    return found


def _cast(s: Structure, value: Value) -> list[Term]:
    dtype = value.type.dtype

    def cast(f: Factor) -> Factor:
        return Factor(Handle(s.builder, f.value).op("cast", dtype=dtype).value, f.labels)

    return [Term(tuple(map(cast, t.factors)), t.sizes, t.places) for t in s.of(value.args[0])]


def _select(s: Structure, value: Value) -> list[Term]:
    condition, a, b = value.args
    found: list[Term] = []
    for side, operand in enumerate((a, b)):
        for term in s.of(operand):
            mask = read(s.builder, condition, term.places, term.sizes)
            # One factor over all labels of the mask: what the mask hides must not be multiplied.
            single = _one(s, value.type.dtype)
            for factor in term.factors:
                single = scaled(s.builder, single, factor)
            labels = tuple(dict.fromkeys((*single.labels, *mask.labels)))
            shown = contract(s.builder, [single.value], [single.labels], labels, term.sizes)
            hidden = s.builder.const(0, shown.type.shape, value.type.dtype)
            spread = contract(s.builder, [mask.value], [mask.labels], labels, term.sizes)
            both = (shown, hidden) if side == 0 else (hidden, shown)
            factor = Factor(s.builder.make(value.op, (spread, *both)), labels)
            found.append(Term((factor,), term.sizes, term.places))
    return found


# -------------------------------------------------------------------- contraction
def _contract(s: Structure, value: Value) -> list[Term]:
    spec = parse_spec(value.attr("spec"))
    sizes = label_sizes(spec, [a.type.shape for a in value.args], value.attr("sizes", ()))
    return _joined(s, value.args, spec.operands, spec.output, sizes)


def _joined(
    s: Structure, operands: Sequence[Value], labels: Sequence[tuple[int, ...]], output: tuple[int, ...],
    sizes: dict[int, Size],
) -> list[Term]:  # fmt: skip
    spec = Spec(tuple(labels), output)
    choices: list[list[Value | Term]] = [[a] if s.plain(a) else list(s.terms[a]) for a in operands]
    count = 1
    for own in choices:
        count *= max(len(own), 1)
    if count > MOST_TERMS:
        raise NoStructureError
    found = [join(s.builder, s.order, spec, chosen, sizes) for chosen in itertools.product(*choices)]
    return [t for t in found if t is not None]


# -------------------------------------------------------------------- moving elements
def _slice(s: Structure, value: Value) -> list[Term]:
    (x,) = value.args
    starts, steps, counts = value.attr("starts"), value.attr("steps"), value.attr("sizes")
    lead = x.type.rank - len(starts)
    found: list[Term] = []
    for term in s.of(x):
        left: Term | None = term
        for axis, (start, step, count) in enumerate(zip(starts, steps, counts, strict=True), lead):
            if left is not None:
                left = cut(s.builder, s.order, left, axis, start, step, count, x.type.shape[axis])
        if left is not None:
            found.append(left)
    return found


def _embed(s: Structure, value: Value) -> list[Term]:
    (x,) = value.args
    starts, steps = value.attr("starts"), value.attr("steps")
    lead = x.type.rank - len(starts)
    found = s.of(x)
    for axis, (start, step) in enumerate(zip(starts, steps, strict=True), lead):
        found = [embedded(s.builder, t, axis, start, step, x.type.shape[axis]) for t in found]
    return found


def _concatenate(s: Structure, value: Value) -> list[Term]:
    axis = value.type.rank + value.attr("axis")
    found: list[Term] = []
    start: Size = 0
    for x in value.args:
        found += [embedded(s.builder, t, axis, start, 1, x.type.shape[axis]) for t in s.of(x)]
        start = start + x.type.shape[axis]
    return found


def _reshape(s: Structure, value: Value) -> list[Term]:
    (x,) = value.args
    rank, shape = value.attr("rank"), value.attr("shape")
    old = x.type.shape[x.type.rank - rank :]
    return [reshaped(s.builder, s.order, t, old, shape) for t in s.of(x)]


def _gather(s: Structure, value: Value) -> list[Term]:
    x, *indices = value.args
    at = x.type.rank + value.attr("axis")
    shape = indices[0].type.shape
    found: list[Term] = []
    for term in s.of(x):
        space = opened(s.builder, s.order, term)
        labels = tuple([space.fresh(size) for size in shape])
        for number, index in enumerate(indices):
            place = space.placed[at + number]
            label = index_label(place, x.type.shape[at + number], space.sizes)
            space.substitute(label, Indirect(index, labels))
        term = closed(space)
        after = term.places[at + len(indices) :]
        found.append(Term(term.factors, term.sizes, (*term.places[:at], *map(whole, labels), *after)))
    return found


def _scatter(s: Structure, value: Value) -> list[Term]:
    u, *indices = value.args
    at = value.type.rank + value.attr("axis")
    rank = indices[0].type.rank
    found: list[Term] = []
    for term in s.of(u):
        inner = term.places[at : at + rank]
        read_at = [read(s.builder, index, inner, term.sizes) for index in indices]
        places = [Indirect(f.value, f.labels) for f in read_at]
        found.append(Term(term.factors, term.sizes, (*term.places[:at], *places, *term.places[at + rank :])))
    return found


_RULES: dict[str, Callable[[Structure, Value], list[Term]]] = {
    "add": _add, "sub": _add, "neg": _neg, "mul": _mul, "div": _div, "cast": _cast, "select": _select,
    "contract": _contract, "slice": _slice, "embed": _embed, "concatenate": _concatenate, "reshape": _reshape,
    "gather": _gather, "scatter_add": _scatter,
}  # fmt: skip
