"""The only way to make instructions: infers types, folds exact zeros and ones, hash-conses.

A `Handle` is a value with its builder; operators on handles go by name through the builder's op set, which is handed
in from outside, so this module knows no op. Handle arithmetic is strict: equal shapes and dtypes, or a Python number,
which becomes a constant of the other operand's shape. (Broadcasting is the front end's business.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from symdiff.errors import ArgumentError, DtypeError, ShapeError
from symdiff.ir.dims import Shape, Size, format_shape
from symdiff.ir.graph import PARAM, AttrItems, Function, Value, param, topological
from symdiff.ir.op import Op, OpSet
from symdiff.ir.types import TensorType, check_type

DIGITS: Mapping[str, str] = {
    "pi": "3.14159265358979323846264338327950288419716939937510582097494",
    "e": "2.71828182845904523536028747135266249775724709369995957496697",
    "euler_gamma": "0.57721566490153286060651209008240243104215933593992359880577",
}
"""Numbers that have a name."""
# Constants that no fraction can hold, by the name they have in attributes and text.
SPECIAL_CONSTANTS: Mapping[str, float] = {
    **{name: float(digits) for name, digits in DIGITS.items()},
    "inf": math.inf, "-inf": -math.inf, "nan": math.nan, "-0.0": -0.0,
}  # fmt: skip


def exact(number: Any) -> bool | int | Fraction | str:
    """A Python or NumPy number as an exact constant: bool, int, Fraction, or a name of `SPECIAL_CONSTANTS`.

    A float becomes the shortest decimal that reads back to it, so 0.1 is 1/10 and no bit is lost when it is emitted.
    """
    if isinstance(number, (bool, int)):
        return number
    if isinstance(number, Fraction):
        return number.numerator if number.denominator == 1 else number
    if isinstance(number, str):
        if number not in SPECIAL_CONSTANTS:
            raise ArgumentError(f"constant {number!r}: expected a number or one of {', '.join(SPECIAL_CONSTANTS)}")
        return number
    if hasattr(number, "item"):
        number = number.item()
        if isinstance(number, (bool, int)):
            return number
    if isinstance(number, complex):
        raise DtypeError(f"constant {number}: complex numbers are not supported, expected a real number")
    value = float(number)
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0.0:
        return "-0.0" if math.copysign(1.0, value) < 0 else 0
    fraction = Fraction(repr(value))
    return fraction.numerator if fraction.denominator == 1 else fraction


def number_of(constant: float | Fraction | str) -> float | int | bool:
    """The machine number of an exact constant: integers and booleans stay, what no float reaches is infinite."""
    if isinstance(constant, str):
        return SPECIAL_CONSTANTS[constant]
    if isinstance(constant, Fraction) or (isinstance(constant, int) and abs(constant) >> 1023):
        return nearest(constant)
    return constant


def nearest(number: int | Fraction) -> float:
    """The float nearest to an exact number, infinite beyond the largest."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def freeze_attrs(attrs: Mapping[str, Any]) -> AttrItems:
    """Attributes as sorted pairs with hashable values."""
    if not attrs:
        return ()
    return tuple((k, _freeze(attrs[k])) for k in sorted(attrs))


