"""Loops: the derivative of a loop is a loop over the derivative of its body.

Forward, the tangents of carries are carries beside them. Reverse, a loop in the other direction runs over the values
that the carries had (their trails), the slices, and the cotangents of what was stacked; its carries are the cotangents
of the carries, and the sums of the cotangents of the constants (Griewank and Walther, Evaluating Derivatives, 2008,
sections 3.2 and 4.1, for straight-line programs; a loop is one whose steps look alike). What is exactly zero in every
step is found beforehand and not carried.

The sweeps themselves are handed in, for a body may hold loops again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from symdiff.diff.slopes import tame
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import permute
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import Function, Value, instructions, leaves_read, topological
from symdiff.ir.op import Op, OpSet
from symdiff.ir.types import TensorType

Push: TypeAlias = "Callable[[Builder, Sequence[Value], Mapping[Value, Handle], int], list[Handle | None]]"
Pulled: TypeAlias = "tuple[Handle, Handle | None]"
"""A cotangent and where the value is dead (see `reverse`)."""
Pull: TypeAlias = """Callable[
    [Builder, Sequence[tuple[Value, Handle, Handle | None]], Sequence[Value], Collection[Value]], list[Pulled | None]
]"""


@dataclass(slots=True)
class _Loop:
    """A loop taken apart, its body in a builder where derivatives of it can be made."""

    op: Op
    args: tuple[Value, ...]
    carries: int
    slices: int
    length: Size
    reverse: bool
    work: Builder
    params: list[Value]
    results: list[Value]
    body: Function
    taken: set[str] = field(default_factory=set[str])

    @property
    def outputs(self) -> list[Value]:
        return self.results[self.carries :]

    def stacked(self, k: int) -> bool:
        return k >= self.carries

    def kind(self, k: int) -> TensorType:
        """The type in one step of what `pick` k collects."""
        if k < 2 * self.carries:
            return self.params[k % self.carries].type
        return self.results[k - self.carries].type

    def fresh(self, name: str, dtype: str, shape: Shape) -> Handle:
        """A new parameter of the body."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return Handle(self.work, self.work.param(name, TensorType(dtype, shape)))


def _apart(builder: Builder, value: Value) -> _Loop:
    attrs = dict(value.attrs)
    body: Function = attrs["body"]
    work = Builder(builder.opset)
    mapping = work.inline(body)
    params, results = [mapping[p] for p in body.params], [mapping[r] for r in body.results]
    loop = _Loop(value.op, value.args, attrs["carries"], attrs["slices"], attrs["length"], attrs["reverse"], work,
                 params, results, body)  # fmt: skip
    loop.taken.update(p.name for p in params)
    return loop


@dataclass(slots=True)
class _Made:
    """A new loop: parameters with their operands, results."""

    builder: Builder
    loop: _Loop
    reverse: bool
    carries: list[tuple[Value, Value, Value]] = field(default_factory=list["tuple[Value, Value, Value]"])
    slices: list[tuple[Value, Value]] = field(default_factory=list["tuple[Value, Value]"])
    consts: list[tuple[Value, Value]] = field(default_factory=list["tuple[Value, Value]"])
    outputs: list[Value] = field(default_factory=list[Value])

    def picks(self) -> Callable[[int], Handle]:
        """The results of the loop by `pick`; slices and constants that no step reads are left out."""
        results = [*[after for _, _, after in self.carries], *self.outputs]
        read = {v for v in topological(results) if v.is_param}
        slices = [(p, v) for p, v in self.slices if p in read]
        consts = [(p, v) for p, v in self.consts if p in read]
        params = [p for p, *_ in (*self.carries, *slices, *consts)]
        operands = (*[v for _, v, _ in self.carries], *[v for _, v in (*slices, *consts)])
        attrs: dict[str, Any] = {
            "body": Function.of(params, results, self.loop.body.name), "carries": len(self.carries),
            "length": self.loop.length, "reverse": self.reverse, "slices": len(slices),
        }  # fmt: skip

        def pick(k: int) -> Handle:
            items = tuple(sorted({**attrs, "pick": k}.items()))
            return Handle(self.builder, self.builder.make(self.loop.op, operands, items))

        return pick


def _to_front(x: Handle, lead: int) -> Handle:
    """The scanned axis, behind the seed axes, to the front."""
    return permute(x, [lead, *range(lead), *range(lead + 1, x.rank)]) if lead else x


def _from_front(x: Handle, lead: int) -> Handle:
    return permute(x, [*range(1, lead + 1), 0, *range(lead + 1, x.rank)]) if lead else x


