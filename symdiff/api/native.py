"""Native code for expressions: the one place where the code generator is reached."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from symdiff.api.expression import unmerged
from symdiff.api.pieces import Part, Together
from symdiff.cost import TYPICAL, Counts, count, predict
from symdiff.cost.machine import Profiler
from symdiff.diff import representative
from symdiff.errors import ArgumentError, UnsupportedError, at_least_one
from symdiff.frontend.expr import Expr
from symdiff.ir.collecting import uncollected
from symdiff.ir.graph import Function
from symdiff.ops import OPSET
from symdiff.process import LOADING
from symdiff.simplify import optimize, simplify

_AS_DERIVED = frozenset({"select", "floor", "ceil", "round", "trunc", "mod", "floor_divide"})
"""Operations whose operands no closed form may round otherwise."""
CLOSED_LIMIT = 40
"""Instructions of a program whose closed form is tried; finding one takes about a millisecond per instruction."""


_loaded: Any = None


def _codegen() -> Any:
    """The code generator: the one place that reaches it, and only when it is needed."""
    global _loaded
    if _loaded is None:  # once it is there, nobody waits for what others import
        with LOADING, uncollected():  # collections among what stays take a tenth of the time
            import codegen  # noqa: PLC0415

            _loaded = codegen
    return _loaded


def compile_function(function: Function, **options: Any) -> Any:
    """Native code for a program."""
    return _codegen().compile(function, figures=_figures, **options)


_figures: Callable[[], Any] | None = None


def predict_from(figures: Callable[[], Any]) -> None:
    """Take the model of the machine that compiled functions predict the times of their kernels from."""
    global _figures
    _figures = figures


def profiler(function: Function) -> Profiler | None:
    """What native code for a program would execute, kernel by kernel, without compiling it; None where there is none:
    undefined functions, complex numbers, no code generator."""
    try:
        return _codegen().profiler(function)
    except (ImportError, UnsupportedError):
        return None


def typical_seconds(function: Function) -> Callable[[Mapping[str, int]], float]:
    """What a program is predicted to take at sizes, on a typical core, so that no choice depends on the machine it is
    made on; operations and moves where there is no native code to predict."""
    executed = profiler(function)
    if executed is not None:
        return lambda sizes: predict(executed(sizes, TYPICAL.register), TYPICAL).seconds
    counts = count(function)
    return lambda sizes: 1e-9 * float(counts.operations.at(sizes) + counts.move.at(sizes) + 1)


def register_bytes() -> int:
    """Bytes of a vector register that code is generated for on this machine."""
    return _codegen().register_bytes()


def host() -> tuple[str, Path | None]:
    """The name of this machine's processor, and the folder for what is kept between runs (None: keep nothing)."""
    native = _codegen()
    return native.host_target().cpu, native.directory()


class Compilable(ABC):
    """An output of `compile` that is no array: a sparse or structured derivative."""

    @abstractmethod
    def compiled(self, inputs: Sequence[Expr], name: str, **options: Any) -> Part:
        """A function of arrays in the order of `inputs`. options: threads and fastmath, as of `compile`."""

    @abstractmethod
    def part(self, inputs: Sequence[Expr], name: str, tag: str, **options: Any) -> Part:
        """The same as one output of several, not compiled yet; tag: ends names that it makes up."""


