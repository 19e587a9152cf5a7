"""Matrix products cut into parts that threads can share, in LLVM IR: rows of the result, or stretches of long sums.

`product(...)` gives what programs call, to which the flag `MIRROR` says that the part of C above the diagonal is copied
below it in the end:

    i32 @sd.product.<dtype>(... as @sd.gemm.<dtype> ..., i64 threads)

Small products are computed at once, others left to `@sd.divided.<dtype>` with the same parameters, whose text
`text(...)` gives: it is compiled on its own, and found in the cell `@sd.cell.<dtype>`, which is the caller's.

Where the result is small, spans of the sum go to threads, as many products as are added to C at a time; else rows of
the result in blocks, for all of which B is packed before, by threads, too; or columns where there are many more. Sums
are what they are without. Long sums are cut into stretches of `STRETCH` products, whatever the number of threads. Where
the result is small and stretches are many, they go to threads. The sums of stretches are added up in order
together with what these additions leave, so that errors do not grow with the sum.
"""

from __future__ import annotations

from collections.abc import Callable

from codegen.jit import pool
from codegen.llvm import memory
from codegen.llvm.compensated import two_sum, with_rest
from codegen.llvm.routine import Routine
from codegen.llvm.text import BYTES, Module
from codegen.products import gemm, packed, packing
from codegen.products.packed import ADD, BEFORE, HALF, KC, MIRROR, WORDS, arguments, fill, kind, round_up
from codegen.products.tiles import widest

STRETCH = 2048
_SMALL = 128 * 128
_ROOM = 1 << 22
"""Elements of a result whose stretches are computed side by side, and of all of them."""
_LANES = 8
_MUCH = 1 << 20
"""Products from which threads share a matrix product: about twenty-five microseconds at the best."""
_PARTS = 4
"""Blocks for each thread, so that one that is disturbed leaves some to the others;"""
_FEWEST = 96
"""but of no fewer rows or columns than these, since each block packs what all have in common."""
_WHOLE = 48
"""Columns of whole tiles, whatever the registers;"""
_PACKED = 4 * _WHOLE
"""columns that a thread packs at a time,"""
_ALL = 12 * _PACKED
"""and that are packed before blocks of rows are multiplied with them: all of B, seldom, and not more than 38 MB."""
_SPANS = 1 << 20
"""Elements of all matrices that spans of the sum make, where threads share those."""
_WIDE = 128
"""Columns of a symmetric result from which threads share the mirroring."""

_ROUTINE = (*WORDS, "dots", "threads")
_COMMON = (*WORDS, "dots", "block", "parts")
"""What parts of one product have in common,"""
_WORK = "ptr %common, ptr %none, i64 %from, i64 %to, i64 %thread"
"""and what they are given."""


def symbol(dtype: str) -> str:
    """The routine's name."""
    return f"sd.product.{dtype}"


def declaration(dtype: str) -> str:
    """What a module that calls the routine declares."""
    return f"declare i32 @{symbol(dtype)}({', '.join(map(kind, _ROUTINE))})"


def divided_symbol(dtype: str) -> str:
    """The name of what large products are left to,"""
    return f"sd.divided.{dtype}"


def cell_symbol(dtype: str) -> str:
    """and of the place that holds its address."""
    return f"sd.cell.{dtype}"


def text(module: Module, dtype: str, threads: bool) -> str:
    """What large products are left to, and what it calls; without threads it never asks for any."""
    if threads:
        module.declare(pool.DECLARATION)
    ways = (_rows, _columns, _panelled, _stripes, _spans, _added)
    shared = [make(module, dtype) for make in ways] if threads else []
    long = [_settled(module, dtype), _finish(module, dtype), _stretches(module, dtype)]
    return "".join([*shared, *long, _divided(module, dtype, threads)])


def _part(r: Routine) -> None:
    """Read what the parts of one product have in common."""
    for number, word in enumerate(_COMMON):
        place = r.emit(f"getelementptr inbounds i64, ptr %common, i64 {number}")
        r.do(f"%{word} = load {kind(word)}, ptr {place}")


