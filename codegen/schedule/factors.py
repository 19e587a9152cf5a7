"""Common factors of many products, found pair by pair.

`share` takes products, each a multiset of factors; it makes the pair of factors that occurs in most of them one factor,
and goes on with the products so shortened until no pair occurs twice: the greedy choice of Breuer (Generation of
optimal code for expressions via factorization, CACM 12, 1969), with pairs as in Hosangadi, Fallah and Kastner
(Optimizing polynomial expressions by algebraic factorization and common subexpression elimination, IEEE TCAD 25, 2006).
Powers come out as chains of squares. Promise: near-linear in the number of factors, for products of bounded length, and
the same answer on every run: among pairs that occur equally often the one that was met first is taken.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TypeAlias

Pair: TypeAlias = "tuple[int, int]"


class Sharing:
    """Products being shortened. `degree` of a factor, and the limits of each product, say which pairs it may form."""

    def __init__(
        self, products: Sequence[list[int]], limits: Sequence[tuple[float, float]], free: Sequence[bool],
        degree: Callable[[int], float], level: Callable[[int], int], fresh: Callable[[], int],
    ) -> None:  # fmt: skip
        self.products, self.limits, self.free, self.fresh = products, limits, free, fresh
        self.degrees: dict[int, float] = {}
        self.levels: dict[int, int] = {}
        for product in products:
            for factor in product:
                if factor not in self.degrees:
                    self.degrees[factor], self.levels[factor] = degree(factor), level(factor)
        self.deepest = max(self.levels.values(), default=0)
        self.pairs: dict[int, Pair] = {}
        """The new factors, and of which two each is the product."""
        self.places: dict[Pair, dict[int, None]] = {}
        self.gain: dict[Pair, int] = {}
        self.order: dict[Pair, int] = {}
        self.heap: list[tuple[int, int, Pair]] = []
        self.likely: dict[int, list[int]] = {}
        """The factors of each product that it may share."""

    def share(self) -> None:
        """Shorten the products as far as pairs occur more than once."""
        met: dict[int, int] = {}
        for product in self.products:
            for factor in set(product):
                met[factor] = met.get(factor, 0) + 1
        for number, product in enumerate(self.products):
            # A factor that no other product has is shared with none, unless it is a power or no matter of this loop.
            likely = [f for f in product if met[f] > 1 or self.levels[f] < self.deepest or product.count(f) > 1]
            if len(likely) > 1:
                self.likely[number] = likely
                self._recount(number, {})
        for pair in self.gain:
            self._offer(pair)
        while self.heap:
            worth, _, pair = heapq.heappop(self.heap)
            if self._worth(pair) == -worth:
                self._take(pair)

    def _worth(self, pair: Pair) -> int:
        """Multiplications spared, less the one that the new factor takes where it is no matter of an outer loop."""
        return self.gain[pair] - (max(self.levels[pair[0]], self.levels[pair[1]]) == self.deepest)

    def _offer(self, pair: Pair) -> None:
        worth = self._worth(pair)
        if worth > 0:
            heapq.heappush(self.heap, (-worth, self.order[pair], pair))

    def _occurring(self, number: int) -> dict[Pair, int]:
        """The pairs that a product may form, and how many multiplications each would spare it."""
        product = self.likely[number]
        length = len(product)
        low, high = self.limits[number]
        degrees = self.degrees
        # What is rounded together with the sum it is used in costs no multiplication.
        gain = 0 if self.free[number] and len(self.products[number]) == 2 else 1
        found: dict[Pair, int] = {}
        for i in range(length):
            a = product[i]
            least, most = low - degrees[a], high - degrees[a]
            for j in range(i + 1, length):
                b = product[j]
                if least <= degrees[b] <= most:
                    found[(a, b) if a <= b else (b, a)] = gain
                    if a == b:
                        found[a, a] = gain * (product.count(a) // 2)
        return found

    def _recount(self, number: int, before: dict[Pair, int]) -> dict[Pair, int]:
        """Count what a product offers, in place of what it offered before; returns the pairs it offers."""
        after = self._occurring(number)
        for pair, gain in before.items():
            if pair not in after:
                self.gain[pair] -= gain
                del self.places[pair][number]
        for pair, gain in after.items():
            old = before.get(pair)
            if old == gain:
                continue
            if pair not in self.gain:
                self.places[pair], self.gain[pair], self.order[pair] = {}, 0, len(self.order)
            if old is None:
                self.places[pair][number] = None
            self.gain[pair] += gain - (old or 0)
        return after

    def _take(self, pair: Pair) -> None:
        """Make a pair one factor wherever it occurs and is paid for."""
        a, b = pair
        made = self.fresh()
        self.pairs[made] = pair
        self.degrees[made] = self.degrees[a] + self.degrees[b]
        self.levels[made] = max(self.levels[a], self.levels[b])
        changed: dict[Pair, None] = {}
        for number in list(self.places[pair]):
            product = self.products[number]
            if len(product) == 2 and self.free[number]:
                continue
            before = self._occurring(number)
            times = product.count(a) // 2 if a == b else min(product.count(a), product.count(b))
            for own in (product, self.likely[number]):
                for _ in range(times):
                    own.remove(a)
                    own.remove(b)
                    own.append(made)
            after = self._recount(number, before)
            changed.update(dict.fromkeys(p for p in before if after.get(p) != before[p]))
            changed.update(dict.fromkeys(p for p in after if p not in before))
        # Entries of the heap that are out of date come back with what their pairs are worth now.
        for other in changed:
            self._offer(other)
