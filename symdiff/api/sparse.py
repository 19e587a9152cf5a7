"""Sparse Jacobians and Hessians: expressions and Python functions in, scipy.sparse arrays with a fixed pattern out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from symdiff.api.compression import Price, coloured, compressions, symmetric_colourings
from symdiff.api.expression import free_symbols
from symdiff.api.kinks import Kinks, with_kinks
from symdiff.api.native import Compilable, cheapest, compile_function
from symdiff.api.pieces import Native, Piece
from symdiff.api.sparse_layout import Layout, in_blocks, order_in, placed, shell_of
from symdiff.api.sparse_plans import MOVED, Direct, Sweeps, direct_forms
from symdiff.api.sparse_programs import flat, program, slope, symbolic
from symdiff.arguments import argument_numbers, is_size, positions
from symdiff.errors import ArgumentError, DerivativeError, at_least_one
from symdiff.frontend.expr import Expr
from symdiff.frontend.trace import Traced, flatten, trace
from symdiff.interp import bind_sizes
from symdiff.ir.dims import evaluate, product
from symdiff.ir.graph import Function
from symdiff.ir.types import NUMPY_TYPES
from symdiff.later import later
from symdiff.sparsity import Bicolouring, Colouring, pattern

sparse = later("scipy.sparse")

MODES = ("auto", "direct", "coloured", "forward", "reverse")
SYMMETRIC = ("star", "acyclic")
"""Modes of Hessians besides."""
FORMATS = ("csr", "csc", "bsr")
PLANS = 8
"""Sizes (and index arguments) whose pattern is remembered."""


def check_options(mode: Any, symmetric: bool, format: Any, blocksize: Any) -> None:
    """Raise ArgumentError for a mode, a format or a size of blocks that there is not."""
    where = "hessian" if symmetric else "jacobian"
    modes = (*MODES, *SYMMETRIC) if symmetric else MODES
    if mode not in modes:
        raise ArgumentError(f"sparse {where}: mode {mode!r}, expected one of {', '.join(modes)}")
    if format not in FORMATS:
        raise ArgumentError(f"sparse {where}: format {format!r}, expected one of {', '.join(FORMATS)}")
    if blocksize is not None and format != "bsr":
        raise ArgumentError(f"sparse {where}: blocksize {blocksize} with format {format!r}: only 'bsr' has blocks")
    if blocksize is not None and not (
        isinstance(blocksize, tuple) and len(blocksize) == 2 and all(is_size(b, 1) for b in blocksize)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    ):
        raise ArgumentError(f"sparse {where}: blocksize={blocksize!r}, expected two positive integers (rows, columns)")


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is fixed by the sizes. data(*arrays) computes the entries in the order of the layout, as `piece` does where
    one program is enough."""

    data: Callable[..., Any]
    piece: Piece | None
    known: list[Any]
    shell: Any  # the matrix with other entries


