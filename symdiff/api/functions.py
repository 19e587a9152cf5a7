"""Functions that NumPy has no name for, on expressions and on numbers alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symdiff.frontend.building import concrete
from symdiff.frontend.expr import Expr
from symdiff.frontend.nesting import flatten, unflatten
from symdiff.frontend.numpy_functions import FUNCTIONS
from symdiff.frontend.scanning import scan as scan_expressions
from symdiff.interp import interpret
from symdiff.ir.dims import Dim
from symdiff.ir.graph import Function, topological
from symdiff.ops.helpers import undefined


def _apply(name: str, *operands: Any, **options: Any) -> Any:
    """The named function; numbers when every operand is a number."""
    result = FUNCTIONS[name](*operands, **options)
    if any(isinstance(o, (Expr, Dim)) for o in operands) or not isinstance(result, Expr):
        return result
    number = concrete(result.value)
    return result if number is None else number[()]


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), elementwise, stable at both ends."""
    return _apply("sigmoid", x)


def relu(x: Any) -> Any:
    """max(x, 0), elementwise; its derivative at 0 is 0."""
    return _apply("relu", x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), elementwise, stable at both ends."""
    return _apply("softplus", x)


def softmax(x: Any, axis: Any = -1) -> Any:
    """exp(x) / sum(exp(x)) along an axis (an integer, a tuple, or None for all)."""
    return _apply("softmax", x, axis=axis)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along an axis (an integer, a tuple, or None for all), stable for large entries."""
    return _apply("logsumexp", x, axis=axis, keepdims=keepdims)


def erf(x: Any) -> Any:
    """The error function, elementwise."""
    return _apply("erf", x)


def erfc(x: Any) -> Any:
    """1 - erf(x), elementwise, without cancellation."""
    return _apply("erfc", x)


def lgamma(x: Any) -> Any:
    """log |gamma(x)|, elementwise."""
    return _apply("lgamma", x)


def digamma(x: Any) -> Any:
    """The derivative of lgamma, elementwise."""
    return _apply("digamma", x)


def polygamma(order: int, x: Any) -> Any:
    """The derivative of digamma of the given order, elementwise; argument order as in SciPy."""
    return _apply("polygamma", order, x)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, b elsewhere; the branch not taken never reaches a gradient."""
    return _apply("where", condition, a, b)


def triangular_solve(a: Any, b: Any, lower: bool = True, trans: bool = False) -> Any:
    """x with T x = b, T the lower or upper triangle of a (T^T x = b when trans)."""
    return _apply("triangular_solve", a, b, lower=lower, trans=trans)


def scan(
    f: Callable[[Any, Any], Any], init: Any, xs: Any = None, length: Any = None, reverse: bool = False
) -> tuple[Any, Any]:
    """Run `carry, y = f(carry, x)` along the first axis of `xs`; return the last carry and all y, stacked, as in JAX.

    f: one step. carry, x and y: arrays in any nesting of tuples, lists and dicts, or None; the carry that f returns
    has the nesting, shapes and dtypes of `init`, where Python numbers (0, 1.0) take the dtype that the step gives them:
    integers become floats, while an array of integers that a step makes floats is refused.
    xs: arrays with one first axis in common. length: its size, needed
    where xs has no arrays; an integer or a dimension. reverse: start at the end; y[t] still belongs to x[t]. Symbols,
    expressions and arrays that f closes over stay the same in every step.
    Raises ArgumentError, ShapeError and DtypeError with what was given and what was expected.
    """
    result = scan_expressions(f, init, xs, length, reverse)
    leaves, tree = flatten(result)
    if any(isinstance(x, Expr) for x in flatten((init, xs))[0]):
        return result
    values = [x.value for x in leaves]
    if any(v.is_param for v in topological(values)):  # the step closes over symbols
        return result
    function = Function.of([], values)
    if function.dims or undefined(function.instrs):
        return result
    return unflatten(tree, [x[()] for x in interpret(function, [])])
