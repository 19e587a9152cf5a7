"""Matrix products cut into parts that threads can share, in LLVM IR: rows of the result, or stretches of long sums.

A module of its own for each dtype, `text(...)`, compiled once, holds

    i32 @sd.product.<dtype>(... as @sd.gemm.<dtype> ..., i64 threads)

Rows of the result go to threads in blocks; a row's sums are what they are without. Where a small result sums over a
great many products, stretches of `STRETCH` are summed on their own and added up in order, whatever the number of
threads: so bits do not depend on it, and no rounding error runs through the whole sum.
"""

from __future__ import annotations

from codegen import gemm, memory, pool
from codegen.memory import SCRATCH
from codegen.routine import Routine
from codegen.text import BYTES, Module, literal

STRETCH = 8192
_LONG = 4 * STRETCH
_SMALL = 128 * 128
_MUCH = 1 << 21
"""Products from which threads share a matrix product: about fifty microseconds."""
_PARTS = 2
_ROWS = 8

_WORDS = ("m", "n", "k", "a", "ar", "as", "b", "bs", "bc", "c", "cr", "scale", "flags", "rows", "parts")
_POINTERS = ("a", "b", "c", "scale", "parts")


def symbol(dtype: str) -> str:
    """The routine's name."""
    return f"sd.product.{dtype}"


def declaration(dtype: str) -> str:
    """What a module that calls the routine declares."""
    return f"declare i32 @{symbol(dtype)}({', '.join(map(_type, _WORDS[:13]))}, i64)"


def _type(word: str) -> str:
    return "ptr" if word in _POINTERS else "i64"


def text(register_bytes: int, fma: bool, dtype: str, threads: bool) -> str:
    """The text of the module; without threads it never asks for any."""
    module = Module(register_bytes, fma)
    module.declare(gemm.declaration(dtype))
    module.declare("declare i64 @llvm.smax.i64(i64, i64)")
    if threads:
        module.declare(pool.DECLARATION)
    parameters = ", ".join(f"{_type(w)} %{w}" for w in _WORDS[:13])
    module.functions += [memory.text(module), f"@{SCRATCH} = external global ptr\n", _rows(module, dtype)]
    module.functions += [_stretches(module, dtype), _product(module, dtype, parameters, threads)]
    return module.text()


def _call(r: Routine, **other: str) -> str:
    """The matrix product of the parameters, some of them replaced."""
    words = ", ".join(f"{_type(w)} {other.get(w, f'%{w}')}" for w in _WORDS[:13])
    return r.emit(f"call i32 @{gemm.symbol(r.dtype)}({words})")


def _part(r: Routine) -> None:
    """Read what the parts of one product have in common."""
    for number, word in enumerate(_WORDS):
        place = r.emit(f"getelementptr inbounds i64, ptr %common, i64 {number}")
        r.do(f"%{word} = load {_type(word)}, ptr {place}")


def _keep(r: Routine, worst: str, status: str) -> None:
    r.module.declare("declare i32 @llvm.umax.i32(i32, i32)")
    before = r.emit(f"load i32, ptr {worst}")
    r.do(f"store i32 {r.emit(f'call i32 @llvm.umax.i32(i32 {before}, i32 {status})')}, ptr {worst}")


def _finished(r: Routine, name: str, worst: str) -> str:
    status = r.emit(f"load i32, ptr {worst}")
    parameters = "ptr %common, ptr %none, i64 %from, i64 %to, i64 %thread"
    return r.define(f"sd.{name}.{r.dtype}", "i32", parameters, f"ret i32 {status}")


def _rows(module: Module, dtype: str) -> str:
    """Blocks of rows; of a symmetric product each from its diagonal on."""
    r = Routine(module, dtype)
    _part(r)
    worst = r.variable("i32", "0")
    half = r.emit(f"icmp ne i64 {r.emit(f'and i64 %flags, {gemm.HALF}')}, 0")
    plain = r.emit(f"and i64 %flags, {~gemm.MIRROR}")

    def block(i: str) -> None:
        first = r.mul(i, "%rows")
        column = r.emit(f"select i1 {half}, i64 {first}, i64 0")
        _keep(r, worst, _call(
            r, m=r.least(r.sub("%m", first), "%rows"), n=r.sub("%n", column), a=r.place("%a", r.mul(first, "%ar")),
            b=r.place("%b", r.mul(column, "%bc")), c=r.place("%c", r.at(first, "%cr", column)), flags=plain,
        ))  # fmt: skip

    r.loop("%to", block, start="%from")
    return _finished(r, "rows", worst)


def _stretches(module: Module, dtype: str) -> str:
    """Sums over stretches, each a matrix of its own."""
    r = Routine(module, dtype)
    _part(r)
    worst = r.variable("i32", "0")
    flags = r.emit(f"and i64 %flags, {gemm.HALF}")
    size = r.mul("%m", "%n")
    plain = r.emit("icmp eq ptr %scale, null")

    def stretch(i: str) -> None:
        first = r.mul(i, STRETCH)
        scale = r.emit(f"select i1 {plain}, ptr null, ptr {r.place('%scale', first)}")
        _keep(r, worst, _call(
            r, k=r.least(r.sub("%k", first), STRETCH), a=r.place("%a", r.mul(first, "%as")),
            b=r.place("%b", r.mul(first, "%bs")), c=r.place("%parts", r.mul(i, size)), cr="%n", scale=scale,
            flags=flags,
        ))  # fmt: skip

    r.loop("%to", stretch, start="%from")
    return _finished(r, "stretches", worst)


