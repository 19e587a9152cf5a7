"""Dimensions: integers or polynomials in named dimensions, so that one program serves every size.

A `Dim` is an immutable polynomial with rational coefficients over *atoms*; an atom is a named dimension or a floor
division `(p)//k` that does not divide exactly (the size of `x[::2]` is `(n + 1)//2`). Polynomials that are constant
are never `Dim`s but plain `int`s: every operation returns the simpler of the two, the type `Size`.

Text form: `str(dim)`, read back by `parse_size`, is part of the IR's text form and of generated Python, for example
`n*m + 1`, `(n**2 - n)//2`.
"""

from __future__ import annotations

import keyword
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from symdiff.errors import ArgumentError, ParseError, ShapeError, SymbolicSizeError

Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"
Atom: TypeAlias = "str | FloorDiv"
Size: TypeAlias = "int | Dim"
Shape: TypeAlias = "tuple[Size, ...]"


class FloorDiv:
    """The atom `numerator // divisor` with a constant divisor that is not known to divide."""

    __slots__ = ("_hash", "divisor", "numerator")

    def __init__(self, numerator: Dim, divisor: int) -> None:
        self.numerator = numerator
        self.divisor = divisor
        self._hash = hash((FloorDiv, numerator, divisor))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FloorDiv) and self.divisor == other.divisor and self.numerator == other.numerator

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"(({self.numerator})//{self.divisor})"

    __repr__ = __str__


def _atom_key(atom: Atom) -> str:
    return atom if isinstance(atom, str) else "~" + str(atom)


