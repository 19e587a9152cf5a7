"""Routines of linear algebra on both sides of the size from which LAPACK takes over, against NumPy and residuals."""

import ctypes

import numpy as np
import pytest

import symdiff as sd
from codegen.jit import engine, lapack
from codegen.llvm.text import Module
from codegen.products import routines
from codegen.products.small import LARGEST
from symdiff.errors import EvaluationError

b, n, k = sd.dims("b n k")
SIZES = [1, 2, 3, 5, 8, LARGEST - 1, LARGEST, LARGEST + 1]


@pytest.fixture(scope="module", params=["f64", "f32"])
def compiled(request):
    A = sd.symbol("A", (b, n, n), dtype=request.param)
    y = sd.symbol("y", (b, n, k), dtype=request.param)
    sign, log = np.linalg.slogdet(A)
    general = sd.compile([np.linalg.inv(A), np.linalg.det(A), sign, log, np.linalg.solve(A, y)], [A, y])
    L = np.linalg.cholesky(A)
    return np.dtype(request.param.replace("f", "float")), general, sd.compile(L, [A])


@pytest.mark.parametrize("size", SIZES)
def test_factors_inverses_and_solutions(compiled, size, rng):
    dtype, general, cholesky = compiled
    tiny = float(np.finfo(dtype).eps)
    for columns in (1, 6):
        a, y = rng.normal(size=(7, size, size)).astype(dtype), rng.normal(size=(7, size, columns)).astype(dtype)
        if size > 2:
            a[0, 0, 0] = a[1, 1, :2] = 0  # nothing to divide by, unless rows are exchanged
        inverse, det, sign, log, x = general(a, y)
        bound = 20 * size * tiny * np.linalg.cond(a.astype(float))[:, None, None]
        exact = np.linalg.inv(a.astype(float))
        assert np.all(abs(inverse - exact) <= bound * abs(exact).max(axis=(1, 2), keepdims=True))
        solution = exact @ y
        assert np.all(abs(x - solution) <= bound * abs(solution).max(axis=(1, 2), keepdims=True))
        right_sign, right_log = np.linalg.slogdet(a.astype(float))
        np.testing.assert_array_equal(sign, right_sign)
        np.testing.assert_allclose(log, right_log, atol=float(bound.max()))
        np.testing.assert_allclose(det, right_sign * np.exp(right_log), rtol=float(bound.max()))
        square = a @ a.transpose(0, 2, 1) + np.eye(size, dtype=dtype)
        L = cholesky(square)
        np.testing.assert_array_equal(np.triu(L, 1), 0)
        np.testing.assert_allclose(L @ L.transpose(0, 2, 1), square, atol=20 * size * tiny * float(abs(square).max()))


@pytest.mark.parametrize("size", [2, 3, LARGEST, LARGEST + 1])
def test_failures_are_told_whatever_the_size(size, rng):
    A, y = sd.symbol("A", (n, n)), sd.symbol("y", (n,))
    a = rng.normal(size=(size, size))
    a[-1] = 0
    for output, inputs, given in (
        (np.linalg.inv(A), [A], [a]), (np.linalg.solve(A, y), [A, y], [a, a[0]]),
        (np.linalg.cholesky(A), [A], [a @ a.T]),
    ):  # fmt: skip
        with pytest.raises(EvaluationError):
            sd.compile(output, inputs)(*given)
    assert sd.compile(np.linalg.det(A), [A])(a) == 0
    a[0, 0] = np.nan
    assert np.isnan(sd.compile(np.linalg.det(A), [A])(a + 1))


@pytest.mark.parametrize("size", [2, 3, LARGEST, LARGEST + 1, 40])
def test_cholesky_of_nan_is_nan_whatever_the_size(compiled, size, rng):
    dtype, _, cholesky = compiled
    a = rng.normal(size=(3, size, size)).astype(dtype)
    a = a @ a.transpose(0, 2, 1) + np.eye(size, dtype=dtype)
    exact = cholesky(a)
    middle = size // 2
    a[0, 0, 0] = a[1, middle, middle] = np.nan
    made = cholesky(a)
    lower = np.tril(np.ones((size, size), bool))
    np.testing.assert_array_equal(np.isnan(made[0]), lower)
    assert np.all(np.isnan(made[1][middle:, middle:]) == lower[middle:, middle:])
    np.testing.assert_array_equal(np.triu(made, 1), 0)
    np.testing.assert_array_equal(made[2], exact[2])
    a[2, -1, -1] = -1
    with pytest.raises(EvaluationError, match="not positive definite"):
        cholesky(a)


@pytest.mark.parametrize("left", [np.nan, 0.0, -1.0])
def test_a_lapack_that_stops_at_nan_fails_at_other_pivots_only(left):
    """As the reference LAPACK: `info` counts the pivot, from 1, which is left as it was found."""
    size, stop = LARGEST + 1, 5

    @ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5)
    def potrf(part, n, a, lead, info):
        (ctypes.c_double * size**2).from_address(a)[(stop - 1) * (size + 1)] = left
        ctypes.c_int32.from_address(info).value = stop

    module = Module(16, False)
    module.routines["cholesky", "f64"] = None
    module.functions.append(routines.text(module).replace("define internal i32", "define i32"))
    address = ctypes.cast(potrf, ctypes.c_void_p).value
    library = engine.compile_text(
        module.text(), ["sd.cholesky.f64"], imports={f"{lapack.PREFIX}dpotrf": address}, cache=False
    )
    a = np.eye(size)
    status = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p)(library.address("sd.cholesky.f64"))(
        size, a.ctypes.data
    )
    assert status == (0 if np.isnan(left) else 1)
    if status == 0:
        np.testing.assert_array_equal(np.isnan(a), np.tril(np.ones((size, size), bool)))


@pytest.mark.parametrize("size", [3, LARGEST, LARGEST + 1])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("columns", [1, 5])
def test_triangular_systems(size, lower, trans, columns, rng):
    """The other triangle is not read: there is NaN."""
    A, y = sd.symbol("A", (n, n)), sd.symbol("y", (n, k))
    fn = sd.compile(sd.triangular_solve(A, y, lower=lower, trans=bool(trans)), [A, y])
    a, right = rng.normal(size=(size, size)) + size * np.eye(size), rng.normal(size=(size, columns))
    triangle = np.tril(a) if lower else np.triu(a)
    a[triangle == 0] = np.nan
    np.testing.assert_allclose((triangle.T if trans else triangle) @ fn(a, right), right, atol=1e-12)