def _freeze(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(v) for v in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return value


class Builder:
    """Makes values over one op set. Equal (op, operands, attributes) give the same value."""

    def __init__(self, opset: OpSet) -> None:
        self.opset = opset
        self.ops = opset.named
        # True and 1 are equal keys in Python, so constants carry the dtype in their attributes.
        self._table: dict[tuple[Op, tuple[Value, ...], AttrItems], Value] = {}
        self._params: dict[tuple[str, TensorType], Value] = {}
        self._const = opset["const"]

    # ---------------------------------------------------------------- making values
    def make(self, op: Op, args: tuple[Value, ...], attrs: AttrItems = ()) -> Value:
        """The value of `op` on `args`. Raises the type rule's error when they do not fit."""
        key = (op, args, attrs)
        value = self._table.get(key)
        if value is not None:
            return value
        if op.arity is not None and len(args) != op.arity:
            raise ArgumentError(f"{op.name}: {len(args)} operands given, expected {op.arity}")
        named = dict(attrs)
        if op.fold is not None:
            value = op.fold(self, args, named)
            if value is not None:
                return self._keep_folded(key, value)
        return self._keep(key, Value(op, args, attrs, op.infer([a.type for a in args], named)))

    def again(self, value: Value, args: tuple[Value, ...]) -> Value:
        """`value`'s instruction on other operands, as `make` makes it; on the same ones it is the same value."""
        if args != value.args:
            return self.make(value.op, args, value.attrs)
        key = (value.op, args, value.attrs)
        made = self._table.get(key)
        if made is None:
            made = value.op.fold(self, args, dict(value.attrs)) if value.op.fold is not None else None
            made = self._keep(key, value) if made is None else self._keep_folded(key, made)
        return made

    def _keep(self, key: tuple[Op, tuple[Value, ...], AttrItems], value: Value) -> Value:
        self._table[key] = value
        return value

    def _keep_folded(self, key: tuple[Op, tuple[Value, ...], AttrItems], value: Value) -> Value:
        """Remember what an instruction folds to, which is another instruction's value."""
        return self._keep(key, value)

    def remake(self, value: Value, args: tuple[Value, ...]) -> Value:
        """`value`'s instruction on other operands, without folding; its type is inferred where they are others."""
        key = (value.op, args, value.attrs)
        made = self._table.get(key)
        if made is None:
            made = value
            if args != value.args:
                kind = value.op.infer([a.type for a in args], dict(value.attrs))
                made = Value(value.op, args, value.attrs, kind)
            self._table[key] = made
        return made

    def param(self, name: str, kind: TensorType) -> Value:
        """The parameter `name`; the same value for the same name and type."""
        key = (name, kind)
        if key not in self._params:
            if not name.isidentifier():
                raise ArgumentError(f"parameter name {name!r}: expected an identifier")
            self._params[key] = param(name, check_type(kind, f"parameter {name}"))
        return self._params[key]

    def const(self, number: Any, shape: Shape = (), dtype: str = "f64") -> Value:
        """An array filled with one exact number."""
        return self.make(
            self._const, (), (("dtype", dtype), ("shape", shape), ("value", exact(number)))
        )

    # ---------------------------------------------------------------- handles
    def handle(self, value: Value) -> Handle:
        return Handle(self, value)

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Handle:
        """Apply `op` to handles and numbers."""
        args = [o.value for o in operands if isinstance(o, Handle)]
        if len(args) < len(operands):
            like = args[0].type
            args = [o.value if isinstance(o, Handle) else self.const(o, like.shape, like.dtype) for o in operands]
        return Handle(self, self.make(op, tuple(args), freeze_attrs(attrs)))

    # ---------------------------------------------------------------- whole functions
    def inline(self, function: Function, args: Sequence[Value] | None = None) -> dict[Value, Value]:
        """Rebuild `function` here (on `args` in place of its parameters); returns old value -> new value."""
        mapping: dict[Value, Value] = {}
        if args is None:
            for p in function.params:
                mapping[p] = self.adopt(p)
        else:
            mapping.update(zip(function.params, args, strict=True))
        for value in function.instrs:
            mapping[value] = self.remake(value, tuple([mapping[a] for a in value.args]))
        return mapping

    def absorb(self, values: Sequence[Value], since: int = 0) -> dict[Value, Value]:
        """Rebuild everything `values` need here, equal instructions merged; returns old value -> new value.

        Values may come from any builders, so this is how expressions built in pieces become one program. since: values
        born before that stay as they are, and are no keys unless they are asked for.
        """
        mapping: dict[Value, Value] = {v: v for v in values if v.born < since}
        for value in topological(values, since):
            if value.op is PARAM:
                mapping[value] = self.adopt(value)
            else:
                mapping[value] = self.remake(value, tuple([mapping.get(a, a) for a in value.args]))
        return mapping

    def function(self, params: Sequence[Value], results: Sequence[Value], name: str = "f") -> Function:
        """The function of `params` that computes `results`, its instructions absorbed here."""
        mapping = self.absorb([*params, *results])
        return Function.of([mapping[p] for p in params], [mapping[r] for r in results], name)

    def adopt(self, parameter: Value) -> Value:
        """Intern a parameter made elsewhere: the same variable keeps its identity."""
        assert parameter.op is PARAM
        return self._params.setdefault((parameter.name, parameter.type), parameter)


class Handle:
    """A value with its builder: what derivative and rewrite rules are written with."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Builder, value: Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.value.type.shape

    @property
    def dtype(self) -> str:
        return self.value.type.dtype

    @property
    def rank(self) -> int:
        return len(self.value.type.shape)

    def op(self, name: str, /, *others: Any, **attrs: Any) -> Handle:
        """Apply the op called `name` to this handle and others."""
        return self.builder.apply(self.builder.ops[name], (self, *others), attrs)

    def const(self, number: Any, shape: Iterable[Size] | None = None, dtype: str | None = None) -> Handle:
        """A constant, by default of this handle's shape and dtype."""
        return Handle(
            self.builder,
            self.builder.const(number, self.shape if shape is None else tuple(shape), dtype or self.dtype),
        )

    def _binary(self, name: str, left: Any, right: Any) -> Handle:
        builder = self.builder
        kind = self.value.type
        a = left.value if isinstance(left, Handle) else builder.const(left, kind.shape, kind.dtype)
        b = right.value if isinstance(right, Handle) else builder.const(right, kind.shape, kind.dtype)
        return Handle(builder, builder.make(builder.ops[name], (a, b)))

    def __add__(self, other: Any) -> Handle:
        return self._binary("add", self, other)

    def __radd__(self, other: Any) -> Handle:
        return self._binary("add", other, self)

    def __sub__(self, other: Any) -> Handle:
        return self._binary("sub", self, other)

    def __rsub__(self, other: Any) -> Handle:
        return self._binary("sub", other, self)

    def __mul__(self, other: Any) -> Handle:
        return self._binary("mul", self, other)

    def __rmul__(self, other: Any) -> Handle:
        return self._binary("mul", other, self)

    def __truediv__(self, other: Any) -> Handle:
        return self._binary("div", self, other)

    def __rtruediv__(self, other: Any) -> Handle:
        return self._binary("div", other, self)

    def __pow__(self, other: Any) -> Handle:
        return self._binary("pow", self, other)

    def __rpow__(self, other: Any) -> Handle:
        return self._binary("pow", other, self)

    def __neg__(self) -> Handle:
        return Handle(self.builder, self.builder.make(self.builder.ops["neg"], (self.value,)))

    def __repr__(self) -> str:
        return f"Handle({self.value!r})"


def require_same_shape(name: str, types: Sequence[TensorType]) -> None:
    """Raise unless all types have one shape."""
    first = types[0]
    for other in types[1:]:
        if other.shape != first.shape:
            raise ShapeError(
                f"{name}: operands have shapes {format_shape(first.shape)} and {format_shape(other.shape)}, "
                "expected equal shapes"
            )


