"""Long scalar code of a function, which goes past the array nodes straight to scalar instructions.

A *core* is a set of at least `LONG` scalar operations on scalars, closed in the sense that what is computed between two
of them is one of them. `divide` finds the cores of a Function and puts instructions in an order in which each core is
one step; `write` gives a core's scalar instructions. Both are linear and touch an instruction once or twice: a program
of a hundred thousand instructions is ordinary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen.arrays.powers import power
from codegen.ir.loops import Let
from symdiff.ir.graph import Function, Value

LONG = 400

_WORDS = (
    "add sub mul div neg exp exp2 expm1 log log2 log10 log1p sqrt cbrt sin cos tan arcsin arccos arctan sinh cosh tanh",
    "arcsinh arccosh arctanh arctan2 hypot logaddexp sigmoid softplus erf erfc lgamma digamma lt le gt ge eq ne",
    "and or xor not select maximum minimum abs relu clip sign floor ceil round trunc mod floor_divide",
)
SCALARS = frozenset(" ".join(_WORDS).split())
"""Ops that are one scalar operation of the same name."""
_CORE = SCALARS | {"pow", "cast", "polygamma"}


@dataclass(eq=False, slots=True)
class Core:
    """Scalar instructions in order; constants among their operands belong to it.

    inputs: what they read besides. outputs: which of them others read.
    """

    values: list[Value]
    inputs: list[Value]
    outputs: list[Value] = field(default_factory=list[Value])


def divide(function: Function) -> list[Value | Core]:
    """The instructions in an order in which they can run, those of cores together."""
    instrs = function.instrs
    if len(instrs) < LONG or "c128" in {v.type.dtype for v in instrs}:  # which has no native code
        return list(instrs)
    # The stage of a value is that of the last scalars it needs: a scalar that reads an array made from scalars of
    # stage k is of stage k + 1. Twice the stage is the number of its part, and one more for what is no scalar.
    place: dict[Value, int] = {}
    count: dict[int, int] = {}
    for value in instrs:
        if value.op.name in _CORE and not value.type.shape:
            own = 2
            for arg in value.args:
                at = (place.get(arg, 0) + 1) & ~1
                if at > own:
                    own = at
            count[own] = count.get(own, 0) + 1
        else:
            own = max([place.get(a, 0) for a in value.args], default=0) | 1
        place[value] = own
    long = {own for own, length in count.items() if length >= LONG}
    if not long:
        return list(instrs)
    parts: dict[int, list[Value]] = {}
    for value, own in place.items():
        parts.setdefault(own if own in long else own | 1, []).append(value)
    made = {number: _core(part) for number, part in parts.items() if not number % 2}
    used = {a for number, part in parts.items() if number % 2 for v in part for a in v.args}
    used.update(function.results, *[core.inputs for core in made.values()])
    order: list[Value | Core] = []
    for number in sorted(parts):
        core = made.get(number)
        if core is None:
            order += [v for v in parts[number] if v.op.name != "const" or v in used]
        else:
            core.outputs = [v for v in core.values if v in used]
            order.append(core)
    return order


def _core(values: list[Value]) -> Core:
    own = set(values)
    inputs: dict[Value, None] = {}
    for value in values:
        for arg in value.args:
            if arg not in own and arg.op.name != "const":
                inputs[arg] = None
    return Core(values, list(inputs))


def write(core: Core, inputs: Iterable[int], first: int) -> tuple[list[Let], list[int], int]:
    """The scalar instructions, with names from `first` on, given the names of the inputs.

    Returns them, the names of the outputs, and the first name that is free afterwards.
    """
    names: dict[Value, int] = dict(zip(core.inputs, inputs, strict=True))
    lets: list[Let] = []
    free = first
    for value in core.values:
        op = value.op.name
        args: list[int] = []
        for arg in value.args:
            name = names.get(arg)
            if name is None:  # a constant
                name = names[arg] = free
                lets.append(Let(free, "const", (), arg.type.dtype, arg.attr("value")))
                free += 1
            args.append(name)
        if op == "pow":
            names[value], free = _powers(value, args, lets, free)
            continue
        attr = value.attr("order") if op == "polygamma" else None
        lets.append(Let(free, op, tuple(args), value.type.dtype, attr))
        names[value] = free
        free += 1
    return lets, [names[v] for v in core.outputs], free


def _powers(value: Value, args: Sequence[int], lets: list[Let], free: int) -> tuple[int, int]:
    """A power as its parts: the name of the last, and the first name that is free."""
    dtype = value.type.dtype

    def make(name: str, operands: tuple[int, ...], attribute: Any) -> int:
        lets.append(Let(free + len(lets) - start, name, operands, dtype, attribute))
        return lets[-1].name

    start = len(lets)
    exponent = value.args[1]
    number = exponent.attr("value") if exponent.op.name == "const" else None
    found = power(number, args[0], args[1], lambda: make("const", (), 1), make)
    return found, free + len(lets) - start


def uses(function: Function, order: Iterable[Value | Core]) -> Mapping[Value, int]:
    """How often values are read, by instructions outside of cores, by cores (once each) and as results."""
    found: dict[Value, int] = {}
    for step in order:
        for value in step.args if isinstance(step, Value) else step.inputs:
            found[value] = found.get(value, 0) + 1
    for value in function.results:
        found[value] = found.get(value, 0) + 1
    return found
