"""Loops as recurrences: h_{t+1} = tanh(W h_t + x_t), a line for every carry and every output, under the formula.

Takes a Function with loops, gives one in which every result of a loop is a symbol, how those symbols are written, and
the lines that define them: where carries start, then a step. A carry has the index of the step before which it is
read: h_0 is where it starts and h_n where it ends, the other way round in a reversed loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from symdiff.ir.builder import Builder
from symdiff.ir.dims import Size
from symdiff.ir.graph import Function, Value, loop_key, param, topological
from symdiff.ir.loop import groups_of
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET

_INDICES = "tsuvwrq"


class Style(Protocol):
    """How signs look. `between` stands between equations on one line."""

    between: str

    def symbol(self, name: str, rank: int) -> str: ...

    def indexed(self, base: str, index: str) -> str: ...

    def size(self, size: Size) -> str: ...

    def steps(self, index: str, first: str, last: str) -> str: ...

    def width(self, text: str) -> float: ...

    def short(self, function: Function, symbols: Mapping[str, str]) -> str:
        """How the result of a function is written where that is no longer than a name; empty otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """For which steps lines hold: what the index is called, how many there are, and how that is said behind them."""

    index: str
    length: Size
    said: str


@dataclass(frozen=True, slots=True)
class Clause:
    """Every left = a result of `right`, written with `symbols`: a definition, where carries start, or a step."""

    lefts: tuple[str, ...]
    right: Function
    symbols: Mapping[str, str]
    step: Step | None = None


@dataclass(slots=True)
class Told:
    """A function without loops, the signs of its new symbols, and the lines below it."""

    function: Function
    symbols: dict[str, str]
    clauses: list[Clause] = field(default_factory=list[Clause])
    taken: set[str] = field(default_factory=set[str])
    """Names with a meaning in any of them."""


def has_loops(function: Function) -> bool:
    return any(v.op.picks for v in function.instrs)


def told(function: Function, style: Style) -> Told:
    """The function with its loops as symbols."""
    telling = _Telling(style, {p.name for p in function.params} | set(function.dims))
    made = telling.function(function, {}, 0)
    made.taken = telling.taken | telling.indices
    return made


