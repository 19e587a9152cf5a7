"""Scalar operations as LLVM instructions, at any width: one entry per operation.

`emit(lines, op, dtype, operand_dtype, args, width, attr)` writes the instructions and returns the result's text.
Promises: NumPy's meaning at special values (NaN through min and max, floors of quotients, division of integers by zero
gives 0); no fast-math flag unless the module asks for it; transcendental functions come from `codegen.vmath`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from codegen import vmath
from codegen.llvm.text import Lines, constant, register_type, suffix
from symdiff.errors import UnsupportedError

_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INT_OPS = {"add": "add", "sub": "sub", "mul": "mul"}
_FLOAT_COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
_INT_COMPARE = {"lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "eq": "eq", "ne": "ne"}
_BOOL_COMPARE = {"lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge", "eq": "eq", "ne": "ne"}
_INTRINSICS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc"}
_BOOL_OPS = {"and": "and", "or": "or", "xor": "xor"}


class _Writer:
    """One operation's operands, and short forms for writing instructions of its type."""

    def __init__(self, lines: Lines, dtype: str, width: int) -> None:
        self.lines, self.dtype, self.width = lines, dtype, width
        self.type = register_type(dtype, width)
        self.mask = register_type("bool", width)

    @property
    def floating(self) -> bool:
        return self.dtype in ("f64", "f32")

    def number(self, value: Any) -> str:
        return constant(value, self.dtype, self.width)

    def binary(self, op: str, a: str, b: str) -> str:
        word = _FLOAT_OPS[op] if self.floating else _INT_OPS[op]
        flags = self.lines.module.flags if self.floating else ""
        return self.lines.emit(f"{word}{flags} {self.type} {a}, {b}")

    def compare(self, op: str, a: str, b: str) -> str:
        if self.floating:
            return self.lines.emit(f"fcmp {_FLOAT_COMPARE[op]} {self.type} {a}, {b}")
        table = _BOOL_COMPARE if self.dtype == "bool" else _INT_COMPARE
        return self.lines.emit(f"icmp {table[op]} {self.type} {a}, {b}")

    def fcmp(self, predicate: str, a: str, b: str) -> str:
        return self.lines.emit(f"fcmp {predicate} {self.type} {a}, {b}")

    def select(self, condition: str, a: str, b: str) -> str:
        return self.lines.emit(f"select {self.mask} {condition}, {self.type} {a}, {self.type} {b}")

    def logic(self, op: str, a: str, b: str) -> str:
        return self.lines.emit(f"{op} {self.mask} {a}, {b}")

    def call(self, name: str, *args: str) -> str:
        full = f"llvm.{name}.{suffix(self.dtype, self.width)}"
        return self.lines.intrinsic(full, self.type, [(self.type, a) for a in args])

    def neg(self, a: str) -> str:
        return self.lines.emit(f"fneg {self.type} {a}" if self.floating else f"sub {self.type} {self.number(0)}, {a}")


_Form: TypeAlias = "Callable[[_Writer, list[str], Any], str]"


def emit(lines: Lines, op: str, dtype: str, operand: str, args: list[str], width: int, attr: Any) -> str:
    """Write one operation with operands of dtype `operand`; `dtype` is the result's."""
    if op == "cast":
        return _cast(lines, dtype, operand, args[0], width)
    if op in _FLOAT_COMPARE:
        return _Writer(lines, operand, width).compare(op, args[0], args[1])
    w = _Writer(lines, dtype, width)
    if op in _FLOAT_OPS and (w.floating or op in _INT_OPS):
        return w.binary(op, args[0], args[1])
    form = _FORMS.get(op)
    if form is not None:
        return form(w, args, attr)
    if op in _INTRINSICS:
        return w.call(_INTRINSICS[op], args[0]) if w.floating else args[0]
    if op in _BOOL_OPS:
        return w.logic(op, args[0], args[1])
    return math(lines, op if op != "polygamma" else f"polygamma_{attr}", dtype, args, width)