def _monomial_key(monomial: Monomial) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Sort by falling degree, then by name: `n**2 + m*n + n`."""
    return -sum(p for _, p in monomial), tuple((_atom_key(a), -p) for a, p in monomial)


def _multiply(a: Monomial, b: Monomial) -> Monomial:
    powers: dict[Atom, int] = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: _atom_key(item[0])))


class Dim:
    """A polynomial in named dimensions. Arithmetic with integers and dimensions stays exact.

    Comparison by `==` is structural. Ordering and truth need numbers and raise `SymbolicSizeError`.
    """

    __slots__ = ("_hash", "terms")
    # The front end hands in a function that turns a dimension into a scalar expression; see `lift_with`.
    _lift: ClassVar[Callable[[Dim], Any] | None] = None

    def __init__(self, terms: Mapping[Monomial, Fraction]) -> None:
        self.terms: tuple[tuple[Monomial, Fraction], ...] = tuple(
            sorted(((m, c) for m, c in terms.items() if c), key=lambda item: _monomial_key(item[0]))
        )
        self._hash = hash(self.terms)

    @staticmethod
    def lift_with(lift: Callable[[Dim], Any]) -> None:
        """Set how a dimension becomes a scalar expression in arithmetic with anything but dimensions."""
        Dim._lift = lift

    def _lifted(self) -> Any:
        if Dim._lift is None:
            raise SymbolicSizeError(f"dimension {self} has no number here")
        return Dim._lift(self)

    # ---------------------------------------------------------------- arithmetic
    def __add__(self, other: Any) -> Any:
        if isinstance(other, (int, Dim)):
            return _sum(_plain(self), _plain(other))
        return self._lifted() + other if isinstance(other, (float, Fraction)) else NotImplemented

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Dim({m: -c for m, c in self.terms})

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, (int, Dim)):
            return self + (-other)
        return self._lifted() - other if isinstance(other, (float, Fraction)) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        if isinstance(other, int):
            return (-self) + other
        return other - self._lifted() if isinstance(other, (float, Fraction)) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, (int, Dim)):
            return _product(_plain(self), _plain(other))
        return self._lifted() * other if isinstance(other, (float, Fraction)) else NotImplemented

    __rmul__ = __mul__

    def __pow__(self, power: Any) -> Any:
        if isinstance(power, int) and power >= 0:
            result: Size = 1
            for _ in range(power):
                result = result * self
            return result
        return self._lifted() ** power

    def __rpow__(self, base: Any) -> Any:
        return base ** self._lifted()

    def __lshift__(self, places: int) -> Size:
        return self * 2**places

    def __rshift__(self, places: int) -> Size:
        return self // 2**places

    def __floordiv__(self, divisor: Any) -> Size:
        if not isinstance(divisor, int) or divisor == 0:
            raise ArgumentError(f"({self}) // {divisor}: a dimension divides by a non-zero integer only")
        if divisor < 0:
            return (-self) // (-divisor)
        quotient = {m: c / divisor for m, c in self.terms}
        if _integer_valued(quotient):
            return _normal(quotient)
        # Integer multiples of the divisor leave the floor: (n + 3)//2 == (n + 1)//2 + 1.
        whole = {m: Fraction(c // divisor) for m, c in self.terms if c.denominator == 1}
        rest = _normal({m: c - divisor * whole.get(m, Fraction(0)) for m, c in self.terms})
        if isinstance(rest, int):
            return _normal(whole) + rest // divisor
        return _normal(whole) + Dim({((FloorDiv(rest, divisor), 1),): Fraction(1)})

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, (int, float, Fraction, Dim)):
            return self._lifted() / other
        return NotImplemented

    def __rtruediv__(self, other: Any) -> Any:
        return other / self._lifted() if isinstance(other, (int, float, Fraction)) else NotImplemented

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        lifted = [i._lifted() if isinstance(i, Dim) else i for i in inputs]
        return getattr(ufunc, method)(*lifted, **kwargs)

    # ---------------------------------------------------------------- comparison, text
    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms)

    def __hash__(self) -> int:
        return self._hash

    def _no_number(self, what: str) -> SymbolicSizeError:
        return SymbolicSizeError(
            f"{what} needs a number, but dimension {self} has only a name; give the size as an integer"
        )

    def __lt__(self, other: object) -> bool:
        raise self._no_number(f"comparing {self} with {other}")

    __le__ = __gt__ = __ge__ = __lt__

    def __bool__(self) -> bool:
        raise self._no_number("a condition")

    def __index__(self) -> int:
        raise self._no_number("a loop, an index or a NumPy array (sd.eye, sd.ones and sd.zeros take names)")

    def __float__(self) -> float:
        raise self._no_number("a float")

    __int__ = __index__

    def __str__(self) -> str:
        denominator = math.lcm(*(c.denominator for _, c in self.terms))
        text = ""
        for monomial, coefficient in self.terms:
            c = int(coefficient * denominator)
            factors = [f"{a}**{p}" if p > 1 else str(a) for a, p in monomial]
            if not factors or abs(c) != 1:
                factors.insert(0, str(abs(c)))
            sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
            text += sign + "*".join(factors)
        return text if denominator == 1 else f"({text})//{denominator}"

    __repr__ = __str__

    @property
    def names(self) -> frozenset[str]:
        """The named dimensions this polynomial depends on."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom, _ in monomial:
                found |= {atom} if isinstance(atom, str) else atom.numerator.names
        return frozenset(found)

    def substitute(self, sizes: Mapping[str, Size]) -> Size:
        """Put sizes for names; names not in `sizes` stay."""
        total: dict[Monomial, Fraction] = {}
        for monomial, coefficient in self.terms:
            term: Size = 1
            for atom, power in monomial:
                base: Size
                if isinstance(atom, str):
                    base = sizes[atom] if atom in sizes else named(atom)
                else:
                    base = atom.numerator.substitute(sizes) // atom.divisor
                for _ in range(power):
                    term = term * base
            for m, c in _terms(term):
                total[m] = total.get(m, Fraction(0)) + c * coefficient
        return _normal(total)


def _terms(size: Size) -> Iterable[tuple[Monomial, Fraction]]:
    return size.terms if isinstance(size, Dim) else (((), Fraction(size)),)


