"""Several threads give the bits of one: random programs, long sums, rows, failures; a pool in use, forks, exit."""

import ctypes
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from codegen_programs import Program, arguments

import codegen
import symdiff as sd
from codegen.jit import engine, pool
from codegen.kernels import main
from codegen.schedule.jobs import build
from symdiff.errors import ArgumentError, EvaluationError
from symdiff.ir.text import parse_function
from symdiff.ops import OPSET

pytestmark = [
    pytest.mark.skipif(not pool.available(), reason="no POSIX threads here"), pytest.mark.usefixtures("shared"),
]  # fmt: skip


@pytest.fixture
def eager(monkeypatch):
    """Loops of any length are shared."""
    monkeypatch.setattr(main, "SHARED_WORK", 0)


def same_bits(got, expected):
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(got, expected, strict=True))


def text_function(body, params):
    return parse_function(f"fn f({params}) {{\n{body}\n}}", OPSET)


@pytest.mark.parametrize("seed", range(300, 312))
def test_random_programs_have_the_same_bits_for_any_number_of_threads(seed, eager):
    rng = np.random.default_rng(seed)
    function = Program(rng).grow(9).function()
    alone, two, three = (codegen.compile(function, opt=1, threads=t) for t in (1, 2, 3))
    for n, m in ((3, 4), (70, 9), (130, 65), (0, 0)):
        given = arguments(function, rng, n, m)
        expected = alone(*given)
        same_bits(two(*given), expected)
        same_bits(three(*given), expected)


SUMS = text_function(
    '%0: f64[n] = exp(%x)\n%1: f64[] = contract(%0) {spec = "i->"}\n%2: f64[] = reduce_max(%0) {axes = [-1]}\n'
    '%3: f64[] = contract(%x, %x) {spec = "i,i->"}\nreturn %0, %1, %2, %3',
    "%x: f64[n]",
)


@pytest.mark.parametrize("length", [0, 1, 8191, 8192, 8193, 16385, 200_003])
def test_long_sums_are_folded_block_by_block(length, eager, rng):
    x = rng.normal(size=length)
    expected = codegen.compile(SUMS, opt=1)(x) if length else None
    for threads in (2, 4):
        native = codegen.compile(SUMS, opt=1, threads=threads)
        if not length:
            with pytest.raises(sd.SymdiffError):
                native(x)
            continue
        for _ in range(5):
            same_bits(native(x), expected)
        np.testing.assert_allclose(expected[1], np.sum(np.exp(x)), rtol=1e-14)


def test_what_is_shared_and_what_is_not():
    program, _ = build(SUMS, "f", 2)
    assert [k.work is not None for k in program.kernels] == [True, False]
    assert "in block i0b of 8192" in str(program) and "shared, work" in str(program)
    scatter = text_function(
        "%0: f64[m] = scatter_add(%x, %k) {axis = -1, sizes = [m]}\nreturn %0", "%x: f64[n], %k: i64[n], %y: f64[m]"
    )
    program, _ = build(scatter, "f", 2)
    adds = [k for k in program.kernels if "+=" in str(k.body)]
    assert all(k.work is None for k in adds)


def _added_rows(d):
    v, m = sd.dims("v m")
    table, rows = sd.symbol("T", (v, d)), sd.symbol("R", (m, d))
    number, other = sd.symbol("i", (m,), "i64"), sd.symbol("j", (m,), "i64")
    heard = sd.add_at(table, number, np.tanh(table[other] - rows))
    outputs = [heard, *sd.gradient(np.sum(np.tanh(heard) ** 2), [table, rows])]
    return outputs, [table, number, other, rows]


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("width", [8, 33])
def test_rows_added_up_by_number_have_the_same_bits(size, static, width, eager, rng):
    outputs, inputs = _added_rows(width if static else sd.dim("d"))
    alone = sd.compile(outputs, inputs)
    table, rows = rng.normal(size=(size, width)), rng.normal(size=(9000, width))
    often, any_row = rng.integers(-size, min(size, 3), 9000), rng.integers(-size, size, 9000)
    for threads in (2, 5):
        several = sd.compile(outputs, inputs, threads=threads)
        for number, other in ((any_row, often), (often, any_row), (np.sort(any_row), any_row)):
            expected = alone(table, number, other, rows)
            for _ in range(3):
                same_bits(several(table, number, other, rows), expected)
    right = table.copy()
    np.add.at(right, any_row, np.tanh(table[often] - rows))
    np.testing.assert_allclose(alone(table, any_row, often, rows)[0], right, rtol=1e-12, atol=1e-12)