def _product(module: Module, dtype: str, parameters: str, threads: bool) -> str:
    r = Routine(module, dtype)
    status = r.variable("i32", "0")
    common = r.fresh("common")
    r.lines.insert(0, f"  {common} = alloca [{len(_WORDS)} x i64], align 8")
    size = r.mul("%m", "%n")
    long = r.emit(f"icmp sge i64 %k, {_LONG}")
    small = r.emit(f"icmp sle i64 {size}, {_SMALL}")
    some = r.emit(f"icmp sgt i64 {size}, 0")
    much = r.emit(f"icmp sgt i64 {r.mul(size, '%k')}, {_MUCH}")
    several = r.emit("icmp sgt i64 %threads, 1") if threads else "false"

    def common_is(rows: str, parts: str) -> None:
        for number, word in enumerate(_WORDS):
            place = r.emit(f"getelementptr inbounds i64, ptr {common}, i64 {number}")
            value = {"rows": rows, "parts": parts}.get(word, f"%{word}")
            r.do(f"store {_type(word)} {value}, ptr {place}")

    def share(name: str, count: str) -> None:
        if threads:
            words = f"ptr @sd.{name}.{dtype}, ptr {common}, ptr null, i64 {count}, i64 %threads"
            done = r.emit(f"call i32 @{pool.SYMBOL}({words})")
        else:
            done = r.emit(f"call i32 @sd.{name}.{dtype}(ptr {common}, ptr null, i64 0, i64 {count}, i64 0)")
        r.do(f"store i32 {done}, ptr {status}")

    def by_stretches() -> None:
        count = r.emit(f"sdiv i64 {r.add('%k', STRETCH - 1)}, {STRETCH}")
        bytes_ = r.mul(r.mul(count, size), BYTES[dtype])
        block = r.emit(f"call ptr @sd.acquire(ptr @{SCRATCH}, i64 {bytes_})")
        r.leave(r.emit(f"icmp eq ptr {block}, null"), 1)
        parts = r.emit(f"getelementptr i8, ptr {block}, i64 64")
        common_is("0", parts)
        share("stretches", count)
        add = r.emit(f"icmp ne i64 {r.emit(f'and i64 %flags, {gemm.ADD}')}, 0")
        total = r.variable(r.type, literal(0, dtype))

        def element(i: str) -> None:
            def column(j: str) -> None:
                place = r.at(i, "%cr", j)
                own = r.emit(f"select i1 {add}, {r.type} {r.get('%c', place)}, {r.type} {literal(-0.0, dtype)}")
                r.do(f"store {r.type} {own}, ptr {total}")

                def stretch(l: str) -> None:
                    part = r.get(parts, r.add(r.mul(l, size), r.at(i, "%n", j)))
                    before = r.emit(f"load {r.type}, ptr {total}")
                    r.do(f"store {r.type} {r.emit(f'fadd {r.type} {before}, {part}')}, ptr {total}")

                r.loop(count, stretch)
                r.put(r.emit(f"load {r.type}, ptr {total}"), "%c", place)

            r.loop("%n", column)

        r.loop("%m", element)
        r.do(f"call void @sd.release(ptr @{SCRATCH}, ptr {block})")
        mirror()

    def mirror() -> None:
        flag = r.emit(f"icmp ne i64 {r.emit(f'and i64 %flags, {gemm.MIRROR}')}, 0")
        # Adding an empty sum changes nothing but mirrors.
        every = str(gemm.ADD | gemm.HALF | gemm.MIRROR)
        r.when(flag, lambda: r.do(f"store i32 {_call(r, k='0', scale='null', flags=every)}, ptr {status}"))

    def by_rows() -> None:
        blocks = r.mul("%threads", _PARTS)
        fair = r.emit(f"sdiv i64 {r.sub(r.add('%m', blocks), 1)}, {blocks}")
        whole = r.emit(f"and i64 {r.add(fair, _ROWS - 1)}, {-_ROWS}")
        common_is(whole, "null")
        share("rows", r.emit(f"sdiv i64 {r.sub(r.add('%m', whole), 1)}, {whole}"))
        mirror()

    def at_once() -> None:
        r.do(f"store i32 {_call(r)}, ptr {status}")

    stretched = r.emit(f"and i1 {long}, {r.emit(f'and i1 {small}, {some}')}")
    shared = r.emit(f"and i1 {much}, {several}")
    r.when(stretched, by_stretches, lambda: r.when(shared, by_rows, at_once) if threads else at_once())
    ending = r.emit(f"load i32, ptr {status}")
    return r.define(symbol(dtype), "i32", f"{parameters}, i64 %threads", f"ret i32 {ending}", linkage="")
