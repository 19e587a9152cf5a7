"""Factorizations and solutions of small matrices in LLVM IR: what LAPACK does, without its fixed cost and its lock.

Takes a `Routine` whose parameters are those of `codegen.products.routines`; appends the instructions for `n` up to
`LARGEST`. Results mean what LAPACK's mean there (the factorization of the transposed matrix with partial pivoting,
exchanges counted from 1), so that either may follow the other. OpenBLAS takes a lock in every call: threads that share
a batch of small matrices would stand in line.
"""

from __future__ import annotations

from collections.abc import Callable

from codegen.llvm.routine import Routine
from codegen.llvm.text import literal

LARGEST = 20
_LANES = 4


def _load(r: Routine, kind: str, variable: str) -> str:
    return r.emit(f"load {kind}, ptr {variable}")


def _minus_multiple(r: Routine, target: str, source: str, factor: str, count: str) -> None:
    """target[i] -= factor * source[i]."""

    def step(i: str, width: int) -> None:
        kind = r.lanes(width)
        part = r.emit(f"fmul {kind} {r.get_lanes(source, i, width)}, {r.splat(factor, r.type, width)}")
        r.put_lanes(r.emit(f"fsub {kind} {r.get_lanes(target, i, width)}, {part}"), target, i, width)

    r.in_lanes(count, _LANES, step)


def _divide(r: Routine, target: str, divisor: str, count: str) -> None:
    def step(i: str, width: int) -> None:
        kind = r.lanes(width)
        quotient = r.emit(f"fdiv {kind} {r.get_lanes(target, i, width)}, {r.splat(divisor, r.type, width)}")
        r.put_lanes(quotient, target, i, width)

    r.in_lanes(count, _LANES, step)


def _down(r: Routine, body: Callable[[str], None]) -> None:
    """Run `body` with n - 1 .. 0."""
    r.loop("%n", lambda c: body(r.sub(r.sub("%n", 1), c)))


def factorize(r: Routine, pivots: str) -> None:
    """LU factorization of the transpose of `a`, in place: row j of `a` is a column."""
    best, most = r.variable("i64", "0"), r.variable(r.type, literal(0, r.dtype))

    def column(j: str) -> None:
        own = r.place("%a", r.mul(j, "%n"))

        def compare(i: str) -> None:
            size = r.intrinsic(f"llvm.fabs.{r.dtype}", r.type, [(r.type, r.get(own, i))])
            before, where = _load(r, r.type, most), _load(r, "i64", best)
            larger = r.emit(f"fcmp ogt {r.type} {size}, {before}")
            r.do(f"store {r.type} {r.emit(f'select i1 {larger}, {r.type} {size}, {r.type} {before}')}, ptr {most}")
            r.do(f"store i64 {r.emit(f'select i1 {larger}, i64 {i}, i64 {where}')}, ptr {best}")

        r.do(f"store i64 {j}, ptr {best}")
        r.do(f"store {r.type} {literal(0, r.dtype)}, ptr {most}")
        r.loop("%n", compare, start=j)
        pivot = _load(r, "i64", best)
        number = r.emit(f"trunc i64 {r.add(pivot, 1)} to i32")
        r.do(f"store i32 {number}, ptr {r.place(pivots, j, 'i32')}")
        r.when(r.emit(f"icmp ne i64 {pivot}, {j}"), lambda: r.loop("%n", lambda l: _exchange(r, "%a", l, j, pivot)))
        after = r.add(j, 1)
        below, left = r.place(own, after), r.sub("%n", after)
        diagonal = r.get(own, j)
        usable = r.emit(f"fcmp une {r.type} {diagonal}, {literal(0, r.dtype)}")
        r.when(usable, lambda: _divide(r, below, diagonal, left))

        def update(l: str) -> None:
            other = r.place("%a", r.mul(l, "%n"))
            _minus_multiple(r, r.place(other, after), below, r.get(other, j), left)

        r.loop("%n", update, start=after)

    r.loop("%n", column)


def _exchange(r: Routine, base: str, row: str, i: str, j: str) -> None:
    one, two = (r.place(base, r.at(row, "%n", x)) for x in (i, j))
    first, second = (r.emit(f"load {r.type}, ptr {x}") for x in (one, two))
    r.do(f"store {r.type} {second}, ptr {one}")
    r.do(f"store {r.type} {first}, ptr {two}")


