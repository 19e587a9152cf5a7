"""What callers give wrongly is told in our own words: what was given, what was expected and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import symdiff as sd

n, m = sd.dims("n m")
k = sd.symbol("k", (), int)
x, s, W = sd.symbol("x", (n,)), sd.symbol("s"), sd.symbol("W", (m, n))
X = np.array([1.0, 2.0, 3.0])

Case = tuple[str, Callable[[], Any], type[Exception], str]


def total(x: Any) -> Any:
    return np.sum(x * x)


TRANSFORMS: list[Case] = [
    ("nothing", lambda: sd.value_and_grad(lambda x: None)(X), sd.ArgumentError,
     "value_and_grad: the function returned None, expected a scalar$"),
    ("nothing twice", lambda: sd.hessian(lambda x: None)(X), sd.ArgumentError, "hessian: the function returned None"),
    ("nothing to map", lambda: sd.jacfwd(lambda x: None)(X), sd.ArgumentError, "jacfwd: .* None, which holds no array"),
    ("two", lambda: sd.grad(lambda x: (np.sum(x), x))(X), sd.ArgumentError, "a tuple of 2, .* has_aux=True"),
    ("a vector", lambda: sd.grad(lambda x: x)(X), sd.ShapeError, r"grad: the function returned shape \(3,\)"),
    ("text", lambda: sd.grad(lambda x: "a")(X), sd.DtypeError, r"grad: the function returned 'a' \(a str\)"),
    ("argnums text", lambda: sd.grad(total, argnums="a"), sd.ArgumentError, "grad: argnums='a', expected an integer"),
    ("argnums float", lambda: sd.jacrev(total, argnums=0.0), sd.ArgumentError, "jacrev: argnums=0.0"),
    ("argnums texts", lambda: sd.hessian(total, argnums=("a",)), sd.ArgumentError, r"hessian: argnums=\('a',\)"),
    ("argnums bool", lambda: sd.value_and_grad(total, argnums=True), sd.ArgumentError, "argnums=True"),
    ("argnums none", lambda: sd.sparse_jacobian(total, argnums=None), sd.ArgumentError, "argnums=None"),
    ("argnums checked", lambda: sd.check_gradient(total, X, argnums="x"), sd.ArgumentError, "argnums=.x."),
    ("argnums of nothing", lambda: sd.check_gradient(total, X, argnums=()), sd.ArgumentError, "argnums is empty"),
    ("static", lambda: sd.jit(total, static_argnums="x"), sd.ArgumentError, "jit: static_argnums='x'"),
    ("a number", lambda: sd.grad(3), sd.ArgumentError, "grad: given 3, expected a Python function over NumPy$"),
    ("an expression", lambda: sd.grad(total(x)), sd.ArgumentError, r"over NumPy; .*sd.gradient\(f, x\)"),
    ("jit an expression", lambda: sd.jit(x), sd.ArgumentError, "jit: given x .* sd.compile"),
    ("map a number", lambda: sd.vmap(3), sd.ArgumentError, "vmap: given 3"),
    ("map along text", lambda: sd.vmap(total, in_axes="a"), sd.ArgumentError, "in_axes='a', expected an integer"),
    ("map along keys", lambda: sd.vmap(total, ({"a": 0},)), sd.ArgumentError, r"in_axes=\(\{'a': 0\},\), expected"),
    ("map to text", lambda: sd.vmap(total, out_axes="a"), sd.ArgumentError, "vmap: out_axes='a', expected an integer"),
    ("map to objects", lambda: sd.vmap(lambda x: "a")(X), sd.DtypeError, "vmap: the function returned 'a'"),
    ("sparse of nothing", lambda: sd.sparse_jacobian(lambda x: None)(X), sd.ArgumentError, "returned no array, expect"),
    ("sparse in nothing", lambda: sd.sparse_hessian(total, argnums=())(X), sd.ArgumentError, "argnums choose no array"),
    ("hvp of a number", lambda: sd.hvp(3, x, x), sd.ArgumentError, "hvp: given 3 of type int"),
    ("no tuple", lambda: sd.jvp(total, X, X), sd.ArgumentError, r"jvp: given array\(.*expected a tuple \(x0, ...\)"),
    ("no pair", lambda: sd.grad(total, has_aux=True)(X), sd.ArgumentError,
     r"grad: with has_aux=True .* pair \(value, aux\), given one array of shape \(\)$"),
    ("a list", lambda: sd.grad(lambda x: [total(x), x], has_aux=True)(X), sd.ArgumentError, "given a list of 2"),
    ("aux text", lambda: sd.grad(lambda x: (total(x), "a"), has_aux=True)(X), sd.DtypeError,
     r"grad: aux holds 'a' \(a str\)"),
    ("aux alone", lambda: sd.grad(lambda x: (None, x), has_aux=True)(X), sd.ArgumentError, "returned None, expected"),
]  # fmt: skip


@pytest.mark.parametrize("case", TRANSFORMS, ids=[c[0] for c in TRANSFORMS])
def test_transforms(case: Case) -> None:
    _, call, error, message = case
    with pytest.raises(error, match=message):
        call()


def test_argument_numbers_of_numpy_are_integers() -> None:
    assert np.array_equal(sd.grad(total, argnums=np.int64(0))(X), 2 * X)
    found = sd.grad(lambda a, b: np.sum(a * b), argnums=[np.int32(1), -2])(X, 2 * X)
    assert isinstance(found, tuple) and np.array_equal(found[0], X) and np.array_equal(found[1], 2 * X)


NUMBERS: list[Case] = [
    ("a list of values", lambda: sd.evaluate(total(x), [X]), sd.ArgumentError, "expected a mapping from symbols or"),
    ("a number as a key", lambda: total(x).evaluate({3: X}), sd.ArgumentError, "the values have the key 3, expected"),
    ("no symbol", lambda: sd.evaluate(total(x), {2 * x: X}), sd.ArgumentError, "the values have the key 2 x"),
    ("another symbol", lambda: sd.evaluate(total(x), {s: X}), sd.ArgumentError, "no value given for x; given: s"),
    ("text as sizes", lambda: sd.evaluate(total(x), {x: X}, "n=3"), sd.ArgumentError, "evaluate: sizes=.n=3., exp"),
    ("sizes of compare", lambda: sd.compare(total(x), x, sizes="T=3"), sd.ArgumentError, "sizes=.T=3., expect"),
    ("no dimension", lambda: sd.compare(total(x), x, sizes={"n": 3, "T": 3}), sd.ArgumentError,
     "compare: sizes has the key 'T', expected dimensions; there are: n"),
    ("a dimension given twice", lambda: sd.compare(total(x), x, sizes={"n": 3, n: 4}), sd.ArgumentError, "n twice, by"),
    ("no single dimension", lambda: sd.verify(x, x, sizes={2 * n: 4}), sd.ArgumentError, r"the key 2\*n, expected the"),
    ("a symbol given twice", lambda: total(x).evaluate({"x": X, x: X}), sd.ArgumentError, "values give x twice, by"),
    ("sets of sizes", lambda: sd.compare(total(x), x, sizes={"n": {3}}), sd.ArgumentError, r"size n = \{3\}, expected"),
    ("text as seconds", lambda: sd.compare(total(x), x, sizes={n: 3}, measure=True, seconds="1"), sd.ArgumentError,
     "seconds='1', expected a positive number"),
    ("text as modes", lambda: sd.compare(total(x), x, modes=3), sd.ArgumentError, "compare: modes=3, expected some of"),
    ("sizes of a Jacobian", lambda: sd.jacobian(x * x, x, sizes={"n": "3"}), sd.ArgumentError, "sizes: n = .3., "),
    ("sizes of verify", lambda: sd.verify(x, x, sizes=3), sd.ArgumentError, "verify: sizes=3, expected a mapping"),
    ("points of verify", lambda: sd.verify(x, x, points="a"), sd.ArgumentError, "verify: points: given 'a', expected"),
    ("dimensions from a number", lambda: sd.dims(3), sd.ArgumentError, 'dims: given 3, expected names .* "n m"'),
    ("dimensions from a list", lambda: sd.dims(["n"]), sd.ArgumentError, r"dims: given \['n'\], expected names"),
    ("a variable that is no part", lambda: sd.gradient(total(x), 2 * x), sd.ArgumentError,
     "gradient: the variable 2 x is no part of the function, expected a symbol"),
    ("a direction for none", lambda: sd.jvp(x, x + 1, x), sd.ArgumentError, "jvp: the variable x . 1 is no part"),
    ("a negative size", lambda: sd.eye(-1), sd.ArgumentError, r"eye: shape \(-1, -1\) has a negative size"),
    ("a number as a function", lambda: sd.function(3), sd.ArgumentError, "function name 3: expected an identifier"),
    ("no folder", lambda: sd.draw(total(x)).save("/no/such/a.svg"), FileNotFoundError, "no folder '/no/such'"),
    ("an array's own dot", lambda: sd.grad(lambda x: np.eye(3).dot(x) @ x)(X), sd.UnsupportedError,
     r"numbers of an argument of the function\. .* array\.dot\(x\) is array @ x"),
    ("a mask of a variance", lambda: np.var(x, where=x > 0), sd.UnsupportedError,
     "np.var: argument where=x > 0 .* is not supported for symbolic arrays; supported: a, axis"),
    ("an array as a mask", lambda: np.var(x, where=X > 0), sd.UnsupportedError, "np.var: argument where=array"),
    ("bits of floats", lambda: x << 1, sd.DtypeError, "<<: dtype f64, expected integers"),
    ("unknown places", lambda: k << k, sd.ArgumentError, "<<: by k .* places, expected a number from 0 to 62"),
    ("exponents", lambda: scipy.special.boxcox(x, X), sd.ArgumentError, "boxcox: exponent array.*, expected one"),
    ("a dimension from a number", lambda: sd.dim(3), sd.ArgumentError, "dimension name 3: expected an identifier"),
]  # fmt: skip


@pytest.mark.parametrize("case", NUMBERS, ids=[c[0] for c in NUMBERS])
def test_numbers_and_names(case: Case) -> None:
    _, call, error, message = case
    with pytest.raises(error, match=message):
        call()


def test_values_go_by_symbol_or_by_name() -> None:
    f = np.sum(W @ x) * s
    weights = np.arange(6.0).reshape(2, 3)
    want = 2.0 * np.sum(weights @ X)
    for values in ({"W": weights, "x": X, "s": 2.0}, {W: weights, x: X, s: 2.0}, {W: weights, "x": X, s: 2.0}):
        assert sd.evaluate(f, values) == want
        assert f.evaluate(values) == want
    assert f.evaluate({W: weights}, x=X, s=2.0) == want
    assert sd.evaluate(np.sum(sd.ones(n)) * s, {s: 2.0}, {n: np.int64(4)}) == 8
    assert sd.evaluate(np.sum(sd.ones(n)) * s, {s: 2.0}, {n: np.array(4)}) == 8
    for sizes in ([3, 5], np.array([3, 5])):
        assert sd.compare(total(x), x, sizes={n: sizes}).points == ({"n": 3}, {"n": 5})
    assert sd.compare(total(x), x, sizes={n: np.array(3)}).points == ({"n": 3},)


OPTIONS: list[Case] = [
    ("format of a function", lambda: sd.sparse_jacobian(total, format="xyz"), sd.ArgumentError,
     "sparse jacobian: format 'xyz', expected one of csr, csc, bsr"),
    ("format of a Hessian", lambda: sd.sparse_hessian(total, format="xyz"), sd.ArgumentError, "sparse hessian: format"),
    ("format of an expression", lambda: sd.jacobian(x * x, x, sparse=True, format="xyz"), sd.ArgumentError, "'xyz'"),
    ("mode of a function", lambda: sd.jacobian(total, sparse=True, mode="star"), sd.ArgumentError, "mode .star., exp"),
    ("blocks without bsr", lambda: sd.sparse_jacobian(total, blocksize=(2, 2)), sd.ArgumentError, "only 'bsr' has"),
    ("one block size", lambda: sd.sparse_jacobian(total, format="bsr", blocksize=2), sd.ArgumentError, "blocksize=2"),
    ("blocks of nothing", lambda: sd.sparse_hessian(total, format="bsr", blocksize=(0, 2)), sd.ArgumentError,
     r"blocksize=\(0, 2\), expected two positive integers"),
    ("a word of Python", lambda: sd.symbol("lambda"), sd.ArgumentError, "'lambda' is a word of .* lambda_, and"),
    ("a name with a space", lambda: sd.symbol("x y"), sd.ArgumentError, "symbol name 'x y': expected an identifier"),
]  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS, ids=[c[0] for c in OPTIONS])
def test_options_are_checked_at_once(case: Case) -> None:
    _, call, error, message = case
    with pytest.raises(error, match=message):
        call()


def test_a_name_beside_a_word_of_python_goes_through_all_forms() -> None:
    rate = sd.symbol("lambda_", latex=r"\lambda")
    g = sd.gradient(np.sum(np.exp(-rate * x)), rate)
    assert r"\lambda" in g.latex()
    scope: dict[str, Any] = {"np": np, "lambda_": 0.5, "x": X}
    assert np.isclose(eval(g.source("numpy"), scope), -np.sum(X * np.exp(-0.5 * X)))
    again = sd.parse("sum(exp(-lambda_*x))", {"lambda_": rate, "x": x})
    assert sd.verify(sd.gradient(again, rate), g)


def test_what_leaves_a_step_is_told_by_name() -> None:
    kept: list[Any] = []

    def step(carry: Any, row: Any) -> Any:
        kept.append((carry, row))
        return np.tanh(W.T @ W @ carry + row), None

    rows, start = sd.symbol("rows", (m, n)), sd.symbol("start", (n,))
    last, _ = sd.scan(step, start, rows)
    carry, row = kept[-1]
    calls: list[Callable[[], Any]] = [
        lambda: sd.gradient(np.sum(carry * last), start),
        lambda: sd.jvp(carry * last, start, start),
        lambda: sd.compile(np.sum(carry), [start]),
        lambda: sd.evaluate(np.sum(carry), {"start": X}),
        lambda: sd.scan(lambda c, r: (c + carry, None), start, rows),
    ]
    for call in calls:
        with pytest.raises(sd.ArgumentError, match=r"carry of a scan's step is used outside of the step.*or as y"):
            call()
    with pytest.raises(sd.ArgumentError, match="row of a scan's step"):
        sd.hessian(np.sum(row * last), start)


@pytest.mark.parametrize("transform", [sd.jit, sd.grad, sd.jacfwd])
def test_functions_that_keep_a_carry_are_refused(transform: Any) -> None:
    def f(x: Any) -> Any:
        kept: list[Any] = []

        def step(c: Any, v: Any) -> Any:
            kept.append(c)
            return c * v, None

        return sd.scan(step, 1.0, x)[0] + kept[0]

    with pytest.raises(sd.ArgumentError, match="c of a scan's step is used outside"):
        transform(f)(X)


def test_steps_in_steps_use_what_is_around_them() -> None:
    def outer(c: Any, v: Any) -> Any:
        slope = sd.gradient(np.sum(c * v * v), v)  # derivatives within a step
        inner, _ = sd.scan(lambda d, u: (d * u + c, None), c, v)
        return inner + np.sum(slope), inner

    f = lambda x: sd.scan(outer, 1.0, np.stack([x, 2 * x]))[0]  # noqa: E731
    assert sd.check_gradient(f, X / 3)


def test_windows_of_symbolic_sizes_are_not_clipped_and_say_so() -> None:
    for e in (x[:5], np.roll(x, 5)):
        for call in (lambda e=e: sd.evaluate(e, {x: X}), lambda e=e: sd.compile(e, [x])(X)):
            with pytest.raises(sd.EvaluationError, match=r"5 elements from .* \(of symbolic sizes slices"):
                call()
    assert np.array_equal(sd.jit(lambda v: np.roll(v, 5))(X), np.roll(X, 5))


def test_variables_may_be_parts_of_the_function() -> None:
    h = W @ x
    f = np.sum(h * np.tanh(h))
    assert str(sd.gradient(f, h)) == str(sd.gradient(f, W @ x))
    weighted = np.sum(h * x[0])
    assert str(sd.hessian(weighted, h)) == "0"
    assert str(sd.jacobian(sd.gradient(weighted, h), h)) == "0"


def test_bits_of_integers_are_moved() -> None:
    number = np.array([-5, -1, 0, 3, 12])
    i = sd.symbol("i", (5,), int)
    for made, want in ((i << 2, number << 2), (i >> 1, number >> 1), (np.right_shift(i, 3), number >> 3)):
        np.testing.assert_array_equal(sd.evaluate(made, {i: number}), want)
        np.testing.assert_array_equal(sd.compile(made, [i])(number), want)
    assert (n << 2, (4 * n) >> 1) == (4 * n, 2 * n)