def _keep(r: Routine, worst: str, status: str) -> None:
    before = r.emit(f"load i32, ptr {worst}")
    larger = r.intrinsic("llvm.umax.i32", "i32", [("i32", before), ("i32", status)])
    r.do(f"store i32 {larger}, ptr {worst}")


def _products(
    module: Module, dtype: str, name: str, prepare: Callable[[Routine], Callable[[str], dict[str, str]]]
) -> str:
    """A routine for some of the products that one is made of, and the worst of their statuses.

    `prepare` reads what these have in common; it returns how number i of them differs from the whole product.
    """
    r = Routine(module, dtype)
    _part(r)
    worst = r.variable("i32", "0")
    one = prepare(r)
    r.loop("%to", lambda i: _keep(r, worst, gemm.call(r, **one(i))), start="%from")
    status = r.emit(f"load i32, ptr {worst}")
    return r.define(f"sd.{name}.{dtype}", "i32", _WORK, f"ret i32 {status}")


def _stretch(r: Routine, first: str, length: int) -> dict[str, str]:
    """The operands of the part of a sum that begins with product `first`."""
    unscaled = r.emit("icmp eq ptr %scale, null")
    return {
        "k": r.least(r.sub("%k", first), length), "a": r.place("%a", r.mul(first, "%as")),
        "b": r.place("%b", r.mul(first, "%bs")),
        "scale": r.emit(f"select i1 {unscaled}, ptr null, ptr {r.place('%scale', first)}"),
    }  # fmt: skip


def _rows(module: Module, dtype: str) -> str:
    """Blocks of rows; of a symmetric product each from its diagonal on."""

    def prepare(r: Routine) -> Callable[[str], dict[str, str]]:
        half = r.flag("%flags", HALF)

        def block(i: str) -> dict[str, str]:
            first = r.mul(i, "%block")
            column = r.emit(f"select i1 {half}, i64 {first}, i64 0")
            return {
                "m": r.least(r.sub("%m", first), "%block"), "n": r.sub("%n", column),
                "a": r.place("%a", r.mul(first, "%ar")), "b": r.place("%b", r.mul(column, "%bc")),
                "c": r.place("%c", r.at(first, "%cr", column)), "flags": r.add("%flags", r.mul(column, BEFORE)),
            }  # fmt: skip

        return block

    return _products(module, dtype, "rows", prepare)


def _panelled(module: Module, dtype: str) -> str:
    """Panels of B for all blocks of rows."""
    r = Routine(module, dtype)
    _part(r)

    def block(i: str) -> None:
        first = r.mul(i, "%block")
        fill(r, "%k", "%panels", first=first, count=r.least(r.sub("%n", first), "%block"))

    r.loop("%to", block, start="%from")
    return r.define(f"sd.panelled.{dtype}", "i32", _WORK, "ret i32 0")


def _stripes(module: Module, dtype: str) -> str:
    """Stripes of the mirror image."""
    r = Routine(module, dtype)
    _part(r)
    packing.mirror(r, "%from", "%to")
    return r.define(f"sd.stripes.{dtype}", "i32", _WORK, "ret i32 0")


def _columns(module: Module, dtype: str) -> str:
    """Blocks of columns."""

    def prepare(r: Routine) -> Callable[[str], dict[str, str]]:
        def block(i: str) -> dict[str, str]:
            first = r.mul(i, "%block")
            return {
                "n": r.least(r.sub("%n", first), "%block"), "b": r.place("%b", r.mul(first, "%bc")),
                "c": r.place("%c", first), "panels": "null",
            }  # fmt: skip

        return block

    return _products(module, dtype, "columns", prepare)


