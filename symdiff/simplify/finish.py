"""From normal form to the form that is shown: minus signs, quotients, roots, norms, selections.

Takes canonical values, gives values of the same builder in which sums are chains of add and sub, products contractions
whose first factor is a rank-0 coefficient, negative powers `div(1, x)` or powers, and every indicator is a `select`
around all that it guarded. Bringing the outcome to normal form again gives the canonical values back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from symdiff.ir.contraction import contract
from symdiff.ir.graph import Value
from symdiff.simplify import facts, rules_scalar
from symdiff.simplify.defined import finite_factor, harmless, is_indicator
from symdiff.simplify.exact import content_of
from symdiff.simplify.match import RuleBook, leading_minus
from symdiff.simplify.pointwise import COMPARISONS, negated
from symdiff.simplify.products import product
from symdiff.simplify.size import coefficient_size, length_of, number_size, shown_numbers, terms_weight
from symdiff.simplify.sums import labels_of, plus
from symdiff.simplify.triangles import is_mask
from symdiff.simplify.views import (
    Context,
    Factor,
    Number,
    Product,
    Terms,
    children,
    normal,
    number_in,
    unanswered,
    walk,
)
from symdiff.simplify.whole import joined_factors, joined_terms


def finish(ctx: Context, results: Sequence[Value], book: RuleBook) -> list[Value]:
    """The shown form of every result."""
    values = walk(ctx, results)
    finisher = Finisher(ctx, book)
    finisher.seen = {c for v in values if v.op.name not in COMPARISONS for c in children(ctx, v)}
    for value in values:
        finisher.add(value)
    return [finisher.shown[r] for r in results]


# Terms where a condition holds, and where it does not.
Cases: TypeAlias = "tuple[list[tuple[Number, Value]], list[tuple[Number, Value]]]"


class Finisher:
    def __init__(self, ctx: Context, book: RuleBook) -> None:
        self.ctx = ctx
        self.book = book
        self.shown: dict[Value, Value] = {}
        self.seen: set[Value] = set()  # what stands somewhere else than in a comparison

    def add(self, value: Value) -> None:
        """Fill in the shown form of a value; those of its operands are there."""
        if value not in self.shown:
            self.shown[value] = self._form(value)

    def form(self, value: Value) -> Value:
        """The shown form of a value made while finishing."""
        if value not in self.shown:
            for v in unanswered(value, self.shown, lambda v: children(self.ctx, v)):
                self.add(v)
        return self.shown[value]

    def _form(self, value: Value) -> Value:
        ctx = self.ctx
        if ctx.is_sum(value):
            return self.sum(ctx.terms(value), value)
        view = ctx.view(value)
        if number_in(value) is not None or (len(view.factors) == 1 and view.factors[0].base is value):
            if not value.args:
                return value
            args = [self.shown[a] for a in value.args]
            if value.op.name in COMPARISONS:
                args = self._sides(value) or args
            return ctx.plain(value.op.name, args, value.attrs)
        return self.product(view, value)

    def _sides(self, comparison: Value) -> list[Value] | None:
        """a - b > 0 as a > b, unless the difference is written elsewhere too."""
        left, right = comparison.args
        terms = self.ctx.terms(left)
        if number_in(right) != 0 or left in self.seen or not _mixed(terms):
            return None
        plain = [(c, t) for c, t in terms if c > 0], [(-c, t) for c, t in terms if c < 0]
        return [self.form(plus(self.ctx, side)) for side in plain]

    # ---------------------------------------------------------------- sums
    def sum(self, terms: Terms, like: Value) -> Value:
        ctx = self.ctx
        terms = joined_terms(ctx, terms)
        gathered = self._conditional(terms)
        if gathered is not None:
            return gathered
        mirrored = self._complement(terms)
        if mirrored is not None:
            return mirrored
        content = self._content(terms)
        if content != 1:
            inner = plus(ctx, [(normal(Fraction(c) / Fraction(content)), t) for c, t in terms])
            labels = labels_of(inner)
            sizes = dict(enumerate(inner.shape))
            return self.product(Product(content, (Factor(inner, 1, labels),), labels, sizes), inner)
        return self._chain(terms)

    def _chain(self, terms: Terms) -> Value:
        ctx = self.ctx
        total: Value | None = None
        for number, term in terms:
            shown = self._scaled(abs(number), term)
            if total is None:
                total = ctx.plain("neg", (shown,)) if number < 0 else shown
            else:
                total = ctx.plain("sub" if number < 0 else "add", (total, shown))
        assert total is not None
        return total

    def _scaled(self, number: Number, term: Value) -> Value:
        if number == 1:
            return self.form(term)
        if number_in(term) == 1:
            return self.ctx.const(number, term.shape, term.type.dtype)
        return self.product(self.ctx.view(term)._replace(coefficient=number), term)

    def _content(self, terms: Terms) -> Number:
        """A common coefficient worth writing once."""
        if all(c < 0 for c, _ in terms):
            own = content_of(self.ctx, terms)
            return own if self._gain(terms, own) >= 0 else -1
        own = abs(content_of(self.ctx, terms))
        alike = len({abs(c) for c, _ in terms}) == 1
        return own if own != 1 and self._gain(terms, own) > (-1 if alike else 0) else 1

    def _gain(self, terms: Terms, content: Number) -> int:
        after = [(normal(Fraction(c) / Fraction(content)), t) for c, t in terms]
        return terms_weight(terms) - terms_weight(after) - coefficient_size(content)

    def _complement(self, terms: Terms) -> Value | None:
        """1 - sigmoid(u) as sigmoid(-u)."""
        if len(terms) != 2 or terms[0][0] != -terms[1][0]:
            return None
        for (number, one), (_, other) in (terms, terms[::-1]):
            if number_in(one) == 1 and other.op.name == "sigmoid" and number == 1:
                turned = self.ctx.make("scale", (other.args[0],), (("by", -1),))
                return self.ctx.plain("sigmoid", (self.form(turned),))
        return None

    # ---------------------------------------------------------------- conditions
    def _conditional(self, terms: Terms) -> Value | None:
        """Terms with an indicator gathered into selections; None when there are none."""
        ctx = self.ctx
        cases: dict[Value, Cases] = {}
        rest: list[tuple[Number, Value]] = []
        for number, term in terms:
            found = self._indicated(term)
            if found is None:
                rest.append((number, term))
                continue
            condition, inner = found
            opposite = negated(ctx, condition)
            if opposite in cases:
                cases[opposite][1].append((number, inner))
            else:
                cases.setdefault(condition, ([], []))[0].append((number, inner))
        if not cases:
            return None
        rest = [(c, t) for c, t in rest if not self._rectified(c, t, cases)]
        shown: list[tuple[int, Value]] = []
        for condition, (yes, no) in cases.items():
            sign = -1 if all(c < 0 for c, _ in (*yes, *no)) and rest else 1
            branches = [plus(ctx, [(sign * c, t) for c, t in branch]) if branch else None for branch in (yes, no)]
            shown.append((sign, self._select(condition, branches[0], branches[1])))
        total: Value | None = self._chain(ctx.terms(plus(ctx, rest))) if rest else None
        for sign, value in shown:
            if total is None:
                total = value if sign > 0 else ctx.plain("neg", (value,))
            else:
                total = ctx.plain("add" if sign > 0 else "sub", (total, value))
        return total

    def _rectified(self, number: Number, term: Value, cases: Mapping[Value, Cases]) -> bool:
        """relu(u) beside a choice by the sign of u as u on one side of it; whether that was done."""
        ctx = self.ctx
        view = ctx.view(term)
        for f in view.factors:
            if f.base.op.name != "relu" or f.power != 1 or f.labels != view.output or not view.distinct:
                continue
            (u,) = f.base.args
            others = [Factor(u, 1, f.labels) if g is f else g for g in view.factors]
            for name in ("gt", "ge"):
                condition = ctx.make(name, (u, ctx.const(0, u.shape, u.type.dtype)))
                for side, own in enumerate((condition, negated(ctx, condition))):
                    if own in cases:
                        inner = product(ctx, view.coefficient, others, view.output, view.sizes, term.type.dtype)
                        cases[own][side].append((number, inner))
                        return True
        return False

    def _indicated(self, term: Value) -> tuple[Value, Value] | None:
        """(condition, what it multiplies) of a pointwise term with an indicator over all its axes."""
        ctx = self.ctx
        view = ctx.view(term)
        if not view.distinct:
            return None
        condition: Value | None = None
        others: list[Factor] = []
        for f in view.factors:
            if not (is_indicator(f) and set(f.labels) <= set(view.output)):
                others.append(f)
                continue
            own = f.base.args[0]
            if f.labels != view.output:
                own = product(ctx, 1, [Factor(own, 1, f.labels)], view.output, view.sizes, "bool")
            condition = own if condition is None else ctx.make("and", (condition, own))
        if condition is None:
            return None
        return condition, product(ctx, view.coefficient, others, view.output, view.sizes, term.type.dtype)

    def _select(self, condition: Value, yes: Value | None, no: Value | None) -> Value:
        """select(condition, yes, no) with rules tried; an absent branch is 0."""
        ctx = self.ctx
        first = yes if yes is not None else no
        assert first is not None
        zero = ctx.const(0, first.shape, first.type.dtype)
        if number_in(first) == 1 and (yes is None or no is None):
            bare = condition if no is None else negated(ctx, condition)
            return ctx.plain("cast", (self.form(bare),), (("dtype", first.type.dtype),))
        a, b = (yes if yes is not None else zero), (no if no is not None else zero)
        # Of a condition and its negation the one that the program made first is shown, or the one with a value.
        order = ctx.memo("made at")
        opposite = negated(ctx, condition)
        both = yes is not None and no is not None
        if yes is None or (both and order.get(opposite, 1 << 60) < order.get(condition, 1 << 60)):
            condition, a, b = opposite, b, a
        for c, u, v in ((condition, a, b), (negated(ctx, condition), b, a)):
            found = self.book.at_root(ctx, "select", (c, u, v))
            if found is not None:
                return self.form(found)
        return ctx.plain("select", (self.form(condition), self.form(a), self.form(b)))

    # ---------------------------------------------------------------- products
    def product(self, view: Product, like: Value) -> Value:
        """coefficient * factors as one contraction, a lone minus as `neg`."""
        ctx = self.ctx
        dtype = like.type.dtype
        number = view.coefficient
        factors = joined_factors(ctx, view)
        if any(is_indicator(f) for f in factors):
            factors, selected = self._guarded(view, dtype)
        else:
            selected = []
        number, scales = shown_numbers(ctx, number, factors)
        for at, by in scales.items():
            factors[at] = factors[at]._replace(base=ctx.make("scale", (factors[at].base,), (("by", by),)))
        if number < 0:
            for i, f in enumerate(factors):
                negative = self._opposite(f) if isinstance(f.power, int) and f.power % 2 else None
                if negative is not None:
                    factors[i] = f._replace(base=negative)
                    number = -number
                    break
        args: list[Value] = [v for v, _ in selected]
        labels = [x for _, x in selected]
        while self._solved(factors, view, args, labels, dtype) or self._triangle(factors, view, args, labels, dtype):
            pass
        for f in factors:
            args.append(self._factor(f, factors))
            labels.append(f.labels)
        above, below = number, 1
        if number_size(abs(number)) > 1:  # x/49 is 1 at 49, and x (1/49) a little less
            above, below = Fraction(number).numerator, Fraction(number).denominator
        minus = above == -1
        if above != 1 and not minus:
            args.insert(0, ctx.const(above, (), dtype))
            labels.insert(0, ())
        value = contract(ctx.builder, args, labels, view.output, view.sizes, dtype)
        if below != 1:
            value = ctx.plain("div", (value, ctx.const(below, value.shape, dtype)))
        return ctx.plain("neg", (value,)) if minus else value

    def _opposite(self, factor: Factor) -> Value | None:
        """-(a - b) as b - a, and so for an odd function of a difference."""
        ctx = self.ctx
        base = factor.base
        odd = base.op.name in rules_scalar.ODD
        inner = base.args[0] if odd else base
        if not ctx.is_sum(inner) or not _mixed(ctx.terms(inner)):
            return None
        turned = ctx.make("scale", (inner,), (("by", -1),))
        return ctx.plain(base.op.name, (turned,)) if odd else turned

    def _solved(
        self, factors: list[Factor], view: Product, args: list[Value], labels: list[tuple[int, ...]], dtype: str
    ) -> bool:
        """inverse(A) contracted with a vector or matrix as a solution, for an A that the program solves with."""
        ctx = self.ctx
        for f in factors:
            if f.power != 1 or f.base not in ctx.memo("solved"):
                continue
            for p, q in (f.labels, f.labels[::-1]) if facts.symmetric(ctx, f.base) else (f.labels,):
                # Labels of the result, and of operands that are placed already.
                held = {*view.output, *(x for own in labels for x in own)}
                beyond = self._behind(q, f, factors, held)
                if beyond is None or p in {x for g in beyond for x in g.labels}:
                    continue
                kept = tuple(dict.fromkeys(x for g in beyond for x in g.labels if x in held))
                if len(kept) > 1 or len(set(view.output)) < len(view.output):
                    continue
                one = ctx.fresh()
                column = kept or (one,)
                sizes = {**view.sizes, one: 1}
                alive = {x for g in beyond for x in g.labels} | set(column)
                right = product(ctx, 1, beyond, (q, *column), {x: sizes[x] for x in alive}, dtype)
                args.append(ctx.plain("solve", (self.form(f.base.args[0]), self.form(right))))
                labels.append((p, *column))
                factors[:] = [g for g in factors if g is not f and g not in beyond]
                return True
        return False

    def _triangle(
        self, factors: list[Factor], view: Product, args: list[Value], labels: list[tuple[int, ...]], dtype: str
    ) -> bool:
        """A triangle of ones and what it multiplies as a triangle or as running sums."""
        ctx = self.ctx
        for f in factors:
            if f.power != 1 or not is_mask(f.base) or f.labels[0] == f.labels[1]:
                continue
            rows, columns = f.labels
            k = f.base.attr("k")
            others = [g for g in factors if g is not f]
            held = {*view.output, *(x for own in labels for x in own)}
            inside = _between(others, {rows, columns}, held)
            if not args and set(view.output) == {rows, columns} and len(view.output) == 2:
                inside = [g for g in others if g.labels or not finite_factor(ctx, g)]
            if inside:
                upper = inside[0].labels == (columns, rows) if len(inside) == 1 else view.output == (columns, rows)
                places = (columns, rows) if upper else (rows, columns)
                alive = {x for g in inside for x in g.labels} | {rows, columns}
                whole = product(ctx, 1, inside, places, {x: view.sizes[x] for x in alive}, dtype)
                attrs = (("k", -k if upper else k),)
                args.append(ctx.plain("triu" if upper else "tril", (self.form(whole),), attrs))
                labels.append(places)
                factors[:] = [g for g in others if g not in inside]
                return True
            stacked = [g for g in others if {rows, columns} <= set(g.labels)]
            if stacked:
                lead = [x for x in dict.fromkeys(y for g in stacked for y in g.labels) if x not in f.labels]
                places = (*lead, rows, columns)
                wild = [g for g in others if g not in stacked and not finite_factor(ctx, g)]
                stacked += [g for g in wild if set(g.labels) <= set(places)]
                whole = product(ctx, 1, stacked, places, {x: view.sizes[x] for x in places}, dtype)
                args.append(ctx.plain("tril", (self.form(whole),), (("k", k),)))
                labels.append(places)
                factors[:] = [g for g in others if g not in stacked]
                return True
            for summed, left in ((columns, rows), (rows, columns)):
                beyond = self._behind(summed, f, others, held) if k == 0 else None
                if beyond is None or left in {x for g in beyond for x in g.labels}:
                    continue
                kept = tuple(dict.fromkeys(x for g in beyond for x in g.labels if x in held))
                alive = {x for g in beyond for x in g.labels}
                whole = product(ctx, 1, beyond, (summed, *kept), {x: view.sizes[x] for x in alive}, dtype)
                attrs = (("axis", -1 - len(kept)), ("reverse", summed == rows))
                args.append(ctx.plain("cumsum", (self.form(whole),), attrs))
                labels.append((left, *kept))
                factors[:] = [g for g in others if g not in beyond]
                return True
        return False

    def _behind(self, start: int, edge: Factor, factors: list[Factor], held: set[int]) -> list[Factor] | None:
        """Factors joined to a summed label other than through `edge`; None when there are none."""
        if start in held:
            return None
        found: list[Factor] = []
        reached = {start}
        growing = True
        while growing:
            growing = False
            for g in factors:
                if g is not edge and g not in found and any(x in reached for x in g.labels):
                    found.append(g)
                    reached |= {x for x in g.labels if x not in held}
                    growing = True
        return found or None

    def _guarded(self, view: Product, dtype: str) -> tuple[list[Factor], list[tuple[Value, tuple[int, ...]]]]:
        """Indicators with all factors they guard as selections: (other factors, selections with labels).

        What stands on the labels of an indicator reads best inside the selection; what may not be finite where the
        condition is false must stand there, whatever its labels.
        """
        ctx = self.ctx
        left = [f for f in view.factors if not is_indicator(f)]
        selected: list[tuple[Value, tuple[int, ...]]] = []
        pending = [f for f in view.factors if is_indicator(f)]
        while pending:
            guards = [pending.pop(0)]
            bound: list[Factor] = []
            grown = True
            while grown:
                more = [g for g in left if g not in bound and not self._harmless(g, guards)]
                bound += more
                reached = [f for f in pending if not all(self._harmless(g, [f]) for g in bound)]
                guards += reached
                pending = [f for f in pending if f not in reached]
                grown = bool(more or reached)
            labels = guards[0].labels
            if len(guards) > 1 or not all(set(g.labels) <= set(labels) for g in bound):
                labels = tuple(dict.fromkeys(x for f in (*guards, *bound) for x in f.labels))
            inside = [g for g in left if g in bound or (g.labels and set(g.labels) <= set(labels))]
            left = [g for g in left if g not in inside]
            others = [g for g in pending if set(g.labels) <= set(labels)]
            pending = [g for g in pending if g not in others]
            sizes = {x: view.sizes[x] for x in labels}
            yes = product(ctx, 1, inside, labels, sizes, dtype)
            condition: Value | None = None
            for g in (*guards, *others):
                own = g.base.args[0]
                if labels != g.labels:
                    own = product(ctx, 1, [Factor(own, 1, g.labels)], labels, sizes, "bool")
                condition = own if condition is None else ctx.make("and", (condition, own))
            assert condition is not None
            selected.append((self._select(condition, yes, None), labels))
        return left, selected

    def _harmless(self, factor: Factor, guards: Sequence[Factor]) -> bool:
        return all(harmless(self.ctx, factor, g.base.args[0], g.labels) for g in guards)

    def _factor(self, factor: Factor, beside: Sequence[Factor]) -> Value:
        """base ** power in its shown form."""
        ctx = self.ctx
        base, power, labels = factor
        kind = base.type
        shown = self.form(base)
        if ctx.is_sum(base) and shown.op.name == "sigmoid":
            argument = next(t.args[0] for _, t in ctx.terms(base) if t.op.name == "sigmoid")
            if any(f.base.op.name == "sigmoid" and f.base.args[0] is argument and f.labels == labels for f in beside):
                shown = self._chain(ctx.terms(base))
        if isinstance(power, Fraction) and power.denominator == 2:
            length = self._norm(base)
            if length is not None:
                shown, power = length, power.numerator
            elif power.numerator in (1, -1):
                shown, power = ctx.plain("sqrt", (shown,)), power.numerator
        elif abs(power) > 1 and isinstance(power, int) and length_of(ctx, base) is not None:
            length = self._norm(base)
            if length is not None:
                shown, power = length, 2 * power
        if power == 1:
            return shown
        if power == -1:
            return ctx.plain("div", (ctx.const(1, kind.shape, kind.dtype), shown))
        return ctx.plain("pow", (shown, ctx.const(power, kind.shape, kind.dtype)))

    def _norm(self, base: Value) -> Value | None:
        """sqrt(sum of squares over axes)."""
        view = self.ctx.view(base)
        if view.coefficient != 1 or len(view.factors) != 1 or view.factors[0].power != 2:
            return None
        inner, _, labels = view.factors[0]
        axes = tuple([k - len(labels) for k, x in enumerate(labels) if x not in view.output])
        kept = tuple([x for x in labels if x in view.output])
        if not axes or kept != view.output or len(set(labels)) < len(labels):
            return None
        return self.ctx.plain("norm", (self.form(inner),), (("axes", axes),))


def _between(factors: Sequence[Factor], ends: set[int], held: set[int]) -> list[Factor]:
    """Factors that make matrices with just the labels `ends`: such as have both, and chains from one to the other
    through labels that nothing else has."""
    found: list[Factor] = []
    groups: list[tuple[set[int], list[Factor]]] = []
    for f in factors:
        own = set(f.labels) - ends
        if not own:
            found += [f] if set(f.labels) == ends else []
            continue
        touched = [g for g in groups if g[0] & own]
        groups = [g for g in groups if g not in touched]
        groups.append((own.union(*[g[0] for g in touched]), [*[m for g in touched for m in g[1]], f]))
    for inner, members in groups:
        if inner.isdisjoint(held) and ends <= {x for m in members for x in m.labels}:
            found += members
    return found


def _mixed(terms: Terms) -> bool:
    return any(c > 0 for c, _ in terms) and any(c < 0 for c, _ in terms)


__all__ = ["finish", "leading_minus"]
