"""From a Function to a Python callable: lower, emit, compile, call; every stage's text can be looked at.

`compile(function)` gives a `NativeFunction` (see `codegen.entry.native`); `inspect(native)` gives its `Compiled`, the
stages (see `codegen.inspection.stages`). Long programs whose last code is not on the disk run code made without passes
until it is ready (see `codegen.jit.tiers`).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from codegen.analysis.cutting import block_sizes
from codegen.arrays.lowered import OUT_OF_MEMORY
from codegen.entry.marshal import KernelAddresses, Marshal, convert
from codegen.entry.native import NativeFunction, function_at
from codegen.entry.signature import ArraySpec, AxisSpec, Signature, Status
from codegen.inspection.stages import Compiled, Figures
from codegen.ir.loops import For, Program
from codegen.jit import engine, lapack, pool
from codegen.jit.tiers import CELL, Upgrade, asked, through_cell
from codegen.kernels.main import BAD_SHAPE, TICK_WORDS, TICKS, constant_symbol, emit_program, own_work
from codegen.llvm import base, copies, memory
from codegen.llvm.memory import ARENA, Cell
from codegen.products import shared as products
from codegen.schedule.jobs import build
from symdiff.errors import ShapeError, UnsupportedError, at_least_one
from symdiff.ir.dims import Dim, Size, evaluate
from symdiff.ir.graph import Function
from symdiff.process import kept

# Blocks of memory that large calls used; every module exchanges them atomically.
_arena = kept(Cell())


_FELT = 600
"""Lines of a module from which compiling would be felt: it runs without passes first, and better code is made later."""
_MANY = 5_000
"""From where better code gets light passes alone,"""
_LONG = 40_000
"""and from where better code would take too long to make,"""
_LONG_LOOPS = 80_000
"""and where there are loops over vectors: without passes most of their time goes to values in memory."""
_MOST_THREADS = 1024
"""More are never started: every thread has memory of its own."""
_SYMBOL = "kernel"
"""The kernel's name in its module; the caller's name may be anything, also that of a function of the C library."""


class SizePolynomial:
    """A size computed from named dimensions, as `codegen.entry.signature` asks for it."""

    def __init__(self, size: Dim) -> None:
        self.size = size

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions it reads."""
        return tuple(sorted(self.size.names))

    def __call__(self, sizes: Mapping[str, int]) -> int:
        """The number it is."""
        return evaluate(self.size, sizes)

    def __str__(self) -> str:
        return str(self.size)


def compile(  # noqa: A001 - the package is called `codegen`, and this is what it does
    function: Function, *, name: str = "kernel", opt: int = 2, single: bool = False, fastmath: bool = False,
    threads: int = 1, figures: Callable[[], Figures] | None = None,
) -> NativeFunction:
    """Native code for `function`, valid for every size of its dimensions.

    opt: the highest of the engine's tiers. A module of 600 lines of LLVM and more begins with tier 0 while its last
    code is made, that with at most tier 2, 1 from 5,000 lines on, 0 from 40,000 on (80,000 with loops); calls with
    much work wait for it.
    single: a function of one result returns it bare. fastmath: arithmetic may be reordered and fused, factors of
    products as well; NaN and infinity keep their meaning. threads: at most so many share the loops of long calls;
    results have the same bits for any number (one where there are no POSIX threads). figures: gives the model of the
    machine that `explain` predicts times from.
    """
    timings: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        asked()  # a long compilation is no pause
        now = time.perf_counter()
        timings[stage] = now - clock
        clock = now

    threads = min(at_least_one(threads, "compile: threads"), _MOST_THREADS)
    asked()
    program, lowered = build(function, _SYMBOL, threads if pool.available() else 1, fastmath)
    lap("lower")
    width, fma = _machine()
    llvm = emit_program(program, width, fma, fastmath)
    lap("emit")
    arrays = [np.ascontiguousarray(array) for _, array in program.constants]
    imports = _imports(program, llvm, arrays)
    asked()
    companions = [f"{_SYMBOL}.shapes", f"{_SYMBOL}.amount"]
    if any(isinstance(s, Dim) for p in program.params for s in p.shape):
        companions.append(f"{_SYMBOL}.check")
    first, last = _tiers(llvm, opt, _has_loops(program))
    upgrade: Upgrade | None = None
    if first < last and not engine.on_disk(llvm, last):
        upgrade = Upgrade(name, llvm, [_SYMBOL], last, imports, timings)
        work, text = own_work(program)
        (entry,), through = through_cell([f"declare i32 @{_SYMBOL}(ptr, ptr, ptr)"], work)
        own = {**imports, CELL: ctypes.addressof(upgrade.cell)}
        library = engine.compile_text(llvm + text + through, [entry, _SYMBOL, *companions], opt=first, imports=own)
        library.better = upgrade.hurry
    else:
        entry, first = _SYMBOL, last
        library = engine.compile_text(llvm, [entry, *companions], opt=last, imports=imports)
    lap("compile")
    timings.update({f"llvm {stage}": seconds for stage, seconds in library.timings.items()})
    statuses: dict[int, Status] = {
        OUT_OF_MEMORY: lambda sizes: MemoryError(f"{name}: no memory for intermediate arrays ({dict(sizes)})"),
        BAD_SHAPE: lambda sizes: ShapeError(f"{name}: an argument's shape does not fit (sizes: {dict(sizes)})"),
    }
    statuses.update(lowered.statuses)
    # A bound call outlives the function it is made from: what the code reads lives with the code.
    library.held = (arrays, upgrade)
    found = {name.removeprefix(f"{_SYMBOL}."): library.address(name) for name in companions}
    addresses = KernelAddresses(library.address(entry), **found)
    signature = _signature(function, name, single, statuses)
    native = function_at(signature, addresses, library)
    lap("entry")
    measure = partial(_measured, program, (width, fma, fastmath), signature, arrays)
    shared = products.upgrades(llvm, width, fma)
    native.__dict__["compiled"] = Compiled(function, program, llvm, timings, first, measure, upgrade, figures, shared)
    if upgrade is not None:
        upgrade.begin(library)
    return native