def _spans(module: Module, dtype: str) -> str:
    """What goes to C at a time, each a matrix of its own; the first of them there."""

    def prepare(r: Routine) -> Callable[[str], dict[str, str]]:
        size = r.mul("%m", "%n")
        later = r.emit(f"and i64 %flags, {HALF}")

        def span(i: str) -> dict[str, str]:
            begins = r.emit(f"icmp eq i64 {i}, 0")
            part = r.place("%parts", r.mul(r.sub(i, 1), size))
            first = r.mul(i, KC)
            return {
                **_stretch(r, first, KC), "k": packed.stretch_length(r, r.sub("%k", first)),
                "c": r.emit(f"select i1 {begins}, ptr %c, ptr {part}"),
                "cr": r.emit(f"select i1 {begins}, i64 %cr, i64 %n"),
                "flags": r.emit(f"select i1 {begins}, i64 %flags, i64 {later}"), "dots": "null",
            }  # fmt: skip

        return span

    return _products(module, dtype, "spans", prepare)


def _added(module: Module, dtype: str) -> str:
    """Rows of C, to which the other matrices are added in order; of a symmetric one from the diagonal on."""
    r = Routine(module, dtype)
    _part(r)
    size = r.mul("%m", "%n")
    half = r.flag("%flags", HALF)
    count = r.sub(r.parts(packed.stretches(r, "%k"), KC), 1)

    def row(i: str) -> None:
        start = r.emit(f"select i1 {half}, i64 {i}, i64 0")
        length = r.sub("%n", start)
        target = r.place("%c", r.at(i, "%cr", start))

        def part(l: str) -> None:
            source = r.place("%parts", r.add(r.mul(l, size), r.at(i, "%n", start)))

            def add(j: str, width: int) -> None:
                both = r.get_lanes(target, j, width), r.get_lanes(source, j, width)
                r.put_lanes(r.emit(f"fadd {r.lanes(width)} {both[0]}, {both[1]}"), target, j, width)

            r.in_lanes(length, _LANES, add)

        r.loop(count, part)

    r.loop("%to", row, start="%from")
    return r.define(f"sd.added.{dtype}", "i32", _WORK, "ret i32 0")


def _panels(r: Routine, l: str) -> str:
    """Where B's panels of the stretch that begins with product l are, if there are any."""
    place = r.place("%panels", r.mul(l, round_up(r, "%n", widest(r.module, r.dtype))))
    return r.emit(f"select i1 {r.emit('icmp eq ptr %panels, null')}, ptr null, ptr {place}")


def _stretches(module: Module, dtype: str) -> str:
    """Sums over stretches, each a matrix of its own."""

    def prepare(r: Routine) -> Callable[[str], dict[str, str]]:
        flags = r.emit(f"and i64 %flags, {HALF}")
        size = r.mul("%m", "%n")

        def stretch(i: str) -> dict[str, str]:
            first = r.mul(i, STRETCH)
            return {
                **_stretch(r, first, STRETCH), "c": r.place("%parts", r.mul(i, size)), "cr": "%n", "flags": flags,
                "panels": _panels(r, first),
            }  # fmt: skip

        return stretch

    return _products(module, dtype, "stretches", prepare)


def _settled(module: Module, dtype: str) -> str:
    """Add a dense part to C, and what that leaves to a dense rest."""
    r = Routine(module, dtype)

    def row(i: str) -> None:
        c, rest, part = r.place("%c", r.mul(i, "%cr")), *[r.place(x, r.mul(i, "%n")) for x in ("%rest", "%part")]

        def add(j: str, width: int) -> None:
            head, error = two_sum(r, r.lanes(width), r.get_lanes(c, j, width), r.get_lanes(part, j, width))
            r.put_lanes(head, c, j, width)
            r.put_lanes(r.emit(f"fadd {r.lanes(width)} {r.get_lanes(rest, j, width)}, {error}"), rest, j, width)

        r.in_lanes("%n", _LANES, add)

    r.loop("%m", row)
    parameters = "i64 %m, i64 %n, ptr %c, i64 %cr, ptr noalias %rest, ptr noalias %part"
    return r.define(f"sd.settled.{dtype}", "void", parameters, "ret void")


