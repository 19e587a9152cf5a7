"""What each kind of SymPy node means: its operands, and the handler that makes a value from theirs.

A handler takes the reader (for names), the node and the values of `operands_of(node)`, and gives an expression, an
exact number, a dimension or a truth value. Real arithmetic throughout: complex numbers are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from symdiff.errors import UnsupportedError
from symdiff.frontend.building import BUILDER, exact_number
from symdiff.frontend.expr import Expr, constant, wrap
from symdiff.frontend.registry import FUNCTIONS
from symdiff.ir.dims import Dim, Size, named
from symdiff.later import later

sp = later("sympy")
_applied = later("sympy.matrices.expressions.applyfunc")
Handler = Callable[[Any, Any, "list[Any]"], Any]


# -------------------------------------------------------------------- sizes
def size_of(size: Any) -> Size:
    """A SymPy size as a dimension polynomial."""
    size = sp.sympify(size)
    if size.is_Integer:
        return int(size)
    if size.is_Symbol:
        return named(size.name)
    if not size.is_polynomial(*size.free_symbols):
        raise UnsupportedError(f"from_sympy: size {size}, expected a polynomial in named dimensions")
    total: Size = 0
    denominator = math.lcm(*[int(c.q) for c in sp.Poly(size).coeffs()])
    poly = sp.Poly(size * denominator)
    for powers, coefficient in poly.terms():
        term: Size = int(coefficient)
        for generator, power in zip(poly.gens, powers, strict=True):
            for _ in range(power):
                term = term * named(generator.name)
        total = total + term
    return total if denominator == 1 else total // denominator


# -------------------------------------------------------------------- operands of a node
def children_of(node: Any) -> list[Any]:
    """What a node is made of, matrices entry by entry."""
    if isinstance(node, (sp.MatrixBase, sp.NDimArray)):
        return list(node.flat() if isinstance(node, sp.MatrixBase) else node._array)  # pyright: ignore[reportPrivateUsage]
    return list(node.args)


def operands_of(node: Any) -> list[Any]:
    """The nodes to read before `node`; sums and products are split by sign and into numerator and denominator."""
    if isinstance(node, (sp.MatrixBase, sp.NDimArray)):
        return children_of(node)
    if isinstance(node, (sp.MatAdd, sp.MatMul)):  # SymPy derives these from Add and Mul
        return list(node.args)
    if node.is_Add:
        return [_without_sign(a) for a in node.args]
    if node.is_Mul:
        numerator, denominator = _fraction(node)
        return numerator + denominator
    if node.is_Pow:
        base, exponent = node.args
        if base is sp.E:
            return [exponent]
        return [base] if exponent.is_Rational else [base, exponent]
    if isinstance(node, sp.Piecewise):
        return [part for branch in node.args for part in branch.args]
    if isinstance(node, sp.Subs):
        return [*node.point]
    if isinstance(node, sp.Derivative):
        return [*node.expr.args]
    if isinstance(node, sp.polygamma):
        return [node.args[1]]
    if isinstance(node, _applied.ElementwiseApplyFunction):
        return [node.expr]
    if isinstance(node, (sp.MatrixSymbol, sp.Identity, sp.ZeroMatrix, sp.OneMatrix)):
        return []
    if isinstance(node, sp.BlockMatrix):
        return list(node.blocks.flat())
    if isinstance(node, (sp.matrices.expressions.matexpr.MatrixElement, sp.MatrixSlice)):
        return [node.parent]
    if isinstance(node, sp.MatPow):
        return [node.base]
    if isinstance(node, sp.Indexed):
        return []
    return list(node.args)


def _without_sign(term: Any) -> Any:
    return -term if _negative(term) else term


def _negative(term: Any) -> bool:
    """Whether a term of a sum carries a minus sign as printed."""
    if term.is_Number:
        return bool(term.is_negative)
    return bool(term.is_Mul and term.args[0].is_Number and term.args[0] < 0)


def _fraction(node: Any) -> tuple[list[Any], list[Any]]:
    numerator: list[Any] = []
    denominator: list[Any] = []
    for factor in node.args:
        if factor.is_Pow and factor.args[1].is_Rational and factor.args[1] < 0 and factor.args[0] is not sp.E:
            denominator.append(sp.Pow(factor.args[0], -factor.args[1]))
        elif factor.is_Rational and not factor.is_Integer and factor.p in (1, -1) and len(node.args) > 1:
            # x/2 is written as a quotient, -x/2 as -(x/2).
            numerator.extend([] if factor.p == 1 else [sp.S.NegativeOne])
            denominator.append(sp.Integer(factor.q))
        else:
            numerator.append(factor)
    return numerator, denominator


def handler_of(node: Any) -> Handler:
    handlers = _handlers()
    for kind in type(node).__mro__:
        if kind in handlers:
            return handlers[kind]
    raise UnsupportedError(f"from_sympy: {type(node).__name__} is not supported: {short(node)}")


def short(node: Any) -> str:
    try:
        text = str(node)
    except RecursionError:  # SymPy's printer recurses; the message must still come out
        return "(a deep expression)"
    return text if len(text) <= 80 else text[:77] + "..."


# -------------------------------------------------------------------- handlers
def _number(reader: Any, node: Any, operands: list[Any]) -> Any:
    if node.is_Rational:
        return int(node) if node.is_Integer else Fraction(int(node.p), int(node.q))
    for value, name in _special():
        if node is value:
            return wrap(BUILDER.const(name))
    if node.is_Float:
        if node._prec <= 53:  # pyright: ignore[reportPrivateUsage]
            number = exact_number(float(node))
            return constant(float(node)) if isinstance(number, str) else Fraction(number)
        wide = sp.Rational(str(node))
        return Fraction(int(wide.p), int(wide.q))
    if node is sp.GoldenRatio:
        return (1 + FUNCTIONS["sqrt"](constant(Fraction(5)))) / 2
    raise UnsupportedError(f"from_sympy: the constant {node} is not supported (real numbers only)")


@cache
def _special() -> tuple[tuple[Any, str], ...]:
    return (
        (sp.pi, "pi"), (sp.E, "e"), (sp.EulerGamma, "euler_gamma"), (sp.oo, "inf"), (-sp.oo, "-inf"), (sp.nan, "nan"),
    )  # fmt: skip


def _boolean(reader: Any, node: Any, operands: list[Any]) -> Any:
    return node is sp.true


def _add(reader: Any, node: Any, operands: list[Any]) -> Any:
    total: Any = None
    # Positive terms first: y - x rather than -x + y.
    signed = sorted(zip(map(_negative, node.args), operands, strict=True), key=lambda pair: pair[0])
    for negative, term in signed:
        if total is None:
            total = _call("negative", term) if negative else term
        else:
            total = _call("subtract" if negative else "add", total, term)
    return total


def _product(factors: Iterable[Any]) -> Any:
    total: Any = 1
    for factor in factors:
        total = factor if isinstance(total, int) and total == 1 else _call("multiply", total, factor)
    return total


def _mul(reader: Any, node: Any, operands: list[Any]) -> Any:
    split = len(_fraction(node)[0])
    numerator, denominator = operands[:split], operands[split:]
    negate = bool(numerator) and isinstance(numerator[0], int) and numerator[0] == -1
    value = _product(numerator[1:] if negate else numerator)
    if denominator:
        value = _call("true_divide", value, _product(denominator))
    return _call("negative", value) if negate else value


def _pow(reader: Any, node: Any, operands: list[Any]) -> Any:
    base, exponent = node.args
    if base is sp.E:
        return _call("exp", operands[0])
    if not exponent.is_Rational:
        return _call("power", operands[0], operands[1])
    number = Fraction(int(exponent.p), int(exponent.q))
    value = _power(operands[0], abs(number))
    return _call("true_divide", 1, value) if number < 0 else value


def _power(base: Any, exponent: Fraction) -> Any:
    if exponent == 1:
        return base
    if exponent == Fraction(1, 2):
        return _call("sqrt", base)
    return _call("power", base, int(exponent) if exponent.denominator == 1 else exponent)


def _call(name: str, *operands: Any) -> Any:
    """A registered function; numbers and sizes alone become constants first."""
    if not any(isinstance(o, Expr) for o in operands):
        exprs = [constant(o) for o in operands]
        operands = tuple(e.astype("f64") if e.dtype == "i64" else e for e in exprs)
    return FUNCTIONS[name](*operands)


def _named(name: str) -> Handler:
    return lambda reader, node, operands: _call(name, *operands)


def _reciprocal(name: str) -> Handler:
    return lambda reader, node, operands: _call("true_divide", 1, _call(name, *operands))


def _of_reciprocal(name: str) -> Handler:
    return lambda reader, node, operands: _call(name, _call("true_divide", 1, operands[0]))


def _folded(name: str) -> Handler:
    def handler(reader: Any, node: Any, operands: list[Any]) -> Any:
        total = operands[0]
        for operand in operands[1:]:
            total = _call(name, total, operand)
        return total

    return handler


def _gamma_of(x: Any) -> Any:
    """gamma(x) from log|gamma(x)|: the sign alternates between the poles at 0, -1, -2, ..."""
    x = x if isinstance(x, Expr) else constant(Fraction(x))
    size = _call("exp", _call("gammaln", x))
    if "positive" in x.value.type.facts:
        return size
    alternating = _call("subtract", 1, _call("multiply", 2, _call("mod", _call("floor", x), 2)))
    return _call("multiply", size, FUNCTIONS["where"](_call("greater", x, 0), 1, alternating))


def _gamma(reader: Any, node: Any, operands: list[Any]) -> Any:
    return _gamma_of(operands[0])


def _factorial(reader: Any, node: Any, operands: list[Any]) -> Any:
    return _gamma_of(_call("add", operands[0], 1))


def _beta(reader: Any, node: Any, operands: list[Any]) -> Any:
    a, b = operands
    return _call("true_divide", _call("multiply", _gamma_of(a), _gamma_of(b)), _gamma_of(_call("add", a, b)))


def _polygamma(reader: Any, node: Any, operands: list[Any]) -> Any:
    order = node.args[0]
    if not order.is_Integer or order < 0:
        raise UnsupportedError(f"from_sympy: polygamma of order {order}, expected an integer 0, 1, 2, ...")
    if order == 0:
        return _call("digamma", operands[0])
    x = operands[0] if isinstance(operands[0], Expr) else constant(Fraction(operands[0]))
    return x.apply("polygamma", x, order=int(order))


def _heaviside(reader: Any, node: Any, operands: list[Any]) -> Any:
    x, at_zero = operands
    inner = FUNCTIONS["where"](_call("equal", x, 0), at_zero, 0)
    return FUNCTIONS["where"](_call("greater", x, 0), 1, inner)


def _piecewise(reader: Any, node: Any, operands: list[Any]) -> Any:
    branches = list(zip(operands[0::2], operands[1::2], strict=True))
    value: Any = float("nan")
    for branch, condition in reversed(branches):
        if condition is True:
            value = branch
        elif condition is not False:
            value = FUNCTIONS["where"](condition, branch, value)
    return value


def _ite(reader: Any, node: Any, operands: list[Any]) -> Any:
    condition, a, b = operands
    otherwise = _call("logical_and", _call("logical_not", condition), b)
    return _call("logical_or", _call("logical_and", condition, a), otherwise)


def _undefined(reader: Any, node: Any, operands: list[Any]) -> Any:
    return _apply(node.func.__name__, operands, ())


def _apply(name: str, operands: Sequence[Any], wrt: tuple[int, ...]) -> Any:
    exprs = [o if isinstance(o, Expr) else constant(Fraction(o) if isinstance(o, int) else o) for o in operands]
    return exprs[0].apply("apply", *exprs, name=name, wrt=tuple(sorted(wrt)))


def _derivative(reader: Any, node: Any, operands: list[Any]) -> Any:
    """The derivative of an undefined function in its own arguments, f'(x)."""
    function = node.expr
    if not isinstance(function, sp.core.function.AppliedUndef) or len(set(function.args)) != len(function.args):
        raise UnsupportedError(f"from_sympy: {short(node)} is not carried out; call .doit() on it first")
    return _apply(function.func.__name__, operands, _places(node))


