"""Forward mode: push tangents through a program.

Takes values and a tangent for some of them, gives the tangents of the results. A tangent has the shape of its primal
behind any number of leading seed axes, so one sweep pushes a single direction or a whole identity. Absent tangents
are exact zeros and stay absent; nothing flows through integers and booleans.

With tangents travel masks of what is *still*: where they are true no variable reaches the value (the branch of a select
that is taken is a constant), so that a slope which is infinite there must not be multiplied with the zero tangent. They
are the dual of the dead masks of reverse mode, carried through elementwise operations and along axes that repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

from symdiff.diff.lifting import settled
from symdiff.diff.loops import push_loop
from symdiff.diff.masks import all_of, either, live, masked
from symdiff.diff.slopes import steep
from symdiff.diff.supports import joined, product
from symdiff.errors import DerivativeError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.graph import Value, loop_key, topological
from symdiff.ir.op import Linear, Multilinear, NoDerivative, Partials, Region, Rules


def forward(
    builder: Builder, results: Sequence[Value], tangents: Mapping[Value, Handle], seeds: int
) -> list[Handle | None]:
    """Tangents of `results`; `seeds` is the number of leading seed axes of every given tangent."""
    known: dict[Value, Handle] = dict(tangents)
    still: dict[Value, Handle] = {}
    loops: dict[Any, Callable[[int], Handle | None]] = {}
    for value in topological(results, min([v.born for v in tangents], default=0)):
        if value in known or not value.type.floating:
            continue
        moving = [known.get(a) for a in value.args]
        if any(t is not None for t in moving):
            if value.op.picks:  # one derivation serves all results of a loop
                key = loop_key(value)
                if key not in loops:
                    loops[key] = push_loop(builder, value, moving, seeds, forward)
                tangent = loops[key](value.attr("pick"))
            else:
                tangent, mask = _push(builder, value, moving, [still.get(a) for a in value.args], seeds)
                if mask is not None:
                    still[value] = mask
            if tangent is not None:
                known[value] = tangent
    return [known.get(r) for r in results]


def push(builder: Builder, value: Value, moving: Sequence[Handle | None], seeds: int) -> Handle | None:
    """The tangent of one value, from those of its operands."""
    return _push(builder, value, moving, [None] * len(moving), seeds)[0]


def _push(
    builder: Builder, value: Value, moving: Sequence[Handle | None], still: Sequence[Handle | None], seeds: int
) -> tuple[Handle | None, Handle | None]:
    """The same, and where it is still."""
    rule = builder.opset.rule(value.op)
    attrs = dict(value.attrs)
    xs = [Handle(builder, a) for a in value.args]
    match rule:
        case Partials():
            return _elementwise(rule, value, xs, moving, still)
        case Linear():
            lead = next(t for t in moving if t is not None).shape[:seeds]
            operands = [
                x if not x.value.type.floating else t if t is not None else x.const(0, (*lead, *x.shape))
                for x, t in zip(xs, moving, strict=True)
            ]
            return builder.apply(value.op, operands, attrs), None
        case Multilinear():
            total, mask = None, None
            for i, tangent in enumerate(moving):
                if tangent is not None:
                    term = settled(rule.forward(i, tangent, *xs, **attrs))
                    total = term if total is None else joined(total, term)
            if len(xs) == 1 and still[0] is not None:
                mask = rule.forward(0, live(still[0]), *xs, **attrs).op("eq", 0)
            return total, mask
        case Rules():
            return rule.jvp(Handle(builder, value), tuple(xs), tuple(moving), **attrs), None
        case Region():
            return push_loop(builder, value, moving, seeds, forward)(value.attr("pick")), None
        case NoDerivative():
            raise refusal(value, rule)
        case _:
            assert_never(rule)


def _elementwise(
    rule: Partials, value: Value, xs: Sequence[Handle], moving: Sequence[Handle | None],
    still: Sequence[Handle | None],
) -> tuple[Handle | None, Handle | None]:  # fmt: skip
    attrs, y = dict(value.attrs), Handle(xs[0].builder, value)
    wild = steep(value, y.builder.opset)
    partials = rule.partials(y, *xs, **attrs)
    dead = rule.dead(y, *xs, **attrs) if rule.dead else (None,) * len(xs)
    total: Handle | None = None
    masks: list[Handle | None] = []
    for partial, mask, tangent, own in zip(partials, dead, moving, still, strict=True):
        term = None if tangent is None else scaled(partial, tangent, value, wild)
        if term is None:
            continue
        both = either(own, mask)
        # What is still is an exact zero already: only a product can spoil it.
        term = masked(mask if isinstance(partial, int) else both, term)
        total = term if total is None else joined(total, term)
        masks.append(both)
    return total, all_of(masks)


def scaled(partial: Handle | int | None, tangent: Handle, value: Value, steep: bool = False) -> Handle | None:
    """partial * tangent over seed axes; None for an exact zero. steep: as in `supports.product`."""
    if partial is None:
        raise DerivativeError(f"{value.op.name}: the derivative in one of its operands is not known")
    if isinstance(partial, int):
        return None if partial == 0 else tangent if partial == 1 else -tangent if partial == -1 else tangent * partial
    constant = partial.value.op.name == "const"
    if constant and partial.value.attr("value") == 0:
        return None
    if constant:
        return tangent * partial.const(partial.value.attr("value"), tangent.shape)
    return product(partial, tangent, steep)


def refusal(value: Value, rule: NoDerivative) -> DerivativeError:
    return DerivativeError(f"{value.op.name} has no derivative: {rule.reason}")
