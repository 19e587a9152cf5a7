"""Sums of windows in native code: one pass over what all windows share, edges apart, right for arrays of any length."""

import numpy as np
import pytest
from codegen_programs import agree, text_function

import codegen
import symdiff as sd
from codegen import compiled
from codegen.kernels import main

CURVE = text_function(
    '%0: f64[n-1] = slice(%x) {sizes = [n-1], starts = [0], steps = [1]}\n'
    '%1: f64[n-1] = slice(%x) {sizes = [n-1], starts = [1], steps = [1]}\n%2: f64[n-1] = exp(%0)\n'
    '%3: f64[n-1] = mul(%1, %2)\n%4: f64[n-1] = sin(%3)\n'
    '%5: f64[n] = embed(%3) {sizes = [n], starts = [0], steps = [1]}\n'
    '%6: f64[n] = embed(%4) {sizes = [n], starts = [1], steps = [1]}\n%7: f64[n] = sub(%5, %6)\n'
    '%8: f64[n+3] = embed(%x) {sizes = [n+3], starts = [2], steps = [1]}\n'
    '%9: f64[] = contract(%4) {spec = "i->"}\nreturn %7, %8, %9',
    "%x: f64[n]",
)
SLOPES = text_function(
    '%0: f64[n-1] = slice(%x) {sizes = [n-1], starts = [0], steps = [1]}\n%1: f64[n-1] = mul(%0, %0)\n'
    '%2: f64[n] = embed(%0) {sizes = [n], starts = [0], steps = [1]}\n'
    '%3: f64[n] = embed(%1) {sizes = [n], starts = [1], steps = [1]}\n%4: f64[n] = add(%2, %3)\nreturn %4',
    "%x: f64[n]",
)
CHAIN = text_function(  # value and gradient of a sum over neighbours, and two bands of its Hessian
    '%0: f64[n-1] = slice(%x) {sizes = [n-1], starts = [0], steps = [1]}\n'
    '%1: f64[n-1] = slice(%x) {sizes = [n-1], starts = [1], steps = [1]}\n%2: f64[n-1] = mul(%0, %0)\n'
    '%3: f64[n-1] = sub(%1, %2)\n%4: f64[n-1] = mul(%3, %3)\n%5: f64[] = contract(%4) {spec = "i->"}\n'
    "%6: f64[n-1] = mul(%3, %0)\n"
    '%7: f64[n] = embed(%6) {sizes = [n], starts = [0], steps = [1]}\n'
    '%8: f64[n] = embed(%3) {sizes = [n], starts = [1], steps = [1]}\n%9: f64[n] = sub(%8, %7)\n'
    "%10: f64[n-1] = add(%2, %1)\nreturn %5, %9, %10",
    "%x: f64[n]",
)
STENCIL = text_function(
    '%0: f64[m-2,n] = slice(%A) {sizes = [m-2,n], starts = [0,0], steps = [1,1]}\n'
    '%1: f64[m-2,n] = slice(%A) {sizes = [m-2,n], starts = [1,0], steps = [1,1]}\n'
    '%2: f64[m-2,n] = slice(%A) {sizes = [m-2,n], starts = [2,0], steps = [1,1]}\n%3: f64[m-2,n] = mul(%0, %2)\n'
    '%4: f64[m-2,n] = mul(%1, %2)\n%5: f64[m-2,n] = tanh(%3)\n'
    '%6: f64[m,n] = embed(%3) {sizes = [m,n], starts = [0,0], steps = [1,1]}\n'
    '%7: f64[m,n] = embed(%4) {sizes = [m,n], starts = [1,0], steps = [1,1]}\n'
    '%8: f64[m,n] = embed(%5) {sizes = [m,n], starts = [2,0], steps = [1,1]}\n%9: f64[m,n] = add(%6, %7)\n'
    "%10: f64[m,n] = add(%9, %8)\nreturn %10",
    "%A: f64[m,n]",
)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9, 33, 1000])
def test_windows_of_arrays_of_any_length(length, rng):
    agree(CURVE, codegen.compile(CURVE, opt=1), [rng.normal(size=length)])


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("threads", [1, 3])
def test_loops_that_end_a_few_elements_apart_run_as_one(threads, rng, monkeypatch):
    monkeypatch.setattr(main, "SHARED_WORK", 0)
    native = codegen.compile(CHAIN, opt=1, threads=threads)
    assert codegen.inspect(native).loops.count("if i0 < n - 2") == 1
    for length in (1, 2, 3, 4, 5, 8, 31, 32, 33, 34, 35, 66, 1000, 8192, 8193, 8194, 8195, 20_000):
        x = rng.normal(size=length)
        agree(CHAIN, native, [x])
        wide = np.zeros(2 * length)
        wide[::2] = x
        for one, other in zip(native(wide[::2]), codegen.compile(CHAIN)(x), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(2, 3), (3, 1), (4, 0), (5, 7), (40, 33)])
def test_windows_of_rows(shape, rng):
    agree(STENCIL, codegen.compile(STENCIL, opt=1), [rng.normal(size=shape)])


def test_a_sum_of_windows_is_one_pass(golden):
    golden("loops_windows", codegen.inspect(codegen.compile(SLOPES)).loops)


def test_a_result_of_another_shape_is_written_where_it_lies(rng):
    body = (
        '%0: f64[n,k,n,k] = contract(%M, %V, %V) {spec = "ij,jk,jl->ikil"}\n'
        "%1: f64[k*n,k*n] = reshape(%0) {rank = 4, shape = [k*n, k*n]}\nreturn %1, %0"
    )
    function = text_function(body, "%M: f64[n,m], %V: f64[m,k]")
    args = rng.normal(size=(6, 5)), rng.normal(size=(5, 3))
    agree(function, codegen.compile(function), args)
    single = text_function(body.removesuffix(", %0"), "%M: f64[n,m], %V: f64[m,k]")
    native = codegen.compile(single)
    agree(single, native, args)
    assert "f64(n, k, n, k)" not in codegen.inspect(native).loops


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("rank", [1, 2])
def test_sums_of_overlapping_windows_have_the_same_bits_at_every_width(rank, reverse, rng, monkeypatch):
    """What is added to an element comes in one order, though vectors of several windows overlap."""
    x = sd.symbol("x", sd.dims("m n")[-rank:])
    y = x[(slice(None, None, -1),) * rank] if reverse else x
    if rank == 1:
        energy = np.sum(y[2:] * y[:-2] * y[1:-1]) + np.sum((x[1:] - x[:-1] ** 2) ** 2)
    else:
        energy = np.sum(y[1:-1, 1:-1] * y[1:-1, 2:] * y[1:-1, :-2] * y[2:, 2:] * y[:-2, :-2])
    natives = []
    for register_bytes in (16, 32, 64):
        monkeypatch.setattr(compiled, "_machine", lambda wide=register_bytes: (wide, True))
        natives.append(sd.compile([sd.gradient(energy, x)], [x]))
    for length in (7, 9, 17, 33, 66, 131):
        args = [rng.normal(size=(7, length)[-rank:])]
        first, *others = [native(*args)[0].tobytes() for native in natives]
        assert all(other == first for other in others), length
        agree(codegen.inspect(natives[0]).function, natives[0], args)