def _plain(size: Size) -> Size:
    """A size that may be looked up: kinds of dimensions that answer comparisons themselves are no keys."""
    return size if isinstance(size, int) or type(size) is Dim else Dim(dict(size.terms))


# The same sums and products come up again and again while a program is derived.
@lru_cache(maxsize=4096)
def _sum(a: Dim, b: Size) -> Size:
    terms = dict(a.terms)
    for monomial, coefficient in _terms(b):
        terms[monomial] = terms.get(monomial, Fraction(0)) + coefficient
    return _normal(terms)


@lru_cache(maxsize=4096)
def _product(a: Dim, b: Size) -> Size:
    terms: dict[Monomial, Fraction] = {}
    for ma, ca in a.terms:
        for mb, cb in _terms(b):
            product = _multiply(ma, mb)
            terms[product] = terms.get(product, Fraction(0)) + ca * cb
    return _normal(terms)


def _normal(terms: Mapping[Monomial, Fraction]) -> Size:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept and kept[()].denominator == 1:
        return int(kept[()])
    return Dim(kept)


def _integer_valued(terms: Mapping[Monomial, Fraction]) -> bool:
    """Whether a polynomial is an integer at all integers.

    A polynomial of degree k in one variable is integer-valued when it is so at k + 1 consecutive integers; the same
    holds on a grid for several variables (Polya 1915).
    """
    if all(c.denominator == 1 for c in terms.values()):
        return True
    degrees: dict[Atom, int] = {}
    for monomial in terms:
        for atom, power in monomial:
            degrees[atom] = max(degrees.get(atom, 0), power)
    points: list[dict[Atom, int]] = [{}]
    for atom, degree in degrees.items():
        if len(points) * (degree + 1) > 4096:
            return False
        points = [{**p, atom: i} for p in points for i in range(degree + 1)]
    for point in points:
        value = Fraction(0)
        for monomial, coefficient in terms.items():
            product = coefficient
            for atom, power in monomial:
                product *= point[atom] ** power
            value += product
        if value.denominator != 1:
            return False
    return True


def named(name: str) -> Dim:
    """The dimension called `name`, an identifier that is no Python keyword."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"dimension name {name!r}: expected an identifier such as n or batch")
    if not name.isascii() and unicodedata.normalize("NFKC", name) != name:
        plain = unicodedata.normalize("NFKC", name)
        raise ArgumentError(f"dimension name {name!r}: Python reads it as {plain!r}; take that")
    return Dim({((name, 1),): Fraction(1)})


def _number(size: Dim, sizes: Mapping[str, int]) -> int | None:
    """The number that `size` is, if it is one."""
    total: Fraction | int = 0
    for monomial, coefficient in size.terms:
        term: Fraction | int = coefficient if coefficient.denominator != 1 else coefficient.numerator
        for atom, power in monomial:
            if isinstance(atom, str):
                base = sizes.get(atom)
            else:
                base = _number(atom.numerator, sizes)
                base = None if base is None else base // atom.divisor
            if not isinstance(base, int):
                return None
            term *= base**power
        total += term
    return int(total) if total.denominator == 1 else None


def evaluate(size: Size, sizes: Mapping[str, int]) -> int:
    """The number that `size` is at the given sizes. Raises `ShapeError` when a name has no size."""
    if isinstance(size, int):
        return size
    number = _number(size, sizes)
    if number is not None:
        return number
    value = size.substitute(sizes)
    if isinstance(value, Dim):
        missing = ", ".join(sorted(value.names))
        raise ShapeError(f"dimension {size}: no size is known for {missing}; sizes given: {dict(sizes)}")
    return value


def product(shape: Iterable[Size]) -> Size:
    """The number of elements of an array of this shape."""
    total: Size = 1
    for size in shape:
        total = total * size
    return total


def at_least(size: Size, limit: Size) -> bool:
    """Whether `size >= limit` whatever the named dimensions are (none is below 0), as far as signs tell."""
    rest = size - limit
    if isinstance(rest, int):
        return rest >= 0
    return all(factor >= 0 and all(_is_count(atom) for atom, _ in monomial) for monomial, factor in rest.terms)


def _is_count(atom: Atom) -> bool:
    """Whether an atom is never below 0: a named dimension, or a fraction of a sum of such."""
    if isinstance(atom, str):
        return True
    terms = atom.numerator.terms
    return all(factor >= 0 and all(isinstance(a, str) for a, _ in monomial) for monomial, factor in terms)


def size_names(sizes: Iterable[Size]) -> frozenset[str]:
    """Every named dimension in `sizes`."""
    found: frozenset[str] = frozenset()
    for size in sizes:
        if isinstance(size, Dim):
            found |= size.names
    return found


def format_shape(shape: Iterable[Size]) -> str:
    """A shape as users read it: `(m, n)`, `(3,)`, `()`."""
    items = [str(s) for s in shape]
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


# Far above any shape; a larger one in text is a mistake that would take for ever to multiply out.
_HIGHEST_POWER = 1000
_TOKEN = re.compile(r"\s*(?:(\d+)|([^\W\d]\w*)|(\*\*|//|[-+*()]))")


def parse_size(text: str) -> Size:
    """Read a size as `str` prints it: integers, names, + - * // ** and parentheses."""
    tokens: list[tuple[str, int]] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ParseError(f"size {text!r}: unexpected character", text, position)
        tokens.append((match.group().strip(), position))
        position = match.end()
    value, rest = _parse_sum(tokens, 0, text)
    if rest != len(tokens):
        raise ParseError(f"size {text!r}: unexpected {tokens[rest][0]!r}", text, tokens[rest][1])
    return value


