"""Derivatives of ordinary Python functions along directions: jvp, vjp and hvp at given points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symdiff.api.expression import Expression
from symdiff.api.fresh import Fresh
from symdiff.api.kinks import Kinks, with_kinks
from symdiff.api.transformed import Transformed
from symdiff.api.transforms import described, gradient_function, output_of, refuse_integers
from symdiff.diff import pull_back, push_forward
from symdiff.errors import ArgumentError
from symdiff.frontend.expr import as_expr
from symdiff.frontend.trace import flatten, unflatten
from symdiff.ir.builder import Builder
from symdiff.ir.graph import Value
from symdiff.simplify import stabilized


def _directional(
    function: Callable[..., Any], primals: Sequence[Any], along: Any, where: str, kinks: Kinks,
    make: Callable[[Builder, list[Value], list[Value], list[Value]], tuple[list[Value], Any]],
) -> Any:  # fmt: skip
    if not isinstance(primals, (tuple, list)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"{where}: given {described(primals)} as the arguments, expected a tuple (x0, ...) of them")

    def rule(f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        inputs, given = args
        leaves, tree = flatten(inputs)
        fresh = Fresh(leaves)
        outputs, out_tree = flatten(f(*unflatten(tree, fresh.symbols)))
        ys = [output_of(y, where, "the function returned") for y in outputs]
        seeds = [as_expr(s) for s in flatten(given)[0]]
        wanted = len(leaves) if where == "jvp" else len(ys)
        if len(seeds) != wanted:
            raise ArgumentError(f"{where}: {len(seeds)} directions given, expected {wanted}")
        for place, one in enumerate(unflatten(tree, fresh.symbols)):
            own = flatten(one)[0]
            refuse_integers(own, own, place, where)  # what is given has the name of the tuple that it is in
        builder = Builder(with_kinks(kinks))
        mapping = builder.absorb([*[e.value for e in (*ys, *seeds)], *fresh.values], fresh.born)
        mapping = stabilized(builder, mapping, fresh.values)
        results, like = make(
            builder, [mapping[y.value] for y in ys], [mapping[v] for v in fresh.values],
            [mapping[s.value] for s in seeds],
        )  # fmt: skip
        flat = [Expression(v) for v in fresh.put_back([y.value for y in ys] + results)]
        return unflatten(out_tree, flat[: len(ys)]), unflatten(out_tree if like == "out" else tree, flat[len(ys) :])

    return Transformed(function, rule)(tuple(primals), along)


def jvp_function(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], kinks: Kinks = None
) -> Any:
    """(value, directional derivative) of a function at `primals` along `tangents`."""
    return _directional(
        function, primals, tuple(tangents), "jvp", kinks, lambda b, ys, xs, ts: (push_forward(b, ys, xs, ts), "out")
    )


def vjp_function(
    function: Callable[..., Any], primals: Sequence[Any], cotangents: Any, kinks: Kinks = None
) -> Any:
    """(value, cotangents of the primals) of a function at `primals` from cotangents of its value."""
    return _directional(
        function, primals, cotangents, "vjp", kinks, lambda b, ys, xs, cs: (pull_back(b, ys, xs, cs), "in")
    )


def hvp_function(function: Callable[..., Any], x: Any, v: Any, kinks: Kinks = None) -> Any:
    """The Hessian of a scalar function of one argument, times a direction."""
    return jvp_function(gradient_function(function, 0, "hvp", kinks), (x,), (v,), kinks)[1]
