"""Which derivatives are finite wherever values are."""

from __future__ import annotations

from fractions import Fraction

from symdiff.ir.graph import Value
from symdiff.ir.op import Linear, Multilinear, OpSet

_TAME = frozenset({
    "add", "sub", "neg", "mul", "exp", "exp2", "expm1", "sin", "cos", "tanh", "sinh", "cosh", "arctan", "arcsinh",
    "sigmoid", "softplus", "logaddexp", "erf", "erfc", "apply", "functional", "select", "maximum", "minimum", "abs",
    "relu", "clip", "sign", "floor", "ceil", "round", "trunc", "cast", "reduce_max", "reduce_min", "logsumexp",
    "softmax", "reduce_prod", "prod_others",
})  # fmt: skip
"""Ops whose derivative is finite wherever operands and result are. No rule says so of itself, hence a list; an op that
is missing here costs a mask in every step and changes no number."""


def tame(value: Value, opset: OpSet) -> bool:
    """Whether the derivative of an instruction is finite where its operands and its result are."""
    if not value.type.floating or not value.args or value.op.name in _TAME:
        return True
    return isinstance(opset.rule(value.op), (Linear, Multilinear)) or _by_constant(value)


def steep(value: Value, opset: OpSet) -> bool:
    """Whether a mask is worth its price: quotients are many, and one by zero seldom is part of a finite value."""
    return value.op.name != "div" and not tame(value, opset)


def _by_constant(value: Value) -> bool:
    """A power of at least 1, or a quotient by a number."""
    number = constant(value.args[-1])
    if number is None:
        return False
    return number >= 1 if value.op.name == "pow" else value.op.name == "div" and number != 0


def constant(value: Value) -> int | Fraction | None:
    """The exact number that fills a constant."""
    number = value.attr("value") if value.op.name == "const" else None
    return number if isinstance(number, (int, Fraction)) else None
