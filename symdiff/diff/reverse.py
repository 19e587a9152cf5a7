"""Reverse mode: pull cotangents back through a program. The dual of `forward`, the same order of cases.

A cotangent has the shape of its primal behind any number of leading seed axes. With each cotangent travels a *dead
mask*: where it is true the value does not reach the results at all (the branch of a select that is not taken). There
every product is replaced by an exact zero, because 0 * inf of a derivative that does not exist would poison the sum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias, assert_never

from symdiff.diff.forward import forward, refusal, scaled
from symdiff.diff.lifting import settled
from symdiff.diff.loops import Pulled, pull_loop
from symdiff.diff.masks import all_of, block_mask, contract_mask, either, linear_mask, masked
from symdiff.diff.slopes import steep
from symdiff.diff.supports import joined
from symdiff.diff.zeros import unmoved
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.graph import Value, loop_key, topological
from symdiff.ir.op import Linear, Multilinear, NoDerivative, Partials, Region, Rules

# Ops whose partials are numbers: a mask has nothing to protect there.
_ADDITIVE = frozenset({"add", "sub", "neg", "cast", "select"})


_Gathered: TypeAlias = "dict[Value, list[Pulled]]"
"""Contributions to the cotangents of values, each with its dead mask."""


def _total(parts: Sequence[Pulled]) -> Handle:
    """The cotangent. Summed pairwise, so a value used a million times makes a shallow sum."""
    if len(parts) == 1:
        return parts[0][0]
    terms = [term for term, _ in parts]
    while len(terms) > 1:
        terms = [joined(terms[i], terms[i + 1]) if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0]


def reverse(
    builder: Builder, seeds: Sequence[tuple[Value, Handle]], wrt: Sequence[Value]
) -> list[Handle | None]:
    """Cotangents of `wrt` from cotangents of results; None where no result depends on the value."""
    found = pull(builder, [(value, cotangent, None) for value, cotangent in seeds], wrt, ())
    return [None if own is None else own[0] for own in found]


def pull(
    builder: Builder,
    seeds: Sequence[tuple[Value, Handle, Handle | None]],
    wrt: Sequence[Value],
    masked: Collection[Value],
) -> list[Pulled | None]:
    """The same with dead masks: of the results, and on request of those of `wrt` that are in `masked`."""
    order = topological([value for value, _, _ in seeds], min([v.born for v in wrt], default=0))
    active: set[Value] = set(wrt)
    curved: set[Value] = set(masked)  # values with a product to protect somewhere below them
    loops: dict[Any, Value] = {}  # the first result of every loop
    for value in order:
        moves = bent = False
        for a in value.args:
            moves = moves or a in active
            bent = bent or a in curved
        if moves and value.type.floating:
            active.add(value)
        if (bent or (value.args and value.op.name not in _ADDITIVE)) and value in active:
            curved.add(value)
        if value.op.picks:
            loops.setdefault(loop_key(value), value)
    still = unmoved(builder, order, active, wrt, forward)
    gathered: _Gathered = {}
    for value, cotangent, dead in seeds:
        _add(gathered, value, cotangent, dead)
    wanted = set(wrt)
    found: dict[Value, Pulled] = {}
    waiting: dict[Value, dict[int, Pulled]] = {first: {} for first in loops.values()}
    for value in reversed(order):
        contributions = gathered.pop(value, None)
        if contributions is not None and value in active:
            cotangent = _total(contributions)
            # Dead is what every contribution calls dead.
            mask = all_of([own for _, own in contributions]) if value in curved else None
            if value in wanted:
                found[value] = cotangent, mask
            if value.op.picks:
                waiting[loops[loop_key(value)]][value.attr("pick")] = cotangent, mask
            elif not active.isdisjoint(value.args):
                _pull(builder, value, cotangent, mask, active, curved, still, gathered)
        if waiting.get(value):  # every result of the loop has its cotangent
            _pull_loop(builder, value, waiting.pop(value), active, curved, gathered)
    return [found.get(v) for v in wrt]


def _pull_loop(
    builder: Builder,
    value: Value,
    given: dict[int, Pulled],
    active: set[Value],
    curved: set[Value],
    gathered: _Gathered,
) -> None:
    moving, bent = [a in active for a in value.args], [a in curved for a in value.args]
    if any(moving):
        for x, own in zip(value.args, pull_loop(builder, value, given, moving, bent, pull), strict=True):
            if own is not None:
                _add(gathered, x, *own)


def _add(gathered: _Gathered, value: Value, term: Handle, mask: Handle | None) -> None:
    parts = gathered.get(value)
    if parts is None:
        gathered[value] = [(term, mask)]
    else:
        parts.append((term, mask))


def _pull(
    builder: Builder,
    value: Value,
    ct: Handle,
    dead: Handle | None,
    active: set[Value],
    curved: set[Value],
    still: Mapping[Value, Handle],
    gathered: _Gathered,
) -> None:
    rule = builder.opset.rule(value.op)
    attrs = dict(value.attrs)
    xs = [Handle(builder, a) for a in value.args]
    y = Handle(builder, value)
    match rule:
        case Partials():
            partials = rule.partials(y, *xs, **attrs)
            own = rule.dead(y, *xs, **attrs) if rule.dead else (None,) * len(xs)
            for x, partial, mask in zip(value.args, partials, own, strict=True):
                if x not in active:
                    continue
                if x in still and isinstance(partial, Handle) and steep(value, builder.opset):
                    partial = masked(still[x], partial)
                term = scaled(partial, ct, value)
                if term is None:
                    continue
                both = either(dead, mask)
                # What `dead` covers is already an exact zero in ct: only a product can spoil it.
                protect = mask if isinstance(partial, int) else both
                _add(gathered, x, masked(protect, term), both)
        case Linear():
            for i, term in enumerate(rule.transpose(ct, *xs, **attrs)):
                if term is not None and value.args[i] in active:
                    carried = dead if value.args[i] in curved else None
                    mask = linear_mask(rule, i, carried, xs, attrs) if carried is not None else None
                    _add(gathered, value.args[i], term, mask)
        case Multilinear():
            masks = [None if dead is None else contract_mask(rule, i, dead, xs, attrs) for i in range(len(xs))]
            safe = xs if len(xs) == 1 else [masked(mask, x) for mask, x in zip(masks, xs, strict=True)]
            for i, x in enumerate(value.args):
                if x in active:
                    _add(gathered, x, settled(rule.transpose(i, ct, *safe, **attrs)), masks[i] if x in curved else None)
        case Rules():
            for i, term in enumerate(rule.vjp(ct, y, *xs, **attrs)):
                if term is not None and value.args[i] in active:
                    mask = block_mask(dead, value, xs[i], attrs) if dead is not None else None
                    _add(gathered, value.args[i], masked(mask, term), mask)
        case Region():
            _pull_loop(builder, value, {attrs["pick"]: (ct, dead)}, active, curved, gathered)
        case NoDerivative():
            raise refusal(value, rule)
        case _:
            assert_never(rule)