def _spread(
    steps: Mapping[int, Handle], carried: Mapping[int, Value], outer: Sequence[Value], start: Iterable[int]
) -> set[int]:
    """What is not zero in all steps: the least set that holds `start`, every k whose step reads one of `outer`, and
    every k whose step reads what is carried for a member."""
    places = list(carried)
    reads = leaves_read([h.value for h in steps.values()], [*carried.values(), *outer])
    readers: dict[int, list[int]] = {}
    pending = list(start)
    for k, own in zip(steps, reads, strict=True):
        for at in own:
            if at < len(places):
                readers.setdefault(places[at], []).append(k)
        if max(own, default=-1) >= len(places):
            pending.append(k)
    found = set(pending)
    while pending:
        more = set(readers.get(pending.pop(), ())) - found
        found |= more
        pending += more
    return found


# -------------------------------------------------------------------- forward
def push_loop(
    builder: Builder, value: Value, moving: Sequence[Handle | None], seeds: int, push: Push
) -> Callable[[int], Handle | None]:
    """The tangent of every pick of a loop, from tangents of its operands with `seeds` leading axes."""
    loop = _apart(builder, value)
    lead = next(t for t in moving if t is not None).shape[:seeds]
    count = loop.carries
    dots = {
        p: loop.fresh(f"{p.name}_dot", p.type.dtype, (*lead, *p.shape))
        for place, (p, t) in enumerate(zip(loop.params, moving, strict=True))
        if p.type.floating and (place < count or t is not None)
    }
    carried = {k: dots[p].value for k, p in enumerate(loop.params[:count]) if p in dots}
    moved = push(loop.work, loop.results, dots, seeds)
    active = _moving_carries(carried, moved, [k for k in carried if moving[k] is not None], dots)
    if len(active) < len(carried):
        still = {p for k, p in enumerate(loop.params) if k >= count or k in active}
        moved = push(loop.work, loop.results, {p: t for p, t in dots.items() if p in still}, seeds)
    made = _Made(builder, loop, loop.reverse)
    for k in range(count):
        made.carries.append((loop.params[k], loop.args[k], loop.results[k]))
    place_of: dict[int, int] = {}
    for k in sorted(active):
        place_of[k] = len(made.carries)
        start, after, p = moving[k], moved[k], loop.params[k]
        zero = builder.const(0, (*lead, *p.shape), p.type.dtype)
        step = after.value if after is not None else loop.work.const(0, (*lead, *p.shape), p.type.dtype)
        made.carries.append((carried[k], start.value if start is not None else zero, step))
    for place in range(count, len(loop.params)):
        p, target = loop.params[place], made.slices if place < count + loop.slices else made.consts
        target.append((p, loop.args[place]))
    for place in range(count, len(loop.params)):
        p, t = loop.params[place], moving[place]
        if t is not None and p in dots:
            if place < count + loop.slices:
                made.slices.append((dots[p].value, _to_front(t, seeds).value))
            else:
                made.consts.append((dots[p].value, t.value))
    output_of: dict[int, int] = {}
    for number, t in enumerate(moved[count:]):
        if t is not None:
            output_of[number] = len(made.outputs)
            made.outputs.append(t.value)
    pick, total = made.picks(), len(made.carries)

    def tangent(k: int) -> Handle | None:
        if k < 2 * count:
            if k % count not in place_of:
                return None
            at = place_of[k % count]
            return pick(at) if k < count else _from_front(pick(total + at), seeds)
        at = output_of.get(k - 2 * count, -1)
        return None if at < 0 else _from_front(pick(2 * total + at), seeds)

    return tangent


def _moving_carries(
    carried: Mapping[int, Value], moved: Sequence[Handle | None], start: Sequence[int],
    tangents: Mapping[Value, Handle],
) -> set[int]:  # fmt: skip
    """Carries whose tangent is not zero in all steps."""
    steps = {k: step for k in carried if (step := moved[k]) is not None}
    inner = set(carried.values())
    return _spread(steps, carried, [t.value for t in tangents.values() if t.value not in inner], start)


# -------------------------------------------------------------------- reverse
def _tame(function: Function, opset: OpSet) -> bool:
    """Whether no derivative in a body is infinite where its values are finite."""
    return all(value.op.picks or tame(value, opset) for value in instructions(function.instrs))


@dataclass(slots=True)
class _Given:
    """The cotangent of one pick, and the parameters of the new body that stand for it in a step."""

    cotangent: Handle
    dead: Handle | None
    bar: Handle
    bar_dead: Handle | None


