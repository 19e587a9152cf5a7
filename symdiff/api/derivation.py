"""The chain rule step by step: every operation between a variable and a function, its local Jacobian and what has been
accumulated so far, as a paper writes it.

Intermediate values get names z1, z2, ..., so that each step stays as short as the operation it differentiates; every
accumulated derivative is a product of the ones before it, and the last line is the closed form in the original symbols.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from symdiff.api.expression import Expression, free_symbols
from symdiff.diff import jacobians
from symdiff.diff.forward import forward
from symdiff.diff.reverse import reverse
from symdiff.errors import ArgumentError
from symdiff.frontend.expr import Expr
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import contract, identity, parse_spec
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.op import Linear
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
from symdiff.render.latex_names import symbol_latex
from symdiff.render.text import symbol_text
from symdiff.simplify import simplify as simplify_function


@dataclass(frozen=True)
class Local:
    """One local Jacobian: of the step's value with respect to one of its operands."""

    operand: str
    jacobian: Expression


@dataclass(frozen=True)
class Step:
    """One operation: its name, what it computes, the rule, its local Jacobians, and the accumulated derivative.

    In reverse order `accumulated` is the derivative of the function with respect to this value; in forward order the
    derivative of this value with respect to the variable. `through` are the values by which the chain rule gets there:
    the ones that use this value, or the operands that depend on the variable.
    """

    name: str
    definition: Expression
    rule: str
    locals: tuple[Local, ...]
    accumulated: Expression
    through: tuple[str, ...]


class Formula(Expression):
    """An expression whose sums are shown in the order of a program."""

    __slots__ = ("like",)

    def __init__(self, value: Value, like: Value | None = None) -> None:
        super().__init__(value)
        self.like = like

    def written(self) -> Function | None:
        return None if self.like is None else Function.of(free_symbols([self.like]), [self.like])


