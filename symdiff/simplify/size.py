"""How long a value reads: operators, calls and leaves of the expression it will be printed as, estimated.

Every operator, function call, transposition sign and leaf counts 1; axes, index strings and broadcasting count 0. The
renderer finds the best order of a product by search; here one reading is costed: matrices in a chain one operator
each, a transposition for each matrix that stands the wrong way, an einsum beyond matrices. Estimates decide between
forms, never values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from symdiff.ir.builder import nearest
from symdiff.ir.graph import Value
from symdiff.simplify import facts
from symdiff.simplify.triangles import is_mask
from symdiff.simplify.views import (
    Context,
    Factor,
    Labels,
    Number,
    Product,
    Terms,
    children,
    normal,
    number_in,
    unanswered,
)

ARRAY_TASTE = 0.004
REPEATED_TASTE = 0.03
BROADCAST_TASTE = 2.1


def size(ctx: Context, value: Value) -> float:
    """The estimated length of a canonical value."""
    memo = ctx.memo("size")
    found = memo.get(value)
    if found is not None:
        return found
    for v in unanswered(value, memo, lambda v: children(ctx, v)):
        memo[v] = _size(ctx, v, memo)
    return memo[value]


def _size(ctx: Context, value: Value, memo: dict[Value, float]) -> float:
    # Of two forms of one length the one whose operators work on smaller arrays is better.
    taste = ARRAY_TASTE * value.type.rank
    if ctx.is_sum(value):
        terms = ctx.terms(value)
        return sum_size(ctx, terms) + taste * (len(terms) - 1) + REPEATED_TASTE * _repeated(ctx, terms)
    number = number_in(value)
    if number is not None:
        return number_size(number)
    view = ctx.view(value)
    if len(view.factors) != 1 or view.factors[0].base is not value:
        return product_size(ctx, view) + taste * max(len(view.factors) - 1, 1)
    if not value.args:
        return 1
    own = 2 if value.op.name == "logabsdet" else 1
    if value.op.name == "cast" and value.args[0].type.dtype == "bool":
        own = 0
    return own + sum([memo[a] for a in value.args])


def _repeated(ctx: Context, terms: Terms) -> int:
    """Factors that every term has: of forms of one length a paper prints the one in which they stand once."""
    shared: set[Value] | None = None
    for _, term in terms:
        own = {f.base for f in ctx.view(term).factors}
        shared = own if shared is None else shared & own
        if not shared:
            return 0
    return len(shared or ())


def number_size(number: Number) -> int:
    """A decimal is a leaf, another fraction a quotient."""
    fraction = Fraction(number)
    rest = fraction.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return 1 if rest == 1 else 3


def coefficient_size(number: Number) -> int:
    """What a coefficient adds to what it stands before: 2 x and x/7 two symbols, 2 x/7 four."""
    number = abs(number)
    if number == 1:
        return 0
    return 2 if number_size(number) == 1 or Fraction(number).numerator == 1 else 4


def weight(number: Number, term: Value) -> int:
    """Symbols that the coefficient of a term adds."""
    return number_size(abs(number)) - 1 if term.op.name == "const" else coefficient_size(number)


def terms_weight(terms: Sequence[tuple[Number, Value]]) -> int:
    """Symbols that the coefficients of a sum cost."""
    return sum([weight(c, t) for c, t in terms])


def shown_numbers(ctx: Context, coefficient: Number, factors: Sequence[Factor]) -> tuple[Number, dict[int, Number]]:
    """A product's coefficient as it is shown, and by what number the sum at a place among its factors is multiplied.

    A sum is held with coprime integers. A fraction in front goes into the sum where that makes the numbers fewer, or
    no more and shorter: 0.002 (851 x + 500) is 1.702 x + 1, and (2 a - b) / 2 beside another factor a - b / 2.
    """
    number = Fraction(coefficient)
    if number.denominator == 1 or len(factors) < 2:
        return coefficient, {}
    for at, f in enumerate(factors):
        if f.power != 1 or not ctx.is_sum(f.base):
            continue
        terms = ctx.terms(f.base)
        others = [abs(c) for c, _ in terms if abs(c) != 1]
        best = min(others, key=lambda c: _looks(number * c, 1 / Fraction(c), terms), default=1)
        if _looks(number * best, 1 / Fraction(best), terms) < _looks(number, 1, terms):
            return normal(number * best), {at: normal(1 / Fraction(best))}
    return coefficient, {}


def _looks(front: Number, by: Number, terms: Terms) -> tuple[int, int]:
    """What the numbers of a product cost: symbols, then digits."""
    inside = [(normal(by * c), t) for c, t in terms]
    return coefficient_size(front) + terms_weight(inside), sum([_digits(c) for c, _ in inside]) + _digits(front)


def _digits(number: Number) -> int:
    """Digits of a number that is written: as a decimal where it is one."""
    fraction = abs(Fraction(number))
    if fraction == 1:
        return 0
    if number_size(fraction) > 1:
        return len(str(fraction.numerator)) + len(str(fraction.denominator))
    return len(f"{nearest(fraction):.12g}")


def sum_size(ctx: Context, terms: tuple[tuple[Number, Value], ...]) -> float:
    if len(terms) == 2 and terms[0][0] == -terms[1][0] == 1:
        for one, other in ((terms[0][1], terms[1][1]), (terms[1][1], terms[0][1])):
            if number_in(one) == 1 and other.op.name == "sigmoid":
                return size(ctx, other) + 1
    total: float = len(terms) - 1
    plain = 0
    for number, term in terms:
        total += size(ctx, term) + weight(number, term)
        plain += number_in(term) != 1 and abs(number) != 1
    if plain > 1 and len({abs(c) for c, _ in terms}) == 1:
        total -= (plain - 1) * coefficient_size(terms[0][0])
    if terms[0][1].type.rank == 2:
        views = [ctx.view(t) for _, t in terms]
        if any(not v.distinct for v in views):
            # A vector broadcast beside an identity or a diagonal matrix is short but hides what it is.
            total += BROADCAST_TASTE * sum(1 for v in views if v.factors and v.distinct and _broadcast(v))
    return total + (1 if all(c < 0 for c, _ in terms) else 0)


def _broadcast(view: Product) -> bool:
    used = {x for f in view.factors for x in f.labels}
    return bool(used) and any(x not in used for x in view.output)


def product_size(ctx: Context, view: Product) -> float:
    if len(view.factors) == 1 and view.factors[0].power == 2 and not view.output and view.coefficient == 1:
        base = view.factors[0].base
        own = size(ctx, base)
        return min(own + 3, 2 * own + 1) if base.type.rank == 1 else own + 3
    total: float = 0
    above = 0
    coefficient, scales = shown_numbers(ctx, view.coefficient, view.factors)
    for f in view.factors:
        total += factor_size(ctx, f, len(view.factors) > 1)
        above += f.power > 0
    total += structure_size(
        tuple([f.labels for f in view.factors]), view.output,
        tuple([f.base.type.rank == 2 and facts.symmetric(ctx, f.base) for f in view.factors]),
    )  # fmt: skip
    for at, by in scales.items():
        terms = ctx.terms(view.factors[at].base)
        total += terms_weight([(c * by, t) for c, t in terms]) - terms_weight(terms)
    total += coefficient_size(coefficient)
    if abs(coefficient) == 1 and not above and view.factors:
        total += 2
    if coefficient == -1:
        total += 1
    total -= 2 * (_powers_shared(view) + _counts_in_means(ctx, view))
    return total - (1 if not above and view.factors and abs(coefficient) != 1 else 0)


def _powers_shared(view: Product) -> int:
    """Exponents saved by writing (a / b)^2 for a^2 / b^2."""
    groups: dict[Number, list[Factor]] = {}
    for f in view.factors:
        if isinstance(f.power, int) and abs(f.power) > 1:
            groups.setdefault(abs(f.power), []).append(f)
    saved = 0
    for members in groups.values():
        widest = max([set(f.labels) for f in members], key=len)
        if any(f.power > 0 for f in members):
            saved += sum([set(f.labels) in (set(), widest) for f in members]) - 1
    return saved


def _counts_in_means(ctx: Context, view: Product) -> int:
    """Sizes among the divisors that a mean over so many elements takes in."""
    counts = Counter([f.base.attr("size") for f in view.factors if f.base.op.name == "size" and f.power == -1])
    if not counts:
        return 0
    component = ctx.memo("component")
    saved = 0
    for own in (view, *[ctx.view(f.base) for f in view.factors if f.base in component and f.power == 1]):
        sizes = Counter([s for x, s in own.sizes.items() if x not in own.output])
        arrays = [set(f.labels) for f in own.factors if f.labels]
        # Of two vectors, or of matrices along different axes, the sum is a product: a @ b / n.
        if sizes and sizes <= counts and (len(arrays) == 1 or own.output) and all(
            a == arrays[0] for a in arrays
        ):
            saved += sizes.total()
            counts -= sizes
    return saved


def factor_size(ctx: Context, factor: Factor, among: bool = False) -> float:
    """base ** |power|, by itself or `among` other factors."""
    own = size(ctx, factor.base)
    power = abs(factor.power)
    if is_mask(factor.base) and power == 1 and among:
        return 0  # tril(X) or cumsum(x): the operator is that of the product
    length = length_of(ctx, factor.base) if isinstance(power, int) and power > 1 else None
    if length is not None:
        return size(ctx, length) + 3
    if isinstance(power, Fraction) and power.denominator == 2:
        view = ctx.view(factor.base)
        if view.coefficient == 1 and len(view.factors) == 1 and view.factors[0].power == 2 and not view.pointwise:
            length = size(ctx, view.factors[0].base) + 1
            return length if power.numerator == 1 else length + 2
        return own + 1 if power.numerator == 1 else own + 2
    return own if power == 1 else own + 2


def length_of(ctx: Context, base: Value) -> Value | None:
    """v where the square of its length is better raised as a length: for all but v @ v of a vector by its name."""
    view = ctx.view(base)
    if view.coefficient != 1 or len(view.factors) != 1 or view.factors[0].power != 2 or view.pointwise:
        return None
    inner = view.factors[0].base
    return None if inner.is_param and inner.type.rank == 1 else inner


@lru_cache(maxsize=65536)
def structure_size(factors: tuple[Labels, ...], output: Labels, symmetric: tuple[bool, ...]) -> int:
    """Operators and calls that join factors with these labels."""
    scalars = sum(1 for f in factors if not f)
    arrays = [f for f in factors if f]
    deltas = len(output) - len(set(output))
    used = {x for f in arrays for x in f}
    free = sum(1 for x in set(output) if x not in used and output.count(x) == 1)
    if len(output) > 2 or any(len(f) > 2 for f in arrays):
        if len(arrays) == 1 and not deltas and not free and set(arrays[0]) == set(output):
            return scalars
        return scalars + deltas + min(free, 1) + 1
    joined = max(len(factors) - 1, 0)
    if output and deltas:
        joined += 1 if output[0] in used or not factors else 2
    if not factors:
        return max(joined, 1)
    kept = set(output)
    counts: dict[int, int] = {}
    for f in arrays:
        for x in f:
            counts[x] = counts.get(x, 0) + 1
    summed = {x for x in used if x not in kept}
    for f in arrays:
        if len(set(f)) < len(f) or any(x in summed and counts[x] == 1 for x in f):
            joined += 1
    if not output and len(arrays) > 1:
        sets = [frozenset(f) for f in arrays if len(set(f)) == 2]
        if len(sets) != len(set(sets)):
            joined += 1
    return joined + _transposes(arrays, [s for f, s in zip(factors, symmetric, strict=True) if f], output)


def _transposes(arrays: list[Labels], symmetric: list[bool], output: Labels) -> int:
    """Matrices that stand the wrong way in the chain from the first end to the last."""
    edges = [(f, s) for f, s in zip(arrays, symmetric, strict=True) if len(set(f)) == 2]
    if not edges:
        return 0
    touching: dict[int, list[int]] = {}
    for i, (f, _) in enumerate(edges):
        for x in f:
            touching.setdefault(x, []).append(i)
    if any(len(t) > 2 for t in touching.values()):
        return 0
    ends = [x for x, t in touching.items() if len(t) == 1]
    total = 0
    done: set[int] = set()
    for start in (*[x for x in output if x in ends], *ends):
        if touching[start][0] in done:
            continue
        backward = forward = 0
        at = start
        while True:
            following = [i for i in touching[at] if i not in done]
            if not following:
                break
            done.add(following[0])
            f, s = edges[following[0]]
            if not s:
                backward += f[0] != at
                forward += f[0] == at
            at = f[1] if f[0] == at else f[0]
        if len(output) == 2 and start == output[0] and at == output[1]:
            total += min(backward, forward + 1)
        else:
            total += min(backward, forward)
    return total
