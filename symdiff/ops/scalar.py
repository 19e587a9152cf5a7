"""Smooth elementwise functions: arithmetic, exponentials, trigonometry, special functions.

Each partial derivative may use the result `y`. Formulas of special functions: DLMF 5 (gamma), 7 (error functions).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from symdiff.errors import ArgumentError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.graph import Value
from symdiff.ir.op import Attrs, Op, Partials, Sample
from symdiff.ir.types import TensorType
from symdiff.later import later
from symdiff.ops.helpers import FLOATS, NUMBERS, choose, elementwise, no_values, same_type

special = later("scipy.special")

Args = tuple[Value, ...]


# -------------------------------------------------------------------- folding of exact constants
def _number(value: Value) -> int | Fraction | None:
    """The exact number that fills a constant, if it is one."""
    if value.op.name != "const" or value.type.dtype == "bool":
        return None
    number = value.attr("value")
    return number if isinstance(number, (int, Fraction)) else None


Number: TypeAlias = "int | Fraction | None"


def _with_constants(
    fold: Callable[[Builder, Value, Value, Number, Number], Value | None]
) -> Callable[[Builder, Args, Attrs], Value | None]:
    """A fold of two operands that fit and one of which is a constant; it gets their exact numbers too."""

    def folded(builder: Builder, args: Args, attrs: Attrs) -> Value | None:
        a, b = args
        if a.op.name != "const" and b.op.name != "const":
            return None
        if a.type.shape != b.type.shape or a.type.dtype != b.type.dtype:  # folding comes before the type rule
            return None
        return fold(builder, a, b, _number(a), _number(b))

    return folded


def _filled(builder: Builder, like: Value, number: Any) -> Value:
    return builder.const(number, like.type.shape, like.type.dtype)


@_with_constants
def _fold_add(builder: Builder, a: Value, b: Value, na: Number, nb: Number) -> Value | None:
    if na is not None and nb is not None:
        return _filled(builder, a, na + nb)
    return b if na == 0 else a if nb == 0 else None


@_with_constants
def _fold_sub(builder: Builder, a: Value, b: Value, na: Number, nb: Number) -> Value | None:
    if na is not None and nb is not None:
        return _filled(builder, a, na - nb)
    if na == 0:
        return builder.make(neg, (b,))
    return a if nb == 0 else None


@_with_constants
def _fold_mul(builder: Builder, a: Value, b: Value, na: Number, nb: Number) -> Value | None:
    if na is not None and nb is not None:
        return _filled(builder, a, na * nb)
    if na == 0 or nb == 0:
        return a if na == 0 else b
    return b if na == 1 else a if nb == 1 else None


@_with_constants
def _fold_div(builder: Builder, a: Value, b: Value, na: Number, nb: Number) -> Value | None:
    if na is not None and nb is not None and nb != 0:
        return _filled(builder, a, Fraction(na) / nb)
    return a if nb == 1 else None


def _fold_neg(builder: Builder, args: Args, attrs: Attrs) -> Value | None:
    number = _number(args[0])
    return None if number is None else _filled(builder, args[0], -number)


@_with_constants
def _fold_pow(builder: Builder, a: Value, b: Value, na: Number, nb: Number) -> Value | None:
    if nb == 1:
        return a
    if nb == 0:
        return _filled(builder, a, 1)
    if na is not None and isinstance(nb, int) and abs(nb) <= 64 and (na != 0 or nb > 0):
        return _filled(builder, a, Fraction(na) ** nb)
    return None


# -------------------------------------------------------------------- arithmetic
_ALL = (-3.0, 3.0)
_POSITIVE = (0.1, 4.0)
_NONZERO = (0.3, 3.0)

add = elementwise("add", np.add, lambda z, x, y: (1, 1), latex="{0} + {1}", intervals=(_ALL, _ALL),
                  cost="add", allowed=NUMBERS, fold=_fold_add)  # fmt: skip
sub = elementwise("sub", np.subtract, lambda z, x, y: (1, -1), latex="{0} - {1}", intervals=(_ALL, _ALL),
                  cost="add", allowed=NUMBERS, fold=_fold_sub)  # fmt: skip
mul = elementwise("mul", np.multiply, lambda z, x, y: (y, x), latex=r"{0} \odot {1}", intervals=(_ALL, _ALL),
                  cost="multiply", allowed=NUMBERS, fold=_fold_mul)  # fmt: skip
div = elementwise("div", np.divide, lambda z, x, y: (1 / y, -z / y), latex=r"\frac{{{0}}}{{{1}}}",
                  intervals=(_ALL, _NONZERO), cost="divide", fold=_fold_div)  # fmt: skip
neg = elementwise("neg", np.negative, lambda y, x: (-1,), latex="-{0}", intervals=(_ALL,), cost="add",
                  allowed=NUMBERS, fold=_fold_neg)  # fmt: skip


def _pow_partials(z: Handle, x: Handle, y: Handle) -> tuple[Handle, Handle]:
    # At x = 0 < y the derivative in y is 0, the limit of x^y log x.
    zero = x.op("eq", 0)
    return y * x ** (y - 1), z * log(choose(zero, 1, x))


def _pow_dead(z: Handle, x: Handle, y: Handle) -> tuple[Handle | None, None]:
    # x^0 is 1 for every x, so its derivative is 0 at x = 0 too, where y x^(y - 1) would be 0 * inf. At other x the
    # formula is kept, for it has derivatives in y.
    return None if y.value.op.name == "const" else y.op("eq", 0).op("and", x.op("eq", 0)), None


power = elementwise("pow", np.power, _pow_partials, dead=_pow_dead, latex="{0}^{{{1}}}",
                    intervals=(_POSITIVE, _ALL), fold=_fold_pow,
                    doc="x**y; the derivative in y at x = 0 is 0, and so is the derivative of x**0")  # fmt: skip

# -------------------------------------------------------------------- exponentials and logarithms
exp = elementwise("exp", np.exp, lambda y, x: (y,), latex=r"\exp {0}", intervals=(_ALL,))
exp2 = elementwise("exp2", np.exp2, lambda y, x: (y * log(x.const(2)),), latex="2^{{{0}}}", intervals=(_ALL,))
expm1 = elementwise("expm1", np.expm1, lambda y, x: (y + 1,), latex=r"\operatorname{{expm1}} {0}", intervals=(_ALL,))
log = elementwise("log", np.log, lambda y, x: (1 / x,), latex=r"\log {0}", intervals=(_POSITIVE,))
log2 = elementwise("log2", np.log2, lambda y, x: (1 / (x * log(x.const(2))),), latex=r"\log_2 {0}",
                   intervals=(_POSITIVE,))  # fmt: skip
log10 = elementwise("log10", np.log10, lambda y, x: (1 / (x * log(x.const(10))),), latex=r"\log_{{10}} {0}",
                    intervals=(_POSITIVE,))  # fmt: skip
log1p = elementwise("log1p", np.log1p, lambda y, x: (1 / (1 + x),), latex=r"\log(1 + {0})", intervals=((-0.8, 3.0),))
sqrt = elementwise("sqrt", np.sqrt, lambda y, x: (1 / (2 * y),), latex=r"\sqrt{{{0}}}", intervals=(_POSITIVE,))
cbrt = elementwise("cbrt", np.cbrt, lambda y, x: (1 / (3 * y * y),), latex=r"\sqrt[3]{{{0}}}", intervals=(_NONZERO,))

# -------------------------------------------------------------------- trigonometric and hyperbolic
sin = elementwise("sin", np.sin, lambda y, x: (cos(x),), latex=r"\sin {0}", intervals=(_ALL,))
cos = elementwise("cos", np.cos, lambda y, x: (-sin(x),), latex=r"\cos {0}", intervals=(_ALL,))
tan = elementwise("tan", np.tan, lambda y, x: (1 + y * y,), latex=r"\tan {0}", intervals=((-1.3, 1.3),))
arcsin = elementwise("arcsin", np.arcsin, lambda y, x: (1 / sqrt(1 - x * x),), latex=r"\arcsin {0}",
                     intervals=((-0.9, 0.9),))  # fmt: skip
arccos = elementwise("arccos", np.arccos, lambda y, x: (-1 / sqrt(1 - x * x),), latex=r"\arccos {0}",
                     intervals=((-0.9, 0.9),))  # fmt: skip
arctan = elementwise("arctan", np.arctan, lambda y, x: (1 / (1 + x * x),), latex=r"\arctan {0}", intervals=(_ALL,))
sinh = elementwise("sinh", np.sinh, lambda y, x: (cosh(x),), latex=r"\sinh {0}", intervals=(_ALL,))
cosh = elementwise("cosh", np.cosh, lambda y, x: (sinh(x),), latex=r"\cosh {0}", intervals=(_ALL,))
tanh = elementwise("tanh", np.tanh, lambda y, x: (1 - y * y,), latex=r"\tanh {0}", intervals=(_ALL,))
arcsinh = elementwise("arcsinh", np.arcsinh, lambda y, x: (1 / sqrt(x * x + 1),),
                      latex=r"\operatorname{{arsinh}} {0}", intervals=(_ALL,))  # fmt: skip
arccosh = elementwise("arccosh", np.arccosh, lambda y, x: (1 / (sqrt(x - 1) * sqrt(x + 1)),),
                      latex=r"\operatorname{{arcosh}} {0}", intervals=((1.2, 4.0),))  # fmt: skip
arctanh = elementwise("arctanh", np.arctanh, lambda y, x: (1 / (1 - x * x),),
                      latex=r"\operatorname{{artanh}} {0}", intervals=((-0.9, 0.9),))  # fmt: skip
arctan2 = elementwise("arctan2", np.arctan2, lambda z, y, x: (x / (x * x + y * y), -y / (x * x + y * y)),
                      latex=r"\operatorname{{atan2}}({0}, {1})", intervals=(_NONZERO, _ALL))  # fmt: skip
hypot = elementwise("hypot", np.hypot, lambda z, x, y: (x / z, y / z), latex=r"\operatorname{{hypot}}({0}, {1})",
                    intervals=(_NONZERO, _ALL))  # fmt: skip


# -------------------------------------------------------------------- neural and special functions
def _sigmoid(x: Any) -> Any:
    # scipy's expit is stable at both ends but takes no complex numbers, which the complex step needs.
    return 1 / (1 + np.exp(-x)) if np.iscomplexobj(x) else special.expit(x)


def _softplus(x: Any) -> Any:
    if np.iscomplexobj(x):
        return np.where(np.real(x) > 0, x + np.log(1 + np.exp(-x)), np.log(1 + np.exp(x)))
    return np.logaddexp(x, np.zeros((), dtype=np.asarray(x).dtype))


def _logaddexp(x: Any, y: Any) -> Any:
    # NumPy's takes no complex numbers, which the complex step needs.
    if np.iscomplexobj(x) or np.iscomplexobj(y):
        return np.log(np.exp(x) + np.exp(y))
    return np.logaddexp(x, y)


def _fold_logaddexp(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    for zero, other in (args, args[::-1]):
        if zero.op.name == "const" and zero.attr("value") == 0:
            return builder.make(softplus, (other,))
    return None


def _two_over_root_pi(x: Handle) -> Handle:
    return 2 / sqrt(x.const("pi"))


sigmoid = elementwise("sigmoid", _sigmoid, lambda y, x: (y * (1 - y),), latex=r"\sigma({0})", intervals=(_ALL,))
softplus = elementwise("softplus", _softplus, lambda y, x: (sigmoid(x),), latex=r"\operatorname{{softplus}}({0})",
                       intervals=(_ALL,), doc="log(1 + exp(x)), stable at both ends")  # fmt: skip
logaddexp = elementwise(
    "logaddexp", _logaddexp, lambda z, x, y: (sigmoid(x - y), sigmoid(y - x)),
    latex=r"\log(\exp({0}) + \exp({1}))", intervals=(_ALL, _ALL), fold=_fold_logaddexp,
    doc="log(exp(x) + exp(y)), stable at both ends",
)  # fmt: skip
erf = elementwise("erf", lambda x: special.erf(x), lambda y, x: (_two_over_root_pi(x) * exp(-(x * x)),),
                  latex=r"\operatorname{{erf}} {0}", intervals=(_ALL,))  # fmt: skip
erfc = elementwise("erfc", lambda x: special.erfc(x), lambda y, x: (-_two_over_root_pi(x) * exp(-(x * x)),),
                   latex=r"\operatorname{{erfc}} {0}", intervals=(_ALL,))  # fmt: skip
lgamma = elementwise("lgamma", lambda x: special.gammaln(x), lambda y, x: (digamma(x),), latex=r"\log\Gamma({0})",
                     intervals=(_POSITIVE,), doc="log |gamma(x)|")  # fmt: skip
digamma = elementwise("digamma", lambda x: special.psi(x), lambda y, x: (polygamma(x, order=1),), latex=r"\psi({0})",
                      intervals=(_POSITIVE,))  # fmt: skip


def _polygamma_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    order = attrs["order"]
    if not isinstance(order, int) or order < 1:
        raise ArgumentError(f"polygamma: order {order}, expected an integer of at least 1 (order 0 is digamma)")
    return same_type("polygamma", FLOATS)(types, attrs)


def _polygamma(x: Any, order: int) -> Any:
    return np.asarray(special.polygamma(order, x), dtype=np.asarray(x).dtype)


polygamma = Op(
    "polygamma",
    _polygamma_infer,
    _polygamma,
    Partials(lambda y, x, order: (polygamma(x, order=order + 1),)),
    elementwise=True,
    arity=1,
    latex=r"\psi^{{({order})}}({0})",
    cost="transcendental",
    sample=Sample(draw=lambda rng: [((rng.uniform(0.4, 4.0, (5,)),), {"order": k}) for k in (1, 2, 3)]),
    doc="the derivative of digamma of the given order",
)


# -------------------------------------------------------------------- undefined functions, elementwise
def _apply_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    wrt = attrs["wrt"]
    if any(not 0 <= i < len(types) for i in wrt):
        raise ArgumentError(f"{attrs['name']}: derivative in argument {wrt}, expected 0..{len(types) - 1}")
    return same_type(attrs["name"], FLOATS)(types, attrs)


def _apply_partials(y: Handle, *xs: Handle, name: str, wrt: tuple[int, ...]) -> tuple[Handle, ...]:
    return tuple(apply(*xs, name=name, wrt=tuple(sorted((*wrt, i)))) for i in range(len(xs)))


apply = Op(
    "apply",
    _apply_infer,
    no_values,
    Partials(_apply_partials),
    elementwise=True,
    cost="special",
    doc="an undefined scalar function, elementwise; wrt lists the arguments it is differentiated in, sorted",
)

OPS = (
    add, sub, mul, div, neg, power, exp, exp2, expm1, log, log2, log10, log1p, sqrt, cbrt, sin, cos, tan, arcsin,
    arccos, arctan, sinh, cosh, tanh, arcsinh, arccosh, arctanh, arctan2, hypot, sigmoid, softplus, logaddexp, erf,
    erfc, lgamma, digamma, polygamma, apply,
)  # fmt: skip
