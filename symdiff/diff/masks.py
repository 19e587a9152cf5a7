"""Dead masks: where a value does not reach the results at all, carried from a result of an instruction to its operands.

A mask is a boolean handle of a value's shape, true at elements of the branch of a select that is not taken. There a
product must be replaced by an exact zero, because 0 * inf of a derivative that does not exist would poison the sum. In
a contraction that are the products with what of an operand reaches dead places alone, such as rows of NaN that are left
out: all else of the operand is in the function's value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from symdiff.ir.builder import Handle
from symdiff.ir.contraction import einsum, expand, spread, sum_over
from symdiff.ir.graph import Value
from symdiff.ir.op import Linear, Multilinear

_CONDITIONS = 5
"""Conditions in a mask,"""
_LONGEST = 60
"""and steps, up to which its truth table is made."""
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def live(dead: Handle, dtype: str = "f64") -> Handle:
    """1 where elements reach the results, 0 where they are dead."""
    return dead.op("not").op("cast", dtype=dtype)


def either(a: Handle | None, b: Handle | None) -> Handle | None:
    """True where one of two masks is; None is nowhere."""
    return b if a is None else a if b is None else a.op("or", b)


def all_of(masks: Sequence[Handle | None]) -> Handle | None:
    """True where all masks are; None, which is nowhere, where one is, they exclude each other, or there are none."""
    total: Handle | None = None
    held = {None if m is None else m.value: m for m in masks}
    for mask in held.values():
        if mask is None:
            return None
        total = mask if total is None else total.op("and", mask)
    return total if total is None or len(held) == 1 or not _never(total.value) else None


def _never(mask: Value) -> bool:
    """Whether a mask holds nowhere, whatever the few conditions are that it is made of (by its truth table)."""
    table: dict[Value, int] = {}
    stack = [mask]
    atoms, every = 0, (1 << (1 << _CONDITIONS)) - 1
    while stack:
        value = stack[-1]
        name = value.op.name
        if name not in ("and", "or", "not") and value not in table:
            if atoms == _CONDITIONS:
                return False
            # Row k of the table has condition n where bit n of k is set.
            table[value] = sum(1 << k for k in range(1 << _CONDITIONS) if k >> atoms & 1)
            atoms += 1
        waiting = [a for a in value.args if a not in table] if value not in table else []
        if waiting:
            stack += waiting
            if len(stack) + len(table) > _LONGEST:
                return False
            continue
        stack.pop()
        if value not in table:
            own = [table[a] for a in value.args]
            table[value] = every ^ own[0] if name == "not" else own[0] & own[1] if name == "and" else own[0] | own[1]
    return not table[mask]


def masked(mask: Handle | None, term: Handle) -> Handle:
    """`term` with exact zeros where the mask holds."""
    return term if mask is None else expand(mask, term.shape).op("select", 0 * term, term)


def linear_mask(
    rule: Linear, i: int, dead: Handle, xs: Sequence[Handle], attrs: Mapping[str, Any]
) -> Handle | None:
    """An element is dead when everything it moves to is: the transpose of the live places is zero there."""
    count = rule.transpose(live(dead), *xs, **attrs)[i]
    return None if count is None else count.op("eq", 0)


def contract_mask(
    rule: Multilinear, i: int, dead: Handle, xs: Sequence[Handle], attrs: Mapping[str, Any]
) -> Handle:
    """The same for operand i of a contraction."""
    ones = [x.const(1, dtype="f64") for x in xs]
    return rule.transpose(i, live(dead), *ones, **attrs).op("eq", 0)


def block_mask(dead: Handle, value: Value, x: Handle, attrs: Mapping[str, Any]) -> Handle:
    """Ops that mix a block of elements: the block is dead when every element of the result that it reaches is."""
    if value.op.elementwise:
        return dead
    axes = attrs.get("axes", (attrs["axis"],) if "axis" in attrs else None)
    if isinstance(axes, tuple):
        count = live(dead)
        if value.type.rank == x.rank:
            count = sum_over(count, axes)
        return spread(count, axes, x.shape).op("eq", 0)
    # Matrices: a block is one matrix of the stack x, and the result has one number or one matrix for it, perhaps
    # behind further leading axes that share it. An undefined function reaches everything from everywhere.
    letters = _LETTERS[: value.type.rank]
    stack = 0 if "wrt" in attrs else x.rank - 2
    core = 0 if value.type.rank == stack else 2
    kept = letters[value.type.rank - core - stack : value.type.rank - core] if stack else ""
    beside = _LETTERS[value.type.rank : value.type.rank + x.rank - stack]
    sizes = dict(zip(beside, x.shape[stack:], strict=True))
    return einsum(f"{kept}->{kept}{beside}", einsum(f"{letters}->{kept}", live(dead)), **sizes).op("eq", 0)
