"""Loops that do the same: one that another contains runs as part of it.

A derivative in forward mode carries the values beside their tangents, so it contains the loop that it was derived from.
Loop A is part of loop B when both have one length and direction, every carry of A starts where a carry of B starts and
is computed from it in the same way, and B needs nothing that comes from A.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symdiff.ir.builder import Builder
from symdiff.ir.graph import Function, Value, loop_key, topological
from symdiff.ir.op import OpSet
from symdiff.simplify.loops import groups_of


def merged(function: Function, opset: OpSet) -> Function:
    """The function with loops run as parts of others where they are."""
    while True:
        groups = groups_of(function)
        found = _pair(function, groups, opset)
        if found is None:
            return function
        function = _joined(function, groups, *found, opset)


def _pair(
    function: Function, groups: dict[Any, list[Value]], opset: OpSet
) -> tuple[Any, Any, dict[Value, Value]] | None:
    """A loop, one that contains it, and the values of its body as values of the other's."""
    firsts = {key: group[0] for key, group in groups.items()}
    readers: dict[Value, dict[Any, None]] = {}
    for key, v in firsts.items():
        for a in v.args:
            readers.setdefault(a, {})[key] = None
    for small, a in firsts.items():
        for large in readers[a.args[0]] if a.args else ():
            b = firsts[large]
            if small == large or a.attr("carries") > b.attr("carries") or not {*a.args} <= {*b.args}:
                continue
            if (a.attr("length"), a.attr("reverse")) != (b.attr("length"), b.attr("reverse")):
                continue
            inside = _inside(a, b, opset)
            if inside is not None and not any(v in groups[small] for v in topological(b.args)):
                return small, large, inside
    return None


def _inside(a: Value, b: Value, opset: OpSet) -> dict[Value, Value] | None:
    """Values of the body of `a` as values of the body of `b`, when `b` computes every carry of `a`."""
    ours: Function = a.attr("body")
    theirs: Function = b.attr("body")
    work = Builder(opset)
    known = work.inline(theirs)
    mapping: dict[Value, Value] = {}
    place: list[int] = []
    ends = [[v.attr("carries"), v.attr("carries") + v.attr("slices")] for v in (a, b)]
    for role, (p, operand) in _roles(a, ours, ends[0]):
        fitting = [(k, q) for k, (other, (q, given)) in enumerate(_roles(b, theirs, ends[1]))
                   if other == role and given is operand and (role or k not in place)]  # fmt: skip
        if not fitting:
            return None
        k, q = next((f for f in fitting if f[1].name == p.name), fitting[0])
        mapping[p] = known[q]
        if role == 0:
            place.append(k)
    for v in ours.instrs:
        mapping[v] = work.again(v, tuple([mapping[x] for x in v.args]))
    if any(mapping[r] is not known[theirs.results[k]] for r, k in zip(ours.results, place, strict=False)):
        return None
    back = {new: old for old, new in known.items()}
    return {p: back[mapping[p]] for p in ours.params}


def _roles(value: Value, body: Function, ends: Sequence[int]) -> list[tuple[int, tuple[Value, Value]]]:
    """Parameters with operands; 0 for carries, 1 for slices, 2 for constants."""
    return [
        (sum(place >= end for end in ends), pair)
        for place, pair in enumerate(zip(body.params, value.args, strict=True))
    ]


def _joined(
    function: Function, groups: dict[Any, list[Value]], small: Any, large: Any, params: dict[Value, Value], opset: OpSet
) -> Function:
    """The function in which the results of the small loop are results of the large one."""
    a, b = groups[small][0], groups[large][0]
    ours: Function = a.attr("body")
    theirs: Function = b.attr("body")
    work = Builder(opset)
    known = work.inline(theirs)
    mapping = {p: known[q] for p, q in params.items()}
    for v in ours.instrs:
        mapping[v] = work.again(v, tuple([mapping[x] for x in v.args]))
    count, large_count = a.attr("carries"), b.attr("carries")
    results = [known[r] for r in theirs.results]
    outputs = list(dict.fromkeys([*results[large_count:], *[mapping[r] for r in ours.results[count:]]]))
    body = Function.of([known[p] for p in theirs.params], [*results[:large_count], *outputs], theirs.name)
    carry = [theirs.params.index(params[p]) for p in ours.params[:count]]

    def pick_of(value: Value) -> int:
        k = value.attr("pick")
        if loop_key(value) == large:
            return k if k < 2 * large_count else 2 * large_count + outputs.index(results[k - large_count])
        if k < 2 * count:
            return carry[k % count] + (large_count if k >= count else 0)
        return 2 * large_count + outputs.index(mapping[ours.results[k - count]])

    builder = Builder(opset)
    made: dict[Value, Value] = {p: builder.adopt(p) for p in function.params}
    attrs = {**dict(b.attrs), "body": body}
    for v in topological([*b.args, *function.results]):
        if v in made:
            continue
        if v.op.picks and loop_key(v) in (small, large):
            operands = tuple([made[x] for x in b.args])
            made[v] = builder.make(v.op, operands, tuple(sorted({**attrs, "pick": pick_of(v)}.items())))
        else:
            made[v] = builder.again(v, tuple([made[x] for x in v.args]))
    return Function.of([made[p] for p in function.params], [made[r] for r in function.results], function.name)