def _parse_sum(tokens: list[tuple[str, int]], i: int, text: str) -> tuple[Size, int]:
    negative = i < len(tokens) and tokens[i][0] == "-"
    value, i = _parse_product(tokens, i + negative, text)
    value = -value if negative else value
    while i < len(tokens) and tokens[i][0] in "+-":
        sign = 1 if tokens[i][0] == "+" else -1
        term, i = _parse_product(tokens, i + 1, text)
        value = value + sign * term
    return value, i


def _parse_product(tokens: list[tuple[str, int]], i: int, text: str) -> tuple[Size, int]:
    value, i = _parse_atom(tokens, i, text)
    while i < len(tokens) and tokens[i][0] in ("*", "//", "**"):
        operator = tokens[i][0]
        if operator == "*":
            factor, i = _parse_atom(tokens, i + 1, text)
            if i < len(tokens) and tokens[i][0] == "**":
                power, i = _parse_atom(tokens, i + 1, text)
                if not isinstance(power, int) or power > _HIGHEST_POWER:
                    raise ParseError(f"size {text!r}: ** takes a small integer on the right", text, tokens[i - 1][1])
                factor = factor**power
            value = value * factor
        else:
            number, i = _parse_atom(tokens, i + 1, text)
            if not isinstance(number, int):
                raise ParseError(f"size {text!r}: {operator} takes an integer on the right", text, tokens[i - 1][1])
            if (operator == "//" and number == 0) or (operator == "**" and number > _HIGHEST_POWER):
                raise ParseError(f"size {text!r}: {operator} {number} is refused", text, tokens[i - 1][1])
            value = value // number if operator == "//" else value**number
    return value, i


def _parse_atom(tokens: list[tuple[str, int]], i: int, text: str) -> tuple[Size, int]:
    if i >= len(tokens):
        raise ParseError(f"size {text!r} ends too early", text, len(text))
    token, at = tokens[i]
    if token == "(":
        value, i = _parse_sum(tokens, i + 1, text)
        if i >= len(tokens) or tokens[i][0] != ")":
            raise ParseError(f"size {text!r}: a ) is missing", text, at)
        return value, i + 1
    if token.isdigit():
        return int(token), i + 1
    if token.isidentifier():
        return named(token), i + 1
    raise ParseError(f"size {text!r}: unexpected {token!r}", text, at)
