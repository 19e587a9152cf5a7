"""Memory for large calls, in LLVM IR: blocks that outlive the call, one kept for the next.

`text(module)` gives `ptr @sd.acquire(ptr cell, i64 bytes)` and `void @sd.release(ptr cell, ptr block)`. A block is
aligned to a cache line; the first line is a header. A cell keeps the block released last, up to `_KEPT_BYTES`: fresh
pages cost more than most kernels. Cells are exchanged atomically, so any number of threads may share them.
"""

from __future__ import annotations

from codegen.text import Module

ARENA = "sd.arena"
SCRATCH = "sd.scratch"

_KEPT_BYTES = 1 << 27
_HEADER = 64

_TEXT = f"""
define internal ptr @sd.acquire(ptr %cell, i64 %bytes) noinline nounwind {{
entry:
  %kept = atomicrmw xchg ptr %cell, ptr null acq_rel
  %none = icmp eq ptr %kept, null
  br i1 %none, label %fresh, label %look
look:
  %size = load i64, ptr %kept
  %enough = icmp uge i64 %size, %bytes
  br i1 %enough, label %take, label %drop
take:
  ret ptr %kept
drop:
  call void @sd.discard(ptr %kept)
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
  store i64 %bytes, ptr %block
  %second = getelementptr inbounds i8, ptr %block, i64 8
  store ptr %raw, ptr %second
  ret ptr %block
}}
define internal void @sd.discard(ptr %block) noinline nounwind {{
  %second = getelementptr inbounds i8, ptr %block, i64 8
  %raw = load ptr, ptr %second
  call void @free(ptr %raw)
  ret void
}}
define internal void @sd.release(ptr %cell, ptr %block) noinline nounwind {{
entry:
  %size = load i64, ptr %block
  %huge = icmp ugt i64 %size, {_KEPT_BYTES}
  br i1 %huge, label %drop, label %keep
keep:
  %old = atomicrmw xchg ptr %cell, ptr %block acq_rel
  %none = icmp eq ptr %old, null
  br i1 %none, label %end, label %other
other:
  call void @sd.discard(ptr %old)
  br label %end
drop:
  call void @sd.discard(ptr %block)
  br label %end
end:
  ret void
}}
"""


def text(module: Module) -> str:
    """Both functions."""
    module.declare("declare ptr @malloc(i64)")
    module.declare("declare void @free(ptr)")
    return _TEXT
