"""Sums made shorter by what their terms share: 2 A - 2 B is 2 (A - B), B^T X + B X is (B + B^T) X.

Takes signed terms that are ready to broadcast, gives the shortest sum found. A *view* of a term is one way to split a
factor off: a coefficient, a divisor, an elementwise factor, the first or last matrix of a chain, one side of an outer
product, a transposition, one operand of an einsum. Terms with a view in common are summed behind it when that is
shorter, the best gain first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from symdiff.ir.dims import Shape
from symdiff.render.notation import Node, Notation, Number, peeled

# Sums with more terms are left as they are.
MOST_TERMS = 16
# A gain below this is a matter of taste, not of length.
LEAST_GAIN = 0.5
# A search looks into sums behind common factors, sums behind theirs, and so on, which doubles with every term of a
# polynomial in Horner's form; so many sums are looked into for one formula, those that come later are left as they are.
MOST_SEARCHES = 3000

Term = tuple[Fraction, Node]


@dataclass(frozen=True, slots=True)
class View:
    """A factor split off: `key` says what and where, `rest` is what remains of the term."""

    key: tuple[Any, ...]
    coefficient: Fraction
    rest: Node


def shortest_sum(notation: Notation, signed: Sequence[tuple[int, Node]], shape: Shape) -> Node:
    """The sum of signed terms, with common factors taken out where that is shorter."""
    terms = _like_terms(notation, [split_coefficient(notation, Fraction(s), t) for s, t in signed])
    if not terms or _common_shape([t for _, t in terms]) != _common_shape([t for _, t in signed]):
        return notation.add(signed, shape)  # what cancels was all that had some axis
    while 1 < len(terms) <= MOST_TERMS and notation.searches < MOST_SEARCHES:
        notation.searches += 1
        better = _best_grouping(notation, terms, shape)
        if better is None:
            break
        terms = better
    return _written(notation, terms, shape)


def split_coefficient(notation: Notation, number: Fraction, node: Node) -> Term:
    """The numeric coefficient of a term, apart."""
    if node.kind == "prod" and node.data[0] != 1:
        count = node.data[1]
        if count or node.args:
            return number * Fraction(node.data[0]), notation.product(1, node.args[:count], node.args[count:])
    if node.kind == "num" and type(node.data) in (int, Fraction):
        return number * Fraction(node.data), notation.number(1)
    return number, node


def _like_terms(notation: Notation, terms: Sequence[Term]) -> list[Term]:
    found: dict[Node, Fraction] = {}
    for number, node in terms:
        found[node] = found.get(node, Fraction(0)) + number
    return [(number, node) for node, number in found.items() if number]


def _written(notation: Notation, terms: Sequence[Term], shape: Shape) -> Node:
    return notation.add([(1, scaled(notation, number, node)) for number, node in terms], shape)


def scaled(notation: Notation, number: Fraction, node: Node) -> Node:
    """number * node."""
    if number == 1:
        return node
    plain: Number = number.numerator if number.denominator == 1 else number
    if node.kind == "num" and node.data == 1:
        return notation.number(plain)
    return notation.product(plain, [node], ())


def _best_grouping(notation: Notation, terms: list[Term], shape: Shape) -> list[Term] | None:
    """The terms with one group of them behind a common factor; None when nothing gets shorter."""
    groups: dict[tuple[Any, ...], list[tuple[int, View]]] = {}
    for place, term in enumerate(terms):
        seen: set[tuple[Any, ...]] = set()
        for view in _views(notation, term):
            if view.key not in seen:
                seen.add(view.key)
                groups.setdefault(view.key, []).append((place, view))
    best: tuple[float, list[Term]] | None = None
    for key, members in groups.items():
        if len(members) < 2:
            continue
        places = {place for place, _ in members}
        made = _joined(notation, key, [view for _, view in members], shape)
        if made is None:
            continue
        before = _written(notation, [terms[i] for i in sorted(places)], shape).weight
        gain = before - scaled(notation, *made).weight
        if gain > LEAST_GAIN and (best is None or gain > best[0] + 1e-9):
            first = min(places)
            rest = [made if i == first else t for i, t in enumerate(terms) if i == first or i not in places]
            best = (gain, _like_terms(notation, rest))
    return best[1] if best is not None else None


def _views(notation: Notation, term: Term) -> list[View]:
    """Every way to split a factor off a term."""
    number, node = term
    found: list[View] = []
    if abs(number) != 1:
        found.append(View(("coefficient", abs(number)), number / abs(number), node))
    above, below = [node], []
    if node.kind == "prod":
        above, below = list(node.args[: node.data[1]]), list(node.args[node.data[1] :])
    for i, factor in enumerate(above):
        if factor.kind != "num":
            rest = notation.product(1, above[:i] + above[i + 1 :], below)
            found.append(View(("above", factor), number, rest))
    for i, factor in enumerate(below):
        rest = notation.product(1, above, below[:i] + below[i + 1 :])
        found.append(View(("below", factor), number, rest))
    arrays = [f for f in above if f.rank]
    if len(arrays) == 1 and not any(f.rank for f in below):
        scalars = [f for f in above if not f.rank]
        for key, inner in _structural(notation, arrays[0]):
            found.append(View(key, number, notation.product(1, [*scalars, inner], below)))
    return found


def _structural(notation: Notation, node: Node) -> list[tuple[tuple[Any, ...], Node]]:
    """Splits of one array: the ends of a chain, the sides of an outer product, a transposition, ..."""
    found: list[tuple[tuple[Any, ...], Node]] = []
    chain = node.args if node.kind == "matmul" else ()
    if node.kind == "T" and node.args[0].kind == "matmul":
        chain = tuple([f.flip for f in reversed(node.args[0].args)])
    if len(chain) > 1:
        first, last = chain[0], chain[-1]
        if first.rank == 2:
            found.append((("left", first), _chain(notation, chain[1:])))
        if last.rank == 2 or (chain[-2].rank == 2 and first.rank == 2):
            found.append((("right", last), _chain(notation, chain[:-1])))
        if first.rank == 1 and chain[1].rank == 2:
            found.append((("row", first), _chain(notation, chain[1:])))
    if node.rank == 2 and node.flip.weight < node.weight:
        found.append((("T",), node.flip))
    if node.kind == "outer":
        u, v = node.args
        found.append((("outer left", u), v))
        found.append((("outer right", v), u))
        if u.kind == "matmul" and u.args[0].rank == 2:
            found.append((("left", u.args[0]), notation.outer(_chain(notation, u.args[1:]), v)))
        if v.kind == "matmul" and v.args[0].rank == 2:
            found.append((("right", v.args[0].flip), notation.outer(u, _chain(notation, v.args[1:]))))
    if node.kind == "diag":
        found.append((("diag",), node.args[0]))
    if node.kind == "einsum":
        for i, arg in enumerate(node.args):
            others = tuple([a for j, a in enumerate(node.args) if j != i])
            found.append((("einsum", node.data, i, others), arg))
    return found


def _chain(notation: Notation, factors: tuple[Node, ...]) -> Node:
    return factors[0] if len(factors) == 1 else notation.chain(factors)


def _joined(notation: Notation, key: tuple[Any, ...], views: list[View], shape: Shape) -> Term | None:
    """The sum of the rests behind their common factor."""
    inner_shape = _common_shape([v.rest for v in views])
    if inner_shape is None:
        return None
    kind = key[0]
    inner = shortest_sum(notation, [(1, scaled(notation, v.coefficient, v.rest)) for v in views], inner_shape)
    number, inner = split_coefficient(notation, Fraction(1), inner)
    if inner.kind == "add" and max(inner.data) < 0:
        number, inner = -number, notation.opposite(inner)
    if kind == "coefficient":
        return number * key[1], inner
    if kind == "above":
        return split_coefficient(notation, number, notation.product(1, [key[1], inner], ()))
    if kind == "below":
        return split_coefficient(notation, number, notation.product(1, [inner], [key[1]]))
    if any(v.rest.rank != inner.rank for v in views):
        return None  # a vector beside matrices is a row that repeats: it is not what a matrix before it would take
    factor, scalars, core, below = peeled(inner)
    wrapped = _wrapped(notation, key, core)
    if wrapped is None:
        return None
    return split_coefficient(notation, number, notation.product(factor, [*scalars, wrapped], below))


def _wrapped(notation: Notation, key: tuple[Any, ...], inner: Node) -> Node | None:
    match key[0]:
        case "left":
            return notation.matmul(key[1], inner)
        case "right" | "row":
            return notation.matmul(inner, key[1]) if key[0] == "right" else notation.matmul(key[1], inner)
        case "T":
            return inner.flip
        case "outer left":
            return notation.outer(key[1], inner)
        case "outer right":
            return notation.outer(inner, key[1])
        case "diag":
            return notation.diag(inner)
        case "einsum":
            _, (labels, output), place, others = key
            args = [*others[:place], inner, *others[place:]]
            return notation.einsum(args, labels, output)
        case _:
            return None


def _common_shape(nodes: Sequence[Node]) -> Shape | None:
    """The broadcast shape of terms; None when they do not broadcast."""
    rank = max([n.rank for n in nodes])
    shape: list[Any] = [1] * rank
    for node in nodes:
        for i, size in enumerate(reversed(node.shape)):
            if shape[rank - 1 - i] == 1:
                shape[rank - 1 - i] = size
            elif size not in (1, shape[rank - 1 - i]):
                return None
    return tuple(shape)