def invert(r: Routine, pivots: str) -> None:
    """The inverse, to `out`, column by column of the transpose."""
    place = r.variable("i64", "0")

    def column(k: str) -> None:
        own = r.place("%out", r.mul(k, "%n"))
        r.loop("%n", lambda i: r.put(literal(0, r.dtype), own, i))
        r.do(f"store i64 {k}, ptr {place}")

        def follow(j: str) -> None:
            now, other = _load(r, "i64", place), r.sub(_pivot(r, pivots, j), 1)
            here, there = (r.emit(f"icmp eq i64 {now}, {x}") for x in (j, other))
            back = r.emit(f"select i1 {there}, i64 {j}, i64 {now}")
            r.do(f"store i64 {r.emit(f'select i1 {here}, i64 {other}, i64 {back}')}, ptr {place}")

        r.loop("%n", follow)
        first = _load(r, "i64", place)
        r.put(literal(1, r.dtype), own, first)

        def forward(j: str) -> None:
            after = r.add(j, 1)
            factors = r.place("%factors", r.at(j, "%n", after))
            _minus_multiple(r, r.place(own, after), factors, r.get(own, j), r.sub("%n", after))

        def backward(j: str) -> None:
            factors = r.place("%factors", r.mul(j, "%n"))
            value = r.emit(f"fdiv {r.type} {r.get(own, j)}, {r.get(factors, j)}")
            r.put(value, own, j)
            _minus_multiple(r, own, factors, value, j)

        r.loop("%n", forward, start=first)
        _down(r, backward)

    r.loop("%n", column)


def _pivot(r: Routine, pivots: str, j: str) -> str:
    return r.emit(f"sext i32 {r.get(pivots, j, 'i32')} to i64")


def substitute(r: Routine, matrix: str, upward: bool, turned: bool, divide: bool) -> None:
    """Solve a triangular system for the rows of `b`, [n, k]: from the last row up, or from the first row down.

    Element (j, i) of the system is `matrix[j, i]`, or with `turned` `matrix[i, j]`; `divide`: by the diagonal, which is
    1 otherwise.
    """
    totals = {width: r.variable(r.lanes(width), literal(0, r.dtype) if width == 1 else "zeroinitializer")
              for width in (1, _LANES)}  # fmt: skip

    def strip(c: str, width: int) -> None:
        kind, total = r.lanes(width), totals[width]

        def row(j: str) -> None:
            r.do(f"store {kind} {r.get_lanes('%b', r.at(j, '%k', c), width)}, ptr {total}")

            def take(i: str) -> None:
                factor = r.splat(r.get(matrix, r.at(i, "%n", j) if turned else r.at(j, "%n", i)), r.type, width)
                part = r.emit(f"fmul {kind} {factor}, {r.get_lanes('%b', r.at(i, '%k', c), width)}")
                r.do(f"store {kind} {r.emit(f'fsub {kind} {_load(r, kind, total)}, {part}')}, ptr {total}")

            if upward:
                r.loop("%n", take, start=r.add(j, 1))
            else:
                r.loop(j, take)
            value = _load(r, kind, total)
            if divide:
                value = r.emit(f"fdiv {kind} {value}, {r.splat(r.get(matrix, r.at(j, '%n', j)), r.type, width)}")
            r.put_lanes(value, "%b", r.at(j, "%k", c), width)

        if upward:
            _down(r, row)
        else:
            r.loop("%n", row)

    r.in_lanes("%k", _LANES, strip)


def solve(r: Routine, pivots: str) -> None:
    """Solve for the rows of `b` with the factors of the transpose."""
    substitute(r, "%factors", upward=False, turned=False, divide=True)
    substitute(r, "%factors", upward=True, turned=False, divide=False)

    def back(j: str) -> None:
        one, two = r.mul(j, "%k"), r.mul(r.sub(_pivot(r, pivots, j), 1), "%k")

        def swap(c: str) -> None:
            first, second = (r.place("%b", r.add(x, c)) for x in (one, two))
            a, b = (r.emit(f"load {r.type}, ptr {x}") for x in (first, second))
            r.do(f"store {r.type} {b}, ptr {first}")
            r.do(f"store {r.type} {a}, ptr {second}")

        r.loop("%k", swap)

    _down(r, back)


def cholesky(r: Routine) -> None:
    """The lower triangle whose product with its transpose is `a`, in place; the function ends with 1 if there is none.

    What NaN makes is NaN, and no failure. Works along rows in the upper triangle, which the caller fills with zeros
    afterwards.
    """

    def row(j: str) -> None:
        own = r.place("%a", r.mul(j, "%n"))
        square = r.get(own, j)
        r.leave(r.emit(f"fcmp ole {r.type} {square}, {literal(0, r.dtype)}"), 1)
        pivot = r.intrinsic(f"llvm.sqrt.{r.dtype}", r.type, [(r.type, square)])
        r.put(pivot, own, j)
        after = r.add(j, 1)
        _divide(r, r.place(own, after), pivot, r.sub("%n", after))

        def update(i: str) -> None:
            factor = r.get(own, i)
            _minus_multiple(r, r.place("%a", r.at(i, "%n", i)), r.place(own, i), factor, r.sub("%n", i))
            r.put(factor, "%a", r.at(i, "%n", j))

        r.loop("%n", update, start=after)

    r.loop("%n", row)