def math(lines: Lines, name: str, dtype: str, args: list[str], width: int) -> str:
    """Call a function of the vector math library."""
    if name not in vmath.FUNCTIONS and not name.startswith("polygamma_"):
        raise UnsupportedError(f"{name}: no native code for this function at {dtype}")
    kind = register_type(dtype, width)
    symbol = lines.module.use_math(name, dtype, width)
    return lines.emit(f"call {kind} {symbol}({', '.join(f'{kind} {a}' for a in args)})")


def combine(lines: Lines, kind: str, dtype: str, a: str, b: str, width: int) -> str:
    """One step of a reduction: sum, prod, max, min, or, and."""
    w = _Writer(lines, dtype, width)
    if kind in ("sum", "prod"):
        return w.binary({"sum": "add", "prod": "mul"}[kind], a, b)
    if kind in ("or", "and"):
        return w.logic(kind, a, b)
    return (_maximum if kind == "max" else _minimum)(w, [a, b], None)


def neutral(kind: str, dtype: str) -> int | bool | str:
    """The number that a reduction starts from."""
    if kind in ("sum", "prod"):
        # -0.0 is the neutral element of addition, but an empty sum is 0.
        return 0 if kind == "sum" else 1
    if kind in ("or", "and"):
        return kind == "and"
    if dtype == "i64":
        return -(2**63) if kind == "max" else 2**63 - 1
    return "-inf" if kind == "max" else "inf"


def identity(kind: str, dtype: str, width: int) -> str:
    """The value that a reduction starts from."""
    return constant(neutral(kind, dtype), "bool" if kind in ("or", "and") else dtype, width)


# -------------------------------------------------------------------- forms
def _select(w: _Writer, args: list[str], attr: Any) -> str:
    return w.select(*args)


def _not(w: _Writer, args: list[str], attr: Any) -> str:
    return w.logic("xor", args[0], constant(True, "bool", w.width))


def _neg(w: _Writer, args: list[str], attr: Any) -> str:
    return w.neg(args[0])


def _abs(w: _Writer, args: list[str], attr: Any) -> str:
    if w.floating:
        return w.call("fabs", args[0])
    kind = w.type
    return w.lines.intrinsic(f"llvm.abs.{suffix(w.dtype, w.width)}", kind, [(kind, args[0]), ("i1", "false")])


def _maximum(w: _Writer, args: list[str], attr: Any) -> str:
    if w.dtype == "bool":
        return w.logic("or", *args)
    return w.call("maximum" if w.floating else "smax", *args)


def _minimum(w: _Writer, args: list[str], attr: Any) -> str:
    if w.dtype == "bool":
        return w.logic("and", *args)
    return w.call("minimum" if w.floating else "smin", *args)


def _clip(w: _Writer, args: list[str], attr: Any) -> str:
    return _minimum(w, [_maximum(w, args[:2], None), args[2]], None)


def _relu(w: _Writer, args: list[str], attr: Any) -> str:
    x = args[0]
    return w.select(w.compare("le", x, w.number(0)), w.number(0), x)  # NaN stays


def _sign(w: _Writer, args: list[str], attr: Any) -> str:
    x, zero = args[0], w.number(0)
    down = w.select(w.compare("lt", x, zero), w.number(-1), zero)
    signed = w.select(w.compare("gt", x, zero), w.number(1), down)
    return w.select(w.fcmp("uno", x, x), x, signed) if w.floating else signed


def _finite_or_zero(w: _Writer, args: list[str], attr: Any) -> str:
    size = w.call("fabs", args[0])
    return w.select(w.fcmp("olt", size, w.number("inf")), args[0], w.number(0))


def _pow_int(w: _Writer, args: list[str], attr: Any) -> str:
    power: int = attr
    total = ""
    square = args[0]
    while power:
        if power & 1:
            total = w.binary("mul", total, square) if total else square
        power >>= 1
        if power:
            square = w.binary("mul", square, square)
    return total


def _copysign(w: _Writer, a: str, b: str) -> str:
    return w.call("copysign", a, b)


