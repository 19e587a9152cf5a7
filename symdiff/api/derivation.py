"""The chain rule step by step: every operation between a variable and a function, its local Jacobian and what has been
accumulated so far, as a paper writes it.

Intermediate values get names z1, z2, ..., so that each step stays as short as the operation it differentiates; the last
line is the closed form in the original symbols.
"""

from __future__ import annotations

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
from symdiff.ir.types import TensorType
from symdiff.ops import OPSET
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
    derivative of this value with respect to the variable.
    """

    name: str
    definition: Expression
    rule: str
    locals: tuple[Local, ...]
    accumulated: Expression


@dataclass(frozen=True)
class Derivation:
    """Steps in the order they are taken, and the closed form. `str`, `latex()` and `markdown()` show them."""

    function: Expression
    variable: str
    order: Literal["forward", "reverse"]
    steps: tuple[Step, ...]
    result: Expression

    def _symbol(self, step: Step) -> tuple[str, str]:
        """Numerator and denominator of the accumulated derivative."""
        return ("f", step.name) if self.order == "reverse" else (step.name, self.variable)

    def __str__(self) -> str:
        lines = [f"f = {self.function}", f"wanted: ∂f/∂{self.variable}, by {self.order} mode"]
        for number, step in enumerate(self.steps, 1):
            above, below = self._symbol(step)
            lines.append(f"{number}. {step.name} = {step.definition}    ({step.rule})")
            lines += [f"     local: ∂{step.name}/∂{part.operand} = {part.jacobian}" for part in step.locals]
            lines.append(f"     accumulated: ∂{above}/∂{below} = {step.accumulated}")
        lines.append(f"∂f/∂{self.variable} = {self.result}")
        return "\n".join(lines)

    def latex(self) -> str:
        """An `align*` environment: one line per definition, local Jacobian and accumulated product."""
        rows = [rf"f &= {self.function.latex()}"]
        for step in self.steps:
            above, below = (_latex_name(s) for s in self._symbol(step))
            name = _latex_name(step.name)
            rows.append(rf"{name} &= {step.definition.latex()} && \text{{{step.rule}}}")
            for part in step.locals:
                rows.append(
                    rf"\frac{{\partial {name}}}{{\partial {_latex_name(part.operand)}}} &= {part.jacobian.latex()}"
                )
            rows.append(rf"\frac{{\partial {above}}}{{\partial {below}}} &= {step.accumulated.latex()}")
        rows.append(rf"\frac{{\partial f}}{{\partial {_latex_name(self.variable)}}} &= {self.result.latex()}")
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"

    def markdown(self) -> str:
        """A numbered list with formulas in dollars."""
        lines = [f"Wanted: $\\partial f/\\partial {_latex_name(self.variable)}$ of $f = {self.function.latex()}$, "
                 f"by {self.order} mode.", ""]  # fmt: skip
        for number, step in enumerate(self.steps, 1):
            above, below = (_latex_name(s) for s in self._symbol(step))
            name = _latex_name(step.name)
            lines.append(f"{number}. ${name} = {step.definition.latex()}$ ({step.rule})")
            for part in step.locals:
                quotient = rf"\frac{{\partial {name}}}{{\partial {_latex_name(part.operand)}}}"
                lines.append(f"   - local: ${quotient} = {part.jacobian.latex()}$")
            quotient = rf"\frac{{\partial {above}}}{{\partial {below}}}"
            lines.append(f"   - accumulated: ${quotient} = {step.accumulated.latex()}$")
        variable = _latex_name(self.variable)
        lines += ["", rf"$$\frac{{\partial f}}{{\partial {variable}}} = {self.result.latex()}$$"]
        return "\n".join(lines)

    _repr_markdown_ = markdown


def _latex_name(name: str) -> str:
    head = name.rstrip("0123456789")
    return f"{head}_{{{name[len(head):]}}}" if head and head != name else name


# -------------------------------------------------------------------- rules in words
def rule_name(value: Value) -> str:
    """The rule an operation is differentiated by, in the words of a textbook."""
    name = value.op.name
    if name == "contract":
        spec = parse_spec(value.attr("spec"))
        if len(value.args) > 1:
            return "product rule: linear in each factor"
        return "sum rule: a sum distributes" if spec.summed else "rearrangement: linear"
    if name in ("add", "sub", "neg"):
        return "sum rule: addition distributes"
    if name == "mul":
        return "product rule: each factor scales the other"
    if name == "div":
        return "quotient rule"
    if name == "pow":
        return "power rule"
    if name in ("maximum", "minimum", "reduce_max", "reduce_min", "select", "relu", "clip"):
        return "choice: the derivative is routed to the branch taken"
    if value.op.elementwise:
        return f"chain rule for {value.attr('name', name)}, entry by entry"
    return {
        "inverse": "derivative of an inverse: -Y dX Y",
        "det": "Jacobi's formula",
        "logabsdet": "Jacobi's formula for the logarithm",
        "solve": "implicit differentiation of A x = b",
        "softmax": "softmax: diag(p) - p p^T",
        "logsumexp": "logsumexp: its gradient is the softmax",
        "norm": "norm: its gradient is the unit vector",
        "functional": f"chain rule for {value.attr('name', name)}",
    }.get(name, f"{name}: linear" if type(value.op.rule).__name__ == "Linear" else f"rule of {name}")


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
    steps = [
        Step(
            names[v].name,
            _closed(_restated(builder, v, names)),
            rule_name(v),
            tuple(_locals(builder, v, variable, names)),
            _closed(shown(accumulated[v])),
        )
        for v in (reversed(path) if order == "reverse" else path)
    ]
    result = jacobians(builder, [y], [variable], order)[0][0]
    return Derivation(Expression(f.value), variable.name, order, tuple(steps), _closed(result))


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
    restated = _restated(builder, value, names)
    moving = [a for a in dict.fromkeys(restated.args) if a is variable or a in set(names.values())]
    row = jacobians(builder, [restated], moving, "reverse")[0]
    return [Local(operand.name, _closed(j)) for operand, j in zip(moving, row, strict=True)]


def _closed(value: Value) -> Expression:
    """The shortest form of one value."""
    return Expression(simplify_function(Function.of(free_symbols([value]), [value]), OPSET).results[0])
