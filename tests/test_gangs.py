"""Equal functions of several numbers are computed as one of a vector, with the bits of each alone."""

import numpy as np
import pytest
from scipy import special

import symdiff as sd
from codegen import inspect
from codegen.analysis.strips import waiting
from codegen.ir.loops import Let
from codegen.kernels import straight
from codegen.kernels.gangs import gang, lanes_for
from symdiff.interp import interpret

KINDS = {"f64": np.float64, "f32": np.float32}


def numbers(count, dtype, rng):
    symbols = [sd.symbol(f"x{i}", (), dtype=dtype) for i in range(count)]
    return symbols, [KINDS[dtype](v) for v in rng.uniform(0.2, 3, size=count)]


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_functions_of_numbers_have_the_bits_of_each_alone(dtype, count, rng):
    symbols, values = numbers(count, dtype, rng)
    for f in (np.exp, np.tan, lambda v: np.sin(v) - np.cos(v) ** 2, lambda v: np.arctan2(v, 2 - v)):
        fn = sd.compile([f(x) for x in symbols], symbols)
        assert "@sd.gang" in fn.llvm
        for got, x, value in zip(fn(*values), symbols, values, strict=True):
            assert got == sd.compile(f(x), [x])(value)


def test_powers_of_one_number(rng):
    x, y = sd.symbol("x"), sd.symbol("y")
    powers = [x**y, x ** (y + 1), y**x, (x + y) ** 0.3, x**0.7]
    fn = sd.compile(powers, [x, y])
    assert "@sd.gang.pow" in fn.llvm
    for a, b in rng.uniform(0.1, 5, size=(20, 2)):
        expected = interpret(inspect(fn).function, [a, b])
        np.testing.assert_allclose(fn(a, b), expected, rtol=3e-16)


@pytest.mark.parametrize("lengths", [(200, 12_000, 4000), (20, 0, 90), (1 << 30, 12_000, 4000)])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_long_code_takes_together_what_does_not_wait(lengths, dtype, rng, monkeypatch):
    for name, length in zip(("SHORTEST", "WHOLE", "PIECE"), lengths, strict=True):
        monkeypatch.setattr(straight, name, length)
    symbols, values = numbers(7, dtype, rng)
    made = list(symbols)
    for kind, first, second in rng.integers(0, 2**31, size=(300, 3)).tolist():
        a, b = made[-1 - first % min(30, len(made))], made[-1 - second % min(30, len(made))]
        new = (np.sin(a), np.cos(a), np.exp(-a * a), a * b / 4, a - b / 2, np.tanh(a) * b, np.hypot(a, b) / 2)
        made.append(new[kind % 7])
    fn = sd.compile([*made[-20:]], symbols)
    assert "@sd.gang" in fn.llvm
    expected = interpret(inspect(fn).function, values)
    tolerance = {"f64": 1e-11, "f32": 1e-3}[dtype]
    np.testing.assert_allclose(fn(*values), expected, rtol=tolerance, atol=tolerance)


def test_what_waits_is_not_taken_together():
    body = [Let(1, "exp", (0,), "f64"), Let(2, "exp", (0,), "f64"), Let(3, "exp", (1,), "f64")]
    assert gang(body, 0, 8) == body[:2] and gang(body, 0, 1) == body[:1] and gang(body, 2, 8) == body[2:]
    assert gang([Let(1, "mul", (0, 0), "f64")], 0, 8) == []
    assert [lanes_for(count, 4) for count in (2, 4, 5, 8)] == [4, 4, 8, 8]


def halley(x, steps):
    """Lambert's W: every step waits for the exponential of the one before."""
    w = np.log(1 + x)
    for _ in range(steps):
        e = np.exp(w)
        f = w * e - x
        w = w - f / (e * (w + 1) - (w + 2) * f / (2 * w + 2))
    return w


@pytest.mark.parametrize("batch", [1, 3, 8, 29])
def test_code_that_waits_runs_for_two_registers(batch, rng):
    fn = sd.vmap(lambda v: halley(v[0] * v[1], 3))
    slopes = sd.vmap(sd.grad(lambda v: halley(v[0] * v[1], 3)))
    v = rng.uniform(0.2, 2, size=(batch, 2))
    w = special.lambertw(v[:, 0] * v[:, 1]).real
    np.testing.assert_allclose(fn(v), w, rtol=1e-14)
    np.testing.assert_allclose(slopes(v), (w / (1 + w))[:, None] / v, rtol=1e-12)
    assert all(np.array_equal(slopes(v[k : k + 1])[0], row) for k, row in enumerate(slopes(v)))


def test_what_waits_is_told_by_chains(rng):
    def loop(f):
        x = sd.symbol("x", (sd.dim("n"),))
        (kernel,) = inspect(sd.compile(f(x), [x])).program.kernels
        return kernel.body[-1].body

    assert waiting(loop(lambda x: halley(x, 4)))
    assert not waiting(loop(lambda x: np.exp(x) + np.log(x) + np.sin(x) * np.tan(x) + np.tanh(x) * np.arctan(x)))
