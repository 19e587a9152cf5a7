"""Values of expressions: one weak builder, exact constants from numbers and arrays, NumPy's dtype promotion.

The builder keeps no value alive that nobody holds, so a long session does not grow; equal expressions that are alive
at the same time are one value.
"""

from __future__ import annotations

import keyword
import math
import threading
import unicodedata
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol, cast
from weakref import WeakSet, ref

import numpy as np

from symdiff.errors import ArgumentError, DtypeError, ShapeError, SymbolicSizeError, integer
from symdiff.ir.builder import Builder, exact, number_of
from symdiff.ir.contraction import identity
from symdiff.ir.dims import Dim, Shape, Size, size_names
from symdiff.ir.graph import ArrayConstant, AttrItems, Function, Value, attribute_sizes, param, topological
from symdiff.ir.op import Op, OpSet
from symdiff.ir.run import Program
from symdiff.ir.types import NUMPY_TYPES, TensorType, check_type
from symdiff.ops import OPSET
from symdiff.ops.helpers import undefined


class _Entry(ref[Value]):
    """A value that the table does not keep alive, and where it stands."""

    __slots__ = ("key",)
    key: Any


class _WeakTable:
    """Rows vanish with their values; what a builder asks of a table in half the time of `WeakValueDictionary`."""

    def __init__(self) -> None:
        self._rows: dict[Any, _Entry] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: Any) -> Value | None:
        entry = self._rows.get(key)
        return None if entry is None else entry()

    def setdefault(self, key: Any, value: Value) -> Value:
        with self._lock:
            found = self.get(key)
            if found is None:
                entry = self._rows[key] = _Entry(value, self._gone)
                entry.key = key
                found = value
        return found

    def _gone(self, entry: Any) -> None:
        with self._lock:
            if self._rows.get(entry.key) is entry:  # an equal value may have taken its place
                del self._rows[entry.key]


class WeakBuilder(Builder):
    """A builder whose tables hold their values weakly.

    Folded results are not recorded: `x + 0` is `x`, and a table row from `(x, 0)` to `x` would keep `x` alive for ever.
    """

    def __init__(self, opset: OpSet) -> None:
        super().__init__(opset)
        self._table = cast(Any, _WeakTable())
        self._params = cast(Any, _WeakTable())

    def _keep(self, key: tuple[Op, tuple[Value, ...], AttrItems], value: Value) -> Value:
        return self._table.setdefault(key, value)

    def _keep_folded(self, key: tuple[Op, tuple[Value, ...], AttrItems], value: Value) -> Value:
        return value

    def param(self, name: str, kind: TensorType) -> Value:
        value = self._params.get((name, kind))
        if value is not None:
            return value
        if not isinstance(name, str) or not name.isidentifier():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"symbol name {name!r}: expected an identifier such as x or beta_1")
        if keyword.iskeyword(name):
            raise ArgumentError(
                f"symbol name {name!r} is a word of Python, which source code cannot use; take another, "
                f"such as {name}_, and set it by latex= as you like"
            )
        plain = unicodedata.normalize("NFKC", name)
        if plain != name:
            raise ArgumentError(
                f"symbol name {name!r}: Python reads it as {plain!r}; take that, and set it by latex= as you like"
            )
        return self._params.setdefault((name, kind), param(name, check_type(kind, f"parameter {name}")))


BUILDER = WeakBuilder(OPSET)

ARGUMENT = "argument_"
"""How names begin that symbols have which stand for the arguments of a function while it is differentiated."""

# What the steps of loops were called with.
STEP_SYMBOLS: WeakSet[Value] = WeakSet()
_OPEN: ContextVar[frozenset[Value]] = ContextVar("_OPEN", default=frozenset())


@contextmanager
def step_symbols(symbols: Iterable[Value]) -> Generator[None]:
    """The time in which a step may use its symbols."""
    own = frozenset(symbols)
    STEP_SYMBOLS.update(own)
    token = _OPEN.set(_OPEN.get() | own)
    try:
        yield
    finally:
        _OPEN.reset(token)


def refuse_leaks(values: Iterable[Value], where: str) -> None:
    """Raise ArgumentError when a symbol is among `values` that a step of a loop that is over was called with."""
    if not STEP_SYMBOLS:
        return
    for value in values:
        if value.is_param and value in STEP_SYMBOLS and value not in _OPEN.get():
            name = value.name.partition("·")[0]
            raise ArgumentError(
                f"{where}: {name} of a scan's step is used outside of the step, where it has no value; let the step "
                "return it, in the carry or as y"
            )

# -------------------------------------------------------------------- dtypes
DTYPE_NAMES = {"f64": "f64", "f32": "f32", "i64": "i64", "bool": "bool", "float64": "f64", "float32": "f32",
               "int64": "i64", "float": "f64", "int": "i64"}  # fmt: skip
