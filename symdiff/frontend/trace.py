"""Ordinary Python functions over NumPy become programs.

Takes a function and example arguments, nested tuples, lists, dicts and None of arrays and numbers; calls the function
with symbols in their place; gives a `Traced`: the program, how arguments and results are nested, and the pattern of
sizes the program serves. Axes that have one size in the example share one named dimension, so the program serves every
call whose axes repeat in the same pattern; sizes 0 and 1, which broadcast, stay numbers.

Where the function needs a size as a number (`range(n)`, `np.zeros(n)`, a list of n parts), it is called again with that
size fixed, and the program serves that size only. Where it merely compares sizes (`if n > 3`), the answer of the
example is taken and kept as a guard of the pattern.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, NoReturn

import numpy as np

from symdiff.arguments import argument_numbers, positions
from symdiff.errors import ArgumentError, DtypeError, SymbolicSizeError, SymdiffError
from symdiff.frontend.building import SIZE_WATCH, dtype_name, raw_size, refuse_leaks
from symdiff.frontend.expr import Expr, as_expr, wrap
from symdiff.frontend.nesting import Tree, flatten, nester, paths, reader, unflatten
from symdiff.frontend.patterns import Guard, Pattern, bind, fits, pattern_of
from symdiff.frontend.statics import same, snapshot
from symdiff.ir.builder import Builder
from symdiff.ir.dims import Dim, Size, evaluate
from symdiff.ir.graph import Function, Value, param, topological
from symdiff.ir.types import NUMPY_TYPES, TensorType
from symdiff.ops import OPSET

RECORD = 32
"""An axis of at most so many entries of which half are read at fixed places keeps its size as a number."""

IN_VAIN = 300
"""Values from which it pays to look whether a function will be traced again."""


# -------------------------------------------------------------------- sizes while tracing
class _Watch:
    """One attempt: the example's sizes, guards found, and dimensions whose number the code asked for."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.guards: dict[Any, Guard] = {}
        self.demanded: set[str] = set()

    def view(self, size: Dim) -> Dim:
        return TracedSize(size, self)

    def demand(self, names: frozenset[str]) -> None:
        self.demanded |= names & self.sizes.keys()

    def decide(self, compare: Callable[[Any, Any], Any], left: Dim, right: Any) -> bool:
        a, b = raw_size(left), raw_size(right) if isinstance(right, Dim) else right
        if isinstance(b, Dim) and not b.names <= self.sizes.keys():
            raise SymbolicSizeError(f"comparing the size {a} with {b}: the function is traced, and {b} has no number")
        known = _known(compare, a, b)
        if known is not None:
            return known
        number = evaluate(b, self.sizes) if isinstance(b, (int, Dim)) else b
        answer = bool(compare(evaluate(a, self.sizes), number))
        self.guards[compare, a, b] = Guard(compare, a, b, answer)
        return answer


def _known(compare: Callable[[Any, Any], Any], left: Size, right: Any) -> bool | None:
    """The answer that holds for all sizes from 2 on, if there is one."""
    if not isinstance(right, (int, Dim)):
        return None
    difference = left - right
    if isinstance(difference, int):
        return bool(compare(difference, 0))
    if any(c < 0 or not all(isinstance(a, str) for a, _ in m) for m, c in difference.terms if m):
        return None
    least = evaluate(difference, dict.fromkeys(difference.names, 2))
    # The difference is at least `least` and grows without bound.
    if least > 0 or (least == 0 and compare in (operator.ge, operator.lt)):
        return bool(compare(1, 0))
    return None


