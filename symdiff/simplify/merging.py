"""Loops that carry the same run as one.

A derivative in forward mode carries the values beside their tangents, and two gradients carry the same cotangents, so
the loops have carries in common. Carries are the same when they start from one value and every step computes them from
the same slices, constants and carries; which are is found for all loops at once, from the assumption that all with one
start are, by splitting what turns out to differ (Hopcroft, An n log n algorithm for minimizing states in a finite
automaton, 1971, by its simple form). Loops of one length and direction with a carry in common are merged, unless one
needs the other; so are loops that another contains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import PLAIN
from symdiff.ir.graph import Function, Value
from symdiff.ir.loop import Loop, groups_of
from symdiff.ir.op import OpSet
from symdiff.ir.types import TensorType

MOST_ROUNDS = 50
"""Rounds of splitting after which loops are left as they are."""


@dataclass(slots=True)
class _Member:
    """One loop: its results, which carries they are."""

    bit: int
    loop: Loop
    picks: list[Value]
    classes: list[int] = field(default_factory=list[int])
    telling: set[int] = field(default_factory=set[int])


@dataclass(slots=True, eq=False)
class _Group:
    """Loops that become one, by their bits; all that they need, directly or not."""

    members: list[_Member]
    bits: int
    needs: int

    def contains(self, member: _Member) -> bool:
        """Whether a loop computes nothing but carries of these from their operands."""
        classes = {c for m in self.members for c in m.classes}
        operands = {a for m in self.members for a in m.loop.value.args}
        return classes.issuperset(member.classes) and operands.issuperset(member.loop.value.args)


def merged(function: Function, opset: OpSet) -> Function:
    """The function with loops that have carries in common run as one."""
    alike: dict[Any, list[_Member]] = {}
    for number, picks in enumerate(groups_of(function).values()):
        loop = Loop.of(picks[0])
        alike.setdefault((loop.length, loop.reverse), []).append(_Member(1 << number, loop, picks))
    several = [members for members in alike.values() if len(members) > 1]
    if not several:
        return function
    needs = _needs(function, [m for members in alike.values() for m in members])
    groups = {m.bit: _Group([m], m.bit, needs[m.bit]) for members in several for m in members}
    for members in several:
        if _classified(members):
            _put_together(members, groups)
    united = [g for g in dict.fromkeys(groups.values()) if len(g.members) > 1]
    return _rebuilt(function, united, opset) if united else function


def carried_by(value: Value, others: Iterable[Value]) -> bool:
    """Whether one of other loops, on operands of the same builder, has every carry of the loop of `value`."""
    loop = Loop.of(value)
    members = [_Member(0, loop, [])]
    members += [_Member(0, other, []) for v in others
                if ((other := Loop.of(v)).length, other.reverse) == (loop.length, loop.reverse)]  # fmt: skip
    if len(members) == 1 or not _classified(members):
        return False
    return any(set(m.classes).issuperset(members[0].classes) for m in members[1:])


def _needs(function: Function, members: Iterable[_Member]) -> dict[int, int]:
    """The loops that every loop needs."""
    bit_of = {v: m.bit for m in members for v in m.picks}
    masks: dict[Value, int] = dict.fromkeys(function.params, 0)
    found: dict[int, int] = {}
    for v in function.instrs:
        mask = 0
        for a in v.args:
            mask |= masks[a]
        if v in bit_of:
            found[bit_of[v]] = mask
            mask |= bit_of[v]
        masks[v] = mask
    return found


def _classified(members: Sequence[_Member]) -> bool:
    """Number the carries, equal ones alike; whether that came to an end."""
    numbers: dict[Any, int] = {}

    def number(key: Any) -> int:
        return numbers.setdefault(key, len(numbers))

    for m in members:
        m.classes = [number(start) for _, start, _ in m.loop.carries]
    count = 0
    for _ in range(MOST_ROUNDS):
        found = {c for m in members for c in m.classes}
        if len(found) == count:
            return True
        count = len(found)
        for m in members:
            known: dict[Value, int] = {}
            reading: set[Value] = set()
            for (p, _, _), c in zip(m.loop.carries, m.classes, strict=True):
                known[p] = number(("carry", c))
            for role, pairs in (("slice", m.loop.slices), ("const", m.loop.consts)):
                for p, operand in pairs:
                    known[p] = number((role, operand))
                    reading.add(p)
            for v in m.loop.body.instrs:
                known[v] = number((v.op, tuple([known[a] for a in v.args]), v.attrs, v.type))
                if any(a in reading for a in v.args):
                    reading.add(v)
            m.classes = [number((c, known[v])) for c, (_, _, v) in zip(m.classes, m.loop.carries, strict=True)]
            # A mere counter tells nothing of the loops that have it.
            m.telling = {
                c for c, (_, start, after) in zip(m.classes, m.loop.carries, strict=True)
                if after in reading or start.op.name not in PLAIN
            }  # fmt: skip
    return False


def _put_together(members: Sequence[_Member], groups: dict[int, _Group]) -> None:
    """Merge the groups of loops with a carry in common, or of which one contains the other."""

    def joined(a: _Group, b: _Group) -> bool:
        if a is b:
            return True
        if a.needs & b.bits or b.needs & a.bits:
            return False
        whole = _Group(sorted([*a.members, *b.members], key=lambda m: m.bit), a.bits | b.bits, a.needs | b.needs)
        for m in whole.members:
            groups[m.bit] = whole
        for other in dict.fromkeys(groups.values()):
            if other.needs & whole.bits:
                other.needs |= whole.needs | whole.bits
        return True

    owners: dict[int, list[_Member]] = {}
    readers: dict[Value, list[_Member]] = {}
    for m in members:
        for c in dict.fromkeys(m.classes):
            owners.setdefault(c, []).append(m)
        for _, operand in m.loop.slices[:1]:
            readers.setdefault(operand, []).append(m)
    for c, own in owners.items():
        apart: list[_Member] = []
        for m in own:
            for first in apart:
                a, b = groups[first.bit], groups[m.bit]
                if (c in m.telling or a.contains(m) or b.contains(first)) and joined(a, b):
                    break
            else:
                apart.append(m)
    for m in members:
        if not m.classes and m.loop.slices:
            for other in readers[m.loop.slices[0][1]]:
                if other is not m and groups[other.bit].contains(m) and joined(groups[m.bit], groups[other.bit]):
                    break


# -------------------------------------------------------------------- the new function
def _rebuilt(function: Function, united: Sequence[_Group], opset: OpSet) -> Function:
    builder = Builder(opset)
    made: dict[Value, Value] = {p: builder.adopt(p) for p in function.params}
    group_of = {v: g for g in united for m in g.members for v in m.picks}
    operands = {g: list(dict.fromkeys(a for m in g.members for a in m.loop.value.args)) for g in united}
    pending = list(function.results[::-1])
    while pending:
        v = pending[-1]
        if v in made:
            pending.pop()
            continue
        group = group_of.get(v)
        waiting = [a for a in (v.args if group is None else operands[group]) if a not in made]
        if waiting:
            pending += waiting[::-1]
        elif group is None:
            made[v] = builder.again(v, tuple([made[a] for a in v.args]))
        else:
            _run_as_one(group, builder, made)
    return Function.of([made[p] for p in function.params], [made[r] for r in function.results], function.name)


def _run_as_one(group: _Group, builder: Builder, made: dict[Value, Value]) -> None:
    """One loop for all members of a group; `made` gets their results."""
    work = Builder(builder.opset)
    taken: set[str] = set()
    carries: dict[int, tuple[Value, Value, Value]] = {}
    # Parameters by operand; those of slices and of constants are told apart.
    slices: dict[Value, Value] = {}
    consts: dict[Value, Value] = {}
    outputs: dict[Value, int] = {}

    def fresh(p: Value) -> Value:
        name = p.name
        while name in taken:
            name += "_"
        taken.add(name)
        return work.param(name, TensorType(p.type.dtype, p.shape))

    bodies: list[dict[Value, Value]] = []
    started: dict[int, tuple[Value, Value]] = {}
    for m in group.members:
        known: dict[Value, Value] = {}
        for c, (p, start, _) in zip(m.classes, m.loop.carries, strict=True):
            if c not in started:
                started[c] = fresh(p), made[start]
            known[p] = started[c][0]
        for pairs, own in ((m.loop.slices, slices), (m.loop.consts, consts)):
            for p, operand in pairs:
                if operand not in own:
                    own[operand] = fresh(p)
                known[p] = own[operand]
        for v in m.loop.body.instrs:
            known[v] = work.again(v, tuple([known[a] for a in v.args]))
        for c, (_, _, after) in zip(m.classes, m.loop.carries, strict=True):
            carries.setdefault(c, (*started[c], known[after]))
        bodies.append(known)
    place = {c: k for k, c in enumerate(carries)}
    count = len(carries)
    wanted: list[tuple[Value, int]] = []
    for m, known in zip(group.members, bodies, strict=True):
        own = len(m.loop.carries)
        for v in m.picks:
            k: int = v.attr("pick")
            if k < 2 * own:
                wanted.append((v, place[m.classes[k % own]] + (count if k >= own else 0)))
            else:
                output = known[m.loop.outputs[k - 2 * own]]
                wanted.append((v, 2 * count + outputs.setdefault(output, len(outputs))))
    params = [*[p for p, _, _ in carries.values()], *slices.values(), *consts.values()]
    first = group.members[0].loop
    attrs: dict[str, Any] = {
        "body": Function.of(params, [*[v for _, _, v in carries.values()], *outputs], first.body.name),
        "carries": count, "length": first.length, "reverse": first.reverse, "slices": len(slices),
    }  # fmt: skip
    args = (*[start for _, start, _ in carries.values()], *[made[a] for a in (*slices, *consts)])
    for v, k in wanted:
        made[v] = builder.make(v.op, args, tuple(sorted({**attrs, "pick": k}.items())))
