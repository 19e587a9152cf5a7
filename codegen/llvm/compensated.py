"""Sums in LLVM IR that keep what their roundings leave (D. E. Knuth's exact two-term sum)."""

from __future__ import annotations

from codegen.llvm.text import Lines, register_type


def two_sum(lines: Lines, kind: str, a: str, b: str) -> tuple[str, str]:
    """a + b and the error of that sum; never under fast-math flags."""
    total = lines.emit(f"fadd {kind} {a}, {b}")
    second = lines.emit(f"fsub {kind} {total}, {a}")
    first = lines.emit(f"fsub {kind} {total}, {second}")
    return total, lines.emit(
        f"fadd {kind} {lines.emit(f'fsub {kind} {a}, {first}')}, {lines.emit(f'fsub {kind} {b}, {second}')}"
    )


def with_rest(lines: Lines, dtype: str, width: int, head: str, rest: str) -> str:
    """head + rest; where the head is not finite the rest is NaN and does not count."""
    kind, mask = register_type(dtype, width), register_type("bool", width)
    total = lines.emit(f"fadd {kind} {head}, {rest}")
    known = lines.emit(f"fcmp ord {kind} {rest}, {rest}")
    return lines.emit(f"select {mask} {known}, {kind} {total}, {kind} {head}")
