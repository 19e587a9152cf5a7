"""Library routines in LLVM IR: matrix factorizations, and what is made of them.

Takes a `Module` that says which routines its kernels call; gives their text. Matrices are dense and row-major; small
ones are factorized by `codegen.products.small`, others by LAPACK, which reads them column-major, so it sees every
matrix transposed: a factorization of A is one of its transpose there, a lower triangle an upper one, and right sides
are transposed on the way in and out unless they are one column.

Every routine returns 0, or 1 where it fails (singular, not positive definite).
"""

from __future__ import annotations

from collections.abc import Callable

from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module, literal
from codegen.products import panels, sharing, small


def text(module: Module) -> str:
    """The text of every routine that the module's kernels call."""
    parts: list[str] = []
    for routine, dtype in module.routines:
        if routine == "gemm":
            module.declare(sharing.declaration(dtype))
        elif routine == "panels":
            module.declare(panels.declaration(dtype))
        else:
            parameters, write = _WRITERS[routine]
            r = Routine(module, dtype)
            write(r)
            parts.append(r.define(f"sd.{routine}.{dtype}", "i32", parameters, "ret i32 0"))
    return "\n".join(parts)


# -------------------------------------------------------------------- linear algebra
def _pivots(r: Routine, factors: str) -> str:
    """The address of the row exchanges, kept behind the matrix."""
    return r.place(factors, r.emit("mul nsw i64 %n, %n"))


def _diagonal(r: Routine, factors: str, i: str) -> str:
    return r.get(factors, r.at(i, "%n", i))


def _fail_if_singular(r: Routine) -> None:
    zero = literal(0, r.dtype)

    def test(i: str) -> None:
        r.leave(r.emit(f"fcmp oeq {r.type} {_diagonal(r, '%factors', i)}, {zero}"), 1)

    r.loop("%n", test)


def _by_size(r: Routine, few: Callable[[], None], many: Callable[[], None]) -> None:
    """One way for small matrices, another for others."""
    r.when(r.emit(f"icmp sle i64 %n, {small.LARGEST}"), few, many)


def _lu(r: Routine) -> None:
    r.leave_if_empty("%n")
    n, info, pivots = r.integer("%n"), r.variable("i32", "0"), _pivots(r, "%a")
    _by_size(
        r, lambda: small.factorize(r, pivots), lambda: r.lapack("getrf", [n, n, "%a", n, pivots, info])
    )