def _float_mod(w: _Writer, x: str, y: str) -> tuple[str, str]:
    """NumPy's remainder (exact, with the sign of y) and its quotient before rounding down."""
    zero = w.number(0)
    r = w.lines.emit(f"frem {w.type} {x}, {y}")
    quotient = w.binary("div", w.binary("sub", x, r), y)
    nonzero = w.fcmp("une", r, zero)
    moves = w.logic("and", nonzero, w.logic("xor", w.compare("lt", y, zero), w.compare("lt", r, zero)))
    quotient = w.select(moves, w.binary("sub", quotient, w.number(1)), quotient)
    moved = w.select(moves, w.binary("add", r, y), r)
    return w.select(nonzero, moved, _copysign(w, zero, y)), quotient


def _mod(w: _Writer, args: list[str], attr: Any) -> str:
    return _float_mod(w, *args)[0] if w.floating else _int_divide(w, args[0], args[1])[1]


def _floor_divide(w: _Writer, args: list[str], attr: Any) -> str:
    x, y = args
    if not w.floating:
        return _int_divide(w, x, y)[0]
    zero, half = w.number(0), w.number(0.5)
    quotient = w.binary("div", x, y)
    exact = _float_mod(w, x, y)[1]
    low = w.call("floor", exact)
    low = w.select(w.compare("gt", w.binary("sub", exact, low), half), w.binary("add", low, w.number(1)), low)
    low = w.select(w.compare("eq", exact, zero), _copysign(w, zero, quotient), low)
    return w.select(w.compare("eq", y, zero), quotient, low)


def _int_divide(w: _Writer, x: str, y: str) -> tuple[str, str]:
    """Floored quotient and remainder; both 0 where the divisor is 0."""
    zero, one = w.number(0), w.number(1)
    bad = w.compare("eq", y, zero)
    minus = w.compare("eq", y, w.number(-1))  # the smallest integer over -1 would trap
    safe = w.select(w.logic("or", bad, minus), one, y)
    q = w.lines.emit(f"sdiv {w.type} {x}, {safe}")
    r = w.binary("sub", x, w.binary("mul", q, safe))
    differs = w.logic("xor", w.compare("lt", y, zero), w.compare("lt", r, zero))
    moves = w.logic("and", w.compare("ne", r, zero), differs)
    q = w.select(moves, w.binary("sub", q, one), q)
    r = w.select(moves, w.binary("add", r, y), r)
    q = w.select(minus, w.neg(x), q)
    either = w.logic("or", bad, minus)
    return w.select(bad, zero, q), w.select(either, zero, r)


def _cast(lines: Lines, dtype: str, operand: str, x: str, width: int) -> str:
    if dtype == operand:
        return x
    source, target = _Writer(lines, operand, width), _Writer(lines, dtype, width)
    to = f"{source.type} {x} to {target.type}"
    if dtype == "bool":
        return source.compare("ne", x, source.number(0))
    if operand == "bool":
        return lines.emit(f"{'uitofp' if target.floating else 'zext'} {to}")
    if target.floating and source.floating:
        return lines.emit(f"{'fpext' if dtype == 'f64' else 'fptrunc'} {to}")
    if target.floating:
        return lines.emit(f"sitofp {to}")
    # Beyond the range of integers the processor's answer is the smallest one, which is NumPy's too.
    inside = source.fcmp("olt", source.call("fabs", x), source.number(2**63))
    return target.select(inside, lines.emit(f"fptosi {to}"), target.number(-(2**63)))


def _logaddexp(w: _Writer, args: list[str], attr: Any) -> str:
    """max(x, y) + log(1 + exp(-|x - y|)); equal operands, infinite ones too, apart."""
    x, y = args
    gap = w.neg(_abs(w, [w.binary("sub", x, y)], None))
    small = math(w.lines, "softplus", w.dtype, [gap], w.width)
    total = w.binary("add", _maximum(w, [x, y], None), small)
    twice = w.binary("add", x, w.number(0.6931471805599453))
    return w.select(w.compare("eq", x, y), twice, total)


_FORMS: dict[str, _Form] = {
    "select": _select, "not": _not, "neg": _neg, "abs": _abs, "maximum": _maximum, "minimum": _minimum, "clip": _clip,
    "relu": _relu, "sign": _sign, "finite_or_zero": _finite_or_zero, "pow_int": _pow_int, "mod": _mod,
    "floor_divide": _floor_divide, "logaddexp": _logaddexp,
}  # fmt: skip
