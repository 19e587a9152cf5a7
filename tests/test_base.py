"""What programs share: copies of strided arrays, blocks of memory; and code that is exchanged for better one."""

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from crowd import together

import symdiff as sd
from codegen.jit import engine
from codegen.llvm import base, copies, memory
from codegen.llvm.text import Module


@pytest.fixture(params=[0, 1, 2], ids=["no passes", "light", "full"])
def copy(request):
    """The routine, with each tier of passes."""
    module = Module(16, False)
    library = engine.compile_text(copies.text(module) + module.text(), [copies.SYMBOL], opt=request.param)
    call = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)(library.address(copies.SYMBOL))

    def run(theirs, ours, out):
        words = (theirs.ndim, theirs.itemsize, int(out), *theirs.shape, *theirs.strides)
        shape = (ctypes.c_int64 * len(words))(*words)
        assert call(theirs.ctypes.data, ours.ctypes.data, ctypes.addressof(shape)) == 0
        assert library.symbols

    return run


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.bool_])
def test_copies(copy, dtype, rng):
    for shape in ((7,), (3, 5), (4, 1, 6), (2, 3, 0), (2, 3, 4, 5)):
        whole = (10 * rng.normal(size=tuple(2 * s + 1 for s in shape))).astype(dtype)
        view = whole[tuple(slice(1, 2 * s + 1, 2) for s in shape)]
        for theirs in (view, view.T, view[::-1], np.broadcast_to(view[:1], view.shape)):
            dense = np.zeros(theirs.shape, dtype)
            copy(theirs, dense, out=False)
            np.testing.assert_array_equal(dense, theirs)
        before, dense = whole.copy(), np.ascontiguousarray(~view if dtype is np.bool_ else view + 1)
        copy(view, dense, out=True)
        np.testing.assert_array_equal(view, dense)
        view[...] = before[tuple(slice(1, 2 * s + 1, 2) for s in shape)]
        np.testing.assert_array_equal(whole, before)


def block_functions():
    found = base.addresses()
    acquire = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(found[memory.ACQUIRE])
    release = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(found[memory.RELEASE])
    cell = memory.Cell()
    return (lambda n: acquire(cell.address, n)), (lambda b: release(cell.address, b)), cell


def test_blocks_are_kept_and_found_again():
    acquire, release, cell = block_functions()
    large, small = acquire(100_000), acquire(1000)
    assert large % 64 == small % 64 == 0
    release(small)
    release(large)
    assert {acquire(90_000), acquire(500)} == {large, small}  # in whatever order they came back
    release(large)
    release(small)
    assert sorted(filter(None, cell.places())) == sorted([large, small])
    other = acquire(200_000)  # one that is too small makes room
    release(other)
    assert len(list(filter(None, cell.places()))) == 2 and other in cell.places()
    blocks = [acquire(64) for _ in range(memory.PLACES + 3)]
    assert len(set(blocks)) == len(blocks)
    for block in blocks:
        release(block)
    assert all(cell.places())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked for huge pages")
def test_huge_pages_are_asked_for_the_whole_pages_of_a_block_alone():
    """The rest of the last page may belong to others."""
    asked = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    def madvise(start, length, _):
        asked.append((start, length))
        return 0

    module = Module(16, False)
    text = memory.text(module) + module.text()
    imports = {"madvise": ctypes.cast(madvise, ctypes.c_void_p).value or 0}
    library = engine.compile_text(text, [memory.ACQUIRE], opt=0, imports=imports)
    acquire = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(library.address(memory.ACQUIRE))
    cell = memory.Cell()
    for size in ((1 << 22) + 1000, (1 << 22) + 3000):
        block = acquire(cell.address, size)
        raw = ctypes.c_size_t.from_address(block + 8).value
        start, length = asked.pop()
        assert start % 4096 == 0 and length % 4096 == 0 and raw <= start < raw + 4096
        assert raw + size + 128 - 4096 < start + length <= raw + size + 128



