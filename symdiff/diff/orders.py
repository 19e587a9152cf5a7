"""In which order to eliminate vertices: exact for small graphs, the best of several heuristics for larger ones.

Takes a linear graph and prices, gives vertices in order. The cheapest order is NP-hard to find (Naumann, Optimal
Jacobian accumulation is NP-complete, 2008). Up to `EXACT` vertices dynamic programming over the sets already
eliminated finds it, pruned by the best known price. Beyond, greedy orders compete (Griewank and Naumann, Accumulating
Jacobians as chained sparse matrix products, 2003): least Markowitz degree, least price, largest vertex first, and the
orders of forward and reverse mode; runs of vertices that everything must pass are bracketed like a chain of matrices.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence

from symdiff.diff.emit import Prices, Pricing
from symdiff.diff.graph import Elimination
from symdiff.diff.tangents import Linear
from symdiff.diff.terms import Path, Term, dense

EXACT = 9
GREEDY = 400
_TRIED = 1200
"""Eliminations after which the exact search stops with what it has."""

Products = list[tuple[int, int, list[Path]]]


def cheapest_order(graph: Linear, prices: Prices) -> list[int]:
    """All inner vertices, in the cheapest order found."""
    pricing = Pricing(prices)
    start = Elimination(graph, pricing)
    first = _free(start, pricing)
    settled = set(first)
    inner = [v for v in start.inner if v not in settled]
    if not inner:
        return first
    orders = [inner, inner[::-1]]
    # Every point counts in units of the cheaper sweep there.
    totals = [_totals(start, prices, order) for order in orders]
    prices.weigh([min(both) for both in zip(*totals, strict=True)])
    found = [prices.weighted(t) for t in totals]
    price, best = min(zip(found, orders, strict=True), key=lambda pair: pair[0])
    if len(inner) <= GREEDY:
        others = [_greedy_by_price(start.copy(), pricing, inner), _greedy_by_degree(start, prices, inner)]
        others.append(sorted(inner, key=lambda v: -prices.space(graph.types[v].shape)))
        for order in others:
            own = price_of(start.copy(), pricing, order, price)
            if own < price:
                best, price = order, own
    if len(inner) <= EXACT:
        best = _exact(start, pricing, inner, price) or best
    return [*first, *best]


def _free(work: Elimination, pricing: Pricing) -> list[int]:
    """Eliminate what costs nothing and multiplies no edges: renamings, signs, broadcasts."""
    done: dict[int, None] = {}
    ends = {s for s in work.graph.sinks if s is not None}
    waiting = work.inner
    while waiting:
        again: dict[int, None] = {}
        for v in waiting:
            if not _single(work, v):
                continue
            before = pricing.cost
            products = work.products(v)
            if pricing.cost > before or any(len(p) > 1 for _, _, p in products):
                continue
            again.update(dict.fromkeys(work.near(v)))
            work.eliminate(v, products)
            done[v] = None
        waiting = [v for v in again if v not in done and v not in ends and v >= work.graph.sources]
    return list(done)


def _single(work: Elimination, vertex: int) -> bool:
    """Whether eliminating a vertex repeats no factors: they are on one side only, and the other side is one map."""
    into, out = work.before.get(vertex, {}), work.after.get(vertex, {})
    if len(into) == len(out) == 1:
        return True
    if len(into) == 1:
        return all(_bare(p) for paths in into.values() for p in paths)
    return len(out) == 1 and all(_bare(p) for w in out for p in work.paths(vertex, w))


def _bare(path: Path) -> bool:
    return len(path) == 1 and isinstance(path[0], Term) and not path[0].factors and path[0].dead is None


def price_of(work: Elimination, pricing: Pricing, order: Sequence[int], most: float) -> float:
    """What an order costs in all, or infinity when that is more than `most`."""
    begun = pricing.cost
    for v in order:
        work.eliminate(v)
        if pricing.cost - begun >= most:
            return math.inf
    return pricing.cost - begun + _rest(work, pricing)


def _totals(start: Elimination, prices: Prices, order: Sequence[int]) -> list[float]:
    """The price of an order at every point."""
    pricing = Pricing(prices)
    price_of(start.copy(pricing), pricing, order, math.inf)
    return pricing.totals


def _rest(work: Elimination, pricing: Pricing) -> float:
    """What is left to do when only variables and results are."""
    begun, types = pricing.cost, work.graph.types
    for sink in work.graph.sinks:
        for source in range(work.graph.sources if sink is not None else 0):
            paths = work.paths(source, sink) if sink is not None else []
            target = types[sink] if sink is not None else types[source]
            made = [dense(pricing, path, target, types[source], target.dtype) for path in paths]
            for node in made[1:]:
                pricing.plus(made[0], node)
    return pricing.cost - begun


# -------------------------------------------------------------------- greedy
def _greedy_by_price(work: Elimination, pricing: Pricing, inner: Sequence[int]) -> list[int]:
    """Always the vertex next whose elimination costs least."""
    known: dict[int, Products] = {}

    def price(v: int) -> float:
        before = pricing.cost
        known[v] = work.products(v)
        return pricing.cost - before

    def remove(v: int) -> list[int]:
        near = list(work.near(v))
        work.eliminate(v, known[v])
        return near

    return _greedy(inner, price, remove)


def _greedy_by_degree(start: Elimination, prices: Prices, inner: Sequence[int]) -> list[int]:
    """Always the vertex with the least Markowitz degree next, neighbours counted by their elements: what there is
    before it times what there is after it. Only who neighbours whom matters, so no map is multiplied."""
    elements = [prices.space(kind.shape) for kind in start.graph.types]
    before = {v: dict.fromkeys(maps) for v, maps in start.before.items()}
    after = {v: dict(reached) for v, reached in start.after.items()}

    def degree(v: int) -> float:
        return sum([elements[u] for u in before.get(v, ())]) * sum([elements[w] for w in after.get(v, ())])

    def remove(v: int) -> list[int]:
        below, above = before.pop(v, {}), after.pop(v, {})
        for u in below:
            del after[u][v]
            after[u].update(above)
        for w in above:
            del before[w][v]
            before[w].update(below)
        return [*below, *above]

    return _greedy(inner, degree, remove)


def _greedy(
    inner: Sequence[int], weight: Callable[[int], float], remove: Callable[[int], Iterable[int]]
) -> list[int]:
    """Always the least weight next; `remove` gives the neighbours of what went, whose weights are renewed."""
    left = dict.fromkeys(inner, 0)
    heap = [(weight(v), v, 0) for v in inner]
    heapq.heapify(heap)
    order: list[int] = []
    while left:
        _, v, stamp = heapq.heappop(heap)
        if left.get(v) != stamp:
            continue
        near = remove(v)
        del left[v]
        order.append(v)
        for u in near:
            if u in left:
                left[u] = len(order)
                heapq.heappush(heap, (weight(u), u, left[u]))
    return order


# -------------------------------------------------------------------- exact
def _exact(start: Elimination, pricing: Pricing, inner: Sequence[int], most: float) -> list[int] | None:
    """The order with the least price below `most`, by the sets of vertices that are gone; None when there is none."""
    states: dict[frozenset[int], tuple[float, Elimination, list[int]]] = {frozenset(): (0.0, start, [])}
    tried = 0
    for _ in inner:
        following: dict[frozenset[int], tuple[float, Elimination, list[int]]] = {}
        for gone, (price, work, order) in sorted(states.items(), key=lambda item: item[1][0]):
            for v in inner:
                if v in gone:
                    continue
                tried += 1
                if tried > _TRIED:
                    return None
                before = pricing.cost
                products = work.products(v)
                key, total = gone | {v}, price + pricing.cost - before
                if total >= most or (key in following and following[key][0] <= total):
                    continue
                other = work.copy()
                other.eliminate(v, products)
                total = price + pricing.cost - before
                if total < most and (key not in following or total < following[key][0]):
                    following[key] = (total, other, [*order, v])
        states = following
    found: list[int] | None = None
    for price, work, order in states.values():
        total = price + _rest(work, pricing)
        if total < most:
            found, most = order, total
    return found
