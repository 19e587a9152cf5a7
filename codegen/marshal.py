"""The portable calling side: any Python arguments to kernel arguments and back, with errors that say what is wrong.

Takes a `Signature` and the addresses of a kernel; gives a callable. The fast entry sends here whatever it does not
recognize, and where there is no fast entry every call comes here. Promises: a conversion never loses information (a
float64 array is not squeezed into float32, a float never becomes an integer; numbers written in Python are taken at
the parameter's precision); no argument is written to; an `out` array that shares memory with an argument receives the
same numbers as a fresh one would.
"""

import ctypes
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from codegen.engine import Library
from codegen.errors import ArgumentTypeError, ArgumentValueError, KernelError
from codegen.signature import DTYPES, ArraySpec, AxisPoly, Signature, shape_text

Array: TypeAlias = npt.NDArray[Any]

_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)  # releases the GIL
_SHAPES = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
_EXACT_OVERLAP_WORK = 10_000


@dataclass(frozen=True)
class KernelAddresses:
    """Where a kernel's functions are; 0 for one that it does not have."""

    run: int
    shapes: int = 0
    check: int = 0


@dataclass
class Frame:
    """The arguments of one kernel call in C form, and the arrays they point into."""

    params: list[Array]
    results: list[Array]
    dims: Any
    data: Any
    strides: Any


