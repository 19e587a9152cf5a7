"""Elementwise NumPy functions on expressions: arithmetic, special functions, comparisons, choices, rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, UnsupportedError, integer
from symdiff.frontend.building import Dtype, common_dtype, dtype_name, seen_dtype, weak_dtype
from symdiff.frontend.expr import (
    as_expr,
    broadcast_exprs,
    broadcast_shape,
    broadcast_to,
    contraction,
    elementwise,
    is_weak,
    promote,
)
from symdiff.frontend.registry import numpy_function, own_function, refuse, scipy_function
from symdiff.ir.graph import Value


# -------------------------------------------------------------------- arithmetic
@numpy_function("add")
def add(x: Any, y: Any) -> Any:
    a, b = broadcast_exprs(promote([x, y]), "add")
    return a.apply("or" if a.value.type.dtype == "bool" else "add", a, b)


@numpy_function("subtract")
def subtract(x: Any, y: Any) -> Any:
    a, b = broadcast_exprs(promote([x, y]), "subtract")
    if a.value.type.dtype == "bool":
        raise DtypeError("subtract: NumPy does not subtract booleans; use x ^ y, or cast with x.astype(float)")
    return a.apply("sub", a, b)


@numpy_function("multiply")
def multiply(x: Any, y: Any) -> Any:
    a, b = promote([x, y])
    op = "and" if a.value.type.dtype == "bool" else "mul"
    if a.value.type.shape == b.value.type.shape:
        return a.apply(op, a, b)
    shape = broadcast_shape([a.value.type.shape, b.value.type.shape], "multiply")
    if op == "and" or a.value.op.name == "const" or b.value.op.name == "const":
        return a.apply(op, broadcast_to(a, shape), broadcast_to(b, shape))
    rank = len(shape)
    words = [range(rank - e.ndim, rank) for e in (a, b)]
    return contraction([a, b], words, range(rank), where="multiply")


@numpy_function("divide", "true_divide")
def divide(x: Any, y: Any) -> Any:
    return elementwise("div", x, y, where="divide")


@numpy_function("negative")
def negative(x: Any) -> Any:
    e = as_expr(x)
    if e.dtype == "bool":
        raise DtypeError("negative: NumPy does not negate booleans; use ~x")
    return e.apply("neg", e)


@numpy_function("positive", "conj", "conjugate", "real", "copy", "real_if_close", "asfarray")
def positive(x: Any) -> Any:
    return as_expr(x)


@numpy_function("power", "pow")
def power(x: Any, y: Any) -> Any:
    """Integer bases take Python integers as exponents; everything else is computed in floats, as in NumPy."""
    base, exponent = promote([x, y])
    if base.dtype in ("i64", "bool"):
        number = exponent.value.attr("value") if exponent.value.op.name == "const" else None
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 64:
            raise UnsupportedError(
                "power: an integer base takes an integer number 0..64 as exponent; use x.astype(float) ** y"
            )
        base, like = broadcast_exprs([base, exponent], "power")
        return _integer_power(base, like, number)
    if _fixed_exponents(exponent.value):
        # x**0 is 1 whatever x is; the derivative's 0 * x**-1 would be NaN at x = 0.
        zero = equal(exponent, 0)
        return where(zero, 1, elementwise("pow", base, where(zero, 1, exponent), where="power"))
    return elementwise("pow", base, exponent, where="power")


def _fixed_exponents(exponent: Value) -> bool:
    """Whether exponents are several written numbers (or running ones) with a zero among them."""
    while exponent.op.name in ("cast", "contract", "reshape", "slice") and len(exponent.args) == 1:
        exponent = exponent.args[0]
    if exponent.op.name == "array":
        return bool(np.any(exponent.attr("value").array == 0))
    return exponent.op.name == "iota"


def _integer_power(base: Any, like: Any, exponent: int) -> Any:
    result = as_expr(np.int64(1))
    square = base
    while exponent:
        if exponent & 1:
            result = multiply(result, square)
        square = multiply(square, square) if exponent > 1 else square
        exponent >>= 1
    return broadcast_to(result, like.value.type.shape)


@numpy_function("float_power")
def float_power(x: Any, y: Any) -> Any:
    return elementwise("pow", as_expr(x).astype("f64"), y, where="float_power")


@numpy_function("square")
def square(x: Any) -> Any:
    return power(x, 2)


@numpy_function("reciprocal")
def reciprocal(x: Any) -> Any:
    e = as_expr(x)
    if e.dtype in ("i64", "bool"):
        raise DtypeError("reciprocal: NumPy rounds reciprocals of integers to 0; use 1 / x")
    return divide(1, e)


def _integers_too(op: str, where: str) -> Any:
    def function(x: Any, y: Any) -> Any:
        a, b = promote([x, y])
        if a.dtype == "bool":
            a, b = a.astype("i64"), b.astype("i64")
        return elementwise(op, a, b, floating=False, where=where)

    return function


mod = numpy_function("mod", "remainder")(_integers_too("mod", "mod"))
floor_divide = numpy_function("floor_divide")(_integers_too("floor_divide", "floor_divide"))


@numpy_function("fmod")
def fmod(x: Any, y: Any) -> Any:
    """The remainder with the sign of x."""
    a, b = broadcast_exprs(promote([x, y]), "fmod")
    size = absolute(b)
    return where(less(a, 0), negative(mod(negative(a), size)), mod(a, size))


@numpy_function("modf")
def modf(x: Any) -> Any:
    """The part behind the point and the part before it, both with the sign of x."""
    e = promote([x], floating=True)[0]
    whole = trunc(e)
    return subtract(e, whole), whole


@numpy_function("ldexp")
def ldexp(x1: Any, x2: Any) -> Any:
    e = promote([x1], floating=True)[0]
    return multiply(e, elementwise("exp2", as_expr(x2).astype(e.dtype)))


@numpy_function("divmod")
def divmod_(x: Any, y: Any) -> Any:
    return floor_divide(x, y), mod(x, y)


# -------------------------------------------------------------------- functions of one argument that are one op
def _unary(op: str) -> Any:
    def function(x: Any) -> Any:
        return elementwise(op, x)

    function.__name__ = op
    return function


for _name in (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "arcsin", "arccos",
    "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh",
):  # fmt: skip
    numpy_function(_name, *(["a" + _name[3:]] if _name.startswith("arc") else []))(_unary(_name))
for _op, _names in (("sigmoid", "expit"), ("erf", "erf"), ("erfc", "erfc"), ("lgamma", "gammaln"), ("digamma", "psi"),
                    ("digamma", "digamma"), ("cbrt", "cbrt"), ("exp2", "exp2"), ("expm1", "expm1"),
                    ("log1p", "log1p")):  # fmt: skip
    scipy_function(_names)(_unary(_op))
for _name in ("sigmoid", "softplus", "relu", "lgamma", "digamma"):
    own_function(_name)(_unary(_name))


@own_function("polygamma")
@scipy_function("polygamma")
def polygamma(n: Any, x: Any) -> Any:
    """The n-th derivative of digamma; n is an integer."""
    if not isinstance(n, (int, np.integer)) or n < 0:
        raise ArgumentError(f"polygamma: order {n!r}, expected an integer of at least 0")
    return elementwise("digamma", x) if n == 0 else elementwise("polygamma", x, order=int(n))


# -------------------------------------------------------------------- functions of two arguments
@numpy_function("arctan2", "atan2")
def arctan2(y: Any, x: Any) -> Any:
    return elementwise("arctan2", y, x)


@numpy_function("hypot")
def hypot(x: Any, y: Any) -> Any:
    return elementwise("hypot", x, y)


@numpy_function("maximum")
def maximum(x: Any, y: Any) -> Any:
    return elementwise("maximum", x, y, floating=False)


@numpy_function("minimum")
def minimum(x: Any, y: Any) -> Any:
    return elementwise("minimum", x, y, floating=False)


@numpy_function("fmax")
def fmax(x: Any, y: Any) -> Any:
    return where(isnan(y), x, where(isnan(x), y, maximum(x, y)))


@numpy_function("fmin")
def fmin(x: Any, y: Any) -> Any:
    return where(isnan(y), x, where(isnan(x), y, minimum(x, y)))


@numpy_function("logaddexp")
def logaddexp(x: Any, y: Any) -> Any:
    return elementwise("logaddexp", x, y)


@numpy_function("logaddexp2")
def logaddexp2(x: Any, y: Any) -> Any:
    a, b = promote([x, y], floating=True)
    two = elementwise("log", as_expr(2.0, a))
    return divide(logaddexp(multiply(a, two), multiply(b, two)), two)


# -------------------------------------------------------------------- angles
@numpy_function("deg2rad", "radians")
def deg2rad(x: Any) -> Any:
    return multiply(promote([x], floating=True)[0], divide(np.pi, as_expr(180.0)).astype(_float_of(x)))


@numpy_function("rad2deg", "degrees")
def rad2deg(x: Any) -> Any:
    return multiply(promote([x], floating=True)[0], divide(180.0, as_expr(np.pi)).astype(_float_of(x)))


def _float_of(x: Any) -> Any:
    return promote([x], floating=True)[0].dtype


# -------------------------------------------------------------------- sign, rounding
@numpy_function("absolute", "abs")
def absolute(x: Any) -> Any:
    e = as_expr(x)
    return e if e.dtype == "bool" else e.apply("abs", e)


@numpy_function("sign")
def sign(x: Any) -> Any:
    e = as_expr(x)
    if e.dtype == "bool":
        raise DtypeError("sign: NumPy gives booleans no sign; use x.astype(float)")
    return e.apply("sign", e)


@numpy_function("fabs")
def fabs(x: Any) -> Any:
    return elementwise("abs", x)


def _rounding(op: str) -> Any:
    def function(x: Any) -> Any:
        e = as_expr(x)
        return e if e.dtype in ("i64", "bool") else e.apply(op, e)

    return function


floor = numpy_function("floor")(_rounding("floor"))
ceil = numpy_function("ceil")(_rounding("ceil"))
trunc = numpy_function("trunc", "fix")(_rounding("trunc"))


@numpy_function("rint")
def rint(x: Any) -> Any:
    return elementwise("round", x)


@numpy_function("round", "around")
def round_(x: Any, decimals: int = 0) -> Any:
    e = as_expr(x)
    if e.dtype in ("i64", "bool"):
        if decimals < 0:
            raise UnsupportedError("round: integers to negative decimals; use x // 10**k * 10**k")
        return e
    if decimals == 0:
        return e.apply("round", e)
    if decimals > 0:
        return divide(rint(multiply(e, 10**decimals)), 10**decimals)
    return multiply(rint(divide(e, 10**-decimals)), 10**-decimals)


@numpy_function("heaviside")
def heaviside(x: Any, at_zero: Any) -> Any:
    a, b = broadcast_exprs(promote([x, at_zero], floating=True), "heaviside")
    return where(equal(a, 0), b, divide(add(sign(a), 1), 2))


@numpy_function("clip")
def clip(a: Any, a_min: Any = None, a_max: Any = None, min: Any = None, max: Any = None) -> Any:
    """At the ends the derivative is 1; a missing bound is infinite."""
    low = min if a_min is None else a_min
    high = max if a_max is None else a_max
    bounds = [b for b in (low, high) if b is not None]
    x = promote([a, *bounds])[0]
    if not bounds:
        return x
    if x.dtype in ("i64", "bool"):
        x = x if low is None else maximum(x, low)
        return x if high is None else minimum(x, high)
    return elementwise("clip", x, -np.inf if low is None else low, np.inf if high is None else high)


# -------------------------------------------------------------------- comparisons, logic
def _comparison(op: str, where_: str) -> Any:
    def function(x: Any, y: Any) -> Any:
        return elementwise(op, x, y, floating=False, where=where_)

    return function


less = numpy_function("less")(_comparison("lt", "<"))
less_equal = numpy_function("less_equal")(_comparison("le", "<="))
greater = numpy_function("greater")(_comparison("gt", ">"))
greater_equal = numpy_function("greater_equal")(_comparison("ge", ">="))
equal = numpy_function("equal")(_comparison("eq", "=="))
not_equal = numpy_function("not_equal")(_comparison("ne", "!="))


def as_bool(x: Any) -> Any:
    """True where not zero."""
    e = as_expr(x)
    return e if e.dtype == "bool" else not_equal(e, 0)


def _logic(op: str, numbers: bool, name: str) -> Any:
    def function(x: Any, y: Any) -> Any:
        exprs = [as_bool(x), as_bool(y)] if numbers else [_boolean(name, x), _boolean(name, y)]
        a, b = broadcast_exprs(exprs, name)
        return a.apply(op, a, b)

    return function


def _boolean(name: str, x: Any) -> Any:
    e = as_expr(x)
    if e.dtype != "bool":
        raise DtypeError(f"{name}: dtype {e.dtype}; bit operations are defined for booleans only, use np.logical_*")
    return e


logical_and = numpy_function("logical_and")(_logic("and", True, "logical_and"))
logical_or = numpy_function("logical_or")(_logic("or", True, "logical_or"))
logical_xor = numpy_function("logical_xor")(_logic("xor", True, "logical_xor"))
numpy_function("bitwise_and")(_logic("and", False, "&"))
numpy_function("bitwise_or")(_logic("or", False, "|"))
numpy_function("bitwise_xor")(_logic("xor", False, "^"))


@numpy_function("logical_not")
def logical_not(x: Any) -> Any:
    e = as_bool(x)
    return e.apply("not", e)


@numpy_function("invert", "bitwise_not", "bitwise_invert")
def invert(x: Any) -> Any:
    return logical_not(_boolean("~", x))


def _shifted(name: str, op: Any) -> Any:
    """The bits of integers moved by a number of places, which is known: times or over a power of 2."""

    def function(x1: Any, x2: Any) -> Any:
        e, places = as_expr(x1), integer(x2)
        if e.dtype != "i64":
            raise DtypeError(f"{name}: dtype {e.dtype}, expected integers")
        if places is None or not 0 <= places < 63:
            raise ArgumentError(f"{name}: by {x2!r} places, expected a number from 0 to 62; use x * 2**k, x // 2**k")
        return op(e, 2**places)

    return function


left_shift = numpy_function("left_shift", "bitwise_left_shift")(_shifted("<<", multiply))
right_shift = numpy_function("right_shift", "bitwise_right_shift")(_shifted(">>", floor_divide))


@numpy_function("isnan")
def isnan(x: Any) -> Any:
    e = as_expr(x)
    return not_equal(e, e)


@numpy_function("isinf")
def isinf(x: Any) -> Any:
    return equal(fabs(x), np.inf)


@numpy_function("isfinite")
def isfinite(x: Any) -> Any:
    return less(fabs(x), np.inf)


@numpy_function("isposinf")
def isposinf(x: Any) -> Any:
    return equal(x, np.inf)


@numpy_function("isneginf")
def isneginf(x: Any) -> Any:
    return equal(x, -np.inf)


@numpy_function("isclose")
def isclose(a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08) -> Any:
    x, y = broadcast_exprs(promote([a, b], floating=True), "isclose")
    near = less_equal(fabs(subtract(x, y)), add(multiply(fabs(y), rtol), atol))
    return logical_or(equal(x, y), logical_and(near, isfinite(y)))


# -------------------------------------------------------------------- choices
@own_function("where")
@numpy_function("where")
def where(condition: Any, *branches: Any) -> Any:
    """`a` where the condition holds, `b` elsewhere; the branch not taken has derivative 0 whatever its value."""
    if len(branches) != 2:
        raise UnsupportedError("np.where(condition) has a size that depends on values; use np.where(condition, a, b)")
    a, b = promote(branches)
    c, a, b = broadcast_exprs([as_bool(condition), a, b], "where")
    return c.apply("select", c, a, b)


@numpy_function("select")
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ArgumentError(f"select: {len(condlist)} conditions for {len(choicelist)} choices, expected equal numbers")
    *choices, result = promote([*choicelist, default])
    for condition, choice in zip(reversed(list(condlist)), reversed(choices), strict=True):
        result = where(condition, choice, result)
    return result


@own_function("astype")
@numpy_function("astype")
def astype(x: Any, dtype: Any) -> Any:
    return as_expr(x).astype(dtype)


@numpy_function("result_type")
def result_type(*operands: Any) -> Any:
    dtype: str | None = None
    for o in operands:
        if not is_weak(o):
            name = dtype_name(o if isinstance(o, (str, type, np.dtype, Dtype)) else as_expr(o).dtype)
            dtype = name if dtype is None else common_dtype(dtype, name)
    for o in operands:
        if is_weak(o):
            dtype = weak_dtype(dtype, o)
    return seen_dtype(dtype or "f64")


def outer_of(ufunc: np.ufunc, a: Any, b: Any) -> Any:
    """`ufunc.outer`: every entry of a with every entry of b."""
    x, y = as_expr(a), as_expr(b)
    lifted = x[(..., *(None,) * y.ndim)]
    return ufunc(lifted, y)


own_function("ufunc.outer")(outer_of)

refuse("copysign signbit nextafter spacing frexp", "use np.sign, np.abs and np.where")
refuse("sinc", "write np.where(x == 0, 1, np.sin(np.pi*x)/(np.pi*x)) where a second derivative at 0 is not needed")
refuse("gcd lcm bitwise_count packbits unpackbits", "integers only; compute it on the array")
refuse("angle", "complex numbers are not supported; use np.arctan2(y, x)")
refuse("piecewise", "use np.where or np.select")
refuse("i0", "Bessel functions have no derivative rule here")
refuse("unwrap", "use np.arctan2")
