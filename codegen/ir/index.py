"""Index expressions: affine combinations of loop variables and integer scalars, with sizes as coefficients.

Takes and gives immutable values. Promise: terms are sorted and free of zeros, so equal expressions compare equal and
have equal text; coefficients are sizes of `symdiff.ir.dims`, so one expression serves every size.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from symdiff.ir.dims import Dim, Shape, Size, at_least

Term: TypeAlias = "tuple[str, Size]"


@dataclass(frozen=True, slots=True)
class Index:
    """`const + sum(coefficient * name)`; a name is a loop variable (`i0`) or an integer scalar of the body (`%5`)."""

    terms: tuple[Term, ...] = ()
    const: Size = 0

    def __str__(self) -> str:
        text = ""
        for name, factor in self.terms:
            word = name if factor == 1 else f"-{name}" if factor == -1 else f"{_factor(factor)}*{name}"
            text += word if not text else f" - {word[1:]}" if word.startswith("-") else f" + {word}"
        if not text or self.const != 0:
            word = str(self.const)
            text += word if not text else f" - {word[1:]}" if word.startswith("-") else f" + {word}"
        return text

    def coefficient(self, name: str) -> Size:
        """The factor of a name, 0 when it does not occur."""
        for own, factor in self.terms:
            if own == name:
                return factor
        return 0


def _factor(size: Size) -> str:
    return f"({size})" if isinstance(size, Dim) and len(size.terms) > 1 else str(size)


def make(terms: Mapping[str, Size], const: Size = 0) -> Index:
    """An index of the given terms, zeros left out."""
    return Index(tuple(sorted((n, c) for n, c in terms.items() if c != 0)), const)


_VARS: dict[str, Index] = {}


def var(name: str) -> Index:
    """The index that is one loop variable."""
    found = _VARS.get(name)
    if found is None:
        found = _VARS.setdefault(name, Index(((name, 1),)))
    return found


ZERO = Index()


def combine(parts: Sequence[tuple[Size, Index]], const: Size = 0) -> Index:
    """`const + sum(factor * index)`."""
    if len(parts) == 1 and parts[0][0] == 1 and const == 0:
        return parts[0][1]
    terms: dict[str, Size] = {}
    for factor, index in parts:
        if factor == 0:
            continue
        for name, coefficient in index.terms:
            terms[name] = terms.get(name, 0) + factor * coefficient
        const = const + factor * index.const
    return make(terms, const)


def span(index: Index, extents: Mapping[str, Size]) -> tuple[Size, Size] | None:
    """The least and the greatest place where every variable runs from 0 up to its extent, which it does not reach;
    None where an index is data, or the sign of a factor is not known."""
    low = high = index.const
    for name, factor in index.terms:
        if name not in extents:
            return None
        reach = factor * (extents[name] - 1)
        if at_least(factor, 0):
            high = high + reach
        elif at_least(-1 * factor, 0):
            low = low + reach
        else:
            return None
    return low, high


def stays(index: Index, extents: Mapping[str, Size], length: Size) -> bool:
    """Whether all places of an index are among the first `length`, if that is not 0."""
    reach = span(index, extents)
    return reach == (0, 0) or (reach is not None and at_least(reach[0], 0) and at_least(length - 1, reach[1]))


def without(index: Index, names: Container[str]) -> Index:
    """The terms of other names, and the constant."""
    return Index(tuple([term for term in index.terms if term[0] not in names]), index.const)


def constant_part(size: Size) -> int:
    """The number that is left of a size when all dimensions are 0."""
    if isinstance(size, int):
        return size
    number = dict(size.terms).get((), 0)
    return int(number) if number == int(number) else 0


def contiguous_strides(shape: Shape) -> tuple[Size, ...]:
    """Strides in elements of a row-major array."""
    strides: list[Size] = []
    step: Size = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


def flatten(index: Sequence[Index], shape: Shape) -> Index:
    """The element offset of a multi-index into a row-major array."""
    return index[0] if len(index) == 1 else _offset(tuple(index), shape)


@lru_cache(maxsize=4096)
def _offset(index: tuple[Index, ...], shape: Shape) -> Index:
    return combine(list(zip(contiguous_strides(shape), index, strict=True)))
