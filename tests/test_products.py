"""Native matrix products: factors inside the sum, symmetric results, stacks."""

import numpy as np
import pytest
from codegen_programs import agree, text_function

import codegen


@pytest.mark.parametrize("sizes", [(0, 3), (1, 1), (5, 2), (200, 13), (300, 50), (70, 130), (20, 260)])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_weighted_gram_matrices_are_symmetric_to_the_bit(sizes, dtype, rng):
    n, d = sizes
    body = (
        f'%0: {dtype}[d,d] = contract(%X, %s, %t, %X) {{spec = "ij,i,i,ik->jk"}}\n'
        f'%1: {dtype}[d,d] = contract(%X, %X) {{spec = "ij,ik->jk"}}\n'
        f'%2: {dtype}[n,n] = contract(%X, %X) {{spec = "ij,kj->ik"}}\n'
        f'%3: {dtype}[n] = exp(%s)\n%4: {dtype}[d,d] = contract(%X, %3, %X) {{spec = "ij,i,ik->jk"}}\n'
        f'%5: {dtype}[d,e] = contract(%X, %3, %Y) {{spec = "ij,i,ik->jk"}}\nreturn %0, %1, %2, %4, %5'
    )
    params = f"%X: {dtype}[n,d], %s: {dtype}[n], %t: {dtype}[n], %Y: {dtype}[n,e]"
    function = text_function(body, params)
    native = codegen.compile(function)
    kind = np.float64 if dtype == "f64" else np.float32
    args = [rng.normal(size=s).astype(kind) for s in ((n, d), n, n, (n, 3))]
    agree(function, native, args, 1e-12 if dtype == "f64" else 1e-5)
    for square in native(*args)[:4]:
        np.testing.assert_array_equal(square, square.T)


def test_a_weighted_gram_matrix_reads_its_operand_where_it_lies():
    body = '%0: f64[d,d] = contract(%X, %s, %X) {spec = "ij,i,ik->jk"}\nreturn %0'
    program = codegen.inspect(codegen.compile(text_function(body, "%X: f64[n,d], %s: f64[n]"))).loops
    assert program.count("call gemm") == 1 and "temp" not in program, program


@pytest.mark.parametrize("stack", [1, 3])
def test_factors_of_batched_products(stack, rng):
    body = (
        '%0: f64[b,d,e] = contract(%A, %s, %B) {spec = "bij,bi,bik->bjk"}\n'
        '%1: f64[b,d,e] = contract(%A, %t, %B) {spec = "bij,i,bik->bjk"}\n'
        '%2: f64[b,n,n] = contract(%A, %s, %A) {spec = "bij,bi,bkj->bik"}\nreturn %0, %1, %2'
    )
    function = text_function(body, "%A: f64[b,n,d], %B: f64[b,n,e], %s: f64[b,n], %t: f64[n]")
    shapes = ((stack, 40, 30), (stack, 40, 7), (stack, 40), (40,))
    agree(function, codegen.compile(function), [rng.normal(size=s) for s in shapes])


@pytest.mark.parametrize("register_bytes", [16, 64])
def test_packed_products_have_the_same_bits_at_every_width(register_bytes, rng, monkeypatch):
    body = (
        '%0: f64[m,n] = contract(%A, %B) {spec = "ij,jk->ik"}\n%1: f64[k,k] = contract(%A, %A) {spec = "ij,ik->jk"}\n'
        "return %0, %1"
    )
    function = text_function(body, "%A: f64[m,k], %B: f64[k,n]")
    args = rng.normal(size=(130, 210)), rng.normal(size=(210, 115))
    expected = codegen.compile(function)(*args)
    monkeypatch.setattr("codegen.compiled._machine", lambda: (register_bytes, True))
    for one, other in zip(codegen.compile(function)(*args), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("register_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_products_of_rows_with_rows_have_the_same_bits_at_every_width(register_bytes, dtype, rng, monkeypatch):
    function = text_function(
        f'%0: {dtype}[m,n] = contract(%a, %s, %b) {{spec = "il,l,jl->ij"}}\n'
        f'%1: {dtype}[m,n] = contract(%a, %b) {{spec = "il,jl->ij"}}\nreturn %0, %1',
        f"%a: {dtype}[m,l], %s: {dtype}[l], %b: {dtype}[n,l]",
    )
    number = {"f64": np.float64, "f32": np.float32}[dtype]
    usual = codegen.compile(function)
    monkeypatch.setattr("codegen.compiled._machine", lambda: (register_bytes, True))
    native = codegen.compile(function)
    few = ((0, 3, 20), (1, 1, 16), (2, 2, 33), (3, 4, 64), (5, 12, 47), (4, 7, 15))
    for m, n, l in (*few, (10, 10, 250), (3, 9, 256), (10, 10, 300)):
        a, b, s = (rng.normal(size=shape).astype(number) for shape in ((m, l), (n, l), (l,)))
        for one, other in zip(native(a, s, b), usual(a, s, b), strict=True):
            np.testing.assert_array_equal(one, other)
        exact = np.einsum("il,l,jl->ij", *(x.astype(float) for x in (a, s, b)))
        bound = np.einsum("il,l,jl->ij", *(np.abs(x.astype(float)) for x in (a, s, b)))
        assert np.all(np.abs(native(a, s, b)[0] - exact) <= 4 * np.finfo(number).eps * bound)
