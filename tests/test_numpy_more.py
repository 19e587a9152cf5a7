"""Index arrays, NaN-aware reductions, sampled curves and special functions: NumPy's values, and numeric derivatives."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import oracle
import pytest
import test_frontend
from scipy import special

import symdiff as sd
from symdiff.frontend import registry
from symdiff.frontend.expr import dims, symbol
from symdiff.frontend.index_arrays import indices, tril_indices, triu_indices
from symdiff.frontend.numpy_functions import FUNCTIONS
from symdiff.frontend.registry import NUMPY

n, m, k = dims("n m k")
rng = np.random.default_rng(20261128)
gaps = rng.normal(size=(3, 4))
gaps[0, 1] = gaps[2, 3] = gaps[1, 1] = np.nan
hollow = np.where(np.arange(4) == 2, np.nan, gaps)
SYMBOLS: dict[str, tuple[tuple[Any, ...], str, Any]] = {
    "N": ((m, n), "f64", gaps),
    "H": ((m, n), "f64", hollow),
    "g": ((n,), "f64", np.sort(rng.normal(size=4))),
    "z": ((k,), "f64", rng.normal(size=5) * 2),
    "s": ((k,), "f64", np.array([-2.6, -1.3, 0.4, 1.7, 3.2])),
    "w": ((k,), "f64", rng.uniform(0.2, 2, 5)),
    "G": ((n, n, m), "f64", rng.normal(size=(4, 4, 3))),
    "d": ((12,), "f64", rng.normal(size=12)),
    "E": ((4, 3, 12), "f64", rng.normal(size=(4, 3, 12))),
    "r": ((4, 3), "f64", rng.normal(size=(4, 3))),
    "l": ((k,), "i64", np.array([0, 11, 5, 7, 3])),
}
test_frontend.SYMBOLS.update(SYMBOLS)

CASES: list[Any] = [
    # index arrays
    lambda A, i, j: A[np.ix_([0, 2], i)], lambda B, i: B[np.ix_(i, i)], lambda T, j, i: T[np.ix_(j, i, j)],
    lambda M: M[np.tril_indices_from(M)], lambda M: M[np.triu_indices_from(M)], lambda M: M[np.diag_indices_from(M)],
    lambda M: M[np.tril_indices_from(M, -1)], lambda M: M[np.tril_indices_from(M, 1)],
    lambda M: M[np.tril_indices_from(M, 3)], lambda M: M[np.triu_indices_from(M, 2)],
    lambda M: M[np.triu_indices_from(M, -2)], lambda M: M[np.tril_indices_from(M, -4)],
    lambda V: np.tril_indices_from(V[:, :3], 1)[0] * 1.0,
    lambda i, j, A: np.ravel_multi_index((j % 3, i % 4), np.shape(A)), lambda l, A: np.unravel_index(l, np.shape(A)),
    # NaN left out
    lambda N: np.nansum(N), lambda N: np.nansum(N, 1), lambda N: np.nanprod(N, 0), lambda H: np.nanprod(H, axis=0),
    lambda N: np.nanmean(N), lambda N: np.nanmean(N, 1, keepdims=True), lambda N: np.nanvar(N, 0, ddof=1),
    lambda N: np.nanvar(N), lambda N: np.nanstd(N, 1), lambda N: np.nanstd(N, axis=(0, 1), ddof=1),
    lambda H: np.nanstd(H, 0), lambda H: np.nanmean(H, 0), lambda H: np.nanvar(H, 0), lambda N: np.nanmax(N, 1),
    lambda N: np.nanmin(N, 0), lambda N: np.nanmax(N), lambda N: np.nanargmax(N, 0), lambda N: np.nanargmin(N, 1),
    lambda N: np.nancumsum(N, 1), lambda N: np.nancumprod(N, 0), lambda I: np.nansum(I, 0), lambda I: np.nanmax(I),
    lambda I: np.nanmean(I, 1), lambda F: np.nanmean(F, 1), lambda N: np.nan_to_num(N), lambda F: np.nan_to_num(F / 0),
    lambda x: np.nan_to_num(x / 0, posinf=3.0, neginf=-1.0), lambda I: np.nan_to_num(I),
    # sampled curves
    lambda c: np.logspace(c, 2, 7), lambda c: np.logspace(-c, c, 5, base=2.0),
    lambda x: np.logspace(x, 1, 4, endpoint=False),
    lambda c: np.geomspace(c, 20, 6), lambda c: np.geomspace(-c, -20, 6), lambda p: np.geomspace(p, 3, 4),
    lambda g, z: np.searchsorted(g, z), lambda g: np.searchsorted(g, g, "right"), lambda g, A: np.searchsorted(g, A),
    lambda z: np.digitize(z, [-1, 0, 1]), lambda z: np.digitize(z, np.array([1, 0, -1])),
    lambda g: np.digitize(g, g, True), lambda I: np.digitize(I, [2, 1, 0, -1]),
    lambda I: np.digitize(I, [2, 1, 0, -1], right=True), lambda I: np.digitize(I, [0, 0, 1]),
    lambda z, g, x: np.interp(z, g, x), lambda A, g, x: np.interp(A, g, x, left=-1, right=2.5),
    lambda c, g, x: np.interp(c, g, x),
    lambda g, x: np.interp(g, g, x), lambda z: np.interp(z, [0.0, 1.0], [2.0, 3.0]),
    lambda x: np.gradient(x), lambda A: np.gradient(A), lambda A, c: np.gradient(A, c, axis=1),
    lambda T: np.gradient(T, 2.0, 0.5, axis=(0, 2)), lambda x, g: np.gradient(x, g),
    lambda x: np.gradient(x, edge_order=2),
    lambda x, g: np.gradient(x, g, edge_order=2), lambda A, g: np.gradient(A, g, axis=1, edge_order=2),
    lambda x: np.polyder(x), lambda x: np.polyder(x, 2), lambda x: np.polyint(x), lambda x: np.polyint(x, 2, [3, 0.5]),
    lambda x, z: np.polymul(x, z), lambda t, d: np.polyadd(t, d), lambda t, d: np.polysub(d, t),
    lambda x, y: np.polysub(x, y),
    lambda A: np.corrcoef(A), lambda x, y: np.corrcoef(x, y), lambda A: np.corrcoef(A, rowvar=False),
    lambda x: np.corrcoef(x),
    lambda x: np.fft.fftshift(x), lambda T: np.fft.fftshift(T), lambda T: np.fft.ifftshift(T, (0, 2)),
    # elementwise
    lambda A: np.fmod(A, 0.3), lambda A, P: np.fmod(A, -P), lambda I: np.fmod(I, 3), lambda A: np.modf(5 * A),
    lambda x: np.ldexp(x, 3), lambda A: np.isposinf(A / 0), lambda A: np.isneginf(A / 0), lambda A: np.isreal(A),
    lambda A: np.iscomplex(A), lambda F: np.imag(F),
    # linear algebra
    lambda M: np.linalg.cond(M, 1), lambda L: np.linalg.cond(L, "fro"), lambda M: np.linalg.cond(M, -np.inf),
    lambda E: np.linalg.tensorinv(E), lambda E, r: np.linalg.tensorsolve(E, r),
    lambda E, r: np.linalg.tensorsolve(np.moveaxis(E, 2, 0), r, axes=(0,)),
    # scipy.special
    lambda s: special.gamma(s), lambda s: special.rgamma(s), lambda s: special.gammasgn(s),
    lambda w, s: special.beta(w, s),
    lambda w: special.betaln(w, 2), lambda w: special.binom(5.5, w), lambda s: special.binom(7, s),
    lambda s, w: special.poch(s, w),
    lambda s: special.entr(s), lambda w: special.entr(w - 0.2), lambda w, s: special.rel_entr(w, s),
    lambda w: special.kl_div(w, 0.7),
    lambda p: special.rel_entr(p * 0, p), lambda s: special.huber(1.5, s), lambda w, s: special.huber(w, s),
    lambda s: special.pseudo_huber(1.5, s), lambda s: special.exp10(s), lambda s: special.cosm1(s),
    lambda w: special.boxcox(w, 0.3), lambda w: special.boxcox(w, 0), lambda w: special.boxcox1p(w, -2),
    lambda w: special.inv_boxcox(w, 0.5), lambda w: special.inv_boxcox(w, 0),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("number", range(len(CASES)))
def test_values(number: int) -> None:
    test_frontend.compare(CASES[number], CASES[number])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("number", range(len(CASES)))
def test_derivatives(number: int) -> None:
    """vjp and jvp of every case in every floating argument against differences of NumPy's own values."""
    case = CASES[number]
    names = list(inspect.signature(case).parameters)
    known = [test_frontend.SYMBOLS[name] for name in names]
    made = case(*[symbol(name, shape, dtype) for name, (shape, dtype, _) in zip(names, known, strict=True)])
    made = list(made) if isinstance(made, (tuple, list)) else [made]
    local = np.random.default_rng(number)
    for result, y in enumerate(made):
        if y.dtype != "f64":
            continue
        for at, name in enumerate(names):
            if known[at][1] != "f64":
                continue
            x = symbol(name, *known[at][:2])
            arrays = [a for _, _, a in known]

            def numeric(value: Any, at: int = at, result: int = result, arrays: list[Any] = arrays) -> Any:
                given = [value if i == at else a for i, a in enumerate(arrays)]
                got = case(*given)
                return np.asarray(got[result] if isinstance(got, (tuple, list)) else got, float)

            direction = local.normal(size=np.shape(arrays[at]))
            with np.errstate(all="ignore"):
                want, error = oracle.directional(numeric, [arrays[at]], [direction], 1e-4)
            t = symbol("direction_", known[at][0], "f64")
            values = {**dict(zip(names, arrays, strict=True)), "direction_": direction}
            got = sd.evaluate(sd.jvp(y, x, t), values, sizes={"n": 4, "m": 3, "k": 5})
            fine = np.isfinite(want) & np.isfinite(got)
            assert np.all(np.isfinite(got) | ~np.isfinite(want))
            scale = max(1.0, float(np.max(np.abs(want[fine]), initial=0)))
            np.testing.assert_allclose(np.asarray(got)[fine], want[fine], atol=1e-6 * scale + 10 * min(error, 1e-6))
            seed = local.normal(size=np.shape(want))
            c = symbol("seed_", y.shape, "f64")
            values["seed_"] = np.where(fine, seed, 0)
            back = sd.evaluate(sd.vjp(y, x, c), values, sizes={"n": 4, "m": 3, "k": 5})
            if np.all(fine):
                np.testing.assert_allclose(np.sum(back * direction), np.sum(seed * got), rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 40])