def pull_loop(
    builder: Builder, value: Value, given: Mapping[int, Pulled], active: Sequence[bool], curved: Sequence[bool],
    pull: Pull,
) -> list[Pulled | None]:  # fmt: skip
    """Cotangents of the operands of a loop from those of its picks.

    active: operands that want one. curved: operands whose dead masks are wanted.
    """
    loop = _apart(builder, value)
    any_pick, (any_ct, _) = next(iter(given.items()))
    rank = loop.kind(any_pick).rank + loop.stacked(any_pick)
    lead = any_ct.shape[: any_ct.rank - rank]
    pulling = _Pulling(builder, loop, lead, dict(given), _active_params(loop, active), curved, pull)
    live = pulling.alive()
    return pulling.made(live, pulling.masked(live), active, curved)


def _active_params(loop: _Loop, active: Sequence[bool]) -> list[Value]:
    """Floating parameters of the body that depend on an active operand, carries through any number of steps."""
    readers: dict[Value, list[Value]] = {}
    for v in topological(loop.results):
        for a in v.args if v.type.floating else ():
            readers.setdefault(a, []).append(v)
    for p, r in zip(loop.params, loop.results[: loop.carries], strict=False):
        readers.setdefault(r, []).append(p)
    pending = [p for p, own in zip(loop.params, active, strict=True) if own and p.type.floating]
    moving = set(pending)
    while pending:
        more = set(readers.get(pending.pop(), ())) - moving
        moving |= more
        pending += more
    return [p for p in loop.params if p in moving]


