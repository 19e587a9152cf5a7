"""Two functions of one scalar are computed at once, and have the values of each alone."""

import numpy as np
import pytest

import symdiff as sd
from codegen import inspect
from codegen.kernels import straight
from symdiff.interp import interpret

FUNCTIONS = {
    "erf_bell": sd.erf, "erfc_bell": lambda x: sd.erfc(-x), "softplus_sigmoid": sd.softplus,
    "sinhcosh": np.sinh, "sincos": np.sin,
}  # fmt: skip


def agree(fn, arrays, tolerance=1e-13):  # SciPy is up to so far off, in erfc
    for got, expected in zip(fn(*arrays), interpret(inspect(fn).function, arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=1e-300)


@pytest.mark.parametrize("pair", FUNCTIONS)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", ["n", ()])
def test_a_function_and_its_slope_are_computed_at_once(pair, count, shape, rng):
    symbols = [sd.symbol(f"x{i}", (sd.dim("n"),) if shape else ()) for i in range(count)]
    values = [FUNCTIONS[pair](x) for x in symbols]
    slopes = [sd.gradient(np.sum(v) if shape else v, x) for v, x in zip(values, symbols, strict=True)]
    fn = sd.compile([*values, *slopes], symbols)
    assert f"@sd.{pair}." in fn.llvm
    bell = pair.endswith("bell")
    assert not bell or "@sd.exp." not in fn.llvm
    for scale in (1, 7, 30):
        agree(fn, [rng.normal(size=37) * scale if shape else rng.normal() * scale for _ in symbols])


def test_a_bell_alone_is_an_exponential():
    x = sd.symbol("x", (sd.dim("n"),))
    fn = sd.compile(sd.gradient(np.sum(sd.erf(x)), x), [x])
    assert "bell" not in fn.llvm and "@sd.exp." in fn.llvm
    fn = sd.compile([sd.erf(x), np.exp(-(x**2) / 2), sd.erfc(2 * x)], [x])
    assert "bell" not in fn.llvm
    before = sd.compile([np.exp(-x * x), sd.erf(x)], [x])  # it is made already where erf is
    assert "bell" not in before.llvm
    single = sd.symbol("x", (sd.dim("n"),), dtype="f32")
    assert "bell" not in sd.compile([sd.erf(single), sd.gradient(np.sum(sd.erf(single)), single)], [single]).llvm


@pytest.mark.parametrize("lengths", [(200, 12_000, 4000), (20, 0, 90)])
def test_long_code_computes_both_at_once(lengths, rng, monkeypatch):
    for name, length in zip(("SHORTEST", "WHOLE", "PIECE"), lengths, strict=True):
        monkeypatch.setattr(straight, name, length)
    symbols = [sd.symbol(f"x{i}") for i in range(7)]
    made = list(symbols)
    for kind, first, second in rng.integers(0, 2**31, size=(300, 3)).tolist():
        a, b = made[-1 - first % min(30, len(made))], made[-1 - second % min(30, len(made))]
        new = (sd.erf(a), np.exp(-a * a), sd.erfc(-b), np.exp(-(b**2)), a - b / 2, a * b / 4, np.sinh(a))
        made.append(new[kind % 7] / 2)
    fn = sd.compile(made[-40:], symbols)
    assert "bell" in fn.llvm
    agree(fn, list(rng.uniform(-1, 1, size=7)), 1e-11)


def test_what_stands_in_another_loop_is_computed_alone(rng):
    x, y = sd.symbol("x", (sd.dim("n"),)), sd.symbol("y", (sd.dim("m"),))
    outer = sd.erfc(x)
    fn = sd.compile([outer, np.sum(np.exp(-(x[:, None] ** 2)) * np.sin(y * x[:, None]), axis=1)], [x, y])
    agree(fn, [rng.normal(size=9), rng.normal(size=5)], 1e-13)


def test_a_call_by_price_of_options(rng):
    names = spot, strike, rate, time = [sd.symbol(s, (sd.dim("n"),)) for s in ("S", "K", "r", "T")]
    above = np.log(spot / strike) / np.sqrt(time) + rate * np.sqrt(time)
    price = spot * sd.erfc(-above) / 2 - strike * np.exp(-rate * time) * sd.erfc(np.sqrt(time) - above) / 2
    first = sd.gradient(np.sum(price), names)
    fn = sd.compile([price, *first, *sd.gradient(np.sum(first[0]), names)], names)
    assert "@sd.erfc_bell." in fn.llvm
    values = [rng.uniform(80, 120, 29), rng.uniform(80, 120, 29), rng.uniform(0.01, 0.1, 29), rng.uniform(0.1, 3, 29)]
    agree(fn, values, 1e-10)