@dataclass(frozen=True)
class Derivation:
    """Steps in the order they are taken, and the closed form. `str`, `latex()` and `markdown()` show them.

    letter: what the function is called. through: the values by which the last step gets to the variable.
    """

    function: Expression
    variable: str
    order: Literal["forward", "reverse"]
    steps: tuple[Step, ...]
    result: Expression
    letter: str = "f"
    through: tuple[str, ...] = ()
    symbol: Expression | None = None

    def _value(self, name: str, latex: bool) -> str:
        """A value by its name, as it is set."""
        if name == self.variable and self.symbol is not None:
            return self.symbol.latex() if latex else str(self.symbol)
        return symbol_latex(name) if latex else symbol_text(name)

    def _slope(self, above: str, below: str, latex: bool = False) -> str:
        above, below = self._value(above, latex), self._value(below, latex)
        return rf"\frac{{\partial {above}}}{{\partial {below}}}" if latex else f"∂{above}/∂{below}"

    def _chain(self, name: str, through: Sequence[str], latex: bool = False) -> str:
        """The chain rule for one accumulated derivative, with an equals sign behind every form of it."""
        if self.order == "reverse":
            slope = self._slope(self.letter, name, latex)
            pairs = [[(self.letter, c), (c, name)] for c in through]
        else:
            slope = self._slope(name, self.variable, latex)
            pairs = [[(name, c), (c, self.variable)] for c in through]
        # The function is the last value, and a variable's slope in itself is one.
        kept = [[p for p in pair if p[0] != p[1] and p != (self.letter, self._last())] for pair in pairs]
        dot = r" \, " if latex else " · "
        products = [dot.join([self._slope(*p, latex) for p in pair]) for pair in kept if pair]
        shown = " + ".join(products)
        return f"{slope} = {shown} =" if shown and shown != slope else f"{slope} ="

    def _last(self) -> str:
        """The name of the value that is the function."""
        return self.steps[0 if self.order == "reverse" else -1].name if self.steps else ""

    def _definitions(self) -> list[Step]:
        return list(self.steps if self.order == "forward" else self.steps[::-1])

    def _opening(self) -> str:
        if self.order == "reverse":
            return "Reverse mode: from the result back to the variable."
        return "Forward mode: from the variable on to the result."

    def __str__(self) -> str:
        lines = [_under(f"{self.letter} = ", self.function), f"Wanted: {self._slope(self.letter, self.variable)}.", ""]
        if self.steps:
            lines.append(f"Write {self.letter} = {self._value(self._last(), False)} with")
            lines += [_under(f"     {step.name} = ", step.definition) for step in self._definitions()]
            lines += ["", self._opening()]
        for number, step in enumerate(self.steps, 1):
            lines.append(_under(f"{number}. {step.name} = ", f"{step.definition}    ({step.rule})"))
            for part in step.locals:
                lines.append(_under(f"     local: {self._slope(step.name, part.operand)} = ", part.jacobian))
            chain = self._chain(step.name, step.through)
            lines.append(_under(f"     accumulated: {chain} ", step.accumulated))
        lines.append(_under(f"{self._conclusion()} ", self.result))
        return "\n".join(lines)

    def _conclusion(self, latex: bool = False) -> str:
        if self.order == "reverse":
            return self._chain(self.variable, self.through, latex)
        return f"{self._slope(self.letter, self.variable, latex)} ="

    def latex(self) -> str:
        """An `align*` environment: the definitions, then every local Jacobian and accumulated product."""
        rows = [rf"{self.letter} &= {self.function.latex()}"]
        for step in self._definitions():
            rows.append(rf"{self._value(step.name, True)} &= {step.definition.latex()} && \text{{{step.rule}}}")
        for step in self.steps:
            for part in step.locals:
                rows.append(rf"{self._slope(step.name, part.operand, True)} &= {part.jacobian.latex()}")
            rows.append(f"{_aligned(self._chain(step.name, step.through, True))} {step.accumulated.latex()}")
        rows.append(f"{_aligned(self._conclusion(True))} {self.result.latex()}")
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"

    def markdown(self) -> str:
        """Definitions, a numbered list of steps, and the result, with formulas in dollars."""
        slope = self._slope(self.letter, self.variable, True)
        lines = [f"Wanted: ${slope}$ of ${self.letter} = {self.function.latex()}$.", ""]
        if self.steps:
            lines += [f"Write ${self.letter} = {self._value(self._last(), True)}$ with", ""]
            lines += [f"- ${self._value(s.name, True)} = {s.definition.latex()}$" for s in self._definitions()]
            lines += ["", self._opening(), ""]
        for number, step in enumerate(self.steps, 1):
            lines.append(f"{number}. ${self._value(step.name, True)} = {step.definition.latex()}$ ({step.rule})")
            for part in step.locals:
                lines.append(f"   - local: ${self._slope(step.name, part.operand, True)} = {part.jacobian.latex()}$")
            chain = self._chain(step.name, step.through, True)
            lines.append(f"   - accumulated: ${chain} {step.accumulated.latex()}$")
        lines += ["", rf"$${self._conclusion(True)} {self.result.latex()}$$"]
        return "\n".join(lines)

    _repr_markdown_ = markdown


def _under(left: str, right: object) -> str:
    """An equation; further lines of its right side stand under the first."""
    return left + str(right).replace("\n", "\n" + " " * len(left))


def _aligned(equation: str) -> str:
    """An equation aligned at its first equals sign."""
    return equation.replace("=", "&=", 1)


# Functions with a derivative in terms of their value.
_BY_VALUE = frozenset({"exp", "tanh", "sigmoid", "softmax", "sqrt", "inverse"})