@pytest.mark.parametrize("offset", [-3, -1, 0, 1, 2, 4, -5])
def test_triangles_of_symbolic_size(size: int, offset: int) -> None:
    for ours, theirs in ((tril_indices, np.tril_indices), (triu_indices, np.triu_indices)):
        want = theirs(size, offset)
        for got, place in zip(ours(n, offset), want, strict=True):
            try:
                found = sd.evaluate(got, {}, sizes={"n": size})
            except sd.SymdiffError:
                assert size <= abs(offset)
                continue
            np.testing.assert_array_equal(found, place)
        for got, place in zip(ours(size, offset), want, strict=True):
            np.testing.assert_array_equal(sd.evaluate(got, {}), place)


def test_places_in_long_triangles_are_exact() -> None:
    size = 3000
    rows, columns = (sd.evaluate(e, {}, sizes={"n": size}) for e in sd.tril_indices(n))
    want = np.tril_indices(size)
    np.testing.assert_array_equal(rows, want[0])
    np.testing.assert_array_equal(columns, want[1])


def test_a_matrix_from_its_triangle(rng: np.random.Generator) -> None:
    """The gradient of a log-determinant in the entries of a Cholesky factor, native."""
    packed = sd.symbol("packed", (n * (n + 1) // 2,))
    factor = sd.set(sd.zeros((n, n)), sd.tril_indices(n), packed)
    f = np.linalg.slogdet(factor @ factor.T + sd.eye(n))[1]
    run = sd.compile([f, sd.gradient(f, packed)], [packed])
    for size in (1, 2, 5):
        p = rng.normal(size=size * (size + 1) // 2)

        def value(p: Any, size: int = size) -> Any:
            lower = np.zeros((size, size))
            lower[np.tril_indices(size)] = p
            return np.linalg.slogdet(lower @ lower.T + np.eye(size))[1]

        got, slope = run(p, sizes={"n": size})
        direction = rng.normal(size=p.size)
        np.testing.assert_allclose(got, value(p), rtol=1e-12)
        np.testing.assert_allclose(slope @ direction, oracle.directional(value, [p], [direction])[0], rtol=1e-7)


def test_indices_of_symbolic_shapes() -> None:
    sizes = {"n": 3, "m": 2}
    np.testing.assert_array_equal(sd.evaluate(indices((n, m)), {}, sizes=sizes), np.indices((3, 2)))
    x = sd.symbol("x", (n, n))
    text = sd.parse("x[np.diag_indices(n)] + x[tril_indices(n)][0]", {"x": x, "n": n})
    a = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(text.evaluate({"x": a}), np.diag(a))
    names = {"beta": sd.symbol("beta"), "gamma": sd.symbol("gamma")}
    assert sd.parse("beta*gamma", names).source("numpy") == "beta*gamma"


x, A, mask = sd.symbol("x", (n,)), sd.symbol("A", (m, n)), sd.symbol("mask", (n,), "bool")
REFUSED: list[tuple[Any, str]] = [
    (lambda: np.ix_(mask), "depends on values"), (lambda: np.ix_(A), "expected vectors"),
    (lambda: sd.tril_indices(n, 0, m), r"sizes n and m.*np\.tri"), (lambda: sd.triu_indices(n, m), "offset -?m"),
    (lambda: np.tril_indices_from(x), "expected a matrix"), (lambda: np.diag_indices_from(A), "equal sizes"),
    (lambda: np.gradient(x, A), "spacing of shape"), (lambda: np.gradient(x[:2], edge_order=2), "2 samples"),
    (lambda: np.gradient(x, edge_order=3), "edge_order 3"), (lambda: np.interp(x, x, A), "two vectors of one length"),
    (lambda: np.searchsorted(A, x), "expected a vector"), (lambda: np.fft.fft(x), "complex numbers"),
    (lambda: np.polyadd(x, sd.symbol("y", (m,))), "is not known"), (lambda: np.linalg.cond(A), "singular"),
    (lambda: special.boxcox(x, x), "symbolic exponent"), (lambda: special.erfinv(x), "no rule"),
    (lambda: special.jv(0, x), "Bessel"), (lambda: np.bincount(sd.symbol("i", (n,), "i64")), "sd.add_at"),
    (lambda: np.apply_along_axis(np.sum, 0, A), "sd.vmap"), (lambda: np.unravel_index(x, (2, 3)), "integers"),
    (lambda: np.polyfit(x, x, 2), "vander"), (lambda: np.empty_like(x), "sd.set"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refusals_say_what_to_use(number: int) -> None:
    case, message = REFUSED[number]
    with pytest.raises(sd.SymdiffError, match=message):
        case()


def test_every_function_of_numpy_that_meets_expressions_is_answered_or_refused_by_name() -> None:
    """Array functions of NumPy's namespaces; those that take no array are not asked for."""
    from_numbers = {
        "array2string", "array_repr", "array_str", "asfortranarray", "bincount", "can_cast", "common_type",
        "min_scalar_type", "may_share_memory", "shares_memory", "busday_count", "busday_offset", "is_busday", "isnat",
        "datetime_as_string", "savetxt", "save", "savez", "savez_compressed", "bitwise_left_shift",
        "bitwise_right_shift", "frompyfunc",
    }  # fmt: skip
    for prefix, space in (("", np), ("linalg.", np.linalg), ("fft.", np.fft)):
        for name in dir(space):
            function = getattr(space, name)
            dispatched = isinstance(function, np.ufunc) or hasattr(function, "_implementation")
            if dispatched and not name.startswith("_") and name not in from_numbers and function not in NUMPY:
                assert prefix + name in registry._HINTS, prefix + name  # pyright: ignore[reportPrivateUsage]


def test_text_knows_what_numpy_knows() -> None:
    for name in ("nanmean", "interp", "ix_", "logspace", "indices", "fft.fftshift", "special.gamma", "huber"):
        assert name in FUNCTIONS or f"np.{name}" in FUNCTIONS


@pytest.mark.parametrize("lengths", [(7, 3), (3, 7), (1, 4), (5, 5)])
@pytest.mark.parametrize("known", [(), (0,), (1,), (0, 1)])
def test_convolutions_of_either_order(lengths: tuple[int, int], known: tuple[int, ...]) -> None:
    """Whichever is the longer, and whichever size has a number; the table is that of the second, or of the number."""
    x, y = (sd.symbol(f"v{i}", (lengths[i] if i in known else (n, m)[i],)) for i in range(2))
    a, b = (np.random.default_rng(i).normal(size=lengths[i]) for i in range(2))
    f = np.convolve(x, y)
    values = {"v0": a, "v1": b}
    np.testing.assert_allclose(f.evaluate(values), np.convolve(a, b), rtol=1e-12)
    slope = sd.gradient(np.sum(f**2), x).evaluate(values)
    np.testing.assert_allclose(slope, 2 * np.correlate(np.convolve(a, b), b, "valid"), rtol=1e-10, atol=1e-10)


def test_a_long_convolution_with_a_short_kernel_takes_no_table_of_its_own_length() -> None:
    """A table of 100 000 by 100 000 entries would not be had."""
    signal = rng.normal(size=100_000)
    run = sd.jit(lambda x, w: np.convolve(x, w))
    np.testing.assert_allclose(run(signal, np.ones(5)), np.convolve(signal, np.ones(5)), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(run(np.ones(5), signal), np.convolve(signal, np.ones(5)), rtol=1e-10, atol=1e-10)
