"""Rewrite rules as data, and matching them against canonical values.

A `Rule` has a name, a left and a right side written as terms over variables, and conditions on variables. Both sides
are data: they can be printed, tested at random points, and typed for any shape. For matching, the left side is itself
brought to normal form, so a pattern matches whatever has its normal form: operands of sums and products in any order,
quotients as negative powers, a factor more or less beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from symdiff.ir.graph import Value
from symdiff.ir.types import TensorType
from symdiff.simplify import facts
from symdiff.simplify.defined import generic, harmless, is_mask
from symdiff.simplify.exact import first_sign
from symdiff.simplify.products import product, scaled
from symdiff.simplify.sums import labels_of, spread_axes
from symdiff.simplify.views import Context, Factor, Labels, Number, Product, Terms, normal, number_in

# -------------------------------------------------------------------- terms
SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "eq": "==", "ne": "!=",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Term:
    """A side of a rule: a variable (op "var"), a number (op "number") or an op of the IR on terms."""

    op: str
    args: tuple[Term, ...] = ()
    data: Any = None

    def __add__(self, other: Term | int) -> Term:
        return Term("add", (self, lift(other)))

    def __radd__(self, other: int) -> Term:
        return Term("add", (lift(other), self))

    def __sub__(self, other: Term | int) -> Term:
        return Term("sub", (self, lift(other)))

    def __rsub__(self, other: int) -> Term:
        return Term("sub", (lift(other), self))

    def __mul__(self, other: Term | int) -> Term:
        return Term("mul", (self, lift(other)))

    def __rmul__(self, other: int) -> Term:
        return Term("mul", (lift(other), self))

    def __truediv__(self, other: Term | int) -> Term:
        return Term("div", (self, lift(other)))

    def __rtruediv__(self, other: int) -> Term:
        return Term("div", (lift(other), self))

    def __pow__(self, other: int) -> Term:
        return Term("pow", (self, lift(other)))

    def __neg__(self) -> Term:
        return Term("neg", (self,))

    def __str__(self) -> str:
        if self.op == "var":
            return self.data
        if self.op == "number":
            return str(self.data)
        words = [str(a) for a in self.args]
        sign = SIGNS.get(self.op)
        if sign:
            return f"({words[0]} {sign} {words[1]})"
        return f"(-{words[0]})" if self.op == "neg" else f"{self.op}({', '.join(words)})"


def lift(value: Term | int | Fraction) -> Term:
    return value if isinstance(value, Term) else Term("number", (), value)


def var(name: str) -> Term:
    return Term("var", (), name)


def op(name: str, *args: Term | int) -> Term:
    return Term(name, tuple([lift(a) for a in args]))


@dataclass(frozen=True, slots=True)
class Rule:
    """lhs -> rhs where the conditions hold.

    when: pairs (fact, variable): positive, nonnegative, generic (not zero but on a set of measure zero), or negated
    (the value that -variable stands for is written with a minus sign: a choice of form, not a condition for equality).
    almost: equal except on a set of measure zero. unguarded: the left side is zero where its indicator is, whatever
    stands beside it, and the right side is not: what stands beside must be finite there.
    """

    name: str
    lhs: Term
    rhs: Term
    when: tuple[tuple[str, str], ...] = ()
    almost: bool = False
    unguarded: bool = False

    def __str__(self) -> str:
        text = f"{self.name}: {self.lhs} -> {self.rhs}"
        return text + (f" where {', '.join(f'{v} is {f}' for f, v in self.when)}" if self.when else "")

    @property
    def variables(self) -> tuple[str, ...]:
        found: dict[str, None] = {}
        stack = [self.lhs]
        while stack:
            term = stack.pop()
            if term.op == "var":
                found.setdefault(term.data)
            stack.extend(reversed(term.args))
        return tuple(found)


# -------------------------------------------------------------------- terms as values
def build(ctx: Context, term: Term, values: Mapping[str, Value], like: Value) -> Value:
    """The canonical value of a term, its numbers filling the shape of `like`."""
    if term.op == "var":
        return values[term.data]
    if term.op == "number":
        return ctx.const(term.data, like.shape, like.type.dtype)
    args = [build(ctx, a, values, like) for a in term.args]
    attrs = (("dtype", like.type.dtype),) if term.op == "cast" else ()
    return ctx.make(term.op, args, attrs)


def built_factors(
    ctx: Context, term: Term, values: Mapping[str, Value], like: Value, power: Number
) -> list[tuple[Value, Number]]:
    """The factors of a term. A product is not made by itself: an indicator in it guards what will stand beside."""
    operands = term.args if term.op == "mul" else (term,)
    return [(build(ctx, a, values, like), power) for a in operands]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule with its left side in normal form, ready to match."""

    rule: Rule
    lhs: Value
    context: Context
    variables: frozenset[Value]


