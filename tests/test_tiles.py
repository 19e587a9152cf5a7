"""Tiles of matrix products: every size and layout against NumPy, and inner loops that keep their sums in registers."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from codegen_programs import text_function
from crowd import machine_of
from llvmlite import binding as llvm

import codegen
from codegen.jit import engine, pool
from codegen.llvm.text import Module
from codegen.products import gemm, tiles

LAYOUTS = {"NN": ("m,k", "k,n", "ij,jk"), "NT": ("m,k", "n,k", "ij,kj"), "TN": ("k,m", "k,n", "ji,jk"),
           "TT": ("k,m", "n,k", "ji,kj")}  # fmt: skip
X86 = "x86_64-unknown-linux-gnu"
MACHINES = {
    "avx2": (X86, "x86-64-v3", 32, True), "avx512": (X86, "x86-64-v4", 64, True), "sse2": (X86, "x86-64", 16, False),
    "neon": ("aarch64-unknown-linux-gnu", "generic", 16, True),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_of_every_size_and_layout(layout, dtype, rng):
    left, right, spec = LAYOUTS[layout]
    body = f'%0: {dtype}[m,n] = contract(%A, %B) {{spec = "{spec}->ik"}}\nreturn %0'
    native = codegen.compile(text_function(body, f"%A: {dtype}[{left}], %B: {dtype}[{right}]"), single=True)
    kind = {"f64": np.float64, "f32": np.float32}[dtype]
    sizes = [(m, n, k) for m in (1, 3, 4, 9, 26) for n in (1, 5, 13, 28, 100) for k in (1, 7, 65)]
    for m, n, k in (*sizes, (70, 200, 193), (200, 30, 400), (5, 1600, 3), (0, 3, 2), (3, 0, 2), (3, 2, 0)):
        at = {"m": m, "n": n, "k": k}
        a, b = (rng.normal(size=[at[s] for s in form.split(",")]).astype(kind) for form in (left, right))
        x, y = (a.T if layout[0] == "T" else a), (b.T if layout[1] == "T" else b)
        around = np.full((m + 2, n), 7, kind)  # nothing beside the result is written
        native(a, b, out=around[1:-1])
        bound = (4 + k / 8) * np.finfo(kind).eps * (np.abs(x).astype(float) @ np.abs(y).astype(float))
        assert np.all(np.abs(around[1:-1] - x.astype(float) @ y.astype(float)) <= bound), (m, n, k)
        assert np.all(around[[0, -1]] == 7), (m, n, k)


@pytest.mark.parametrize("spec", ["ij,jk->ik", "ij,kj->ik", "ji,jk->ik", "ji,kj->ik", "ij,j,jk->ik", "ij,j,kj->ik"])
def test_small_products_have_the_bits_of_rows_of_large_ones(spec, rng):
    """Small ones read A where it lies and pack B panel by panel, large ones go block by block."""
    operands = spec.split("->")[0].split(",")
    body = f'%0: f64[m,n] = contract({", ".join(f"%{x}" for x in operands)}) {{spec = "{spec}"}}\nreturn %0'
    names = {"i": "m", "j": "k", "k": "n"}
    params = ", ".join(f"%{x}: f64[{','.join(names[label] for label in x)}]" for x in operands)
    native = codegen.compile(text_function(body, params), single=True)
    for n, k in ((1, 1), (3, 20), (13, 15), (40, 65), (95, 192), (12, 64), (100, 240), (100, 241), (200, 650)):
        sizes = {"i": 400, "j": k, "k": n}
        args = [rng.normal(size=[sizes[label] for label in x]) for x in operands]
        whole = native(*args)
        np.testing.assert_allclose(whole, np.einsum(spec, *args), rtol=1e-12, atol=1e-12)
        for m in (1, 2, 7):
            few = np.ascontiguousarray(np.take(args[0], range(m), axis=operands[0].index("i")))
            np.testing.assert_array_equal(native(few, *args[1:]), whole[:m], err_msg=f"{m}, {n}, {k}")


@pytest.mark.parametrize("register_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_wide_products_of_short_sums_have_the_bits_of_their_columns(register_bytes, dtype, rng, monkeypatch):
    """Their tiles go along the rows, many rows pass over some columns at a time, and the last columns go alone."""
    body = f'%0: {dtype}[m,n] = contract(%A, %B) {{spec = "ij,jk->ik"}}\nreturn %0'
    function = text_function(body, f"%A: {dtype}[m,k], %B: {dtype}[k,n]")
    usual = codegen.compile(function, single=True)
    monkeypatch.setattr("codegen.compiled._machine", lambda: (register_bytes, True))
    native = codegen.compile(function, single=True)
    assert codegen.inspect(native).settle()
    kind = {"f64": np.float64, "f32": np.float32}[dtype]
    for m, n, k in ((1, 131, 1), (2, 256, 2), (3, 100, 9), (7, 700, 31), (11, 50, 32), (15, 300, 33), (30, 1200, 0)):
        a, b = rng.normal(size=(m, k)).astype(kind), rng.normal(size=(k, n)).astype(kind)
        whole = native(a, b)
        np.testing.assert_allclose(whole, a @ b, rtol=2e-5 if dtype == "f32" else 1e-13, atol=1e-5)
        for j in range(0, n, 37):
            some = np.ascontiguousarray(b[:, j : j + 3])
            np.testing.assert_array_equal(usual(a, some), whole[:, j : j + 3], err_msg=f"{m}, {n}, {k}, {j}")


def test_what_only_some_products_need_is_not_compiled_for_others():
    """Narrow products of rows with rows have code of their own, which no product of dense columns ever reaches."""

    def asked(spec, params):
        body = f'%0: f64[m,n] = contract(%A, %B) {{spec = "{spec}"}}\nreturn %0'
        return codegen.inspect(codegen.compile(text_function(body, params))).llvm

    assert "sd.dots.f64" in asked("ij,kj->ik", "%A: f64[m,k], %B: f64[n,k]")
    assert "sd.dots" not in asked("ij,jk->ik", "%A: f64[m,k], %B: f64[k,n]")
    assert "sd.dots" not in asked("ji,jk->ik", "%A: f64[k,m], %B: f64[k,n]")
    assert "sd.dots" not in asked("ji,kj->ik", "%A: f64[k,m], %B: f64[n,k]")


@pytest.mark.parametrize("register_bytes, fma", [(16, False), (16, True), (32, True), (64, True)])
def test_products_are_priced_by_the_tiles_of_the_machine(register_bytes, fma):
    most = tiles.tiles(Module(register_bytes, fma), "f64")[-1]
    made = gemm.tiling(48, 8 * most.columns, 10, 1, 1, False, 0, register_bytes, fma, "f64")
    assert made.steps == ((most.rows, most.vectors, 48 / most.rows * 8 * 10),)
    half = gemm.tiling(48, 8 * most.columns, 10, 1, 1, False, gemm.HALF, register_bytes, fma, "f64")
    assert half.steps[0][2] < made.steps[0][2]


def test_what_lies_beside_a_tile_does_not_reach_it():
    """Tiles read rows and columns that are not there; what comes of these is not finite, and is not written."""
    body = '%0: f64[m,n] = contract(%A, %B) {spec = "ij,jk->ik"}\nreturn %0'
    native = codegen.compile(text_function(body, "%A: f64[m,k], %B: f64[k,n]"), single=True)
    for m, n, k in ((5, 6, 9), (30, 45, 70), (200, 211, 7)):
        a, b = np.ones((m, k)), np.ones((k, n))
        a[-1], b[:, -1] = np.inf, np.nan
        got = native(a, b)
        assert np.all(got[:-1, :-1] == k) and np.all(got[-1, :-1] == np.inf) and np.all(np.isnan(got[:, -1]))


@pytest.mark.usefixtures("shared")
@pytest.mark.skipif(not pool.available(), reason="no POSIX threads here")
@pytest.mark.parametrize(
    "sizes", [(20, 1010, 200), (300, 100, 130), (130, 260, 2500), (257, 250, 90), (260, 300, 430), (100, 110, 1000),
              (20, 8, 8266), (5, 12, 18532)],
)  # fmt: skip
def test_threads_share_rows_or_columns_and_keep_the_bits(sizes, rng):
    """The last columns of the first are so few that alone they would be added up along the sum; the last stretches of
    the last two are."""
    body = (
        '%0: f64[m,n] = contract(%A, %B) {spec = "ij,kj->ik"}\n%1: f64[m,n] = contract(%A, %C) {spec = "ij,jk->ik"}\n'
        '%2: f64[n,n] = contract(%C, %s, %C) {spec = "ij,i,ik->jk"}\nreturn %0, %1, %2'
    )
    function = text_function(body, "%A: f64[m,k], %B: f64[n,k], %C: f64[k,n], %s: f64[k]")
    m, n, k = sizes
    args = [rng.normal(size=shape) for shape in ((m, k), (n, k), (k, n), k)]
    expected = codegen.compile(function)(*args)
    for threads in (2, 3):
        native = codegen.compile(function, threads=threads)
        for _ in range(3):
            for one, other in zip(native(*args), expected, strict=True):
                np.testing.assert_array_equal(one, other)


ALONE = """
import os
import numpy as np
import symdiff as sd
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
A, B = sd.symbol("A", sd.dims("m k")), sd.symbol("B", sd.dims("k n"))
product, a = sd.compile(A @ B, [A, B], threads=4), np.ones((300, 300))
before = len(os.listdir("/proc/self/task"))
for _ in range(5):
    product(a, a)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads cannot be counted here")
