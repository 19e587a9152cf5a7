"""The scalar code of a nest with fewer operations: signs, constants, quotients, and factors that products share.

Takes the statements of a nest, the scalars that others read and the depth of loops each needs; gives statements that
compute the same, and new names where a scalar is another one's. Products are read as monomials
(`codegen.schedule.monomials`, which says what may change), signs go into sums, constants meet, and quotients by one
root, or by one sum that is never denormal, share its reciprocal. Where products need not be multiplied as written,
constants of one product meet, common factors are found across everything the nest computes
(`codegen.schedule.factors`), and what a loop does not change is multiplied first. A product that shares nothing keeps
its order and its bits; the code stays as it is where nothing is saved.

Promises: results differ by the rounding of products of up to `MOST` factors, and in order by one of a constant or a
reciprocal, so that what is finite, infinite or NaN as written stays so; no sum is reordered; near-linear in the
number of statements, without recursion over them; deterministic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from codegen.analysis.uses import products_in_sums
from codegen.ir.costs import scalar_cost
from codegen.ir.loops import Let, Load
from codegen.schedule.constants import ONE, Exact, number
from codegen.schedule.factors import Pair, Sharing
from codegen.schedule.monomials import Monomial, Reading

_LONGEST: Final = 1_500
"""Statements of a loop up to which its code is regrouped,"""
_LONGEST_ALONE: Final = 600
"""and of code without a loop, which is run no oftener than it is called."""
_ENOUGH: Final = 0.95
"""What may be left of the operations of such code for the change to be worth its while."""
_OUTSIDE: Final = 0.1
"""What an operation costs that the innermost loop does not repeat."""

Key: TypeAlias = "tuple[int | Exact, ...]"


@dataclass(eq=False, slots=True)
class Regrouped:
    """New statements, and the names that stand for old ones."""

    stmts: list[Let | Load]
    names: dict[int, int]
    free: int
    """The first name that is free afterwards."""


def regroup(
    stmts: Sequence[Let | Load], read: Collection[int], level: Callable[[int], int], first: int, ordered: bool
) -> Regrouped | None:
    """The statements with fewer operations; None where nothing is saved.

    read: names that are used outside. level: how many loops the value of a name depends on. first: names from there on
    are free. ordered: products are multiplied in the order in which they are written.
    """
    if len(stmts) > _LONGEST:
        return None
    levels = {s.name: level(s.name) for s in stmts}
    looped = max(levels.values(), default=0) > 0
    products = sum(isinstance(s, Let) and s.op in ("mul", "div") for s in stmts)
    if products < 2 or (len(stmts) > _LONGEST_ALONE and not looped):
        return None
    best, least = None, _Cost(stmts, read, levels)
    for apart in (False,) if ordered else (False, True):
        work = _Work(Reading(stmts, apart, ordered), read, level, first)
        work.want()
        if not ordered:  # products of two factors have no others in common
            work.share()
        made = work.write()
        own = dict(levels)
        for stmt in made.stmts:
            if isinstance(stmt, Let) and stmt.name not in own:
                own[stmt.name] = max([own.get(a, 0) for a in stmt.args], default=0)
        cost = _Cost(made.stmts, {made.names.get(n, n) for n in read}, own)
        # Without a loop nothing else runs meanwhile: what is saved must not be waited for.
        enough = 1.0 if looped else _ENOUGH
        if cost.operations < enough * least.operations and (looped or cost.steps <= least.steps):
            best, least = made, cost
    return best


class _Cost:
    """What statements cost: operations of the innermost loop, products that are rounded with a sum counted as one; and
    the longest way through them."""

    def __init__(self, stmts: Sequence[Let | Load], read: Collection[int], levels: Mapping[int, int]) -> None:
        deepest = max([levels[s.name] for s in stmts], default=0)
        lets = [s for s in stmts if isinstance(s, Let)]
        count = Counter([a for s in lets for a in s.args])
        count.update(read)
        fused: set[int] = set()
        products_in_sums(lets, count, fused)
        self.operations, self.steps = 0.0, 0
        ready: dict[int, int] = {}
        for stmt in lets:
            own = scalar_cost(stmt.op)
            ready[stmt.name] = own + max([ready.get(a, 0) for a in stmt.args], default=0)
            if stmt.name not in fused:
                self.operations += own * (1.0 if levels[stmt.name] == deepest else _OUTSIDE)
        self.steps = max(ready.values(), default=0)


class _Work:
    """One rewriting: `want`, then `share` where any order is allowed, then `write`."""

    def __init__(self, reading: Reading, read: Collection[int], level: Callable[[int], int], first: int) -> None:
        self.reading, self.read, self.level, self.free = reading, read, level, first
        self.dtypes = {s.name: s.buffer.dtype if isinstance(s, Load) else s.dtype for s in reading.stmts}
        # What is needed.
        self.wanted: set[int] = set()
        """Scalars that others need as they are, products among them,"""
        self.early: set[int] = set()
        """products that are factors of others,"""
        self.products: dict[Key, Monomial] = {}
        """and what is multiplied, but for its sign."""
        self.asked: dict[Key, list[bool]] = {}
        """For every product whether each of its uses is one in a sum that it may be rounded with."""
        self.home: dict[Key, int] = {}
        """The scalar that says how a product was written."""
        # What is shared.
        self.factors: dict[Key, list[int]] = {}
        """The factors, shared ones among them, of products that are not computed as written."""
        self.pairs: dict[int, Pair] = {}
        """Shared factors, and of which two each is the product."""
        self.constants: dict[int, Exact] = {}
        """Factors that are constants."""
        self.degrees: dict[int, float] = {}
        self.levels: dict[int, int] = {}
        """How many loops change a factor."""
        # What is written.
        self.out: list[Let | Load] = []
        self.made: dict[Key, int] = {}
        """The scalar that a product is but for its sign,"""
        self.negative: dict[int, int] = {}
        """scalars with the other sign,"""
        self.places: dict[tuple[str, int | Exact, int], int] = {}
        """constants (dtype, value, sign) and factors (dtype, factor, 0)."""
        self.order: dict[int, tuple[int, bool, int]] = {}
        """Where factors stand in a chain of products."""

    def fresh(self) -> int:
        """A name that is not used yet."""
        self.free += 1
        return self.free - 1

    # ---------------------------------------------------------------- what is needed
    def want(self) -> None:
        """Walk from what is read outside to what it takes."""
        reading = self.reading
        self.wanted.update(self.read)
        for stmt in reversed(reading.stmts):
            if isinstance(stmt, Load):
                if stmt.name in self.wanted:
                    self.wanted.update(int(n[1:]) for i in stmt.index for n, _ in i.terms if n[0] == "%")
                continue
            if stmt.name not in self.wanted:
                continue
            monomial = reading.monomials.get(stmt.name)
            if monomial is None or monomial.factors == (stmt.name,):
                terms = reading.terms.get(stmt.name)
                if terms is not None:
                    self._ask_terms(*terms)
                else:
                    self._want_operands(stmt)
            if monomial is not None and monomial.factors != (stmt.name,):
                self._ask(monomial, stmt.name, fusable=False)
        for stmt in reading.stmts:  # the first of equal products says how it was written
            if isinstance(stmt, Let):
                own = reading.monomials.get(stmt.name)
                if own is not None and len(own.factors) > 1:
                    self.home.setdefault(own.key, stmt.name)

    def _want_operands(self, stmt: Let) -> None:
        self.wanted.update(stmt.args)
        index = stmt.attr
        if stmt.op == "index":
            self.wanted.update(int(n[1:]) for n, _ in index.terms if n[0] == "%")

    def _ask_terms(self, a: Monomial, b: Monomial) -> None:
        both = len(a.factors) > 1 and len(b.factors) > 1
        for one, other in ((a, b), (b, a)):
            # x*x - y*y is 0 where x is y: a difference of products is rounded as it stands.
            self._ask(one, None, fusable=not both or (one is b and one.sign == other.sign))

    def _ask(self, monomial: Monomial, name: int | None, fusable: bool) -> None:
        for factor in monomial.factors:
            own = factor if factor >= 0 else -1 - factor
            self.wanted.add(own)
            found = self.reading.monomials.get(own)
            if found is not None and found.factors != (own,):
                self.early.add(own)
        if len(monomial.factors) + (monomial.constant is not ONE) > 1:
            key = monomial.key
            known = self.products.setdefault(key, monomial)
            if known is not monomial:
                low, high = max(known.low, monomial.low), min(known.high, monomial.high)
                self.products[key] = known._replace(low=low, high=high, written=known.written and monomial.written)
            self.asked.setdefault(key, []).append(fusable)

    # ---------------------------------------------------------------- what is shared
    def share(self) -> None:
        """Find the factors that products have in common."""
        keys = list(self.products)
        numbers: dict[Exact, int] = {}
        lists: list[list[int]] = []
        for product in self.products.values():
            own = list(product.factors)
            constant = product.constant
            if constant is not ONE:
                if constant not in numbers:
                    numbers[constant] = self.fresh()
                    self.constants[numbers[constant]] = constant
                own.append(numbers[constant])
            lists.append(own)
        limits = [(self.products[k].low, self.products[k].high) for k in keys]
        free = [self.asked[k] == [True] for k in keys]
        sharing = Sharing(lists, limits, free, self._degree, self._level, self.fresh)
        before = [tuple(one) for one in lists]
        sharing.share()
        self.pairs = sharing.pairs
        self.degrees, self.levels = sharing.degrees, sharing.levels
        for key, old, own in zip(keys, before, lists, strict=True):
            if tuple(own) != old or not self.products[key].written:
                self.factors[key] = own

    def _degree(self, factor: int) -> float:
        if factor in self.constants:
            return 0.0
        own = self.reading.degree.get(factor if factor >= 0 else -1 - factor, 1.0)
        return own if factor >= 0 else -own

    def _level(self, factor: int) -> int:
        if factor in self.constants:
            return 0
        return self.level(factor if factor >= 0 else -1 - factor)

    # ---------------------------------------------------------------- writing
    def write(self) -> Regrouped:
        """The new statements."""
        reading, names = self.reading, dict[int, int]()
        for stmt in reading.stmts:
            name = stmt.name
            if name not in self.wanted:
                continue
            monomial = reading.monomials.get(name)
            if monomial is None or monomial.factors == (name,):
                if isinstance(stmt, Load):
                    self.out.append(stmt)
                elif name in reading.terms:
                    self._write_sum(stmt)
                    if monomial is not None and monomial.sign < 0 and name in self.read:
                        names[name] = self.value(name)
                else:
                    args = tuple([self.value(a) for a in stmt.args])
                    self.out.append(stmt if args == stmt.args else replace(stmt, args=args))
            elif name in self.read:
                names[name] = self.value(name)
            elif name in self.early:
                self.positive(monomial, self.dtypes[name])
        return Regrouped(self.out, {old: new for old, new in names.items() if old != new}, self.free)

    def _let(self, op: str, args: tuple[int, ...], dtype: str, attr: object = None) -> int:
        name = self.fresh()
        self.out.append(Let(name, op, args, dtype, attr))
        return name

    def _number(self, value: Exact, sign: int, dtype: str) -> int:
        place = (dtype, value, sign)
        if place not in self.places:
            size = number(value)
            if sign > 0:
                self.places[place] = self._let("const", (), dtype, size)
            elif isinstance(size, str):
                self.places[place] = self._negated(self._number(value, 1, dtype), dtype)
            else:
                self.places[place] = self._let("const", (), dtype, -size)
        return self.places[place]

    def _negated(self, name: int, dtype: str) -> int:
        found = self.negative.get(name)
        if found is None:
            found = self.negative[name] = self._let("neg", (name,), dtype)
        return found

    def value(self, name: int) -> int:
        """The scalar that has the value of `name`."""
        monomial = self.reading.monomials.get(name)
        if monomial is None or (monomial.factors == (name,) and monomial.sign > 0):
            return name
        dtype = self.dtypes[name]
        if not monomial.factors:
            return self._number(monomial.constant, monomial.sign, dtype)
        found = self.positive(monomial, dtype)
        return found if monomial.sign > 0 else self._negated(found, dtype)

    def positive(self, monomial: Monomial, dtype: str) -> int:
        """The scalar that a product is but for its sign."""
        factors = monomial.factors
        if not factors:
            return self._number(monomial.constant, 1, dtype)
        if len(factors) == 1 and monomial.constant is ONE:
            return self._factor(factors[0], dtype)
        key = monomial.key
        found = self.made.get(key)
        if found is None:
            own = self.factors.get(key)
            found = self._written(monomial, dtype) if own is None else self._chain(self.products[key], own, dtype)
            self.made[key] = found
        return found

    def _written(self, monomial: Monomial, dtype: str) -> int:
        """A product that shares nothing, as it was written but for signs."""
        name = self.home.get(monomial.key, -1)
        parts = self.reading.parts.get(name)
        if parts is not None:
            return self._let("mul", tuple([self.positive(part, dtype) for part in parts]), dtype)
        stmt = self.reading.lets.get(name)
        if stmt is not None and stmt.op == "pow_int":
            return self._let("pow_int", (self._factor(monomial.factors[0], dtype),), dtype, stmt.attr)
        total = -1
        for factor in monomial.factors:
            own = self._factor(factor, dtype)
            total = own if total < 0 else self._let("mul", (total, own), dtype)
        if monomial.constant is not ONE:
            total = self._let("mul", (self._number(monomial.constant, 1, dtype), total), dtype)
        return total

    def _chain(self, monomial: Monomial, factors: Sequence[int], dtype: str) -> int:
        """A product factor by factor, those first that loops change least, within the limits of what was written."""
        left = sorted(factors, key=self._place_in_chain)
        total, degree = self._factor(left[0], dtype), self.degrees[left[0]]
        left = left[1:]
        while left:
            at = next(
                (i for i, f in enumerate(left) if monomial.low <= degree + self.degrees[f] <= monomial.high), 0
            )
            factor = left.pop(at)
            total, degree = self._let("mul", (total, self._factor(factor, dtype)), dtype), degree + self.degrees[factor]
        return total

    def _place_in_chain(self, factor: int) -> tuple[int, bool, int]:
        """What loops change least comes first, then constants, then what is known first."""
        found = self.order.get(factor)
        if found is None:
            parts = self.pairs.get(factor)
            age = factor if factor >= 0 else -1 - factor
            if parts is not None:
                age = max([self._place_in_chain(f)[2] for f in parts])
            found = self.order[factor] = self.levels[factor], factor not in self.constants, age
        return found

    def _factor(self, factor: int, dtype: str) -> int:
        """The scalar that a factor is."""
        if factor in self.constants:
            return self._number(self.constants[factor], 1, dtype)
        pair = self.pairs.get(factor)
        place = (dtype, factor, 0)
        if pair is None and factor >= 0:
            own = self.reading.of(factor)
            return factor if own.factors == (factor,) else self.positive(own, dtype)
        found = self.places.get(place)
        if found is None:
            if pair is not None:
                found = self._let("mul", tuple([self._factor(f, dtype) for f in pair]), dtype)
            else:
                found = self._let("div", (self._number(ONE, 1, dtype), self._factor(-1 - factor, dtype)), dtype)
            self.places[place] = found
        return found

    def _write_sum(self, stmt: Let) -> None:
        """A sum of two terms whose signs decide whether it is added or subtracted."""
        a, b = self.reading.terms[stmt.name]
        x, y = (self.positive(m, stmt.dtype) for m in (a, b))
        if a.sign < 0:
            x, y = y, x
        op = "add" if a.sign == b.sign else "sub"
        self.out.append(Let(stmt.name, op, (x, y), stmt.dtype))