def compile_rule(ctx: Context, rule: Rule) -> Compiled:
    """`ctx` must apply no rules itself, or the left side would turn into the right one."""
    kind = TensorType("f64", ())
    variables = {name: ctx.builder.param(name, kind) for name in rule.variables}
    like = ctx.const(0)
    return Compiled(rule, build(ctx, rule.lhs, variables, like), ctx, frozenset(variables.values()))


# -------------------------------------------------------------------- matching
Binding: TypeAlias = "dict[str, Value]"


class Matcher:
    """Matches patterns of one compiled rule against values of a context."""

    def __init__(self, ctx: Context, compiled: Compiled) -> None:
        self.ctx = ctx
        self.patterns = compiled.context
        self.variables = compiled.variables

    def match(self, pattern: Value, value: Value, bound: Binding) -> Iterator[Binding]:
        if pattern in self.variables:
            known = bound.get(pattern.name)
            if known is None:
                yield {**bound, pattern.name: value}
            elif known is value:
                yield bound
            return
        number = number_in(pattern)
        if number is not None:
            if number_in(value) == number:
                yield bound
            return
        if self.patterns.is_sum(pattern):
            if self.ctx.is_sum(value):
                terms = self.ctx.terms(value)
                wanted = self.patterns.terms(pattern)
                if len(terms) == len(wanted):
                    for found, _ in self.match_terms(wanted, terms, 1, bound):
                        yield found
            return
        view = self.patterns.view(pattern)
        if len(view.factors) != 1 or view.factors[0].base is not pattern:
            yield from self._product(pattern, value, bound)
            return
        if pattern.op is value.op and pattern.attrs == value.attrs and len(pattern.args) == len(value.args):
            yield from self._operands(pattern.args, value.args, bound)

    def _operands(self, patterns: Sequence[Value], values: Sequence[Value], bound: Binding) -> Iterator[Binding]:
        if not patterns:
            yield bound
            return
        for found in self.match(patterns[0], values[0], bound):
            yield from self._operands(patterns[1:], values[1:], found)

    def match_terms(
        self, wanted: Terms, terms: Sequence[tuple[Number, Value]], scale: Number, bound: Binding
    ) -> Iterator[tuple[Binding, list[tuple[Number, Value]]]]:
        """Each wanted term against another of `terms`, all coefficients times `scale`: (binding, terms left)."""
        if not wanted:
            yield bound, list(terms)
            return
        (number, pattern), rest = wanted[0], wanted[1:]
        for i, (own, term) in enumerate(terms):
            others = (*terms[:i], *terms[i + 1 :])
            if pattern in self.variables and pattern.name not in bound:
                candidate = scaled(self.ctx, normal(Fraction(own) / Fraction(number * scale)), term)
                yield from self.match_terms(rest, others, scale, {**bound, pattern.name: candidate})
            elif own == number * scale:
                for found in self.match(pattern, term, bound):
                    yield from self.match_terms(rest, others, scale, found)

    def _product(self, pattern: Value, value: Value, bound: Binding) -> Iterator[Binding]:
        """A pattern that is a product against a whole value."""
        wanted = self.patterns.view(pattern)
        if len(wanted.factors) == 1 and wanted.factors[0].power == 1:
            inner = wanted.factors[0].base
            if inner in self.variables:
                number = wanted.coefficient
                yield from self.match(inner, scaled(self.ctx, normal(1 / Fraction(number)), value), bound)
                return
        view = self.ctx.view(value)
        if len(view.factors) + 1 == len(wanted.factors):
            yield from self._numeric(wanted, view, value, bound)
            return
        if view.coefficient != wanted.coefficient or not view.pointwise or not view.distinct:
            return
        if len(view.factors) != len(wanted.factors):
            return
        factors = [(spread(self.ctx, f, view.output, value), f.power) for f in view.factors]
        for found, left in self.match_factors(wanted.factors, factors, bound):
            if all(p == 0 for _, p in left):
                yield found

    def _numeric(self, wanted: Product, view: Product, value: Value, bound: Binding) -> Iterator[Binding]:
        """A product with one factor less: a variable stands for the coefficient."""
        for f in wanted.factors:
            if f.base not in self.variables or f.power != 1:
                continue
            number = self.ctx.const(
                normal(Fraction(view.coefficient) / wanted.coefficient), value.shape, value.type.dtype
            )
            rest = tuple([g for g in wanted.factors if g is not f])
            factors = [(spread(self.ctx, g, view.output, value), g.power) for g in view.factors]
            for found in self.match(f.base, number, bound):
                for complete, left in self.match_factors(rest, factors, found):
                    if all(p == 0 for _, p in left):
                        yield complete

    def match_factors(
        self, wanted: Sequence[Factor], factors: Sequence[tuple[Value, Number]], bound: Binding
    ) -> Iterator[tuple[Binding, list[tuple[Value, Number]]]]:
        """Each wanted factor taken out of a different one of `factors`: (binding, what is left)."""
        if not wanted:
            yield bound, list(factors)
            return
        first, rest = wanted[0], wanted[1:]
        for i, (base, power) in enumerate(factors):
            if power == 0 or not _covers(power, first.power):
                continue
            for found in self.match(first.base, base, bound):
                left = [*factors[:i], (base, normal(power - first.power)), *factors[i + 1 :]]
                yield from self.match_factors(rest, left, found)


