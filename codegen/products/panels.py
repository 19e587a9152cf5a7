"""Panels of B, packed once for several matrix products with other rows of A, in LLVM IR.

`text(...)` gives

    i32 @sd.panels.<dtype>(i64 n, i64 k, ptr b, i64 b_sum, i64 b_column, ptr s, ptr out, i64 m, i64 rows)

for products of `rows` out of m rows at a time. `out` begins with a line (`HEAD` bytes) that says whether panels follow:
not where there is one product only, nor where `codegen.products.gemm` reads B where it lies. Panels come stretch after
stretch of the sum, as they are used; with s multiplied in.
"""

from __future__ import annotations

from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module
from codegen.products import gemm
from codegen.products.packed import arguments, fill, kind
from codegen.products.sharing import STRETCH
from codegen.products.tiles import widest
from symdiff.ir.dims import Size

HEAD = 64
_MARGIN = 64
"""No tile has more columns."""
_NAMES = ("n", "k", "b", "bs", "bc", "scale", "out", "m", "rows")


def symbol(dtype: str) -> str:
    """The routine's name."""
    return f"sd.panels.{dtype}"


def declaration(dtype: str) -> str:
    """What a module that calls the routine declares."""
    return f"declare i32 @{symbol(dtype)}({', '.join(map(kind, _NAMES))})"


def room(n: Size, k: Size, dtype: str) -> Size:
    """Elements of `out`."""
    return k * (n + _MARGIN) + HEAD // BYTES[dtype]


def text(module: Module, dtype: str) -> str:
    """The text of the routine."""
    wide = widest(module, dtype)
    assert wide <= _MARGIN
    r = Routine(module, dtype)
    r.do("store i64 0, ptr %out")
    r.leave(r.emit("icmp sle i64 %m, %rows"), 0)
    r.leave(gemm.in_place(r, r.emit(f"icmp sle i64 %m, {gemm.FLAT}")), 0)
    r.do("store i64 1, ptr %out")
    first = r.emit(f"getelementptr i8, ptr %out, i64 {HEAD}")
    r.loop("%k", lambda start: fill(r, r.least(r.sub("%k", start), STRETCH), first, start), STRETCH)
    return r.define(symbol(dtype), "i32", arguments(_NAMES), "ret i32 0", linkage="")
