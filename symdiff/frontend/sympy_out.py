"""Symbolic arrays to SymPy: scalars and matrices with symbolic sizes, or entry by entry where all sizes are numbers.

Takes an expression; gives a SymPy scalar, a matrix expression over `MatrixSymbol`s (a vector is a column), or, where
every size is a number, a dense `Matrix` or `Array` of scalars over `IndexedBase` entries. What SymPy cannot say raises
`UnsupportedError` and names the operation. The program is walked as a list, never by recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from symdiff.errors import UnsupportedError
from symdiff.frontend.expr import Expr
from symdiff.frontend.sympy_contract import Contraction, shape_of
from symdiff.ir.contraction import Spec, parse_spec
from symdiff.ir.dims import Size, format_shape, size_names
from symdiff.ir.graph import Value, attribute_sizes, topological
from symdiff.later import later

sp = later("sympy")
_applied = later("sympy.matrices.expressions.applyfunc")

# Entry by entry, an array of more entries than this makes a useless and slow result.
_MOST_ENTRIES = 10_000


def to_sympy(expr: Expr) -> Any:
    """The expression in SymPy.

    Scalars become scalars. With a symbolic size anywhere, arrays of rank 1 and 2 become matrix expressions; otherwise
    the entries are written out, as a `Matrix` for rank 2 and an `Array` for other ranks.
    """
    order = topological([expr.value])
    symbolic = any(size_names(v.type.shape) or any(size_names(attribute_sizes(a)) for _, a in v.attrs) for v in order)
    convert = _Matrices() if symbolic else _Entries()
    users: dict[Value, list[str]] = {}
    for value in order:
        for operand in value.args:
            users.setdefault(operand, []).append(_CHAINED.get(value.op.name, ""))
    try:
        results: dict[Value, Any] = {}
        for value in order:
            result = convert.value(value, [results[a] for a in value.args])
            kind = _CHAINED.get(value.op.name)
            if kind and users.get(value) != [kind]:
                result = convert.closed(result)
            results[value] = result
        return convert.result(results[expr.value])
    except RecursionError:
        raise UnsupportedError("to_sympy: the expression is too deep for SymPy, whose own functions recurse") from None


# -------------------------------------------------------------------- scalars
class _Chain:
    """A sum or product still growing: SymPy sorts all terms whenever one is added, so they are added at once."""

    __slots__ = ("items", "make")

    def __init__(self, make: Any, items: list[Any]) -> None:
        self.make = make
        self.items = items

    def closed(self) -> Any:
        return self.make(*self.items)


def _chain(make: Any, x: Any, y: Any) -> _Chain:
    """x + y or x * y. A chain has one user, so it may be extended in place."""
    a = x if isinstance(x, _Chain) else _Chain(make, [x])
    b = y if isinstance(y, _Chain) else _Chain(make, [y])
    long, short = (a, b) if len(a.items) >= len(b.items) else (b, a)
    long.items.extend(short.items)
    return long


def _closed(x: Any) -> Any:
    return x.closed() if isinstance(x, _Chain) else x


_CHAINED = {"add": "sum", "sub": "sum", "mul": "product"}


def constant(number: Any) -> Any:
    """An exact constant."""
    if isinstance(number, bool):
        return sp.true if number else sp.false
    if isinstance(number, str):
        return _special()[number]
    return sp.Rational(number.numerator, number.denominator) if isinstance(number, Fraction) else sp.Integer(number)


def dimension(size: Size) -> Any:
    """A size as a SymPy integer expression."""
    if isinstance(size, int):
        return sp.Integer(size)
    total: Any = sp.Integer(0)
    for monomial, coefficient in size.terms:
        term: Any = sp.Rational(coefficient.numerator, coefficient.denominator)
        for atom, power in monomial:
            base = _symbol(atom) if isinstance(atom, str) else sp.floor(dimension(atom.numerator) / atom.divisor)
            term *= base**power
        total += term
    return total


def _symbol(name: str) -> Any:
    return sp.Symbol(name, integer=True, positive=True)


@cache
def _special() -> dict[str, Any]:
    return {
        "pi": sp.pi, "e": sp.E, "euler_gamma": sp.EulerGamma, "inf": sp.oo, "-inf": -sp.oo, "nan": sp.nan,
        "-0.0": sp.Integer(0),
    }  # fmt: skip


def _cast(x: Any, source: str, dtype: str) -> Any:
    if source == "bool" and dtype != "bool":
        return sp.Piecewise((sp.Integer(1), x), (sp.Integer(0), sp.true))
    if dtype == "bool" and source != "bool":
        return sp.Ne(x, 0)
    return _truncated(x) if dtype == "i64" and source != "i64" else x


def _truncated(x: Any) -> Any:
    return sp.sign(x) * sp.floor(sp.Abs(x))


def _lgamma(x: Any) -> Any:
    # SymPy's loggamma is complex between the poles, ours is log|gamma|.
    return sp.loggamma(x) if x.is_positive else sp.log(sp.Abs(sp.gamma(x)))


def _cbrt(x: Any) -> Any:
    third = sp.Rational(1, 3)
    return x**third if x.is_nonnegative else sp.sign(x) * sp.Abs(x) ** third


@cache
def _scalars() -> dict[str, Callable[..., Any]]:
    """The function for each op."""
    return {
        "add": lambda x, y: _chain(sp.Add, x, y), "sub": lambda x, y: _chain(sp.Add, x, -_closed(y)),
        "mul": lambda x, y: _chain(sp.Mul, x, y), "div": lambda x, y: x / y,
        "neg": lambda x: -x, "pow": lambda x, y: x**y,
        "exp": sp.exp, "exp2": lambda x: 2**x, "expm1": lambda x: sp.exp(x) - 1, "log": sp.log,
        "log2": lambda x: sp.log(x) / sp.log(2), "log10": lambda x: sp.log(x) / sp.log(10),
        "log1p": lambda x: sp.log(1 + x), "sqrt": sp.sqrt, "cbrt": _cbrt,
        "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "arcsin": sp.asin, "arccos": sp.acos, "arctan": sp.atan,
        "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh, "arcsinh": sp.asinh, "arccosh": sp.acosh,
        "arctanh": sp.atanh, "arctan2": sp.atan2, "hypot": lambda x, y: sp.sqrt(x**2 + y**2),
        "logaddexp": lambda x, y: sp.log(sp.exp(x) + sp.exp(y)),
        "sigmoid": lambda x: 1 / (1 + sp.exp(-x)), "softplus": lambda x: sp.log(1 + sp.exp(x)),
        "erf": sp.erf, "erfc": sp.erfc, "lgamma": _lgamma, "digamma": sp.digamma,
        "lt": sp.Lt, "le": sp.Le, "gt": sp.Gt, "ge": sp.Ge, "eq": sp.Eq, "ne": sp.Ne,
        "and": sp.And, "or": sp.Or, "xor": sp.Xor, "not": sp.Not,
        "select": lambda c, x, y: sp.Piecewise((x, c), (y, sp.true)),
        "maximum": sp.Max, "minimum": sp.Min, "abs": sp.Abs, "relu": lambda x: sp.Max(x, 0),
        "clip": lambda x, low, high: sp.Min(sp.Max(x, low), high),
        "sign": sp.sign, "floor": sp.floor, "ceil": sp.ceiling, "trunc": _truncated,
        "mod": sp.Mod, "floor_divide": lambda x, y: sp.floor(x / y),
    }  # fmt: skip


def scalar(value: Value) -> Callable[..., Any] | None:
    """The SymPy function of scalars that the elementwise `value` applies; None when there is none."""
    match value.op.name:
        case "cast":
            return lambda x: _cast(x, value.args[0].type.dtype, value.type.dtype)
        case "polygamma":
            return lambda x: sp.polygamma(value.attr("order"), x)
        case "apply":
            return lambda *xs: _undefined(value.attr("name"), value.attr("wrt"), xs)
        case name:
            return _scalars().get(name)


def _undefined(name: str, wrt: tuple[int, ...], xs: Sequence[Any]) -> Any:
    """f(x), and for derivatives f'(x) in the form that SymPy gives them itself."""
    function = sp.Function(name)
    if not wrt:
        return function(*xs)
    if len(set(xs)) == len(xs) and all(x.is_Symbol for x in xs):
        return sp.Derivative(function(*xs), *[xs[i] for i in wrt])
    dummies = sp.symbols(f"xi_1:{len(xs) + 1}")
    return sp.Subs(sp.Derivative(function(*dummies), *[dummies[i] for i in wrt]), dummies, tuple(xs))