def _finish(module: Module, dtype: str) -> str:
    """Add the rest to C."""
    r = Routine(module, dtype)

    def row(i: str) -> None:
        c, rest = r.place("%c", r.mul(i, "%cr")), r.place("%rest", r.mul(i, "%n"))

        def add(j: str, width: int) -> None:
            r.put_lanes(with_rest(r, dtype, width, r.get_lanes(c, j, width), r.get_lanes(rest, j, width)), c, j, width)

        r.in_lanes("%n", _LANES, add)

    r.loop("%m", row)
    return r.define(f"sd.finish.{dtype}", "void", "i64 %m, i64 %n, ptr %c, i64 %cr, ptr noalias %rest", "ret void")


def _divided(module: Module, dtype: str, threads: bool) -> str:
    """A product in parts."""
    r = Routine(module, dtype)
    status = r.variable("i32", "0")
    common = r.fresh("common")
    r.lines.insert(0, f"  {common} = alloca [{len(_COMMON)} x i64], align 8")
    size = r.mul("%m", "%n")
    bytes_ = r.mul(size, BYTES[dtype])
    count = r.parts("%k", STRETCH)
    amount = r.mul(size, "%k")
    much = r.emit(f"icmp sgt i64 {amount}, {_MUCH}")
    several = r.emit("icmp sgt i64 %threads, 1") if threads else "false"

    def common_is(**own: str) -> None:
        for number, word in enumerate(_COMMON):
            place = r.emit(f"getelementptr inbounds i64, ptr {common}, i64 {number}")
            value = own.get(word, "null" if word == "parts" else "0" if word == "block" else f"%{word}")
            r.do(f"store {kind(word)} {value}, ptr {place}")

    def share(name: str, count: str, amount: str = amount) -> None:
        if threads:
            words = f"ptr @sd.{name}.{dtype}, ptr {common}, ptr null, i64 {count}, i64 %threads, i64 {amount}"
            done = r.emit(f"call i32 @{pool.SYMBOL}({words})")
        else:
            done = r.emit(f"call i32 @sd.{name}.{dtype}(ptr {common}, ptr null, i64 0, i64 {count}, i64 0)")
        keep(done)

    def long(parts: str, compute: Callable[[str, Callable[[str], None]], None]) -> None:
        """Memory for a rest and so many parts; `compute` gets the address of the parts, and adds them up in C."""
        block = memory.acquire(r, memory.SCRATCH, r.mul(bytes_, r.add(parts, 1)))
        r.leave(r.emit(f"icmp eq ptr {block}, null"), 1)
        rest = memory.inside(r, block)
        r.module.declare("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")

        def zero(place: str, length: str) -> None:
            r.do(f"call void @llvm.memset.p0.i64(ptr {place}, i8 0, i64 {length}, i1 false)")

        zero(rest, bytes_)
        row = r.mul("%n", BYTES[dtype])
        begins = r.emit(f"xor i1 {r.flag('%flags', ADD)}, true")
        r.when(begins, lambda: r.loop("%m", lambda i: zero(r.place("%c", r.mul(i, "%cr")), row)))

        def settle(part: str) -> None:
            r.do(f"call void @sd.settled.{dtype}(i64 %m, i64 %n, ptr %c, i64 %cr, ptr {rest}, ptr {part})")

        compute(r.place(rest, size), settle)
        r.do(f"call void @sd.finish.{dtype}(i64 %m, i64 %n, ptr %c, i64 %cr, ptr {rest})")
        memory.release(r, memory.SCRATCH, block)

    def side_by_side(parts: str, settle: Callable[[str], None]) -> None:
        common_is(parts=parts)
        share("stretches", count)
        r.loop(count, lambda l: settle(r.place(parts, r.mul(l, size))))

    half = r.emit(f"and i64 %flags, {HALF}")

    def in_turn(part: str, settle: Callable[[str], None]) -> None:
        def stretch(l: str) -> None:
            short(**_stretch(r, l, STRETCH), c=part, cr="%n", flags=half, panels=_panels(r, l))
            settle(part)

        r.loop("%k", stretch, STRETCH)

    def keep(code: str) -> None:
        _keep(r, status, code)

    def short(**own: str) -> None:
        """One stretch, by rows where threads share it."""
        if not threads:
            keep(gemm.call(r, **own))
            return

        # All of B is packed at once, or stripe by stripe; a symmetric product has no stripes.
        symmetric = r.emit(f"icmp ne i64 {half}, 0")
        once = r.emit(f"icmp sle i64 %n, {_ALL}")
        halves = r.emit(f"and i1 {symmetric}, {once}")

        def shared(name: str, extent: str, **more: str) -> None:
            # As many for each thread. Those of a symmetric product get shorter: more of them, and whole tiles.
            fewest, most, multiple = (
                r.emit(f"select i1 {halves}, i64 {of_half}, i64 {of_all}")
                for of_half, of_all in ((_WHOLE, _FEWEST), (2 * _PARTS, _PARTS), (_WHOLE, 8))
            )
            each = r.emit(f"sdiv i64 {extent}, {r.mul('%threads', fewest)}")
            blocks = r.mul("%threads", r.most(r.least(each, most), 1))
            size = round_up(r, r.parts(extent, blocks), str(_WHOLE) if name == "columns" else multiple)
            common_is(**{**own, **more}, block=size)
            share(name, r.parts(extent, size))

        def rows(**more: str) -> None:
            shared("rows", "%m", **more)

        def rows_of_panels() -> None:
            """Each block of rows would pack all of B."""
            k = own.get("k", "%k")
            wide = r.least(round_up(r, "%n", _WHOLE), _ALL)
            block = memory.acquire(r, memory.SCRATCH, r.mul(r.mul(k, wide), BYTES[dtype]))
            panels = memory.inside(r, block)

            def columns(j: str) -> None:
                n = r.least(r.sub("%n", j), _ALL)
                b = r.place(own.get("b", "%b"), r.mul(j, "%bc"))
                common_is(**{**own, "n": n, "b": b, "panels": panels, "block": str(_PACKED)})
                share("panelled", r.parts(n, _PACKED), r.mul(n, k))
                rows(n=n, b=b, c=r.place(own.get("c", "%c"), j), panels=panels, dots="null")

            def prepared() -> None:
                r.loop("%n", columns, _ALL)
                memory.release(r, memory.SCRATCH, block)

            r.when(r.emit(f"icmp ne ptr {block}, null"), prepared, rows)

        def spans_or_blocks() -> None:
            """Where C is small the spans of the sum that go to it are shared: each reads what it needs once."""
            k = own.get("k", "%k")
            count = r.parts(packed.stretches(r, k), KC)
            room = r.mul(size, r.sub(count, 1))
            several = r.emit(f"icmp sge i64 {count}, {r.mul('%threads', 2)}")
            fit = r.emit(f"icmp sle i64 {room}, {_SPANS}")
            none = r.emit(f"icmp eq ptr {own.get('panels', '%panels')}, null")

            def spans() -> None:
                block = memory.acquire(r, memory.SCRATCH, r.mul(room, BYTES[dtype]))

                def made() -> None:
                    common_is(**{**own, "parts": memory.inside(r, block)})
                    share("spans", count, r.mul(size, k))
                    share("added", "%m", room)
                    memory.release(r, memory.SCRATCH, block)

                r.when(r.emit(f"icmp ne ptr {block}, null"), made, several_blocks)

            r.when(r.both(several, fit, none), spans, several_blocks)

        def several_blocks() -> None:
            # Narrow products of rows with rows add up in an order of their own, which a narrow part must not take;
            # the last stretch of a long sum may be one.
            narrow = gemm.narrow(r, own.get("k", "%k"))
            wide = r.both(r.emit(f"icmp sgt i64 %n, {r.mul('%m', 2)}"), r.emit(f"xor i1 {narrow}, true"))
            whole = r.emit(f"or i1 {r.emit(f'xor i1 {symmetric}, true')}, {once}")
            given = r.emit(f"icmp ne ptr {own.get('panels', '%panels')}, null")
            lies = r.emit(f"or i1 {gemm.in_place(r, 'false')}, {narrow}")
            packs = r.both(whole, r.emit(f"xor i1 {given}, true"), r.emit(f"xor i1 {lies}, true"))
            r.when(wide, lambda: shared("columns", "%n", dots="null"),
                   lambda: r.when(packs, rows_of_panels, rows))  # fmt: skip

        r.when(r.emit(f"and i1 {much}, {several}"), spans_or_blocks, lambda: keep(gemm.call(r, **own)))

    small = r.emit(f"icmp sle i64 {size}, {_SMALL}")
    fits = r.emit(f"and i1 {small}, {r.emit(f'icmp sle i64 {r.mul(size, count)}, {_ROOM}')}")
    if threads:  # a few stretches are no even shares
        few = r.emit(f"icmp slt i64 {count}, {r.mul('%threads', _PARTS)}")
        fits = r.emit(f"and i1 {fits}, {r.emit(f'xor i1 {r.both(few, several, much)}, true')}")
    cut = r.emit(f"and i1 {r.emit(f'icmp sgt i64 %k, {STRETCH}')}, {r.emit(f'icmp sgt i64 {size}, 0')}")
    r.when(cut, lambda: r.when(fits, lambda: long(count, side_by_side), lambda: long("1", in_turn)), short)

    def mirror() -> None:
        count = r.parts("%n", packing.STRIPE)
        if not threads:
            packing.mirror(r, "0", count)
            return

        def shared() -> None:
            common_is()
            share("stripes", count, size)

        wide = r.emit(f"and i1 {several}, {r.emit(f'icmp sge i64 %n, {_WIDE}')}")
        r.when(wide, shared, lambda: packing.mirror(r, "0", count))

    r.when(r.flag("%flags", MIRROR), mirror)
    ending = r.emit(f"load i32, ptr {status}")
    return r.define(divided_symbol(dtype), "i32", arguments(_ROUTINE), f"ret i32 {ending}", linkage="")


