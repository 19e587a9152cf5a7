"""The operators and methods of a symbolic array, each a call of the registered function of that name."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NoReturn

import numpy as np

from symdiff.errors import UnsupportedAttributeError, UnsupportedError
from symdiff.frontend.registry import FUNCTIONS, hint_for
from symdiff.ir.dims import Dim


def _operate(name: str, a: Any, b: Any, other: Any) -> Any:
    if isinstance(other, _OPERANDS) or hasattr(other, "__array__"):
        return FUNCTIONS[name](a, b)
    return NotImplemented


class ArrayMethods:
    """Operators with NumPy's meaning, and the methods of `np.ndarray` that have one for symbols."""

    __slots__ = ()

    # ---------------------------------------------------------------- operators
    def __add__(self, other: Any) -> Any:
        return _operate("add", self, other, other)

    def __radd__(self, other: Any) -> Any:
        return _operate("add", other, self, other)

    def __sub__(self, other: Any) -> Any:
        return _operate("subtract", self, other, other)

    def __rsub__(self, other: Any) -> Any:
        return _operate("subtract", other, self, other)

    def __mul__(self, other: Any) -> Any:
        return _operate("multiply", self, other, other)

    def __rmul__(self, other: Any) -> Any:
        return _operate("multiply", other, self, other)

    def __truediv__(self, other: Any) -> Any:
        return _operate("true_divide", self, other, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _operate("true_divide", other, self, other)

    def __floordiv__(self, other: Any) -> Any:
        return _operate("floor_divide", self, other, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _operate("floor_divide", other, self, other)

    def __mod__(self, other: Any) -> Any:
        return _operate("mod", self, other, other)

    def __rmod__(self, other: Any) -> Any:
        return _operate("mod", other, self, other)

    def __pow__(self, other: Any) -> Any:
        return _operate("power", self, other, other)

    def __rpow__(self, other: Any) -> Any:
        return _operate("power", other, self, other)

    def __matmul__(self, other: Any) -> Any:
        return _operate("matmul", self, other, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _operate("matmul", other, self, other)

    def __and__(self, other: Any) -> Any:
        return _operate("bitwise_and", self, other, other)

    def __rand__(self, other: Any) -> Any:
        return _operate("bitwise_and", other, self, other)

    def __or__(self, other: Any) -> Any:
        return _operate("bitwise_or", self, other, other)

    def __ror__(self, other: Any) -> Any:
        return _operate("bitwise_or", other, self, other)

    def __lshift__(self, other: Any) -> Any:
        return _operate("left_shift", self, other, other)

    def __rlshift__(self, other: Any) -> Any:
        return _operate("left_shift", other, self, other)

    def __rshift__(self, other: Any) -> Any:
        return _operate("right_shift", self, other, other)

    def __rrshift__(self, other: Any) -> Any:
        return _operate("right_shift", other, self, other)

    def __xor__(self, other: Any) -> Any:
        return _operate("bitwise_xor", self, other, other)

    def __rxor__(self, other: Any) -> Any:
        return _operate("bitwise_xor", other, self, other)

    def __divmod__(self, other: Any) -> Any:
        return _operate("divmod", self, other, other)

    def __rdivmod__(self, other: Any) -> Any:
        return _operate("divmod", other, self, other)

    def __lt__(self, other: Any) -> Any:
        return _operate("less", self, other, other)

    def __le__(self, other: Any) -> Any:
        return _operate("less_equal", self, other, other)

    def __gt__(self, other: Any) -> Any:
        return _operate("greater", self, other, other)

    def __ge__(self, other: Any) -> Any:
        return _operate("greater_equal", self, other, other)

    def __eq__(self, other: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _operate("equal", self, other, other)

    def __ne__(self, other: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _operate("not_equal", self, other, other)

    def __neg__(self) -> Any:
        return FUNCTIONS["negative"](self)

    def __pos__(self) -> Any:
        return FUNCTIONS["positive"](self)

    def __abs__(self) -> Any:
        return FUNCTIONS["absolute"](self)

    def __invert__(self) -> Any:
        return FUNCTIONS["invert"](self)

    def __floor__(self) -> Any:
        return FUNCTIONS["floor"](self)

    def __ceil__(self) -> Any:
        return FUNCTIONS["ceil"](self)

    def __trunc__(self) -> Any:
        return FUNCTIONS["trunc"](self)

    def __round__(self, digits: int | None = None) -> Any:
        return FUNCTIONS["round"](self, digits or 0)

    def __getitem__(self, index: Any) -> Any:
        return FUNCTIONS["getitem"](self, index)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise UnsupportedError(
            "expressions are never changed in place: write x = sd.set(x, index, value) for x[index] = value, and "
            "x = sd.add_at(x, index, value) for x[index] += value"
        )

    # ---------------------------------------------------------------- attributes and methods
    def __getattr__(self, name: str) -> NoReturn:
        """Only what is not found elsewhere comes here."""
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        hint = f"use np.{name}(x, ...)" if name in FUNCTIONS else hint_for(name)
        raise UnsupportedAttributeError(
            f"x.{name} is not defined for symbolic arrays; {hint or 'they have no memory: take it from the numbers'}"
        )

    @property
    def T(self) -> Any:
        return FUNCTIONS["transpose"](self)

    @property
    def mT(self) -> Any:
        return FUNCTIONS["matrix_transpose"](self)

    @property
    def real(self) -> Any:
        return self

    @property
    def flat(self) -> NoReturn:
        raise UnsupportedError("x.flat is not defined for symbolic arrays; use x.ravel()")

    def copy(self, order: Any = None) -> Any:
        return self

    def fill(self, value: Any) -> NoReturn:
        raise UnsupportedError("expressions are never changed in place; use np.full_like(x, value)")

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        return FUNCTIONS["reshape"](self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self, *axes: Any) -> Any:
        return FUNCTIONS["transpose"](self, (axes[0] if len(axes) == 1 else axes) if axes else None)

    def flatten(self, order: str = "C") -> Any:
        return FUNCTIONS["ravel"](self, order=order)

    def ravel(self, order: str = "C") -> Any:
        return FUNCTIONS["ravel"](self, order=order)

    def sum(
        self, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False, *, where: Any = True
    ) -> Any:
        return _plain("sum", out)(self, axis=axis, dtype=dtype, keepdims=keepdims, where=where)

    def mean(
        self, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False, *, where: Any = True
    ) -> Any:
        return _plain("mean", out)(self, axis=axis, dtype=dtype, keepdims=keepdims, where=where)

    def max(
        self, axis: Any = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = True
    ) -> Any:
        return _plain("max", out)(self, axis=axis, keepdims=keepdims, initial=initial, where=where)

    def min(
        self, axis: Any = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = True
    ) -> Any:
        return _plain("min", out)(self, axis=axis, keepdims=keepdims, initial=initial, where=where)

    def prod(
        self, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False, initial: Any = None,
        where: Any = True,
    ) -> Any:  # fmt: skip
        return _plain("prod", out)(
            self, axis=axis, dtype=dtype, keepdims=keepdims, initial=initial, where=where
        )

    def any(self, axis: Any = None, out: None = None, keepdims: bool = False, *, where: Any = True) -> Any:
        return _plain("any", out)(self, axis=axis, keepdims=keepdims, where=where)

    def all(self, axis: Any = None, out: None = None, keepdims: bool = False, *, where: Any = True) -> Any:
        return _plain("all", out)(self, axis=axis, keepdims=keepdims, where=where)

    def var(self, axis: Any = None, dtype: Any = None, out: None = None, ddof: Any = 0, keepdims: bool = False) -> Any:
        return _plain("var", out)(self, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Any = None, dtype: Any = None, out: None = None, ddof: Any = 0, keepdims: bool = False) -> Any:
        return _plain("std", out)(self, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def argmax(self, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
        return _plain("argmax", out)(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
        return _plain("argmin", out)(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
        return _plain("cumsum", out)(self, axis=axis, dtype=dtype)

    def cumprod(self, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
        return _plain("cumprod", out)(self, axis=axis, dtype=dtype)

    def dot(self, other: Any) -> Any:
        return FUNCTIONS["dot"](self, other)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        return FUNCTIONS["trace"](self, offset, axis1, axis2)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        return FUNCTIONS["diagonal"](self, offset, axis1, axis2)

    def clip(self, min: Any = None, max: Any = None) -> Any:
        return FUNCTIONS["clip"](self, min, max)

    def squeeze(self, axis: Any = None) -> Any:
        return FUNCTIONS["squeeze"](self, axis)

    def swapaxes(self, axis1: int, axis2: int) -> Any:
        return FUNCTIONS["swapaxes"](self, axis1, axis2)

    def take(self, indices: Any, axis: int | None = None) -> Any:
        return FUNCTIONS["take"](self, indices, axis)

    def repeat(self, repeats: Any, axis: int | None = None) -> Any:
        return FUNCTIONS["repeat"](self, repeats, axis)

    def round(self, decimals: int = 0) -> Any:
        return FUNCTIONS["round"](self, decimals)

    def conj(self) -> Any:
        return self

    def conjugate(self) -> Any:
        return self


_OPERANDS = (ArrayMethods, bool, int, float, complex, Fraction, np.generic, np.ndarray, Dim, list, tuple)


def _plain(name: str, out: Any) -> Any:
    if out is not None:
        raise UnsupportedError(f"{name}: out= writes into an array; expressions are never changed, use the result")
    return FUNCTIONS[name]
