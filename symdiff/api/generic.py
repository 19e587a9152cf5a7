"""Names for expressions and for functions alike: jacobian, hessian, jvp, vjp, hvp; and checking a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symdiff.api.derivatives import Sizes, checked, hessian_of, hvp_of, jacobian_of, jvp_of, vjp_of
from symdiff.api.directional import hvp_function, jvp_function, vjp_function
from symdiff.api.kinks import Kinks
from symdiff.api.sparse import Sparse, sparse_hessian, sparse_jacobian
from symdiff.api.structured import structured_hessian, structured_jacobian
from symdiff.api.transformed import Transformed
from symdiff.api.transforms import hessian_function, jacobian_function, jit, value_and_grad
from symdiff.arguments import argument_numbers, positions
from symdiff.checking import GradientReport
from symdiff.checking import check_gradient as check_values
from symdiff.errors import ArgumentError, at_least_one
from symdiff.frontend.expr import Expr
from symdiff.frontend.trace import flatten, unflatten

MANY = 50
"""Derivatives that may take longer to measure than the function takes to compile."""


def _is_function(f: Any) -> bool:
    return callable(f) and not isinstance(f, Expr)


def jacobian(
    y: Any, x: Any = None, mode: Any = "auto", sizes: Sizes | None = None, *, argnums: int | Sequence[int] = 0,
    sparse: bool = False, form: str = "dense", format: str = "csr", blocksize: tuple[int, int] | None = None,
    kinks: Kinks = None, threads: int = 1,
) -> Any:  # fmt: skip
    """The generalized Jacobian, shape y.shape + x.shape, entry [i, j] = dy_i / dx_j with multi-indices.

    y: an expression, or a Python function over NumPy, then differentiated in the arguments `argnums`.
    mode: "forward" pushes tangents, "reverse" pulls cotangents, "elimination" eliminates intermediate values in the
    cheapest order found; "auto" takes the cheapest, of a Python function the sweep with fewer seeds. sizes: numbers for
    named dimensions (`{"n": 1000}`) that the order is chosen for; the program serves all sizes in any case. An
    infinite slope where no variable moves anything (of a root, at the zeros of `np.pad`) counts for nothing.
    kinks: derivatives to take at kinks, as for `gradient`. threads: for a function, see `compile`.
    sparse=True: for `sd.compile`, whose function then returns a scipy.sparse array (`format` "csr", "csc", "bsr" with
    `blocksize`); several functions or variables follow one another. Of a Python function it is callable as it is.
    form="structured": the factors it is made of, see `Structured`; compiled, a function that returns an `Operator`.
    """
    _check_form(sparse, form, format, blocksize, "jacobian")
    if sparse and _is_function(y):
        return sparse_jacobian(
            y, mode=mode, argnums=argnums if x is None else x, format=format, blocksize=blocksize, kinks=kinks,
            threads=threads,
        )  # fmt: skip
    if _is_function(y):
        _no_structure(form, "jacobian")
        chosen = None if mode == "auto" else checked(mode)
        return jacobian_function(y, argnums if x is None else x, chosen, "jacobian", kinks, threads)
    _no_threads(threads, "jacobian")
    if x is None:
        raise ArgumentError("jacobian: no variable is given; call it as jacobian(y, x)")
    if sparse:
        return Sparse(y, x, mode, False, format, blocksize, kinks)
    if form == "structured":
        return structured_jacobian(y, x, mode, kinks)
    return jacobian_of(y, x, mode, sizes, kinks=kinks)


def hessian(
    f: Any, x: Any = None, mode: Any = "auto", argnums: int | Sequence[int] = 0, sizes: Sizes | None = None, *,
    sparse: bool = False, form: str = "dense", format: str = "csr", blocksize: tuple[int, int] | None = None,
    kinks: Kinks = None, threads: int = 1,
) -> Any:  # fmt: skip
    """Second derivatives of a scalar: of an expression in x (shape x.shape + x.shape), or of a Python function.

    mode, sizes, sparse, form, format, blocksize and kinks: see `jacobian`. Of a function the gradient is taken by
    reverse mode and differentiated again by `mode`, forward by default. threads: of a function; see `compile`.
    """
    _check_form(sparse, form, format, blocksize, "hessian")
    if sparse and _is_function(f):
        chosen = argnums if x is None else x
        return sparse_hessian(
            f, argnums=chosen, mode=mode, format=format, blocksize=blocksize, kinks=kinks, threads=threads
        )
    if _is_function(f):
        _no_structure(form, "hessian")
        second = "forward" if mode == "auto" else checked(mode)
        return hessian_function(f, argnums if x is None else x, second, kinks, threads)
    _no_threads(threads, "hessian")
    if x is None:
        raise ArgumentError("hessian: no variable is given; call it as hessian(f, x)")
    if sparse:
        return Sparse(f, x, mode, True, format, blocksize, kinks)
    return structured_hessian(f, x, mode, kinks) if form == "structured" else hessian_of(f, x, mode, sizes, kinks)


def _check_form(sparse: bool, form: str, format: str, blocksize: Any, where: str) -> None:
    if form not in ("dense", "structured"):
        raise ArgumentError(f"{where}: form {form!r}, expected 'dense' or 'structured'")
    if sparse and form == "structured":
        raise ArgumentError(f"{where}: sparse=True and form='structured', expected one of them")
    if not sparse and (format != "csr" or blocksize is not None):
        raise ArgumentError(f"{where}: format and blocksize are for sparse=True")


def _no_threads(threads: int, where: str) -> None:
    if at_least_one(threads, f"{where}: threads") > 1:
        raise ArgumentError(
            f"{where}: threads={threads} is for Python functions; of an expression give it to sd.compile"
        )


def _no_structure(form: str, where: str) -> None:
    if form == "structured":
        raise ArgumentError(f"{where}: form='structured' takes an expression and a symbol, given a function")


def jvp(y: Any, x: Any, tangents: Any, *, kinks: Kinks = None) -> Any:
    """Jacobian-vector product. On expressions the derivative of y along `tangents`; on a function
    `jvp(f, (x0, ...), (t0, ...))` gives (value, derivative)."""
    return jvp_function(y, x, tangents, kinks) if _is_function(y) else jvp_of(y, x, tangents, kinks)


def vjp(y: Any, x: Any, cotangents: Any, *, kinks: Kinks = None) -> Any:
    """Vector-Jacobian product. On expressions the cotangent of x; on a function `vjp(f, (x0, ...), c)` gives
    (value, cotangents of the arguments)."""
    return vjp_function(y, x, cotangents, kinks) if _is_function(y) else vjp_of(y, x, cotangents, kinks)


def hvp(f: Any, x: Any, v: Any, *, kinks: Kinks = None) -> Any:
    """Hessian-vector product, forward over reverse, of an expression or of a function of one argument."""
    return hvp_function(f, x, v, kinks) if _is_function(f) else hvp_of(f, x, v, kinks)


def check_gradient(
    function: Callable[..., Any], *points: Any, gradient: Any = None, argnums: int | Sequence[int] | None = None,
    rtol: float | None = None, directions: int | None = None, seed: int = 0,
) -> GradientReport:  # fmt: skip
    """Check the gradient of a scalar function at a point, against central differences and the complex step.

    function: over NumPy. points: its arguments, nested tuples, lists and dicts of arrays allowed. gradient: the one to
    check, a callable of the arguments or its values; symdiff's own when absent. argnums: which arguments, all of
    floating type by default. directions: so many random directions per array instead of every entry, which takes four
    evaluations at least. The report is true when all entries agree; its text says which differs.

    Many evaluations are those of the function's program, where symdiff traces the function for the gradient and its
    program has the function's own values; the gradient has no part in it.
    """
    if not points:
        raise ArgumentError("check_gradient: no point is given; call it as check_gradient(f, x0)")
    if not _is_function(function):
        raise ArgumentError(f"check_gradient: given {function!r}, expected a function over NumPy")
    if argnums is None:
        chosen = tuple([i for i, p in enumerate(points) if _floating(p)])
    else:
        chosen = positions(argument_numbers(argnums, "check_gradient"), len(points), "check_gradient")
    if not chosen:
        what = "no argument of floating type is given" if argnums is None else "argnums is empty"
        raise ArgumentError(f"check_gradient: {what}")
    leaves, tree = flatten(tuple(points[i] for i in chosen))
    names = [name for i in chosen for name in _leaf_names(points[i], f"argument {i}")]

    def flat(f: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arrays: Any) -> Any:
            arguments = list(points)
            for i, part in zip(chosen, unflatten(tree, list(arrays)), strict=True):
                arguments[i] = part
            return f(*arguments)

        return called

    if gradient is None:
        values = value_and_grad(function, chosen)(*points)[1]
    else:
        values = gradient(*points) if callable(gradient) else gradient
        values = values if isinstance(values, tuple) and len(chosen) > 1 else (values,)
    measured = flat(function)
    directions = None if directions is None else at_least_one(directions, "check_gradient: directions")
    derivatives = sum([np.size(leaf) if directions is None else directions for leaf in leaves])
    if derivatives >= MANY and (gradient is None or isinstance(gradient, Transformed)):
        measured = _program_of(measured, flat(jit(function)), leaves)
    return check_values(
        measured, *leaves, gradient=tuple(flatten(values)[0]), rtol=rtol, directions=directions, seed=seed, names=names
    )


def _program_of(function: Callable[..., Any], program: Callable[..., Any], points: Sequence[Any]) -> Callable[..., Any]:
    """The program for real numbers, where it can be made and has the function's values at the points and beside them;
    else the function itself."""
    at = [np.asarray(p, None if np.asarray(p).dtype.kind == "f" else float) for p in points]
    rng, eps = np.random.default_rng(0), float(np.finfo(np.result_type(*at)).eps)
    steps = [eps ** (1 / 3) * (np.abs(x) + (x == 0)) * rng.normal(size=x.shape) for x in at]
    try:
        for p in (at, [np.asarray(x + s, x.dtype) for x, s in zip(at, steps, strict=True)]):
            with np.errstate(all="ignore"):
                found, expected = np.asarray(program(*p)), np.asarray(function(*[x.copy() for x in p]))
            if found.shape != expected.shape or not np.allclose(found, expected, math.sqrt(eps), 0, equal_nan=True):
                return function
    except Exception:  # whatever a function that is not written for tracing may raise
        return function

    def called(*arrays: Any) -> Any:
        return (function if any(map(np.iscomplexobj, arrays)) else program)(*arrays)

    return called


def _floating(point: Any) -> bool:
    return all(getattr(leaf, "dtype", float) not in ("int64", "int32", "bool") for leaf in flatten(point)[0])


def _leaf_names(point: Any, prefix: str) -> list[str]:
    """A readable name for every array in a nested argument, in the order of `flatten`."""
    if isinstance(point, dict):
        return [n for k, v in point.items() for n in _leaf_names(v, f"{prefix}[{k!r}]")]
    if isinstance(point, (list, tuple)):
        return [n for i, v in enumerate(point) for n in _leaf_names(v, f"{prefix}[{i}]")]
    return [prefix]
