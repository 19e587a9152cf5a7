"""Copies between strided arrays and dense ones, in LLVM IR: one routine for every rank and item, which programs share.

`text(module)` gives `i32 @sd.copy(ptr theirs, ptr ours, ptr shape)`; the module it stands in gets what it declares.
`shape` points to the words rank, bytes of an item (8, 4 or 1), 1 for a copy out of the dense array and 0 for one into
it, then the extents, then the steps in bytes.
"""

from __future__ import annotations

from codegen.llvm.routine import Routine
from codegen.llvm.text import Module

SYMBOL = "sd.copy"
DECLARATION = f"declare i32 @{SYMBOL}(ptr, ptr, ptr)"
HEAD = 3
"""Words before the extents."""

_ITEMS = {8: "i64", 4: "i32", 1: "i8"}


def text(module: Module) -> str:
    """Both functions."""
    r = Routine(module, "f64")
    last = r.emit(f"icmp eq i64 {r.add('%axis', 1)}, {r.get('%shape', '0', 'i64')}")
    end = r.variable("ptr", "%ours")

    def rows() -> None:
        def row(i: str) -> None:
            here = r.emit(f"load ptr, ptr {end}")
            there = r.emit(f"getelementptr i8, ptr %theirs, i64 {r.mul(i, '%step')}")
            after = r.emit(f"call ptr @{SYMBOL}.axis(ptr {there}, ptr {here}, ptr %shape, i64 {r.add('%axis', 1)})")
            r.do(f"store ptr {after}, ptr {end}")

        r.loop("%extent", row)

    item, out = r.get("%shape", "1", "i64"), r.emit(f"icmp ne i64 {r.get('%shape', '2', 'i64')}, 0")
    where = r.add(r.get("%shape", "0", "i64"), "%place")
    r.do(f"%extent = load i64, ptr {r.place('%shape', '%place', 'i64')}")
    r.do(f"%step = load i64, ptr {r.place('%shape', where, 'i64')}")
    r.lines.insert(0, f"  %place = add nsw i64 %axis, {HEAD}")

    def items(size: int) -> None:
        kind = _ITEMS[size]

        def move(i: str, outward: bool) -> None:
            there = r.emit(f"getelementptr i8, ptr %theirs, i64 {r.mul(i, '%step')}")
            here = r.place("%ours", i, kind)
            source, target = (here, there) if outward else (there, here)
            value = r.emit(f"load {kind}, ptr {source}, align {size}")
            r.do(f"store {kind} {value}, ptr {target}, align {size}")

        r.when(out, *[lambda w=w: r.loop("%extent", lambda i: move(i, w)) for w in (True, False)])

    def row_of_items() -> None:
        r.when(
            r.emit(f"icmp eq i64 {item}, 8"),
            lambda: items(8),
            lambda: r.when(r.emit(f"icmp eq i64 {item}, 4"), lambda: items(4), lambda: items(1)),
        )
        r.do(f"store ptr {r.place('%ours', r.mul('%extent', item), 'i8')}, ptr {end}")

    r.when(last, row_of_items, rows)
    ending = r.emit(f"load ptr, ptr {end}")
    inner = r.define(f"{SYMBOL}.axis", "ptr", "ptr %theirs, ptr %ours, ptr %shape, i64 %axis", f"ret ptr {ending}")
    outer = (
        f"define i32 @{SYMBOL}(ptr %theirs, ptr %ours, ptr %shape) nounwind {{\n"
        f"  call ptr @{SYMBOL}.axis(ptr %theirs, ptr %ours, ptr %shape, i64 0)\n  ret i32 0\n}}\n"
    )
    return inner + outer