# -------------------------------------------------------------------- rules in words
def rule_name(value: Value, moving: int | None = None) -> str:
    """The rule an operation is differentiated by, in the words of a textbook.

    moving: how many of its operands depend on the variable; None when that is not known.
    """
    name = value.op.name
    alone = moving == 1
    if name == "contract":
        spec = parse_spec(value.attr("spec"))
        if len(value.args) > 1:
            return "linear: the other factor is constant" if alone else "product rule: linear in each factor"
        if spec.summed:
            return "sum: every term has slope 1"
        copied = len(spec.output) > len(spec.operands[0])
        return "broadcast: every copy has slope 1" if copied else "rearrangement: linear"
    if name in ("add", "sub"):
        return "sum rule: what is constant drops out" if alone else "sum rule: addition distributes"
    if name == "neg":
        return "constant factor -1"
    if name == "mul":
        return "constant factor" if alone else "product rule: each factor scales the other"
    if name == "div" and alone:
        return "constant divisor" if value.args[1].op.name in ("const", "size") else "quotient rule"
    simple = {
        "div": "quotient rule", "pow": "power rule", "select": "choice: the derivative goes to the branch taken",
        "relu": "choice: slope 1 where z > 0, else 0", "abs": "slope: the sign",
        "clip": "choice: slope 1 inside the limits, else 0",
        "maximum": "choice: the derivative goes to the larger", "minimum": "choice: the derivative goes to the smaller",
        "reduce_max": "choice: the derivative goes to the largest entry",
        "reduce_min": "choice: the derivative goes to the smallest entry",
        "inverse": "derivative of an inverse: -Y dX Y", "det": "Jacobi's formula",
        "logabsdet": "Jacobi's formula for the logarithm", "solve": "implicit differentiation of A x = b",
        "softmax": "softmax: diag(p) less p times its transpose", "logsumexp": "logsumexp: its gradient is the softmax",
        "norm": "norm: its gradient is the unit vector",
        "scan": "recurrence: every step is differentiated, where it was computed",
    }  # fmt: skip
    if name in simple:
        return simple[name]
    if value.op.elementwise:
        return f"chain rule for {value.attr('name', name)}, entry by entry" if value.type.rank else (
            f"chain rule for {value.attr('name', name)}"
        )
    if name == "functional":
        return f"chain rule for {value.attr('name', name)}"
    return f"{name}: linear" if isinstance(value.op.rule, Linear) else f"rule of {name}"


# -------------------------------------------------------------------- making one
def derivation(f: Expr, x: Expr, order: Literal["forward", "reverse"] = "reverse") -> Derivation:
    """The derivation of df/dx.

    f: any expression. x: a symbol in it. order: "reverse" starts at the function, "forward" at the variable.
    Raises ArgumentError for an order that is neither or a variable that is no symbol.
    """
    if order not in ("forward", "reverse"):
        raise ArgumentError(f"derivation: order {order!r}, expected 'forward' or 'reverse'")
    for e in (f, x):
        if not isinstance(e, Expr):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"derivation: given {e!r} of type {type(e).__name__}, expected a symbolic expression")
    if not x.value.is_param:
        raise ArgumentError(f"derivation: given {x} as the variable, expected a symbol")
    builder = Builder(OPSET)
    mapping = builder.absorb([f.value, x.value])
    y, variable = mapping[f.value], mapping[x.value]
    path = _path(y, variable)
    names = _names(path, free_symbols([y]))
    accumulated = _accumulate(builder, y, variable, path, order)
    shown = _renamer(builder, names)
    users: dict[Value, list[str]] = {}
    for v in path:
        for a in dict.fromkeys(v.args):
            users.setdefault(a, []).append(names[v].name)
    steps: list[Step] = []
    for v in reversed(path) if order == "reverse" else path:
        restated = _restated(builder, v, names)
        moving = [a for a in dict.fromkeys(v.args) if a is variable or a in names]
        through = users.get(v, []) if order == "reverse" else [names[a].name if a in names else a.name for a in moving]
        steps.append(Step(
            names[v].name, Expression(restated), rule_name(v, len([a for a in v.args if a in moving])),
            tuple(_locals(builder, v, variable, names)), _closed(shown(accumulated[v]), y), tuple(through),
        ))  # fmt: skip
    result = jacobians(builder, [y], [variable], order)[0][0]
    taken = {s.name for s in free_symbols([y])} | {v.attr("name", "") for v in topological([y]) if not v.is_param}
    taken = {re.split(r"[_\d]", name)[0] for name in taken}
    letter = next((c for c in ("f", "y", "g", "F", "J") if c not in taken), "result")
    return Derivation(
        Expression(f.value), variable.name, order, tuple(steps), _closed(result, y), letter,
        tuple(users.get(variable, [])), Expression(x.value),
    )  # fmt: skip