def _places(node: Any) -> tuple[int, ...]:
    places: list[int] = []
    for variable, count in node.variable_count:
        if variable not in node.expr.args or not count.is_Integer:
            raise UnsupportedError(f"from_sympy: {short(node)} is not carried out; call .doit() on it first")
        places += [node.expr.args.index(variable)] * int(count)
    return tuple(places)


def _subs(reader: Any, node: Any, operands: list[Any]) -> Any:
    """f'(g(x)), which SymPy writes Subs(Derivative(f(t), t), t, g(x))."""
    inner = node.expr
    applied = isinstance(inner, sp.Derivative) and isinstance(inner.expr, sp.core.function.AppliedUndef)
    if not applied or set(inner.expr.args) != set(node.variables) or len(inner.expr.args) != len(node.variables):
        raise UnsupportedError(f"from_sympy: {short(node)} is not carried out; call .doit() on it first")
    point = dict(zip(node.variables, operands, strict=True))
    return _apply(inner.expr.func.__name__, [point[a] for a in inner.expr.args], _places(inner))


# -------------------------------------------------------------------- matrices and arrays
def _dense(reader: Any, node: Any, operands: list[Any]) -> Any:
    shape = tuple(int(s) for s in node.shape)
    if not any(isinstance(o, (Expr, Dim)) for o in operands):
        return constant(np.array([float(o) for o in operands]).reshape(shape))
    exprs = [o if isinstance(o, Expr) else constant(o).astype("f64") for o in operands]
    return FUNCTIONS["stack"](exprs).reshape(shape)