class TracedSize(Dim):
    """A dimension in traced code. Arithmetic stays symbolic; a comparison is answered and remembered."""

    __slots__ = ("_watch",)

    def __init__(self, size: Dim, watch: _Watch) -> None:
        super().__init__(dict(size.terms))
        self._watch = watch

    def _again(self, result: Any) -> Any:
        return TracedSize(result, self._watch) if isinstance(result, Dim) else result

    def __add__(self, other: Any) -> Any:
        return self._again(super().__add__(other))

    __radd__ = __add__

    def __neg__(self) -> Any:
        return self._again(super().__neg__())

    def __sub__(self, other: Any) -> Any:
        return self._again(super().__sub__(other))

    def __rsub__(self, other: Any) -> Any:
        return self._again(other - raw_size(self) if isinstance(other, Dim) else super().__rsub__(other))

    def __mul__(self, other: Any) -> Any:
        return self._again(super().__mul__(other))

    __rmul__ = __mul__

    def __pow__(self, power: Any) -> Any:
        return self._again(super().__pow__(power))

    def __floordiv__(self, divisor: Any) -> Any:
        return self._number() if isinstance(divisor, Dim) else self._again(super().__floordiv__(divisor))

    def _number(self, *_: Any) -> NoReturn:
        self._watch.demand(self.names)
        raise self._no_number("traced code")

    __mod__ = __rmod__ = __divmod__ = __rfloordiv__ = __round__ = __floor__ = __ceil__ = __trunc__ = _number
    __index__ = __int__ = __float__ = _number

    def __hash__(self) -> int:
        # A set or dict of numbers would miss a size that equals one of them.
        return self._number()

    def _compared(self, compare: Callable[[Any, Any], Any], other: Any) -> Any:
        if not isinstance(other, (int, float, Fraction, np.number, Dim)):
            return NotImplemented
        return self._watch.decide(compare, self, other)

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Dim) and other.terms == self.terms:
            return True
        return self._compared(operator.eq, other)

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __lt__(self, other: Any) -> Any:
        return self._compared(operator.lt, other)

    def __le__(self, other: Any) -> Any:
        return self._compared(operator.le, other)

    def __gt__(self, other: Any) -> Any:
        return self._compared(operator.gt, other)

    def __ge__(self, other: Any) -> Any:
        return self._compared(operator.ge, other)

    def __bool__(self) -> bool:
        return not self._watch.decide(operator.eq, self, 0)


# -------------------------------------------------------------------- leaves
def _leaf_type(leaf: Any, name: str, number_dtype: str) -> tuple[str, tuple[int, ...]]:
    """dtype and shape of an example leaf. Python numbers are floats: an integer among arguments is seldom an index."""
    if isinstance(leaf, (bool, np.bool_)):
        return "bool", ()
    if isinstance(leaf, (int, float, Fraction)) and not isinstance(leaf, np.generic):
        return number_dtype, ()
    if not isinstance(leaf, (np.ndarray, np.generic)) and not hasattr(leaf, "__array__"):
        raise DtypeError(
            f"argument {name}: {leaf!r} (a {type(leaf).__name__}), expected an array or a number; arguments that steer "
            "the function, such as strings and callables, are named by static_argnums"
        )
    if isinstance(leaf, np.ma.MaskedArray) and np.ma.is_masked(leaf):
        raise DtypeError(f"argument {name}: a masked array with masked elements cannot be passed; fill it first")
    array = np.asarray(leaf)
    try:
        return dtype_name(array.dtype), tuple(array.shape)
    except DtypeError as error:
        raise DtypeError(f"argument {name}: {error}") from error


_NUMPY_DTYPES = {name: np.dtype(kind) for name, kind in NUMPY_TYPES.items()}


def _number_dtype(leaves: Sequence[Any]) -> str:
    """The dtype of Python numbers: they never widen arrays, as in NumPy."""
    kinds = {leaf.dtype.type for leaf in leaves if isinstance(leaf, (np.ndarray, np.generic))}  # in any byte order
    return "f32" if np.float32 in kinds and np.float64 not in kinds else "f64"