def test_a_program_that_shares_products_alone_knows_the_processors():
    """Its own code never asks for the pool."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("machine", MACHINES)
def test_inner_loops_keep_to_registers(machine, dtype):
    triple, cpu, register_bytes, fma = MACHINES[machine]
    built = machine_of(triple, cpu)
    source = Module(register_bytes, fma, written=True)
    source.functions += [tiles.largest_text(source, dtype), tiles.text(source, dtype)]
    module = llvm.parse_assembly(source.text(), context=llvm.create_context())
    module.triple, module.data_layout = built.triple, str(built.target_data)
    engine._run_passes(module, built, 1)  # pyright: ignore[reportPrivateUsage]
    text = built.emit_assembly(module)
    for tile in tiles.tiles(Module(register_bytes, fma), dtype):
        own = text[text.index(f"\n{tile.symbol}:") :]
        own = own[: own.index(".Lfunc_end")]
        # Blocks that multiply and go back to their own label.
        blocks = re.split(r"^(\.LBB\d+_\d+):", own, flags=re.MULTILINE)
        loops = [b for name, b in zip(blocks[1::2], blocks[2::2], strict=True) if re.search(rf"\s{name}\s*$", b, re.M)]
        loops = [loop for loop in loops if re.search(r"vfmadd|fmla|mulp[sd]", loop)]
        assert len(loops) == 2, (tile, len(loops))  # several products at a time, and one
        assert not any(re.search(r"%rsp|%rbp|\[sp", loop) for loop in loops), tile
