"""From a Function to a Python callable: lower, emit, compile, call; every stage's text can be looked at.

`compile(function)` gives a `NativeFunction` (see `codegen.entry`); `inspect(native)` gives its `Compiled`, whose texts
(`ir`, `loops`, `llvm`, `asm`) are made when they are asked for.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from functools import cache

import numpy as np

from codegen import engine, gemm, lapack, pool, sharing
from codegen.entry import NativeFunction, function_at
from codegen.jobs import build
from codegen.loops import Program
from codegen.lower import OUT_OF_MEMORY
from codegen.main import BAD_SHAPE, constant_symbol, emit_program
from codegen.marshal import KernelAddresses
from codegen.memory import ARENA, SCRATCH
from codegen.signature import ArraySpec, AxisSpec, Signature, Status
from symdiff.errors import ArgumentError, ShapeError
from symdiff.ir.dims import Dim, Size, evaluate
from symdiff.ir.graph import Function
from symdiff.ir.text import print_function

# The last blocks of memory that large calls and matrix products used; every module exchanges them atomically.
_arena = ctypes.c_void_p(None)
_scratch = ctypes.c_void_p(None)


_LONG = 8_000
_SYMBOL = "kernel"
"""The kernel's name in its module; the caller's name may be anything, also that of a function of the C library."""


class SizePolynomial:
    """A size computed from named dimensions, as `codegen.signature` asks for it."""

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


class Compiled:
    """What a native function was made from, and how long each stage took (in seconds)."""

    def __init__(self, function: Function, program: Program, llvm: str, opt: int, timings: dict[str, float]) -> None:
        self.function = function
        self.program = program
        self.llvm = llvm
        self.opt = opt
        self.timings = timings

    @property
    def ir(self) -> str:
        """The tensor program."""
        return print_function(self.function)

    @property
    def loops(self) -> str:
        """The loop nests."""
        return str(self.program)

    @property
    def asm(self) -> str:
        """The machine code as assembler text."""
        return engine.assembly(self.llvm, self.opt)


def compile(  # noqa: A001 - the package is called `codegen`, and this is what it does
    function: Function, *, name: str = "kernel", opt: int = 2, single: bool = False, fastmath: bool = False,
    threads: int = 1,
) -> NativeFunction:
    """Native code for `function`, valid for every size of its dimensions.

    opt: the engine's tier (very long programs get a lower one). single: a function of one result returns it bare.
    fastmath: arithmetic may be reordered and fused; NaN and infinity keep their meaning. threads: at most so many share
    the loops of long calls; results have the same bits for any number (one where there are no POSIX threads).
    """
    timings: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        timings[stage] = now - clock
        clock = now

    if threads < 1:
        raise ArgumentError(f"threads: given {threads}, expected at least 1")
    program, lowered = build(function, _SYMBOL, threads if pool.available() else 1)
    lap("lower")
    width, fma = _machine()
    llvm = emit_program(program, width, fma, fastmath)
    lap("emit")
    opt = min(opt, _tier(llvm))
    has_polynomials = any(isinstance(s, Dim) for p in program.params for s in p.shape)
    symbols = [_SYMBOL, f"{_SYMBOL}.shapes", *([f"{_SYMBOL}.check"] if has_polynomials else [])]
    imports = {ARENA: ctypes.addressof(_arena)}
    if f"@{pool.SYMBOL}(" in llvm:
        imports[pool.SYMBOL] = pool.library().address(pool.SYMBOL)
    for dtype in ("f64", "f32"):
        if f"@{sharing.symbol(dtype)}(" in llvm:
            imports[sharing.symbol(dtype)] = _shared_product(width, fma, dtype).address(sharing.symbol(dtype))
    for routine in lapack.ROUTINES:
        if f"@{lapack.PREFIX}{routine}(" in llvm:
            imports[lapack.PREFIX + routine] = lapack.address(routine)
    arrays = [np.ascontiguousarray(array) for _, array in program.constants]
    for (buffer, _), array in zip(program.constants, arrays, strict=True):
        imports[constant_symbol(program, buffer)] = array.__array_interface__["data"][0]
    library = engine.compile_text(llvm, symbols, opt=opt, imports=imports)
    lap("compile")
    timings.update({f"llvm {stage}": seconds for stage, seconds in library.timings.items()})
    statuses: dict[int, Status] = {
        OUT_OF_MEMORY: lambda sizes: MemoryError(f"{name}: no memory for intermediate arrays ({dict(sizes)})"),
        BAD_SHAPE: lambda sizes: ShapeError(f"{name}: an argument's shape does not fit (sizes: {dict(sizes)})"),
    }
    statuses.update(lowered.statuses)
    addresses = KernelAddresses(*(library.address(s) for s in symbols))
    native = function_at(_signature(function, name, single, statuses), addresses, library)
    lap("entry")
    native.__dict__["compiled"] = Compiled(function, program, llvm, opt, timings)
    native.__dict__["_constants"] = arrays
    return native


def inspect(native: NativeFunction) -> Compiled:
    """The stages behind a function that `compile` made."""
    return native.__dict__["compiled"]


@cache
def _shared_product(register_bytes: int, fma: bool, dtype: str) -> engine.Library:
    """The same cut into parts."""
    threads = pool.available()
    imports = {gemm.symbol(dtype): _product(register_bytes, fma, dtype).address(gemm.symbol(dtype))}
    imports[SCRATCH] = ctypes.addressof(_scratch)
    if threads:
        imports[pool.SYMBOL] = pool.library().address(pool.SYMBOL)
    text = sharing.text(register_bytes, fma, dtype, threads)
    return engine.compile_text(text, [sharing.symbol(dtype)], imports=imports)


@cache
def _product(register_bytes: int, fma: bool, dtype: str) -> engine.Library:
    """The matrix product, which all programs share."""
    text = gemm.text(register_bytes, fma, dtype)
    return engine.compile_text(text, [gemm.symbol(dtype)], opt=3, imports={SCRATCH: ctypes.addressof(_scratch)})


def _tier(llvm: str) -> int:
    """The tier that compiles a text of this length in reasonable time: passes cost more than long texts gain."""
    lines = llvm.count("\n")
    return 2 if lines < _LONG else 1 if lines < 8 * _LONG else 0


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



