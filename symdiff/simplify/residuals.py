"""What a loop knows and a later one needs: stored by the first, read by the second.

The reverse of a loop reads the values that the carries had, and computes again what its partial derivatives are made
of. Where that is dearer than an element stored and read (a transcendental, a quotient, a sum of products), the first
loop hands it over as one more step output (Griewank and Walther, Evaluating Derivatives, 2008, section 4.1: store or
recompute). Cheap values are computed again from what is there anyway, or stored in place of what they would need.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import parse_spec
from symdiff.ir.graph import Function, Value, instructions, loop_key, topological
from symdiff.ir.loop import groups_of
from symdiff.ir.op import OpSet
from symdiff.ir.types import TensorType
from symdiff.simplify.merging import carried_by

_CHEAP = frozenset({"add", "multiply", "compare", "move"})
_MOVES = frozenset({
    "reshape", "slice", "embed", "concatenate", "tril", "triu", "gather", "const", "size", "iota", "array",
})  # fmt: skip


def handed_over(function: Function, opset: OpSet, named: bool = False) -> Function:
    """The function with dear values stored by the loop that computes them first.

    named: new values of carries instead, however cheap: they have names already, and a formula is shorter with them.
    """
    groups = groups_of(function)
    plan = _Plan(opset, named)
    for key, group in groups.items():
        for first in dict.fromkeys([loop_key(a) for a in group[0].args if a.op.picks]):
            if first in groups:
                plan.match(key, group[0], first, groups[first][0])
    if not plan.stored:
        return function
    return plan.applied(function, groups)


def _dear(value: Value) -> bool:
    """Whether computing an element costs more than storing and reading one; for a loop, any element of its steps."""
    if value.op.picks:
        return any(_dear(v) for v in instructions(value.attr("body").instrs) if not v.op.picks)
    if value.op.name == "contract":
        return bool(parse_spec(value.attr("spec")).summed)
    if value.op.elementwise:
        return value.op.cost not in _CHEAP and value.op.name != "cast"
    return value.op.name not in _MOVES


@dataclass(slots=True)
class _Plan:
    opset: OpSet
    named: bool
    # Values of a body that the loop stores besides, and values of a body that it reads from another loop instead.
    stored: dict[Any, list[Value]] = field(default_factory=dict[Any, "list[Value]"])
    read: dict[Any, dict[Value, tuple[Any, Value]]] = field(default_factory=dict[Any, "dict[Value, tuple[Any, Value]]"])

    def match(self, key: Any, value: Value, first_key: Any, first: Value) -> None:
        """Find what the body of `value` can read from the loop `first`."""
        if value.attr("length") != first.attr("length"):
            return
        theirs: Function = first.attr("body")
        work = Builder(self.opset)
        inside = work.inline(theirs)
        origin = {new: old for old, new in inside.items()}
        same = self._common(value, first, inside)
        body: Function = value.attr("body")
        done = self.read.get(key, {})
        for v in body.instrs:
            if v not in done and all(a in same for a in v.args):
                same[v] = work.again(v, tuple([same[a] for a in v.args]))
        there = dict.fromkeys(
            v for v in body.instrs if v in same and same[v] in origin and v.args and not origin[same[v]].is_param
        )
        if not self.named:
            # What a loop in the first one passes through it can as well stack, though nobody has asked for it there.
            runs = {loop_key(v): v for v in origin if v.op.picks}
            for group in groups_of(body).values():
                picks = [v for v in group if v in same]  # those of one loop may be read from different ones
                if picks and carried_by(same[picks[0]], runs.values()):
                    there.update(dict.fromkeys(picks))
                    origin.update((same[v], same[v]) for v in picks)
        needed = [a for v in body.instrs if v not in same for a in v.args if a in same]
        needed += [r for r in body.results if r in same]
        carried = set(theirs.results[: first.attr("carries")])
        for v in [v for v in there if origin[same[v]] in carried] if self.named else _chosen(needed, there):
            target = origin[same[v]]
            own = self.stored.setdefault(first_key, [])
            if target not in own:
                own.append(target)
            self.read.setdefault(key, {})[v] = first_key, target

    def _common(self, value: Value, first: Value, inside: Mapping[Value, Value]) -> dict[Value, Value]:
        """Parameters of the body of `value` by the value of the other body that they are in the same step."""
        body: Function = value.attr("body")
        theirs: Function = first.attr("body")
        count, slices, key = first.attr("carries"), first.attr("slices"), loop_key(first)
        step = dict(zip(first.args[count : count + slices], theirs.params[count : count + slices], strict=True))
        fixed = dict(zip(first.args[count + slices :], theirs.params[count + slices :], strict=True))
        begin, end = value.attr("carries"), value.attr("carries") + value.attr("slices")
        same: dict[Value, Value] = {}
        for place, (p, a) in enumerate(zip(body.params, value.args, strict=True)):
            if begin <= place < end:
                if a.op.picks and loop_key(a) == key and a.attr("pick") >= count:
                    k = a.attr("pick")
                    same[p] = inside[theirs.params[k - count] if k < 2 * count else theirs.results[k - count]]
                elif a in step:
                    same[p] = inside[step[a]]
            elif place >= end and a in fixed:
                same[p] = inside[fixed[a]]
        return same

    # ---------------------------------------------------------------- the new function
    def applied(self, function: Function, groups: Mapping[Any, Sequence[Value]]) -> Function:
        builder = Builder(self.opset)
        mapping: dict[Value, Value] = {p: builder.adopt(p) for p in function.params}
        picks: dict[Any, Any] = {}
        for value in function.instrs:
            args = tuple([mapping[a] for a in value.args])
            if not value.op.picks or ((key := loop_key(value)) not in self.stored and key not in self.read):
                mapping[value] = builder.again(value, args)
                continue
            if key not in picks:
                picks[key] = self._rebuilt(builder, key, value, args, picks)
            made, operands, attrs, _ = picks[key]
            mapping[value] = builder.make(made, operands, tuple(sorted({**attrs, "pick": value.attr("pick")}.items())))
        return Function.of([mapping[p] for p in function.params], [mapping[r] for r in function.results], function.name)

    def _rebuilt(
        self, builder: Builder, key: Any, value: Value, args: Sequence[Value], picks: Mapping[Any, Any]
    ) -> tuple[Any, tuple[Value, ...], dict[str, Any], dict[Value, int]]:
        """Op, operands and attributes of a loop with the plan carried out, and the picks of what it stores."""
        body: Function = value.attr("body")
        work = Builder(self.opset)
        mapping: dict[Value, Value] = {p: work.adopt(p) for p in body.params}
        taken = {p.name for p in body.params}
        more: list[tuple[Value, Value]] = []
        for v, (source, target) in self.read.get(key, {}).items():
            name = next(n for n in (f"known{i or ''}" for i in itertools.count(len(more))) if n not in taken)
            taken.add(name)
            mapping[v] = work.param(name, TensorType(v.type.dtype, v.shape))
            op, operands, attrs, place = picks[source]
            items = tuple(sorted({**attrs, "pick": place[target]}.items()))
            more.append((mapping[v], builder.make(op, operands, items)))
        own = self.stored.get(key, [])
        for v in (*body.instrs, *topological(own)):
            if v not in mapping:
                mapping[v] = work.again(v, tuple([mapping[a] for a in v.args]))
        end = value.attr("carries") + value.attr("slices")
        pairs = [(mapping[p], a) for p, a in zip(body.params, args, strict=True)]
        pairs = [*pairs[:end], *more, *pairs[end:]]
        results = [mapping[r] for r in (*body.results, *own)]
        function = Function.of([p for p, _ in pairs], results, body.name)
        attrs = {**dict(value.attrs), "body": function, "slices": value.attr("slices") + len(more)}
        first = value.attr("carries") + len(body.results)
        place = {v: first + k for k, v in enumerate(own)}
        return value.op, tuple([a for _, a in pairs]), attrs, place


def _chosen(needed: Sequence[Value], there: Container[Value]) -> list[Value]:
    """Which values to read from the other loop, so that nothing dear is computed again."""
    chosen: dict[Value, None] = {}
    cheap: dict[Value, None] = {}
    pending, seen = list(needed), set[Value]()
    while pending:
        v = pending.pop()
        if v in seen or not v.args:
            continue
        seen.add(v)
        if v not in there:
            pending += v.args
        elif _dear(v):
            chosen[v] = None
        else:
            cheap[v] = None
    # A cheap value is read too where something dear that nobody reads is below it.
    wanting: dict[Value, bool] = {}
    for v in topological(cheap):
        wants = v not in chosen and ((v in there and _dear(v)) or any(wanting[a] for a in v.args))
        if wants and v in cheap:
            chosen[v], wants = None, False
        wanting[v] = wants
    return list(chosen)
