"""The two uses of term algebra: making instructions, and adding up what they would cost.

Both multiply in the same order: factors pairwise, in the cheapest order found, so that a price is the price of what is
made. A price is one number: operations at representative sizes, a move as a quarter of one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from symdiff.diff.forward import push
from symdiff.diff.lifting import settled
from symdiff.diff.masks import block_mask, linear_mask, live, masked
from symdiff.diff.terms import Factor, Node, Operator
from symdiff.errors import DerivativeError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Labels, contract
from symdiff.ir.dims import Shape, Size, evaluate
from symdiff.ir.op import Linear, Rules
from symdiff.ir.types import TensorType

_MOVE = 0.25
_SEARCHED = 4
"""Factors of one product up to which every order of multiplying is tried."""


class Prices:
    """Index spaces as numbers: a weighted sum over points, each a size for every named dimension."""

    def __init__(self, points: Sequence[Mapping[str, int]]) -> None:
        self._points = tuple(points)
        self._weights = tuple(1.0 for _ in points)
        self._known: dict[Size, tuple[float, ...]] = {}

    def weigh(self, reference: Sequence[float]) -> None:
        """Count every point in units of its reference, so that the largest sizes do not decide alone."""
        self._weights = tuple(1.0 / max(r, 1.0) for r in reference)

    def _at(self, size: Size) -> tuple[float, ...]:
        found = self._known.get(size)
        if found is None:
            # A size such as n - 7 may be no size at a point.
            found = self._known[size] = tuple([float(max(evaluate(size, p), 1)) for p in self._points])
        return found

    def each(self, sizes: Iterable[Size]) -> tuple[float, ...]:
        """The number of elements of an index space at every point."""
        total = (1.0,) * len(self._points)
        for size in sizes:
            total = tuple([t * s for t, s in zip(total, self._at(size), strict=True)])
        return total

    def space(self, sizes: Iterable[Size]) -> float:
        """The weighted number of elements of an index space."""
        return self.weighted(self.each(sizes))

    def weighted(self, each: Sequence[float]) -> float:
        return sum([e * w for e, w in zip(each, self._weights, strict=True)])

    @property
    def points(self) -> int:
        """How many points there are."""
        return len(self._points)

    def labels(self, labels: Iterable[int], sizes: Mapping[int, Size]) -> float:
        return self.space([sizes[x] for x in labels])


def order(
    words: Sequence[frozenset[int]], output: frozenset[int], space: Callable[[frozenset[int]], float]
) -> list[tuple[int, int]]:
    """Pairs to multiply, each product taking the place of its first factor: the cheapest order of a few factors,
    the cheapest next pair of many."""
    steps: list[tuple[int, int]] = []
    while len(words) > _SEARCHED:
        pairs = [(i, j) for j in range(len(words)) for i in range(j)]
        i, j = min(pairs, key=lambda p: space(words[p[0]] | words[p[1]]))
        steps.append((i, j))
        words = _after(words, i, j, output)
    best: tuple[float, list[tuple[int, int]]] | None = None
    pending: list[tuple[float, list[tuple[int, int]], Sequence[frozenset[int]]]] = [(0.0, [], words)]
    while pending:
        price, done, left = pending.pop()
        if best is not None and price >= best[0]:
            continue
        if len(left) < 2:
            best = (price, done)
            continue
        for j in range(len(left)):
            for i in range(j):
                pending.append((price + space(left[i] | left[j]), [*done, (i, j)], _after(left, i, j, output)))
    assert best is not None
    return [*steps, *best[1]]


def _after(words: Sequence[frozenset[int]], i: int, j: int, output: frozenset[int]) -> list[frozenset[int]]:
    others = [w for k, w in enumerate(words) if k not in (i, j)]
    needed = output.union(*others)
    left = list(words)
    left[i] = (words[i] | words[j]) & needed
    del left[j]
    return left


class _Ordered(ABC):
    """Products of many factors as products of two."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices

    def space(self, labels: Iterable[int], sizes: Mapping[int, Size]) -> float:
        return self.prices.labels(labels, sizes)

    def contracted(
        self, factors: Sequence[Factor], output: Labels, sizes: Mapping[int, Size], dtype: str
    ) -> Node:
        """The product of factors, summed over labels that the output lacks; it may repeat and add labels."""
        work = [(f.node, f.labels) for f in factors]
        if len(work) > 2:
            words = [frozenset(labels) for _, labels in work]
            kept = frozenset(output)
            for i, j in order(words, kept, lambda w: self.space(w, sizes)):
                needed = kept.union(*(labels for k, (_, labels) in enumerate(work) if k not in (i, j)))
                if len(work) == 2:
                    break
                own = tuple(x for x in dict.fromkeys((*work[i][1], *work[j][1])) if x in needed)
                work[i] = (self.product([work[i], work[j]], own, sizes, dtype), own)
                del work[j]
        return self.product(work, output, sizes, dtype)

    @abstractmethod
    def product(
        self, args: Sequence[tuple[Node, Labels]], output: Labels, sizes: Mapping[int, Size], dtype: str
    ) -> Node: ...