def test_rows_added_up_by_number_are_shared_where_they_are_long():
    for width, shared in ((64, True), (4, False), (sd.dim("d"), True)):
        outputs, inputs = _added_rows(width)
        text = str(sd.compile(outputs[:1], inputs, threads=2).loops)
        assert ("among" in text) is shared
    program = str(sd.compile(*_added_rows(sd.dim("d"))).loops)
    assert "among" not in program


def test_rows_with_numbers_of_two_axes_have_the_same_bits(eager, rng):
    table, rows = sd.symbol("T", (sd.dim("v"), sd.dim("d"))), sd.symbol("R", (sd.dim("a"), sd.dim("b"), sd.dim("d")))
    number = sd.symbol("i", (sd.dim("a"), sd.dim("b")), "i64")
    outputs, inputs = [sd.add_at(table, number, np.exp(rows))], [table, number, rows]
    given = rng.normal(size=(50, 20)), rng.integers(0, 50, (300, 40)), rng.normal(size=(300, 40, 20))
    same_bits(sd.compile(outputs, inputs, threads=2)(*given), sd.compile(outputs, inputs)(*given))


def test_rows_share_no_buffer(eager, rng):
    n, m = sd.dims("n m")
    A, y = sd.symbol("A", (n, m)), sd.symbol("y", (n, m))
    f = -np.sum(y * (A - sd.logsumexp(A, axis=1, keepdims=True)))
    outputs = [f, sd.gradient(f, A)]
    alone, several = sd.compile(outputs, [A, y]), sd.compile(outputs, [A, y], threads=3)
    a, b = rng.normal(size=(2, 400, 37))
    expected = alone(a, b)
    for _ in range(20):
        same_bits(several(a, b), expected)


def test_failures_come_back_from_any_thread(eager, rng):
    gather = text_function(
        "%0: f64[m] = gather(%x, %k) {axis = -1}\n%1: f64[m] = exp(%0)\nreturn %1", "%x: f64[n], %k: i64[m]"
    )
    native = codegen.compile(gather, opt=1, threads=2, single=True)
    k = rng.integers(0, 10, 50_000)
    np.testing.assert_allclose(native(np.arange(10.0), k), np.exp(k), rtol=1e-15)
    k[49_999] = 10
    with pytest.raises(EvaluationError):
        native(np.arange(10.0), k)


def test_several_callers_at_once(eager, rng):
    native = codegen.compile(SUMS, opt=1, threads=2)
    arrays = [rng.normal(size=40_000 + i) for i in range(6)]
    expected = [native(x) for x in arrays]
    with ThreadPoolExecutor(6) as callers:
        for _ in range(10):
            for got, right in zip(callers.map(native, arrays), expected, strict=True):
                same_bits(got, right)


def test_transforms_take_threads(eager, rng):
    x = rng.normal(size=30_000)

    def f(x):
        return np.sum(np.sin(x) * x)

    for transform in (sd.jit, sd.grad, sd.value_and_grad):
        expected, got = transform(f)(x), transform(f, threads=2)(x)
        same_bits([np.asarray(e) for e in np.atleast_1d(expected)] if transform is not sd.value_and_grad else expected,
                  [np.asarray(e) for e in np.atleast_1d(got)] if transform is not sd.value_and_grad else got)
    np.testing.assert_array_equal(sd.vmap(lambda v: v * v, threads=2)(x), x * x)


X = sd.symbol("x", (3,))
THREADED = {
    "compile": lambda threads: sd.compile(X * X, [X], threads=threads),
    "jit": lambda threads: sd.jit(np.sin, threads=threads),
    "grad": lambda threads: sd.grad(np.sum, threads=threads),
    "value_and_grad": lambda threads: sd.value_and_grad(np.sum, threads=threads),
    "jacrev": lambda threads: sd.jacrev(np.sin, threads=threads),
    "jacfwd": lambda threads: sd.jacfwd(np.sin, threads=threads),
    "vmap": lambda threads: sd.vmap(np.sin, threads=threads),
    "sparse_jacobian": lambda threads: sd.sparse_jacobian(np.sin, threads=threads),
    "sparse_hessian": lambda threads: sd.sparse_hessian(np.sum(X * X), X, threads=threads),
    "jacobian": lambda threads: sd.jacobian(np.sin, threads=threads),
    "hessian": lambda threads: sd.hessian(np.sum, threads=threads),
}


@pytest.mark.parametrize("name", THREADED)
def test_threads_are_counted(name):
    for threads in (0, -2, 1.5, 2.0, "2", None, True, np.float64(2), [2]):
        message = re.escape(f"{name}: threads: given {threads!r}, expected a whole number, at least 1")
        with pytest.raises(ArgumentError, match=f"^{message}$"):
            THREADED[name](threads)
    assert callable(THREADED[name](np.int64(2)))