_NUMPY_KINDS: dict[str, str] = {"float64": "f64", "float32": "f32", "bool": "bool"}
_SAFE_INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"})


class Dtype:
    """The dtype of an expression: equal to its name, `x.dtype == "f64"`, and good wherever NumPy takes a dtype."""

    __slots__ = ("dtype", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.dtype: Any = np.dtype(NUMPY_TYPES[name])  # what np.dtype() reads

    @property
    def kind(self) -> str:
        return self.dtype.kind

    @property
    def type(self) -> Any:
        return self.dtype.type

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return DTYPE_NAMES.get(other) == self.name
        if isinstance(other, Dtype):
            return other.name == self.name
        return isinstance(other, (type, np.dtype)) and self.dtype == other

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return repr(self.name)


_SEEN_DTYPES = {name: Dtype(name) for name in NUMPY_TYPES}


def seen_dtype(name: str) -> Dtype:
    """A dtype as user code sees it."""
    return _SEEN_DTYPES[name]


def dtype_name(dtype: Any) -> str:
    """The IR's name of a dtype given as "f64", np.float64, np.dtype("float64"), float, x.dtype, ..."""
    if isinstance(dtype, str) and dtype in DTYPE_NAMES:
        return DTYPE_NAMES[dtype]
    if isinstance(dtype, Dtype):
        return dtype.name
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = repr(dtype)
    if name in _NUMPY_KINDS:
        return _NUMPY_KINDS[name]
    if name in _SAFE_INTEGERS:
        return "i64"
    raise DtypeError(f"dtype {dtype if isinstance(dtype, str) else name}: expected float64, float32, int64 or bool")


def common_dtype(a: str, b: str) -> str:
    """NumPy's promotion of two array dtypes."""
    if a == b:
        return a
    pair = {a, b}
    if "bool" in pair:
        return a if b == "bool" else b
    return "f64"


def weak_dtype(strong: str | None, number: Any) -> str:
    """NumPy's promotion of an array dtype with a Python number, which only chooses the kind."""
    kind = "bool" if isinstance(number, bool) else "i64" if isinstance(number, (int, Dim)) else "f64"
    if strong is None:
        return kind
    if kind == "bool" or strong in ("f64", "f32") or (kind == "i64" and strong == "i64"):
        return strong
    return kind


# -------------------------------------------------------------------- sizes
class SizeWatch(Protocol):
    """What a trace sees of sizes: how user code reads them, and which of them it cannot do without as numbers."""

    def view(self, size: Dim) -> Dim: ...

    def demand(self, names: frozenset[str]) -> None: ...


SIZE_WATCH: ContextVar[SizeWatch | None] = ContextVar("SIZE_WATCH", default=None)


def seen(size: Size) -> Size:
    """A size as user code sees it."""
    watch = SIZE_WATCH.get()
    size = raw_size(size)
    return watch.view(size) if watch is not None and isinstance(size, Dim) else size


def seen_shape(shape: Shape) -> Shape:
    """A shape as user code sees it."""
    return shape if SIZE_WATCH.get() is None else tuple([seen(s) for s in shape])


def watched() -> bool:
    """Whether a trace is on: sizes then have example values, and comparing them is answered and remembered."""
    return SIZE_WATCH.get() is not None


def demand(names: frozenset[str]) -> None:
    """Tell a trace, if one is on, that user code needs numbers for these dimensions."""
    watch = SIZE_WATCH.get()
    if watch is not None:
        watch.demand(names)


def raw_size(size: Any, where: str = "a size") -> Size:
    """A size as the IR stores it: an int or a plain `Dim`, given as one or as whatever is an index in Python."""
    if isinstance(size, Dim):
        return size if type(size) is Dim else Dim(dict(size.terms))
    number = integer(size)
    if number is None:
        raise ArgumentError(f"{where}: {size!r}, expected an integer or a dimension (sd.dim)")
    return number


def raw_shape(shape: Any, where: str = "a shape") -> Shape:
    """A shape from a size or a sequence of sizes."""
    if isinstance(shape, (int, np.integer, Dim)):
        return (raw_size(shape, where),)
    if not isinstance(shape, Iterable):
        raise ArgumentError(f"{where}: {shape!r}, expected integers or dimensions such as (m, n)")
    return tuple([raw_size(s, where) for s in shape])


def misfit(message: str, *sizes: Size) -> ShapeError:
    """The error for sizes that do not fit as polynomials; a trace may find that their numbers do, and fix them."""
    demand(size_names(sizes))
    return ShapeError(message)


# -------------------------------------------------------------------- constants
_NAMED = ((math.pi, "pi"), (math.e, "e"))


def exact_number(number: Any) -> bool | int | Fraction | str:
    """An exact constant; the doubles nearest to pi and e are taken for pi and e."""
    if isinstance(number, float):
        for value, name in _NAMED:
            if number == value:
                return name
    return exact(number)


def number_value(number: Any, dtype: str) -> Value:
    """A Python number or a dimension as a scalar of `dtype`."""
    if isinstance(number, Dim):
        return BUILDER.make(OPSET["size"], (), (("dtype", dtype), ("size", raw_size(number))))
    # 0.0 and -0.0 are equal keys.
    return _number_value(number, dtype) if number == 0 else _cached_number(number, dtype)


def _number_value(number: Any, dtype: str) -> Value:
    if dtype == "bool":
        return BUILDER.const(bool(number), (), "bool")
    constant = exact_number(int(number) if isinstance(number, bool) else number)
    if dtype == "i64" and not isinstance(constant, int):
        raise DtypeError(f"constant {number!r} is no integer")
    return BUILDER.const(constant, (), dtype)


_cached_number = lru_cache(maxsize=1024, typed=True)(_number_value)


def array_value(array: Any) -> Value:
    """A NumPy array or scalar as a constant: filled, an identity, or written out."""
    if isinstance(array, np.ma.MaskedArray):
        raise DtypeError("masked arrays are not supported; use np.where with an explicit mask")
    array = np.asarray(array)
    if array.dtype == object:
        raise DtypeError(
            f"an array of Python objects, shape {array.shape}: expected numbers; to make an array of expressions use "
            "np.stack or sd.array([...])"
        )
    dtype = dtype_name(array.dtype)
    array = array.astype(NUMPY_TYPES[dtype], copy=False)
    if array.size:
        first = array.reshape(-1)[:1]
        if array.ndim == 0 or (array.flat[-1].tobytes() == first.tobytes() and _filled(array, first)):
            return BUILDER.const(exact_number(first[0].item()), tuple(array.shape), dtype)
    if array.ndim == 2 and array.shape[0] == array.shape[1] and dtype != "bool" and array.shape[0] > 1:
        n = array.shape[0]
        if array[0, 0] == 1 and array[0, 1] == 0 and np.array_equal(array, np.eye(n, dtype=array.dtype)):
            return identity(BUILDER, (n,), dtype)
    return BUILDER.make(OPSET["array"], (), (("value", ArrayConstant(array)),))


def _filled(array: Any, first: Any) -> bool:
    # Bytes, not numbers: 0.0 is not -0.0, and a NaN equals itself.
    width = f"u{array.dtype.itemsize}"
    return bool(np.all(np.ascontiguousarray(array).reshape(-1).view(width) == first.view(width)))


def cast_value(value: Value, dtype: str) -> Value:
    """`value` in another dtype; constants and sizes change in place."""
    dtype, kind = dtype_name(dtype), value.type
    if kind.dtype == dtype:
        return value
    if value.op.name == "size" and dtype in ("f64", "f32"):
        return BUILDER.make(OPSET["size"], (), (("dtype", dtype), ("size", value.attr("size"))))
    if value.op.name == "const":
        constant = value.attr("value")
        if dtype in ("f64", "f32"):
            return BUILDER.const(int(constant) if isinstance(constant, bool) else constant, kind.shape, dtype)
        if dtype == "bool":
            return BUILDER.const(bool(number_of(constant)), kind.shape, dtype)
        if not isinstance(constant, str):
            return BUILDER.const(int(constant), kind.shape, dtype)
    if value.op.name == "array":
        return array_value(value.attr("value").array.astype(NUMPY_TYPES[dtype]))
    return BUILDER.make(OPSET["cast"], (value,), (("dtype", dtype),))


def concrete(value: Value) -> Any:
    """The array that `value` is, when it depends on no parameter and no dimension; None otherwise.

    Raises `SymbolicSizeError` when it depends on dimensions only, which a program with known sizes could answer.
    """
    order = topological([value])
    if any(v.is_param for v in order) or undefined(order):
        return None
    names: frozenset[str] = frozenset()
    for v in order:
        names |= size_names(v.type.shape)
        for _, attribute in v.attrs:
            names |= size_names(attribute_sizes(attribute))
    if names:
        demand(names)
        raise SymbolicSizeError(f"a number was needed, but this expression depends on {', '.join(sorted(names))}")
    with np.errstate(all="ignore"):
        return np.asarray(Program(Function("constant", (), order, (value,)), {})()[0])


def make(name: str, args: Sequence[Value], /, **attrs: Any) -> Value:
    """Apply the op `name`; attributes as keywords."""
    return BUILDER.make(BUILDER.ops[name], tuple(args), tuple(sorted(attrs.items())) if attrs else ())