class _Telling:
    def __init__(self, style: Style, taken: set[str]) -> None:
        self.style = style
        self.taken = taken
        self.indices: set[str] = set()
        self.defined: dict[Value, str] = {}
        # Stacks that are read by loops alone.
        self.sliced: set[Value] = set()

    def name(self, wanted: str) -> str:
        """A name that nothing else has."""
        base, number = wanted.strip("_") or "z", 1
        name = base
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name

    def function(self, function: Function, symbols: Mapping[str, str], depth: int) -> Told:
        if not has_loops(function):
            return Told(function, dict(symbols))
        whole = {a for v in function.instrs for i, a in enumerate(v.args) if not _slice_of(v, i)} | {*function.results}
        self.sliced.update(v for v in function.instrs if v.op.picks and v not in whole)
        groups = groups_of(function)
        made = Told(function, dict(symbols))
        work = Rebuilt(function.params)
        entries: dict[Value, tuple[str, int]] = {}
        for value in function.instrs:
            if value.op.picks:
                if value not in work.mapping:
                    self.loop(groups[loop_key(value)], work, made, entries, depth)
            else:
                work.again(value)
        results = work.of(function.results)
        read = set(topological(results))
        made.function = Function.of([*function.params, *[p for p in work.fresh if p in read]], results, function.name)
        return made

    def sign(self, value: Value, symbols: Mapping[str, str]) -> str:
        return symbols.get(value.name) or self.style.symbol(value.name, value.type.rank)

    def loop(
        self, group: list[Value], work: Rebuilt, made: Told, entries: dict[Value, tuple[str, int]], depth: int
    ) -> None:
        """The signs and lines of one loop."""
        first, style = group[0], self.style
        body, hidden = _without_first_masks(first)
        count, slices = first.attr("carries"), first.attr("slices")
        length, reverse = first.attr("length"), first.attr("reverse")
        used = self.taken | {p.name for p in body.params}
        index = next((x for x in _INDICES[depth:] if x not in used), _INDICES[min(depth, len(_INDICES) - 1)])
        args = [work.mapping[a] for a in first.args]
        inside: dict[str, str] = {}

        def defined(operand: Value, name: str) -> str:
            """The sign of an operand, defined on a line of its own where it is no symbol."""
            if operand.is_param:
                return self.sign(operand, made.symbols)
            if operand not in self.defined:
                self.defined[operand] = sign = style.symbol(self.name(name), operand.type.rank)
                made.clauses.append(Clause((sign,), _only(operand), made.symbols))
            return self.defined[operand]

        # Before and after a step, and at both ends.
        before, after = (f"{index}+1", index) if reverse else (index, f"{index}+1")
        start, end = (style.size(length), "0") if reverse else ("0", style.size(length))
        ends = ("0", style.size(length - 1))[:: -1 if reverse else 1]
        carries = [style.symbol(self.name(p.name), p.type.rank) for p in body.params[:count]]
        for p, sign in zip(body.params, carries, strict=False):
            inside[p.name] = style.indexed(sign, before)
        for p, operand in zip(body.params[count : count + slices], args[count : count + slices], strict=True):
            sign = defined(operand, p.name)
            known, shift = entries.get(operand, (sign, 0))
            inside[p.name] = style.indexed(known, f"{index}+{shift}" if shift else index)
        for p, operand in zip(body.params[count + slices :], args[count + slices :], strict=True):
            inside[p.name] = style.short(_only(operand), made.symbols) or defined(operand, p.name)
        outputs: dict[int, str] = {}
        for value in group:
            k = value.attr("pick")
            carry = body.results.index(body.results[k - count]) if k >= 2 * count else count
            if carry < count and value in self.sliced:  # a carry after the step has a name already
                symbol = work.symbol(value)
                made.symbols[symbol.name] = carries[carry]
                entries[symbol] = carries[carry], int(not reverse)
                continue
            if k < count:
                sign = style.indexed(carries[k], end)
            elif k < 2 * count:
                sign = carries[k - count]
            else:
                sign = outputs[k - 2 * count] = style.symbol(self.name("y"), body.results[k - count].type.rank)
            symbol = work.symbol(value)
            made.symbols[symbol.name] = sign
            entries[symbol] = sign, int(reverse and k < 2 * count)
        below = self.function(body, inside, depth + 1)
        shown = [(k, sign) for k, sign in enumerate(carries) if k not in hidden]
        begun = [
            (style.indexed(sign, start), args[k])
            for k, sign in shown
            if not (args[k].is_param and style.indexed(sign, start) == self.sign(args[k], made.symbols))
        ]  # not h_0 = h_0
        if begun:
            made.clauses.append(Clause(tuple([x for x, _ in begun]), _only(*[v for _, v in begun]), made.symbols))
        rows = [(style.indexed(sign, after), k) for k, sign in shown]
        rows += [(style.indexed(sign, index), count + k) for k, sign in sorted(outputs.items())]
        step = Step(index, length, style.steps(index, *ends))
        self.indices.add(index)
        right = _only(*[below.function.results[k] for _, k in rows])
        made.clauses.append(Clause(tuple([sign for sign, _ in rows]), right, below.symbols, step))
        made.clauses += below.clauses