def compile(  # noqa: A001
    outputs: Any, inputs: Sequence[Expr], *, name: str = "f", threads: int = 1, fastmath: bool = False
) -> Any:
    """Compile expressions into a native function of `inputs`.

    outputs: one expression (the function returns one result) or a list or tuple of them (it returns a tuple). inputs:
    symbols, in the order of the arguments; unused ones are allowed. Arrays of any size that fits the named dimensions,
    any strides; scalars come back as Python numbers. `fn(..., out=...)` writes into the caller's arrays.

    Derivatives with sparse=True come back as scipy.sparse arrays, those with form="structured" as operators. All
    outputs of one call share what they have in common.

    threads: at most so many share the work of a long call; results have the same bits for any number. fastmath: sums
    and products of scalars may be regrouped and fused, and the sign of a zero is free, so that last bits differ between
    machines; factors that products share are multiplied once, which is right for numbers that are not so far apart in
    size that two factors overflow whose product with a third does not. Long sums, NaN and infinity keep their meaning.
    Without it sums and products are carried out as they stand in `fn.ir`, where algebra has been done as for finite
    numbers (x - x is 0); the transforms (`jit`, `grad`, ..) do none. Both compute log(1 + exp(x)), log(sum(exp(x))) and
    1/(1 + exp(-x)) in their stable form. Constants are multiplied exactly, and x/sqrt(y)
    may be x (1/sqrt(y)); what decides a branch is computed as it stands.
    """
    several = isinstance(outputs, (list, tuple))
    results: list[Any] = list(outputs) if several else [outputs]
    for r in results:
        if not isinstance(r, (Expr, Compilable)):
            raise ArgumentError(f"compile: given {r!r} as an output, expected an expression")
    if isinstance(inputs, Expr) or not isinstance(inputs, (list, tuple)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"compile: given {inputs!r} as the inputs, expected a list of symbols")
    for p in inputs:
        if not isinstance(p, Expr) or not p.value.is_param:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"compile: given {p!r} as an input, expected a symbol")
    options: dict[str, Any] = {"threads": at_least_one(threads, "compile: threads"), "fastmath": fastmath}
    if not several and isinstance(outputs, Compilable):
        return outputs.compiled(inputs, name, **options)
    plain = [i for i, r in enumerate(results) if isinstance(r, Expr)]
    if len(plain) == len(results):
        with uncollected():
            program = cheapest(unmerged(results, inputs, name))
            return compile_function(program, single=not several, name=name, **options)
    with uncollected():
        dense = cheapest(unmerged([results[i] for i in plain], inputs, name))
        others = [(i, r) for i, r in enumerate(results) if isinstance(r, Compilable)]
        parts = [(r.part(inputs, name, tag=f"_{i}", **options), i) for i, r in others]
        return Together(dense, plain, parts, lambda f: compile_function(f, single=False, name=name, **options))


def cheapest(function: Function) -> Function:
    """The program to compile: as derived or in closed form, whichever costs less over a range of sizes.

    A closed form can save whole orders (an identity never formed), or cost them (a shared factor expanded). Long
    programs, whose closed form nobody would write, are compiled as derived.
    """
    derived = optimize(function, OPSET)
    # A closed form may merge a guard into what it guards (x where x > 0 is relu) beside a factor that is not finite
    # there; numbers keep every guard, so programs with choices are compiled as derived. So are programs that round to
    # whole numbers (49/49 is 1, 49 times 1/49 is less), and loops, whose bodies are programs of any length.
    if len(derived.instrs) > CLOSED_LIMIT or any(v.op.name in _AS_DERIVED or v.op.picks for v in derived.instrs):
        return derived
    closed = optimize(simplify(derived, OPSET, keep_kinks=True, entries=False), OPSET)
    return derived if _weight(derived) <= _weight(closed) else closed


def _weight(function: Function) -> float:
    """The logarithm of the cost, summed over middling sizes and sizes where one dimension is small or large: the
    program is compiled once and must do at all of them. (A size such as n - 7 can be negative there.)"""
    counts = count(function, memory=False)
    return sum(math.log(1 + max(_price(counts, sizes), 0.0)) for sizes in representative(function.dims))


def _price(counts: Counts, sizes: Mapping[str, int]) -> float:
    """Operations, with moves and traffic at what they cost beside arithmetic."""
    return float(counts.operations.at(sizes)) + 0.25 * float(counts.move.at(sizes)) + float(counts.bytes.at(sizes)) / 64