def test_threads_belong_to_what_is_compiled():
    for derivative in (sd.jacobian, sd.hessian):
        with pytest.raises(ArgumentError, match=f"^{derivative.__name__}: threads=2 is for Python functions; of an"):
            derivative(np.sum(X * X), X, threads=2)
        with pytest.raises(ArgumentError, match=f"^{derivative.__name__}: threads: given '2', expected a whole number"):
            derivative(np.sum(X * X), X, threads="2")


def test_any_number_of_threads_may_be_allowed():
    """The code holds the number; memory of threads and the workers that start are limited."""
    x = np.linspace(-1, 1, 3)
    np.testing.assert_array_equal(sd.compile(X * X, [X], threads=10**30)(x), x * x)


SCRIPT = """
import os, sys
import numpy as np
import symdiff as sd
from codegen.kernels import main
from codegen.jit import pool
main.SHARED_WORK = 0
pool.share_always(True)
f = sd.jit(lambda x: np.sum(np.exp(x)), threads=2)
x = np.linspace(0, 1, 100_000)
right = f(x)
child = os.fork()
if child == 0:
    pool.share_always(True)
    os._exit(0 if all(f(x) == right for _ in range(20)) else 1)
_, status = os.waitpid(child, 0)
assert status == 0 and f(x) == right
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_has_a_pool_of_its_own_and_exit_is_clean():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


FEW = """
import ctypes, os
from codegen.jit import engine, pool
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
library = engine.compile_text('''%s''', ["work"], opt=0)
parallel = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)(pool.address())
def others():
    calls = (ctypes.c_int64 * 3)()
    for _ in range(5):
        parallel(library.address("work"), ctypes.addressof(calls), None, 8, 2, 8)
    assert calls[2] == 40
    return calls[1]
child = os.fork()
if child == 0:
    os._exit(others())
assert others() == os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be taken away here")
def test_no_more_threads_than_processors_also_in_a_child():
    script = FEW % SLEEPY
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


ENDING = """
import gc, time
import numpy as np
import symdiff as sd
from codegen.kernels import main
from codegen.jit import pool
main.SHARED_WORK = 0
pool._YIELDS = 10**9  # workers look for work without end, as they do for long where processors are busy
pool.share_always(True)
f = sd.jit(lambda x: np.sum(np.exp(x)), threads=2)
f(np.linspace(0, 1, 100_000))
del pool.library  # what the end of the interpreter does to it
del f
gc.collect()
time.sleep(0.05)
print("alive")
"""


def test_the_code_of_workers_outlives_the_interpreter():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ENDING], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


@pytest.mark.parametrize("shape", [(300, 170, 90), (64, 500, 128), (9, 7, 70_001), (1, 5, 40_000), (0, 4, 40_000)])
def test_matrix_products_have_the_same_bits(shape, rng):
    m, n, k = shape
    A, B = sd.symbol("A", sd.dims("m k")), sd.symbol("B", sd.dims("k n"))
    a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    alone, two, three = (sd.compile(A @ B, [A, B], threads=t) for t in (1, 2, 3))
    expected = alone(a, b)
    np.testing.assert_allclose(expected, a @ b, rtol=1e-11, atol=1e-11 * np.sqrt(k))
    for native in (two, three):
        for _ in range(3):
            same_bits([native(a, b)], [expected])


@pytest.mark.parametrize("shape", [(1300, 2500, 40), (400, 390, 300), (260, 300, 4200), (110, 70, 1500)])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("how", ["plain", "scaled", "turned", "added"])
def test_products_with_what_all_blocks_of_rows_read_have_the_same_bits(shape, dtype, how, rng):
    """Columns in several stripes, sums in several stretches, scales, columns that are dense, several terms."""
    m, n, k = shape
    A, B = sd.symbol("A", sd.dims("m k"), dtype=dtype), sd.symbol("B", sd.dims("k n"), dtype=dtype)
    s = sd.symbol("s", (sd.dim("k"),), dtype=dtype)
    kind = np.float64 if dtype == "f64" else np.float32
    a, b = rng.normal(size=(m, k)).astype(kind), rng.normal(size=(k, n)).astype(kind)
    weights = rng.uniform(size=k).astype(kind)
    outputs = A @ (s[:, None] * B) if how == "scaled" else A @ B
    if how == "added":
        outputs = outputs + np.tanh(outputs)
    if how == "turned":
        b = np.asfortranarray(b)
    alone, two = (sd.compile(outputs, [A, B, s], threads=t) for t in (1, 2))
    expected = alone(a, b, weights)
    right = a @ (weights[:, None] * b) if how == "scaled" else a @ b
    right = right + np.tanh(right) if how == "added" else right
    close = 1e-3 if dtype == "f32" else 1e-9
    np.testing.assert_allclose(expected, right, rtol=close, atol=close)
    for _ in range(2):
        same_bits([two(a, b, weights)], [expected])