class _Pulling:
    """One pull: what is given, what is found of the body, the loop that comes out."""

    def __init__(
        self, builder: Builder, loop: _Loop, lead: Shape, given: dict[int, Pulled], active: Sequence[Value],
        curved: Sequence[bool], pull: Pull,
    ) -> None:  # fmt: skip
        self.builder, self.loop, self.lead, self.active, self.pull = builder, loop, lead, active, pull
        self.wanted = {p for p, bent in zip(loop.params, curved, strict=True) if bent and p in active}
        self.wanted.update(p for p in loop.params[: loop.carries] if p in active)
        self.known: dict[Any, dict[Value, Pulled]] = {}
        self.candidates = [k for k, p in enumerate(loop.params[: loop.carries]) if p in active]
        self.given: dict[int, _Given] = {}
        for k, (ct, dead) in sorted(given.items()):
            if k >= loop.carries:  # a step sees one entry of what was stacked
                kind = loop.kind(k)
                at = k - 2 * loop.carries
                name = f"{loop.params[k - loop.carries].name}_seen" if at < 0 else "y" if at == 0 else f"y_{at}"
                bar = loop.fresh(f"{name}_bar", kind.dtype, (*lead, *kind.shape))
                bar_dead = None if dead is None else loop.fresh(f"{name}_dead", "bool", kind.shape)
                self.given[k] = _Given(ct, dead, bar, bar_dead)
        self.last = {k: pulled for k, pulled in given.items() if k < loop.carries}
        self.bars = {
            k: loop.fresh(f"{loop.params[k].name}_bar", loop.params[k].type.dtype, (*lead, *loop.params[k].shape))
            for k in self.candidates
        }
        self.dead: dict[int, Handle] = {}

    def swept(self, live: Sequence[int], masked: Collection[int]) -> dict[Value, Pulled]:
        """Pull through one step; `live` carries have cotangents after it, `masked` ones dead masks too."""
        key = tuple(live), frozenset(masked)
        if key not in self.known:
            loop = self.loop
            for k in masked:
                if k not in self.dead:
                    self.dead[k] = loop.fresh(f"{loop.params[k].name}_dead", "bool", loop.params[k].shape)
            seeds = [(loop.results[k], self.bars[k], self.dead[k] if k in masked else None) for k in live]
            for k, own in self.given.items():
                target = loop.params[k - loop.carries] if k < 2 * loop.carries else loop.results[k - loop.carries]
                seeds.append((target, own.bar, own.bar_dead))
            found = self.pull(loop.work, seeds, self.active, self.wanted)
            self.known[key] = {p: f for p, f in zip(self.active, found, strict=True) if f is not None}
        return self.known[key]

    def alive(self) -> list[int]:
        """Carries whose cotangent is not zero in all steps."""
        found = self.swept(self.candidates, ())
        steps = {k: ct[0] for k in self.candidates if (ct := found.get(self.loop.params[k])) is not None}
        carried = {k: bar.value for k, bar in self.bars.items()}
        outer = [own.bar.value for own in self.given.values()]
        return sorted(_spread(steps, carried, outer, [k for k in self.last if k in self.bars]))

    def masked(self, live: Sequence[int]) -> list[int]:
        """Carries that need a dead mask from step to step: the caller has one, or a step may leave them unread.

        A last carry that nobody reads is dead as a whole; without infinite derivatives that needs no mask, unless steps
        are left out of what is stacked: the last ones may run over padding that is NaN.
        """
        mild = _tame(self.loop.body, self.builder.opset) and all(own.dead is None for own in self.given.values())
        masked = {k for k in live if (self.last[k][1] is not None if k in self.last else not mild)}
        while True:
            found = self.swept(live, masked)
            own = {k: found.get(self.loop.params[k]) for k in live}
            more = {k for k, pulled in own.items() if pulled is not None and pulled[1] is not None} - masked
            if not more:
                return sorted(masked)
            masked |= more

    def made(
        self, live: Sequence[int], masked: Sequence[int], active: Sequence[bool], curved: Sequence[bool]
    ) -> list[Pulled | None]:
        """The loop, and what the operands get of it."""
        loop, builder, work, lead = self.loop, self.builder, self.loop.work, self.lead
        count, seeds, found = loop.carries, len(lead), self.swept(live, masked)
        made = _Made(builder, loop, not loop.reverse)
        answers: list[Callable[[Callable[[int], Handle], int], Pulled | None]] = []

        def carried(bar: Handle, start: Value, after: Value) -> int:
            made.carries.append((bar.value, start, after))
            return len(made.carries) - 1

        def stacked(step: Value) -> int:
            made.outputs.append(step)
            return len(made.outputs) - 1

        last: dict[int, tuple[int, int | None]] = {}
        for k in live:
            p, own = loop.params[k], found.get(loop.params[k])
            shape = (*lead, *p.shape)
            start = self.last[k][0].value if k in self.last else builder.const(0, shape, p.type.dtype)
            after = work.const(0, shape, p.type.dtype) if own is None else own[0].value
            last[k] = carried(self.bars[k], start, after), None
        for k in masked:
            p, own = loop.params[k], found.get(loop.params[k])
            start = self.last[k][1] if k in self.last else None
            first = builder.const(k not in self.last, p.shape, "bool") if start is None else start.value
            after = work.const(own is None, p.shape, "bool") if own is None or own[1] is None else own[1].value
            last[k] = last[k][0], carried(self.dead[k], first, after)
        for place, (p, own_active) in enumerate(zip(loop.params, active, strict=True)):
            own = found.get(p)
            if not own_active or (place < count and place not in last) or (place >= count and own is None):
                answers.append(lambda pick, total: None)
            elif place < count:
                answers.append(_last_of(*last[place]))
            elif place < count + loop.slices:
                assert own is not None
                dead = stacked(own[1].value) if curved[place] and own[1] is not None else None
                answers.append(_stack_of(stacked(own[0].value), dead, seeds))
            else:
                assert own is not None
                total = loop.fresh(f"{p.name}_bar", p.type.dtype, (*lead, *p.shape))
                zero = builder.const(0, (*lead, *p.shape), p.type.dtype)
                at, dead = carried(total, zero, (total + own[0]).value), None
                if curved[place] and own[1] is not None:
                    so_far = loop.fresh(f"{p.name}_dead", "bool", p.shape)
                    true = builder.const(True, p.shape, "bool")
                    dead = carried(so_far, true, so_far.op("and", own[1]).value)
                answers.append(_last_of(at, dead))
        for k in range(count):
            made.slices.append((loop.params[k], self._trail(k)))
        for place in range(count, count + loop.slices):
            made.slices.append((loop.params[place], loop.args[place]))
        for own in self.given.values():
            made.slices.append((own.bar.value, _to_front(own.cotangent, seeds).value))
            if own.dead is not None and own.bar_dead is not None:
                made.slices.append((own.bar_dead.value, own.dead.value))
        made.consts += zip(loop.params[count + loop.slices :], loop.args[count + loop.slices :], strict=True)
        if not made.carries and not made.outputs:
            return [None] * len(answers)
        pick, total = made.picks(), len(made.carries)
        return [answer(pick, total) for answer in answers]

    def _trail(self, k: int) -> Value:
        """The values that carry k had before every step."""
        loop = self.loop
        attrs = {"body": loop.body, "carries": loop.carries, "length": loop.length, "pick": loop.carries + k,
                 "reverse": loop.reverse, "slices": loop.slices}  # fmt: skip
        return self.builder.make(loop.op, loop.args, tuple(sorted(attrs.items())))


def _last_of(at: int, dead: int | None) -> Callable[[Callable[[int], Handle], int], Pulled | None]:
    return lambda pick, total: (pick(at), None if dead is None else pick(dead))


def _stack_of(at: int, dead: int | None, seeds: int) -> Callable[[Callable[[int], Handle], int], Pulled | None]:
    return lambda pick, total: (
        _from_front(pick(2 * total + at), seeds), None if dead is None else pick(2 * total + dead),
    )  # fmt: skip