@dataclass(frozen=True, slots=True)
class Traced:
    """A traced function.

    function: the program; its parameters are the leaves of the arguments in order. in_tree: how the arguments (static
    ones left out) are nested. out_tree: how the results are. pattern: the sizes it serves. dtypes: of the leaves.
    static: snapshots of the static arguments by position. served: shapes already known to fit, so that a repeated call
    is cheap. readers, nesters: what takes each argument apart and puts the results together, made at the first call.
    """

    function: Function
    in_tree: Tree
    out_tree: Tree
    pattern: Pattern
    dtypes: tuple[str, ...]
    static: tuple[tuple[int, Any], ...] = ()
    served: set[Any] = field(default_factory=set[Any], compare=False, repr=False)
    readers: list[Callable[[Any, list[Any]], bool]] = field(default_factory=list[Any], compare=False, repr=False)
    nesters: list[Callable[[Iterator[Any]], Any]] = field(default_factory=list[Any], compare=False, repr=False)

    def leaves(self, args: Sequence[Any]) -> list[Any] | None:
        """The leaves of arguments that are nested as the traced ones were; None where some are not, or a static one has
        another value."""
        if not self.readers:
            readers = [reader(tree) for tree in self.in_tree.children]
            for position, value in self.static:
                readers.insert(position, partial(_is_value, value))
            self.readers[:] = readers  # at once: other threads may be making them, too
        if len(args) != len(self.readers):
            return None
        leaves: list[Any] = []
        for item, read in zip(args, self.readers, strict=True):
            if not read(item, leaves):
                return None
        return leaves

    def arguments(self, args: Sequence[Any]) -> list[Any] | None:
        """The arrays to run the program on for these arguments; None when it does not serve them."""
        leaves = self.leaves(args)
        if leaves is None:
            return None
        arrays: list[Any] = []
        for leaf, dtype in zip(leaves, self.dtypes, strict=True):
            if type(leaf) is np.ndarray and leaf.dtype is _NUMPY_DTYPES[dtype]:
                arrays.append(leaf)
                continue
            array = self._converted(leaf, dtype, leaves)
            if array is None:
                return None
            arrays.append(array)
        shapes = tuple([a.shape for a in arrays])
        if shapes not in self.served:
            if not fits(self.pattern, shapes):
                return None
            if len(self.served) < 1000:
                self.served.add(shapes)
        return arrays

    def _converted(self, leaf: Any, dtype: str, leaves: Sequence[Any]) -> Any:
        """A leaf that is no array of the wanted dtype as one, None where it does not stand for one."""
        if type(leaf) is float and "f32" not in self.dtypes:
            return np.asarray(leaf) if dtype == "f64" else None
        if isinstance(leaf, (Expr, tuple, list, dict)) or leaf is None:
            return None
        try:
            found = _leaf_type(leaf, "", _number_dtype(leaves))[0]
        except DtypeError:  # tracing says which argument it is
            return None
        return np.asarray(leaf, NUMPY_TYPES[dtype]) if found == dtype else None

    def results(self, flat: Sequence[Any]) -> Any:
        """Nest the program's results as the function does."""
        if not self.nesters:
            self.nesters[:] = [nester(self.out_tree)]
        return self.nesters[0](iter(flat))


def _is_value(known: Any, item: Any, _: list[Any]) -> bool:
    return same(item, known)


# -------------------------------------------------------------------- tracing
def trace(
    function: Callable[..., Any],
    examples: Sequence[Any],
    shapes: Sequence[Sequence[Any]] | None = None,
    static_argnums: int | Sequence[int] = (),
    like: Callable[..., Any] | None = None,
) -> Traced:
    """Call `function` with symbols that look like `examples`.

    shapes: the shape of every leaf, dimensions allowed, in place of the pattern of the example's sizes; the function is
    then called once. static_argnums: arguments that stay the Python values they are. like: the function whose name and
    argument names the program takes, when `function` merely wraps it.
    """
    shown = function if like is None else like
    title = getattr(shown, "__name__", "f")
    numbers = argument_numbers(static_argnums, title, "static_argnums")
    wanted = positions(numbers, len(examples), title, "static_argnums")
    static = {i: examples[i] for i in sorted(set(wanted))}
    names = argument_names(shown, len(examples))
    dynamic = tuple([e for i, e in enumerate(examples) if i not in static])
    leaves, tree = flatten(dynamic)
    moving = [n for i, n in enumerate(names) if i not in static]
    labels = unique_labels([p for n, c in zip(moving, tree.children, strict=True) for p in paths(c, n)])
    number_dtype = _number_dtype(leaves)
    kinds = [_leaf_type(leaf, label, number_dtype) for leaf, label in zip(leaves, labels, strict=True)]
    job = _Job(function, static, snapshot(static), tree, labels, [d for d, _ in kinds], title)
    if shapes is not None:
        given = tuple([tuple([raw_size(s) for s in shape]) for shape in shapes])
        if len(given) != len(leaves):
            raise ArgumentError(f"trace: {len(given)} shapes given for {len(leaves)} arrays")
        return job.run(Pattern(given, least=0), None)
    return _search(job, [shape for _, shape in kinds])


def _search(job: _Job, shapes: Sequence[tuple[int, ...]]) -> Traced:
    """Trace with as few sizes fixed as the function allows."""
    fixed: set[int] = set()
    while True:
        pattern = pattern_of(shapes, tuple(fixed))
        sizes = bind(pattern, shapes)
        assert sizes is not None
        watch = _Watch(sizes)
        try:
            traced = job.run(pattern, watch)
        except Exception as error:
            # Closed-over arrays have sizes of their own, and NumPy has errors of its own: known sizes decide.
            if not sizes:
                if isinstance(error.__cause__, SymdiffError):
                    raise error.__cause__ from None  # NumPy hides what happened behind an error of its own
                raise
            fixed |= {sizes[n] for n in watch.demanded} or set(sizes.values())
            continue
        found = watch.demanded or _records(traced.function.instrs, sizes)
        if not found:
            return traced
        fixed |= {sizes[n] for n in found}


