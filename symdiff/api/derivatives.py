"""Derivatives of expressions: absorb, sweep, hand back expressions that show their closed form.

A variable may be any expression that the function is built from, and several variables (a list, tuple or dict) share
one sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from symdiff.api.expression import Derivative, Expression, free_symbols
from symdiff.api.kinks import Kinks, with_kinks
from symdiff.api.modes import Chosen, cheapest_mode
from symdiff.arguments import sizes_given
from symdiff.diff import MODES as DIFF_MODES
from symdiff.diff import Mode as DiffMode
from symdiff.diff import gradients, jacobians, pull_back, push_forward
from symdiff.errors import ArgumentError, ShapeError
from symdiff.frontend.building import refuse_leaks
from symdiff.frontend.expr import Expr, as_expr, broadcast_to
from symdiff.ir.builder import Builder
from symdiff.ir.collecting import uncollected
from symdiff.ir.dims import format_shape
from symdiff.ir.graph import Function, Value, topological
from symdiff.ops import OPSET
from symdiff.simplify import simplify as simplify_function
from symdiff.simplify import stabilized

Mode: TypeAlias = Literal["auto", "forward", "reverse", "elimination"]
MODES = ("auto", *DIFF_MODES)
Sizes: TypeAlias = Mapping[str, int]


def derive(
    inputs: Sequence[Expr], make: Callable[[Builder, list[Value]], list[Value]], axes: int | None = None,
    kinks: Kinks = None,
) -> list[Derivative]:  # fmt: skip
    """Run `make` on `inputs`, the function first, in one builder and hand its results back as derivatives.

    axes: how many axes of a result are the function's, the leading ones; by default as many as the function has.
    kinks: choices at kinks, which the closed form then keeps.
    """
    with uncollected():
        builder = Builder(with_kinks(kinks))
        mapping = builder.absorb([e.value for e in inputs])
        refuse_leaks(mapping, "derivative")
        mapping = stabilized(builder, mapping, [e.value for e in inputs[1:]])
        results = make(builder, [mapping[e.value] for e in inputs])
    first = inputs[0]
    primal = (first.primal if isinstance(first, Derivative) else None) or first.value
    rank = first.value.type.rank if axes is None else axes
    return [Derivative(r, primal, rank, keep_kinks=bool(kinks)) for r in results]


def _expression(value: Any, role: str) -> Expr:
    if not isinstance(value, Expr):
        raise ArgumentError(f"{role}: given {value!r} of type {type(value).__name__}, expected a symbolic expression")
    return value


def _variables(x: Any) -> tuple[list[Expr], Callable[[list[Any]], Any]]:
    """The variables in a flat list, and how to put results back into the given structure."""
    if isinstance(x, Mapping):
        keys = list(x)
        return [_expression(x[k], f"variable {k}") for k in keys], lambda r: dict(zip(keys, r, strict=True))
    if isinstance(x, (list, tuple)):
        return [_expression(v, "variable") for v in x], (list if isinstance(x, list) else tuple)
    return [_expression(x, "variable")], lambda r: r[0]


def _occurring(where: str, ys: Sequence[Expr], xs: Sequence[Expr]) -> None:
    """Refuse a variable that is made of what the function is made of, but is no part of it: of 2*x nothing is known."""
    made = [x.value for x in xs if x.value.args]
    if not made:
        return
    # What a derivative was taken of may hold the variable where the derivative itself no longer does.
    whole = [y.value for y in ys] + [y.primal for y in ys if isinstance(y, Derivative) and y.primal is not None]
    inside = set(topological(whole))
    for value in made:
        if value not in inside and not inside.isdisjoint(free_symbols([value])):
            raise ArgumentError(
                f"{where}: the variable {Expression(value)} is no part of the function, expected a symbol, or an "
                "expression that the function is made from"
            )


def _mode(mode: str, y: Expr, xs: Sequence[Expr], points: Sequence[Mapping[str, int]] | None) -> Chosen:
    if mode == "auto":
        return cheapest_mode(y.value, [x.value for x in xs], points)
    return Chosen(checked(mode))


def checked(mode: str) -> DiffMode:
    """A mode by name; raises ArgumentError for any other name."""
    for known in DIFF_MODES:
        if known == mode:
            return known
    raise ArgumentError(f"mode {mode!r}: expected one of {', '.join(MODES)}")


def gradient(
    f: Expr, x: Any, mode: Mode = "auto", sizes: Sizes | None = None, *, kinks: Kinks = None
) -> Any:
    """The gradient of a scalar expression, in the shape of its variable.

    f: an expression of shape (). x: a symbol or subexpression, or a list, tuple or dict of them (the result has that
    structure). mode and sizes: see `jacobian`. kinks: derivatives to take at kinks, {"relu": 1, "maximum": "first"};
    `sd.kinks()` lists them. Raises ShapeError when f is no scalar.
    """
    xs, back = _variables(x)
    f = _expression(f, "gradient")
    points = _points(sizes)
    chosen = _mode(mode, f, xs, points).mode
    _occurring("gradient", [f], xs)
    return back(derive([f, *xs], lambda b, v: gradients(b, v[0], v[1:], chosen, points), kinks=kinks))


def jacobian_of(
    y: Expr, x: Any, mode: Mode = "auto", sizes: Sizes | None = None, *, kinks: Kinks = None
) -> Any:
    """The generalized Jacobian of an expression; see `sd.jacobian`."""
    xs, back = _variables(x)
    y = _expression(y, "jacobian")
    points = _points(sizes)
    _occurring("jacobian", [y], xs)
    chosen, derived = _mode(mode, y, xs, points)

    def make(builder: Builder, values: list[Value]) -> list[Value]:
        if derived is None or kinks:
            return jacobians(builder, values[:1], values[1:], chosen, points)[0]
        mapping = builder.inline(derived)
        return [mapping[r] for r in derived.results]

    return back(derive([y, *xs], make, kinks=kinks))


def _points(sizes: Sizes | None) -> list[Mapping[str, int]] | None:
    if sizes is None:
        return None
    return [sizes_given(sizes, "jacobian", 1)]


def hessian_of(
    f: Expr, x: Any, mode: Mode = "auto", sizes: Sizes | None = None, kinks: Kinks = None
) -> Any:
    """Second derivatives: the Jacobian of the Jacobian, shape f.shape + x.shape + x.shape.

    For several variables the result nests twice, [i][j] the derivative in x_i and then in x_j. mode and sizes: see
    `jacobian`.
    """
    xs, back = _variables(x)
    firsts = jacobian_of(f, list(xs), mode, sizes, kinks=kinks)
    if len(xs) == 1:
        return back([jacobian_of(firsts[0], xs[0], mode, sizes, kinks=kinks)])
    rows = [back([jacobian_of(g, other, mode, sizes, kinks=kinks) for other in xs]) for g in firsts]
    return back(rows)


def jvp_of(y: Any, x: Any, tangents: Any, kinks: Kinks = None) -> Any:
    """The Jacobian-vector product: the derivative of y (or of each in a list) along `tangents`, by one push."""
    ys, back = _variables(y)
    xs, _ = _variables(x)
    _occurring("jvp", ys, xs)
    ts = _matching(tangents, xs, "jvp", "tangent")
    return back(derive([*ys, *xs, *ts], lambda b, v: push_forward(b, *_split(v, len(ys), len(xs))), kinks=kinks))


def vjp_of(y: Any, x: Any, cotangents: Any, kinks: Kinks = None) -> Any:
    """The vector-Jacobian product: cotangents of x (or of each in a list) from cotangents of y, by one pull."""
    ys, _ = _variables(y)
    xs, back = _variables(x)
    _occurring("vjp", ys, xs)
    cs = _matching(cotangents, ys, "vjp", "cotangent")
    return back(derive([*ys, *xs, *cs], lambda b, v: pull_back(b, *_split(v, len(ys), len(xs))), 0, kinks))


def hvp_of(f: Expr, x: Any, vectors: Any, kinks: Kinks = None) -> Any:
    """The Hessian-vector product, forward over reverse: the Hessian is never formed."""
    f = _expression(f, "hvp")
    xs, back = _variables(x)
    _occurring("hvp", [f], xs)
    vs = _matching(vectors, xs, "hvp", "vector")

    def make(builder: Builder, values: list[Value]) -> list[Value]:
        ys, primal, along = _split(values, 1, len(xs))
        return push_forward(builder, gradients(builder, ys[0], primal), primal, along)

    return back(derive([f, *xs, *vs], make, 0, kinks))


def _matching(given: Any, like: Sequence[Expr], where: str, role: str) -> list[Expr]:
    items, _ = _variables(given)
    if len(items) != len(like):
        raise ArgumentError(f"{where}: {len(items)} {role}s given, expected {len(like)}")
    return items


def _split(values: list[Value], first: int, second: int) -> tuple[list[Value], list[Value], list[Value]]:
    return values[:first], values[first : first + second], values[first + second :]


@dataclass(frozen=True)
class Equality:
    """Two expressions declared equal, for `simplify(..., assume=[...])`; made by `eq`."""

    left: Expr
    right: Expr


def eq(left: Expr, right: Any) -> Equality:
    """Declare that `left` equals `right` (an expression or a number): `eq(np.sum(y), 1)`.

    Raises ShapeError when the shapes differ. (`left == right` is the elementwise comparison, a boolean array.)
    """
    left = _expression(left, "eq")
    other = as_expr(right, left)
    if other.ndim == 0 and left.ndim:
        other = broadcast_to(other, left.value.shape)
    if other.value.shape != left.value.shape:
        raise ShapeError(f"eq: shapes {format_shape(left.value.shape)} and {format_shape(other.value.shape)}")
    return Equality(left, other)


def simplify(expression: Expr, assume: Sequence[Equality | tuple[Expr | str, str]] = ()) -> Expression:
    """The shortest form found, under the facts of the symbols and what is assumed besides.

    assume: equalities `eq(np.sum(y), 1)`, whose left side is replaced by the right, and facts `(x, "positive")` of
    symbols. The form holds except on kinks and ties, a set of measure zero.
    """
    assumptions: list[tuple[Any, Any]] = []
    for item in assume:
        if isinstance(item, Equality):
            assumptions.append((item.left.value, item.right.value))
        elif isinstance(item, tuple) and len(item) == 2:  # pyright: ignore[reportUnnecessaryIsInstance]
            name = item[0].value.name if isinstance(item[0], Expr) else item[0]
            assumptions.append((name, item[1]))
        else:
            raise ArgumentError(f"simplify: assumption {item!r}, expected eq(a, b) or (symbol, fact)")
    builder = Builder(OPSET)
    value = builder.absorb([_expression(expression, "simplify").value])[expression.value]
    function = simplify_function(Function.of(free_symbols([value]), [value]), OPSET, assumptions)
    return Expression(function.results[0])
