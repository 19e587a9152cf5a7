"""The portable calling side: any Python arguments to kernel arguments and back, with errors that say what is wrong.

Takes a `Signature` and the addresses of a kernel; gives a callable. The fast entry sends here whatever it does not
recognize, and where there is no fast entry every call comes here. Promises: a conversion never loses information (a
float64 array is not squeezed into float32, a float never becomes an integer; numbers written in Python are taken at
the parameter's precision); no argument is written to; an `out` array that shares memory with an argument receives the
same numbers as a fresh one would.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias, cast

import numpy as np

from codegen.entry.frames import Array, Frame, address_of, data_word, stride_words
from codegen.entry.signature import DTYPES, ArraySpec, Signature, shape_text
from codegen.errors import ArgumentTypeError, ArgumentValueError, KernelError
from codegen.jit.engine import Library
from codegen.jit.tiers import LATER
from symdiff.errors import integer

_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)  # releases the GIL
_SHAPES = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
AMOUNT = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
_EXACT_OVERLAP_WORK = 10_000
_SPARE = 8
"""Frames kept for later calls: as many as threads that commonly call at once."""
_SHAPES_KEPT = 64
_PLAIN: dict[str, type] = {"f64": float, "f32": float, "i64": int, "bool": bool}
REFUSED: Final = object()
"""What `Marshal.exact` answers where it cannot go on."""
_Sizes: TypeAlias = tuple[list[tuple[int, int]], list[tuple[int, ...]]]
"""The value of each dimension with its place in a frame, and the shapes of the results."""


@dataclass(frozen=True)
class KernelAddresses:
    """Where a kernel's functions are; 0 for one that it does not have."""

    run: int
    shapes: int = 0
    check: int = 0
    amount: int = 0


