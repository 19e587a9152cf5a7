"""Functions of scipy.special made of others: the gamma family, probabilities, entropies, robust losses, Box-Cox."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, UnsupportedError
from symdiff.frontend.elementwise import (
    absolute,
    add,
    divide,
    elementwise,
    equal,
    floor,
    less,
    less_equal,
    logical_and,
    logical_or,
    mod,
    multiply,
    negative,
    power,
    square,
    subtract,
    where,
)
from symdiff.frontend.expr import Expr, as_expr, broadcast_exprs, promote
from symdiff.frontend.registry import refuse, scipy_function


def _float(x: Any) -> Any:
    return promote([x], floating=True)[0]


def _floats(name: str, *args: Any) -> list[Any]:
    return broadcast_exprs(promote(list(args), floating=True), name)


# -------------------------------------------------------------------- the gamma family
@scipy_function("gammasgn")
def gammasgn(x: Any) -> Any:
    """The sign of the gamma function; its poles have none, and are given that of the interval to their right."""
    e = _float(x)
    return where(logical_and(less(e, 0), equal(mod(floor(e), 2), 1)), -1.0, 1.0).astype(e.dtype)


def _lgamma(x: Any) -> Any:
    return elementwise("lgamma", x)


@scipy_function("gamma")
def gamma(x: Any) -> Any:
    """By the logarithm: relative errors grow with it, to some 1e-13 before it overflows."""
    e = _float(x)
    return multiply(gammasgn(e), elementwise("exp", _lgamma(e)))


@scipy_function("rgamma")
def rgamma(x: Any) -> Any:
    e = _float(x)
    return multiply(gammasgn(e), elementwise("exp", negative(_lgamma(e))))


@scipy_function("factorial")
def factorial(n: Any) -> Any:
    return gamma(add(_float(n), 1))


@scipy_function("betaln")
def betaln(a: Any, b: Any) -> Any:
    x, y = _floats("betaln", a, b)
    return subtract(add(_lgamma(x), _lgamma(y)), _lgamma(add(x, y)))


@scipy_function("beta")
def beta(a: Any, b: Any) -> Any:
    x, y = _floats("beta", a, b)
    sign = multiply(multiply(gammasgn(x), gammasgn(y)), gammasgn(add(x, y)))
    return multiply(sign, elementwise("exp", betaln(x, y)))


@scipy_function("binom", "comb")
def binom(n: Any, k: Any) -> Any:
    """1/((n + 1) B(1 + n - k, 1 + k)), for real arguments."""
    x, y = _floats("binom", n, k)
    rest = subtract(add(x, 1), y)
    sign = multiply(multiply(gammasgn(rest), gammasgn(add(y, 1))), gammasgn(add(x, 1)))
    logarithm = subtract(subtract(_lgamma(add(x, 1)), _lgamma(add(y, 1))), _lgamma(rest))
    return multiply(sign, elementwise("exp", logarithm))


@scipy_function("poch")
def poch(z: Any, m: Any) -> Any:
    """gamma(z + m)/gamma(z)."""
    x, y = _floats("poch", z, m)
    top = add(x, y)
    return multiply(multiply(gammasgn(top), gammasgn(x)), elementwise("exp", subtract(_lgamma(top), _lgamma(x))))


# -------------------------------------------------------------------- logarithms and probabilities
@scipy_function("xlogy")
def xlogy(x: Any, y: Any) -> Any:
    a, b = broadcast_exprs(promote([x, y], floating=True), "xlogy")
    # Only where the product would be 0 * log(0): elsewhere at factor 0 the derivative log(y) is kept.
    empty = logical_and(equal(a, 0), logical_or(less_equal(b, 0), equal(b, np.inf)))
    return multiply(a, elementwise("log", where(empty, 1, b)))


@scipy_function("xlog1py")
def xlog1py(x: Any, y: Any) -> Any:
    a, b = broadcast_exprs(promote([x, y], floating=True), "xlog1py")
    empty = logical_and(equal(a, 0), logical_or(less_equal(b, -1), equal(b, np.inf)))
    return multiply(a, elementwise("log1p", where(empty, 0, b)))


@scipy_function("log_expit")
def log_expit(x: Any) -> Any:
    return negative(elementwise("softplus", negative(promote([x], floating=True)[0])))


@scipy_function("logit")
def logit(x: Any) -> Any:
    e = promote([x], floating=True)[0]
    return subtract(elementwise("log", e), elementwise("log1p", negative(e)))


@scipy_function("ndtr")
def ndtr(x: Any) -> Any:
    e = promote([x], floating=True)[0]
    return multiply(Fraction(1, 2), elementwise("erfc", negative(divide(e, elementwise("sqrt", as_expr(2.0, e))))))


# -------------------------------------------------------------------- entropies
@scipy_function("entr")
def entr(x: Any) -> Any:
    e = _float(x)
    return where(less(e, 0), -np.inf, negative(xlogy(e, e)))


@scipy_function("rel_entr")
def rel_entr(x: Any, y: Any) -> Any:
    a, b = _floats("rel_entr", x, y)
    both = logical_and(equal(a, 0), equal(b, 0))
    ratio = divide(a, where(both, 1, b))
    return where(logical_or(less(a, 0), less(b, 0)), np.inf, xlogy(a, ratio))


@scipy_function("kl_div")
def kl_div(x: Any, y: Any) -> Any:
    a, b = _floats("kl_div", x, y)
    return add(subtract(rel_entr(a, b), a), b)


# -------------------------------------------------------------------- losses
@scipy_function("huber")
def huber(delta: Any, r: Any) -> Any:
    d, e = _floats("huber", delta, r)
    size = absolute(e)
    inside = divide(square(e), 2)
    loss = where(less_equal(size, d), inside, multiply(d, subtract(size, divide(d, 2))))
    return where(less(d, 0), np.inf, loss)


@scipy_function("pseudo_huber")
def pseudo_huber(delta: Any, r: Any) -> Any:
    d, e = _floats("pseudo_huber", delta, r)
    steep = square(divide(e, where(equal(d, 0), 1, d)))
    # sqrt(1 + s) - 1 without cancelling, times delta squared
    loss = divide(multiply(square(d), steep), add(elementwise("sqrt", add(steep, 1)), 1))
    return where(less(d, 0), np.inf, loss)


# -------------------------------------------------------------------- transformations
@scipy_function("exp10")
def exp10(x: Any) -> Any:
    return power(10.0, _float(x))


@scipy_function("cosm1")
def cosm1(x: Any) -> Any:
    return multiply(-2, square(elementwise("sin", divide(_float(x), 2))))


def _exponent(name: str, lmbda: Any) -> float:
    if isinstance(lmbda, Expr):
        raise UnsupportedError(f"{name}: a symbolic exponent has no rule at 0; write (x**l - 1)/l where it is not 0")
    if np.ndim(lmbda) or np.asarray(lmbda).dtype.kind not in "iuf":
        raise ArgumentError(f"{name}: exponent {lmbda!r}, expected one number")
    return float(lmbda)


@scipy_function("boxcox")
def boxcox(x: Any, lmbda: Any) -> Any:
    """(x**lmbda - 1)/lmbda, log(x) at 0; the exponent is a number."""
    power_, logarithm = _exponent("boxcox", lmbda), elementwise("log", _float(x))
    return divide(elementwise("expm1", multiply(logarithm, power_)), power_) if power_ else logarithm


@scipy_function("boxcox1p")
def boxcox1p(x: Any, lmbda: Any) -> Any:
    power_, logarithm = _exponent("boxcox1p", lmbda), elementwise("log1p", _float(x))
    return divide(elementwise("expm1", multiply(logarithm, power_)), power_) if power_ else logarithm


@scipy_function("inv_boxcox")
def inv_boxcox(y: Any, lmbda: Any) -> Any:
    power_, e = _exponent("inv_boxcox", lmbda), _float(y)
    if not power_:
        return elementwise("exp", e)
    return elementwise("exp", divide(elementwise("log1p", multiply(e, power_)), power_))


scipy_function("softplus")(lambda x: elementwise("softplus", as_expr(x)))

refuse("scipy.special.erfinv scipy.special.erfcinv scipy.special.ndtri scipy.special.erfcx scipy.special.log_ndtr",
       "it has no rule here; erf, erfc and ndtr have")  # fmt: skip
refuse("scipy.special.gammainc scipy.special.gammaincc scipy.special.betainc scipy.special.zeta",
       "it has no rule here; gamma, gammaln, beta, betaln, digamma and polygamma have")  # fmt: skip
refuse("scipy.special.j0 scipy.special.j1 scipy.special.jv scipy.special.y0 scipy.special.y1 scipy.special.yv "
       "scipy.special.i0 scipy.special.i1 scipy.special.iv scipy.special.kv scipy.special.k0 scipy.special.k1",
       "Bessel functions have no derivative rule here")  # fmt: skip
