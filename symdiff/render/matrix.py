"""From index form to matrix notation: the shortest expression for a Product.

Takes a Product, gives a node and the axes it has (the others are broadcasts). Factors fall into components that share
no label. A component with at most two axes is searched: the best expression of every subset of its factors, in both
orientations, is found from its halves (a matrix product, an elementwise product, an outer product, a trace, a sum).
Components of higher rank are reduced by matrix products where two factors alone share a summed label, and the rest is
one einsum. Long chains are reduced greedily instead of searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from typing import TypeAlias

from symdiff.ir.dims import Dim
from symdiff.ir.dims import product as size_product
from symdiff.render.covariance import with_covariances
from symdiff.render.notation import Node, Notation
from symdiff.render.product import Factor, Labels, Product

# The best expressions of one set of factors, by the order of their labels: one or, for matrices, two.
Forms: TypeAlias = "dict[Labels, Node]"

MOST_SEARCHED = 6


def solve(notation: Notation, product: Product, dtype: str = "f64") -> tuple[Node, Labels]:
    """The expression of a Product and the axes of the result that it has."""
    node, axes = _Solver(notation, product, dtype).run()
    return (with_covariances(notation, node) if notation.for_papers else node), axes


class _Solver:
    def __init__(self, notation: Notation, product: Product, dtype: str) -> None:
        self.notation = notation
        self.dtype = dtype
        self.rank = product.rank
        self.sizes = product.sizes
        self.coefficient = product.coefficient
        self.deltas = product.deltas
        self.factors = self._turn_sign(list(product.factors))
        self.above: list[Node] = []
        self.below: list[Node] = []
        axes = {x for f in product.factors for x in f.labels} | {x for d in product.deltas for x in d}
        self.high = sum([x < product.rank for x in axes]) > 2

    def _turn_sign(self, factors: list[Factor]) -> list[Factor]:
        """-(a - b) is b - a, and 2 (b - a) times (a - b) is -2 times the square: its ends are alike."""
        sums = [i for i, f in enumerate(factors) if f.node.kind == "add" and f.power == 1]
        if abs(self.coefficient) != 1:
            for i, j in combinations(sums, 2):
                one, two = factors[i].node, factors[j].node
                if one is not two and self.notation.opposite(one) is two:
                    kept = min(one, two, key=lambda n: n.key)
                    factors[i], factors[j] = Factor(kept, factors[i].labels), Factor(kept, factors[j].labels)
                    self.coefficient = -self.coefficient
        elif self.coefficient == -1:
            for i in sums:
                if min(factors[i].node.data) < 0 < max(factors[i].node.data):
                    factors[i] = Factor(self.notation.opposite(factors[i].node), factors[i].labels)
                    self.coefficient = Fraction(1)
                    break
        return factors

    # ---------------------------------------------------------------- the whole
    def run(self) -> tuple[Node, Labels]:
        notation = self.notation
        pieces: list[tuple[Node, Labels]] = []
        apart: tuple[list[Factor], list[tuple[int, int]]] = ([], [])
        for labels, factors, deltas in self._components():
            kept = tuple(sorted(x for x in labels if x < self.rank))
            if not labels:
                for f in factors:
                    (self.above if f.power > 0 else self.below).append(notation.power(f.node, abs(f.power)))
            elif kept and not self.high:
                apart[0].extend(factors)
                apart[1].extend(deltas)
            else:
                pieces += self._component(kept, factors, deltas)
        if apart[0] or apart[1]:
            # Two vectors may be an outer product at once, or after one of them met a matrix: they are sought together.
            labels = {x for f in apart[0] for x in f.labels} | {x for d in apart[1] for x in d}
            pieces += self._component(tuple(sorted(x for x in labels if x < self.rank)), *apart)
        axes = tuple(sorted({x for _, labels in pieces for x in labels if x < self.rank}))
        if not pieces:
            body: list[Node] = []
        elif len(pieces) == 1 and pieces[0][1] == axes:
            body = [pieces[0][0]]
        elif len(axes) == 2 and [len(labels) for _, labels in pieces] == [1, 1]:
            (u, first), (v, _) = pieces
            body = [notation.outer(u, v) if first == axes[:1] else notation.outer(v, u)]
        else:
            body = [self._gathered(pieces, axes)]
        body, above, below = self._means(body)
        return notation.product(self.coefficient, [*above, *body], below), axes

    def _components(self) -> Iterable[tuple[set[int], list[Factor], list[tuple[int, int]]]]:
        """Factors and deltas that share labels, directly or through others; all scalars are the first."""
        scalars = [f for f in self.factors if not f.labels]
        groups: list[tuple[set[int], list[Factor], list[tuple[int, int]]]] = []
        items: list[tuple[set[int], Factor | tuple[int, int]]] = [(set(f.labels), f) for f in self.factors if f.labels]
        items += [(set(d), d) for d in self.deltas]
        for labels, item in items:
            touched = [g for g in groups if g[0] & labels]
            merged = (set(labels), [], [])
            for g in touched:
                merged = (merged[0] | g[0], merged[1] + g[1], merged[2] + g[2])
                groups.remove(g)
            if isinstance(item, Factor):
                merged[1].append(item)
            else:
                merged[2].append(item)
            groups.append(merged)
        return [(set(), scalars, []), *groups] if scalars else groups

    def _means(self, body: list[Node]) -> tuple[list[Node], list[Node], list[Node]]:
        """A sum over as many elements as a divisor says is a mean."""
        above, below = list(self.above), list(self.below)
        if below and len(body) == 1 and body[0].kind == "prod":
            number, count = body[0].data
            self.coefficient *= Fraction(number)
            body, below = list(body[0].args[:count]), [*below, *body[0].args[count:]]
        for group in (body, above):
            for i, node in enumerate(group):
                mask = node.data if node.kind == "expand" else None
                node = node.args[0] if mask is not None else node
                if node.kind != "sum":
                    continue
                count = size_product(node.args[0].shape[a] for a in node.data)
                if isinstance(count, Dim):
                    found = next((j for j, d in enumerate(below) if d.kind == "dim" and d.data == count), None)
                    if found is None:
                        continue
                    below.pop(found)
                elif count > 1 and self.coefficient.denominator % count == 0:
                    self.coefficient *= count
                else:
                    continue
                mean = self.notation.mean(node.args[0], node.data)
                group[i] = mean if mask is None else self.notation.expand(mean, mask)
        return body, above, below

    # ---------------------------------------------------------------- one component
    def _component(
        self, kept: Labels, factors: list[Factor], deltas: list[tuple[int, int]]
    ) -> list[tuple[Node, Labels]]:
        """Its pieces: one when matrix notation reaches it, else those of an einsum. A scalar goes to the front."""
        groups = self._groups(factors, deltas)
        if (self.high and kept) or groups is None or not all(len(labels) <= 2 for labels in groups):
            pieces = self._reduced(kept, factors, deltas)
            if not kept and pieces:
                self.above.append(self._gathered(pieces, ()))
            return pieces if kept else []
        keep = set(kept)
        leaves = [
            self._leaf(labels, members, {x for other in groups if other != labels for x in other} | keep)
            for labels, members in groups.items()
        ]
        best = self._search(leaves, keep) if len(leaves) <= MOST_SEARCHED else self._greedy(leaves, keep)
        if best is None:
            node = self._gathered([(n, l) for f in leaves for l, n in [min(f.items(), key=_weight)]], kept)
            best = {kept: node}
        if not kept:
            self.above.append(best[()])
            return []
        return [(best[kept], kept)]

    def _groups(
        self, factors: list[Factor], deltas: list[tuple[int, int]]
    ) -> dict[frozenset[int], list[Factor]] | None:
        """Factors by their sets of labels, diagonals taken; None when a tensor has a repeated label."""
        everywhere: dict[int, int] = {}
        for f in factors:
            for x in set(f.labels):
                everywhere[x] = everywhere.get(x, 0) + 1
        groups: dict[frozenset[int], list[Factor]] = {}
        for f in factors:
            if len(set(f.labels)) < len(f.labels):
                if len(f.labels) != 2:
                    return None
                label = f.labels[0]
                if label >= self.rank and everywhere[label] == 1 and f.power == 1:
                    f = Factor(self.notation.trace(f.node), ())
                else:
                    f = Factor(self.notation.diagonal(f.node), (label,), f.power)
            groups.setdefault(frozenset(f.labels), []).append(f)
        for a, b in deltas:
            eye = Factor(self.notation.eye(self.sizes[a], self.dtype), (a, b))
            groups.setdefault(frozenset((a, b)), []).append(eye)
        return groups

    # ---------------------------------------------------------------- leaves: factors with one set of labels
    def _oriented(self, members: Sequence[Factor], order: Labels) -> Node:
        """The elementwise product of factors with the labels `order`."""
        above: list[Node] = []
        below: list[Node] = []
        for f in members:
            node = f.node if f.labels == order else f.node.flip
            (above if f.power > 0 else below).append(self.notation.power(node, abs(f.power)))
        return self.notation.product(1, above, below)

    def _leaf(self, labels: frozenset[int], members: list[Factor], keep: set[int]) -> Forms:
        """All forms of one group; labels that nothing else has are summed."""
        notation = self.notation
        gone = labels - keep
        order = members[0].labels
        if not gone:
            return self._forms(order, self._oriented(members, order), members)
        if len(labels) == 1:
            return {(): self._vector_sum(members)}
        if not order:
            return {(): members[0].node}
        if len(gone) == 1:
            left = next(iter(labels - gone))
            summed = next(iter(gone))
            choices = [
                notation.sum(self._oriented(members, (left, summed)), (1,)),
                notation.sum(self._oriented(members, (summed, left)), (0,)),
            ]
            choices += [notation.diagonal(notation.matmul(*pair)) for pair in self._pairs(members, (left, summed))]
            return {(left,): min(choices, key=_cost)}
        choices = [notation.sum(self._oriented(members, order), (0, 1))]
        choices.append(notation.sum(self._oriented(members, order[::-1]), (0, 1)))
        choices += [notation.trace(notation.matmul(*pair)) for pair in self._pairs(members, order)]
        return {(): min(choices, key=_cost)}

    def _pairs(self, members: list[Factor], order: Labels) -> list[tuple[Node, Node]]:
        """Two matrices p, q of a group with product entries p[a,b] q[b,a] for a diagonal or a trace."""
        if len(members) != 2 or any(f.power != 1 for f in members):
            return []
        p, q = [f.node if f.labels == order else f.node.flip for f in members]
        return [(p, q.flip), (q, p.flip)]

    def _vector_sum(self, members: list[Factor]) -> Node:
        """The sum of an elementwise product of vectors, as a dot product where that is shorter."""
        notation = self.notation
        order = members[0].labels
        choices = [notation.sum(self._oriented(members, order), (0,))]
        for i, f in enumerate(members):
            rest = members[:i] + members[i + 1 :]
            if f.power == 1 and rest:
                choices.append(self._dot(f.node, self._oriented(rest, order)))
            elif f.power == 2 and not rest:
                choices.append(self._dot(f.node, f.node))
        return min(choices, key=_cost)

    def _dot(self, u: Node, v: Node) -> Node:
        """u . v, a chain that starts with a vector leading."""
        if v.kind == "matmul" and v.args[0].rank == 1 and not (u.kind == "matmul" and u.args[0].rank == 1):
            u, v = v, u
        return self.notation.matmul(u, v)

    # ---------------------------------------------------------------- combining
    def _forms(self, order: Labels, node: Node, members: list[Factor] | None = None) -> Forms:
        if len(order) != 2:
            return {order: node}
        other = node.flip
        if members is not None and len(members) > 1:
            other = min(other, self._oriented(members, order[::-1]), key=_cost)
        return {order: node, order[::-1]: other}

    def _combine(self, one: Forms, two: Forms, keep: set[int]) -> Forms | None:
        """The product of two expressions, summed over shared labels that are not kept; None beyond matrices."""
        notation = self.notation
        a, b = set(next(iter(one))), set(next(iter(two)))
        shared = a & b
        summed = shared - keep
        left = (a | b) - summed
        if len(left) > 2:
            return None
        found: Forms = {}

        def offer(order: Labels, node: Node) -> None:
            if order not in found or node.weight < found[order].weight:
                found[order] = node

        orders = _orders(left)
        if not summed:
            for order in orders:
                offer(order, self._elementwise(one, two, order) if shared else self._crossed(one, two, order))
        elif len(summed) == 2:
            for order, p in one.items():
                offer((), notation.sum(notation.product(1, [p, two[order]], ()), (0, 1)))
                offer((), notation.trace(notation.matmul(p, two[order[::-1]])))
        elif shared == summed:
            (s,) = summed
            for order in orders:
                for first, second in ((one, two), (two, one)):
                    self._chains(first, second, s, order, offer)
        else:
            (s,), (h,) = summed, shared - summed
            offer((h,), notation.sum(notation.product(1, [one[h, s], two[h, s]], ()), (1,)))
            offer((h,), notation.sum(notation.product(1, [one[s, h], two[s, h]], ()), (0,)))
            offer((h,), notation.diagonal(notation.matmul(one[h, s], two[s, h])))
            offer((h,), notation.diagonal(notation.matmul(two[h, s], one[s, h])))
        if len(left) == 2:
            for order in orders:
                offer(order, found[order[::-1]].flip)
        return found

    def _chains(
        self, first: Forms, second: Forms, s: int, order: Labels, offer: Callable[[Labels, Node], None]
    ) -> None:
        """Offer `first @ second` in the given order of result labels, when it has that order."""
        for p_labels, p in first.items():
            for q_labels, q in second.items():
                if p_labels[-1] == s and q_labels[0] == s and p_labels[:-1] + q_labels[1:] == order:
                    node = self._dot(p, q) if not order else self.notation.matmul(p, q)
                    offer(order, node)

    def _elementwise(self, one: Forms, two: Forms, order: Labels) -> Node:
        """Elementwise product in the given order, vectors broadcast."""
        nodes: list[Node] = []
        for forms in (one, two):
            labels = next(iter(forms))
            if len(labels) == len(order):
                nodes.append(forms[order])
            else:
                nodes.append(self.notation.align(forms[labels], labels, order))
        for eye, forms in ((nodes[0], two), (nodes[1], one)):
            labels = next(iter(forms))
            if eye.kind == "eye" and len(labels) == 1:
                return self.notation.diag(forms[labels], self.dtype)
        return self.notation.product(1, nodes, ())

    def _crossed(self, one: Forms, two: Forms, order: Labels) -> Node:
        u, v = (one, two) if order[:1] in one else (two, one)
        return self.notation.outer(u[order[:1]], v[order[1:]])

    def _search(self, leaves: list[Forms], keep: set[int]) -> Forms | None:
        """The shortest expression of all leaves, over every way to pair them."""
        count = len(leaves)
        everything = (1 << count) - 1
        own = [set(next(iter(f))) for f in leaves]
        best: dict[int, Forms] = {1 << i: f for i, f in enumerate(leaves)}
        for whole in sorted(range(1, everything + 1), key=lambda s: s.bit_count()):
            if whole.bit_count() < 2:
                continue
            outside = keep.union(*(own[i] for i in range(count) if not whole >> i & 1))
            found: Forms = {}
            low = whole & -whole
            part = (whole - 1) & whole
            while part:
                if part & low and part in best and (rest := whole ^ part) in best:
                    self._improve(found, best[part], best[rest], outside)
                part = (part - 1) & whole
            if found:
                best[whole] = found
        return best.get(everything)

    def _improve(self, found: Forms, one: Forms, two: Forms, outside: set[int]) -> None:
        a, b = next(iter(one)), next(iter(two))
        if not set(a) & set(b) and (len(a) != 1 or len(b) != 1):
            return
        for order, node in (self._combine(one, two, outside) or {}).items():
            if order not in found or node.weight < found[order].weight:
                found[order] = node

    def _greedy(self, leaves: list[Forms], keep: set[int]) -> Forms | None:
        """Combine the pair that adds least, again and again."""
        items = list(leaves)
        while len(items) > 1:
            choice: tuple[float, int, int, Forms] | None = None
            for i, j in combinations(range(len(items)), 2):
                one, two = items[i], items[j]
                apart = not set(next(iter(one))) & set(next(iter(two)))
                if apart and (len(items) > 2 or len(next(iter(one))) * len(next(iter(two))) != 1):
                    continue
                outside = keep.union(*(next(iter(f)) for k, f in enumerate(items) if k not in (i, j)))
                made = self._combine(one, two, outside)
                if made is not None:
                    gain = _least(made) - _least(one) - _least(two)
                    if choice is None or gain < choice[0]:
                        choice = (gain, i, j, made)
            if choice is None:
                return None
            _, i, j, made = choice
            items = [f for k, f in enumerate(items) if k not in (i, j)] + [made]
        return items[0]

    # ---------------------------------------------------------------- beyond matrices
    def _reduced(
        self, kept: Labels, factors: list[Factor], deltas: list[tuple[int, int]]
    ) -> list[tuple[Node, Labels]]:
        """Pieces of an einsum, with matrix products where two of them alone share a summed label."""
        notation = self.notation
        small: dict[frozenset[int], list[Factor]] = {}
        pieces: list[tuple[Node, Labels]] = []
        for f in factors:
            if len(f.labels) == 2 and f.labels[0] == f.labels[1]:
                f = Factor(notation.diagonal(f.node), f.labels[:1], f.power)
            if len(f.labels) <= 2 and len(set(f.labels)) == len(f.labels):
                small.setdefault(frozenset(f.labels), []).append(f)
            else:
                pieces.append((self._oriented([f], f.labels), f.labels))
        keep = set(kept)
        fixed = {x for _, labels in pieces for x in labels}
        items: list[Forms] = []
        for labels, members in small.items():
            outside = {x for other in small if other != labels for x in other} | keep | fixed
            items.append(self._leaf(labels, members, outside))
        items += [{d: notation.eye(self.sizes[d[0]], self.dtype)} for d in deltas]
        merged = True
        while merged:
            merged = False
            for i, j in combinations(range(len(items)), 2):
                a, b = set(next(iter(items[i]))), set(next(iter(items[j])))
                others = keep | fixed
                others = others.union(*(next(iter(f)) for k, f in enumerate(items) if k not in (i, j)))
                if (a & b and not a & b & others) or a == b:
                    made = self._combine(items[i], items[j], others)
                    if made is not None:
                        items = [f for k, f in enumerate(items) if k not in (i, j)] + [made]
                        merged = True
                        break
        scalars = [f[()] for f in items if () in f]
        self.above += scalars
        pieces += [(n, l) for f in items if () not in f for l, n in [min(f.items(), key=_weight)]]
        return pieces

    def _gathered(self, pieces: list[tuple[Node, Labels]], axes: Labels) -> Node:
        """Pieces as an elementwise product when one of them has all axes, else as one einsum."""
        notation = self.notation
        inner = any(x not in axes for _, labels in pieces for x in labels)
        cover = any(labels == axes for _, labels in pieces)
        if cover and not inner and all(list(l) == sorted(set(l)) for _, l in pieces):
            return notation.product(1, [notation.align(n, l, axes) for n, l in pieces], ())
        if len(pieces) == 1 and len(set(pieces[0][1])) == len(pieces[0][1]):
            node, labels = pieces[0]
            if tuple([x for x in labels if x in axes]) == axes:
                return notation.sum(node, tuple([i for i, x in enumerate(labels) if x not in axes]))
        number = {x: i for i, x in enumerate(axes)}
        for _, labels in pieces:
            for x in labels:
                number.setdefault(x, len(number))
        ordered = sorted(pieces, key=lambda p: [number[x] for x in p[1]])
        words = [tuple([number[x] for x in l]) for _, l in ordered]
        return notation.einsum([n for n, _ in ordered], words, tuple(range(len(axes))))


def _orders(labels: set[int]) -> list[Labels]:
    order = tuple(sorted(labels))
    return [order, order[::-1]] if len(order) == 2 else [order]


def _cost(node: Node) -> float:
    return node.weight


def _weight(item: tuple[Labels, Node]) -> tuple[float, Labels]:
    return item[1].weight, item[0]


def _least(forms: Mapping[Labels, Node]) -> float:
    return min([n.weight for n in forms.values()])
