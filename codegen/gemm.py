"""Matrix product in LLVM IR: C[m, n] = sum over k of A[m, k] B[k, n], any strides of A and B, rows of C dense.

`text(module, dtype)` gives `i32 @sd.gemm.<dtype>(i64 m, i64 n, i64 k, ptr a, i64 a_row, i64 a_sum, ptr b, i64 b_sum,
i64 b_column, ptr c, i64 c_row)`; strides are in elements. Returns 0, or 1 where there is no memory for packing.

A tile of the result stays in registers over a stretch of k; tiles begin from zero or from what C holds, so every
element is one chain of fused multiply-adds in the order of k, whatever the blocking: bits do not depend on the width of
the machine or on the path taken. Small products read A and B where they lie. Larger ones, and all whose B has no dense
rows, pack B into panels as wide as a tile, and A into panels as high, block by block so that panels stay in the caches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from codegen.text import BYTES, REGISTER, Lines, Module, literal

_KC = 192
_MC = 192
_NC = 1536
_DIRECT = 40_000
_NARROW = 256
_FLAT = 24
"""B with dense rows is read where it lies up to so many elements, so many columns, or for so few rows of A."""


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile of `rows` x `vectors` registers of `width` lanes."""

    dtype: str
    rows: int
    vectors: int
    width: int

    @property
    def columns(self) -> int:
        return self.vectors * self.width


