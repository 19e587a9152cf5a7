"""The vector math functions against mpmath (in ulp), NumPy and SciPy (special values), and each other at all widths."""

from __future__ import annotations

import functools
import math
import re

import numpy as np
import pytest
import scipy.special as special
from mpmath import mp
from numpy.typing import NDArray
from vmath_reference import REFERENCES, samples, worst_error

from codegen import vmath

pytest.importorskip("llvmlite")
from codegen.vmath import gamma_tables as tables
from codegen.vmath import trial

Array = NDArray[np.floating]
F64, F32 = np.dtype(np.float64), np.dtype(np.float32)
INF, NAN = math.inf, math.nan
ALL = list(vmath.FUNCTIONS)
SINGLE = [name for name in ALL if name not in vmath.PAIRS]

# Promised largest errors in ulp. Everything that is not here: 2.
BOUNDS = {
    **dict.fromkeys(("exp", "exp2", "log", "log2", "log10", "log1p", "sin", "cos", "sinh", "cosh", "arcsin", "arccos",
                     "arctan", "arctan2", "tan", "arcsinh", "arccosh", "arctanh", "cbrt", "hypot", "pow"), 1.0),
    **dict.fromkeys(("lgamma", "digamma", "polygamma_1", "polygamma_2", "polygamma_3", "polygamma_7"), 4.0),
}


@functools.cache
def loops(dtype: str, width: int) -> dict[str, trial.Loop]:
    return trial.compiled([*ALL, "polygamma_7"], dtype, width)


@pytest.mark.parametrize("name", [*SINGLE, "polygamma_7"])
def test_float64_error_is_within_the_promise(name: str) -> None:
    rng = np.random.default_rng(list(name.encode()))
    arguments = samples(name, F64, rng, 250 if name.startswith(("poly", "digamma", "lgamma")) else 1500)
    worst, place = worst_error(name, F64, loops("f64", 8)[name](*arguments), *arguments)
    assert worst <= BOUNDS.get(name, 2.0), (name, place)


@pytest.mark.parametrize("name", SINGLE)
def test_float32_error_is_below_one_ulp(name: str) -> None:
    rng = np.random.default_rng(list(name.encode()))
    arguments = samples(name, F32, rng, 60 if name.startswith(("poly", "digamma", "lgamma")) else 200)
    worst, place = worst_error(name, F32, loops("f32", 16)[name](*arguments), *arguments)
    assert worst <= 1.0, (name, place)


@pytest.mark.parametrize("pair", vmath.PAIRS)
def test_pairs_are_both_functions(pair: str) -> None:
    rng = np.random.default_rng(1)
    ends = [0.0, -0.0, 1e15, -1e15, 27.2, -27.3, 27.6, 24.5, 708.5, -745.2, 720.0, 5e-324, INF, -INF, NAN]
    x = np.concatenate([rng.uniform(-1e3, 1e3, 997), rng.uniform(-28, 28, 2000), rng.normal(size=500), ends])
    both = loops("f64", 8)[pair](x)
    for got, name in zip(both, vmath.PAIRS[pair], strict=True):
        if name == "bell":
            expected = loops("f64", 8)["exp"](-(x * x))
            np.testing.assert_array_max_ulp(got[:-1], expected[:-1], 1)
            assert np.isnan(got[-1])
        else:
            expected = loops("f64", 8)[name](x)
            np.testing.assert_allclose(got, expected, rtol=5e-16)
            np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


# -- special values -------------------------------------------------------------------------------------------------

SPECIAL = np.array([0.0, -0.0, 1, -1, INF, -INF, NAN, 5e-324, -5e-324, 2.2e-308, -2.2e-308, 1.7976931348623157e308,
                    -1.7976931348623157e308, 0.5, -0.5, 2, -2, 3, -3, 1e300, -1e300, 1e-300, 2.5, -2.5, 1e16, -1e16,
                    -745.2, 709.9, -1000, 1000, 1024, -1075, 4503599627370497.5, 4503599627370497, -4503599627370497,
                    *(2.0**k for k in (23, 24, 51, 52, 53, 54, 63, 500, 501))])
ORACLES = {
    **{name: getattr(np, name) for name in SINGLE if hasattr(np, name) and name != "pow"},
    "pow": np.power, "sigmoid": special.expit, "softplus": lambda x: np.logaddexp(0, x), "erf": special.erf,
    "erfc": special.erfc, "normcdf": special.ndtr, "digamma": special.digamma,
    **{f"polygamma_{k}": functools.partial(special.polygamma, k) for k in (1, 2, 3)},
}