def _inverse(r: Routine) -> None:
    r.leave_if_empty("%n")
    _fail_if_singular(r)
    pivots = _pivots(r, "%factors")
    n, info = r.integer("%n"), r.variable("i32", "0")
    work = r.integer(r.emit("mul nsw i64 %n, 64"))

    def many() -> None:
        bytes_ = r.emit(f"mul nsw i64 {r.emit('mul nsw i64 %n, %n')}, {BYTES[r.dtype]}")
        r.module.declare("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        r.do(f"call void @llvm.memcpy.p0.p0.i64(ptr %out, ptr %factors, i64 {bytes_}, i1 false)")
        r.lapack("getri", [n, "%out", n, pivots, "%work", work, info])

    _by_size(r, lambda: small.invert(r, pivots), many)


def _transposed(r: Routine, source: str, target: str, rows: str, columns: str) -> None:
    """target[j, i] = source[i, j]."""

    def row(i: str) -> None:
        r.loop(columns, lambda j: r.put(r.get(source, r.at(i, columns, j)), target, r.at(j, rows, i)))

    r.loop(rows, row)


def _with_right_sides(r: Routine, solve: Callable[[str], None]) -> None:
    """Run `solve` on the right sides in LAPACK's order."""
    single, turn, end = r.label("single"), r.label("turn"), r.label("end")
    one = r.emit("icmp eq i64 %k, 1")
    r.do(f"br i1 {one}, label %{single}, label %{turn}")
    r.begin(turn)
    _transposed(r, "%b", "%work", "%n", "%k")
    solve("%work")
    _transposed(r, "%work", "%b", "%k", "%n")
    r.do(f"br label %{end}")
    r.begin(single)
    solve("%b")
    r.do(f"br label %{end}")
    r.begin(end)


def _solve(r: Routine) -> None:
    r.leave_if_empty("%n")
    _fail_if_singular(r)
    r.leave_if_empty("%k")
    n, k, info, trans = r.integer("%n"), r.integer("%k"), r.variable("i32", "0"), r.letter(str(ord("T")))
    pivots = _pivots(r, "%factors")

    def many() -> None:
        _with_right_sides(r, lambda b: r.lapack("getrs", [trans, n, k, "%factors", n, pivots, b, n, info]))

    _by_size(r, lambda: small.solve(r, pivots), many)


def _triangular_solve(r: Routine) -> None:
    r.leave_if_empty("%n")
    _fail_if_singular(r)
    r.leave_if_empty("%k")
    n, k, info = r.integer("%n"), r.integer("%k"), r.variable("i32", "0")

    def choice(flag: str, yes: str, no: str) -> str:
        on = r.emit(f"icmp ne i64 {flag}, 0")
        return r.letter(r.emit(f"select i1 {on}, i8 {ord(yes)}, i8 {ord(no)}"))

    part, trans, unit = choice("%lower", "U", "L"), choice("%trans", "N", "T"), r.letter(str(ord("N")))

    def few() -> None:
        lower, turned = r.emit("icmp ne i64 %lower, 0"), r.emit("icmp ne i64 %trans, 0")

        def both(upward: bool, is_turned: bool) -> None:
            small.substitute(r, "%factors", upward=upward, turned=is_turned, divide=True)

        r.when(
            turned,
            lambda: r.when(lower, lambda: both(True, True), lambda: both(False, True)),
            lambda: r.when(lower, lambda: both(False, False), lambda: both(True, False)),
        )

    def many() -> None:
        _with_right_sides(r, lambda b: r.lapack("trtrs", [part, trans, unit, n, k, "%factors", n, b, n, info]))

    _by_size(r, few, many)


def _exchanges(r: Routine, step: Callable[[str, str], None]) -> None:
    """For every row: its diagonal element, and whether it was exchanged with another."""
    pivots = _pivots(r, "%factors")

    def row(i: str) -> None:
        with_row = r.get(pivots, i, "i32")
        own = r.emit(f"trunc i64 {r.emit(f'add nsw i64 {i}, 1')} to i32")
        step(_diagonal(r, "%factors", i), r.emit(f"icmp ne i32 {with_row}, {own}"))

    r.loop("%n", row)


def _update(r: Routine, variable: str, compute: Callable[[str], str]) -> None:
    old = r.emit(f"load {r.type}, ptr {variable}")
    r.do(f"store {r.type} {compute(old)}, ptr {variable}")


def _flip(r: Routine, exchanged: str, value: str) -> str:
    return r.emit(f"select i1 {exchanged}, {r.type} {r.emit(f'fneg {r.type} {value}')}, {r.type} {value}")


def _det(r: Routine) -> None:
    total = r.variable(r.type, literal(1, r.dtype))

    def step(diagonal: str, exchanged: str) -> None:
        factor = _flip(r, exchanged, diagonal)
        _update(r, total, lambda old: r.emit(f"fmul {r.type} {old}, {factor}"))

    _exchanges(r, step)
    r.put(r.emit(f"load {r.type}, ptr {total}"), "%out", "0")


def _logabsdet(r: Routine) -> None:
    total = r.variable(r.type, literal(0, r.dtype))
    log = r.module.use_math("log", r.dtype, 1)

    def step(diagonal: str, exchanged: str) -> None:
        size = r.intrinsic(f"llvm.fabs.{r.dtype}", r.type, [(r.type, diagonal)])
        value = r.emit(f"call {r.type} {log}({r.type} {size})")
        _update(r, total, lambda old: r.emit(f"fadd {r.type} {old}, {value}"))

    _exchanges(r, step)
    r.put(r.emit(f"load {r.type}, ptr {total}"), "%out", "0")


def _signdet(r: Routine) -> None:
    total = r.variable(r.type, literal(1, r.dtype))
    zero, one, minus = literal(0, r.dtype), literal(1, r.dtype), literal(-1, r.dtype)

    def step(diagonal: str, exchanged: str) -> None:
        below = r.emit(f"fcmp olt {r.type} {diagonal}, {zero}")
        above = r.emit(f"fcmp ogt {r.type} {diagonal}, {zero}")
        sign = r.emit(f"select i1 {above}, {r.type} {one}, {r.type} {diagonal}")  # zero and NaN stay
        sign = _flip(r, exchanged, r.emit(f"select i1 {below}, {r.type} {minus}, {r.type} {sign}"))
        _update(r, total, lambda old: r.emit(f"fmul {r.type} {old}, {sign}"))

    _exchanges(r, step)
    r.put(r.emit(f"load {r.type}, ptr {total}"), "%out", "0")


def _cholesky(r: Routine) -> None:
    r.leave_if_empty("%n")
    n, info, part = r.integer("%n"), r.variable("i32", "0"), r.letter(str(ord("U")))

    def many() -> None:
        r.lapack("potrf", [part, n, "%a", n, info])
        stop = r.emit(f"load i32, ptr {info}")

        def stopped() -> None:
            """Some LAPACKs stop at NaN too, and leave part of the factor undone."""
            pivot = _diagonal(r, "%a", r.sub(r.emit(f"sext i32 {stop} to i64"), 1))
            r.leave(r.emit(f"fcmp ord {r.type} {pivot}, {pivot}"), 1)
            r.loop(r.mul("%n", "%n"), lambda i: r.put(pivot, "%a", i))

        r.when(r.emit(f"icmp ne i32 {stop}, 0"), stopped)

    _by_size(r, lambda: small.cholesky(r), many)
    zero = literal(0, r.dtype)

    def row(i: str) -> None:
        after = r.emit(f"add nsw i64 {i}, 1")
        rest = r.emit(f"sub nsw i64 %n, {after}")
        r.loop(rest, lambda j: r.put(zero, "%a", r.at(i, "%n", r.emit(f"add nsw i64 {after}, {j}"))))

    r.loop("%n", row)


_WRITERS: dict[str, tuple[str, Callable[[Routine], None]]] = {
    "lu": ("i64 %n, ptr %a", _lu),
    "inverse": ("i64 %n, ptr %factors, ptr %out, ptr %work", _inverse),
    "solve": ("i64 %n, i64 %k, ptr %factors, ptr %b, ptr %work", _solve),
    "triangular_solve": (
        "i64 %n, i64 %k, i64 %lower, i64 %trans, ptr %factors, ptr %b, ptr %work", _triangular_solve,
    ),
    "det": ("i64 %n, ptr %factors, ptr %out", _det),
    "logabsdet": ("i64 %n, ptr %factors, ptr %out", _logabsdet),
    "signdet": ("i64 %n, ptr %factors, ptr %out", _signdet),
    "cholesky": ("i64 %n, ptr %a", _cholesky),
}  # fmt: skip