def test_blocks_of_several_threads_are_distinct():
    acquire, release, _ = block_functions()
    wrong = []

    def work(mark):
        for n in range(2000):
            block = acquire(256 + 64 * (n % 5))
            words = (ctypes.c_int64 * 16).from_address(block + 64)
            words[:] = [mark] * 16
            if list(words) != [mark] * 16:
                wrong.append(mark)
            release(block)

    together(work, [(mark,) for mark in range(4)])
    assert not wrong


def test_a_thread_finds_its_own_block_again():
    acquire, release, cell = block_functions()
    threads = 6
    first, found, step = {}, {}, threading.Barrier(threads)

    def work(mark):
        mine = acquire(1000)
        for turn in range(threads):  # where it puts a block when all places are empty
            if step.wait() >= 0 and turn == mark:
                release(mine)
                first[cell.places().index(mine)] = mark  # stacks may share a place: the last one has it
                assert acquire(1000) == mine
        step.wait()
        leads = sorted(first.values())
        for turn in leads:  # all are released in turn, and then taken in another order
            if step.wait() >= 0 and turn == mark:
                release(mine)
        for turn in leads[::-1]:
            if step.wait() >= 0 and turn == mark:
                found[mark] = acquire(1000) == mine
        step.wait()

    together(work, [(mark,) for mark in range(threads)])
    assert len(found) == len(first) > 1 and all(found.values())


EARLY = """
import numpy as np
import symdiff as sd
from codegen.entry import native as entry
from codegen import inspect

x, y = sd.symbol("x"), sd.symbol("y", (sd.dim("n"),))
scalar = sd.compile([x * x, sd.gradient(x * x, x)], [x])
array = sd.compile(2 * y, [y])
given = np.arange(12.0)[::3]
bound = array.bind(given)
for late in (False, True):
    if late:
        assert entry.settle(120)
    assert scalar(3.0) == (9.0, 6.0) and scalar.is_fast
    out = np.empty(4)
    assert array(given, out=out) is out and np.array_equal(out, 2 * given) and np.array_equal(bound(), out)
    try:
        array(np.zeros((2, 2)))
    except ValueError as error:
        assert "shape" in str(error)
    else:
        raise AssertionError("a matrix was taken for a vector")
fast = entry._fast_entry()
assert len(fast._libraries) == {libraries}, len(fast._libraries)
print("done")
"""


def test_the_entry_is_exchanged_under_its_functions(tmp_path):
    """The first process starts with code without passes, the next finds the better one on the disk."""
    for libraries in (2, 1):
        run = subprocess.run(
            [sys.executable, "-c", EARLY.replace("{libraries}", str(libraries))], capture_output=True, text=True,
            env={**os.environ, "SYMDIFF_CACHE_DIR": str(tmp_path)}, timeout=300,
        )  # fmt: skip
        assert run.stdout == "done\n", run.stderr


def test_strided_arguments_and_results(rng):
    n, m = sd.dims("n m")
    A, k = sd.symbol("A", (n, m)), sd.symbol("k", (n, m), dtype="f32")
    fn = sd.compile([np.sin(A), k + 1], [A, k])
    a, b = rng.normal(size=(9, 14)), rng.normal(size=(9, 14)).astype(np.float32)
    for view in (lambda x: x, lambda x: x.T, lambda x: x[::2, ::-3], lambda x: x[:1], lambda x: x[:, :0]):
        outs = (np.zeros((40, 40))[::2, ::2][: len(view(a)), : view(a).shape[1]], np.zeros((30, 30), np.float32).T)
        outs = (outs[0], outs[1][: len(view(b)), : view(b).shape[1]])
        fn(view(a), view(b), out=outs)
        np.testing.assert_allclose(outs[0], np.sin(view(a)), rtol=1e-15, atol=1e-16)
        np.testing.assert_array_equal(outs[1], view(b) + 1)