def _same(got: Array, expected: Array) -> NDArray[np.bool_]:
    """Equal down to the sign of zero, or both NaN, or both ordinary and close (SciPy is 30 ulp off at places)."""
    close = np.abs(got - expected) <= 40 * np.finfo(got.dtype).eps * np.abs(expected)
    close |= np.abs(got - expected) <= 2 * float(np.finfo(got.dtype).smallest_subnormal)
    ordinary = np.isfinite(got) & np.isfinite(expected) & (expected != 0)
    equal = (got == expected) | (ordinary & close)
    return (np.isnan(got) & np.isnan(expected)) | (equal & (np.signbit(got) == np.signbit(expected)))


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_special_values_are_those_of_numpy_and_scipy(name: str, dtype: str) -> None:
    kind = trial.DTYPES[dtype]
    with np.errstate(all="ignore"):
        points = SPECIAL.astype(kind)
        arguments = [points] if vmath.FUNCTIONS[name] == 1 else [a.ravel() for a in np.meshgrid(points, points)]
        expected = np.asarray(ORACLES[name](*arguments)).astype(kind)
        got = loops(dtype, 8)[name](*arguments)
        wrong = ~_same(got, expected)
    assert not wrong.any(), [(*(a[wrong][0] for a in arguments), got[wrong][0], expected[wrong][0])]


def test_lgamma_at_its_special_values() -> None:
    """By C's definition: SciPy gives -inf at -inf and inf at the smallest denormal, where log|gamma| is 744.44."""
    x = np.array([0.0, -0.0, INF, -INF, NAN, -1.0, -2.0, -1e300, 1.0, 2.0, 5e-324, -5e-324, 1e306])
    expected = [INF, INF, INF, INF, NAN, INF, INF, INF, 0.0, 0.0, 744.4400719213812, 744.4400719213812, INF]
    np.testing.assert_allclose(loops("f64", 8)["lgamma"](x), expected, rtol=4e-16)


def test_exact_cases_stay_exact() -> None:
    n = np.arange(-1074, 1024)
    whole = np.ldexp(1.0, n)
    assert np.array_equal(loops("f64", 8)["exp2"](n.astype(float)), whole)
    assert np.array_equal(loops("f64", 8)["log2"](whole), n)
    tens = np.arange(23.0)
    assert np.array_equal(loops("f64", 8)["log10"](np.array([float(10**k) for k in range(23)])), tens)
    cubes = np.arange(-100.0, 100.0)
    assert np.array_equal(loops("f64", 8)["cbrt"](cubes**3), cubes)
    assert np.array_equal(loops("f64", 8)["pow"](cubes, np.full(200, 2.0)), cubes**2)
    assert np.array_equal(loops("f64", 8)["hypot"](3 * cubes, 4 * cubes), 5 * np.abs(cubes))


def test_reduction_of_the_worst_arguments() -> None:
    """Doubles nearest to multiples of pi/2, small and huge, and the whole exponent range."""
    hard = [6381956970095103 * 2.0**797, 5.319372648326541e255, 1.5707963267948966, 3.141592653589793, 22.0,
            14.137166941154069, 103993 / 33102 * 33102, 2.0**1023, 1.7976931348623157e308, 1e14, 1.0000000000001e14]
    hard += [float(mp.nint(mp.pi / 2 * k)) for k in (10**9 + 7, 10**12 + 39, 6 * 10**13)]
    x = np.array([s * v for v in hard for s in (1, -1)])
    for name in ("sin", "cos", "tan"):
        worst, place = worst_error(name, F64, loops("f64", 8)[name](x), x)
        assert worst <= BOUNDS.get(name, 2.0), (name, place)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_family_at_negative_roots_and_poles(name: str) -> None:
    rng = np.random.default_rng(12)
    roots = [row[0] for row in (tables.LGAMMA_ROOTS if name == "lgamma" else tables.DIGAMMA_ROOTS)]
    if name == "digamma":  # beyond the tabulated ones
        roots += [float(mp.findroot(mp.digamma, -n - 0.7)) for n in (17, 23, 40, 100)]
    places = [n for k in range(1, 25) for n in (-k - 2.0**-30, np.nextafter(-k, 0), np.nextafter(-k, -30))]
    places += [*-rng.uniform(0.5, 25, 60), *-(10.0 ** rng.uniform(1, 15.6, 30)), -(2.0**52) + 0.5, -(2.0**51) - 0.5]
    for root in roots:
        places += [root, np.nextafter(root, 0), np.nextafter(root, -np.inf)]
        places += [root * (1 + s * 2.0**-e) for e in rng.integers(8, 50, 4) for s in (1, -1)]
    x = np.array([p for p in places if p < -0.5 and p != math.floor(p)])
    worst, place = worst_error(name, F64, loops("f64", 8)[name](x), x)
    assert worst <= 3.0, place


@pytest.mark.parametrize("name", ["polygamma_1", "polygamma_2", "polygamma_3"])
def test_polygamma_left_of_zero(name: str) -> None:
    """Absolutely small error, measured by the terms that cancel at the roots between the poles."""
    rng = np.random.default_rng(11)
    x = -np.concatenate([rng.uniform(0.5, 12, 60), rng.uniform(12, 1e4, 15), rng.integers(1, 9, 10) + 2.0**-20])
    got = loops("f64", 8)[name](x)
    for point, value in zip(x, got, strict=True):
        with mp.workprec(200):
            exact = float(REFERENCES[name](mp.mpf(point)))
            cotangent = abs(float(mp.pi * mp.cot(mp.pi * point)))
        assert abs(value - exact) <= 1e-15 * max(abs(exact), cotangent + 20.0), point