class SparseDerivative:
    """A compiled sparse Jacobian or Hessian: call it with arrays, get a scipy.sparse array.

    Rows and columns count the elements of the function and of the variables in C order, one variable after the other.
    The index arrays are the same objects at every call of one size, and read-only; the entries are the caller's.
    """

    def __init__(
        self, function: Function, wrt: Sequence[int], mode: str, *, symmetric: bool = False, format: str = "csr",
        blocksize: tuple[int, int] | None = None, kinks: Kinks = None, tag: str = "", **options: Any,
    ) -> None:  # fmt: skip
        check_options(mode, symmetric, format, blocksize)
        for p in (*(function.params[i] for i in wrt), *function.results):
            if not p.type.floating:
                what = f"the variable {p.name}" if p.is_param else "the function"
                raise DerivativeError(f"{what} has dtype {p.type.dtype}: only floats have derivatives")
        self.function = cheapest(function)
        self._opset = with_kinks(kinks)
        self._native = Native(lambda program: compile_function(program, single=False, name="sparse", **options))
        self.sweeps = Sweeps(self.function, wrt, self._native, self._opset, tag)
        self.format = format
        self._given = function
        self._tag = tag
        self._wrt = tuple(wrt)
        self._mode = mode
        self._symmetric = symmetric
        self._blocksize = blocksize
        self._plans: dict[Any, list[_Plan]] = {}
        self._direct: list[Direct] | None = None
        self._whole = [i for i, p in enumerate(function.params) if not p.type.floating]

    # ---------------------------------------------------------------- for users
    def __call__(self, *arrays: Any) -> Any:
        """The derivative at the given inputs as a scipy.sparse array with sorted indices."""
        given, plan = self._prepare(arrays)
        return self._matrix(plan, plan.data(*given))

    def _matrix(self, plan: _Plan, data: Any) -> Any:
        matrix = copy.copy(plan.shell)
        matrix.data = data if self.format != "bsr" else data.reshape(plan.shell.data.shape)
        return matrix

    def values(self, *arrays: Any) -> Any:
        """Only the entries, in the order of the matrix's `data`."""
        given, plan = self._prepare(arrays)
        return plan.data(*given)

    def bind(self, *arrays: Any) -> Callable[[], Any]:
        """A call without arguments that computes the entries at fixed arrays, read anew each time, into one array.

        Integer inputs shape the pattern: they keep their values.
        """
        given, plan = self._prepare(arrays)
        call = partial(plan.data, *given) if plan.piece is None else self._native.bind(plan.piece, given)
        held = call()

        def again() -> Any:
            found = call()
            if found is not held:
                held[...] = found
            return held

        return again

    def piece(self, arrays: Sequence[Any]) -> Piece | None:
        """The matrix as an output beside others, see `symdiff.api.pieces`."""
        _, plan = self._prepare(arrays)
        if plan.piece is None:
            return None
        finish = plan.piece.finish
        return replace(plan.piece, finish=lambda found: self._matrix(plan, finish(found)))

    def pattern(self, sizes: Mapping[str, int] | None = None, known: Mapping[str, Any] | None = None) -> Any:
        """The structural non-zeros at the given sizes, a boolean scipy.sparse.csr_array.

        sizes: by dimension name. known: integer and boolean inputs by name; without them everything that they index
        counts as non-zero.
        """
        return self._pattern(dict(sizes or {}), dict(known or {}))

    def colours(
        self, sizes: Mapping[str, int] | None = None, known: Mapping[str, Any] | None = None
    ) -> Colouring | Bicolouring:
        """The colouring at the given sizes; its `count` is the number of sweeps that one evaluation does at once.

        A `Bicolouring` has groups of `columns` to push and of `rows` to pull. The `kind` of a `Colouring` is
        "distance-2", "star" or "acyclic"; of the last entries are found by substitution.
        """
        matrix = self._pattern(dict(sizes or {}), dict(known or {}))
        return coloured(matrix, self._mode, self._symmetric, self._price(sizes or {}))[1]

    def colourings(
        self, sizes: Mapping[str, int], known: Mapping[str, Any] | None = None
    ) -> Sequence[Colouring | Bicolouring]:
        """The colouring that is taken and, of a Hessian, the other one of star and acyclic where that differs."""
        if not self._symmetric:
            return [self.colours(sizes, known)]
        matrix = self._pattern(dict(sizes), dict(known or {}))
        return symmetric_colourings(matrix, self._mode, self._price(sizes), both=True)

    def _price(self, sizes: Mapping[str, int]) -> Price:
        return lambda colours: self.sweeps.seconds("forward", colours, sizes)

    def method(self, sizes: Mapping[str, int] | None = None, known: Mapping[str, Any] | None = None) -> str:
        """How entries are computed at the given sizes: "direct", or "forward", "reverse" or "bidirectional" sweeps by
        colours.
        """
        given = dict(sizes or {}), dict(known or {})
        matrix = self._pattern(*given)
        if self._directly(self._layout(matrix, given[0]), matrix, *given):
            return "direct"
        return coloured(matrix, self._mode, self._symmetric, self._price(given[0]))[0]

    def __repr__(self) -> str:
        kind = "hessian" if self._symmetric else "jacobian"
        return f"<sparse {kind} of {self.function!r}>"

    # ---------------------------------------------------------------- plans
    def _prepare(self, arrays: Sequence[Any]) -> tuple[Sequence[Any], _Plan]:
        try:
            plans = self._plans[tuple([() if isinstance(a, (float, int)) else a.shape for a in arrays])]
        except (AttributeError, KeyError):
            return self._prepare_first(arrays)
        for plan in plans:
            if all(np.array_equal(k, arrays[i]) for k, i in zip(plan.known, self._whole, strict=True)):
                return arrays, plan
        return self._prepare_first(arrays)

    def _prepare_first(self, arrays: Sequence[Any]) -> tuple[Sequence[Any], _Plan]:
        params = self.function.params
        if len(arrays) != len(params):
            raise ArgumentError(
                f"{self.function.name}: {len(arrays)} arguments given, expected {len(params)} "
                f"({', '.join(p.name for p in params)})"
            )
        given = [a if isinstance(a, np.ndarray) else np.asarray(a) for a in arrays]
        shapes = tuple([a.shape for a in given])
        for plan in self._plans.get(shapes, ()):
            if all(np.array_equal(k, given[i]) for k, i in zip(plan.known, self._whole, strict=True)):
                return given, plan
        known = {params[i].name: given[i].copy() for i in self._whole}
        plan = self._make_plan(bind_sizes(params, shapes), known)
        self._plans.setdefault(shapes, []).append(plan)
        if sum(map(len, self._plans.values())) > PLANS:
            oldest = next(iter(self._plans))
            del self._plans[oldest][0]
            if not self._plans[oldest]:
                del self._plans[oldest]
        return given, plan

    def _make_plan(self, sizes: dict[str, int], known: dict[str, Any]) -> _Plan:
        matrix = self._pattern(sizes, known)
        layout = self._layout(matrix, sizes)
        shell = shell_of(layout, NUMPY_TYPES[self.function.results[0].type.dtype])
        piece = self._directly(layout, matrix, sizes, known)
        if piece is None:
            found = self._by_sweeps(layout, matrix, sizes)
            if not isinstance(found, Piece):
                return _Plan(found, None, list(known.values()), shell)
            piece = found
        return _Plan(lambda *given: self._native.call(piece, given), piece, list(known.values()), shell)

    def _by_sweeps(self, layout: Layout, matrix: Any, sizes: dict[str, int]) -> Piece | Callable[..., Any]:
        dtype = NUMPY_TYPES[self.function.results[0].type.dtype]
        parts = compressions(matrix, self._mode, self._symmetric, self._price(sizes), dtype)
        order = order_in(layout, matrix)
        shapes = {i: tuple([evaluate(s, sizes) for s in self.function.params[i].type.shape]) for i in self._wrt}
        piece = self.sweeps.piece(shapes, sizes, parts[0]) if len(parts) == 1 else None
        if piece is not None:
            if order is None:
                return piece
            finish = piece.finish
            return replace(piece, finish=lambda found: placed(finish(found), order, layout))
        places = np.arange(matrix.nnz) if order is None else order
        targets = [places[p.entries] for p in parts]

        def data(*given: Any) -> Any:
            placed = np.zeros(layout.length, dtype)
            for part, target in zip(parts, targets, strict=True):
                placed[target] = self.sweeps.values(given, shapes, sizes, part)
            return placed

        return data

    def _pattern(self, sizes: dict[str, int], known: dict[str, Any]) -> Any:
        """The structural non-zeros as compressed rows."""
        function = self.function
        rows, columns = pattern(function, 0, self._wrt, sizes, known)
        count = evaluate(product(function.results[0].shape), sizes)
        width = sum(evaluate(product(function.params[i].shape), sizes) for i in self._wrt)
        matrix: Any = sparse.csr_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(count, width))
        if self._symmetric:
            matrix = matrix + matrix.T.tocsr()
        matrix.sort_indices()
        return matrix

    def _layout(self, matrix: Any, sizes: Mapping[str, int]) -> Layout:
        if self.format == "bsr":
            return in_blocks(matrix, self._block(sizes))
        compressed = matrix.T.tocsr() if self.format == "csc" else matrix
        compressed.sort_indices()
        rows, columns = compressed.shape
        lines = np.repeat(np.arange(rows), np.diff(compressed.indptr))
        keys = lines * np.int64(columns) + compressed.indices
        return Layout(self.format, compressed.indptr, compressed.indices, (rows, columns), len(keys), keys, None)

    def _block(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """The size of blocks: the last axes of function and variable, where nothing else is asked for."""
        if self._blocksize is not None:
            return self._blocksize
        y = self._given.results[0].type.shape
        widths = {evaluate(self._given.params[i].type.shape[-1], sizes) for i in self._wrt
                  if self._given.params[i].type.rank}  # fmt: skip
        if not y or len(widths) != 1:
            raise ArgumentError("format 'bsr': the last axes of the variables differ; give blocksize=(rows, columns)")
        return evaluate(y[-1], sizes), widths.pop()

    # ---------------------------------------------------------------- methods
    def _directly(
        self, layout: Layout, matrix: Any, sizes: Mapping[str, int], known: Mapping[str, Any]
    ) -> Piece | None:
        if self._mode not in ("auto", "direct"):
            return None
        if self._direct is None:
            self._direct = direct_forms(
                self._given, self._wrt, symmetric=self._symmetric, transposed=self.format == "csc", opset=self._opset,
                tag=self._tag,
            )  # fmt: skip
        for form in self._direct:
            if form.entries.holds(sizes) and (self._mode == "direct" or self._pays(form, matrix, sizes)):
                return form.plan(layout, sizes, known)
        if self._mode == "direct" and len(layout.keys):
            raise ArgumentError("mode 'direct': no formulas for the entries alone were found; use mode='auto'")
        return None


    def _pays(self, form: Direct, matrix: Any, sizes: Mapping[str, int]) -> bool:
        """Whether formulas are predicted to be faster than sweeps."""
        if form.entries.rows is not None or form.entries.count(sizes) <= matrix.nnz:  # nothing is computed besides
            return True
        price = self._price(sizes)
        own = form.seconds(sizes)
        if self._symmetric:
            least = min(2, matrix.shape[0])
        else:
            columns = np.bincount(matrix.indices, minlength=1)
            least = min(int(np.diff(matrix.indptr).max(initial=0)), int(columns.max()))
        if own <= price(least):  # however few colours there are
            return True
        direction, colouring = coloured(matrix, self._mode, self._symmetric, price)
        if isinstance(colouring, Bicolouring):
            swept = price(colouring.columns.count) + self.sweeps.seconds("reverse", colouring.rows.count, sizes)
        else:
            swept = self.sweeps.seconds("reverse" if direction == "reverse" else "forward", colouring.count, sizes)
        return own <= swept + MOVED * matrix.nnz


# -------------------------------------------------------------------- from expressions and from functions
class Sparse(Compilable):
    """A sparse Jacobian or Hessian of expressions, not compiled yet: `sd.compile(it, inputs)` gives the function.

    Several functions or variables stand one behind the other.
    """

    def __init__(
        self, y: Any, x: Any, mode: str, symmetric: bool, format: str, blocksize: tuple[int, int] | None,
        kinks: Kinks = None,
    ) -> None:  # fmt: skip
        check_options(mode, symmetric, format, blocksize)
        where = "hessian" if symmetric else "jacobian"
        self.functions = symbolic(y, where, "function")
        self.variables = symbolic(x, where, "variable")
        self._options = (mode, symmetric, format, blocksize, kinks)
        with_kinks(kinks)  # a choice that is none is refused here
        self._where = where
        for v in self.variables:
            if not v.value.is_param:
                raise ArgumentError(f"{where}: the variable {v} is an expression, expected a symbol")

    def symbols(self) -> list[Expr]:
        """The symbols in it, in order of first appearance, and the variables."""
        found = free_symbols([e.value for e in self.functions])
        return [Expr(v) for v in dict.fromkeys([*found, *[v.value for v in self.variables]])]

    def compiled(
        self, inputs: Sequence[Expr] | None = None, name: str = "sparse", **options: Any
    ) -> SparseDerivative:
        """The compiled derivative as a function of `inputs`, by default its symbols."""
        function, wrt = program(self.functions, self.variables, self.symbols() if inputs is None else inputs, name)
        return _derivative(function, wrt, *self._options, **options)

    def part(self, inputs: Sequence[Expr], name: str, tag: str, **options: Any) -> SparseDerivative:
        return self.compiled(inputs, name, tag=tag, **options)

    def __repr__(self) -> str:
        names = ", ".join(v.value.name for v in self.variables)
        return f"<sparse {self._where} in {names}; sd.compile it to get numbers>"


def _derivative(
    function: Function, wrt: Sequence[int], mode: str, symmetric: bool, format: str,
    blocksize: tuple[int, int] | None, kinks: Kinks, **options: Any,
) -> SparseDerivative:  # fmt: skip
    function = slope(function, wrt, with_kinks(kinks)) if symmetric else flat(function)
    return SparseDerivative(
        function, wrt, mode, symmetric=symmetric, format=format, blocksize=blocksize, kinks=kinks, **options
    )


def sparse_jacobian(
    y: Any, x: Any = None, inputs: Sequence[Expr] | None = None, mode: str = "auto",
    argnums: int | Sequence[int] = 0, format: str = "csr", blocksize: tuple[int, int] | None = None, *,
    kinks: Kinks = None, threads: int = 1,
) -> Any:  # fmt: skip
    """The Jacobian as a compiled function that returns a scipy.sparse array with a fixed pattern.

    y: an expression, or several whose elements follow one another. x: a symbol or several. inputs: the symbols in the
    order of the arguments, by default every symbol in y in order of first appearance. format: "csr", "csc" or "bsr",
    the last with blocks of `blocksize`, by default the last axes of y and x.
    mode: "direct" computes every entry by a formula of its own, "forward" compresses columns into sweeps by a
    colouring, "reverse" rows, "coloured" the cheaper of these or both together, where that needs fewer sweeps; "auto"
    is direct where there are formulas for little more than the non-zeros, else coloured.

    With a Python function over NumPy in place of y: `sd.sparse_jacobian(f)(x0)`, derivatives in the arguments
    `argnums`. `sd.jacobian(y, x, sparse=True)` is the same for use in `sd.compile`. kinks: derivatives to take at
    kinks, as for `gradient`; threads: see `compile`.
    """
    threads = at_least_one(threads, "sparse_jacobian: threads")
    if _is_function(y):
        return _of_function(y, x, inputs, argnums, "sparse_jacobian", (mode, False, format, blocksize, kinks), threads)
    return Sparse(y, x, mode, False, format, blocksize, kinks).compiled(inputs, "sparse_jacobian", threads=threads)


def sparse_hessian(
    f: Any, x: Any = None, inputs: Sequence[Expr] | None = None, argnums: int | Sequence[int] = 0,
    mode: str = "auto", format: str = "csr", blocksize: tuple[int, int] | None = None, *,
    kinks: Kinks = None, threads: int = 1,
) -> Any:  # fmt: skip
    """The Hessian of a scalar as a compiled function that returns a scipy.sparse array; see `sparse_jacobian`.

    It is symmetric: of entries by formulas half are computed, and two more modes compress columns. "star" reads an
    entry where it or its mirror image stands alone; "acyclic" needs fewer sweeps and finds entries by substitution,
    whose rounding errors add up along chains of entries. "coloured" takes what is predicted to be faster.
    """
    threads = at_least_one(threads, "sparse_hessian: threads")
    if _is_function(f):
        return _of_function(f, x, inputs, argnums, "sparse_hessian", (mode, True, format, blocksize, kinks), threads)
    return Sparse(f, x, mode, True, format, blocksize, kinks).compiled(inputs, "sparse_hessian", threads=threads)


def _is_function(y: Any) -> bool:
    return callable(y) and not isinstance(y, Expr)


def _of_function(
    f: Callable[..., Any], x: Any, inputs: Any, argnums: int | Sequence[int], where: str, options: tuple[Any, ...],
    threads: int,
) -> SparseFunction:  # fmt: skip
    if x is not None or inputs is not None:
        raise ArgumentError(f"{where}: a function has no symbols; choose its arguments by argnums")
    check_options(*options[:-1])
    with_kinks(options[-1])
    return SparseFunction(f, argnums, lambda g, wrt: _derivative(g, wrt, *options, threads=threads), where)


class SparseFunction:
    """The sparse derivative of a Python function over NumPy, traced at the first call of each pattern of sizes."""

    def __init__(
        self, function: Callable[..., Any], argnums: int | Sequence[int],
        make: Callable[[Function, Sequence[int]], SparseDerivative], where: str,
    ) -> None:  # fmt: skip
        self.function = function
        self._argnums = argument_numbers(argnums, where)
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
        for i in positions(self._argnums, len(args), self._where):
            first = sum(counts[:i])
            wrt += range(first, first + counts[i])
        traced = trace(self.function, args)
        if not traced.function.results or not wrt:
            what = "the function returned" if wrt else "argnums choose"
            raise ArgumentError(f"{self._where}: {what} no array, expected at least one")
        derivative = self._make(traced.function, wrt)
        arrays = traced.arguments(args)
        assert arrays is not None, "a program serves the arguments it was traced with"
        self._programs.append((traced, derivative))
        return derivative, arrays