def _matmul(reader: Any, node: Any, operands: list[Any]) -> Any:
    scalars: list[Any] = []
    total: Any = None
    for argument, operand in zip(node.args, operands, strict=True):
        if not getattr(argument, "is_Matrix", False):
            scalars.append(operand)
        else:
            total = operand if total is None else _call("matmul", total, operand)
    factor = _product(scalars)
    if isinstance(factor, int) and factor in (1, -1):
        return total if factor == 1 else _call("negative", total)
    return _call("multiply", factor, total)


def _matpow(reader: Any, node: Any, operands: list[Any]) -> Any:
    if not node.exp.is_Integer:
        raise UnsupportedError(f"from_sympy: {short(node)}: a matrix power needs an integer exponent")
    return FUNCTIONS["matrix_power"](operands[0], int(node.exp))


def _filled(number: int) -> Handler:
    name = "ones" if number else "zeros"
    return lambda reader, node, operands: FUNCTIONS[name](tuple(size_of(s) for s in node.shape))


def _element(reader: Any, node: Any, operands: list[Any]) -> Any:
    indices = [node.i, node.j]
    if not all(i.is_Integer for i in indices):
        raise UnsupportedError(f"from_sympy: {short(node)}: an entry needs integer indices")
    return operands[0][int(node.i), int(node.j)]