def product(module: Module, dtype: str) -> str:
    """Small products at once, others in parts."""
    r = Routine(module, dtype)
    module.functions.append(f"@{cell_symbol(dtype)} = external global ptr\n")
    status = r.variable("i32", "0")
    add = r.flag("%flags", ADD)
    begins = r.emit(f"xor i1 {add}, true")
    little = r.emit(f"icmp sle i64 {r.mul(r.mul('%m', '%n'), '%k')}, {_MUCH}")
    alone = r.emit(f"or i1 {little}, {r.emit('icmp sle i64 %threads, 1')}")
    direct = gemm.in_place(r, r.emit(f"icmp sle i64 %m, {gemm.FLAT}"))
    quick = r.both(alone, gemm.small(r, direct, begins))
    dots = r.emit(f"and i1 {alone}, {gemm.narrow(r)}")

    def divided() -> None:
        code = r.emit(f"load atomic ptr, ptr @{cell_symbol(dtype)} acquire, align 8")
        r.do(f"store i32 {r.emit(f'call i32 {code}({arguments(_ROUTINE)})')}, ptr {status}")

    def once() -> None:
        gemm.at_once(r, direct)
        r.when(r.flag("%flags", MIRROR), lambda: packing.mirror(r, "0", r.parts("%n", packing.STRIPE)))

    r.when(dots, lambda: gemm.dotted(r, add), lambda: r.when(quick, once, divided))
    ending = r.emit(f"load i32, ptr {status}")
    return r.define(symbol(dtype), "i32", arguments(_ROUTINE), f"ret i32 {ending}", linkage="")
