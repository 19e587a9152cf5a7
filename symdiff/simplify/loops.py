"""Loops made shorter: a loop keeps what its results need, and leaves outside what need not be done step by step.

Takes a Function and how to clean up a body, gives an equal Function. Dead carries, slices and constants go; carries
that never change and slices that are all alike become constants, filled ones numbers; what a body computes from
constants alone is computed once, before the loop; products of slices with constants become one product of the whole
stack; sums over steps of outer products become one product of the stacks. Numbers round as before, but for the order
of terms in those products.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import PLAIN, Labels, contract, parse_spec, repeats
from symdiff.ir.dims import Size, product
from symdiff.ir.graph import Function, Value, leaves_read, loop_key, topological
from symdiff.ir.loop import groups_of
from symdiff.ir.op import Op, OpSet
from symdiff.ir.path import nominal
from symdiff.ir.types import TensorType

Clean: TypeAlias = "Callable[[Function, OpSet], Function]"


@dataclass(slots=True)
class Loop:
    """A loop taken apart: parameters of its body (in a builder of its own) with their operands outside."""

    op: Op
    name: str
    length: Size
    reverse: bool
    work: Builder
    carries: list[tuple[Value, Value]]
    after: list[Value]
    slices: list[tuple[Value, Value]]
    consts: list[tuple[Value, Value]]
    outputs: list[Value]
    taken: set[str] = field(default_factory=set[str])

    def fresh(self, name: str, kind: TensorType) -> Value:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return self.work.param(name, TensorType(kind.dtype, kind.shape))

    def replace(self, known: Mapping[Value, Value]) -> None:
        """Put other values of the body in place of some."""
        if not known:
            return
        mapping = dict(known)
        for v in topological([*self.after, *self.outputs]):
            if v not in mapping:
                mapping[v] = v if v.is_param else self.work.again(v, tuple([mapping[a] for a in v.args]))
        self.after = [mapping[v] for v in self.after]
        self.outputs = [mapping[v] for v in self.outputs]

    def read(self) -> set[Value]:
        """Parameters that a step reads."""
        return {v for v in topological([*self.after, *self.outputs]) if v.is_param}

    def function(self) -> Function:
        params = [p for p, _ in (*self.carries, *self.slices, *self.consts)]
        return Function.of(params, [*self.after, *self.outputs], self.name)

    def pick(self, builder: Builder, k: int, body: Function | None = None) -> Value:
        """One result, outside."""
        operands = tuple([v for _, v in (*self.carries, *self.slices, *self.consts)])
        attrs: dict[str, Any] = {
            "body": body or self.function(), "carries": len(self.carries), "length": self.length, "pick": k,
            "reverse": self.reverse, "slices": len(self.slices),
        }  # fmt: skip
        return builder.make(self.op, operands, tuple(sorted(attrs.items())))


def taken_apart(opset: OpSet, value: Value, args: Sequence[Value], clean: Clean | None = None) -> Loop:
    """The loop that `value` is a result of, on other operands, its body cleaned up."""
    body: Function = value.attr("body")
    if clean is not None:
        body = clean(body, opset)
    work = Builder(opset)
    mapping = work.inline(body)
    pairs = [(mapping[p], a) for p, a in zip(body.params, args, strict=True)]
    results = [mapping[r] for r in body.results]
    c, s = value.attr("carries"), value.attr("slices")
    return Loop(value.op, body.name, value.attr("length"), value.attr("reverse"), work, pairs[:c], results[:c],
                pairs[c : c + s], pairs[c + s :], results[c:], {p.name for p in body.params})  # fmt: skip


def with_bodies(function: Function, opset: OpSet, clean: Clean) -> Function:
    """The function with every body cleaned up."""
    known: dict[Function, Function] = {}
    builder = Builder(opset)
    mapping: dict[Value, Value] = {p: builder.adopt(p) for p in function.params}
    for value in function.instrs:
        args = tuple([mapping[a] for a in value.args])
        if not value.op.picks:
            mapping[value] = builder.again(value, args)
            continue
        body: Function = value.attr("body")
        if body not in known:
            known[body] = clean(body, opset)
        if known[body] == body:
            mapping[value] = builder.again(value, args)
            continue
        attrs = tuple([(k, known[body] if k == "body" else v) for k, v in value.attrs])
        mapping[value] = builder.make(value.op, args, attrs)
    return Function.of([mapping[p] for p in function.params], [mapping[r] for r in function.results], function.name)


def tidied(function: Function, opset: OpSet, clean: Clean, moving: bool = True) -> Function:
    """The function with its loops made shorter; moving: work leaves the loops, which reads longer."""
    groups = groups_of(function)
    builder = Builder(opset)
    mapping: dict[Value, Value] = {p: builder.adopt(p) for p in function.params}
    for value in function.instrs:
        if value in mapping:
            continue
        args = tuple([mapping[a] for a in value.args])
        if not value.op.picks:
            mapping[value] = builder.again(value, args)
            continue
        group = sorted(groups[loop_key(value)], key=lambda v: v.attr("pick"))
        loop = taken_apart(opset, value, args, clean)
        answers = _Tidying(builder, loop, [v.attr("pick") for v in group]).answers(moving)
        mapping.update(zip(group, answers, strict=True))
    return Function.of([mapping[p] for p in function.params], [mapping[r] for r in function.results], function.name)


def stacked(builder: Builder, value: Value, length: Size) -> Value:
    """A value repeated along a new first axis."""
    if value.op.name == "const":
        return builder.const(value.attr("value"), (length, *value.shape), value.type.dtype)
    own = tuple(range(1, value.type.rank + 1))
    return contract(builder, [value], [own], (0, *own), {0: length, **dict(zip(own, value.shape, strict=True))})


class _Tidying:
    """One loop and the results that are wanted of it."""

    def __init__(self, builder: Builder, loop: Loop, wanted: Sequence[int]) -> None:
        self.builder, self.loop = builder, loop
        count = len(loop.carries)
        # Last carries and trails by parameter, step outputs by value of the body, and values outside.
        self.wanted: list[tuple[str, Value]] = [
            ("last", loop.carries[k][0]) if k < count
            else ("trail", loop.carries[k - count][0]) if k < 2 * count
            else ("output", loop.outputs[k - 2 * count])
            for k in wanted
        ]  # fmt: skip
        # Carries that sum outer products: where they start, the terms that are summed outside.
        self.sums: dict[Value, tuple[Value, list[Value]]] = {}
        self._follow()

    def answers(self, moving: bool) -> list[Value]:
        """The wanted results as values outside."""
        while self._constants() or self._unmoved():
            pass
        if moving:
            self._outside()
            self._products()
        self._dead()
        if moving:
            self._sums()
            self._dead()
        return self._made()

    def _follow(self) -> None:
        """The outputs of the loop are those that are wanted."""
        self.loop.outputs = [v for kind, v in self.wanted if kind == "output"]

    def _replace(self, known: Mapping[Value, Value]) -> None:
        self.loop.replace(known)
        outputs = iter(self.loop.outputs)
        self.wanted = [(kind, next(outputs) if kind == "output" else v) for kind, v in self.wanted]

    # ---------------------------------------------------------------- operands
    def _constants(self) -> bool:
        """Slices that are all alike become constants, filled ones numbers; equal operands one parameter."""
        loop, known = self.loop, dict[Value, Value]()
        slices: dict[Value, Value] = {}
        consts: dict[Value, Value] = {}
        for p, v in loop.slices:
            alike = self._alike(v)
            if alike is not None:
                known[p] = loop.fresh(p.name, alike.type)
                loop.consts.append((known[p], alike))
            elif v in slices:
                known[p] = slices[v]
            else:
                slices[v] = p
        for p, v in loop.consts:
            if v.op.name in PLAIN:
                known[p] = loop.work.again(v, ())
            elif v in consts:
                known[p] = consts[v]
            else:
                consts[v] = p
        loop.slices = [(p, v) for v, p in slices.items()]
        loop.consts = [(p, v) for v, p in consts.items()]
        # A parameter may stand for one that is replaced itself.
        self._replace({p: known.get(q, q) for p, q in known.items()})
        return bool(known)

    def _alike(self, stack: Value) -> Value | None:
        """What every entry along the first axis is, where they are all equal by construction."""
        if stack.op.name == "const":
            return self.builder.const(stack.attr("value"), stack.shape[1:], stack.type.dtype)
        if stack.op.name != "contract":
            return None
        spec = parse_spec(stack.attr("spec"))
        first = spec.output[0]
        if first not in spec.free or first in spec.output[1:]:
            return None
        sizes = dict(zip(spec.free, stack.attr("sizes"), strict=True))
        del sizes[first]
        return contract(self.builder, stack.args, spec.operands, spec.output[1:], sizes, stack.type.dtype)

    def _unmoved(self) -> bool:
        """Carries that no step changes are constants."""
        loop, known, kept = self.loop, dict[Value, Value](), list[int]()
        for k, ((p, start), after) in enumerate(zip(loop.carries, loop.after, strict=True)):
            same = start.op.name == "const" and (after.op, after.attrs) == (start.op, start.attrs)
            if after is not p and not same:
                kept.append(k)
                continue
            if same:
                known[p] = after
            else:
                loop.consts.append((p, start))
            whole = {"last": start, "trail": stacked(self.builder, start, loop.length)}
            self.wanted = [
                ("outside", whole[kind]) if v is p and kind in whole else (kind, v) for kind, v in self.wanted
            ]
        changed = len(kept) < len(loop.carries)
        loop.carries, loop.after = [loop.carries[k] for k in kept], [loop.after[k] for k in kept]
        self._replace(known)
        return changed

    # ---------------------------------------------------------------- work that leaves the loop
    def _outside(self) -> None:
        """What depends on constants alone is computed once."""
        loop = self.loop
        outside = dict(loop.consts)
        order = topological([*loop.after, *loop.outputs])
        own = set(outside)
        for v in order:
            if not v.is_param and all(a in own for a in v.args):
                own.add(v)
        read = {a for v in order if v not in own for a in v.args} | {*loop.after, *loop.outputs}
        made: dict[Value, Value] = dict(outside)
        for v in order:
            if v in own and v not in made:
                made[v] = self.builder.again(v, tuple([made[a] for a in v.args]))
        known: dict[Value, Value] = {}
        for value in [v for v in order if v in own and v in read]:
            while repeats(value):  # the smaller one is read, and repeated in the step
                value = value.args[0]
            if not value.is_param and value.op.name not in PLAIN and value not in known:
                known[value] = loop.fresh("c", value.type)
                loop.consts.append((known[value], made[value]))
        self._replace(known)

    def _products(self) -> None:
        """Products of slices with constants, before the loop: one product reads the constants once."""
        loop = self.loop
        slices, outer = dict(loop.slices), {**dict(loop.slices), **dict(loop.consts)}
        known: dict[Value, Value] = {}
        for value in topological([*loop.after, *loop.outputs]):
            if value.op.name != "contract" or len(value.args) < 2 or not all(a in outer for a in value.args):
                continue
            if any(a in slices for a in value.args) and _summed(value) > _FEW:
                whole = _along(self.builder, value, outer, slices, loop.length, keep=True)
                known[value] = loop.fresh("product", value.type)
                loop.slices.append((known[value], whole))
        self._replace(known)

    def _sums(self) -> None:
        """Sums over the steps of outer products and scatters: what they are made of is stacked, and summed at once."""
        loop = self.loop
        results = [*loop.after, *loop.outputs]
        readers: dict[Value, list[Value | None]] = {}
        for v in topological(results):
            for a in v.args:
                readers.setdefault(a, []).append(v)
        for r in results:
            readers.setdefault(r, []).append(None)
        for k, (p, start) in enumerate(loop.carries):
            if ("trail", p) in self.wanted or not _added_once(p, loop.after[k], readers):
                continue
            rest = [t for t in _terms(loop.after[k]) if t is not p]
            outer = [t for t in rest if _widens(t)]
            if outer:
                total = p
                for t in rest:
                    total = total if t in outer else loop.work.make(loop.work.opset["add"], (total, t))
                loop.after[k] = total
                self.sums[p] = start, outer
        kept = [k for k, (p, _) in enumerate(loop.carries) if p not in self.sums or loop.after[k] is not p]
        loop.carries, loop.after = [loop.carries[k] for k in kept], [loop.after[k] for k in kept]
        factors = [a for _, outer in self.sums.values() for t in outer for a in t.args if not a.is_param]
        loop.outputs = list(dict.fromkeys([*loop.outputs, *factors]))

    # ---------------------------------------------------------------- the end
    def _dead(self) -> None:
        """Carries that no wanted result needs."""
        loop = self.loop
        number_of = {p: k for k, (p, _) in enumerate(loop.carries)}
        needs = leaves_read(loop.after, list(number_of))
        read = {v for kind, v in self.wanted if kind in ("last", "trail")} | set(topological(loop.outputs))
        read.update(a for _, outer in self.sums.values() for t in outer for a in t.args)
        alive = {k for p, k in number_of.items() if p in read}
        pending = list(alive)
        while pending:
            more = needs[pending.pop()] - alive
            alive |= more
            pending += more
        kept = sorted(alive)
        loop.carries, loop.after = [loop.carries[k] for k in kept], [loop.after[k] for k in kept]

    def _made(self) -> list[Value]:
        loop, builder = self.loop, self.builder
        place = {p: k for k, (p, _) in enumerate(loop.carries)}
        given = {**dict(loop.slices), **dict(loop.consts)}
        consts = {p for p, _ in loop.consts}
        loop.outputs = [v for v in dict.fromkeys(loop.outputs) if not v.is_param and v.op.name not in PLAIN]
        output = {v: k for k, v in enumerate(loop.outputs)}
        read = loop.read()
        loop.slices = [(p, v) for p, v in loop.slices if p in read]
        loop.consts = [(p, v) for p, v in loop.consts if p in read]
        count, body = len(loop.carries), loop.function()

        def along(v: Value) -> Value:
            """A value of the body in every step."""
            if v in output:
                return loop.pick(builder, 2 * count + output[v], body)
            if v in place:
                return loop.pick(builder, count + place[v], body)
            if v in given:
                return stacked(builder, given[v], loop.length) if v in consts else given[v]
            return stacked(builder, builder.again(v, ()), loop.length)

        def last(p: Value) -> Value:
            start, outer = self.sums.get(p, (None, ()))
            total = loop.pick(builder, place[p], body) if p in place else start
            assert total is not None
            for t in outer:
                stepping = {a for a in t.args if a not in consts}
                if t.op.name == "scatter_add":  # the step is one more axis of the indices
                    part = builder.make(t.op, tuple([along(a) for a in t.args]), t.attrs)
                else:
                    factors = {a: along(a) if a in stepping else given[a] for a in t.args}
                    part = _along(builder, t, factors, stepping, loop.length, keep=False)
                total = builder.make(builder.opset["add"], (total, part))
            return total

        answers: list[Value] = []
        for kind, v in self.wanted:
            answers.append(v if kind == "outside" else last(v) if kind == "last" else along(v))
        return answers


# -------------------------------------------------------------------- products and sums
_FEW = 4
"""Terms of a product's sum up to which it stays in the loop."""