def _covers(power: Number, wanted: Number) -> bool:
    """Whether base**wanted divides base**power."""
    if power == wanted:
        return True
    if isinstance(power, Fraction) or isinstance(wanted, Fraction):
        return False
    return (power > 0) == (wanted > 0) and abs(power) >= abs(wanted)


def spread(ctx: Context, factor: Factor, output: Sequence[int], like: Value) -> Value:
    """A factor of a pointwise product, in the full shape."""
    if factor.labels == tuple(output):
        return factor.base
    axes = [k for k, x in enumerate(output) if x not in factor.labels]
    inner = [x for x in output if x in factor.labels]
    base = factor.base
    if list(factor.labels) != inner and set(factor.labels) == set(inner) and len(factor.labels) == len(inner):
        sizes = dict(zip(factor.labels, base.shape, strict=True))
        base = product(ctx, 1, [Factor(base, 1, factor.labels)], inner, sizes, base.type.dtype)
    return spread_axes(ctx, base, axes, like.shape)


def holds(ctx: Context, rule: Rule, bound: Binding) -> bool:
    """Whether the conditions of a rule are met."""
    for fact, name in rule.when:
        value = bound[name]
        if fact == "positive":
            good = facts.positive(ctx, value)
        elif fact == "nonnegative":
            good = facts.nonnegative(ctx, value)
        elif fact == "generic":
            good = generic(ctx, value)
        else:
            good = leading_minus(ctx, scaled(ctx, -1, value))
        if not good:
            return False
    return True


def leading_minus(ctx: Context, value: Value) -> bool:
    """Written with a minus sign in front, or the negative of a sum seen before."""
    if ctx.is_sum(value):
        return first_sign(ctx, ctx.terms(value)) < 0
    return ctx.split(value)[0] < 0