def _indexed(reader: Any, node: Any, operands: list[Any]) -> Any:
    shape = node.base.shape
    if shape is None or not all(i.is_Integer for i in node.indices):
        raise UnsupportedError(f"from_sympy: {short(node)}: an entry needs integer indices and a base with a shape")
    return reader.indexed_base(node.base, shape)[tuple(int(i) for i in node.indices)]


def _applyfunc(reader: Any, node: Any, operands: list[Any]) -> Any:
    dummy = sp.Symbol("entry_of_the_matrix")
    return reader.nested(node.function(dummy), {dummy.name: operands[0]})


def _blocks(reader: Any, node: Any, operands: list[Any]) -> Any:
    rows, columns = node.blockshape
    strips = [FUNCTIONS["concatenate"](operands[r * columns : (r + 1) * columns], axis=1) for r in range(rows)]
    return strips[0] if rows == 1 else FUNCTIONS["concatenate"](strips, axis=0)


def _transpose(reader: Any, node: Any, operands: list[Any]) -> Any:
    return operands[0].T


def _diagonal(reader: Any, node: Any, operands: list[Any]) -> Any:
    return FUNCTIONS["diagonal"](operands[0])[:, None]


def _diag(reader: Any, node: Any, operands: list[Any]) -> Any:
    (vector,) = operands
    return FUNCTIONS["diag"](vector[:, 0] if size_of(node.args[0].shape[1]) == 1 else vector[0])


