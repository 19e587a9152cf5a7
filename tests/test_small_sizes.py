"""Functions called with small arrays: code of their own for small sizes, beside the code for all sizes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from codegen_programs import close
from mixed_programs import Mixed
from scan_programs import arguments, random_scan

import symdiff as sd
from symdiff.api import transformed
from symdiff.api.small import SMALL, Meeting
from symdiff.api.transformed import OWN
from symdiff.errors import ShapeError, SymdiffError
from symdiff.interp import interpret
from symdiff.ir.graph import bodies
from symdiff.ir.sized import at_sizes
from symdiff.ir.text import parse_function, print_function
from symdiff.ir.verify import verify
from symdiff.ops import OPSET

# -------------------------------------------------------------------- programs over small matrices


def chain(a, b, x):
    return np.sum(np.tanh(a @ b @ a.T @ x) ** 2)


def volume(a, b, x):
    one = np.eye(len(a))
    return np.log(np.abs(np.linalg.det(a @ b + 3 * one))) + x @ np.linalg.inv(a + 4 * one) @ x


def step_of_a_filter(a, b, x):
    cov = a @ (b @ b.T) @ a.T + np.eye(len(a))
    gain = np.linalg.solve(cov + 2 * np.eye(len(a)), cov).T
    return np.sum((a @ x + gain @ (x - a @ x)) ** 2) + np.trace(cov - gain @ cov)


def softmax(a, b, x):
    z = (a * x) @ b
    shifted = np.exp(z - np.max(z, axis=1, keepdims=True))
    return np.sum(np.log(np.sum(shifted, axis=1)) * x)


PROGRAMS = (chain, volume, step_of_a_filter, softmax)


def point(size: int, seed: int = 0):
    rng = np.random.default_rng([size, seed])
    return rng.normal(size=(size, size)), rng.normal(size=(size, size)), rng.normal(size=size)


def shapes(native):
    return [tuple(p.axes for p in f.signature.params) for f in native]


def numbers(native):
    """The small sizes that functions take as numbers."""
    return {axis for own in shapes(native) for axes in own for axis in axes if isinstance(axis, int)}


@pytest.mark.parametrize("function", PROGRAMS)
def test_sizes_that_change_between_calls(function):
    slope = sd.value_and_grad(function, argnums=(0, 1, 2))
    for size in (3, 2, 3, 9, 4, 5, 3, 6, 2, 20, 7, 4):
        args = point(size)
        value, found = slope(*args)
        np.testing.assert_allclose(value, function(*args), rtol=1e-10)
        rng = np.random.default_rng(size)
        for place, gradient in enumerate(found):
            way = rng.normal(size=gradient.shape)
            ends = [function(*[a + h * way if i == place else a for i, a in enumerate(args)]) for h in (1e-5, -1e-5)]
            np.testing.assert_allclose(np.sum(gradient * way), (ends[0] - ends[1]) / 2e-5, rtol=2e-4, atol=1e-6)


def test_a_small_number_of_choices_has_code_of_its_own():
    called = []

    def f(a, b):
        called.append(1)
        return np.sum(a @ b)

    fn = sd.jit(f)
    rng = np.random.default_rng(1)
    for size in (2, 3, 4, 5, 6, 7, 8, 3, 30):
        a, b = rng.normal(size=(size, size)), rng.normal(size=(size, size))
        np.testing.assert_allclose(fn(a, b), np.sum(a @ b), rtol=1e-12)
    assert len(called) == fn.compilations == 1
    assert shapes(fn.native) == [((s, s), (s, s)) for s in (2, 3, 4)[:OWN]] + [(("n0", "n0"), ("n0", "n0"))]


def test_nothing_is_made_for_all_sizes_before_they_come():
    fn = sd.jit(lambda a, b: a @ b)
    for _ in range(3):
        fn(np.ones((3, 3)), np.ones((3, 3)))
    assert shapes(fn.native) == [((3, 3), (3, 3))]
    fn(np.ones((SMALL + 1,) * 2), np.ones((SMALL + 1,) * 2))
    assert len(fn.native) == 2


def test_large_axes_keep_their_names():
    fn = sd.jit(lambda a, v: np.einsum("nij,nj->ni", np.linalg.inv(a), v))
    rng = np.random.default_rng(2)
    for count in (40, 7, 1000):
        a, v = rng.normal(size=(count, 3, 3)) + 3 * np.eye(3), rng.normal(size=(count, 3))
        np.testing.assert_allclose(fn(a, v), np.linalg.solve(a, v[..., None])[..., 0], rtol=1e-10)
    assert shapes(fn.native) == [(("n0", 3, 3), ("n0", 3))]


def test_along_the_batch_of_a_vmap_nothing_meets():
    fn = sd.vmap(lambda a, x: np.tanh(a @ x))
    a, x = np.random.default_rng(3).normal(size=(5, 4, 4)), np.random.default_rng(4).normal(size=(5, 4))
    np.testing.assert_allclose(fn(a, x), np.tanh(np.einsum("nij,nj->ni", a, x)), rtol=1e-12)
    assert shapes(fn.native) == [(("n0", 4, 4), ("n0", 4))]
    assert not numbers(sd_native(sd.jit(lambda y: np.exp(y) + 1), np.ones((3, 4))))


def sd_native(fn, *args):
    fn(*args)
    return fn.native


@pytest.mark.parametrize(("function", "shape", "found"), [
    (lambda y: np.sum(y, axis=1), (3, 4), {4}), (lambda y: np.max(y, axis=0), (3, 4), {3}),
    (lambda y: y[:, 1:] * y[:, :-1], (3, 4), {4}), (lambda y: np.concatenate([y, y], axis=1), (3, 4), {4}),
    (lambda y: np.cumsum(y, axis=0), (3, 4), {3}), (lambda y: y.T, (3, 4), set()),
    (lambda y: np.linalg.inv(y + 9 * np.eye(4)), (5, 4, 4), {4}),
    (lambda y: y.reshape(y.shape[0], y.shape[1] * y.shape[2]), (3, 4, 5), {4, 5}),
    (lambda y: sd.softmax(y, axis=1), (3, 4), {4}), (lambda y: np.sum(sd.vmap(np.diag)(y), axis=1), (3, 4), {4}),
    (lambda y: sd.scan(lambda c, r: (c + np.sum(r), c), 0.0, y)[1], (3, 4), {4}),
])  # fmt: skip
def test_where_elements_meet(function, shape, found):
    fn = sd.jit(function)
    y = np.random.default_rng(5).uniform(0.5, 1, shape)
    fn(y)
    assert numbers(fn.native) == found


def test_arrays_of_many_elements_are_not_taken_apart():
    fn = sd.jit(lambda t, d: np.einsum("ijkl,ij,kl->", t, d, d))
    rng = np.random.default_rng(8)
    for size in (6, 3):
        t, d = rng.normal(size=(size,) * 4), rng.normal(size=(size, size))
        np.testing.assert_allclose(fn(t, d), np.einsum("ijkl,ij,kl->", t, d, d), rtol=1e-10)
    assert numbers(fn.native[:1]) == set() and numbers(fn.native) == {3}


@pytest.mark.parametrize("function", PROGRAMS)
def test_a_choice_of_sizes_keeps_its_bits(function):
    slope = sd.grad(function, argnums=(0, 1, 2))
    sizes = (3, 8, 4, 2, 5, 6)
    first = {size: slope(*point(size)) for size in sizes}
    for size in (*sizes, *sizes[::-1]):
        for one, other in zip(slope(*point(size)), first[size], strict=True):
            assert one.tobytes() == other.tobytes()


def test_nested_arguments_bound_calls_and_outputs():
    fn = sd.value_and_grad(lambda p, x: np.sum(np.tanh(p["w"] @ x + p["b"]) ** 2))
    rng = np.random.default_rng(6)
    for size in (3, 4, 3, 12, 4, 3):
        p, x = {"w": rng.normal(size=(size, size)), "b": rng.normal(size=size)}, rng.normal(size=size)
        t = np.tanh(p["w"] @ x + p["b"])
        np.testing.assert_allclose(fn(p, x)[1]["b"], 2 * t * (1 - t * t), rtol=1e-9, atol=1e-14)
    product = sd.jit(lambda a, b: a @ b)
    for size in (2, 5, 11):
        a, b = rng.normal(size=(size, size)), rng.normal(size=(size, size))
        bound = product.bind(a, b)
        np.testing.assert_allclose(bound(), a @ b, rtol=1e-12)
        a += 1
        np.testing.assert_allclose(bound(), a @ b, rtol=1e-12)


def test_threads_that_bring_different_sizes():
    slope = sd.grad(chain, argnums=2)
    sizes = range(2, 10)
    expected = {size: sd.grad(chain, argnums=2)(*point(size)) for size in sizes}
    wrong: list[int] = []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(40):
            size = sizes[(number * 3 + turn) % len(sizes)]
            if not np.allclose(slope(*point(size)), expected[size], rtol=1e-9, atol=1e-12):
                wrong.append(size)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(slope.native) <= OWN + 1


def test_where_small_sizes_cannot_be_put_in_code_for_all_sizes_runs(monkeypatch):
    def refuse(*_):
        raise ShapeError("not at these sizes")

    monkeypatch.setattr(transformed, "at_sizes", refuse)
    fn = sd.jit(lambda a, b: a @ b)
    a = np.random.default_rng(7).normal(size=(3, 3))
    np.testing.assert_allclose(fn(a, a), a @ a, rtol=1e-12)
    assert shapes(fn.native) == [(("n0", "n0"), ("n0", "n0"))]


def test_keywords_and_static_arguments():
    fn = sd.jit(lambda a, b, way: a @ b if way == "product" else b @ a, static_argnums=2)
    a, b = point(3)[:2]
    for _ in range(2):
        np.testing.assert_allclose(fn(a, b, "product"), a @ b, rtol=1e-12)
        np.testing.assert_allclose(fn(a, b, "other"), b @ a, rtol=1e-12)
    keyed = sd.jit(lambda a, *, b: a @ b)
    for size in (3, 4, 30):
        a, b = point(size)[:2]
        np.testing.assert_allclose(keyed(a, b=b), a @ b, rtol=1e-12)
    assert numbers(keyed.native) == {3, 4}


# -------------------------------------------------------------------- numbers in place of dimensions


@pytest.mark.parametrize("seed", range(10))
def test_mixed_programs_at_sizes(seed):
    mixed = Mixed(seed, "float64")
    function = mixed.function(8)
    for number, sizes in enumerate(({"n": 3, "m": 4, "p": 2}, {"n": 5, "m": 2, "p": 6})):
        given = mixed.arguments(np.random.default_rng([seed, number]), **sizes)
        some = {"n": sizes["n"]} if number else sizes
        try:
            expected = interpret(function, given)
        except SymdiffError:
            continue
        fixed = verify(at_sizes(function, some, OPSET), OPSET)
        assert not set(fixed.dims) & some.keys()
        assert print_function(parse_function(print_function(fixed), OPSET)) == print_function(fixed)
        for one, other in zip(interpret(fixed, given), expected, strict=True):
            close(one, other)


@pytest.mark.parametrize("seed", range(6))
def test_loops_at_sizes(seed):
    function = random_scan(seed)
    sizes = {"T": 4, "n": 3, "m": 5}
    given = arguments(function, seed, sizes)
    fixed = verify(at_sizes(function, sizes, OPSET), OPSET)
    assert not fixed.dims and not any(body.dims for body in bodies(fixed.instrs))
    for one, other in zip(interpret(fixed, given), interpret(function, given, sizes), strict=True):
        close(one, other)


def test_sizes_at_which_an_instruction_does_not_exist():
    n = sd.dim("n")
    x = sd.symbol("x", (n,))
    function = sd.compile(x[4:] * x[:-4], [x]).compiled.function
    with pytest.raises(ShapeError):
        at_sizes(function, {"n": 3}, OPSET)
    assert at_sizes(function, {"n": 6}, OPSET).results[0].shape == (2,)
    assert Meeting(function).names == {"n"}