def _imports(program: Program, llvm: str, arrays: Sequence[Any]) -> dict[str, int]:
    """The addresses of what the module asks for from outside."""
    width, fma = _machine()
    imports = {ARENA: _arena.address}
    if any(f"@{name}(" in llvm for name in (copies.SYMBOL, memory.ACQUIRE)):
        imports |= base.addresses()
    if f"@{pool.SYMBOL}(" in llvm:
        imports[pool.SYMBOL] = pool.address()
    imports |= products.imports(llvm, width, fma, program.threads > 1)
    for routine in lapack.ROUTINES:
        if f"@{lapack.PREFIX}{routine}(" in llvm:
            imports[lapack.PREFIX + routine] = lapack.address(routine)
    for (buffer, _), array in zip(program.constants, arrays, strict=True):
        imports[constant_symbol(program, buffer)] = array.__array_interface__["data"][0]
    return imports


_RUNS = 5


def _measured(
    program: Program, machine: tuple[int, bool, bool], signature: Signature, constants: Sequence[Any],
    arguments: Sequence[Any], sizes: Mapping[str, int] | None,
) -> tuple[dict[str, int], list[float]]:  # fmt: skip
    """Run the program with a clock around every kernel: its sizes, and the best seconds of each over a few runs."""
    clock = getattr(time, "CLOCK_MONOTONIC", None)
    if clock is None:
        raise UnsupportedError("explain: no POSIX clock here to time kernels with; call it without arrays")
    llvm = emit_program(program, *machine, clock=clock)
    inner, stop = block_sizes(program), TICK_WORDS * (len(program.kernels) + 1)
    ticks = (ctypes.c_int64 * (stop + len(inner)))()
    imports = {**_imports(program, llvm, constants), TICKS: ctypes.addressof(ticks)}
    symbols = [_SYMBOL, f"{_SYMBOL}.shapes"]
    library = engine.compile_text(llvm, symbols, opt=_tiers(llvm, 2, _has_loops(program))[1], imports=imports)
    timed = Marshal(signature, library, KernelAddresses(*map(library.address, symbols)))
    best = [float("inf")] * len(program.kernels)
    for _ in range(_RUNS):
        timed(*arguments, sizes=sizes)
        times = [ticks[i] + 1e-9 * ticks[i + 1] for i in range(0, stop, TICK_WORDS)]
        best = [min(old, after - before) for old, (before, after) in zip(best, pairwise(times), strict=True)]
    numbers = timed.bind_sizes([convert(p, a).shape for p, a in zip(signature.params, arguments, strict=True)], sizes)
    return {**numbers, **{str(size): ticks[stop + i] for i, size in enumerate(inner)}}, best


def inspect(native: NativeFunction) -> Compiled:
    """The stages behind a function that `compile` made."""
    return native.__dict__["compiled"]


def _has_loops(program: Program) -> bool:
    return any(isinstance(s, For) for kernel in program.kernels for s in kernel.body)


def _tiers(llvm: str, opt: int, loops: bool) -> tuple[int, int]:
    """The tiers of the first code and of the last: passes cost more than long texts gain."""
    lines = llvm.count("\n")
    if lines < _FELT:
        return opt, opt
    return 0, min(opt, 2 if lines < _MANY else 1 if lines < (_LONG_LOOPS if loops else _LONG) else 0)


def register_bytes() -> int:
    """Bytes of a vector register here, which code is generated for."""
    return _machine()[0]


def _machine() -> tuple[int, bool]:
    """Bytes of a vector register, and whether a product and a sum are one instruction."""
    target = engine.host_target()
    features = set(target.features.split(","))
    if "+avx512f" in features:
        return 64, True
    if "+avx2" in features:
        return 32, "+fma" in features
    return 16, "+neon" in features


def _signature(function: Function, name: str, single: bool, statuses: dict[int, Status]) -> Signature:
    params = tuple(ArraySpec(p.name, p.type.dtype, tuple(map(_axis, p.type.shape))) for p in function.params)
    results = tuple(
        ArraySpec(f"result {number}", r.type.dtype, tuple(map(_axis, r.type.shape)))
        for number, r in enumerate(function.results)
    )
    shown = {axis for p in params for axis in p.axes if isinstance(axis, str)}
    given = tuple(d for d in function.dims if d not in shown)
    return Signature(name, function.dims, params, results, single, statuses, given)


def _axis(size: Size) -> AxisSpec:
    if isinstance(size, int):
        return size
    return str(size) if str(size) in size.names else SizePolynomial(size)