def refuse_in_vain(values: Sequence[Value], since: int) -> None:
    """Raise where a function is being traced that will be traced again, with sizes fixed: before what it gives, long as
    it is, is differentiated. since: what was born before that is not looked at."""
    watch = SIZE_WATCH.get()
    if not isinstance(watch, _Watch):
        return
    order = topological(values, since)
    if len(order) < IN_VAIN:
        return
    watch.demanded |= _records(order, watch.sizes)
    if watch.demanded:
        raise SymbolicSizeError(f"sizes {', '.join(sorted(watch.demanded))} have to be numbers")


def _records(values: Sequence[Value], sizes: Mapping[str, int]) -> set[str]:
    """Dimensions of axes that are read entry by entry (x[0], x[1], x[2]): such an axis is a record and not a stack.

    Its size belongs to the program, as a number; small programs over records become straight-line code.
    """
    entries: dict[tuple[Value, int], set[int]] = {}
    for value in values:
        if value.op.name != "slice":
            continue
        x = value.args[0]
        starts, steps, counts = value.attr("starts"), value.attr("steps"), value.attr("sizes")
        for axis, (start, step, count) in enumerate(zip(starts, steps, counts, strict=True), x.type.rank - len(starts)):
            if isinstance(x.shape[axis], Dim) and isinstance(start, int) and isinstance(count, int):
                entries.setdefault((x, axis), set()).update(start + step * i for i in range(min(count, RECORD)))
    found: set[str] = set()
    for (x, axis), read in entries.items():
        size = x.shape[axis]
        assert isinstance(size, Dim)
        if size.names <= sizes.keys() and len(read) * 2 >= evaluate(size, sizes) and evaluate(size, sizes) <= RECORD:
            found |= size.names
    return found


@dataclass(frozen=True, slots=True)
class _Job:
    function: Callable[..., Any]
    static: Mapping[int, Any]
    known: Mapping[int, Any]  # the same before the function was called
    tree: Tree
    labels: list[str]
    dtypes: list[str]
    name: str

    def run(self, pattern: Pattern, watch: _Watch | None) -> Traced:
        """One attempt with symbols of the pattern's shapes."""
        params = [
            param(label, TensorType(dtype, shape))
            for label, dtype, shape in zip(self.labels, self.dtypes, pattern.shapes, strict=True)
        ]
        args = list(unflatten(self.tree, [wrap(p) for p in params]))
        for position, value in self.static.items():
            args.insert(position, value)
        token = SIZE_WATCH.set(watch)
        try:
            result = self.function(*args)
            outputs, out_tree = flatten(result)
            values = [self._output(o).value for o in outputs]
        finally:
            SIZE_WATCH.reset(token)
        self._check_closed(values, params)
        program = Builder(OPSET).function(params, values, self.name if self.name.isidentifier() else "f")
        guards = tuple(watch.guards.values()) if watch is not None else ()
        served = Pattern(pattern.shapes, guards, pattern.least)
        return Traced(program, self.tree, out_tree, served, tuple(self.dtypes), tuple(self.known.items()))

    def _output(self, output: Any) -> Expr:
        try:
            return as_expr(output)
        except DtypeError as error:
            raise DtypeError(f"the result of {self.name}: {error}") from error

    def _check_closed(self, values: Sequence[Value], params: Sequence[Value]) -> None:
        # By identity: another symbol of the same name and type would be taken for the argument.
        known = set(params)
        order = topological(values)
        refuse_leaks(order, self.name)
        for value in order:
            if value.is_param and value not in known:
                raise ArgumentError(
                    f"{self.name} uses the symbol {value.name}, which is not among its arguments "
                    f"({', '.join(self.labels) or 'none'}); hand it in as an argument"
                )


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names: list[str] = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}_{i}" for i in range(count - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    return [*names, *[f"arg{i}" for i in range(len(names), count)]][:count]


def unique_labels(labels: Sequence[str]) -> list[str]:
    """Labels as distinct identifiers that are no names of dimensions."""
    taken: set[str] = set()
    result: list[str] = []
    for label in labels:
        clean = "".join(c if c.isalnum() else "_" for c in label) or "x"
        if not clean.isidentifier() or (clean[0] == "n" and clean[1:].isdigit()):
            clean = f"x_{clean}"
        name, number = clean, 1
        while name in taken:
            number += 1
            name = f"{clean}_{number}"
        taken.add(name)
        result.append(name)
    return result