def facts(value: Value) -> dict[str, bool]:
    """A parameter's facts as SymPy's assumptions."""
    return {fact: True for fact in ("positive", "nonnegative", "nonzero") if fact in value.type.facts}


def _refuse(value: Value, why: str) -> UnsupportedError:
    return UnsupportedError(f"to_sympy: {value.op.name} of type {value.type} {why}")


# -------------------------------------------------------------------- entry by entry
class _Entries:
    """Values as NumPy arrays of SymPy scalars; the ops that move entries evaluate themselves."""

    def value(self, value: Value, operands: list[Any]) -> Any:
        count = 1
        for size in value.type.shape:
            count *= int(size)
        if count > _MOST_ENTRIES:
            raise _refuse(value, f"has {count} entries; written out they are limited to {_MOST_ENTRIES}")
        name = value.op.name
        if value.is_param:
            return self.param(value)
        if value.op.elementwise:
            function = scalar(value)
            if function is None:
                raise _refuse(value, "has no counterpart in SymPy")
            arrays = np.broadcast_arrays(*operands)
            result = np.empty(arrays[0].shape, object)
            for place in np.ndindex(*result.shape):
                result[place] = function(*[a[place] for a in arrays])
            return result
        attrs = dict(value.attrs)
        if name in ("const", "array", "iota", "size"):
            return self.numbers(value)
        if name in ("contract", "reshape", "slice", "embed", "concatenate", "cumsum", "tril", "triu", "gather",
                    "scatter_add", "symmetric"):  # fmt: skip
            fixed = [self.integers(o) if v.type.dtype == "i64" and i else o for i, (o, v) in enumerate(
                zip(operands, value.args, strict=True))]  # fmt: skip
            if name == "contract" and operands:
                result = self.contract(value, fixed)
            else:
                result = np.asarray(value.op.evaluate(*fixed, **attrs), object)
            # NumPy fills with Python's 0 and 1.
            return np.vectorize(sp.sympify, otypes=[object])(result) if result.size else result
        if name in _REDUCE:
            return self.reduce(value, operands[0], _REDUCE[name], attrs)
        if name in _MATRIX:
            return self.matrix(value, operands, _MATRIX[name])
        raise _refuse(value, "has no counterpart in SymPy")

    def closed(self, array: Any) -> Any:
        return _map(_closed, array)

    def param(self, value: Value) -> Any:
        shape = tuple(int(s) for s in value.type.shape)
        result = np.empty(shape, object)
        if not shape:
            result[()] = sp.Symbol(value.name, **facts(value))
            return result
        base = sp.IndexedBase(value.name, shape=shape, **facts(value))
        for place in np.ndindex(*shape):
            result[place] = base[place]
        return result

    def numbers(self, value: Value) -> Any:
        shape = tuple(int(s) for s in value.type.shape)
        result = np.empty(shape, object)
        if value.op.name == "const":
            result.fill(constant(value.attr("value")))
            return result
        evaluated = np.asarray(value.op.evaluate(**dict(value.attrs)))
        for place in np.ndindex(*shape):
            result[place] = sp.sympify(_exact(evaluated[place].item()))
        return result

    def integers(self, array: Any) -> Any:
        """Index arrays as integers; refuses symbolic ones."""
        if not all(x.is_Integer for x in array.flat):
            raise UnsupportedError("to_sympy: indices that are not numbers have no counterpart in SymPy")
        return array.astype(np.int64)

    def contract(self, value: Value, operands: list[Any]) -> Any:
        # A leading axis of size 1 throughout: NumPy hands bare objects, not arrays, out of sums to a scalar.
        spec = parse_spec(value.attr("spec"))
        lead = 1 + max((x for word in (*spec.operands, spec.output) for x in word), default=-1)
        wider = Spec(((lead, *spec.operands[0]), *spec.operands[1:]), (lead, *spec.output))
        attrs = {**dict(value.attrs), "spec": str(wider)}
        return value.op.evaluate(operands[0][None], *operands[1:], **attrs)[0, ...]

    def reduce(self, value: Value, x: Any, function: Callable[[list[Any]], Any], attrs: dict[str, Any]) -> Any:
        axes = attrs.get("axes") or (attrs["axis"],)
        moved = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
        kept = moved.shape[: x.ndim - len(axes)]
        result = np.empty(kept, object)
        for place in np.ndindex(*kept):
            result[place] = function(list(moved[place].flat))
        if value.op.name == "softmax":
            total = np.expand_dims(result, tuple(axes))
            return _map(sp.exp, x) / total
        return result

    def matrix(self, value: Value, operands: list[Any], function: Callable[..., Any]) -> Any:
        lead = operands[0].shape[:-2]
        if any(o.shape[:-2] != lead for o in operands):
            raise _refuse(value, "shares one matrix among a stack, which is not written out")
        result = np.empty(tuple(int(s) for s in value.type.shape), object)
        for place in np.ndindex(*lead):
            answer = function(*[sp.Matrix(o[place].tolist()) for o in operands])
            result[place] = np.array(answer.tolist(), object) if isinstance(answer, sp.MatrixBase) else answer
        return result

    def result(self, array: Any) -> Any:
        if array.ndim == 0:
            return array[()]
        if array.ndim == 2:
            return sp.Matrix(array.shape[0], array.shape[1], list(array.flat))
        return sp.Array(list(array.flat), array.shape)