class Marshal:
    """Calls a kernel with arbitrary Python arguments."""

    def __init__(self, signature: Signature, library: Library | None, addresses: KernelAddresses) -> None:
        self.signature = signature
        self.addresses = addresses
        self.library = library  # owns the code at these addresses
        self._run: Callable[..., int] = _KERNEL(addresses.run)
        self._shapes: Callable[..., int] | None = _SHAPES(addresses.shapes) if addresses.shapes else None
        self._result_axes = sum(len(r.axes) for r in signature.results)
        self._names = {p.name: i for i, p in enumerate(signature.params)}

    def __call__(self, *args: Any, out: Any = None, sizes: Mapping[str, int] | None = None, **named: Any) -> Any:
        """Convert, check, run, and hand the results back; with `out`, write there and return `out`'s arrays."""
        values = args if len(args) == len(self.signature.params) and not named else self.positional(args, named)
        params = list(map(convert, self.signature.params, values))
        bound = self.bind_sizes(params, sizes)
        targets = self.output_targets(out, self.result_shapes(bound))
        results = [self.buffer_for(target, shape, dtype, params) for target, shape, dtype in targets]
        frame = self.frame(params, results, bound)
        self.run(frame)
        answer: list[Any] = []
        for (target, _, _), result in zip(targets, results, strict=True):
            if target is None:
                answer.append(result if result.ndim else result.item())
            else:
                if result is not target:
                    np.copyto(target, result)
                answer.append(target)
        return answer[0] if self.signature.single else tuple(answer)

    def positional(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """Arguments in the order of the parameters, whether they came by position or by name."""
        signature = self.signature
        expected = f"{len(signature.params)} argument{'s' if len(signature.params) != 1 else ''}"
        expected += f" ({', '.join(p.name for p in signature.params)})" if signature.params else ""
        for name in named:
            if name not in self._names:
                raise ArgumentTypeError(f"{signature.name}: unexpected keyword {name!r}; expected {expected}")
            if self._names[name] < len(args):
                raise ArgumentTypeError(f"{signature.name}: {name} is given by position and by name")
        if len(args) + len(named) != len(signature.params):
            raise ArgumentTypeError(f"{signature.name}: expected {expected}, given {len(args) + len(named)}")
        return [*args, *(named[p.name] for p in signature.params[len(args) :])]

    def bind_sizes(self, params: Sequence[Array], sizes: Mapping[str, int] | None) -> dict[str, int]:
        """The value of every named dimension, each shape compared with what it must be."""
        bound = self._given_sizes(sizes)
        origin: dict[str, tuple[str, int]] = {}
        polynomials: list[tuple[ArraySpec, Array, int, AxisPoly]] = []
        for spec, array in zip(self.signature.params, params, strict=True):
            if array.ndim != len(spec.axes):
                raise _wrong_shape(spec, array)
            for position, (axis, size) in enumerate(zip(spec.axes, array.shape, strict=True)):
                if isinstance(axis, int):
                    if size != axis:
                        raise _wrong_shape(spec, array)
                elif not isinstance(axis, str):
                    polynomials.append((spec, array, position, axis))
                elif axis not in bound:
                    bound[axis], origin[axis] = size, (spec.name, position)
                elif bound[axis] != size:
                    elsewhere = "{} (axis {})".format(*origin[axis]) if axis in origin else "sizes"
                    raise ArgumentValueError(
                        f"{spec.name}: dimension {axis} is {size} here (axis {position}) "
                        f"but {bound[axis]} in {elsewhere}"
                    )
        for spec, array, position, axis in polynomials:
            wanted = axis(bound)
            if array.shape[position] != wanted:
                where = ", ".join(f"{name} = {bound[name]}" for name in axis.names)
                raise _wrong_shape(spec, array, f": axis {position} has to be {axis} = {wanted}, because {where}")
        return bound

    def _given_sizes(self, sizes: Mapping[str, int] | None) -> dict[str, int]:
        signature = self.signature
        given: dict[str, int] = {}
        for name, size in (sizes or {}).items():
            if name not in signature.dims:
                known = ", ".join(signature.dims) or "none"
                raise ArgumentValueError(f"{signature.name}: sizes names {name!r}; its dimensions: {known}")
            given[name] = _size_of(name, size)
        missing = [name for name in signature.given if name not in given and name not in signature.bound]
        if missing:
            raise ArgumentTypeError(
                f"{signature.name}: no argument shows the size of {', '.join(missing)}; "
                f"call with sizes={{{', '.join(f'{name!r}: ...' for name in missing)}}}"
            )
        return given

    def result_shapes(self, bound: Mapping[str, int]) -> list[tuple[int, ...]]:
        """The shapes of the results, from the kernel's own function."""
        flat = (ctypes.c_int64 * max(1, self._result_axes))()
        if self._shapes is not None:
            dims = (ctypes.c_int64 * max(1, len(bound)))(*(bound[name] for name in self.signature.dims))
            status = self._shapes(dims, flat)
            if status:
                raise self.status_error(status, bound)
        shapes: list[tuple[int, ...]] = []
        start = 0
        for spec in self.signature.results:
            shapes.append(tuple(flat[start : start + len(spec.axes)]))
            start += len(spec.axes)
        return shapes

    def output_targets(
        self, out: Any, shapes: Sequence[tuple[int, ...]]
    ) -> list[tuple[Array | None, tuple[int, ...], np.dtype[Any]]]:
        """For each result: the array that `out` gives for it (or None), its shape, its dtype."""
        results = self.signature.results
        if out is None:
            given: tuple[Any, ...] = (None,) * len(results)
        elif isinstance(out, tuple):
            given = cast("tuple[Any, ...]", out)
        elif self.signature.single:
            given = (out,)
        else:
            raise ArgumentTypeError(
                f"out: expected a tuple of {len(results)} arrays ({', '.join(r.name for r in results)}), "
                f"given {describe(out)}"
            )
        if len(given) != len(results):
            raise ArgumentTypeError(f"out: expected {len(results)} arrays, given {len(given)}")
        targets: list[tuple[Array | None, tuple[int, ...], np.dtype[Any]]] = []
        for spec, shape, target in zip(results, shapes, given, strict=True):
            if target is not None:
                check_output(spec, shape, target)
            targets.append((target, shape, DTYPES[spec.dtype]))
        present = [(spec.name, array) for spec, array in zip(results, given, strict=True) if array is not None]
        for i, (name, target) in enumerate(present):
            for other_name, other in present[:i]:
                if share_memory(target, other):
                    raise ArgumentValueError(f"out: the arrays for {other_name} and {name} share memory")
        return targets

    @staticmethod
    def buffer_for(
        target: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], params: Sequence[Array]
    ) -> Array:
        """Where the kernel writes a result: the caller's array if nothing else sees that memory, else a fresh one."""
        if target is None or not target.flags.aligned or not self_disjoint(target):
            return np.empty(shape, dtype)
        if any(np.may_share_memory(target, param) for param in params):
            return np.empty(shape, dtype)
        return target

    def frame(self, params: list[Array], results: list[Array], bound: Mapping[str, int]) -> Frame:
        """The three arrays of a kernel call. They point into `params` and `results`, which the frame keeps."""
        arrays = params + results
        strides = [stride for array in arrays for stride in array.strides]
        return Frame(
            params,
            results,
            (ctypes.c_int64 * max(1, len(self.signature.dims)))(*(bound[name] for name in self.signature.dims)),
            (ctypes.c_void_p * max(1, len(arrays)))(*(array.__array_interface__["data"][0] for array in arrays)),
            (ctypes.c_int64 * max(1, len(strides)))(*strides),
        )

    def run(self, frame: Frame) -> None:
        """Run the kernel on a frame; a status becomes an exception."""
        status = self._run(frame.dims, frame.data, frame.strides)
        if status:
            raise self.status_error(status, dict(zip(self.signature.dims, frame.dims, strict=False)))

    def status_error(self, status: int, bound: Mapping[str, int]) -> Exception:
        """The exception for a status code."""
        meaning = self.signature.statuses.get(status)
        if meaning is None:
            return KernelError(f"{self.signature.name}: the kernel ended with status {status}")
        if isinstance(meaning, str):
            return KernelError(meaning)
        answer = meaning(bound)
        return KernelError(answer) if isinstance(answer, str) else answer