class Building(_Ordered):
    """Makes instructions."""

    def __init__(self, builder: Builder, prices: Prices) -> None:
        super().__init__(prices)
        self._builder = builder

    def product(
        self, args: Sequence[tuple[Node, Labels]], output: Labels, sizes: Mapping[int, Size], dtype: str
    ) -> Node:
        free = {x: sizes[x] for x in output}
        nodes = [n for n, _ in args]
        if len({n.type.dtype for n in nodes}) > 1:  # the parts of a path stand on both sides of a cast
            nodes = [self._handle(n).op("cast", dtype=dtype).value for n in nodes]
        made = contract(self._builder, nodes, [w for _, w in args], output, free, dtype)
        return settled(self._handle(made)).value

    def _handle(self, node: Node) -> Handle:
        return Handle(self._builder, node)

    def scaled(self, node: Node, number: int | Fraction) -> Node:
        own = self._handle(node)
        return (-own if number == -1 else own * number).value

    def plus(self, a: Node, b: Node) -> Node:
        left, right = self._handle(a), self._handle(b)
        return (left + (right if right.dtype == left.dtype else right.op("cast", dtype=left.dtype))).value

    def masked(self, dead: Node, node: Node) -> Node:
        return masked(self._handle(dead), self._handle(node)).value

    def live(self, dead: Node, dtype: str) -> Node:
        return live(self._handle(dead), dtype).value

    def logic(self, name: str, a: Node, b: Node) -> Node:
        return self._handle(a).op(name, self._handle(b)).value

    def no_live(self, count: Node) -> Node:
        return self._handle(count).op("eq", 0).value

    def size(self, size: Size, dtype: str) -> Node:
        return self._builder.make(self._builder.opset["size"], (), (("dtype", dtype), ("size", size)))

    def pushed(self, op: Operator, node: Node, seeds: int) -> Node:
        moving: list[Handle | None] = [None] * len(op.value.args)
        moving[op.place] = self._handle(node)
        made = push(self._builder, op.value, moving, seeds)
        assert made is not None, "an operator depends on its operand"
        return made.value

    def pulled(self, op: Operator, node: Node, seeds: int) -> Node:
        rule, attrs = self._builder.opset.rule(op.value.op), dict(op.value.attrs)
        xs = [self._handle(a) for a in op.value.args]
        if isinstance(rule, Linear):
            made = rule.transpose(self._handle(node), *xs, **attrs)[op.place]
        elif isinstance(rule, Rules):
            made = rule.vjp(self._handle(node), self._handle(op.value), *xs, **attrs)[op.place]
        else:
            raise DerivativeError(f"elimination: {op.value.op.name} is no linear operator")
        assert made is not None, "an operator depends on its operand"
        return made.value

    def dead_through(self, op: Operator, dead: Node) -> Node:
        rule, attrs = self._builder.opset.rule(op.value.op), dict(op.value.attrs)
        xs = [self._handle(a) for a in op.value.args]
        own = self._handle(dead)
        if isinstance(rule, Linear):
            made = linear_mask(rule, op.place, own, xs, attrs)
            assert made is not None, "an operator depends on its operand"
            return made.value
        return block_mask(own, op.value, xs[op.place], attrs).value


