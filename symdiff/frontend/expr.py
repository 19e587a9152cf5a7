"""`Expr`, a symbolic array: NumPy operators and functions act on it and give expressions.

An expression wraps one IR value made by the weak builder of `building`. Operators broadcast and promote dtypes as
NumPy does; sizes may be symbolic: an axis of size 1 goes with any size, equal polynomials match, anything else is an
error. What a NumPy function means is looked up in `registry`, which the other modules of this package fill.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, ShapeError, SymbolicSizeError, UnsupportedError
from symdiff.frontend.building import (
    ARGUMENT,
    BUILDER,
    Dtype,
    array_value,
    cast_value,
    common_dtype,
    concrete,
    demand,
    dtype_name,
    make,
    misfit,
    number_value,
    raw_shape,
    seen_dtype,
    seen_shape,
    weak_dtype,
)
from symdiff.frontend.operators import ArrayMethods
from symdiff.frontend.registry import FUNCTIONS, call, numpy_name
from symdiff.ir.contraction import contract, parse_spec
from symdiff.ir.dims import Dim, Shape, Size, format_shape, named, product
from symdiff.ir.graph import Value
from symdiff.ir.types import FACTS, TensorType


class Expr(ArrayMethods):
    """A symbolic array. Immutable; hashed by the identity of its value; `==` compares entry by entry."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Value) -> None:
        if not isinstance(value, Value):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"Expr({value!r}): expected an IR value; use sd.symbol or sd.constant")
        self.value = value

    # ---------------------------------------------------------------- what it is
    @property
    def shape(self) -> Shape:
        return seen_shape(self.value.type.shape)

    @property
    def ndim(self) -> int:
        return len(self.value.type.shape)

    @property
    def size(self) -> Size:
        return seen_shape((product(self.value.type.shape),))[0]

    @property
    def dtype(self) -> Dtype:
        return seen_dtype(self.value.type.dtype)

    def __repr__(self) -> str:
        name = f" {self.value.name}" if self.value.is_param else ""
        return f"<{type(self).__name__}{name} {self.value.type} = {self.value.op.name}>"

    def __hash__(self) -> int:
        return hash(self.value)

    # ---------------------------------------------------------------- numbers out of it
    def _number(self, what: str, instead: str) -> Any:
        """The number of a constant expression; an error that names the alternative otherwise."""
        array = concrete(self.value)
        if array is None:
            raise UnsupportedError(f"{what} needs a number, but {self._described()} is symbolic; {instead}")
        if array.size != 1:
            raise ShapeError(f"{what} needs one number, given shape {format_shape(array.shape)}")
        return array.reshape(())[()]

    def _described(self) -> str:
        if not self.value.is_param:
            return f"this expression of type {self.value.type}"
        return "an argument of the function" if self.value.name.startswith(ARGUMENT) else self.value.name

    def __bool__(self) -> bool:
        name = self.value.op.name
        if name in ("eq", "ne") and self.value.args[0] is self.value.args[1]:
            return name == "eq"  # one and the same expression, so that expressions can be looked up in dicts
        return bool(
            self._number(
                "a condition (if, while, and, or, not, max, min, sorted)",
                "use np.where(condition, a, b) for a choice, & | ~ for logic, np.maximum and np.minimum",
            )
        )

    def __float__(self) -> float:
        return float(
            self._number("float()", "leave it an expression; to write it into an array use sd.set(array, index, value)")
        )

    def __int__(self) -> int:
        return int(self._number("int()", "leave it an expression, or make the argument static"))

    def __index__(self) -> int:
        if self.dtype != "i64":
            raise DtypeError(f"an index needs an integer, but {self._described()} has dtype {self.dtype}")
        return int(self._number("an index or a loop", "index expressions with it, x[i], or make the argument static"))

    def __complex__(self) -> NoReturn:
        raise UnsupportedError(f"complex() needs a number, but {self._described()} is symbolic")

    def __format__(self, spec: str) -> str:
        return format(self._number(f"the format {spec!r}", "print the results").item(), spec) if spec else str(self)

    def item(self, *_: Any) -> Any:
        return self._number("item()", "leave it an expression").item()

    def tolist(self) -> Any:
        array = concrete(self.value)
        if array is None:
            raise UnsupportedError(f"tolist() needs numbers, but {self._described()} is symbolic; use list(x)")
        return array.tolist()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        array = concrete(self.value)
        if array is None and self.value.type.dtype == "i64":
            raise UnsupportedError(
                f"NumPy asked for the numbers of {self._described()}. To index an array with it use "
                "np.take(array, i, axis=0) or sd.array(array)[i]; to write it into an array sd.set(array, index, value)"
            )
        if array is None:
            raise UnsupportedError(
                f"NumPy asked for the numbers of {self._described()}. To write an expression into an array use "
                "array = sd.set(array, index, value) or sd.add_at; to make an array of expressions use np.stack or "
                "sd.array([...]); array.dot(x) is array @ x or np.dot(array, x); scipy functions in Python have "
                "namesakes: sd.logsumexp, sd.softmax, sd.polygamma"
            )
        return array if dtype is None else array.astype(dtype)

    # ---------------------------------------------------------------- axes
    def _axis_length(self, what: str, instead: str) -> int:
        if not self.ndim:
            raise UnsupportedError(f"{what} needs an array, given a scalar expression")
        size = self.value.type.shape[0]
        if isinstance(size, Dim):
            demand(size.names)
            raise SymbolicSizeError(f"{what}: axis 0 has the symbolic size {size}; {instead}")
        return size

    def __len__(self) -> int:
        return self._axis_length("len(x)", "use x.shape[0]")

    def __iter__(self) -> Iterator[Any]:
        length = self._axis_length("iterating over x", "use whole-array functions, or give the size as an integer")
        return iter([self[i] for i in range(length)])

    def __contains__(self, item: Any) -> bool:
        raise UnsupportedError("`in` needs numbers; use np.any(x == item)")

    # ---------------------------------------------------------------- NumPy
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        if out is not None:
            raise UnsupportedError(
                f"{numpy_name(ufunc)}: out= (or an in-place operator on an array, a += x) would write an expression "
                "into an array; write a = a + x"
            )
        if method == "__call__":
            dtype = kwargs.pop("dtype", None)
            result = call(ufunc, inputs, kwargs)
            return result if dtype is None else result.astype(dtype)
        answer = FUNCTIONS.get(f"ufunc.{method}")
        if answer is None:
            raise UnsupportedError(f"{numpy_name(ufunc)}.{method} is not defined for symbolic arrays")
        return answer(ufunc, *inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return call(function, args, kwargs)

    # ---------------------------------------------------------------- the IR
    def apply(self, op: str, *operands: Expr, **attrs: Any) -> Expr:
        """The op `op` on `operands`, strict: their shapes and dtypes must fit as the op wants them."""
        return wrap(make(op, [o.value for o in operands], **attrs), self, *operands)

    def astype(self, dtype: Any, **_: Any) -> Expr:
        return wrap(cast_value(self.value, dtype_name(dtype)), self)

    def __copy__(self) -> Expr:
        return self

    def __deepcopy__(self, memo: Any) -> Expr:
        return self



# -------------------------------------------------------------------- making expressions
_default: list[type[Expr]] = [Expr]


def use_class(kind: type[Expr]) -> None:
    """Set the class of expressions that are made from no expression (symbols, constants, sizes)."""
    _default[0] = kind


def wrap(value: Value, *operands: Any) -> Any:
    """`value` as an expression of the most derived class among the operands and the default."""
    kind = _default[0]
    for operand in operands:
        own = type(operand)
        if own is not kind and isinstance(operand, Expr) and issubclass(own, kind):
            kind = own
    return kind(value)


def dim(name: str) -> Dim:
    """A named dimension, to be used in shapes and in arithmetic: `n`, `n - 1`, `m*n`."""
    return named(name)


def dims(names: str) -> tuple[Dim, ...]:
    """Several dimensions: `n, m = dims("n m")`."""
    if not isinstance(names, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f'dims: given {names!r}, expected names in one string such as "n m"')
    return tuple([named(n) for n in names.replace(",", " ").split()])


def symbol(name: str, shape: Any = (), dtype: Any = "f64", **facts: bool) -> Any:
    """A symbolic array. shape: integers and dimensions. facts: symmetric=True, positive=True, ... (ir.types.FACTS)."""
    kind = TensorType(
        dtype_name(dtype),
        raw_shape(shape, f"symbol {name}: shape"),
        frozenset(fact for fact, holds in facts.items() if holds),
    )
    unknown = facts.keys() - FACTS
    if unknown:
        raise ArgumentError(f"symbol {name}: unknown fact {min(unknown)!r}, expected one of {', '.join(sorted(FACTS))}")
    return wrap(BUILDER.param(name, kind))


def constant(x: Any, dtype: Any = None) -> Any:
    """Numbers, dimensions, arrays and nested lists of them (and of expressions) as an expression."""
    result = as_expr(x)
    return result if dtype is None else result.astype(dtype)


def as_expr(x: Any, like: Any = None) -> Any:
    """`x` as an expression; a Python number takes the dtype it has beside `like`, as in NumPy."""
    if isinstance(x, Expr):
        return x
    strong = like.value.type.dtype if isinstance(like, Expr) else None
    if is_weak(x):
        return wrap(number_value(x, weak_dtype(strong, x)), like)
    if isinstance(x, (list, tuple)):
        nested = FUNCTIONS["array"](x)
        return wrap(nested.value, like)
    if isinstance(x, (np.ndarray, np.generic)) or hasattr(x, "__array__"):
        return wrap(array_value(x), like)
    if isinstance(x, complex):
        raise DtypeError(f"{x!r}: complex numbers are not supported, expected a real number")
    raise DtypeError(f"{x!r} (a {type(x).__name__}): expected an expression, a number, a dimension or an array")


def is_weak(x: Any) -> bool:
    """Whether NumPy lets the other operand choose the dtype: Python numbers and dimensions."""
    return isinstance(x, (bool, int, float, Fraction, Dim)) and not isinstance(x, np.generic)


# -------------------------------------------------------------------- dtypes and broadcasting of operands
_FLOATS = frozenset({"f64", "f32"})
_DTYPES = _FLOATS | {"i64", "bool"}


def promote(operands: Sequence[Any], floating: bool = False) -> list[Any]:
    """Operands as expressions of one dtype by NumPy's rules; a float dtype at least when `floating`."""
    exprs = [o if isinstance(o, Expr) or is_weak(o) else as_expr(o) for o in operands]
    kinds = {e.value.type.dtype if isinstance(e, Expr) else "" for e in exprs}
    if len(kinds) == 1 and kinds <= (_FLOATS if floating else _DTYPES):
        return exprs
    dtype: str | None = None
    weak: list[Any] = []
    for e in exprs:
        if not isinstance(e, Expr):
            weak.append(e)
        elif e.value.op.name == "size":
            # A dimension is a Python int in NumPy, so it stays weak when it has become an expression.
            weak.append(1 if e.value.type.dtype == "i64" else 1.0)
        else:
            dtype = e.value.type.dtype if dtype is None else common_dtype(dtype, e.value.type.dtype)
    for number in weak:
        dtype = weak_dtype(dtype, number)
    assert dtype is not None
    if floating and dtype in ("i64", "bool"):
        dtype = "f64"
    like = next((e for e in exprs if isinstance(e, Expr)), None)
    return [
        wrap(cast_value(e.value, dtype) if isinstance(e, Expr) else number_value(e, dtype), like) for e in exprs
    ]


def broadcast_shape(shapes: Sequence[Shape], where: str) -> Shape:
    """NumPy's broadcast shape; raises `ShapeError` with all shapes."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            known = result[axis]
            if known == 1 and isinstance(known, int):
                result[axis] = size
            elif size != known and size != 1:
                raise misfit(
                    f"{where}: shapes {' and '.join(format_shape(s) for s in shapes)} do not broadcast "
                    f"(sizes {known} and {size})",
                    known,
                    size,
                )
    return tuple(result)


def broadcast_to(x: Expr, shape: Shape) -> Any:
    """`x` in a larger shape, as `np.broadcast_to`."""
    own = x.value.type.shape
    if own == shape:
        return x
    if broadcast_shape([own, shape], "broadcast_to") != shape:
        raise ShapeError(f"broadcast_to: shape {format_shape(own)} does not broadcast to {format_shape(shape)}")
    if x.value.op.name == "const":
        return wrap(BUILDER.const(x.value.attr("value"), shape, x.value.type.dtype), x)
    lead = len(shape) - len(own)
    return contraction([x], [range(lead, len(shape))], range(len(shape)), dict(enumerate(shape)))


def broadcast_exprs(exprs: Sequence[Any], where: str = "broadcast") -> list[Any]:
    """Expressions broadcast against each other."""
    shapes = [e.value.type.shape for e in exprs]
    if shapes.count(shapes[0]) == len(shapes):
        return list(exprs)
    shape = broadcast_shape(shapes, where)
    return [broadcast_to(e, shape) for e in exprs]


def elementwise(op: str, *operands: Any, floating: bool = True, where: str = "", **attrs: Any) -> Any:
    """An elementwise op on operands promoted to one dtype and broadcast."""
    exprs = promote(operands, floating)
    if len(exprs) > 1:
        exprs = broadcast_exprs(exprs, where or op)
    return wrap(make(op, [e.value for e in exprs], **attrs), *exprs)


# -------------------------------------------------------------------- contractions
def contraction(
    exprs: Sequence[Any],
    words: Sequence[Sequence[int]],
    output: Sequence[int],
    sizes: Mapping[int, Size] | None = None,
    where: str = "contraction",
) -> Any:
    """The product of expressions of one dtype over integer labels, summed over labels that `output` lacks.

    An axis of size 1 goes with any size of its label, as in NumPy; `sizes` gives labels that only `output` has.
    """
    full: dict[int, Size] = dict(sizes or {})
    for x, word in zip(exprs, words, strict=True):
        for label, size in zip(word, x.value.type.shape, strict=True):
            known = full.setdefault(label, size)
            if known != size and known == 1:
                full[label] = size
            elif known != size and size != 1:
                raise misfit(
                    f"{where}: shapes {' and '.join(format_shape(e.value.type.shape) for e in exprs)} do not fit "
                    f"(sizes {known} and {size})",
                    known,
                    size,
                )
    fresh = 1 + max([*full, *output], default=0)
    values: list[Value] = []
    labels: list[tuple[int, ...]] = []
    for x, word in zip(exprs, words, strict=True):
        shape = x.value.type.shape
        gone = [a for a, label in enumerate(word) if shape[a] == 1 and full[label] != 1]
        value, kept = x.value, tuple(word)
        if gone:
            dropped = unit_axes_dropped(value, gone)
            if dropped is not None:
                value, kept = dropped, tuple([label for a, label in enumerate(word) if a not in gone])
            else:
                # Summing an axis of size 1 takes its only entry.
                kept = tuple([fresh + a if a in gone else label for a, label in enumerate(word)])
                fresh += len(word)
        values.append(value)
        labels.append(kept)
    if exprs and exprs[0].dtype == "bool" and (len(exprs) > 1 or {x for w in labels for x in w} - set(output)):
        raise DtypeError(f"{where}: booleans are neither multiplied nor summed; use x.astype(float) or np.where")
    return wrap(contract(BUILDER, values, labels, tuple(output), full), *exprs)


def unit_axes_dropped(value: Value, axes: Sequence[int]) -> Value | None:
    """`value` without these axes of size 1 where that takes no sum: it broadcast them itself, or it is boolean."""
    shape = value.type.shape
    rest = tuple([s for a, s in enumerate(shape) if a not in axes])
    if value.op.name == "const":
        return BUILDER.const(value.attr("value"), rest, value.type.dtype)
    if value.op.name == "contract":
        spec = parse_spec(value.attr("spec"))
        free = dict(zip(spec.free, value.attr("sizes", ()), strict=True))
        leaving = [spec.output[a] for a in axes]
        if all(label in free and spec.output.count(label) == 1 for label in leaving):
            output = tuple([x for x in spec.output if x not in leaving])
            return contract(BUILDER, value.args, spec.operands, output, free, value.type.dtype)
    if value.type.dtype == "bool":
        return make("reshape", [value], shape=rest, rank=len(shape))
    return None


Dim.lift_with(lambda size: wrap(number_value(size, "i64")))