# -------------------------------------------------------------------- applying
class RuleBook:
    """Compiled rules by the op at the root of their left sides, and how each kind is applied."""

    def __init__(self, compiled: Sequence[Compiled]) -> None:
        self.roots: dict[str, list[Compiled]] = {}
        self.products: list[Compiled] = []
        self.sums: list[Compiled] = []
        for c in compiled:
            view = c.context.view(c.lhs)
            if c.context.is_sum(c.lhs):
                self.sums.append(c)
            elif len(view.factors) != 1 or view.factors[0].base is not c.lhs:
                self.products.append(c)
            else:
                self.roots.setdefault(c.lhs.op.name, []).append(c)
        # The ops that must stand among the factors, so that most rules are passed over by a set comparison.
        self._needs = {
            id(c): frozenset(f.base.op.name for f in c.context.view(c.lhs).factors if f.base not in c.variables)
            for c in self.products
        }
        self._heads = {
            id(c): frozenset(f.base.op.name for _, t in c.context.terms(c.lhs) for f in c.context.view(t).factors)
            for c in self.sums
        }
        self._marks = frozenset(n for needs in self._needs.values() for n in needs)

    def _allowed(self, ctx: Context, rule: Rule) -> bool:
        return not (rule.almost and ctx.settings.keep_kinks)

    def at_root(self, ctx: Context, name: str, args: tuple[Value, ...]) -> Value | None:
        """One elementwise value rewritten, or None."""
        for c in self.roots.get(name, ()):
            if not self._allowed(ctx, c.rule):
                continue
            matcher = Matcher(ctx, c)
            patterns = c.lhs.args
            for bound in matcher._operands(patterns, args, {}):  # pyright: ignore[reportPrivateUsage]
                if holds(ctx, c.rule, bound):
                    made = build(ctx, c.rule.rhs, bound, args[-1])
                    if ctx.trace is not None:
                        ctx.note(c.rule.name, ctx.plain(name, args), made)
                    return made
        return None

    def in_factors(
        self, ctx: Context, factors: Sequence[tuple[Value, Number]], labels: Labels, others: Sequence[Factor]
    ) -> tuple[Rule, list[tuple[Value, Number]]] | None:
        """Factors at the same labels: (rule, the factors with the matched ones replaced).

        others: the factors at other labels.
        """
        present = {b.op.name for b, _ in factors}
        if present.isdisjoint(self._marks):
            return None
        for c in self.products:
            if not self._needs[id(c)] <= present:
                continue
            wanted = c.context.view(c.lhs)
            if not self._allowed(ctx, c.rule) or len(wanted.factors) > len(factors):
                continue
            matcher = Matcher(ctx, c)
            if len(wanted.factors) == 1:
                pattern = wanted.factors[0]
                for i, (base, power) in enumerate(factors):
                    times = Fraction(power) / Fraction(pattern.power)
                    if times.denominator != 1 or times <= 0:
                        continue
                    for bound in matcher.match(pattern.base, base, {}):
                        if holds(ctx, c.rule, bound):
                            made = built_factors(ctx, c.rule.rhs, bound, base, int(times))
                            return c.rule, [*made, *factors[:i], *factors[i + 1 :]]
                continue
            for bound, rest in matcher.match_factors(wanted.factors, factors, {}):
                left = [(b, p) for b, p in rest if p != 0]
                if not holds(ctx, c.rule, bound):
                    continue
                if c.rule.unguarded:
                    guard = next(b.args[0] for b, p in rest if p == 0 and is_mask(b))
                    beside = [*others, *[Factor(b, p, labels) for b, p in left]]
                    if not all(harmless(ctx, f, guard, labels) for f in beside):
                        continue
                return c.rule, [*built_factors(ctx, c.rule.rhs, bound, factors[0][0], 1), *left]
        return None

    def in_terms(self, ctx: Context, collected: dict[Value, Number]) -> str:
        """Some terms of a sum replaced in place: the name of the rule, or ""."""
        terms = [(c, t) for t, c in collected.items()]
        heads = {f.base.op.name for t in collected for f in ctx.view(t).factors}
        for c in self.sums:
            if not self._heads[id(c)] <= heads:
                continue
            wanted = c.context.terms(c.lhs)
            if not self._allowed(ctx, c.rule) or len(wanted) > len(terms):
                continue
            matcher = Matcher(ctx, c)
            first = next((w for w in wanted if w[1] not in c.variables), wanted[0])
            rest = tuple([w for w in wanted if w is not first])
            for i, (own, term) in enumerate(terms):
                scale = normal(Fraction(own) / Fraction(first[0]))
                others = (*terms[:i], *terms[i + 1 :])
                for bound in matcher.match(first[1], term, {}):
                    for found, left in matcher.match_terms(rest, others, scale, bound):
                        if not holds(ctx, c.rule, found):
                            continue
                        made = build(ctx, c.rule.rhs, found, term)
                        collected.clear()
                        collected.update({t: number for number, t in left})
                        # What is made may be a number times one of the others.
                        number, made = ctx.split(made)
                        collected[made] = normal(collected.get(made, 0) + scale * number)
                        return c.rule.name
        return ""


def factor_pass(book: RuleBook) -> Any:
    """Rules over pointwise factors as a pass of the product normal form."""

    def step(ctx: Context, work: Any) -> str:
        groups: dict[tuple[int, ...], list[Factor]] = {}
        for f in work.factors:
            groups.setdefault(f.labels, []).append(f)
        for labels, members in groups.items():
            others = [f for f in work.factors if f.labels != labels]
            found = book.in_factors(ctx, [(f.base, f.power) for f in members], labels, others)
            if found is not None:
                rule, replaced = found
                work.replace(members, [Factor(b, p, labels) for b, p in replaced])
                return rule.name
        return ""

    return step


__all__ = ["Compiled", "Rule", "RuleBook", "Term", "build", "compile_rule", "labels_of", "op", "var"]
