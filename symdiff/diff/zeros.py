"""Zeros that sums and moves of other elements leave, as masks: where a running sum over a padding is still 0.

An array of numbers is made that is 0 where another is by its structure: how many paths of elements that may be other
than zero lead there. Only functions whose slope may be infinite ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from symdiff.diff.lifting import DEEP, PLACES, is_zero, merged, operands
from symdiff.diff.slopes import constant, steep
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Labels, contract, parse_spec
from symdiff.ir.dims import Size
from symdiff.ir.graph import Value, param

Push: TypeAlias = "Callable[[Builder, Sequence[Value], Mapping[Value, Handle], int], list[Handle | None]]"

_MOVES = PLACES | {"concatenate", "slice", "gather", "reshape", "cumsum", "symmetric"}
"""Linear ops that repeat and sum elements, none of them with a minus."""
_KEEPING = frozenset({
    "neg", "cast", "div", "sqrt", "cbrt", "sin", "tan", "arcsin", "arctan", "sinh", "tanh", "arcsinh", "arctanh",
    "expm1", "log1p", "erf", "abs", "relu", "sign",
})  # fmt: skip
"""Elementwise ops that are 0 where their first operand is."""


def unmoved(
    builder: Builder, order: Sequence[Value], active: Collection[Value], wrt: Sequence[Value], push: Push
) -> dict[Value, Handle]:
    """Where operands of functions with infinite slopes do not move with `wrt`, by operand.

    In reverse mode the zero that such a slope must not meet comes later: in a product, as the factor of what does move.
    So only operands behind products with zeros by structure are looked at. push: forward mode.
    """
    found = {a: None for v in order if v in active and v.op.elementwise and steep(v, builder.opset) for a in v.args}
    behind: set[Value] = set()
    for value in order if found else ():
        if not behind.isdisjoint(value.args) or (value in active and _mixes(Handle(builder, value))):
            behind.add(value)
    asked = [v for v in found if v in behind and v in active]
    if not asked:
        return {}
    # Tangents of their own for every variable, since those of x - y must not cancel.
    seeds = {x: Handle(builder, param(f"moved_{i}", x.type)) for i, x in enumerate(wrt) if x.type.floating}
    masks = [None if t is None else zero_mask(t, DEEP) for t in push(builder, asked, seeds, 0)]
    return {v: mask for v, mask in zip(asked, masks, strict=True) if mask is not None}


def _mixes(array: Handle) -> bool:
    """Whether a zero of one factor may meet what moves in another: not so in squares."""
    value = array.value
    words = parse_spec(value.attr("spec")).operands if value.op.name == "contract" else ((),) * len(value.args)
    if value.op.name not in ("mul", "div", "contract") or len(set(zip(value.args, words, strict=True))) < 2:
        return False
    return any(near(x, DEEP) for x in operands(array))


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was counted already, and how many levels behind values nothing makes zeros."""

    counts: dict[tuple[Value, int], Value | None] = field(default_factory=dict[tuple[Value, int], "Value | None"])
    plain: dict[Value, int] = field(default_factory=dict[Value, int])


_SEEN: WeakKeyDictionary[Builder, _Seen] = WeakKeyDictionary()
"""The products of a long program see the same values."""


def zero_mask(array: Handle, depth: int) -> Handle | None:
    """Where `array` is 0 by its structure; None where no structure is seen."""
    count = _count(array, depth)
    return None if count is None else count.op("eq", 0)


def _count(array: Handle, depth: int) -> Handle | None:
    """An array of numbers that are 0 where `array` is by its structure; None where no structure is seen."""
    if not depth or not array.value.type.floating:
        return None
    counts, key = _SEEN.setdefault(array.builder, _Seen()).counts, (array.value, depth)
    if key not in counts:
        made = _counted(array, depth) if near(array, depth) else None
        counts[key] = None if made is None else made.value
    found = counts[key]
    return None if found is None else Handle(array.builder, found)


def near(array: Handle, depth: int) -> bool:
    """Whether anything that makes zeros is so many levels near, contractions in contractions not counted."""
    plain = _SEEN.setdefault(array.builder, _Seen()).plain

    def found(value: Value, levels: int) -> bool:
        if value.op.name in PLACES or is_zero(value):
            return True
        if levels and plain.get(value, 0) < levels:
            if any(found(a, levels - 1) for a in value.args):
                return True
            plain[value] = levels
        return False

    return found(array.value, depth + DEEP - 1)


def _counted(array: Handle, depth: int) -> Handle | None:
    value, name = array.value, array.value.op.name
    if is_zero(value):
        return array.const(0, dtype="f64")
    if name == "contract":
        return _count_contracted(array, depth - 1)
    counts = [_count(x, depth - 1) for x in operands(array)]
    known = [c for c in counts if c is not None]
    if name in _KEEPING or (name == "pow" and (constant(value.args[1]) or 0) > 0):
        return counts[0]
    if name == "mul":
        return known[0] * known[1] if len(known) == 2 else known[0] if known else None
    if name in ("add", "sub"):
        return known[0] + known[1] if len(known) == 2 else None
    if name == "select" and known:
        return array.builder.apply(value.op, _or_ones(array, counts), {})
    if name not in _MOVES or not (known or name in PLACES):
        return None
    return array.builder.apply(value.op, _or_ones(array, counts), dict(value.attrs))


def _or_ones(array: Handle, counts: Sequence[Handle | None]) -> list[Handle]:
    """What is known of every operand, 1 where that is nothing; conditions and indices as they are."""
    return [
        x if not x.value.type.floating else x.const(1, dtype="f64") if c is None else c
        for x, c in zip(operands(array), counts, strict=True)
    ]


def _count_contracted(array: Handle, depth: int) -> Handle | None:
    for _ in range(DEEP):
        spec = parse_spec(array.value.attr("spec"))
        places = [i for i, a in enumerate(array.value.args) if a.op.name == "contract"]
        made = next((m for i in places if (m := merged(array, spec, i)) is not None), None)
        if made is None or made.value.op.name != "contract":
            break
        array = made
    value, spec = array.value, parse_spec(array.value.attr("spec"))
    counts = [_count(x, depth) for x in operands(array)]
    for i, (count, word) in enumerate(zip(counts, spec.operands, strict=True)):
        beside = [w for k, w in enumerate(spec.operands) if k != i and counts[k] is not None]
        if count is not None and _met(count.value, word, set(spec.summed).difference(*beside)):
            counts[i] = None
    if len(set(spec.output)) < len(spec.output) or all(c is None for c in counts):
        return None  # a mask of a delta would be as large as a Jacobian
    ones = [a.value for a in _or_ones(array, counts)]
    sizes: dict[int, Size] = dict(zip(spec.output, value.shape, strict=True))
    return Handle(array.builder, contract(array.builder, ones, spec.operands, spec.output, sizes))


def _met(count: Value, word: Labels, summed: Collection[int]) -> bool:
    """Whether sums along rows or columns of a triangle of ones all meet its diagonal."""
    if count.op.name not in ("tril", "triu") or count.args[0].op.name != "const" or is_zero(count.args[0]):
        return False
    k, (rows, columns) = count.attr("k"), count.shape[-2:]
    return rows == columns and (k >= 0 if count.op.name == "tril" else k <= 0) and (
        word[-2] != word[-1] and not set(word[-2:]).isdisjoint(summed)
    )