def _tile(module: Module, dtype: str) -> _Tile:
    width = max(2, module.register_bytes // BYTES[dtype])
    # 32 registers hold 24 sums, 3 vectors of B and what the loop needs; 16 registers hold 12.
    return _Tile(dtype, 8 if module.register_bytes == 64 else 4, 3, width)


def text(module: Module, dtype: str) -> str:
    """The routine and what it calls."""
    tile = _tile(module, dtype)
    t, bytes_ = REGISTER[dtype], BYTES[dtype]
    vector = f"<{tile.width} x {t}>"
    suffix = f"v{tile.width}{dtype}"
    module.declare(f"declare {vector} @llvm.fma.{suffix}({vector}, {vector}, {vector})")
    module.declare(f"declare {vector} @llvm.masked.load.{suffix}.p0(ptr, i32, <{tile.width} x i1>, {vector})")
    module.declare(f"declare void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, <{tile.width} x i1>)")
    module.declare("declare i64 @llvm.smin.i64(i64, i64)")
    chunk = min(tile.width, tile.rows)
    part = f"<{chunk} x {t}>"
    module.declare(f"declare {part} @llvm.masked.load.v{chunk}{dtype}.p0(ptr, i32, <{chunk} x i1>, {part})")
    names = {
        "D": dtype, "T": t, "BYTES": bytes_, "MR": tile.rows, "NR": tile.columns, "KC": _KC, "MC": _MC, "NC": _NC,
        "DIRECT": _DIRECT, "NARROW": _NARROW, "FLAT": _FLAT, "CHUNK": chunk,
        "WIDTH": tile.width, "TWICE": 2 * tile.width,
        "NUMBERS": ", ".join(f"i64 {i}" for i in range(chunk)), "ATTRIBUTES": module.attributes,
        "ZERO": literal(0, dtype),
    }  # fmt: skip
    driver = _DRIVER
    for key, value in names.items():
        driver = driver.replace(f"<{key}>", str(value))
    tiles = [_micro(module, tile, masked=False)]
    tiles += [_micro(module, replace(tile, vectors=v), masked=True) for v in range(1, tile.vectors + 1)]
    return "".join(tiles) + driver


# -------------------------------------------------------------------- one tile
def _micro(module: Module, tile: _Tile, masked: bool) -> str:
    """A tile: C[rows, columns] (+)= A[rows, k] B[k, columns]; `first` begins from zero. Masked: fewer columns."""
    lines = Lines(module)
    t = REGISTER[tile.dtype]
    kind, mask_kind = f"<{tile.width} x {t}>", f"<{tile.width} x i1>"
    align = BYTES[tile.dtype]
    suffix = f"v{tile.width}{tile.dtype}"
    rows, vectors = range(tile.rows), range(tile.vectors)
    masks: list[str] = []
    if masked:
        numbers = ", ".join(f"i64 {i}" for i in range(tile.width))
        for v in vectors:
            left = lines.emit(f"sub i64 %columns, {v * tile.width}")
            masks.append(_compare(lines, tile.width, left, numbers))
    last = lines.emit("sub i64 %rows, 1")
    a_rows: list[str] = []
    c_rows: list[str] = []
    for i in rows:
        row = lines.emit(f"call i64 @llvm.smin.i64(i64 {i}, i64 {last})")
        a_rows.append(lines.emit(f"getelementptr {t}, ptr %a, i64 {lines.emit(f'mul i64 {row}, %ar')}"))
        c_rows.append(lines.emit(f"getelementptr {t}, ptr %c, i64 {lines.emit(f'mul i64 {row}, %cr')}"))

    def read(base: str, v: int) -> str:
        place = lines.emit(f"getelementptr {t}, ptr {base}, i64 {v * tile.width}") if v else base
        if not masked:
            return lines.emit(f"load {kind}, ptr {place}, align {align}")
        return lines.emit(
            f"call {kind} @llvm.masked.load.{suffix}.p0(ptr {place}, i32 {align}, {mask_kind} {masks[v]}, "
            f"{kind} zeroinitializer)"
        )

    def write(value: str, base: str, v: int) -> None:
        place = lines.emit(f"getelementptr {t}, ptr {base}, i64 {v * tile.width}") if v else base
        if not masked:
            lines.do(f"store {kind} {value}, ptr {place}, align {align}")
        else:
            lines.do(
                f"call void @llvm.masked.store.{suffix}.p0({kind} {value}, ptr {place}, i32 {align}, "
                f"{mask_kind} {masks[v]})"
            )

    lines.do("br i1 %first, label %sums, label %old")
    lines.begin("old")
    old = [[read(c_rows[i], v) for v in vectors] for i in rows]
    lines.do("br label %sums")
    lines.begin("sums")
    lines.do("%l = phi i64 [ 0, %entry ], [ 0, %old ], [ %l1, %step ]")
    for i in rows:
        for v in vectors:
            lines.do(
                f"%acc{i}.{v} = phi {kind} [ zeroinitializer, %entry ], [ {old[i][v]}, %old ], [ %new{i}.{v}, %step ]"
            )
    lines.do("%more = icmp slt i64 %l, %k")
    lines.do("br i1 %more, label %step, label %store")
    lines.begin("step")
    row = lines.emit(f"getelementptr {t}, ptr %b, i64 {lines.emit('mul i64 %l, %bs')}")
    b = [read(row, v) for v in vectors]
    step = lines.emit("mul i64 %l, %as")
    for i in rows:
        place = lines.emit(f"getelementptr {t}, ptr {a_rows[i]}, i64 {step}")
        one = lines.emit(f"load {t}, ptr {place}, align {align}")
        one = lines.emit(f"insertelement {kind} poison, {t} {one}, i64 0")
        every = lines.emit(f"shufflevector {kind} {one}, {kind} poison, <{tile.width} x i32> zeroinitializer")
        for v in vectors:
            lines.do(
                f"%new{i}.{v} = call {kind} @llvm.fma.{suffix}({kind} {every}, {kind} {b[v]}, {kind} %acc{i}.{v})"
            )
    lines.do("%l1 = add nsw i64 %l, 1")
    lines.do("br label %sums")
    lines.begin("store")
    for i in rows:
        for v in vectors:
            write(f"%acc{i}.{v}", c_rows[i], v)
        if i + 1 < tile.rows:
            over = lines.emit(f"icmp sle i64 %rows, {i + 1}")
            lines.do(f"br i1 {over}, label %end, label %row{i + 1}")
            lines.begin(f"row{i + 1}")
    lines.jump("end")
    lines.do("ret void")
    body = "\n".join(lines.lines)
    name = f"{tile.dtype}.masked{tile.vectors}" if masked else tile.dtype
    return (
        f"define internal void @sd.tile.{name}(i64 %rows, i64 %columns, i64 %k, "
        f"ptr noalias %a, i64 %ar, i64 %as, ptr noalias %b, i64 %bs, ptr noalias %c, i64 %cr, i1 %first) noinline "
        f"{module.attributes} {{\nentry:\n{body}\n}}\n"
    )


def _compare(lines: Lines, width: int, left: str, numbers: str) -> str:
    one = lines.emit(f"insertelement <{width} x i64> poison, i64 {left}, i64 0")
    every = lines.emit(f"shufflevector <{width} x i64> {one}, <{width} x i64> poison, <{width} x i32> zeroinitializer")
    return lines.emit(f"icmp slt <{width} x i64> <{numbers}>, {every}")


# -------------------------------------------------------------------- blocking and packing
_DRIVER = """
define internal void @sd.tiles.<D>(i64 %m, i64 %n, i64 %k, ptr %a, i64 %ap, i64 %ar, i64 %as, ptr %b, i64 %bp,
    i64 %bs, ptr %c, i64 %cr, i1 %first) noinline <ATTRIBUTES> {
entry:
  br label %columns
columns:
  %j = phi i64 [ 0, %entry ], [ %j1, %next ]
  %jb = phi ptr [ %b, %entry ], [ %jb1, %next ]
  %tj = icmp slt i64 %j, %n
  br i1 %tj, label %rows, label %done
rows:
  %i = phi i64 [ 0, %columns ], [ %i1, %after ]
  %ia = phi ptr [ %a, %columns ], [ %ia1, %after ]
  %ti = icmp slt i64 %i, %m
  br i1 %ti, label %tile, label %next
tile:
  %leftm = sub i64 %m, %i
  %rows0 = call i64 @llvm.smin.i64(i64 %leftm, i64 <MR>)
  %leftn = sub i64 %n, %j
  %cj = mul i64 %i, %cr
  %co = add i64 %cj, %j
  %cp = getelementptr <T>, ptr %c, i64 %co
  %whole = icmp sge i64 %leftn, <NR>
  br i1 %whole, label %full, label %part
full:
  call void @sd.tile.<D>(i64 %rows0, i64 <NR>, i64 %k, ptr %ia, i64 %ar, i64 %as, ptr %jb, i64 %bs, ptr %cp,
    i64 %cr, i1 %first)
  br label %after
part:
  %one = icmp sle i64 %leftn, <WIDTH>
  br i1 %one, label %part1, label %more
more:
  %two = icmp sle i64 %leftn, <TWICE>
  br i1 %two, label %part2, label %part3
part1:
  call void @sd.tile.<D>.masked1(i64 %rows0, i64 %leftn, i64 %k, ptr %ia, i64 %ar, i64 %as, ptr %jb, i64 %bs, ptr %cp,
    i64 %cr, i1 %first)
  br label %after
part2:
  call void @sd.tile.<D>.masked2(i64 %rows0, i64 %leftn, i64 %k, ptr %ia, i64 %ar, i64 %as, ptr %jb, i64 %bs, ptr %cp,
    i64 %cr, i1 %first)
  br label %after
part3:
  call void @sd.tile.<D>.masked3(i64 %rows0, i64 %leftn, i64 %k, ptr %ia, i64 %ar, i64 %as, ptr %jb, i64 %bs, ptr %cp,
    i64 %cr, i1 %first)
  br label %after
after:
  %i1 = add i64 %i, <MR>
  %ia1 = getelementptr <T>, ptr %ia, i64 %ap
  br label %rows
next:
  %j1 = add i64 %j, <NR>
  %jb1 = getelementptr <T>, ptr %jb, i64 %bp
  br label %columns
done:
  ret void
}
; Panels of `wide` lines: out[panel][l][lane] = in[(panel * wide + lane) * line + l * step];
; lanes beyond the last line are zero.
define internal void @sd.pack.<D>(i64 %lines, i64 %k, ptr noalias %in, i64 %line, i64 %step, ptr noalias %out,
    i64 %wide) noinline <ATTRIBUTES> {
entry:
  br label %panels
panels:
  %p = phi i64 [ 0, %entry ], [ %p1, %next ]
  %tp = icmp slt i64 %p, %lines
  br i1 %tp, label %panel, label %done
panel:
  %left = sub i64 %lines, %p
  %count = call i64 @llvm.smin.i64(i64 %left, i64 %wide)
  %po = mul i64 %p, %k
  %to = getelementptr <T>, ptr %out, i64 %po
  %fo = mul i64 %p, %line
  %from = getelementptr <T>, ptr %in, i64 %fo
  %dense = icmp eq i64 %step, 1
  br i1 %dense, label %bylane, label %byline
bylane:
  %x = phi i64 [ 0, %panel ], [ %x1, %bylane.next ]
  %tx = icmp slt i64 %x, %wide
  br i1 %tx, label %bylane.row, label %next
bylane.row:
  %ux = icmp slt i64 %x, %count
  %xo = mul i64 %x, %line
  %fx = getelementptr <T>, ptr %from, i64 %xo
  %tx0 = getelementptr <T>, ptr %to, i64 %x
  br i1 %ux, label %bylane.copy, label %bylane.zero
bylane.copy:
  %l = phi i64 [ 0, %bylane.row ], [ %l1, %bylane.copied ]
  %tl = icmp slt i64 %l, %k
  br i1 %tl, label %bylane.copied, label %bylane.next
bylane.copied:
  %fl = getelementptr <T>, ptr %fx, i64 %l
  %vl = load <T>, ptr %fl, align <BYTES>
  %ol = mul i64 %l, %wide
  %tl0 = getelementptr <T>, ptr %tx0, i64 %ol
  store <T> %vl, ptr %tl0, align <BYTES>
  %l1 = add nsw i64 %l, 1
  br label %bylane.copy
bylane.zero:
  %z = phi i64 [ 0, %bylane.row ], [ %z1, %bylane.zeroed ]
  %tz = icmp slt i64 %z, %k
  br i1 %tz, label %bylane.zeroed, label %bylane.next
bylane.zeroed:
  %oz = mul i64 %z, %wide
  %tz0 = getelementptr <T>, ptr %tx0, i64 %oz
  store <T> <ZERO>, ptr %tz0, align <BYTES>
  %z1 = add nsw i64 %z, 1
  br label %bylane.zero
bylane.next:
  %x1 = add nsw i64 %x, 1
  br label %bylane
byline:
  %r = phi i64 [ 0, %panel ], [ %r1, %byline.next ]
  %tr = icmp slt i64 %r, %k
  br i1 %tr, label %byline.row, label %next
byline.row:
  %lanes = icmp eq i64 %line, 1
  %fr0 = mul i64 %r, %step
  %fr = getelementptr <T>, ptr %from, i64 %fr0
  %or = mul i64 %r, %wide
  %or0 = getelementptr <T>, ptr %to, i64 %or
  br i1 %lanes, label %byline.vector, label %byline.copy
byline.vector:
  %q = phi i64 [ 0, %byline.row ], [ %q1, %byline.vector ]
  %qleft = sub i64 %count, %q
  %q0 = insertelement <<CHUNK> x i64> poison, i64 %qleft, i64 0
  %qs = shufflevector <<CHUNK> x i64> %q0, <<CHUNK> x i64> poison, <<CHUNK> x i32> zeroinitializer
  %qm = icmp slt <<CHUNK> x i64> <<NUMBERS>>, %qs
  %fq = getelementptr <T>, ptr %fr, i64 %q
  %vq = call <<CHUNK> x <T>> @llvm.masked.load.v<CHUNK><D>.p0(ptr %fq, i32 <BYTES>, <<CHUNK> x i1> %qm,
    <<CHUNK> x <T>> zeroinitializer)
  %oq = getelementptr <T>, ptr %or0, i64 %q
  store <<CHUNK> x <T>> %vq, ptr %oq, align <BYTES>
  %q1 = add nsw i64 %q, <CHUNK>
  %tq = icmp slt i64 %q1, %wide
  br i1 %tq, label %byline.vector, label %byline.next
byline.copy:
  %y = phi i64 [ 0, %byline.row ], [ %y1, %byline.copied ]
  %ty = icmp slt i64 %y, %wide
  br i1 %ty, label %byline.take, label %byline.next
byline.take:
  %uy = icmp slt i64 %y, %count
  br i1 %uy, label %byline.read, label %byline.copied
byline.read:
  %yo = mul i64 %y, %line
  %fy = getelementptr <T>, ptr %fr, i64 %yo
  %vy = load <T>, ptr %fy, align <BYTES>
  br label %byline.copied
byline.copied:
  %vy0 = phi <T> [ %vy, %byline.read ], [ <ZERO>, %byline.take ]
  %oy = getelementptr <T>, ptr %or0, i64 %y
  store <T> %vy0, ptr %oy, align <BYTES>
  %y1 = add nsw i64 %y, 1
  br label %byline.copy
byline.next:
  %r1 = add nsw i64 %r, 1
  br label %byline
next:
  %p1 = add i64 %p, %wide
  br label %panels
done:
  ret void
}
define internal i32 @sd.gemm.<D>(i64 %m, i64 %n, i64 %k, ptr %a, i64 %ar, i64 %as, ptr %b, i64 %bs, i64 %bc,
    ptr %c, i64 %cr) noinline <ATTRIBUTES> {
entry:
  %nk = mul i64 %n, %k
  %few = icmp sle i64 %nk, <DIRECT>
  %narrow = icmp sle i64 %n, <NARROW>
  %flat = icmp sle i64 %m, <FLAT>
  %some = or i1 %few, %narrow
  %any = or i1 %some, %flat
  %rowwise = icmp eq i64 %bc, 1
  %direct = and i1 %any, %rowwise
  %none = icmp sle i64 %k, 0
  %simple = or i1 %direct, %none
  br i1 %simple, label %unpacked, label %packed
unpacked:
  %ap = mul i64 %ar, <MR>
  br label %uk
uk:
  %ul = phi i64 [ 0, %unpacked ], [ %ul1, %uk ]
  %uleft = sub i64 %k, %ul
  %ulk = call i64 @llvm.smin.i64(i64 %uleft, i64 <KC>)
  %uao = mul i64 %ul, %as
  %ua = getelementptr <T>, ptr %a, i64 %uao
  %ubo = mul i64 %ul, %bs
  %ub = getelementptr <T>, ptr %b, i64 %ubo
  %ufirst = icmp eq i64 %ul, 0
  call void @sd.tiles.<D>(i64 %m, i64 %n, i64 %ulk, ptr %ua, i64 %ap, i64 %ar, i64 %as, ptr %ub, i64 <NR>, i64 %bs,
    ptr %c, i64 %cr, i1 %ufirst)
  %ul1 = add i64 %ul, <KC>
  %umore = icmp slt i64 %ul1, %k
  br i1 %umore, label %uk, label %udone
udone:
  ret i32 0
packed:
  %kmax = call i64 @llvm.smin.i64(i64 %k, i64 <KC>)
  %nmax = call i64 @llvm.smin.i64(i64 %n, i64 <NC>)
  %mmax = call i64 @llvm.smin.i64(i64 %m, i64 <MC>)
  %nup = add i64 %nmax, <NR>
  %mup = add i64 %mmax, <MR>
  %both = add i64 %nup, %mup
  %elements = mul i64 %kmax, %both
  %bytes = mul i64 %elements, <BYTES>
  %memory = call ptr @sd.acquire(ptr @sd.scratch, i64 %bytes)
  %failed = icmp eq ptr %memory, null
  br i1 %failed, label %fail, label %begin
fail:
  ret i32 1
begin:
  %pb = getelementptr i8, ptr %memory, i64 64
  %bsize = mul i64 %kmax, %nup
  %pa = getelementptr <T>, ptr %pb, i64 %bsize
  br label %jc
jc:
  %j = phi i64 [ 0, %begin ], [ %j1, %jc.next ]
  %tj = icmp slt i64 %j, %n
  br i1 %tj, label %pc, label %end
pc:
  %l = phi i64 [ 0, %jc ], [ %l1, %pc.next ]
  %tl = icmp slt i64 %l, %k
  br i1 %tl, label %pc.body, label %jc.next
pc.body:
  %jleft = sub i64 %n, %j
  %jn = call i64 @llvm.smin.i64(i64 %jleft, i64 <NC>)
  %lleft = sub i64 %k, %l
  %lk = call i64 @llvm.smin.i64(i64 %lleft, i64 <KC>)
  %bo1 = mul i64 %l, %bs
  %bo2 = mul i64 %j, %bc
  %bo = add i64 %bo1, %bo2
  %bfrom = getelementptr <T>, ptr %b, i64 %bo
  call void @sd.pack.<D>(i64 %jn, i64 %lk, ptr %bfrom, i64 %bc, i64 %bs, ptr %pb, i64 <NR>)
  %bp = mul i64 %lk, <NR>
  %apanel = mul i64 %lk, <MR>
  %isfirst = icmp eq i64 %l, 0
  br label %ic
ic:
  %i = phi i64 [ 0, %pc.body ], [ %i1, %ic.body ]
  %ti = icmp slt i64 %i, %m
  br i1 %ti, label %ic.body, label %pc.next
ic.body:
  %ileft = sub i64 %m, %i
  %im = call i64 @llvm.smin.i64(i64 %ileft, i64 <MC>)
  %ao1 = mul i64 %i, %ar
  %ao2 = mul i64 %l, %as
  %ao = add i64 %ao1, %ao2
  %afrom = getelementptr <T>, ptr %a, i64 %ao
  call void @sd.pack.<D>(i64 %im, i64 %lk, ptr %afrom, i64 %ar, i64 %as, ptr %pa, i64 <MR>)
  %co1 = mul i64 %i, %cr
  %co = add i64 %co1, %j
  %cto = getelementptr <T>, ptr %c, i64 %co
  call void @sd.tiles.<D>(i64 %im, i64 %jn, i64 %lk, ptr %pa, i64 %apanel, i64 1, i64 <MR>, ptr %pb, i64 %bp,
    i64 <NR>, ptr %cto, i64 %cr, i1 %isfirst)
  %i1 = add i64 %i, <MC>
  br label %ic
pc.next:
  %l1 = add i64 %l, <KC>
  br label %pc
jc.next:
  %j1 = add i64 %j, <NC>
  br label %jc
end:
  call void @sd.release(ptr @sd.scratch, ptr %memory)
  ret i32 0
}
"""
