"""Sparse Jacobians and Hessians: the pattern once per sizes, then a few sweeps at once and a gather per call.

The structural pattern comes from the program, a colouring says which columns (or rows) share a sweep, and native code
pushes (or pulls) one seed per colour through the program together. No dense matrix is formed on the way.

Compression adds up what shares a sweep, with factors 0 and 1: where one entry of a row is infinite or nan, others of
that row may come out as nan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import sparse

from symdiff.api.expression import free_symbols, function_of
from symdiff.api.native import cheapest, compile_function
from symdiff.diff import gradients
from symdiff.diff.forward import forward
from symdiff.diff.reverse import reverse
from symdiff.errors import ArgumentError, DerivativeError, ShapeError
from symdiff.frontend.expr import Expr
from symdiff.frontend.trace import Traced, flatten, trace
from symdiff.interp import bind_sizes
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.dims import Size, evaluate, format_shape, named, product
from symdiff.ir.graph import Function, Value
from symdiff.ir.types import NUMPY_TYPES, TensorType
from symdiff.ops import OPSET
from symdiff.simplify import optimize
from symdiff.sparsity import Colouring, colour_columns, colour_star, pattern

MODES = ("auto", "forward", "reverse")

SEEDED = 1 << 22
"""Elements of one block of seeds: when colours are many, sweeps go in blocks, so that memory stays bounded."""

PLANS = 8
"""Sizes (and index arguments) whose pattern is remembered."""


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is fixed by the sizes: pattern, colouring, and where every entry stands in the compressed result."""

    indptr: Any
    indices: Any
    shape: tuple[int, int]
    mode: Literal["forward", "reverse"]
    colouring: Colouring
    places: Any  # per entry its place in the (colours, width) result of the sweeps
    width: int
    known: list[Any]
    seeds: dict[tuple[int, int], list[Any]] = field(default_factory=dict[tuple[int, int], "list[Any]"])


