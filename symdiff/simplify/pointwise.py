"""Normal forms of elementwise ops: broadcasts and transposes move outside, constants fold, conditions become factors.

`exp` of a broadcast is the broadcast of `exp`; what is left has exactly the axes it depends on. `select(c, a, b)` is
held as `[c] a + [not c] b` with the indicator `[c] = cast(c)`, so that branches cancel, merge and factor like any sum;
`finish` turns indicators back into selections, around everything they guarded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from symdiff.ir.contraction import parse_spec
from symdiff.ir.dims import Size
from symdiff.ir.graph import AttrItems, Value
from symdiff.simplify import facts
from symdiff.simplify.defined import EVERYWHERE, generic, known, nonzero
from symdiff.simplify.exact import size_factors
from symdiff.simplify.match import leading_minus
from symdiff.simplify.products import flipped, powered, product, scaled
from symdiff.simplify.sums import forwardness, free_axes, labels_of, plus, spread_axes, without_axes
from symdiff.simplify.views import Context, Factor, Number, number_in

_NEGATED = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}
_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}
COMPARISONS = frozenset(_MIRRORED)


def elementwise(ctx: Context, name: str, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """An elementwise op with axes moved outside, then rewritten by rules."""
    shape = args[0].shape
    free = set(range(len(shape)))
    for a in args:
        free &= free_axes(ctx, a)
    if free:
        axes = sorted(free)
        small = ctx.make(name, [without_axes(ctx, a, axes) for a in args], attrs)
        return spread_axes(ctx, small, axes, shape)
    if len(shape) == 2 and _backward(ctx, args):
        return flipped(ctx, ctx.make(name, [flipped(ctx, a) for a in args], attrs))
    for rule in ctx.passes.roots:
        found = rule(ctx, name, args)
        if found is not None:
            return found
    return ctx.plain(name, args, attrs)


def _backward(ctx: Context, args: tuple[Value, ...]) -> bool:
    score = sum(forwardness(ctx.view(a)) for a in args)
    if score:
        return score < 0
    return False


def handler(name: str) -> Callable[[Context, tuple[Value, ...], AttrItems], Value]:
    return lambda ctx, args, attrs: elementwise(ctx, name, args, attrs)


# -------------------------------------------------------------------- arithmetic
def make_mul(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    return _pointwise(ctx, 1, [(args[0], 1), (args[1], 1)])


def make_div(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    if number_in(args[1]) == 0 or not args[0].type.floating:
        return ctx.plain("div", args)
    return _pointwise(ctx, 1, [(args[0], 1), (args[1], -1)])


def make_symmetric(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """What native code is told: a closed form shows what it is made of."""
    return args[0]


def make_neg(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    return ctx.make("scale", args, (("by", -1),))


def _pointwise(ctx: Context, coefficient: Number, powers: Sequence[tuple[Value, Number]]) -> Value:
    first = powers[0][0]
    labels = labels_of(first)
    factors = [Factor(v, p, labels) for v, p in powers]
    return product(ctx, coefficient, factors, labels, dict(enumerate(first.shape)), first.type.dtype)


def make_contract(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    named: dict[str, Any] = dict(attrs)
    spec = parse_spec(named["spec"])
    dtype = args[0].type.dtype if args else named["dtype"]
    sizes: dict[int, Size] = dict(zip(spec.free, named.get("sizes", ()), strict=True))
    for word, arg in zip(spec.operands, args, strict=True):
        sizes.update(zip(word, arg.shape, strict=True))
    factors = [Factor(a, 1, w) for a, w in zip(args, spec.operands, strict=True)]
    return product(ctx, 1, factors, spec.output, sizes, dtype)


def make_flip(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    return flipped(ctx, args[0])


def make_pow(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    power = number_in(args[1])
    if power is None or not args[0].type.floating or (number_in(args[0]) == 0 and power <= 0):
        return elementwise(ctx, "pow", args, attrs)
    return powered(ctx, args[0], power)


def make_sqrt(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    return powered(ctx, args[0], Fraction(1, 2))


def make_abs(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """|c x^2 y| = |c| x^2 |y|."""
    (x,) = args
    if facts.nonnegative(ctx, x):
        return x
    number, rest = ctx.split(x)
    if ctx.is_sum(x):
        number = -1 if all(c < 0 for c, _ in ctx.terms(x)) else 1
        rest = scaled(ctx, number, x)
    if number != 1:
        return scaled(ctx, abs(number), ctx.make("abs", (rest,)))
    view = ctx.view(x)
    if view.pointwise and len(view.factors) > 1:
        factors = [
            f if facts.nonnegative(ctx, f.base) else Factor(ctx.make("abs", (f.base,)), f.power, f.labels)
            for f in view.factors
        ]
        return product(ctx, 1, factors, view.output, view.sizes, x.type.dtype)
    return elementwise(ctx, "abs", args, attrs)


def make_log(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """log(exp(u) s^p) = u + p log(s) where the rest stays one logarithm."""
    (x,) = args
    view = ctx.view(x)
    if view.pointwise and view.distinct and view.factors and view.coefficient > 0:
        taken: list[tuple[Number, Value]] = []
        kept: list[Factor] = []
        for f in view.factors:
            inner: Value | None = None
            if f.base.op.name == "exp":
                inner = f.base.args[0]
            elif len(view.factors) == 1 and view.coefficient == 1 and f.power != 1:
                even = isinstance(f.power, int) and f.power % 2 == 0
                base = f.base
                if even and not facts.nonnegative(ctx, base):
                    base = ctx.make("abs", (base,))
                inner = ctx.make("log", (base,))
            if inner is None:
                kept.append(f)
            else:
                term = product(ctx, 1, [Factor(inner, 1, f.labels)], view.output, view.sizes, x.type.dtype)
                taken.append((f.power, term))
        if taken:
            rest = product(ctx, view.coefficient, kept, view.output, view.sizes, x.type.dtype)
            if number_in(rest) != 1:
                taken.append((1, ctx.make("log", (rest,))))
            return plus(ctx, taken)
    return elementwise(ctx, "log", args, attrs)


# -------------------------------------------------------------------- reductions with a product form
def make_prod_others(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    labels = labels_of(args[0])
    whole = Factor(ctx.plain("prod_others", args, attrs), 1, labels)
    return product(ctx, 1, [whole], labels, dict(enumerate(args[0].shape)), args[0].type.dtype)


def make_norm(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    (x,) = args
    gone = {x.type.rank + a for a in attrs[0][1]}
    labels = labels_of(x)
    output = tuple([k for k in labels if k not in gone])
    squares = product(ctx, 1, [Factor(x, 2, labels)], output, dict(enumerate(x.shape)), x.type.dtype)
    return powered(ctx, squares, Fraction(1, 2))


def along_axes(name: str) -> Callable[[Context, tuple[Value, ...], AttrItems], Value]:
    """softmax, logsumexp and the like: axes that the operand lacks and that are not reduced move outside."""

    def make(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
        (x,) = args
        rank = x.type.rank
        axes = [rank + a for a in attrs[0][1]] if attrs[0][0] == "axes" else []
        if name == "softmax":
            shifted = _shifted(ctx, x, axes)
            if shifted is not x:
                return ctx.make(name, (shifted,), attrs)
        if name == "logsumexp" and x.op.name == name:
            (inner,) = x.args
            gone = [inner.type.rank + a for a in x.attr("axes")]
            left = [k for k in range(inner.type.rank) if k not in gone]
            both = sorted([*gone, *[left[a] for a in axes]])
            return ctx.make(name, (inner,), (("axes", tuple([a - inner.type.rank for a in both])),))
        free = sorted(free_axes(ctx, x) - set(axes)) if axes else []
        if not free:
            return ctx.plain(name, args, attrs)
        small = without_axes(ctx, x, free)
        left = [k for k in range(rank) if k not in free]
        moved = tuple([left.index(a) - len(left) for a in axes])
        made = ctx.make(name, (small,), (("axes", moved),))
        if made.type.rank == small.type.rank:
            return spread_axes(ctx, made, free, x.shape)
        shape = tuple([s for k, s in enumerate(x.shape) if k not in axes])
        places = [k - sum(a < k for a in axes) for k in free]
        return spread_axes(ctx, made, places, shape)

    return make


def _shifted(ctx: Context, x: Value, axes: Sequence[int]) -> Value:
    """What softmax is taken of without terms that are constant along its axes; log(softmax(l)) is l but for one."""
    terms: list[tuple[Number, Value]] = []
    for number, term in ctx.terms(x):
        if set(axes) <= free_axes(ctx, term):
            continue
        inner = term.args[0] if term.op.name == "log" and number == 1 else None
        if inner is not None and inner.op.name == "softmax":
            own = [inner.type.rank + a for a in inner.attr("axes")]
            term = inner.args[0] if own == list(axes) else term
        terms.append((number, term))
    if not terms or tuple(terms) == ctx.terms(x):
        return x
    return plus(ctx, terms)


def make_size(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """A size as a product of dimensions: minus n is a term with a sign, 2 n a term with a number."""
    named: dict[str, Any] = dict(attrs)
    if named["dtype"] not in ("f64", "f32"):
        return ctx.plain("size", args, attrs)
    number, factors = size_factors(ctx, named["size"], named["dtype"])
    return product(ctx, number, factors, (), {}, named["dtype"])


# -------------------------------------------------------------------- conditions
def make_cast(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    (x,) = args
    dtype = attrs[0][1]
    if x.op.name in ("eq", "ne") and dtype in ("f64", "f32") and not ctx.settings.keep_kinks and _is_norm(ctx, x):
        # Where a norm is zero derivative rules guard their quotients: almost everywhere it is not.
        return ctx.const(int(x.op.name == "ne"), x.shape, dtype)
    if x.op.name == "const" and x.type.dtype == "bool":
        return ctx.const(int(x.attr("value")), x.shape, dtype) if dtype != "bool" else x
    return elementwise(ctx, "cast", args, attrs)


def _is_norm(ctx: Context, condition: Value) -> bool:
    """A comparison of a square root of a sum of squares with zero."""
    view = ctx.view(condition.args[0])
    if number_in(condition.args[1]) != 0 or len(view.factors) != 1 or not isinstance(view.factors[0].power, Fraction):
        return False
    base = view.factors[0].base
    return not ctx.view(base).pointwise and facts.nonnegative(ctx, base) and generic(ctx, base)


def make_compare(name: str) -> Callable[[Context, tuple[Value, ...], AttrItems], Value]:
    def make(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
        a, b = args
        na, nb = number_in(a), number_in(b)
        if na is not None and nb is not None:
            return ctx.const(_compare(name, na, nb), a.shape, "bool")
        known = _by_sign(ctx, name, a) if nb == 0 else None
        if known is not None:
            return ctx.const(known, a.shape, "bool")
        if nb == 0 and a.type.floating and leading_minus(ctx, a):
            return ctx.make(_MIRRORED[name], (ctx.make("scale", (a,), (("by", -1),)), b))
        if nb == 0 and name in ("eq", "ne", "gt", "le"):
            support = _support(ctx, a, name in ("gt", "le"))
            if support is not None:
                return support if name in ("ne", "gt") else negated(ctx, support)
        if a is b and a.type.dtype in ("i64", "bool"):
            return ctx.const(name in ("le", "ge", "eq"), a.shape, "bool")
        if na is not None or (nb is None and name in ("eq", "ne") and ctx.key(b) < ctx.key(a)):
            return ctx.make(_MIRRORED[name], (b, a))
        made = elementwise(ctx, name, args, attrs)
        ctx.memo("made at").setdefault(made, len(ctx.memo("made at")))
        return made

    return make


def _support(ctx: Context, a: Value, positive: bool) -> Value | None:
    """Where a product with indicators or with factors of known sign is not zero (`positive`: greater than zero)."""
    view = ctx.view(a)
    if not view.pointwise or not view.distinct or (positive and view.coefficient < 0):
        return None
    left = [f for f in view.factors if not facts.positive(ctx, f.base)]
    masks = [f for f in left if f.base.op.name == "cast" and f.base.args[0].type.dtype == "bool"]
    if view.coefficient == 1 and len(left) == len(view.factors) and not masks:
        return None
    others = [f for f in left if f not in masks]
    conditions = [
        product(ctx, 1, [Factor(f.base.args[0], 1, f.labels)], view.output, view.sizes, "bool") for f in masks
    ]
    if others:
        rest = product(ctx, 1, others, view.output, view.sizes, a.type.dtype)
        conditions.append(ctx.make("gt" if positive else "ne", (rest, ctx.const(0, rest.shape, rest.type.dtype))))
    if not conditions:
        return ctx.const(True, a.shape, "bool")
    result = conditions[0]
    for c in conditions[1:]:
        result = ctx.make("and", (result, c))
    return result


def _by_sign(ctx: Context, name: str, a: Value) -> bool | None:
    """A comparison with 0 that the sign of the operand decides."""
    if not a.type.floating or not known(ctx, a):
        return None  # comparisons with nan are false
    if name in ("eq", "ne") and nonzero(ctx, a) == EVERYWHERE:
        return name == "ne"
    sign = facts.sign(ctx, a)
    if sign == 2 and name in ("gt", "ge", "ne"):
        return True
    if sign == 2 and name in ("lt", "le", "eq"):
        return False
    return {"ge": True, "lt": False}.get(name) if sign == 1 else None


def _compare(name: str, a: Number, b: Number) -> bool:
    return {"lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "eq": a == b, "ne": a != b}[name]


def negated(ctx: Context, condition: Value) -> Value:
    """not condition."""
    return ctx.make("not", (condition,))


def make_not(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    """The negation, moved into `and`, `or`, and comparisons of operands that are never nan."""
    (x,) = args
    name = x.op.name
    if name == "const":
        return ctx.const(not x.attr("value"), x.shape, "bool")
    if name == "not":
        return x.args[0]
    if name in _NEGATED and all(known(ctx, a) for a in x.args):
        return ctx.make(_NEGATED[name], x.args)
    if name in ("and", "or"):
        return ctx.make("or" if name == "and" else "and", [negated(ctx, a) for a in x.args])
    return elementwise(ctx, "not", args, attrs)


def make_logic(name: str) -> Callable[[Context, tuple[Value, ...], AttrItems], Value]:
    absorbing = name == "or"

    def make(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
        parts: dict[Value, None] = {}
        pending = list(args)[::-1]
        while pending:
            part = pending.pop()
            if part.op.name == name:
                pending.extend(part.args[::-1])
            elif part.op.name == "const":
                if part.attr("value") is absorbing:
                    return part
            else:
                parts[part] = None
        narrowed = _narrowed(ctx, parts, absorbing)
        if narrowed is None or any(negated(ctx, p) in narrowed for p in narrowed):
            return ctx.const(absorbing, args[0].shape, "bool")
        if not narrowed:
            return ctx.const(not absorbing, args[0].shape, "bool")
        parts = narrowed
        ordered = sorted(parts, key=ctx.key)
        value = ordered[0]
        for part in ordered[1:]:
            value = ctx.plain(name, (value, part))
        return value

    return make


# What a comparison allows: less, equal, greater. (`ne` allows nan too, which no other does.)
_ALLOWED = {"lt": "<", "le": "<=", "eq": "=", "ge": "=>", "gt": ">", "ne": "<>"}
_NAMED = {frozenset(allowed): name for name, allowed in _ALLOWED.items()}


def _narrowed(ctx: Context, parts: dict[Value, None], either: bool) -> dict[Value, None] | None:
    """Comparisons of the same two values as one: `x >= y and x != y` is `x > y`, `x > y or x == y` is `x >= y`; None
    where they exclude each other, or (either) leave nothing out."""
    pairs: dict[tuple[Value, Value], tuple[frozenset[str], list[Value]]] = {}
    for part in parts:
        if part.op.name in _ALLOWED:
            a, b = part.args
            name = part.op.name
            if (b, a) in pairs:
                (a, b), name = (b, a), _MIRRORED[name]
            allowed, found = pairs.get((a, b), (frozenset("" if either else "<=>"), []))
            own = frozenset(_ALLOWED[name])
            pairs[a, b] = (allowed | own if either else allowed & own, [*found, part])
    merged: dict[Value, Value] = {}
    for (a, b), (allowed, found) in pairs.items():
        if len(found) < 2 or (either and not (known(ctx, a) and known(ctx, b))):
            continue
        if allowed not in _NAMED:
            return None
        merged.update(dict.fromkeys(found, ctx.make(_NAMED[allowed], (a, b))))
    return {merged.get(part, part): None for part in parts}


def indicator(ctx: Context, condition: Value, dtype: str) -> Value:
    return ctx.make("cast", (condition,), (("dtype", dtype),))


def make_select(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
    condition, a, b = args
    if a is b:
        return a
    if condition.op.name == "const":
        return a if condition.attr("value") else b
    for rule in ctx.passes.roots:
        found = rule(ctx, "select", args)
        if found is not None:
            return found
    guard = condition.op.name == "eq" and number_in(condition.args[1]) == 0 and condition.args[0] is b
    if guard or not a.type.floating or any(_special(v) for v in (a, b)):
        return elementwise(ctx, "select", args, attrs)
    yes = indicator(ctx, condition, a.type.dtype)
    no = indicator(ctx, negated(ctx, condition), a.type.dtype)
    return plus(ctx, [(1, _pointwise(ctx, 1, [(yes, 1), (a, 1)])), (1, _pointwise(ctx, 1, [(no, 1), (b, 1)]))])


def _special(value: Value) -> bool:
    """inf and nan are not multiplied by zero."""
    return (
        value.op.name == "const"
        and isinstance(value.attr("value"), str)
        and value.attr("value") not in ("pi", "e", "euler_gamma")
    )