def _path(y: Value, variable: Value) -> list[Value]:
    """The operations between the variable and the function, operands first."""
    active: set[Value] = {variable}
    path: list[Value] = []
    for value in topological([y]):
        if value.type.floating and any(a in active for a in value.args):
            active.add(value)
            path.append(value)
    return path


def _names(path: Sequence[Value], symbols: Sequence[Value]) -> dict[Value, Value]:
    """A symbol z1, z2, ... for every intermediate value, clear of the names in use."""
    taken = {s.name for s in symbols}
    letter = next(c for c in ("z", "v", "t", "s", "node") if not any(n.startswith(c) for n in taken))
    builder = Builder(OPSET)
    return {
        v: builder.param(f"{letter}{i}", TensorType(v.type.dtype, v.shape)) for i, v in enumerate(path, 1)
    }


def _accumulate(
    builder: Builder, y: Value, variable: Value, path: Sequence[Value], order: str
) -> Mapping[Value, Value]:
    if order == "reverse":
        seed = Handle(builder, identity(builder, y.shape, y.type.dtype))
        cotangents = reverse(builder, [(y, seed)], path)
        return {
            v: c.value if c is not None else builder.const(0, y.shape + v.shape, y.type.dtype)
            for v, c in zip(path, cotangents, strict=True)
        }
    seed = Handle(builder, identity(builder, variable.shape, variable.type.dtype))
    tangents = forward(builder, path, {variable: seed}, variable.type.rank)
    found: dict[Value, Value] = {}
    for v, t in zip(path, tangents, strict=True):
        if t is None:
            found[v] = builder.const(0, v.shape + variable.shape, v.type.dtype)
            continue
        labels = tuple(range(t.rank))
        k = variable.type.rank
        found[v] = contract(builder, [t.value], [labels], labels[k:] + labels[:k])
    return found


def _renamer(builder: Builder, names: Mapping[Value, Value]) -> Callable[[Value], Value]:
    """Put the names of intermediate values in their places."""

    def shown(value: Value) -> Value:
        done: dict[Value, Value] = dict(names)
        for v in topological([value]):
            if v not in done:
                done[v] = v if v.is_param else builder.remake(v, tuple([done[a] for a in v.args]))
        return done[value]

    return shown


def _restated(builder: Builder, value: Value, names: Mapping[Value, Value]) -> Value:
    """The operation alone, on the names of its operands."""
    return builder.remake(value, tuple([names.get(a, a) for a in value.args]))


def _locals(builder: Builder, value: Value, variable: Value, names: Mapping[Value, Value]) -> list[Local]:
    """Local Jacobians; functions whose derivative is best said by their own value say it so: 1 - tanh(z)^2."""
    restated = _restated(builder, value, names)
    moving = [a for a in dict.fromkeys(restated.args) if a is variable or a in set(names.values())]
    row = jacobians(builder, [restated], moving, "reverse")[0]
    if value.op.name in _BY_VALUE:
        named = _renamer(builder, {restated: names[value]})
        row = [named(j) for j in row]
    return [Local(operand.name, _closed(j, restated)) for operand, j in zip(moving, row, strict=True)]


def _closed(value: Value, like: Value) -> Expression:
    """The shortest form of one value, its sums as in `like`."""
    return Formula(simplify_function(Function.of(free_symbols([value]), [value]), OPSET).results[0], like)