def _without_first_masks(loop: Value) -> tuple[Function, set[int]]:
    """The body of a loop without masks that hold before its first step alone, and which carries those are.

    A mask keeps what is infinite from meeting a cotangent of zero. Where only the last value of a carry is not read,
    formulas say so by the zero it starts from.
    """
    body: Function = loop.attr("body")
    pairs = zip(body.params[: loop.attr("carries")], loop.args, body.results, strict=False)
    never = {
        k: p for k, (p, start, after) in enumerate(pairs) if _is_filled(start, True) and _is_filled(after, False)
    }
    if not never:
        return body, set()
    builder = Builder(OPSET)
    mapping = {p: builder.adopt(p) for p in body.params}
    for p in never.values():
        mapping[p] = builder.const(False, p.shape, "bool")
    for v in body.instrs:
        mapping[v] = _folded(builder, v, tuple([mapping[a] for a in v.args]))
    results = [mapping[r] for r in body.results]
    instrs = [v for v in topological(results) if not v.is_param]
    return Function(body.name, list(body.params), instrs, results), set(never)


def _folded(builder: Builder, value: Value, args: tuple[Value, ...]) -> Value:
    """The value on other operands, what is known of masks taken into account."""
    name = value.op.name
    if name == "not" and (_is_filled(args[0], True) or _is_filled(args[0], False)):
        return builder.const(not args[0].attr("value"), value.shape, "bool")
    if name in ("and", "or"):
        for one, other in (args, args[::-1]):
            if _is_filled(one, name == "or"):
                return one
            if _is_filled(one, name == "and"):
                return other
    return builder.again(value, args)


def _is_filled(value: Value, truth: bool) -> bool:
    return value.type.dtype == "bool" and value.op.name == "const" and value.attr("value") is truth


def steps_of(function: Function) -> list[Function]:
    """The bodies of all loops, inner ones too, their parameters named as in a step: s_t, and W for what stays."""
    found: list[Function] = []
    pending = [(function, 0)]
    while pending:
        outer, depth = pending.pop()
        for value in {loop_key(v): v for v in outer.instrs if v.op.picks}.values():
            body: Function = value.attr("body")
            end = value.attr("carries") + value.attr("slices")
            mapping: dict[Value, Value] = {}
            taken: set[str] = set()
            for place, (p, a) in enumerate(zip(body.params, value.args, strict=True)):
                own = p.name if place < value.attr("carries") or not a.is_param else a.name
                name = f"{own}_{_INDICES[depth]}" if place < end else own
                while name in taken:
                    name += "_"
                taken.add(name)
                mapping[p] = param(name, p.type)
            work = Rebuilt(tuple(mapping.values()))
            work.mapping.update(mapping)
            for v in body.instrs:
                work.again(v)
            found.append(Function(body.name, list(mapping.values()), list(dict.fromkeys(
                work.mapping[v] for v in body.instrs)), work.of(body.results)))  # fmt: skip
            pending.append((found[-1], min(depth + 1, len(_INDICES) - 1)))
    return found


def _slice_of(value: Value, place: int) -> bool:
    """Whether an operand is read step by step."""
    return value.op.picks and 0 <= place - value.attr("carries") < value.attr("slices")


def _only(*values: Value) -> Function:
    """The function that computes some values."""
    return Function.of([v for v in topological(values) if v.is_param], values)


class Rebuilt:
    """A function rebuilt with symbols in place of some values."""

    def __init__(self, params: tuple[Value, ...]) -> None:
        self.mapping: dict[Value, Value] = {p: p for p in params}
        self.fresh: list[Value] = []
        self._made: dict[object, Value] = {}
        self._taken = {p.name for p in params}

    def of(self, values: tuple[Value, ...]) -> list[Value]:
        return [self.mapping[v] for v in values]

    def again(self, value: Value) -> None:
        args = tuple([self.mapping[a] for a in value.args])
        made = value if args == value.args else Value(value.op, args, value.attrs, value.type)
        self.mapping[value] = self._made.setdefault((value.op, args, value.attrs), made)

    def symbol(self, value: Value, name: str = "") -> Value:
        """A new symbol in place of a value."""
        number = len(self.fresh)
        while not name or name in self._taken:
            name, number = f"loop_{number}", number + 1
        self._taken.add(name)
        made = param(name, TensorType(value.type.dtype, value.shape))
        self.fresh.append(made)
        self.mapping[value] = made
        return made
