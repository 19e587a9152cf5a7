"""Matrix product in LLVM IR: C[m, n] = sum over k of A[m, k] B[k, n], any strides of A and B, rows of C dense.

`text(module, dtype)` gives `i32 @sd.gemm.<dtype>(i64 m, i64 n, i64 k, ptr a, i64 a_row, i64 a_sum, ptr b, i64 b_sum,
i64 b_column, ptr c, i64 c_row)`; strides are in elements. Always returns 0.
"""

from __future__ import annotations

from codegen.text import REGISTER, Module


def text(module: Module, dtype: str) -> str:
    """The routine and what it calls."""
    t = REGISTER[dtype]
    module.declare(f"declare {t} @llvm.fma.{dtype}({t}, {t}, {t})")
    zero = "0x0000000000000000"
    return f"""
define internal i32 @sd.gemm.{dtype}(i64 %m, i64 %n, i64 %k, ptr %a, i64 %ar, i64 %as, ptr %b, i64 %bs, i64 %bc, ptr noalias %c, i64 %cr) noinline {module.attributes} {{
entry:
  br label %rows
rows:
  %i = phi i64 [ 0, %entry ], [ %i1, %rowend ]
  %ti = icmp slt i64 %i, %m
  br i1 %ti, label %cols, label %done
cols:
  %j = phi i64 [ 0, %rows ], [ %j1, %colend ]
  %tj = icmp slt i64 %j, %n
  br i1 %tj, label %sums, label %rowend
sums:
  %l = phi i64 [ 0, %cols ], [ %l1, %sumbody ]
  %acc = phi {t} [ {zero}, %cols ], [ %next, %sumbody ]
  %tl = icmp slt i64 %l, %k
  br i1 %tl, label %sumbody, label %colend
sumbody:
  %o1 = mul i64 %i, %ar
  %o2 = mul i64 %l, %as
  %o3 = add i64 %o1, %o2
  %o4 = mul i64 %l, %bs
  %o5 = mul i64 %j, %bc
  %o6 = add i64 %o4, %o5
  %pa = getelementptr {t}, ptr %a, i64 %o3
  %pb = getelementptr {t}, ptr %b, i64 %o6
  %va = load {t}, ptr %pa
  %vb = load {t}, ptr %pb
  %next = call {t} @llvm.fma.{dtype}({t} %va, {t} %vb, {t} %acc)
  %l1 = add i64 %l, 1
  br label %sums
colend:
  %o7 = mul i64 %i, %cr
  %o8 = add i64 %o7, %j
  %pc = getelementptr {t}, ptr %c, i64 %o8
  store {t} %acc, ptr %pc
  %j1 = add i64 %j, 1
  br label %cols
rowend:
  %i1 = add i64 %i, 1
  br label %rows
done:
  ret i32 0
}}
"""
