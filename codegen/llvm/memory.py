"""Memory for large calls, in LLVM IR: blocks that outlive the call, kept for the next.

`text(module)` gives `ptr @sd.acquire(ptr cell, i64 bytes)` and `void @sd.release(ptr cell, ptr block)`, which are
compiled once (`codegen.llvm.base`); `acquire` and `release` call them. A block is aligned to a cache line; the first
line is a header, and what was asked for follows (`inside`). A cell has `PLACES` for blocks that were released, up to
`_KEPT_BYTES` each: fresh pages cost more than most kernels, and threads, or products inside of products, take one each.
There are never more than were in use at one time: one that is too small goes when a larger one is made. Places are
exchanged atomically, so any number of threads may share a cell. Each thread looks first at a place of its own, told by
where its stack is, and places have cache lines of their own: what one core has in its caches stays there.
"""

from __future__ import annotations

import ctypes
import sys

from codegen.llvm.text import Lines, Module

ARENA = "sd.arena"
ACQUIRE, RELEASE = "sd.acquire", "sd.release"
SCRATCH = "sd.scratch"

_KEPT_BYTES = 1 << 27
_HEADER = 64
_LARGE = 1 << 22
"""Bytes from which the system is asked for huge pages, as NumPy asks for its arrays,"""
_PAGE = 4096
_HUGE_PAGES = 14
"""by Linux's MADV_HUGEPAGE, for the whole pages inside. No harm is done where it declines."""
PLACES = 64
_LINE = 64
_STACK = 16
"""Binary places of an address that tell no stacks apart."""

_TEXT = f"""
define ptr @sd.acquire(ptr %cell, i64 %bytes) noinline nounwind {{
entry:
  %mine = call i64 @sd.mine()
  br label %place
place:
  %n = phi i64 [ 0, %entry ], [ %n.next, %next ]
  %spare = phi ptr [ null, %entry ], [ %spare.next, %next ]
  %at = call ptr @sd.place(ptr %cell, i64 %mine, i64 %n)
  %seen = load atomic ptr, ptr %at monotonic, align 8
  %empty = icmp eq ptr %seen, null
  br i1 %empty, label %next, label %exchange
exchange:
  %kept = atomicrmw xchg ptr %at, ptr null acq_rel
  %gone = icmp eq ptr %kept, null
  br i1 %gone, label %next, label %look
look:
  %size = load i64, ptr %kept
  %enough = icmp uge i64 %size, %bytes
  br i1 %enough, label %take, label %small
small:                                           ; the first that is too small is held back, others stay
  %first = icmp eq ptr %spare, null
  br i1 %first, label %next, label %back
back:
  call void @sd.release(ptr %cell, ptr %kept)
  br label %next
next:
  %spare.next = phi ptr [ %spare, %place ], [ %spare, %exchange ], [ %kept, %small ], [ %spare, %back ]
  %n.next = add i64 %n, 1
  %more = icmp ult i64 %n.next, {PLACES}
  br i1 %more, label %place, label %none
none:
  %any = icmp ne ptr %spare.next, null
  br i1 %any, label %drop, label %fresh
take:
  %held = icmp ne ptr %spare, null
  br i1 %held, label %return, label %taken
return:
  call void @sd.release(ptr %cell, ptr %spare)
  br label %taken
taken:
  ret ptr %kept
drop:
  call void @sd.discard(ptr %spare.next)
  br label %fresh
fresh:
  %total = add i64 %bytes, {_HEADER + 64}
  %raw = call ptr @malloc(i64 %total)
  %failed = icmp eq ptr %raw, null
  br i1 %failed, label %fail, label %good
fail:
  ret ptr null
good:
  %number = ptrtoint ptr %raw to i64
  %up = add i64 %number, 63
  %aligned = and i64 %up, -64
  %block = inttoptr i64 %aligned to ptr
  %large = icmp uge i64 %bytes, {_LARGE}
  br i1 %large, label %advise, label %header
advise:
  %whole = add i64 %number, {_PAGE - 1}
  %page = and i64 %whole, {-_PAGE}
  %first.page = inttoptr i64 %page to ptr
  %end = add i64 %number, %total
  %last.page = and i64 %end, {-_PAGE}
  %length = sub i64 %last.page, %page
  call void @sd.advise(ptr %first.page, i64 %length)
  br label %header
header:
  store i64 %bytes, ptr %block
  %second = getelementptr inbounds i8, ptr %block, i64 8
  store ptr %raw, ptr %second
  ret ptr %block
}}
define internal i64 @sd.mine() alwaysinline nounwind {{
  %here = alloca i8
  %number = ptrtoint ptr %here to i64
  %stack = lshr i64 %number, {_STACK}
  %mixed = mul i64 %stack, -7046029254386353131
  %first = lshr i64 %mixed, {64 - PLACES.bit_length() + 1}
  ret i64 %first
}}
define internal ptr @sd.place(ptr %cell, i64 %first, i64 %n) alwaysinline nounwind {{
  %sum = add i64 %first, %n
  %place = urem i64 %sum, {PLACES}
  %at = getelementptr [{_LINE} x i8], ptr %cell, i64 %place
  ret ptr %at
}}
define internal void @sd.discard(ptr %block) noinline nounwind {{
  %second = getelementptr inbounds i8, ptr %block, i64 8
  %raw = load ptr, ptr %second
  call void @free(ptr %raw)
  ret void
}}
define void @sd.release(ptr %cell, ptr %block) noinline nounwind {{
entry:
  %size = load i64, ptr %block
  %huge = icmp ugt i64 %size, {_KEPT_BYTES}
  br i1 %huge, label %drop, label %keep
keep:
  %mine = call i64 @sd.mine()
  br label %place
place:
  %n = phi i64 [ 0, %keep ], [ %n.next, %next ]
  %at = call ptr @sd.place(ptr %cell, i64 %mine, i64 %n)
  %seen = load atomic ptr, ptr %at monotonic, align 8
  %taken = icmp ne ptr %seen, null
  br i1 %taken, label %next, label %put
put:
  %exchange = cmpxchg ptr %at, ptr null, ptr %block acq_rel monotonic
  %done = extractvalue {{ ptr, i1 }} %exchange, 1
  br i1 %done, label %end, label %next
next:
  %n.next = add i64 %n, 1
  %more = icmp ult i64 %n.next, {PLACES}
  br i1 %more, label %place, label %drop
drop:
  call void @sd.discard(ptr %block)
  br label %end
end:
  ret void
}}
"""