def _map(function: Callable[[Any], Any], array: Any) -> Any:
    result = np.empty(array.shape, object)
    for place in np.ndindex(*array.shape):
        result[place] = function(array[place])
    return result


def _exact(number: Any) -> Any:
    if isinstance(number, float):
        if not np.isfinite(number):
            return sp.Float(number)
        fraction = Fraction(repr(number))
        return sp.Rational(fraction.numerator, fraction.denominator)
    return number


_REDUCE: dict[str, Callable[[list[Any]], Any]] = {
    "reduce_max": lambda xs: sp.Max(*xs), "reduce_min": lambda xs: sp.Min(*xs), "reduce_prod": lambda xs: sp.Mul(*xs),
    "norm": lambda xs: sp.sqrt(sp.Add(*[x**2 for x in xs])),
    "logsumexp": lambda xs: sp.log(sp.Add(*[sp.exp(x) for x in xs])),
    "softmax": lambda xs: sp.Add(*[sp.exp(x) for x in xs]),
}  # fmt: skip
_MATRIX: dict[str, Callable[..., Any]] = {
    "inverse": lambda a: a.inv(), "solve": lambda a, b: a.LUsolve(b), "det": lambda a: a.det(),
    "logabsdet": lambda a: sp.log(sp.Abs(a.det())), "signdet": lambda a: sp.sign(a.det()),
}  # fmt: skip