# -- one source, every width ----------------------------------------------------------------------------------------


def _mixture(count: int) -> list[Array]:
    """Ordinary and special lanes side by side, so that a rare lane sits next to common ones."""
    rng = np.random.default_rng(5)
    x = rng.choice([-1.0, 1.0], count) * np.ldexp(rng.uniform(0.5, 1, count), rng.integers(-1074, 1024, count))
    ordinary = rng.uniform(size=count) < 0.7
    x = np.where(ordinary, rng.choice([rng.uniform(-20, 20, count), rng.uniform(0, 1, count)]), x)
    x[rng.integers(0, count, SPECIAL.size)] = SPECIAL
    return [x, rng.permutation(x)]


def _bits(values: Array) -> NDArray[np.integer]:
    return np.where(np.isnan(values), values.dtype.type(1.5), values).view(f"i{values.dtype.itemsize}")


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_all_widths_give_the_same_bits(dtype: str) -> None:
    with np.errstate(over="ignore"):
        arguments = [a.astype(trial.DTYPES[dtype]) for a in _mixture(1024)]
    plain = loops(dtype, 1)
    for width in (2, 4, 8, 16):
        wide = loops(dtype, width)
        for name, loop in plain.items():
            used = arguments[: vmath.FUNCTIONS[name]]
            assert np.array_equal(_bits(loop(*used)), _bits(wide[name](*used))), (name, width)


@pytest.mark.parametrize("cpu", ["x86-64-v3", "x86-64"])
def test_older_processors_give_the_same_bits(cpu: str) -> None:
    if "x86" not in trial.llvm.get_default_triple():
        pytest.skip("needs an x86 machine")
    arguments = _mixture(512)
    host, old = loops("f64", 4), trial.compiled([*ALL, "polygamma_7"], "f64", 4, cpu=cpu)
    for name, loop in host.items():
        used = arguments[: vmath.FUNCTIONS[name]]
        assert np.array_equal(_bits(loop(*used)), _bits(old[name](*used))), name


def test_called_functions_equal_inlined_ones_without_optimisation() -> None:
    arguments = _mixture(512)
    called = trial.compiled(ALL, "f64", 8, inline=False, level=0)
    for name, loop in called.items():
        used = arguments[: vmath.FUNCTIONS[name]]
        assert np.array_equal(_bits(loop(*used)), _bits(loops("f64", 8)[name](*used))), name


# -- the text -------------------------------------------------------------------------------------------------------


def test_text_defines_each_symbol_once_and_carries_no_fast_math() -> None:
    text = "\n".join(vmath.definitions(ALL, dtype, width, True) for dtype in ("f64", "f32") for width in (1, 8))
    defined = re.findall(r"^define internal .*?(@sd[\w.]+)\(", text, re.MULTILINE)
    assert len(defined) == len(set(defined))
    for name in ALL:
        assert vmath.symbol(name, "f64", 8) in defined and vmath.symbol(name, "f32", 1) in defined
    assert not re.search(r"\b(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b", text)
    assert "#" not in text


def test_texts_of_several_calls_can_be_concatenated() -> None:
    parts = [("sin", "f64", 8), ("cos", "f64", 8), ("sin", "f32", 8), ("sin", "f64", 4), ("lgamma", "f64", 8)]
    declared = sorted({line for n, d, w in parts for line in vmath.declarations([n], d, w)})
    text = "\n".join([*declared, *(vmath.definitions([n, n], d, w, inline=False) for n, d, w in parts)])
    trial.llvm.parse_assembly(text).verify()


def test_names_and_operand_counts() -> None:
    assert vmath.symbol("exp", "f64", 8) == "@sd.exp.v8f64" and vmath.symbol("exp", "f32", 1) == "@sd.exp.f32"
    assert [n for n, count in vmath.FUNCTIONS.items() if count == 2] == ["pow", "hypot", "arctan2"]
    assert vmath.FUNCTIONS["polygamma_42"] == 1
    for bad in ("gamma", "polygamma_0", "polygamma_101", "polygamma_01", "polygamma_", "polygamma_x"):
        assert bad not in vmath.FUNCTIONS
        with pytest.raises(KeyError, match="no vector math function"):
            vmath.definitions([bad], "f64", 8, True)
    with pytest.raises(ValueError, match="f64 and f32"):
        vmath.definitions(["exp"], "f16", 8, True)
    with pytest.raises(ValueError, match="power of two"):
        vmath.declarations(["exp"], "f64", 6)


def test_high_orders_of_polygamma() -> None:
    orders = (1, 20, 57, 100)
    loop = trial.compiled([f"polygamma_{k}" for k in orders], "f64", 4)
    x = np.array([0.3, 1.0, 2.5, 7.9, 8.0, 31.4, 150.0, 1e3])
    for k in orders:
        with mp.workprec(400):
            exact = np.array([float(mp.polygamma(k, mp.mpf(v))) for v in x])
        np.testing.assert_allclose(loop[f"polygamma_{k}"](x), exact, rtol=1e-15)