@cache
def _handlers() -> dict[Any, Handler]:
    """What answers each kind of node."""
    one_name = {
        "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "arcsin": sp.asin, "arccos": sp.acos, "arctan": sp.atan,
        "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh, "arcsinh": sp.asinh, "arccosh": sp.acosh,
        "arctanh": sp.atanh, "arctan2": sp.atan2, "exp": sp.exp, "log": sp.log, "abs": sp.Abs,
        "sign": sp.sign, "floor": sp.floor, "ceil": sp.ceiling, "erf": sp.erf, "erfc": sp.erfc, "gammaln": sp.loggamma,
        "mod": sp.Mod, "less": sp.Lt, "less_equal": sp.Le, "greater": sp.Gt, "greater_equal": sp.Ge, "equal": sp.Eq,
        "not_equal": sp.Ne, "logical_not": sp.Not, "power": sp.HadamardPower, "trace": sp.Trace,
    }  # fmt: skip
    return {
        sp.Symbol: lambda reader, node, operands: reader.scalar(node),
        sp.MatrixSymbol: lambda reader, node, operands: reader.matrix(node),
        **{kind: _named(name) for name, kind in one_name.items()},
        sp.Inverse: _named("inv"), sp.Determinant: _named("det"),
        sp.sec: _reciprocal("cos"), sp.csc: _reciprocal("sin"), sp.cot: _reciprocal("tan"),
        sp.sech: _reciprocal("cosh"), sp.csch: _reciprocal("sinh"), sp.coth: _reciprocal("tanh"),
        sp.asec: _of_reciprocal("arccos"), sp.acsc: _of_reciprocal("arcsin"), sp.asech: _of_reciprocal("arccosh"),
        sp.acsch: _of_reciprocal("arcsinh"), sp.acoth: _of_reciprocal("arctanh"), sp.acot: _of_reciprocal("arctan"),
        sp.Max: _folded("maximum"), sp.Min: _folded("minimum"), sp.And: _folded("logical_and"),
        sp.Or: _folded("logical_or"), sp.Xor: _folded("logical_xor"), sp.MatAdd: _folded("add"),
        sp.HadamardProduct: _folded("multiply"), sp.KroneckerProduct: _folded("kron"),
        sp.Number: _number, sp.NumberSymbol: _number, sp.core.numbers.NaN: _number,
        sp.logic.boolalg.BooleanTrue: _boolean, sp.logic.boolalg.BooleanFalse: _boolean,
        sp.Add: _add, sp.Mul: _mul, sp.Pow: _pow, sp.gamma: _gamma, sp.factorial: _factorial, sp.beta: _beta,
        sp.polygamma: _polygamma,
        sp.Heaviside: _heaviside, sp.Piecewise: _piecewise, sp.ITE: _ite,
        sp.core.function.AppliedUndef: _undefined, sp.Derivative: _derivative, sp.Subs: _subs,
        sp.MatrixBase: _dense, sp.NDimArray: _dense, sp.MatMul: _matmul, sp.MatPow: _matpow,
        sp.Transpose: _transpose, sp.Adjoint: _transpose, sp.Identity: lambda reader, node, operands: FUNCTIONS["eye"](
            size_of(node.shape[0])), sp.ZeroMatrix: _filled(0), sp.OneMatrix: _filled(1),
        sp.matrices.expressions.matexpr.MatrixElement: _element, sp.Indexed: _indexed,
        _applied.ElementwiseApplyFunction: _applyfunc, sp.BlockMatrix: _blocks, sp.DiagMatrix: _diag,
        sp.DiagonalOf: _diagonal,
    }  # fmt: skip