_ADVISE = """
define internal void @sd.advise(ptr %start, i64 %length) {
  ADVISE
  ret void
}
"""


class Cell:
    """A cell, empty at first. Its memory is there as long as the object."""

    def __init__(self) -> None:
        self._room = (ctypes.c_char * (_LINE * (PLACES + 1)))()
        start = ctypes.addressof(self._room)
        self.address = start + -start % _LINE

    def places(self) -> list[int]:
        """The addresses of the blocks in its places, 0 where there is none."""
        return [ctypes.c_uint64.from_address(self.address + _LINE * n).value for n in range(PLACES)]


def cell(name: str) -> str:
    """The declaration of a cell that lies outside of the module."""
    return f"@{name} = external global [{PLACES * _LINE} x i8], align {_LINE}\n"


def acquire(lines: Lines, cell: str, size: str) -> str:
    """Ask for a block of so many bytes; null where there is no memory."""
    return lines.intrinsic(ACQUIRE, "ptr", [("ptr", f"@{cell}"), ("i64", size)])


def inside(lines: Lines, block: str) -> str:
    """The bytes of a block."""
    return lines.emit(f"getelementptr i8, ptr {block}, i64 {_HEADER}")


def release(lines: Lines, cell: str, block: str) -> None:
    """Give a block back."""
    lines.module.declare(f"declare void @{RELEASE}(ptr, ptr)")
    lines.do(f"call void @{RELEASE}(ptr @{cell}, ptr {block})")


def text(module: Module) -> str:
    """Both functions."""
    module.declare("declare ptr @malloc(i64)")
    module.declare("declare void @free(ptr)")
    advise = ""
    if sys.platform == "linux":
        module.declare("declare i32 @madvise(ptr, i64, i32)")
        advise = f"call i32 @madvise(ptr %start, i64 %length, i32 {_HUGE_PAGES})"
    return _TEXT + _ADVISE.replace("ADVISE", advise)