# -------------------------------------------------------------------- matrices with symbolic sizes
class _Matrices:
    """Values as SymPy scalars and matrix expressions; a vector is a column."""

    def value(self, value: Value, operands: list[Any]) -> Any:
        rank, name = value.type.rank, value.op.name
        if rank > 2:
            raise _refuse(value, "has more than two axes, and SymPy's matrices have two")
        if value.is_param:
            return self.param(value)
        if name == "const":
            number = constant(value.attr("value"))
            if not rank:
                return number
            return _filled(number, shape_of(tuple(map(dimension, value.type.shape))))
        if name == "size":
            return dimension(value.attr("size"))
        if name == "contract":
            sizes = tuple(dimension(s) for s in value.attr("sizes", ()))
            return Contraction(parse_spec(value.attr("spec")), operands, [a.type.rank for a in value.args], sizes).run()
        if value.op.elementwise:
            return self.elementwise(value, operands)
        if name == "inverse":
            return sp.Inverse(operands[0])
        if name == "solve":
            return sp.MatMul(sp.Inverse(operands[0]), operands[1])
        if name in ("det", "logabsdet", "signdet"):
            det = sp.Determinant(operands[0])
            return det if name == "det" else sp.log(sp.Abs(det)) if name == "logabsdet" else sp.sign(det)
        if name in ("norm", "logsumexp", "softmax"):
            return self.reduction(value, operands[0])
        if name == "reshape":
            return self.reshape(value, operands[0])
        raise _refuse(value, "has no counterpart in SymPy's matrix expressions; with sizes as numbers it may have one")

    def closed(self, value: Any) -> Any:
        return _closed(value)

    def param(self, value: Value) -> Any:
        if not value.type.rank:
            return sp.Symbol(value.name, **facts(value))
        return sp.MatrixSymbol(value.name, *shape_of(tuple(map(dimension, value.type.shape))))

    def elementwise(self, value: Value, operands: list[Any]) -> Any:
        name = value.op.name
        function = scalar(value)
        if function is None:
            raise _refuse(value, "has no counterpart in SymPy")
        if not value.type.rank:
            return function(*operands)
        if value.type.dtype == "bool" or any(a.type.dtype == "bool" for a in value.args):
            raise _refuse(value, "acts on boolean matrices, which SymPy does not have")
        a, b = operands[0], operands[1] if len(operands) == 2 else None
        match name:
            case "add":
                return sp.MatAdd(a, b).doit(deep=False)
            case "sub":
                return sp.MatAdd(a, sp.MatMul(-1, b).doit(deep=False)).doit(deep=False)
            case "neg":
                return sp.MatMul(-1, a).doit(deep=False)
            case "mul":
                return _hadamard(a, b, value.args)
            case "div":
                if _number(value.args[1]) is not None:
                    return sp.MatMul(1 / constant(_number(value.args[1])), a).doit(deep=False)
                return _hadamard(a, sp.HadamardPower(b, -1), value.args)
            case "pow" if _number(value.args[1]) is not None:
                return sp.HadamardPower(a, constant(_number(value.args[1])))
            case _ if len(operands) == 1:
                return _applied.ElementwiseApplyFunction(function, a)
            case _:
                raise _refuse(value, "takes several matrices entry by entry, which SymPy does not write")

    def reduction(self, value: Value, x: Any) -> Any:
        rank = value.args[0].type.rank
        if len(value.attr("axes")) != rank:
            raise _refuse(value, "reduces some of the axes, which SymPy's matrix expressions do not write")
        if value.op.name == "norm":
            return sp.sqrt(sp.Trace(sp.MatMul(sp.Transpose(x), x)))
        exps = _applied.ElementwiseApplyFunction(sp.exp, x)
        spec = parse_spec("i->" if rank == 1 else "ij->")
        total = Contraction(spec, [exps], [rank], ()).run()
        return sp.log(total) if value.op.name == "logsumexp" else sp.MatMul(1 / total, exps)

    def reshape(self, value: Value, x: Any) -> Any:
        """Only axes of size 1 come and go: a row, a column, a vector, a scalar."""
        old, new = value.args[0].type.shape, value.type.shape
        core = [s for s in old if s != 1]
        if core != [s for s in new if s != 1] or len(core) == 2:
            raise _refuse(value, f"from {format_shape(old)} has no counterpart among SymPy's matrix expressions")
        row_before, row_after = len(old) == 2 and old[0] == 1, len(new) == 2 and new[0] == 1
        if not core:
            raise _refuse(value, "to one entry has no counterpart among SymPy's matrix expressions")
        return sp.Transpose(x).doit(deep=False) if row_before != row_after else x

    def result(self, value: Any) -> Any:
        return value


def _number(value: Value) -> Any:
    """The number of a constant operand (names such as pi too), None for anything else."""
    return value.attr("value") if value.op.name == "const" else None


def _filled(number: Any, shape: tuple[Any, Any]) -> Any:
    if number == 0:
        return sp.ZeroMatrix(*shape)
    ones = sp.OneMatrix(*shape)
    return ones if number == 1 else sp.MatMul(number, ones)


def _hadamard(a: Any, b: Any, args: Sequence[Value]) -> Any:
    for number, other in ((_number(args[0]), b), (_number(args[1]), a)):
        if number is not None:
            return sp.MatMul(constant(number), other).doit(deep=False)
    return sp.HadamardProduct(a, b)
