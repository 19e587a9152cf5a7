"""Scalar statements read as monomials: what each value is, as a signed constant times factors.

Takes the statements of a nest; gives a `Reading`: for every floating scalar its `Monomial` and for every sum its two
terms. A factor is a scalar that is no product (a loaded one, a function's value, a sum), or the reciprocal of one.

Other orders of factors have other partial products, which may overflow or vanish where those of the program as written
do not: of three numbers with a finite product two may have an infinite one. `ordered` monomials are therefore of two
factors at most, products among them, and are multiplied as written; signs are taken out and constants folded.

Where any order is allowed, a monomial is multiplied out in an order that keeps to what the program as written does with
numbers of one size. Every scalar has a degree: 1 for a loaded one, 0 for a constant, a logarithm or a bounded function,
the sum of degrees for a product, half for a root. `low` and `high` are the least and the largest degree among the
partial products as written: where the program computes (x/s) * (y/s) it never forms x*y, nor 1/(s*s), and neither does
any order between those limits. Factors that leave the range of numbers for arguments of ordinary size (exponentials,
powers, distribution functions) are steep: a product of three or more, of which some may be huge and some tiny, keeps
the order in which it is written.

What decides a branch (comparisons, floor, sign, ...) is left as written, and so are sums: no term changes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from codegen.ir.loops import Let, Load
from codegen.schedule.constants import ONE, Exact, binades, exact, exponent, inverse, root, times

FLOATS: Final = frozenset({"f64", "f32"})
_DECIDING: Final = frozenset(
    {"lt", "le", "gt", "ge", "eq", "ne", "floor", "ceil", "round", "trunc", "sign", "mod", "floor_divide"}
)
_TAME: Final = frozenset(
    {"sin", "cos", "tanh", "erf", "arcsin", "arccos", "arctan", "arctan2", "log", "log2", "log10", "log1p", "sign"}
)
_FALLING: Final = frozenset({"erfc", "sigmoid"})
_STEEP: Final = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "pow", "lgamma"})
_SAME: Final = frozenset(
    {"abs", "maximum", "minimum", "clip", "select", "relu", "softplus", "logaddexp", "cast", "hypot"}
)
_ROOTS: Final = {"sqrt": 0.5, "cbrt": 1 / 3}

UP: Final = 1
DOWN: Final = 2
MOST: Final = 8
"""Factors of a monomial; longer products are several."""
CONSTANT: Final = {"f64": 100.0, "f32": 20.0}
"""Powers of two that the constant of a monomial may be away from 1."""


class Monomial(NamedTuple):
    """sign * constant * product of factors. A factor is a scalar's name, or -1 - name for its reciprocal; sorted.

    It stands for the scalar but for its sign.
    """

    sign: int
    constant: Exact
    factors: tuple[int, ...]
    low: float
    high: float
    degree: float
    written: bool
    """Whether the statements as they stand compute it with as few operations: no constants meet, nothing is shared."""

    @property
    def key(self) -> tuple[int | Exact, ...]:
        """What it is but for its sign."""
        return self.factors if self.constant is ONE else (self.constant, *self.factors)


class Reading:
    """The monomials of a stretch of code; `terms` of sums, `parts` of products."""

    def __init__(self, stmts: Sequence[Let | Load], apart: bool, ordered: bool) -> None:
        """apart: products are taken apart that several need. ordered: none are, all are multiplied as written."""
        self.stmts, self.apart, self.ordered = stmts, apart, ordered
        self.uses = Counter([a for s in stmts if isinstance(s, Let) for a in s.args])
        self.lets = {s.name: s for s in stmts if isinstance(s, Let)}
        self.frozen = self._frozen()
        self.monomials: dict[int, Monomial] = {}
        self.terms: dict[int, tuple[Monomial, Monomial]] = {}
        self.parts: dict[int, tuple[Monomial, Monomial]] = {}
        self.degree: dict[int, float] = {}
        self.steep: dict[int, int] = {}
        self.reciprocals = self._reciprocals()
        for stmt in stmts:
            self._read(stmt)

    def _frozen(self) -> set[int]:
        """Scalars that decide a branch, and what those are computed from."""
        found: set[int] = set()
        for stmt in reversed(self.stmts):
            if not isinstance(stmt, Let):
                continue
            deciding = stmt.op in _DECIDING or (stmt.op == "cast" and stmt.dtype not in FLOATS)
            if deciding or stmt.name in found:
                found.update(stmt.args)
        return found

    def _reciprocals(self) -> set[int]:
        """Divisors whose reciprocal may be a factor; of constants, and of what is known not to be denormal, those that
        divide more than once: only reciprocals of denormal numbers are infinite where quotients are not."""
        found: set[int] = set()
        met: set[int] = set()
        normal = never_denormal(self.stmts)
        for stmt in self.stmts:
            if isinstance(stmt, Let) and stmt.op == "div" and stmt.dtype in FLOATS and stmt.name not in self.frozen:
                b = stmt.args[1]
                a, below = self.lets.get(stmt.args[0]), self.lets.get(b)
                size = below is not None and below.op == "sqrt"
                again = (b in normal or (below is not None and below.op == "const")) and b in met
                there = not self.ordered and a is not None and a.op == "const"
                if there or size or again:
                    found.add(b)
                met.add(b)
        return found

    # ---------------------------------------------------------------- one statement
    def _read(self, stmt: Let | Load) -> None:
        name = stmt.name
        dtype = stmt.buffer.dtype if isinstance(stmt, Load) else stmt.dtype
        if dtype not in FLOATS:
            return
        made: Monomial | None = None
        if isinstance(stmt, Let):
            if stmt.op == "const":
                found = exact(stmt.attr)
                if found is not None and binades(found[1]) <= CONSTANT[dtype]:
                    self.monomials[name] = Monomial(found[0], found[1], (), 0.0, 0.0, 0.0, True)
                    self.degree[name] = 0.0
                    return
            handler = _HANDLERS.get(stmt.op)
            if handler is not None and name not in self.frozen:
                made = handler(self, stmt)
        if made is None:
            degree, steep = self.nature(stmt)
            self.degree[name] = degree
            self.steep[name] = steep
            made = Monomial(1, ONE, (name,), degree, degree, degree, True)
        elif made.factors != (name,):
            self.degree[name] = made.degree
            self.steep[name] = self._steep(made.factors)
        self.monomials[name] = made

    def nature(self, stmt: Let | Load) -> tuple[float, int]:
        """The degree of a scalar that is no product, and whether it is steep."""
        if isinstance(stmt, Load):
            return 1.0, 0
        op, args = stmt.op, stmt.args
        own = [self.degree.get(a, 0.0) for a in args]
        steep = 0
        for a in args:
            steep |= self.steep.get(a, 0)
        if op in ("mul", "div"):  # as written
            return own[0] + (own[1] if op == "mul" else -own[1]), steep
        if op in ("add", "sub", "neg") or op in _SAME:
            return max(own, default=0.0), steep
        if op in _ROOTS:
            return own[0] * _ROOTS[op], steep
        if op in _STEEP:
            return 0.0, DOWN if op == "exp" and self._negative(args[0]) else UP | DOWN
        if op in _FALLING:
            return 0.0, DOWN
        return (0.0 if op in _TAME or op == "const" else 1.0), 0

    def _negative(self, name: int) -> bool:
        """Whether a scalar is known never to be positive: minus a square."""
        found = self.monomials.get(name)
        if found is None or found.sign > 0:
            return False
        return all(found.factors.count(f) % 2 == 0 for f in set(found.factors))

    def _steep(self, factors: Sequence[int]) -> int:
        found = 0
        for factor in factors:
            if factor >= 0:
                found |= self.steep.get(factor, 0)
            else:
                own = self.steep.get(-1 - factor, 0)
                found |= (own & UP) * 2 | (own & DOWN) // 2
        return found

    def of(self, name: int) -> Monomial:
        """What a scalar is; one that is defined elsewhere stands for itself."""
        found = self.monomials.get(name)
        return self.atom(name) if found is None else found

    def part(self, name: int) -> Monomial:
        """A scalar as a factor of a product: taken apart, unless it is a product that several others need."""
        found = self.of(name)
        if self.ordered:
            return found if len(found.factors) + (found.constant is not ONE) < 2 else self.atom(name)
        if self.apart or len(found.factors) < 2 or self.uses.get(name, 0) < 2:
            return found
        return self.atom(name)

    def atom(self, name: int) -> Monomial:
        """The scalar itself as a factor, but for its sign."""
        degree, known = self.degree.get(name, 1.0), self.monomials.get(name)
        return Monomial(1 if known is None else known.sign, ONE, (name,), degree, degree, degree, True)

    def joined(self, a: Monomial, b: Monomial, dtype: str) -> Monomial | None:
        """The product; None where its factors must not be taken apart."""
        if len(a.factors) + len(b.factors) > MOST:
            return None
        constant = times(a.constant, b.constant)
        if constant is None or binades(constant) > CONSTANT[dtype]:
            return None
        degree = a.degree + b.degree
        written = a.written and b.written and (a.constant is ONE or b.constant is ONE)
        factors = tuple(sorted(a.factors + b.factors))
        if factors and factors[0] < 0 and any(-1 - f in factors for f in factors):
            return None  # x (1/x) is NaN where x is zero or infinite
        if self.steep:
            steep = [f for f in factors if self.steep.get(f if f >= 0 else -1 - f, 0)]
            if len(steep) > 2 and self._steep(steep) == UP | DOWN:
                return None
        low, high = min(a.low, b.low, degree), max(a.high, b.high, degree)
        return Monomial(a.sign * b.sign, constant, factors, low, high, degree, written)

    def multiplied(self, name: int, a: int, b: int, dtype: str) -> Monomial | None:
        """The product of two scalars, taken apart as far as that may be done."""
        x, y = self.part(a), self.part(b)
        longer = len(x.factors) >= len(y.factors)
        tries = ((x, y), (self.atom(a) if longer else x, y if longer else self.atom(b)), (self.atom(a), self.atom(b)))
        for one, other in tries:
            found = self.joined(one, other, dtype)
            if found is not None:
                self.parts[name] = one, other
                return found
        return None


def never_denormal(stmts: Sequence[Let | Load]) -> Mapping[int, float]:
    """Scalars that are zero, infinite, NaN or well above the smallest normal number, and the exponent that they have at
    least.

    A sum with a constant is a multiple of an ulp of it, or of an ulp of that where it is rounded together with a
    product: so 1 + x x, and 1 - e cos E, too, are zero or not that small, whatever x, e and E are.
    """
    least: dict[int, float] = {}
    constants: set[int] = set()
    for stmt in stmts:
        if not isinstance(stmt, Let) or stmt.dtype not in FLOATS:
            continue
        op, digits, smallest = stmt.op, *_RANGE[stmt.dtype]
        known = [least[a] for a in stmt.args if a in least]
        found: float | None = None
        if op == "const":
            size = exact(stmt.attr)
            found = None if size is None else exponent(size[1])
        elif op == "sqrt":
            found = known[0] / 2 if known else smallest / 2 - digits
        elif op in ("neg", "abs", "mul") and len(known) == len(stmt.args):
            found = sum(known)
        elif op in ("add", "sub") and (len(known) == 2 or not constants.isdisjoint(stmt.args)):
            found = min(known) - digits
        if found is not None and found > smallest + digits:
            least[stmt.name] = found
            if op == "const":
                constants.add(stmt.name)
    return least


_RANGE: Final = {"f64": (110, -1022), "f32": (52, -126)}
"""Twice the bits of a number and some more, and the exponent of the smallest normal one."""


def _mul(work: Reading, stmt: Let) -> Monomial | None:
    a, b = stmt.args
    return work.multiplied(stmt.name, a, b, stmt.dtype)


def _neg(work: Reading, stmt: Let) -> Monomial | None:
    found = work.of(stmt.args[0])
    return found._replace(sign=-found.sign)


def _div(work: Reading, stmt: Let) -> Monomial | None:
    a, b = stmt.args
    above, below = work.part(a), work.of(b)
    if not below.factors:
        dyadic = not below.constant.roots and _is_dyadic(below.constant.rational)
        if b not in work.reciprocals and not dyadic and above.constant is ONE and above.factors:
            return None  # a constant that divides once: the quotient rounds better
        size = inverse(below.constant)
        return None if size is None else work.joined(above, below._replace(constant=size), stmt.dtype)
    if b not in work.reciprocals:
        return None
    # Only the size of a single scalar is taken out of a divisor: 1/(c x) is (1/c) (1/x).
    single = len(below.factors) == 1 and below.factors[0] >= 0 and not work.ordered
    size = inverse(below.constant) if single else None
    divisor, constant = (b, ONE) if size is None else (below.factors[0], size)
    degree = -work.degree[divisor]
    written = not above.factors and above.constant is constant is ONE
    under = Monomial(below.sign, constant, (-1 - divisor,), degree, degree, degree, written)
    return work.joined(above, under, stmt.dtype) or work.joined(work.atom(a), under, stmt.dtype)


def _sum(work: Reading, stmt: Let) -> Monomial | None:
    if stmt.args[0] == stmt.args[1] and stmt.op == "add":
        two, once = Monomial(1, Exact(ONE.rational * 2), (), 0.0, 0.0, 0.0, True), work.part(stmt.args[0])
        return work.joined(once, two, stmt.dtype) or work.joined(work.atom(stmt.args[0]), two, stmt.dtype)
    a, b = (work.of(arg) for arg in stmt.args)
    if stmt.op == "sub":
        b = b._replace(sign=-b.sign)
    if not a.factors and not b.factors:
        return None
    sign = -1 if a.sign < 0 and b.sign < 0 else 1
    work.terms[stmt.name] = (a._replace(sign=a.sign * sign), b._replace(sign=b.sign * sign))
    degree, steep = work.nature(stmt)
    work.degree[stmt.name], work.steep[stmt.name] = degree, steep
    return Monomial(sign, ONE, (stmt.name,), degree, degree, degree, True)


def _sqrt(work: Reading, stmt: Let) -> Monomial | None:
    found = work.of(stmt.args[0])
    if found.factors or found.sign < 0:
        return None
    size = root(found.constant)
    return None if size is None else Monomial(1, size, (), 0.0, 0.0, 0.0, True)


def _pow_int(work: Reading, stmt: Let) -> Monomial | None:
    if work.ordered:
        return None
    base = work.of(stmt.args[0])
    if len(base.factors) != 1 or base.constant is not ONE:
        base = work.atom(stmt.args[0])
    found: Monomial | None = base
    for _ in range(1, stmt.attr if stmt.attr <= MOST else 1):
        found = None if found is None else work.joined(found, base, stmt.dtype)
    return found if stmt.attr <= MOST else None


def _is_dyadic(value: Fraction) -> bool:
    """Whether a number is a power of two."""
    return value.numerator & (value.numerator - 1) == 0 and value.denominator & (value.denominator - 1) == 0


_HANDLERS: Final[dict[str, Callable[[Reading, Let], Monomial | None]]] = {
    "mul": _mul, "neg": _neg, "div": _div, "add": _sum, "sub": _sum, "sqrt": _sqrt, "pow_int": _pow_int,
}  # fmt: skip
