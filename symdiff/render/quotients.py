"""Numbers and fractions in front of what a paper writes: where a coefficient stands, what goes over a fraction line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

from symdiff.render.node import floating
from symdiff.render.notation import Node, Number, decimal

# A sum, an elementwise product, a juxtaposed product, something with a superscript or a fraction line, something closed
# by its own brackets, a name.
SUM, ELEMENTWISE, PRODUCT, CALL, APPLIED, ATOM = range(6)

# Scalars that may stand over a fraction line beside an array.
_SIMPLE = frozenset({"sym", "num", "dim", "pow"})

# A smaller denominator makes a fraction of its own before a symbol: 1/2 x.
LEAST_UNDER = 10
# Its multiples are written with a power of ten.
ROUND = 10**6

Text = tuple[str, int]
Pairs = Sequence[tuple[Node, Text]]


class Quotients(ABC):
    """number * scalars * array / divisors, as one text."""

    dot: ClassVar[str]
    minus: ClassVar[str]

    @abstractmethod
    def group(self, text: str) -> str: ...
    @abstractmethod
    def top(self, base: str, exponent: str) -> str: ...
    @abstractmethod
    def fraction(self, above: Text, below: Text) -> Text: ...

    def join(self, parts: Sequence[str]) -> str:
        return " ".join(parts)

    def at(self, text: Text, level: int) -> str:
        """The text, bracketed when it holds together less than `level`."""
        return text[0] if text[1] >= level else self.group(text[0])

    def quotient(self, number: Number, scalars: Pairs, body: Text | None, under: Pairs) -> Text:
        """number * scalars * body / under."""
        fraction = Fraction(number)
        sign, fraction = self.minus if fraction < 0 else "", abs(fraction)
        front: list[Text] = []
        numeral = self.numeral(fraction) if fraction != 1 else None
        if numeral is not None:
            front, fraction = [numeral], Fraction(1)
        rest = [t for _, t in scalars] + ([body] if body is not None else [])
        apart = body is not None and (self.stands_apart(body) or any(n.kind not in _SIMPLE for n, _ in scalars))
        chains = [t[1] == PRODUCT and n.kind in ("matmul", "sum") for n, t in scalars]
        if len(rest) > (2 if apart and under else 1) and (body is not None or any(chains[:-1])):
            # (x^T A x) x is not x^T A x x, but a x^T A x may end so
            rest[: len(scalars)] = [
                (self.group(t[0]), ATOM) if chain else t for (_, t), chain in zip(scalars, chains, strict=True)
            ]
        coefficient = all(n.kind == "dim" for n, _ in under) and (under or fraction.denominator != 1)
        if rest and coefficient and not (not front and self._goes_over(rest, body, fraction, under)):
            # Numbers and sizes divide an array as a coefficient: 1/n A x, not A x over n.
            numerator = (str(fraction.numerator), ATOM)
            front.append(self.coefficient(numerator, self._divisor(fraction, under)))
            return self.signed(sign, self.joined([*front, *rest]))
        if fraction.numerator != 1 or not (rest or front):
            front.append((str(fraction.numerator), ATOM))
        if not under and fraction.denominator == 1:
            return self.signed(sign, self.joined([*front, *rest]))
        divisor = self._divisor(fraction, under)
        if body is not None and apart:
            above = [*front, *rest[:-1]]
            coefficient = self.coefficient(self.joined(above) if above else ("1", ATOM), divisor)
            return self.signed(sign, self.joined([coefficient, body]))
        return self.signed(sign, self.fraction(self.joined([*front, *rest]), divisor))

    def _goes_over(self, rest: Sequence[Text], body: Text | None, fraction: Fraction, under: Pairs) -> bool:
        """Whether what numbers and sizes divide goes over their line: numbers, and symbols over more than a digit."""
        if body is not None:
            return rest == [body] and body[1] == ATOM and not under and fraction.denominator >= LEAST_UNDER
        return (bool(under) or fraction.denominator >= LEAST_UNDER) and not self.stands_apart(self.joined(rest))

    def stands_apart(self, body: Text) -> bool:
        """Whether an array is too large to be set over a fraction line."""
        return False

    def numeral(self, number: Fraction) -> Text | None:
        """A positive number as a decimal when that reads better than a fraction or a row of digits: 0.01, 2.5 10^-9."""
        short = decimal(number)
        round_ = number > 0 and number.denominator == 1 and number.numerator % ROUND == 0
        if short is None or (number.denominator < 10 and number.numerator < 10**9 and not round_):
            return None
        mantissa, _, exponent = floating(number).partition("e")
        if round_ and not exponent:
            digits = str(number.numerator)
            exponent = str(len(digits) - 1)
            mantissa = f"{digits[0]}.{digits[1:]}".rstrip("0").rstrip(".")
        if not exponent:
            return short, ATOM
        power = self.top("10", str(int(exponent)))
        return (power, CALL) if mantissa == "1" else (f"{mantissa} {self.dot} {power}", PRODUCT)

    def coefficient(self, above: Text, below: Text) -> Text:
        """A fraction in front of a product."""
        return self.fraction(above, below)

    def _divisor(self, fraction: Fraction, under: Pairs) -> Text:
        parts = [(str(fraction.denominator), ATOM)] if fraction.denominator != 1 else []
        return self.joined(parts + [t for _, t in under])

    def joined(self, parts: Sequence[Text]) -> Text:
        if len(parts) == 1:
            return parts[0]
        return self.join([self.at(t, PRODUCT) for t in parts]), PRODUCT

    def signed(self, sign: str, text: Text) -> Text:
        return (sign + self.at(text, ELEMENTWISE), SUM) if sign else text