def convert(spec: ArraySpec, value: Any) -> Array:
    """The argument as a native, aligned array of the parameter's dtype; only conversions that keep every value."""
    dtype = DTYPES[spec.dtype]
    if type(value) is np.ndarray and value.dtype is dtype and value.flags.aligned:
        return value
    if type(value) is float and spec.dtype == "f64":
        return np.array(value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ArgumentTypeError(f"{spec.name}: a masked array with masked elements cannot be passed; fill it first")
    try:
        # Python's own conversion takes integers of any length to the nearest float.
        given = np.asarray(float(value) if isinstance(value, int) and dtype.kind == "f" else value)
    except (TypeError, ValueError, OverflowError) as error:
        shown = f"{describe(value)}: {error}"
        raise ArgumentTypeError(f"{spec.name}: expected {expected_text(spec)}, given {shown}") from None
    if not _converts(given, dtype, _is_plain(value)):
        raise ArgumentTypeError(
            f"{spec.name}: expected {expected_text(spec)}, given {describe(value, given)}"
            + _reason(given.dtype, dtype)
        )
    if given.dtype.kind == "u" and dtype.kind == "i" and given.size and int(given.max()) > np.iinfo(np.int64).max:
        raise ArgumentValueError(f"{spec.name}: the value {given.max()} does not fit into int64")
    with np.errstate(over="ignore"):  # a Python number beyond float32 is infinite there
        return np.require(given, dtype, "A")


def _size_of(name: str, size: Any) -> int:
    try:
        value = operator.index(size)
    except TypeError:
        value = -1
    if isinstance(size, bool) or not 0 <= value < 2**63:
        raise ArgumentTypeError(f"sizes: {name} cannot have the size {size!r}")
    return value


def _wrong_shape(spec: ArraySpec, array: Array, reason: str = "") -> ArgumentValueError:
    given = shape_text(array.shape)
    return ArgumentValueError(f"{spec.name}: expected shape {spec.shape_text}, given {given}{reason}")


def _converts(given: np.ndarray[Any, Any], dtype: np.dtype[Any], plain: bool) -> bool:
    source = given.dtype
    if source.kind not in "biuf":
        return False
    if given.size == 0 and plain:
        return True  # an empty list is float64 by default only
    if dtype.kind == "b":
        return source.kind == "b"
    if dtype.kind == "i":
        return source.kind in "biu"
    if source.kind == "f" and source.itemsize > 8:
        return False
    return plain or np.can_cast(source, dtype, "safe")


def _is_plain(value: Any) -> bool:
    """Numbers written in Python, which take the precision of whatever they meet (NumPy's scalars have their own)."""
    return isinstance(value, (bool, int, float, list, tuple)) and not isinstance(value, np.generic)


def _reason(source: np.dtype[Any], dtype: np.dtype[Any]) -> str:
    if source.kind == "c":
        return "; the imaginary part would be lost"
    if source.kind in "iuf" and dtype.kind == "f":
        return f"; precision would be lost, convert with .astype(np.{dtype.name}) if that is wanted"
    if source.kind == "f" and dtype.kind == "i":
        return "; floats are not rounded to integers silently"
    return ""


def expected_text(spec: ArraySpec) -> str:
    """What a parameter takes, in words."""
    name = DTYPES[spec.dtype].name
    return f"a {name} array of shape {spec.shape_text}" if spec.axes else f"a {name} number"


def describe(value: Any, array: Array | None = None) -> str:
    """What was given, in words: a number's value, for anything like an array its dtype and shape, else the type."""
    kind = type(value).__name__
    if value is None:
        return "None"
    if type(value) in (bool, int, float, complex):
        return f"{kind} {value!r}" if abs(value) < 1e100 or kind != "int" else f"{kind} of {value.bit_length()} bits"
    shown = value if isinstance(value, np.ndarray) else array
    if shown is None or isinstance(value, (str, bytes)) or (shown is not value and shown.dtype.kind == "O"):
        return kind
    return f"{kind} of dtype {shown.dtype} and shape {shape_text(shown.shape)}"


def check_output(spec: ArraySpec, shape: tuple[int, ...], target: Any) -> None:
    """Refuse an `out` array that cannot take the result as it is."""
    dtype = DTYPES[spec.dtype]
    if not isinstance(target, np.ndarray):
        raise ArgumentTypeError(f"out: expected an array for {spec.name}, given {describe(target)}")
    array = cast(Array, target)
    if array.dtype != dtype:
        raise ArgumentTypeError(f"out: {spec.name} has dtype {dtype}, given an array of dtype {array.dtype}")
    if array.shape != shape:
        raise ArgumentValueError(
            f"out: {spec.name} has shape {shape_text(shape)}, given an array of shape {shape_text(array.shape)}"
        )
    if not array.flags.writeable:
        raise ArgumentValueError(f"out: the array for {spec.name} is read-only")


def share_memory(a: Array, b: Array) -> bool:
    """Whether two arrays overlap; True as well where finding out would take too long."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, cast(Any, _EXACT_OVERLAP_WORK))
    except np.exceptions.TooHardError:
        return True


def self_disjoint(array: Array) -> bool:
    """Whether no two elements of an array can lie in the same place (sufficient: nested strides)."""
    extent = array.itemsize
    for stride, size in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return False
            extent = stride * (size - 1) + extent
    return True
