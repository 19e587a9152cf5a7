"""The code of matrix products, which all programs of a process share.

Gives the addresses of what modules that call products declare. Three libraries for each dtype, made when they are first
asked for: what takes the time (tiles and panels), written as machine code should be, so that LLVM has little to do;
narrow products of rows with rows, only for programs that may hold one; and what runs once for each block, which is
compiled without passes: that takes next to no time and costs nothing that could be measured.

Where its object is not on the disk, of what takes the time the largest tile alone is made at once. The rest comes
without passes first, and better code for it soon after (see `codegen.jit.tiers`): large products lose a few hundredths
meanwhile, narrow ones take two to three times as long.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from codegen.jit import engine, pool
from codegen.jit.tiers import CELL, Upgrade, through_cell
from codegen.llvm import base, memory
from codegen.llvm.memory import SCRATCH, Cell
from codegen.llvm.text import Module
from codegen.products import dots, gemm, packing, panels, sharing, tiles
from symdiff.process import Once, kept

# Blocks of memory that products used; exchanged atomically.
_scratch = kept(Cell())

_OPT = 1
_WAIT = 1.0
"""Seconds after which better code is made even while other code is being compiled."""


@dataclass(frozen=True)
class _Shared:
    """Functions that all programs call: their addresses by symbol, and what these need to live."""

    addresses: Mapping[str, int]
    libraries: Sequence[engine.Library]
    upgrade: Upgrade | None = None


def imports(llvm: str, register_bytes: int, fma: bool, threads: bool) -> Mapping[str, int]:
    """The addresses that a module with this text asks for."""
    found: dict[str, int] = {}
    for dtype in ("f64", "f32"):
        if _calls_products(llvm, dtype):
            found[panels.symbol(dtype)] = _steering(register_bytes, fma, dtype, threads).address(panels.symbol(dtype))
            found[sharing.symbol(dtype)] = _kernels(register_bytes, fma, dtype)[0].addresses[sharing.symbol(dtype)]
        for scaled in (False, True):
            name = dots.symbol(dtype, scaled)
            if f"@{name}(" in llvm:
                found[name] = _dots(register_bytes, fma, dtype, scaled).addresses[name]
    return found


def upgrades(llvm: str, register_bytes: int, fma: bool) -> list[Upgrade]:
    """What makes better code of products for a module with this text."""
    shared = [_kernels(register_bytes, fma, dtype)[0] for dtype in ("f64", "f32") if _calls_products(llvm, dtype)]
    for dtype, scaled in product(("f64", "f32"), (False, True)):
        if f"@{dots.symbol(dtype, scaled)}(" in llvm:
            shared.append(_dots(register_bytes, fma, dtype, scaled))
    return [one.upgrade for one in shared if one.upgrade is not None]


def _calls_products(llvm: str, dtype: str) -> bool:
    return any(f"@{name}(" in llvm for name in (sharing.symbol(dtype), panels.symbol(dtype)))


@Once
def _kernels(register_bytes: int, fma: bool, dtype: str) -> tuple[_Shared, ctypes.c_void_p]:
    """What takes the time, and the cell with what large products are left to."""
    divided = ctypes.c_void_p()
    module = Module(register_bytes, fma, written=True)
    largest, edges = tiles.largest_text(module, dtype), tiles.text(module, dtype)
    module.functions += [packing.text(module, dtype), gemm.at_once_text(module, dtype), sharing.product(module, dtype)]
    others = module.text()
    symbols = [*_kernel_symbols(dtype), sharing.symbol(dtype)]
    cell = {sharing.cell_symbol(dtype): ctypes.addressof(divided)}
    text = largest + edges + others
    if engine.on_disk(text, _OPT):
        return _last(text, symbols, cell), divided
    outside = tiles.largest(module, dtype)
    alone = engine.compile_text(largest + "\n".join(sorted(module.declarations)) + "\n", outside, opt=_OPT)
    found = {name: alone.address(name) for name in outside}
    first = tiles.text(module, dtype, lower=False) + others + "\n".join(outside.values()) + "\n"
    called = [*_steering_calls(dtype), sharing.declaration(dtype)]
    return _in_two_tiers("products of matrices", text, first, symbols, called, cell, found, [alone]), divided


def _last(text: str, symbols: Sequence[str], imports: Mapping[str, int]) -> _Shared:
    """Better code at once."""
    library = engine.compile_text(text, symbols, opt=_OPT, imports=imports)
    return _Shared({name: library.address(name) for name in symbols}, [library])


def _in_two_tiers(
    name: str, text: str, first: str, symbols: Sequence[str], declarations: Sequence[str], imports: Mapping[str, int],
    found: Mapping[str, int], libraries: Sequence[engine.Library],
) -> _Shared:  # fmt: skip
    """Code without passes, from a text that asks for what was found already, and better code to come."""
    upgrade = Upgrade(name, text, symbols, _OPT, imports, {}, len(symbols))
    names, through = through_cell(declarations)
    own = {**imports, **found, CELL: ctypes.addressof(upgrade.cell)}
    library = engine.compile_text(first + through, [*symbols, *names], opt=0, imports=own)
    upgrade.begin(library, within=_WAIT)
    addresses = {symbol: library.address(now) for symbol, now in zip(symbols, names, strict=True)}
    return _Shared(addresses, [*libraries, library], upgrade)


def _kernel_symbols(dtype: str) -> list[str]:
    """What steering calls,"""
    return [tiles.symbol(dtype), gemm.at_once_symbol(dtype), *packing.symbols(dtype)]


def _steering_calls(dtype: str) -> list[str]:
    """and how it is declared."""
    return [tiles.declaration(dtype), gemm.at_once_declaration(dtype), *packing.declarations(dtype)]


@Once
def _dots(register_bytes: int, fma: bool, dtype: str, scaled: bool) -> _Shared:
    """Narrow products of rows with rows."""
    text, symbols = dots.text(register_bytes, fma, dtype, scaled), [dots.symbol(dtype, scaled)]
    if engine.on_disk(text, _OPT):
        return _last(text, symbols, {})
    declared = [dots.declaration(dtype, scaled)]
    return _in_two_tiers("products of rows with rows", text, text, symbols, declared, {}, {}, [])


@Once
def _steering(register_bytes: int, fma: bool, dtype: str, threads: bool) -> engine.Library:
    """What runs once for each block; for threads or without any."""
    module = Module(register_bytes, fma)
    for declaration in _steering_calls(dtype):
        module.declare(declaration)
    module.functions += [gemm.text(module, dtype), panels.text(module, dtype), sharing.text(module, dtype, threads)]
    module.functions.append(memory.cell(SCRATCH))
    kernels, divided = _kernels(register_bytes, fma, dtype)
    found = {**kernels.addresses, SCRATCH: _scratch.address, **base.addresses()}
    if threads:
        found[pool.SYMBOL] = pool.address()
    symbols = [sharing.divided_symbol(dtype), panels.symbol(dtype)]
    library = engine.compile_text(module.text(), symbols, opt=0, imports=found)
    if threads or not divided.value:  # what may ask for threads serves every program
        divided.value = library.address(sharing.divided_symbol(dtype))
    return library