def _summed(value: Value) -> int:
    """How many terms every element of a contraction sums."""
    spec = parse_spec(value.attr("spec"))
    sizes = {x: s for a, own in zip(value.args, spec.operands, strict=True) for x, s in zip(own, a.shape, strict=True)}
    return nominal(product(sizes[x] for x in spec.summed)) if spec.summed else 1


def _along(
    builder: Builder, value: Value, outer: Mapping[Value, Value], stepping: Container[Value], length: Size, keep: bool
) -> Value:
    """A contraction of a body for all steps at once, with their axis first or summed over it."""
    spec = parse_spec(value.attr("spec"))
    step = 1 + max((x for own in (*spec.operands, spec.output) for x in own), default=-1)
    labels: list[Labels] = [
        (step, *own) if a in stepping else own for a, own in zip(value.args, spec.operands, strict=True)
    ]
    sizes = {step: length, **dict(zip(spec.free, value.attr("sizes", ()), strict=True))}
    output = (step, *spec.output) if keep else spec.output
    return contract(builder, [outer[a] for a in value.args], labels, output, sizes, value.type.dtype)


def _widens(term: Value) -> bool:
    """Whether a term is an outer product or a scatter, larger than what it is made of."""
    if term.op.name == "scatter_add":
        updates, index = term.args[0], term.args[1]
        trailing = -term.attr("axis") - len(term.attr("sizes"))
        return updates.type.rank == index.type.rank + trailing
    if term.op.name != "contract" or len(term.args) < 2:
        return False
    spec = parse_spec(term.attr("spec"))
    if spec.free or len(set(spec.output)) < len(spec.output):
        return False
    return nominal(product(term.shape)) > sum([nominal(product(a.shape)) for a in term.args])


def _added_once(p: Value, total: Value, readers: Mapping[Value, Sequence[Value | None]]) -> bool:
    """Whether all that a body does with `p` is adding to it what becomes `total`, its next value."""
    v = p
    while v is not total:
        own = readers.get(v, ())
        reader = own[0] if len(own) == 1 else None
        if reader is None or reader.op.name != "add":
            return False
        v = reader
    return v is not p and len(readers[v]) == 1


def _terms(total: Value) -> list[Value]:
    """What a sum adds, from left to right."""
    found: list[Value] = []
    pending = [total]
    while pending:
        v = pending.pop()
        if v.op.name == "add":
            pending += v.args[::-1]
        else:
            found.append(v)
    return found