class Marshal:
    """Calls a kernel with arbitrary Python arguments."""

    def __init__(self, signature: Signature, library: Library | None, addresses: KernelAddresses) -> None:
        self.signature = signature
        self.addresses = addresses
        self.library = library  # owns the code at these addresses
        self.exact: Callable[..., Any] | None = None
        """Calls the kernel with arguments that need no conversion, or answers `REFUSED`; None where nothing does."""
        self._run: Callable[..., int] = _KERNEL(addresses.run)
        self._shapes: Callable[..., int] | None = _SHAPES(addresses.shapes) if addresses.shapes else None
        self._names = {p.name: i for i, p in enumerate(signature.params)}
        places = list(enumerate(stride_words(signature)))
        # Of a parameter: itself, its dtype, the type of Python's numbers that go into its cell as they are, its number,
        # the place of its strides.
        self._takes = [
            (p, DTYPES[p.dtype], None if p.axes else _PLAIN[p.dtype], *place)
            for p, place in zip(signature.params, places, strict=False)
        ]
        self._gives = [
            (r, DTYPES[r.dtype], not r.axes, *place)
            for r, place in zip(signature.results, places[len(self._takes) :], strict=True)
        ]
        self._data = data_word(signature)
        self._slots = list(enumerate(signature.dims))
        self._polynomials = signature.has_polynomials
        self._needed = [name for name in signature.given if name not in signature.bound]
        self._numbers = all(is_number for _, _, is_number, _, _ in self._gives)
        # Sizes of results that are dimensions need no call; the kernel makes its checks when it runs, too.
        self._counted = any(not isinstance(axis, (int, str)) for r in signature.results for axis in r.axes)
        self._no_targets: list[Array | None] = [None] * len(signature.results)
        self._spare: list[Frame] = []
        self._seen: dict[tuple[tuple[int, ...], ...], _Sizes] = {}

    def __call__(self, /, *args: Any, out: Any = None, sizes: Mapping[str, int] | None = None, **named: Any) -> Any:
        """Convert, check, run, and hand the results back; with `out`, write there and return `out`'s arrays."""
        values = self.positional(args, named) if named or len(args) != len(self._takes) else args
        converted = self._converted(values)
        # The fast entry has seen these arguments as they came: another look is worth while at others only.
        if self.exact is not None and not sizes and (converted is not values or named):
            found = self.exact(*converted, out=out)
            if found is not REFUSED:
                return found
        try:
            frame = self._spare.pop()
        except IndexError:
            frame = Frame(self.signature)
        words, cells, first = frame.words, frame.cells, self._data
        params: list[Array] = []
        shapes: list[tuple[int, ...]] = []
        for spec, _, plain, number, place in self._takes:
            value = converted[number]
            if type(value) is plain:
                cells[number].value = value
                shapes.append(())
                continue
            array: Array = value
            shapes.append(array.shape)
            if not spec.axes:
                cells[number].value = array.item()
                continue
            params.append(array)
            words[first + number] = address_of(array)
            words[place : place + array.ndim] = array.strides
        key = tuple(shapes)
        known = self._seen.get(key) if not sizes else None
        if known is None:
            known = self._sized(key, sizes, frame)
        dims, wanted = known
        for slot, size in dims:
            words[slot] = size
        if out is None and self._numbers:
            self.run(frame)
            answer = [cells[number].value for _, _, _, number, _ in self._gives]
        else:
            answer = self._into_arrays(frame, params, wanted, out)
        if len(self._spare) < _SPARE:
            self._spare.append(frame)
        return answer[0] if self.signature.single else tuple(answer)

    def _converted(self, values: Sequence[Any]) -> Sequence[Any]:
        """The values, arrays in place of those that have to be converted; an error for the first that cannot be, or
        that is no number where one is expected."""
        converted: list[Any] | None = None
        for spec, dtype, plain, number, _ in self._takes:
            value = values[number]
            if type(value) is plain and (plain is not int or -(2**63) <= value < 2**63):
                continue
            array: Array = value
            if type(value) is not np.ndarray or value.dtype is not dtype or not value.flags.aligned:
                array = convert(spec, value)
                converted = [*values] if converted is None else converted
                converted[number] = array
            if array.ndim and not spec.axes:
                raise _wrong_shape(spec, array.shape)
        return values if converted is None else converted

    def _sized(self, shapes: tuple[tuple[int, ...], ...], sizes: Mapping[str, int] | None, frame: Frame) -> _Sizes:
        """The sizes that go with these shapes of arguments, noted for the next call."""
        bound = self.bind_sizes(shapes, sizes)
        found = [(slot, bound[name]) for slot, name in self._slots], self.result_shapes(bound, frame)
        if not sizes:
            if len(self._seen) >= _SHAPES_KEPT:
                self._seen.clear()
            self._seen[shapes] = found
        return found

    def _into_arrays(
        self, frame: Frame, params: Sequence[Array], shapes: Sequence[tuple[int, ...]], out: Any
    ) -> list[Any]:
        """Run the kernel on a frame that holds the arguments; the results, those that are arrays in `out` or made."""
        words, cells = frame.words, frame.cells
        targets = self.output_targets(out, shapes)
        results: list[Array | None] = []
        for target, shape, (_, dtype, is_number, number, place) in zip(targets, shapes, self._gives):  # noqa: B905
            if is_number:
                results.append(None)
                continue
            result = np.empty(shape, dtype) if target is None else self.buffer_for(target, shape, dtype, params)
            results.append(result)
            words[self._data + number] = address_of(result)
            words[place : place + len(shape)] = result.strides
        self.run(frame)
        answer: list[Any] = []
        for target, result, (_, _, _, number, _) in zip(targets, results, self._gives):  # noqa: B905
            found = cells[number].value if result is None else result
            if target is not None and found is not target:
                target[...] = found
                found = target
            answer.append(found)
        return answer

    def positional(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """Arguments in the order of the parameters, whether they came by position or by name."""
        params = self.signature.params
        by_name = [p.name for p in params[len(args) :]]
        if len(args) + len(named) == len(params) and named.keys() <= set(by_name):
            return [*args, *[named[name] for name in by_name]]
        raise self._miscounted(args, named)

    def _miscounted(self, args: Sequence[Any], named: Mapping[str, Any]) -> Exception:
        """What to say of arguments that are not one for each parameter."""
        signature = self.signature
        expected = f"{len(signature.params)} argument{'s' if len(signature.params) != 1 else ''}"
        expected += f" ({', '.join(p.name for p in signature.params)})" if signature.params else ""
        for name in named:
            if name not in self._names:
                return ArgumentTypeError(f"{signature.name}: unexpected keyword {name!r}; expected {expected}")
            if self._names[name] < len(args):
                return ArgumentTypeError(f"{signature.name}: {name} is given by position and by name")
        return ArgumentTypeError(f"{signature.name}: expected {expected}, given {len(args) + len(named)}")

    def bind_sizes(self, shapes: Sequence[tuple[int, ...]], sizes: Mapping[str, int] | None) -> dict[str, int]:
        """The value of every named dimension, the shape of each argument compared with what it must be."""
        bound = self._given_sizes(sizes) if sizes or self._needed else {}
        for (spec, _, _, _, _), shape in zip(self._takes, shapes, strict=True):
            if len(shape) != len(spec.axes):
                raise _wrong_shape(spec, shape)
            for axis, size in zip(spec.axes, shape, strict=True):
                if isinstance(axis, str):
                    if bound.setdefault(axis, size) != size:
                        raise self._disagreement(shapes, sizes)
                elif isinstance(axis, int) and axis != size:
                    raise _wrong_shape(spec, shape)
        if self._polynomials:
            self._compare_polynomials(shapes, bound)
        return bound

    def _disagreement(self, shapes: Sequence[tuple[int, ...]], sizes: Mapping[str, int] | None) -> Exception:
        """What to say of the first dimension that has two sizes."""
        found = {name: (size, "sizes") for name, size in self._given_sizes(sizes).items()}
        for spec, shape in zip(self.signature.params, shapes, strict=True):
            for position, (axis, size) in enumerate(zip(spec.axes, shape, strict=True)):
                if isinstance(axis, str):
                    first, where = found.setdefault(axis, (size, f"{spec.name} (axis {position})"))
                    if first != size:
                        return ArgumentValueError(
                            f"{spec.name}: dimension {axis} is {size} here (axis {position}) but {first} in {where}"
                        )
        raise AssertionError("two sizes of one dimension were seen")

    def _compare_polynomials(self, shapes: Sequence[tuple[int, ...]], bound: Mapping[str, int]) -> None:
        for spec, shape in zip(self.signature.params, shapes, strict=True):
            for position, axis in enumerate(spec.axes):
                if isinstance(axis, (int, str)):
                    continue
                wanted = axis(bound)
                if shape[position] != wanted:
                    where = ", ".join(f"{name} = {bound[name]}" for name in axis.names)
                    reason = f": axis {position} has to be {axis} = {wanted}, because {where}"
                    raise _wrong_shape(spec, shape, reason)

    def _given_sizes(self, sizes: Mapping[str, int] | None) -> dict[str, int]:
        signature = self.signature
        given: dict[str, int] = {}
        if sizes is not None and not isinstance(sizes, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            shown = describe(sizes)
            raise ArgumentTypeError(f"{signature.name}: sizes: expected a dict of sizes by name, given {shown}")
        for name, size in (sizes or {}).items():
            if name not in signature.dims:
                known = ", ".join(signature.dims) or "none"
                raise ArgumentValueError(f"{signature.name}: sizes names {name!r}; its dimensions: {known}")
            given[name] = _size_of(name, size)
        missing = [name for name in self._needed if name not in given]
        if missing:
            raise ArgumentTypeError(
                f"{signature.name}: no argument shows the size of {', '.join(missing)}; "
                f"call with sizes={{{', '.join(f'{name!r}: ...' for name in missing)}}}"
            )
        return given

    def result_shapes(self, bound: Mapping[str, int], frame: Frame) -> list[tuple[int, ...]]:
        """The shapes of the results; sizes that are computed come from the kernel's own function."""
        results = self.signature.results
        if not self._counted:
            return [tuple([bound[a] if isinstance(a, str) else cast(int, a) for a in r.axes]) for r in results]
        for slot, name in self._slots:
            frame.words[slot] = bound[name]
        assert self._shapes is not None, "results that are arrays need the function"
        status = self._shapes(frame.dims, frame.shapes)
        if status:
            raise self.status_error(status, bound)
        flat = iter(frame.result_sizes(sum(len(r.axes) for r in results)))
        return [tuple([next(flat) for _ in r.axes]) for r in results]

    def output_targets(self, out: Any, shapes: Sequence[tuple[int, ...]]) -> list[Array | None]:
        """For each result the array that `out` gives for it, or None."""
        results = self.signature.results
        if out is None:
            return self._no_targets
        if isinstance(out, tuple):
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
        for spec, shape, target in zip(results, shapes, given, strict=True):
            if target is not None:
                check_output(spec, shape, target)
        present = [(spec.name, array) for spec, array in zip(results, given, strict=True) if array is not None]
        for i, (name, target) in enumerate(present):
            for other_name, other in present[:i]:
                if share_memory(target, other):
                    raise ArgumentValueError(f"out: the arrays for {other_name} and {name} share memory")
        return list(given)

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

    def frame(self, params: Sequence[Array], results: Sequence[Array], bound: Mapping[str, int]) -> Frame:
        """A frame of its own for calls on these arrays, which it keeps."""
        frame = Frame(self.signature)
        frame.held = (*params, *results)
        for slot, name in self._slots:
            frame.words[slot] = bound[name]
        for number, (array, place) in enumerate(zip(frame.held, stride_words(self.signature), strict=True)):
            frame.words[self._data + number] = address_of(array)
            frame.words[place : place + array.ndim] = array.strides
        return frame

    def run(self, frame: Frame) -> None:
        """Run the kernel on a frame; a status becomes an exception."""
        status = self._run(frame.dims, frame.data, frame.strides)
        if status == LATER and self.library is not None and self.library.better is not None:
            self.library.better()
            status = self._run(frame.dims, frame.data, frame.strides)
        if status:
            raise self.status_error(status, frame.sizes(self.signature))

    def amount(self, frame: Frame) -> int:
        """How much work there is at a frame's sizes, 0 where the kernel does not say."""
        return AMOUNT(self.addresses.amount)(frame.dims) if self.addresses.amount else 0

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
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ArgumentTypeError(f"{spec.name}: a masked array with masked elements cannot be passed; fill it first")
    try:
        # Python's own conversion takes integers of any length to the nearest float.
        given = np.asarray(float(value) if isinstance(value, int) and dtype.kind == "f" else value)
    except (TypeError, ValueError, OverflowError) as error:
        shown = f"{describe(value)}: {error}"
        raise ArgumentTypeError(f"{spec.name}: expected {expected_text(spec)}, given {shown}") from None
    except Exception as error:  # from an `__array__` that is not ours: an array on a device, say
        error.add_note(f"{spec.name}: expected {expected_text(spec)}, given {describe(value)}")
        raise
    if not _converts(given, dtype, _is_plain(value)):
        raise ArgumentTypeError(
            f"{spec.name}: expected {expected_text(spec)}, given {describe(value, given)}"
            + _reason(given.dtype, dtype)
        )
    if given.dtype.kind == "u" and dtype.kind == "i" and given.size and int(given.max()) > np.iinfo(np.int64).max:
        raise ArgumentValueError(f"{spec.name}: the value {given.max()} does not fit into int64")
    if given.dtype is dtype and given.flags.aligned:
        return given
    if given.dtype == dtype:
        return np.require(given, dtype, "A")
    if dtype.itemsize > 4:
        return given.astype(dtype)
    with np.errstate(over="ignore"):  # a Python number beyond float32 is infinite there
        return given.astype(dtype)


def _size_of(name: str, size: Any) -> int:
    value = integer(size)
    if value is None or not 0 <= value < 2**63:
        raise ArgumentTypeError(f"sizes: {name} cannot have the size {size!r}")
    return value


def _wrong_shape(spec: ArraySpec, shape: tuple[int, ...], reason: str = "") -> ArgumentValueError:
    return ArgumentValueError(f"{spec.name}: expected shape {spec.shape_text}, given {shape_text(shape)}{reason}")


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
    return plain or _keeps_values(source, dtype)


@cache
def _keeps_values(source: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    return np.can_cast(source, dtype, "safe")


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
