"""The code of matrix products, which all programs of a process share.

Gives the addresses of what modules that call products declare. Three libraries for each dtype, made when they are first
asked for: what takes the time (tiles and panels), written as machine code should be, so that LLVM has little to do;
narrow products of rows with rows, only for programs that may hold one; and what runs once for each block, which is
compiled without passes: that takes next to no time and costs nothing that could be measured.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

from codegen import base, dots, engine, gemm, memory, packing, panels, pool, sharing, tiles
from codegen.memory import SCRATCH, Cell
from codegen.text import Module
from symdiff.process import Once, kept

# Blocks of memory that products used; exchanged atomically.
_scratch = kept(Cell())


def imports(llvm: str, register_bytes: int, fma: bool, threads: bool) -> Mapping[str, int]:
    """The addresses that a module with this text asks for."""
    found: dict[str, int] = {}
    for dtype in ("f64", "f32"):
        if any(f"@{name}(" in llvm for name in (sharing.symbol(dtype), panels.symbol(dtype))):
            steering = _steering(register_bytes, fma, dtype, threads)
            found[panels.symbol(dtype)] = steering.address(panels.symbol(dtype))
            found[sharing.symbol(dtype)] = _kernels(register_bytes, fma, dtype).address(sharing.symbol(dtype))
        for scaled in (False, True):
            name = dots.symbol(dtype, scaled)
            if f"@{name}(" in llvm:
                found[name] = _dots(register_bytes, fma, dtype, scaled).address(name)
    return found


@Once
def _kernels(register_bytes: int, fma: bool, dtype: str) -> engine.Library:
    """What takes the time."""
    module = Module(register_bytes, fma, written=True)
    module.functions += [tiles.text(module, dtype), packing.text(module, dtype)]
    module.functions += [gemm.at_once_text(module, dtype), sharing.product(module, dtype)]
    symbols = [*_kernel_symbols(dtype), sharing.symbol(dtype), sharing.cell_symbol(dtype)]
    return engine.compile_text(module.text(), symbols, opt=1)


def _kernel_symbols(dtype: str) -> list[str]:
    """What steering calls."""
    return [tiles.symbol(dtype), gemm.at_once_symbol(dtype), *packing.symbols(dtype)]


@Once
def _dots(register_bytes: int, fma: bool, dtype: str, scaled: bool) -> engine.Library:
    """Narrow products of rows with rows."""
    return engine.compile_text(dots.text(register_bytes, fma, dtype, scaled), [dots.symbol(dtype, scaled)], opt=1)


@Once
def _steering(register_bytes: int, fma: bool, dtype: str, threads: bool) -> engine.Library:
    """What runs once for each block; for threads or without any."""
    module = Module(register_bytes, fma)
    tiles.declare(module, dtype)
    packing.declare(module, dtype)
    module.functions += [gemm.text(module, dtype), panels.text(module, dtype), sharing.text(module, dtype, threads)]
    module.functions.append(memory.cell(SCRATCH))
    kernels = _kernels(register_bytes, fma, dtype)
    found = {name: kernels.address(name) for name in _kernel_symbols(dtype)}
    found |= {SCRATCH: _scratch.address, **base.addresses()}
    if threads:
        found[pool.SYMBOL] = pool.address()
    symbols = [sharing.divided_symbol(dtype), panels.symbol(dtype)]
    library = engine.compile_text(module.text(), symbols, opt=0, imports=found)
    cell = ctypes.c_void_p.from_address(kernels.address(sharing.cell_symbol(dtype)))
    if threads or not cell.value:  # what may ask for threads serves every program
        cell.value = library.address(sharing.divided_symbol(dtype))
    return library