class Ghost:
    """An array that is only priced."""

    __slots__ = ("type",)

    def __init__(self, kind: TensorType) -> None:
        self.type = kind


class Pricing(_Ordered):
    """Adds up `cost`; makes nothing."""

    def __init__(self, prices: Prices) -> None:
        super().__init__(prices)
        self.cost = 0.0
        self.totals = [0.0] * prices.points

    def _pay(self, times: float, sizes: Iterable[Size]) -> None:
        each = self.prices.each(sizes)
        self.cost += times * self.prices.weighted(each)
        for number, amount in enumerate(each):
            self.totals[number] += times * amount

    def _ghost(self, dtype: str, shape: Shape, each: float) -> Ghost:
        self._pay(each, shape)
        return Ghost(TensorType(dtype, shape))

    def product(
        self, args: Sequence[tuple[Node, Labels]], output: Labels, sizes: Mapping[int, Size], dtype: str
    ) -> Node:
        words = [labels for _, labels in args]
        distinct = dict.fromkeys(output)
        shape = tuple([sizes[x] for x in output])
        inside = dict.fromkeys(x for w in words for x in w)
        summed = [x for x in inside if x not in distinct]
        if len(args) == 1 and not summed:
            if words[0] == output:
                return args[0][0]
            moved = len(distinct) < len(output) or len(inside) < len(distinct)
            if moved:
                self._pay(_MOVE, shape)
            return Ghost(args[0][0].type if not moved and len(words[0]) == len(output) else TensorType(dtype, shape))
        whole = [sizes[x] for x in inside]
        self._pay((len(args) == 2) + bool(summed), whole)
        if summed:
            self._pay(-1.0, [sizes[x] for x in inside if x in distinct])
        if len(distinct) < len(output) or len(inside) - len(summed) < len(distinct):
            self._pay(_MOVE, shape)
        return Ghost(TensorType(dtype, shape))

    def scaled(self, node: Node, number: int | Fraction) -> Node:
        return self._ghost(node.type.dtype, node.type.shape, 1.0)

    def plus(self, a: Node, b: Node) -> Node:
        return self._ghost(a.type.dtype, a.type.shape, 1.0)

    def masked(self, dead: Node, node: Node) -> Node:
        return self._ghost(node.type.dtype, node.type.shape, 1.0)

    def live(self, dead: Node, dtype: str) -> Node:
        return self._ghost(dtype, dead.type.shape, 1.0 + _MOVE)

    def logic(self, name: str, a: Node, b: Node) -> Node:
        return self._ghost("bool", a.type.shape, 1.0)

    def no_live(self, count: Node) -> Node:
        return self._ghost("bool", count.type.shape, 1.0)

    def size(self, size: Size, dtype: str) -> Node:
        return Ghost(TensorType(dtype, ()))

    def pushed(self, op: Operator, node: Node, seeds: int) -> Node:
        return self._moved(op, node, seeds, op.target)

    def pulled(self, op: Operator, node: Node, seeds: int) -> Node:
        return self._moved(op, node, seeds, op.source)

    def _moved(self, op: Operator, node: Node, seeds: int, kind: TensorType) -> Node:
        lead = node.type.shape[:seeds]
        larger = max((op.source, op.target), key=lambda t: self.prices.space(t.shape))
        # A substitution does as many operations for each element as its matrix has rows.
        each = (op.source.shape[-2],) if op.value.op.name in ("solve", "triangular_solve") else ()
        self._pay(1.0 if each else _MOVE, (*lead, *larger.shape, *each))
        return Ghost(TensorType(kind.dtype, (*lead, *kind.shape)))

    def dead_through(self, op: Operator, dead: Node) -> Node:
        return self._ghost("bool", op.source.shape, 2.0)
