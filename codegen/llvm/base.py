"""What all programs of a process share besides products: memory for large calls, and copies of strided arrays.

`addresses()` gives the addresses by symbol, for the imports of a module that declares them. Where its object is not on
the disk, the module is compiled without passes, which takes next to no time, and better code for the copies comes later
(see `codegen.jit.tiers`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

from codegen.jit import engine
from codegen.jit.tiers import CELL, Upgrade, through_cell
from codegen.llvm import copies, memory
from codegen.llvm.text import Module
from symdiff.process import Once

_OPT = 1


def addresses() -> Mapping[str, int]:
    """Addresses of the functions; the code is there as long as the process."""
    return _base()[0]


@Once
def _base() -> tuple[Mapping[str, int], engine.Library, Upgrade | None]:
    module = Module(16, False)
    text = copies.text(module) + memory.text(module) + module.text()
    own = [memory.ACQUIRE, memory.RELEASE]
    if engine.on_disk(text, _OPT):
        library = engine.compile_text(text, [copies.SYMBOL, *own], opt=_OPT)
        return {name: library.address(name) for name in (copies.SYMBOL, *own)}, library, None
    upgrade = Upgrade("copies of arrays", text, [copies.SYMBOL], _OPT, {}, {})
    (through,), code = through_cell([copies.DECLARATION])
    imports = {CELL: ctypes.addressof(upgrade.cell)}
    library = engine.compile_text(text + code, [through, copies.SYMBOL, *own], opt=0, imports=imports)
    upgrade.begin(library)
    found = {copies.SYMBOL: library.address(through), **{name: library.address(name) for name in own}}
    return found, library, upgrade
