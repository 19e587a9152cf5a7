"""Comparisons, logic, selection and rounding: every op with a kink or a jump, each with its convention.

A partial of 0 from rounding is a definition, not an omission: floor, ceil, round, trunc and sign are constant between
their jumps. Comparisons and logic return booleans, through which no derivative flows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from symdiff.errors import DtypeError
from symdiff.ir.builder import Builder, Handle, require_same_shape
from symdiff.ir.graph import Value
from symdiff.ir.op import Attrs, Kink, NoDerivative, Op, Partials, Rules, Sample
from symdiff.ir.types import DTYPES, NUMPY_TYPES, TensorType
from symdiff.ops.helpers import ANY, FLOATS, NUMBERS, choose, elementwise, same_type

_ALL = (-3.0, 3.0)


# -------------------------------------------------------------------- comparisons and logic
def _to_bool(name: str, allowed: frozenset[str]) -> Callable[[Sequence[TensorType], Attrs], TensorType]:
    check = same_type(name, allowed)

    def infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
        return TensorType("bool", check(types, attrs).shape)

    return infer


def _real(x: Any) -> Any:
    """Comparisons look at real parts, so that a complex step follows the branch of the real point."""
    return np.real(x)


def _comparison(name: str, compare: Callable[[Any, Any], Any], latex: str) -> Op:
    return Op(name, _to_bool(name, ANY), lambda x, y: compare(_real(x), _real(y)),
              NoDerivative(f"{name} returns booleans"), elementwise=True, arity=2, latex=latex,
              sample=Sample(intervals=(_ALL, _ALL)), cost="compare")  # fmt: skip


lt = _comparison("lt", np.less, "{0} < {1}")
le = _comparison("le", np.less_equal, r"{0} \le {1}")
gt = _comparison("gt", np.greater, "{0} > {1}")
ge = _comparison("ge", np.greater_equal, r"{0} \ge {1}")
eq = _comparison("eq", np.equal, "{0} = {1}")
ne = _comparison("ne", np.not_equal, r"{0} \ne {1}")


def _logical(name: str, evaluate: Callable[..., Any], latex: str, arity: int) -> Op:
    return Op(name, _to_bool(name, frozenset({"bool"})), evaluate, NoDerivative(f"{name} returns booleans"),
              elementwise=True, arity=arity, latex=latex, cost="compare",
              sample=Sample(draw=lambda rng: [(tuple(rng.random((5,)) < 0.5 for _ in range(arity)), {})]))  # fmt: skip


logical_and = _logical("and", np.logical_and, r"{0} \wedge {1}", 2)
logical_or = _logical("or", np.logical_or, r"{0} \vee {1}", 2)
logical_xor = _logical("xor", np.logical_xor, r"{0} \oplus {1}", 2)
logical_not = _logical("not", np.logical_not, r"\neg {0}", 1)


# -------------------------------------------------------------------- select
def _select_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    condition, a, b = types
    if condition.dtype != "bool":
        raise DtypeError(f"select: the condition has dtype {condition.dtype}, expected bool")
    require_same_shape("select", types)
    if a.dtype != b.dtype:
        raise DtypeError(f"select: branches have dtypes {a.dtype} and {b.dtype}, expected one")
    return TensorType(a.dtype, a.shape)


def _fold_select(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    condition, a, b = args
    if a is b:
        return a
    if condition.op.name == "const":
        return a if condition.attr("value") else b
    if condition.op.name == "not":
        return builder.make(select, (condition.args[0], b, a))
    return None


select = Op(
    "select", _select_infer, lambda c, a, b: np.where(c, a, b),
    Partials(lambda y, c, a, b: (None, 1, 1), dead=lambda y, c, a, b: (None, c.op("not"), c)),
    elementwise=True, arity=3, latex=r"{1} \text{{ if }} {0} \text{{ else }} {2}", cost="compare", fold=_fold_select,
    sample=Sample(draw=lambda rng: [((rng.random((5,)) < 0.5, rng.normal(size=5), rng.normal(size=5)), {})]),
    doc="a where the condition is true, b elsewhere; the branch not taken has derivative 0 whatever its value",
)  # fmt: skip


# -------------------------------------------------------------------- max, min, abs, relu, clip
# Every rule is made from what is chosen at the kink; the declared choice is one of them.
_TIES = {"even": Fraction(1, 2), "first": Fraction(1), "second": Fraction(0)}
_EVEN = "half to each, the derivative's mean over both sides"


def _extreme(beaten: str, share: Fraction) -> Partials:
    """The rule of max and min: what goes to either operand that is not beaten; the first gets `share` of a tie.

    The two partials are written differently, for a closed form that gives ties to one side must not give them to both:
    operands may be equal on more than isolated points, max(A, A^T).
    """
    weakly = {"lt": "le", "gt": "ge"}[beaten]  # a side that gets nothing of a tie is dead there too
    over, under = weakly if share == 0 else beaten, weakly if share == 1 else beaten

    def partials(z: Handle, x: Handle, y: Handle) -> tuple[Handle | int, ...]:
        if share in (0, 1):
            return 1, 1
        return choose(x.op("eq", y), x.const(share), 1), choose(x.op("ne", y), x.const(1), x.const(1 - share))

    def dead(z: Handle, x: Handle, y: Handle) -> tuple[Handle, ...]:
        return x.op(over, y), y.op(under, x)

    return Partials(partials, dead)


def _fold_extreme(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    return args[0] if args[0] is args[1] else None


def _extreme_op(name: str, evaluate: Callable[..., Any], latex: str, beaten: str) -> Op:
    kink = Kink("x = y", _EVEN, lambda share: _extreme(beaten, share), _TIES, (0, 1))
    return Op(name, same_type(name, ANY), evaluate, _extreme(beaten, _TIES["even"]), elementwise=True, arity=2,
              latex=latex, kink=kink, sample=Sample(intervals=(_ALL, _ALL)), cost="compare", fold=_fold_extreme,
              doc="the first operand's share of a tie can be chosen")  # fmt: skip


maximum = _extreme_op("maximum", np.maximum, r"\max({0}, {1})", "lt")
minimum = _extreme_op("minimum", np.minimum, r"\min({0}, {1})", "gt")


def _abs(x: Any) -> Any:
    # The complex step needs the analytic continuation of |x|, not the modulus.
    return np.where(np.real(x) < 0, -x, x) if np.iscomplexobj(x) else np.abs(x)


def _abs_rule(slope: Fraction) -> Partials:
    return Partials(lambda y, x: (sign(x) if slope == 0 else choose(x.op("eq", 0), slope, sign(x)),))


def _relu_rule(slope: Fraction) -> Partials:
    return Partials(lambda y, x: (1 if slope in (0, 1) else choose(x.op("eq", 0), slope, x.const(1)),),
                    dead=lambda y, x: (x.op("le" if slope == 0 else "lt", 0),))  # fmt: skip


def _clip_rule(slope: Fraction) -> Partials:
    """x has `slope` at the ends, and the end that x stands on the rest."""

    def partials(y: Handle, x: Handle, low: Handle, high: Handle) -> tuple[Handle | int, ...]:
        if slope in (0, 1):
            return 1, 1, 1
        ends = x.op("eq", low).op("or", x.op("eq", high))
        rest = 1 - slope
        one = x.const(1)
        return choose(ends, slope, one), choose(x.op("eq", low), rest, one), choose(x.op("eq", high), rest, one)

    def dead(y: Handle, x: Handle, low: Handle, high: Handle) -> tuple[Handle, ...]:
        out, on = ("le", "ge") if slope == 0 else ("lt", "gt"), ("ge", "le") if slope == 1 else ("gt", "lt")
        return (
            x.op(out[0], low).op("or", x.op(out[1], high)),
            x.op(on[0], low).op("or", high.op("lt", low)),
            x.op(on[1], high).op("and", low.op("le", high)),
        )

    return Partials(partials, dead)


def _kinked(name: str, evaluate: Callable[..., Any], rule: Callable[[Fraction], Partials], declared: int, kink: Kink,
            *, latex: str, allowed: frozenset[str] = FLOATS, intervals: Sequence[tuple[float, float]] = (_ALL,),
            doc: str = "") -> Op:  # fmt: skip
    return Op(name, same_type(name, allowed), evaluate, rule(Fraction(declared)), elementwise=True,
              arity=len(intervals), latex=latex, kink=kink, sample=Sample(intervals=tuple(intervals)), cost="compare",
              doc=doc)  # fmt: skip


absolute = _kinked("abs", _abs, _abs_rule, 0, Kink("x = 0", "0", _abs_rule, between=(-1, 1)),
                   latex=r"\lvert {0} \rvert", allowed=NUMBERS)  # fmt: skip
relu = _kinked("relu", lambda x: np.where(np.real(x) <= 0, 0, x), _relu_rule, 0,
               Kink("x = 0", "0", _relu_rule, between=(0, 1)), latex=r"\operatorname{{relu}}({0})",
               doc="max(x, 0)")  # fmt: skip
clip = _kinked("clip", lambda x, low, high: np.minimum(np.maximum(x, low), high), _clip_rule, 1,
               Kink("x = low or x = high", "1: inside counts the ends", _clip_rule, between=(0, 1)),
               latex=r"\operatorname{{clip}}({0}, {1}, {2})",
               intervals=(_ALL, (-2.0, -0.5), (0.5, 2.0)))  # fmt: skip


# -------------------------------------------------------------------- piecewise constant
def _step(name: str, evaluate: Callable[[Any], Any], latex: str, at: str) -> Op:
    kink = Kink(at, "0: constant between jumps, by definition")
    return elementwise(name, lambda x: evaluate(_real(x)), lambda y, x: (0,), latex=latex, intervals=(_ALL,),
                       cost="compare", allowed=NUMBERS, kink=kink)  # fmt: skip


sign = _step("sign", np.sign, r"\operatorname{{sign}}({0})", "x = 0")
floor = _step("floor", np.floor, r"\lfloor {0} \rfloor", "integers")
ceil = _step("ceil", np.ceil, r"\lceil {0} \rceil", "integers")
rint = _step("round", np.rint, r"\operatorname{{round}}({0})", "half-integers")
trunc = _step("trunc", np.trunc, r"\operatorname{{trunc}}({0})", "integers")


def _mod_partials(z: Handle, x: Handle, y: Handle) -> tuple[Handle | int, ...]:
    return 1, -floor(x / y)


mod = elementwise("mod", np.mod, _mod_partials, latex=r"{0} \bmod {1}", intervals=(_ALL, (0.5, 3.0)), cost="divide",
                  allowed=NUMBERS, kink=Kink("x a multiple of y", "the derivative between jumps"),
                  doc="x - floor(x/y) * y, the sign of y as in NumPy")  # fmt: skip
floor_divide = elementwise("floor_divide", np.floor_divide, lambda z, x, y: (0, 0), latex=r"\lfloor {0} / {1} \rfloor",
                           intervals=(_ALL, (0.5, 3.0)), cost="divide", allowed=NUMBERS,
                           kink=Kink("x a multiple of y", "0: constant between jumps, by definition"))  # fmt: skip

# -------------------------------------------------------------------- cast
def _cast_infer(types: Sequence[TensorType], attrs: Attrs) -> TensorType:
    if attrs["dtype"] not in DTYPES:
        raise DtypeError(f"cast: dtype {attrs['dtype']!r}, expected one of {', '.join(DTYPES)}")
    return TensorType(attrs["dtype"], types[0].shape)


def _cast(x: Any, dtype: str) -> Any:
    if np.iscomplexobj(x) and dtype in FLOATS:
        return x  # a complex step goes through casts between real dtypes
    return np.asarray(x).astype(NUMPY_TYPES[dtype])


def _fold_cast(builder: Builder, args: tuple[Value, ...], attrs: Attrs) -> Value | None:
    if args[0].type.dtype == attrs["dtype"]:
        return args[0]
    if args[0].op.name == "const" and args[0].type.dtype in ("i64", "f32") and attrs["dtype"] in FLOATS:
        return builder.const(args[0].attr("value"), args[0].type.shape, attrs["dtype"])
    return None


def _cast_jvp(y: Handle, xs: tuple[Handle, ...], dxs: tuple[Handle | None, ...], dtype: str) -> Handle | None:
    return dxs[0].op("cast", dtype=dtype) if dxs[0] is not None else None


def _cast_vjp(ct: Handle, y: Handle, x: Handle, dtype: str) -> tuple[Handle | None, ...]:
    return (ct.op("cast", dtype=x.dtype),)


cast = Op(
    "cast", _cast_infer, _cast, Rules(_cast_jvp, _cast_vjp), elementwise=True, arity=1, cost="move", fold=_fold_cast,
    sample=Sample(draw=lambda rng: [((rng.normal(size=4),), {"dtype": d}) for d in ("f64", "f32", "i64", "bool")]),
    doc="change of dtype; floats become integers by truncation, anything non-zero is true",
)  # fmt: skip



OPS = (
    lt, le, gt, ge, eq, ne, logical_and, logical_or, logical_xor, logical_not, select, maximum, minimum, absolute,
    relu, clip, sign, floor, ceil, rint, trunc, mod, floor_divide, cast,
)  # fmt: skip
