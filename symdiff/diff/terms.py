"""Linear maps between arrays as terms of labels: what elimination multiplies and adds.

A `Term` maps an array with labels `into` to one with labels `out`: entry [out, into] is a coefficient times a product
of factors, zero unless equal labels have equal indices. An elementwise Jacobian is one factor with out = into, a
broadcast has no factor at all, a matrix product one factor with different labels; a Kronecker delta is never an array.
An `Operator` is an instruction that is linear in one operand and has no such form (gather, cumsum, solve, ...): it acts
through its own derivative rule. A `Path` is a product of links, the one nearest to the output first.

Composing is written once for two uses: the `Emitter` either builds instructions or only adds up what they would cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

from symdiff.ir.contraction import Labels
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import Value
from symdiff.ir.types import TensorType

Node: TypeAlias = Any
"""A Value, or what stands for one while costs are added up: anything with a `type`."""

MOST_FACTORS = 3
MOST_PATHS = 4


@dataclass(frozen=True, slots=True)
class Factor:
    """One array of a product. safe: certainly finite, so that a masked zero need not be protected from it."""

    node: Node
    labels: Labels
    safe: bool


@dataclass(frozen=True, slots=True)
class Dead:
    """Where the operand does not reach the result: a boolean array over some labels of `into`, all different."""

    node: Node
    labels: Labels


@dataclass(frozen=True, slots=True)
class Term:
    """See the module. `sizes` gives the size of every label; labels are numbered by first appearance.

    dead: columns that are zero whatever the factors say; pending: the factors are not yet zero there.
    """

    out: Labels
    into: Labels
    sizes: tuple[Size, ...]
    factors: tuple[Factor, ...] = ()
    coefficient: int | Fraction = 1
    dead: Dead | None = None
    pending: bool = False

    @property
    def pattern(self) -> tuple[Labels, Labels]:
        """Which indices must be equal."""
        return self.out, self.into

    @property
    def trivial(self) -> bool:
        """Whether this is the identity."""
        plain = not self.factors and self.coefficient == 1 and self.dead is None
        return plain and self.out == self.into and len(set(self.out)) == len(self.out)

    @property
    def exposed(self) -> bool:
        return not all(f.safe for f in self.factors)

    def size_of(self) -> dict[int, Size]:
        return dict(enumerate(self.sizes))


@dataclass(frozen=True, slots=True)
class Operator:
    """An instruction, linear in operand `place`, whose `lead` leading axes pass through untouched."""

    value: Value
    place: int
    lead: int
    safe: bool

    @property
    def source(self) -> TensorType:
        return self.value.args[self.place].type

    @property
    def target(self) -> TensorType:
        return self.value.type

    @property
    def exposed(self) -> bool:
        return not self.safe


Link: TypeAlias = "Term | Operator"
Path: TypeAlias = "tuple[Term | Operator, ...]"


class Emitter(Protocol):
    """Makes the arrays of composed terms, or their price."""

    def contracted(
        self, factors: Sequence[Factor], output: Labels, sizes: Mapping[int, Size], dtype: str
    ) -> Node: ...
    def scaled(self, node: Node, number: int | Fraction) -> Node: ...
    def plus(self, a: Node, b: Node) -> Node: ...
    def masked(self, dead: Node, node: Node) -> Node: ...
    def live(self, dead: Node, dtype: str) -> Node: ...
    def logic(self, name: str, a: Node, b: Node) -> Node: ...
    def no_live(self, count: Node) -> Node: ...
    def size(self, size: Size, dtype: str) -> Node: ...
    def pushed(self, op: Operator, node: Node, seeds: int) -> Node: ...
    def pulled(self, op: Operator, node: Node, seeds: int) -> Node: ...
    def dead_through(self, op: Operator, dead: Node) -> Node: ...
    def space(self, labels: Iterable[int], sizes: Mapping[int, Size]) -> float: ...


def term(
    out: Labels, into: Labels, sizes: Mapping[int, Size], factors: Iterable[Factor] = (),
    coefficient: int | Fraction = 1, dead: Dead | None = None, pending: bool = False,
) -> Term:  # fmt: skip
    """A term with its labels renumbered by first appearance."""
    number: dict[int, int] = {}
    listed = tuple(factors)
    words = [out, into, *[f.labels for f in listed]]
    for word in words:
        for x in word:
            if x not in number:
                number[x] = len(number)
    return Term(
        tuple([number[x] for x in out]), tuple([number[x] for x in into]), tuple([sizes[x] for x in number]),
        tuple([Factor(f.node, tuple([number[x] for x in f.labels]), f.safe) for f in listed]), coefficient,
        Dead(dead.node, tuple([number[x] for x in dead.labels])) if dead is not None else None, pending,
    )  # fmt: skip


def identity_term(shape: Shape) -> Term:
    labels = tuple(range(len(shape)))
    return Term(labels, labels, shape)


# -------------------------------------------------------------------- arrays of a term
def core(em: Emitter, t: Term, axes: Labels, dtype: str) -> Node:
    """The array of a term with the given labels as axes (they may repeat: a delta); pending zeros are written."""
    sizes = t.size_of()
    factors = list(t.factors)
    if t.dead is not None and t.pending:
        own = tuple(dict.fromkeys(x for x in axes if x in _labels(factors) or x in t.dead.labels))
        node = em.contracted(factors, own, sizes, dtype)
        node = em.masked(_spread(em, t.dead, own, sizes), node)
        factors = [Factor(node, own, False)]
    if t.coefficient != 1:
        least = min(factors, key=lambda f: em.space(f.labels, sizes), default=None)
        if least is None:
            one = em.contracted([], (), sizes, dtype)
            factors = [Factor(em.scaled(one, t.coefficient), (), True)]
        else:
            factors[factors.index(least)] = replace(least, node=em.scaled(least.node, t.coefficient))
    return em.contracted(factors, axes, sizes, dtype)


def _labels(factors: Iterable[Factor]) -> set[int]:
    return {x for f in factors for x in f.labels}


def _spread(em: Emitter, dead: Dead, labels: Labels, sizes: Mapping[int, Size]) -> Node:
    """A mask as an array with these labels."""
    return em.contracted([Factor(dead.node, dead.labels, True)], labels, sizes, "bool")


def _both(em: Emitter, name: str, a: Dead | None, b: Dead | None, sizes: Mapping[int, Size]) -> Dead | None:
    if a is None or b is None:
        return a or b
    if a == b:
        return a
    labels = tuple(dict.fromkeys((*a.labels, *b.labels)))
    return Dead(em.logic(name, _spread(em, a, labels, sizes), _spread(em, b, labels, sizes)), labels)


# -------------------------------------------------------------------- products
class _Joined:
    """Labels of two terms, one behind the other, those of the array in the middle made equal."""

    def __init__(self, left: Term, right: Term) -> None:
        base = len(left.sizes)
        self._same = list(range(base + len(right.sizes)))
        self._base = base
        for a, b in zip(left.into, right.out, strict=True):
            a, b = self._find(a), self._find(b + base)
            self._same[max(a, b)] = min(a, b)
        all_sizes = (*left.sizes, *right.sizes)
        self.sizes = {self._find(x): all_sizes[x] for x in reversed(range(len(all_sizes)))}

    def _find(self, x: int) -> int:
        while self._same[x] != x:
            x = self._same[x]
        return x

    def left(self, labels: Labels) -> Labels:
        return tuple([self._find(x) for x in labels])

    def right(self, labels: Labels) -> Labels:
        return tuple([self._find(x + self._base) for x in labels])


def compose(em: Emitter, left: Term, right: Term, dtype: str, curved: bool = True) -> Term:
    """left after right. curved: something below `right` can be infinite, so dead columns must be known there."""
    joined = _Joined(left, right)
    sizes = joined.sizes
    out, into = joined.left(left.out), joined.right(right.into)
    ours = [Factor(f.node, joined.left(f.labels), f.safe) for f in left.factors]
    theirs = [Factor(f.node, joined.right(f.labels), f.safe) for f in right.factors]
    dead = Dead(right.dead.node, joined.right(right.dead.labels)) if right.dead is not None else None
    pending = right.pending
    if left.dead is not None:
        own = _distinct(em, Dead(left.dead.node, joined.left(left.dead.labels)), sizes)
        inside = set(own.labels) <= set(into)
        still = left.pending and inside and not right.exposed
        if right.exposed:
            theirs = [_masked(em, theirs, own, {*out, *into, *joined.left(left.into), *_labels(ours)}, sizes, dtype)]
        elif left.pending and not inside:
            ours.append(Factor(em.live(own.node, dtype), own.labels, True))
        shadow = own if inside else _projected(em, own, into, sizes) if curved else None
        dead = _both(em, "or", shadow, dead, sizes)
        pending = pending or still
    coefficient = left.coefficient * right.coefficient
    factors = [*ours, *theirs]
    kept = {*out, *into}
    for x in {*joined.left(left.into), *joined.right(right.out)} - kept - _labels(factors):
        size = sizes[x]
        if isinstance(size, int):
            coefficient *= size
        else:
            factors.append(Factor(em.size(size, dtype), (), True))
    return term(out, into, sizes, _reduced(em, factors, (*out, *into), sizes, dtype), coefficient, dead, pending)


def _distinct(em: Emitter, dead: Dead, sizes: Mapping[int, Size]) -> Dead:
    labels = tuple(dict.fromkeys(dead.labels))
    return dead if labels == dead.labels else Dead(_spread(em, dead, labels, sizes), labels)


def _masked(
    em: Emitter, factors: Sequence[Factor], dead: Dead, outer: set[int], sizes: Mapping[int, Size], dtype: str
) -> Factor:
    """The product of factors with zeros where the mask holds; labels that nothing else has are summed."""
    own = tuple(dict.fromkeys([*[x for f in factors for x in f.labels if x in outer], *dead.labels]))
    node = em.contracted(factors, own, sizes, dtype)
    return Factor(em.masked(_spread(em, dead, own, sizes), node), own, False)


def _projected(em: Emitter, dead: Dead, into: Labels, sizes: Mapping[int, Size]) -> Dead:
    """A column is dead when every row that it reaches is."""
    kept = tuple(x for x in dead.labels if x in into)
    live = Factor(em.live(dead.node, "f64"), dead.labels, True)
    return Dead(em.no_live(em.contracted([live], kept, sizes, "f64")), kept)


def _reduced(
    em: Emitter, factors: list[Factor], outer: Labels, sizes: Mapping[int, Size], dtype: str
) -> list[Factor]:
    """Factors with inner labels summed and equal label sets multiplied; few of them stay."""
    kept = dict.fromkeys(outer)
    work = list(factors)
    while True:
        inner = next((x for f in work for x in f.labels if x not in kept), None)
        if inner is None:
            break
        group, labels = [f for f in work if inner in f.labels], {inner}
        while True:  # all that hangs together by summed labels
            labels = {x for f in group for x in f.labels if x not in kept}
            more = [f for f in work if labels & set(f.labels)]
            if len(more) == len(group):
                break
            group = more
        own = tuple(x for x in kept if any(x in f.labels for f in group))
        # A factor on kept labels is multiplied in now where an operand is smaller than the result.
        result = em.space(own, sizes)
        group += [f for f in work if not set(f.labels) & labels and any(
            set(f.labels) <= set(g.labels) and em.space(g.labels, sizes) < result for g in group)]  # fmt: skip
        rest = [f for f in work if not any(f is g for g in group)]
        work = [*rest, Factor(em.contracted(group, own, sizes, dtype), own, all(f.safe for f in group))]
    by_labels: dict[frozenset[int], list[Factor]] = {}
    for f in work:
        by_labels.setdefault(frozenset(f.labels), []).append(f)
    work = [_multiplied(em, group, sizes, dtype) for group in by_labels.values()]
    while len(work) > MOST_FACTORS:
        pairs = [(em.space({*a.labels, *b.labels}, sizes), i, j) for i, a in enumerate(work)
                 for j, b in enumerate(work) if i < j]  # fmt: skip
        _, i, j = min(pairs)
        work = [*[f for k, f in enumerate(work) if k not in (i, j)],
                _multiplied(em, [work[i], work[j]], sizes, dtype)]  # fmt: skip
    return work


def _multiplied(em: Emitter, group: Sequence[Factor], sizes: Mapping[int, Size], dtype: str) -> Factor:
    if len(group) == 1:
        return group[0]
    own = tuple(dict.fromkeys(x for f in group for x in f.labels))
    return Factor(em.contracted(group, own, sizes, dtype), own, all(f.safe for f in group))


# -------------------------------------------------------------------- operators
def explicit(t: Term, op: Operator, pulling: bool) -> bool:
    """Whether the operator can act on the array of a term without a delta being written out."""
    facing, far = (t.into, t.out) if pulling else (t.out, t.into)
    touched = facing[op.lead :]
    if not touched:
        return bool(t.factors)
    return len(set(touched)) == len(touched) and not set(touched) & {*far, *facing[: op.lead]}


def through(em: Emitter, t: Term, op: Operator, pulling: bool, dtype: str, curved: bool) -> Term:
    """The term pulled back through an operator (t after op), or pushed forward (op after t)."""
    facing, far = (t.into, t.out) if pulling else (t.out, t.into)
    lead, touched = facing[: op.lead], facing[op.lead :]
    inside = _labels(t.factors) | set(touched)
    if t.pending and t.dead is not None:
        inside |= set(t.dead.labels)
    rest = tuple(x for x in dict.fromkeys(far) if x in inside and x not in lead)
    node = core(em, t, (*rest, *facing), dtype)
    target = op.source if pulling else op.target
    fresh = max(t.size_of(), default=-1) + 1
    sizes: dict[int, Size] = t.size_of()
    dead = t.dead
    if pulling and dead is not None:
        whole = _spread(em, dead, facing, sizes)
        dead = None
        if curved or not op.safe:
            dead = Dead(em.dead_through(op, whole), ())
    made = em.pulled(op, node, len(rest)) if pulling else em.pushed(op, node, len(rest))
    if pulling and dead is not None and not op.safe:
        made = em.masked(dead.node, made)
    labels: list[int] = []
    for position, size in enumerate(target.shape):
        own = lead[position] if position < op.lead else None
        if own is None or own in labels:
            own, fresh = fresh, fresh + 1
        labels.append(own)
        sizes[own] = size
    if pulling and dead is not None:
        dead = Dead(dead.node, tuple(labels))
    factors = [Factor(made, (*rest, *labels), False)]
    out, into = (t.out, tuple(labels)) if pulling else (tuple(labels), t.into)
    return term(out, into, sizes, factors, 1, dead)


def joined(em: Emitter, links: Sequence[Link], dtype: str, curved: bool = True) -> Path:
    """A product of links made as short as it can be without writing out a delta."""
    work = list(links)
    while len(work) > 1:
        pairs = [(i, a, b) for i, (a, b) in enumerate(pairwise(work)) if isinstance(a, Term) and isinstance(b, Term)]
        if pairs:
            place, left, right = pairs[0]
            below = curved or any(link.exposed for link in work[place + 2 :])
            work[place : place + 2] = [compose(em, left, right, dtype, below)]
            continue
        steps = [(i, pulling) for i in range(len(work) - 1) for pulling in (True, False)
                 if _acts(work[i], work[i + 1], pulling)]  # fmt: skip
        if not steps:
            break
        at, pulling = min(steps, key=lambda s: _size(em, work[s[0]], work[s[0] + 1], s[1]))
        below = curved or any(link.exposed for link in work[at + 2 :])
        work[at : at + 2] = [_acted(em, work[at], work[at + 1], pulling, dtype, below)]
    if len(work) > 1:
        work = [x for x in work if not (isinstance(x, Term) and x.trivial)] or work[:1]
    return tuple(work)


def _acts(left: Link, right: Link, pulling: bool) -> bool:
    if pulling:
        return isinstance(left, Term) and isinstance(right, Operator) and explicit(left, right, True)
    return isinstance(left, Operator) and isinstance(right, Term) and explicit(right, left, False)


def _size(em: Emitter, left: Link, right: Link, pulling: bool) -> float:
    t = left if pulling else right
    assert isinstance(t, Term)
    return em.space({*t.out, *t.into}, t.size_of())


def _acted(em: Emitter, left: Link, right: Link, pulling: bool, dtype: str, curved: bool) -> Term:
    t, op = (left, right) if pulling else (right, left)
    assert isinstance(t, Term) and isinstance(op, Operator)
    return through(em, t, op, pulling, dtype, curved)


# -------------------------------------------------------------------- sums
def added(em: Emitter, paths: Sequence[Path], dtype: str) -> list[Path]:
    """A sum of paths with like terms put together, so that few remain."""
    found: list[Path] = []
    for path in paths:
        at = next((i for i, old in enumerate(found) if _alike(em, old, path, len(paths) > MOST_PATHS)), None)
        if at is None:
            found.append(path)
        else:
            a, b = found[at][0], path[0]
            assert isinstance(a, Term) and isinstance(b, Term)
            found[at] = (_sum(em, a, b, dtype),)
    return found


def _alike(em: Emitter, a: Path, b: Path, eager: bool) -> bool:
    """Whether two paths are terms of one pattern whose sum is no larger than they are."""
    if len(a) != 1 or len(b) != 1:
        return False
    x, y = a[0], b[0]
    if not isinstance(x, Term) or not isinstance(y, Term) or x.pattern != y.pattern:
        return False
    if eager:
        return True
    both = {*_outer(x), *_outer(y)}
    sizes = x.size_of() | y.size_of()
    parts = [em.space(f.labels, t.size_of()) for t in (x, y) for f in t.factors]
    return em.space(both, sizes) <= max(parts, default=em.space((), {}))


def _outer(t: Term) -> Labels:
    kept = {*t.out, *t.into}
    dead = t.dead.labels if t.dead is not None and t.pending else ()
    return tuple(dict.fromkeys(x for x in (*[x for f in t.factors for x in f.labels], *dead) if x in kept))


def _sum(em: Emitter, a: Term, b: Term, dtype: str) -> Term:
    sizes = {x: s for t in (a, b) for x, s in t.size_of().items() if x in {*t.out, *t.into}}
    dead = _both(em, "and", a.dead, b.dead, sizes) if a.dead is not None and b.dead is not None else None
    if not a.factors and not b.factors and not a.pending and not b.pending:
        return term(a.out, a.into, sizes, (), a.coefficient + b.coefficient, dead)
    own = tuple(x for x in dict.fromkeys((*a.out, *a.into)) if x in {*_outer(a), *_outer(b)})
    node = em.plus(core(em, a, own, dtype), core(em, b, own, dtype))
    return term(a.out, a.into, sizes, [Factor(node, own, not a.exposed and not b.exposed)], 1, dead)


def dense(em: Emitter, path: Path, target: TensorType, source: TensorType, dtype: str) -> Node:
    """The whole array of a path, shape of the target before shape of the source."""
    work = list(path)
    pulling = em.space(range(target.rank), dict(enumerate(target.shape))) <= em.space(
        range(source.rank), dict(enumerate(source.shape))
    )
    if len(work) > 1 or isinstance(work[0], Operator):
        work = [identity_term(target.shape), *work] if pulling else [*work, identity_term(source.shape)]
    while len(work) > 1:
        at = 0 if pulling else len(work) - 2
        left, right = work[at], work[at + 1]
        if isinstance(left, Term) and isinstance(right, Term):
            work[at : at + 2] = [compose(em, left, right, dtype)]
        else:
            work[at : at + 2] = [_acted(em, left, right, pulling, dtype, True)]
    whole = work[0]
    assert isinstance(whole, Term)
    return core(em, whole, (*whole.out, *whole.into), dtype)