@pytest.mark.parametrize("shape", [(700, 260), (50_000, 30), (2500, 347), (90, 2400), (1900, 101), (5000, 100)])
def test_symmetric_products_have_the_same_bits(shape, rng):
    X, s = sd.symbol("X", sd.dims("n d")), sd.symbol("s", (sd.dim("n"),))
    x, weights = rng.normal(size=shape), rng.uniform(size=shape[0])
    outputs = X.T @ (s[:, None] * X)
    alone, two = (sd.compile(outputs, [X, s], threads=t) for t in (1, 2))
    expected = alone(x, weights)
    np.testing.assert_allclose(expected, x.T @ (weights[:, None] * x), rtol=1e-10, atol=1e-9)
    np.testing.assert_array_equal(expected, expected.T)
    same_bits([two(x, weights)], [expected])


SLEEPY = """
define i32 @work(ptr %calls, ptr %none, i64 %from, i64 %to, i64 %thread) {
  %own = icmp eq i64 %thread, 0
  %place = select i1 %own, i64 0, i64 1
  %at = getelementptr i64, ptr %calls, i64 %place
  %before = atomicrmw add ptr %at, i64 1 monotonic
  %done.at = getelementptr i64, ptr %calls, i64 2
  %done = sub i64 %to, %from
  %total = atomicrmw add ptr %done.at, i64 %done monotonic
  %all = trunc i64 %done to i32
  %steps = mul i32 %all, 2000
  %long = select i1 %own, i32 %steps, i32 400000
  call i32 @usleep(i32 %long)
  ret i32 0
}
declare i32 @usleep(i32)
"""
PARALLEL = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 3


def test_a_caller_works_alone_for_a_while_where_sharing_costs_time():
    """A worker that sleeps in the middle of its piece stands for one whose processor is taken by others."""
    pool.share_always(False)
    library = engine.compile_text(SLEEPY, ["work"], opt=0)
    parallel = ctypes.CFUNCTYPE(ctypes.c_int32, *PARALLEL)(pool.library().address(pool.SYMBOL))
    calls = (ctypes.c_int64 * 3)()

    def run():
        ctypes.memset(calls, 0, ctypes.sizeof(calls))
        assert parallel(library.address("work"), ctypes.addressof(calls), None, 40, 2, 40) == 0
        assert calls[2] == 40  # every iteration once, whoever did it
        return calls[0], calls[1]

    deadline = time.monotonic() + 60
    while not run()[1]:  # on a busy machine, or with one processor, a worker may come too late to be of any harm
        if time.monotonic() > deadline:
            pytest.skip("no worker found anything left to do for a minute")
    assert run() == run() == (1, 0)


def test_what_working_alone_takes_is_tried_first():
    pool.share_always(False)
    library = engine.compile_text(SLEEPY, ["work"], opt=0)
    parallel = ctypes.CFUNCTYPE(ctypes.c_int32, *PARALLEL)(pool.library().address(pool.SYMBOL))
    calls = (ctypes.c_int64 * 3)()
    for _ in range(2):
        parallel(library.address("work"), ctypes.addressof(calls), None, 3, 2, 3)
    assert list(calls) == [2, 0, 6]
    pool.address()  # another program, whose code might lie where this one's was
    for _ in range(2):
        parallel(library.address("work"), ctypes.addressof(calls), None, 3, 2, 3)
    assert list(calls) == [4, 0, 12]


COUNTED = """
define i32 @work{0}(ptr %calls, ptr %none, i64 %from, i64 %to, i64 %thread) {{
  %at = getelementptr i64, ptr %calls, i64 {0}
  %before = atomicrmw add ptr %at, i64 1 monotonic
  ret i32 0
}}
"""


def test_every_loop_has_an_account_of_its_own():
    """Where two lost theirs to each other in turn, both were tried alone for ever."""
    pool.share_always(False)
    names = [f"work{i}" for i in range(20)]
    library = engine.compile_text("".join(map(COUNTED.format, range(20))), names, opt=0)
    parallel = ctypes.CFUNCTYPE(ctypes.c_int32, *PARALLEL)(pool.address())
    for turn in range(3):
        for magnitude in range(10):
            calls = (ctypes.c_int64 * 20)()
            for name in names:
                parallel(library.address(name), ctypes.addressof(calls), None, 8, 2, 1 << magnitude)
            assert set(calls) == {1} if turn < 2 else min(calls) > 1
