"""Where values are finite and where they are zero, from how they are made.

Both questions have three answers: EVERYWHERE (for all finite inputs that have their declared facts), ALMOST (all but
a set of measure zero, which a formula may leave to its conditions), UNKNOWN. Overflow is no concern here. Entries of
an array are asked about one by one, and equal indices count: `x_i - x_j` is zero where i = j.

An analytic function that is not identically zero vanishes on a set of measure zero only; a canonical value that is not
written as zero is taken not to be identically zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, TypeAlias

from symdiff.ir.graph import Value
from symdiff.simplify import facts
from symdiff.simplify.views import Context, Factor, Labels, Product, children, number_in, unanswered

EVERYWHERE, ALMOST, UNKNOWN = 2, 1, 0

# Finite where their operands are.
_TOTAL = frozenset({
    "add", "sub", "neg", "mul", "exp", "exp2", "expm1", "cbrt", "sin", "cos", "arctan", "sinh", "cosh", "tanh",
    "arcsinh", "arctan2", "hypot", "sigmoid", "softplus", "logaddexp", "erf", "erfc", "apply", "functional", "maximum",
    "minimum", "abs", "relu", "clip", "sign", "floor", "ceil", "round", "trunc", "cast", "contract", "reshape", "slice",
    "embed", "concatenate", "cumsum", "tril", "triu", "gather", "scatter_add", "reduce_max", "reduce_min", "logsumexp",
    "norm", "softmax", "reduce_prod", "prod_others", "det", "select",
})  # fmt: skip
# Not finite where their operand is zero or negative.
_POSITIVE_ONLY = frozenset({"log", "log2", "log10"})
_GAMMA = frozenset({"lgamma", "digamma", "polygamma"})
# Zero only where their operand is.
_ZERO_AT_ZERO = frozenset({"expm1", "log1p", "cbrt", "arctan", "sinh", "tanh", "arcsinh", "erf", "abs", "sign", "neg"})
_ANALYTIC = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "cbrt", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
    "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "arctan2", "sigmoid", "softplus", "logaddexp", "erf",
    "erfc", "lgamma", "digamma", "pow", "logsumexp", "softmax", "reduce_prod", "det", "logabsdet", "inverse", "size",
})  # fmt: skip
_MOVES = frozenset({"reshape", "slice", "concatenate", "gather"})
_WITH_ZEROS = frozenset({"diagonal", "lower", "upper"})

# Of every parameter the places where its axes go: an axis of the value, or None where they are summed or mixed.
Footprint: TypeAlias = "frozenset[tuple[Value, tuple[int | None, ...]]]"
# Besides the summed places of a parameter: nobody knows which entries go where.
_ANYWHERE: tuple[int | None, ...] = ()


def is_mask(value: Value) -> bool:
    """1 where a condition holds, 0 elsewhere."""
    return value.op.name == "cast" and value.args[0].type.dtype == "bool"


def is_indicator(factor: Factor) -> bool:
    """A mask as a factor: the product is zero where it is, whatever the other factors are."""
    return is_mask(factor.base) and factor.power == 1


def harmless(ctx: Context, factor: Factor, condition: Value, labels: Labels) -> bool:
    """Whether a guard need not reach a factor: it is finite where the condition at these labels is false.

    A factor that is finite almost everywhere may stand outside, its zero divisors being conditions of the formula;
    not so where the divisor and the guard read the same entries, for there the guard was made for the divisor.
    """
    level = finite_power(ctx, factor)
    if level != ALMOST or ctx.settings.keep_kinks:
        return level == EVERYWHERE
    return set(factor.labels) != set(labels) or parameters(ctx, factor.base).isdisjoint(parameters(ctx, condition))


def generic(ctx: Context, value: Value) -> bool:
    """Zero so rarely that a guard against it is left to the conditions of a formula."""
    return nonzero(ctx, value) >= (EVERYWHERE if ctx.settings.keep_kinks else ALMOST)


def known(ctx: Context, value: Value) -> bool:
    """A number so nearly everywhere that comparisons with it can be turned round."""
    return finite(ctx, value) >= (EVERYWHERE if ctx.settings.keep_kinks else ALMOST)


def finite_factor(ctx: Context, factor: Factor) -> bool:
    """Finite so nearly everywhere that it may stand beside zeros that it did not multiply."""
    return finite_power(ctx, factor) >= (EVERYWHERE if ctx.settings.keep_kinks else ALMOST)


def parameters(ctx: Context, value: Value) -> frozenset[Value]:
    """The parameters that a value reads."""
    return frozenset([p for p, _ in footprint(ctx, value)])


# -------------------------------------------------------------------- finite
def finite(ctx: Context, value: Value) -> int:
    """Where every entry is a finite number."""
    memo = ctx.memo("finite")
    found = memo.get(value)
    if found is None:
        for v in unanswered(value, memo, lambda v: children(ctx, v)):
            memo[v] = _finite(ctx, v)
        found = memo[value]
    return found


def finite_power(ctx: Context, factor: Factor) -> int:
    """Where base ** power is finite."""
    base, power, _ = factor
    level = finite(ctx, base)
    if isinstance(power, int) and power > 0:
        return level
    sign = facts.sign(ctx, base)
    if isinstance(power, Fraction) and sign == 0:
        return UNKNOWN
    return level if power > 0 else min(level, nonzero(ctx, base))


def _finite(ctx: Context, value: Value) -> int:
    if value.is_param:
        return EVERYWHERE
    if ctx.is_sum(value):
        return min(finite(ctx, t) for _, t in ctx.terms(value))
    view = ctx.view(value)
    if len(view.factors) != 1 or view.factors[0].base is not value:
        return _finite_product(ctx, view)
    name = value.op.name
    if name == "const":
        return UNKNOWN if value.attr("value") in ("inf", "-inf", "nan") else EVERYWHERE
    if not value.args or value.type.dtype == "bool":
        return EVERYWHERE
    level = min(finite(ctx, a) for a in value.args)
    first = value.args[0]
    if name in _TOTAL:
        return level
    if name in _POSITIVE_ONLY or name == "pow":
        return min(level, nonzero(ctx, first)) if facts.nonnegative(ctx, first) else UNKNOWN
    if name == "log1p":
        return level if facts.nonnegative(ctx, first) else UNKNOWN
    if name in _GAMMA:
        return level if facts.positive(ctx, first) else min(level, ALMOST)
    if name in ("mod", "floor_divide"):
        return min(level, nonzero(ctx, value.args[1]))
    if name in ("inverse", "solve", "logabsdet", "signdet"):
        return level if facts.definite(ctx, first) else min(level, ALMOST)
    if name == "cholesky":
        return level if facts.definite(ctx, first) else UNKNOWN
    return min(level, ALMOST) if name in ("triangular_solve", "tan") else UNKNOWN


def _finite_product(ctx: Context, view: Product) -> int:
    """A factor may be undefined where an indicator beside it is zero."""
    guards = [(f.base.args[0], f.labels) for f in view.factors if is_indicator(f)]
    levels = [EVERYWHERE]
    for f in view.factors:
        level = finite_power(ctx, f)
        if level != EVERYWHERE and any(f.labels == labels and _guards(c, f) for c, labels in guards):
            level = min(finite(ctx, a) for a in (f.base, *f.base.args)[int(f.base.op.name in _POSITIVE_ONLY) :])
        levels.append(level)
    return min(levels)


def _guards(condition: Value, factor: Factor) -> bool:
    """Whether x != 0 or x > 0 makes a power or the logarithm of x finite."""
    name = condition.op.name
    if name not in ("gt", "ne", "lt") or number_in(condition.args[1]) != 0:
        return False
    x = condition.args[0]
    if factor.base.op.name in _POSITIVE_ONLY and isinstance(factor.power, int) and factor.power > 0:
        return name == "gt" and factor.base.args[0] is x
    return factor.base is x and (name == "gt" or isinstance(factor.power, int))


# -------------------------------------------------------------------- not zero
def nonzero(ctx: Context, value: Value) -> int:
    """Where no entry is zero."""
    memo = ctx.memo("nonzero")
    found = memo.get(value)
    if found is None:
        for v in unanswered(value, memo, lambda v: children(ctx, v)):
            memo[v] = _nonzero(ctx, v)
        found = memo[value]
    return found


def _nonzero(ctx: Context, value: Value) -> int:
    if facts.positive(ctx, value):
        return EVERYWHERE
    number = number_in(value)
    if number is not None:
        return EVERYWHERE if number != 0 else UNKNOWN
    if not value.type.floating:
        return UNKNOWN
    if value.is_param:
        own = facts.declared(ctx, value)
        return EVERYWHERE if "nonzero" in own else UNKNOWN if own & _WITH_ZEROS else ALMOST
    if ctx.is_sum(value):
        terms = ctx.terms(value)
        rest = ALMOST if _same_sign(ctx, terms) and any(nonzero(ctx, t) for _, t in terms) else UNKNOWN
        return max(rest, _either(ctx, [t for _, t in terms]), _free_term(ctx, terms), _analytic(ctx, value))
    view = ctx.view(value)
    if len(view.factors) != 1 or view.factors[0].base is not value:
        return _nonzero_product(ctx, value, view)
    name = value.op.name
    if name in _ZERO_AT_ZERO or name in _MOVES or name == "reduce_prod":
        return min(nonzero(ctx, a) for a in value.args)
    if name == "hypot":
        return max(nonzero(ctx, a) for a in value.args)
    if name == "select":
        condition, a, b = value.args
        guarded = condition.op.name == "eq" and condition.args[0] is b and number_in(condition.args[1]) == 0
        return nonzero(ctx, a) if guarded else min(nonzero(ctx, a), nonzero(ctx, b))
    if name == "inverse" and value.args[0].is_param:
        return nonzero(ctx, value.args[0])
    return _analytic(ctx, value)


def _nonzero_product(ctx: Context, value: Value, view: Product) -> int:
    if not view.distinct:
        return UNKNOWN
    # A negative power is never zero where it is finite.
    level = min([EVERYWHERE if f.power < 0 else nonzero(ctx, f.base) for f in view.factors], default=EVERYWHERE)
    if view.pointwise:
        return level
    if level and all(facts.nonnegative(ctx, f.base) or _even(f) for f in view.factors):
        return ALMOST
    return max(_free_term(ctx, ((1, value),)), _analytic(ctx, value))


def _either(ctx: Context, terms: list[Value]) -> int:
    """[c] a + [not c] b is not zero where neither a nor b is."""
    views = [ctx.view(t) for t in terms]
    guards = [[f for f in v.factors if is_indicator(f) and f.labels == v.output] for v in views]
    if len(terms) != 2 or any(len(g) != 1 for g in guards) or not all(v.distinct and v.pointwise for v in views):
        return UNKNOWN
    (one,), (other,) = guards
    if ctx.make("not", (one.base.args[0],)) is not other.base.args[0]:
        return UNKNOWN
    rest = [f for v in views for f in v.factors if f not in (one, other)]
    return min([EVERYWHERE if f.power < 0 else nonzero(ctx, f.base) for f in rest], default=EVERYWHERE)


def _even(factor: Factor) -> bool:
    return isinstance(factor.power, int) and factor.power % 2 == 0


def _same_sign(ctx: Context, terms: Iterable[tuple[Any, Value]]) -> bool:
    signs = {c > 0 for c, _ in terms}
    return len(signs) == 1 and all(facts.nonnegative(ctx, t) for _, t in terms)


def _free_term(ctx: Context, terms: Iterable[tuple[Any, Value]]) -> int:
    """A sum in which a parameter occurs once, times what is not zero, takes every value."""
    terms = tuple(terms)
    for number, (_, term) in enumerate(terms):
        view = ctx.view(term)
        if not view.distinct:
            continue
        for f in view.factors:
            if not f.base.is_param or f.power != 1 or len(set(f.labels)) < len(f.labels) or not nonzero(ctx, f.base):
                continue
            others = [g for g in view.factors if g is not f]
            read = [parameters(ctx, g.base) for g in others]
            read += [parameters(ctx, t) for k, (_, t) in enumerate(terms) if k != number]
            if any(f.base in r for r in read):
                continue
            if all(g.power < 0 or nonzero(ctx, g.base) for g in others):
                return ALMOST
    return UNKNOWN


def _analytic(ctx: Context, value: Value) -> int:
    """An analytic function whose entries read their own entries of the parameters."""
    if not _smooth(ctx, value):
        return UNKNOWN
    found = footprint(ctx, value)
    places = [axes for _, axes in found]
    if len({p for p, _ in found}) < len(found):
        return UNKNOWN
    # Every axis of the value must be an axis of what varies with it, or entries are copies: no harm; but an axis read
    # twice by one parameter stands for its diagonal only.
    if any(len([a for a in axes if a is not None]) > len({a for a in axes if a is not None}) for axes in places):
        return UNKNOWN
    return UNKNOWN if any(facts.declared(ctx, p) & _WITH_ZEROS for p, _ in found) else ALMOST


def _smooth(ctx: Context, value: Value) -> bool:
    memo = ctx.memo("smooth")
    found = memo.get(value)
    if found is None:
        for v in unanswered(value, memo, lambda v: children(ctx, v)):
            memo[v] = _smooth_alone(ctx, v) and all(memo[c] for c in children(ctx, v))
        found = memo[value]
    return found


def _smooth_alone(ctx: Context, value: Value) -> bool:
    if value.is_param:
        return value.type.floating
    if ctx.is_sum(value) or value.op.name == "const":
        return True
    view = ctx.view(value)
    return len(view.factors) != 1 or view.factors[0].base is not value or value.op.name in _ANALYTIC


# -------------------------------------------------------------------- which entries a value reads
def footprint(ctx: Context, value: Value) -> Footprint:
    """How the entries of parameters go into the entries of a value."""
    memo = ctx.memo("footprint")
    found = memo.get(value)
    if found is None:
        for v in unanswered(value, memo, lambda v: children(ctx, v)):
            memo[v] = _footprint(ctx, v, memo)
        found = memo[value]
    return found


def _footprint(ctx: Context, value: Value, memo: dict[Value, Footprint]) -> Footprint:
    rank = value.type.rank
    if value.is_param:
        return frozenset({(value, tuple(range(rank)))})
    if ctx.is_sum(value):
        return frozenset[Any]().union(*[memo[t] for _, t in ctx.terms(value)])
    view = ctx.view(value)
    if len(view.factors) != 1 or view.factors[0].base is not value:
        places = {x: k for k, x in enumerate(view.output)}
        return frozenset[Any]().union(*[_moved(memo[f.base], [places.get(x) for x in f.labels]) for f in view.factors])
    operands = [memo[a] for a in value.args]
    if value.op.elementwise:
        return frozenset[Any]().union(*operands)
    axes = value.attr("axes", ())
    if value.op.name in ("logsumexp", "reduce_max", "reduce_min"):
        inner = value.args[0].type.rank
        kept = iter(range(rank))
        moves = [None if k - inner in axes else next(kept) for k in range(inner)]
        return _moved(operands[0], moves)
    # Every entry may read every entry.
    mixed = frozenset[Any]().union(
        *[_moved(o, [None] * a.type.rank) for o, a in zip(operands, value.args, strict=True)]
    )
    return mixed if rank == 0 else mixed | {(p, _ANYWHERE) for p, _ in mixed}


def _moved(places: Footprint, axes: list[int | None]) -> Footprint:
    return frozenset([(p, tuple([None if a is None else axes[a] for a in own])) for p, own in places])