class SparseDerivative:
    """A compiled sparse Jacobian or Hessian: call it with arrays, get a scipy.sparse CSR array.

    Rows and columns count the elements of the function and of the variables in C order, one variable after the other.
    """

    def __init__(self, function: Function, wrt: Sequence[int], mode: str, *, symmetric: bool = False) -> None:
        if mode not in MODES:
            raise ArgumentError(f"mode {mode!r}: expected one of {', '.join(MODES)}")
        for p in (*(function.params[i] for i in wrt), *function.results):
            if not p.type.floating:
                what = f"the variable {p.name}" if p.is_param else "the function"
                raise DerivativeError(f"{what} has dtype {p.type.dtype}: only floats have derivatives")
        self.function = cheapest(function)
        self._wrt = tuple(wrt)
        self._mode = mode
        self._symmetric = symmetric
        self._plans: dict[Any, list[_Plan]] = {}
        self._native: dict[str, Any] = {}
        self._whole = [i for i, p in enumerate(function.params) if not p.type.floating]

    # ---------------------------------------------------------------- for users
    def __call__(self, *arrays: Any) -> Any:
        """The derivative at the given inputs as a scipy.sparse.csr_array with sorted indices."""
        given, plan = self._prepare(arrays)
        # Copies: a caller may change the matrix in place, the plan must stay.
        parts = (self._values(given, plan), plan.indices.copy(), plan.indptr.copy())
        return sparse.csr_array(parts, shape=plan.shape)

    def values(self, *arrays: Any) -> Any:
        """Only the entries, in the order of the CSR pattern."""
        given, plan = self._prepare(arrays)
        return self._values(given, plan)

    def pattern(self, sizes: Mapping[str, int] | None = None, known: Mapping[str, Any] | None = None) -> Any:
        """The structural non-zeros at the given sizes, a boolean scipy.sparse.csr_array.

        sizes: by dimension name. known: integer and boolean inputs by name; without them everything that they index
        counts as non-zero.
        """
        plan = self._make_plan(dict(sizes or {}), dict(known or {}))
        ones = np.ones(len(plan.indices), np.bool_)
        return sparse.csr_array((ones, plan.indices, plan.indptr), shape=plan.shape)

    def colours(self, sizes: Mapping[str, int] | None = None, known: Mapping[str, Any] | None = None) -> Colouring:
        """The colouring at the given sizes; its `count` is the number of sweeps that one evaluation pushes at once."""
        return self._make_plan(dict(sizes or {}), dict(known or {})).colouring

    def __repr__(self) -> str:
        kind = "hessian" if self._symmetric else "jacobian"
        return f"<sparse {kind} of {self.function!r}>"

    # ---------------------------------------------------------------- plans
    def _prepare(self, arrays: Sequence[Any]) -> tuple[list[Any], _Plan]:
        params = self.function.params
        if len(arrays) != len(params):
            raise ArgumentError(
                f"{self.function.name}: {len(arrays)} arguments given, expected {len(params)} "
                f"({', '.join(p.name for p in params)})"
            )
        given = [a if isinstance(a, np.ndarray) else np.asarray(a) for a in arrays]
        shapes = tuple([a.shape for a in given])
        plans = self._plans.setdefault(shapes, [])
        for plan in plans:
            if all(np.array_equal(k, given[i]) for k, i in zip(plan.known, self._whole, strict=True)):
                return given, plan
        try:
            known = {params[i].name: given[i].copy() for i in self._whole}
            plan = self._make_plan(bind_sizes(params, shapes), known)
        except BaseException:
            if not plans:
                del self._plans[shapes]
            raise
        plans.append(plan)
        if sum(map(len, self._plans.values())) > PLANS:
            oldest = next(iter(self._plans))
            del self._plans[oldest][0]
            if not self._plans[oldest]:
                del self._plans[oldest]
        return given, plan

    def _make_plan(self, sizes: dict[str, int], known: dict[str, Any]) -> _Plan:
        function = self.function
        rows, columns = pattern(function, 0, self._wrt, sizes, known)
        count = evaluate(product(function.results[0].shape), sizes)
        width = sum(evaluate(product(function.params[i].shape), sizes) for i in self._wrt)
        shape = (count, width)
        matrix: Any = sparse.csr_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=shape)
        if self._symmetric:
            matrix = matrix + matrix.T.tocsr()
        matrix.sort_indices()
        indptr, indices = matrix.indptr, matrix.indices
        rows = np.repeat(np.arange(count), np.diff(indptr))
        mode, colouring = self._coloured(matrix)
        if self._symmetric:
            places = _mirrored(rows, indices, colouring)
        elif mode == "forward":
            places = colouring.colours[indices] * count + rows
        else:
            places = colouring.colours[rows] * width + indices
        across = count if mode == "forward" else width
        return _Plan(indptr, indices, shape, mode, colouring, places, across, list(known.values()))

    def _coloured(self, matrix: Any) -> tuple[Literal["forward", "reverse"], Colouring]:
        rows, columns = matrix.shape
        if self._symmetric:
            best = colour_star(matrix.indptr, matrix.indices, columns)
            plain = colour_columns(matrix.indptr, matrix.indices, columns, stop_at=best.count)
            return "forward", plain or best
        by_column: Colouring | None = None
        if self._mode != "reverse":
            by_column = colour_columns(matrix.indptr, matrix.indices, columns)
            if self._mode == "forward":
                assert by_column is not None
                return "forward", by_column
        turned = matrix.T.tocsr()
        turned.sort_indices()
        stop = None if by_column is None else by_column.count
        by_row = colour_columns(turned.indptr, turned.indices, rows, stop_at=stop)
        if by_row is not None:
            return "reverse", by_row
        assert by_column is not None
        return "forward", by_column

    # ---------------------------------------------------------------- values
    def _values(self, given: list[Any], plan: _Plan) -> Any:
        count = plan.colouring.count
        seeded = max(plan.shape)
        block = max(1, min(count, SEEDED // max(seeded, 1)))
        dtype = NUMPY_TYPES[self.function.results[0].type.dtype]
        if count <= block:
            return self._sweep(given, plan, 0, count).take(plan.places) if count else np.zeros(0, dtype)
        data = np.zeros(len(plan.places), dtype)
        colour = plan.places // plan.width
        order = np.argsort(colour, kind="stable")
        bounds = np.searchsorted(colour[order], np.arange(0, count + block, block))
        for number, first in enumerate(range(0, count, block)):
            own = order[bounds[number] : bounds[number + 1]]
            swept = self._sweep(given, plan, first, min(first + block, count))
            data[own] = swept.take(plan.places[own] - first * plan.width)
        return data

    def _sweep(self, given: list[Any], plan: _Plan, first: int, last: int) -> Any:
        """The compressed derivative of the colours first .. last - 1, flat."""
        native = self._native.get(plan.mode)
        if native is None:
            native = self._native[plan.mode] = compile_function(self.seeded(plan.mode), name="sparse")
        found = native(*given, *self._seeds(given, plan, first, last))
        parts = found if isinstance(found, tuple) else (found,)
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([p.reshape(last - first, -1) for p in parts], axis=1)

    def _seeds(self, given: list[Any], plan: _Plan, first: int, last: int) -> list[Any]:
        """Ones at the elements of each colour, shaped like the variables (forward) or the function (reverse)."""
        if (first, last) in plan.seeds:
            return plan.seeds[first, last]
        colours = plan.colouring.colours
        matrix = np.zeros((last - first, len(colours)), np.float64)
        inside = np.flatnonzero((colours >= first) & (colours < last))
        matrix[colours[inside] - first, inside] = 1.0
        if plan.mode == "reverse":
            sizes = bind_sizes(self.function.params, [a.shape for a in given])
            y = self.function.results[0].type
            seeds = [matrix.reshape(last - first, *[evaluate(s, sizes) for s in y.shape]).astype(NUMPY_TYPES[y.dtype])]
        else:
            seeds: list[Any] = []
            at = 0
            for i in self._wrt:
                own = matrix[:, at : at + given[i].size].reshape(last - first, *given[i].shape)
                seeds.append(np.ascontiguousarray(own, NUMPY_TYPES[self.function.params[i].type.dtype]))
                at += given[i].size
        if last - first == plan.colouring.count:
            plan.seeds[first, last] = seeds
        return seeds

    def seeded(self, mode: Literal["forward", "reverse"]) -> Function:
        """The program of the sweeps: the inputs and one seed per colour in, the compressed derivative out."""
        function = self.function
        builder = Builder(OPSET)
        mapping = builder.inline(function)
        y = mapping[function.results[0]]
        xs = [mapping[function.params[i]] for i in self._wrt]
        taken = {*function.dims, *(p.name for p in function.params)}
        colours = named(_fresh("colours", taken))

        def seed(like: Value, number: int) -> Value:
            return builder.param(_fresh(f"seed_{number}", taken), TensorType(like.type.dtype, (colours, *like.shape)))

        if mode == "forward":
            seeds = [seed(x, i) for i, x in enumerate(xs)]
            tangents = {x: Handle(builder, s) for x, s in zip(xs, seeds, strict=True)}
            results = [_or_zero(builder, forward(builder, [y], tangents, 1)[0], (colours, *y.shape), y)]
        else:
            seeds = [seed(y, 0)]
            pulled = reverse(builder, [(y, Handle(builder, seeds[0]))], xs)
            results = [_or_zero(builder, c, (colours, *x.shape), x) for c, x in zip(pulled, xs, strict=True)]
        params = [mapping[p] for p in function.params]
        return optimize(Function.of([*params, *seeds], results, f"sparse_{function.name}"), OPSET)


def _or_zero(builder: Builder, found: Handle | None, shape: tuple[Size, ...], like: Value) -> Value:
    return builder.const(0, shape, like.type.dtype) if found is None else found.value


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _mirrored(rows: Any, columns: Any, colouring: Colouring) -> Any:
    """Where a star colouring shows each entry: H[i, j] alone in its colour in row i, or else alone in row j."""
    count, colours = len(colouring.colours), colouring.colours
    key = rows * np.int64(max(colouring.count, 1)) + colours[columns]
    _, inverse, repeats = np.unique(key, return_inverse=True, return_counts=True)
    alone = repeats[inverse] == 1
    return np.where(alone, colours[columns] * count + rows, colours[rows] * count + columns)


# -------------------------------------------------------------------- from expressions and from functions
def sparse_jacobian(
    y: Any, x: Any = None, inputs: Sequence[Expr] | None = None, mode: str = "auto",
    argnums: int | Sequence[int] = 0,
) -> Any:  # fmt: skip
    """The Jacobian as a compiled function that returns a scipy.sparse CSR array.

    y: an expression, or several whose elements follow one another. x: a symbol or several. inputs: the symbols in the
    order of the arguments, by default every symbol in y in order of first appearance. mode: "forward" compresses
    columns, "reverse" rows, "auto" takes what needs fewer colours.

    With a Python function over NumPy in place of y: `sd.sparse_jacobian(f)(x0)`, derivatives in the arguments
    `argnums`.
    """
    if callable(y) and not isinstance(y, Expr):
        if x is not None or inputs is not None:
            raise ArgumentError("sparse_jacobian: a function has no symbols; choose its arguments by argnums")
        return SparseFunction(y, argnums, lambda f, wrt: SparseDerivative(_flat(f), wrt, mode), "sparse_jacobian")
    function, wrt = _program(y, x, inputs, "sparse_jacobian")
    return SparseDerivative(_flat(function), wrt, mode)


def sparse_hessian(
    f: Any, x: Any = None, inputs: Sequence[Expr] | None = None, argnums: int | Sequence[int] = 0
) -> Any:
    """The Hessian of a scalar as a compiled function that returns a scipy.sparse CSR array; see `sparse_jacobian`.

    It is symmetric, so a star colouring reads an entry where it or its mirror image stands alone.
    """
    if callable(f) and not isinstance(f, Expr):
        if x is not None or inputs is not None:
            raise ArgumentError("sparse_hessian: a function has no symbols; choose its arguments by argnums")
        return SparseFunction(f, argnums, _hessian, "sparse_hessian")
    function, wrt = _program(f, x, inputs, "sparse_hessian")
    return _hessian(function, wrt)


def _hessian(function: Function, wrt: Sequence[int]) -> SparseDerivative:
    if len(function.results) != 1 or function.results[0].type.rank:
        shapes = ", ".join(format_shape(r.shape) for r in function.results)
        raise ShapeError(f"sparse_hessian: the function has shape {shapes}, expected a scalar")
    builder = Builder(OPSET)
    mapping = builder.inline(function)
    xs = [mapping[function.params[i]] for i in wrt]
    slopes = gradients(builder, mapping[function.results[0]], xs)
    params = [mapping[p] for p in function.params]
    return SparseDerivative(_flat(Function.of(params, slopes, function.name)), wrt, "forward", symmetric=True)


def _flat(function: Function) -> Function:
    """Several results as one, their elements one after the other."""
    if len(function.results) == 1:
        return function
    builder = Builder(OPSET)
    mapping = builder.inline(function)
    parts: list[Value] = []
    for r in function.results:
        own = Handle(builder, mapping[r])
        parts.append(own.op("reshape", rank=own.rank, shape=(product(own.shape),)).value)
    whole = builder.make(OPSET["concatenate"], tuple(parts), (("axis", -1),))
    return Function.of([mapping[p] for p in function.params], [whole], function.name)


def _program(y: Any, x: Any, inputs: Sequence[Expr] | None, where: str) -> tuple[Function, list[int]]:
    ys, xs = _symbolic(y, where, "function"), _symbolic(x, where, "variable")
    for v in xs:
        if not v.value.is_param:
            raise ArgumentError(f"{where}: the variable {v} is an expression, expected a symbol")
    if inputs is None:
        listed = list(dict.fromkeys([*free_symbols([e.value for e in ys]), *[v.value for v in xs]]))
        order = [Expr(p) for p in listed]
    else:
        order = list(inputs)
        for p in order:
            if not isinstance(p, Expr) or not p.value.is_param:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArgumentError(f"{where}: given {p!r} as an input, expected a symbol")
    keys = [(p.value.name, p.value.type) for p in order]
    wrt: list[int] = []
    for v in xs:
        key = (v.value.name, v.value.type)
        if key not in keys:
            names = ", ".join(p.value.name for p in order) or "none"
            raise ArgumentError(f"{where}: the variable {v.value.name} is not among the inputs ({names})")
        if keys.index(key) in wrt:
            raise ArgumentError(f"{where}: the variable {v.value.name} is given twice")
        wrt.append(keys.index(key))
    return function_of(ys, order, where), wrt


def _symbolic(given: Any, where: str, role: str) -> list[Expr]:
    items: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    if not items:
        raise ArgumentError(f"{where}: no {role} is given")
    for item in items:
        if not isinstance(item, Expr):
            kind = type(item).__name__
            raise ArgumentError(f"{where}: the {role} is {item!r} of type {kind}, expected a symbolic expression")
    return items


class SparseFunction:
    """The sparse derivative of a Python function over NumPy, traced at the first call of each pattern of sizes."""

    def __init__(
        self, function: Callable[..., Any], argnums: int | Sequence[int],
        make: Callable[[Function, Sequence[int]], SparseDerivative], where: str,
    ) -> None:  # fmt: skip
        self.function = function
        self._argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        self._make = make
        self._where = where
        self._programs: list[tuple[Traced, SparseDerivative]] = []

    def __call__(self, *args: Any) -> Any:
        """The derivative at these arguments as a scipy.sparse.csr_array."""
        derivative, arrays = self._serving(args)
        return derivative(*arrays)

    def values(self, *args: Any) -> Any:
        """Only the entries, in the order of the CSR pattern."""
        derivative, arrays = self._serving(args)
        return derivative.values(*arrays)

    def _serving(self, args: tuple[Any, ...]) -> tuple[SparseDerivative, list[Any]]:
        for traced, derivative in self._programs:
            arrays = traced.arguments(args)
            if arrays is not None:
                return derivative, arrays
        counts = [len(flatten((a,))[0]) for a in args]
        if any(isinstance(leaf, Expr) for leaf in flatten(args)[0]):
            raise ArgumentError(f"{self._where}: a symbol is given as an argument, expected arrays; for expressions "
                                f"call {self._where}(y, x)")  # fmt: skip
        wrt: list[int] = []
        for i in self._argnums:
            if not -len(args) <= i < len(args):
                raise ArgumentError(f"{self._where}: argnums {i} for {len(args)} arguments")
            first = sum(counts[: i % len(args)])
            wrt += range(first, first + counts[i % len(args)])
        traced = trace(self.function, args)
        derivative = self._make(traced.function, wrt)
        arrays = traced.arguments(args)
        assert arrays is not None, "a program serves the arguments it was traced with"
        self._programs.append((traced, derivative))
        return derivative, arrays
