"""Native matrix products: factors inside the sum, symmetric results, stacks."""

import threading

import numpy as np
import pytest
from codegen_programs import agree, text_function

import codegen
import symdiff as sd
from codegen.errors import CompilationError
from codegen.jit import tiers
from codegen.llvm import base
from codegen.products import shared as products


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
    few = ((0, 3, 20), (1, 1, 16), (2, 2, 33), (3, 4, 64), (5, 12, 47), (4, 7, 15), (5, 6, 18), (6, 9, 16), (7, 11, 40))
    for m, n, l in (*few, (10, 10, 250), (3, 9, 256), (10, 10, 300)):
        a, b, s = (rng.normal(size=shape).astype(number) for shape in ((m, l), (n, l), (l,)))
        for one, other in zip(native(a, s, b), usual(a, s, b), strict=True):
            np.testing.assert_array_equal(one, other)
        exact = np.einsum("il,l,jl->ij", *(x.astype(float) for x in (a, s, b)))
        bound = np.einsum("il,l,jl->ij", *(np.abs(x.astype(float)) for x in (a, s, b)))
        assert np.all(np.abs(native(a, s, b)[0] - exact) <= 4 * np.finfo(number).eps * bound)


# -------------------------------------------------------------------- tiers
@pytest.fixture
def anew(monkeypatch, tmp_path):
    """No code of products is there, neither in the process nor on the disk, and better code is not made by itself.

    What other tests left to be made, and the code that all programs share, is made first: it would wait as long.
    """
    base.addresses()
    assert tiers.idle(60)
    monkeypatch.setenv("SYMDIFF_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiers, "PAUSE", 1000.0)
    monkeypatch.setattr(products, "_WAIT", 1000.0)
    forget(monkeypatch)


def forget(monkeypatch):
    for cached in (products._kernels, products._dots, products._steering):
        monkeypatch.setattr(cached, "made", {})


def upgrades():
    shared = [made for made, _ in products._kernels.made.values()]
    return [one.upgrade for one in (*shared, *products._dots.made.values())]


def every_kind(dtype):
    """Columns, rows with rows, rows with a scale, and a symmetric one."""
    body = (
        f'%0: {dtype}[m,n] = contract(%A, %B) {{spec = "ij,jk->ik"}}\n'
        f'%1: {dtype}[m,m] = contract(%A, %C) {{spec = "ij,kj->ik"}}\n'
        f'%2: {dtype}[m,m] = contract(%A, %s, %C) {{spec = "ij,j,kj->ik"}}\n'
        f'%3: {dtype}[k,k] = contract(%A, %A) {{spec = "ij,ik->jk"}}\nreturn %0, %1, %2, %3'
    )
    params = f"%A: {dtype}[m,k], %B: {dtype}[k,n], %C: {dtype}[m,k], %s: {dtype}[k]"
    return codegen.compile(text_function(body, params))


def problems(dtype, rng):
    kind = {"f64": np.float64, "f32": np.float32}[dtype]
    sizes = [(1, 1, 1), (3, 2, 20), (5, 6, 40), (9, 13, 70), (12, 33, 200), (70, 5, 30), (40, 100, 193), (130, 260, 30)]
    return [[rng.normal(size=s).astype(kind) for s in ((m, k), (k, n), (m, k), k)] for m, n, k in sizes]


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_better_code_of_products_comes_later_with_the_same_bits(dtype, anew, rng, monkeypatch):
    given, native = problems(dtype, rng), every_kind(dtype)
    first = [[r.tobytes() for r in native(*args)] for args in given]
    for (a, b, c, s), results in zip(given, [native(*args) for args in given], strict=True):
        for got, expected in zip(results, (a @ b, a @ c.T, (a * s) @ c.T, a.T @ a), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 if dtype == "f32" else 1e-9)
    assert len(upgrades()) == 3 and not any(one.ended.is_set() for one in upgrades())
    assert native.compiled.settle(60) and all(one.in_force for one in upgrades())
    assert [[r.tobytes() for r in native(*args)] for args in given] == first
    forget(monkeypatch)  # as another process: the better objects lie on the disk by now
    again = every_kind(dtype)
    assert upgrades() == [None, None, None]
    assert [[r.tobytes() for r in again(*args)] for args in given] == first


def test_better_code_of_products_waits_for_a_pause_no_longer_than_that(anew, monkeypatch):
    monkeypatch.setattr(products, "_WAIT", 0.1)
    every_kind("f64")
    assert all(one.ended.wait(60) and one.in_force for one in upgrades())


def test_products_go_on_while_their_code_is_exchanged(anew, rng):
    given, native = problems("f64", rng)[-2:], every_kind("f64")
    first = [[r.tobytes() for r in native(*args)] for args in given]
    over, found = threading.Event(), []

    def work():
        while True:
            last = over.is_set()
            found.append([[r.tobytes() for r in native(*args)] for args in given] == first)
            if last:
                return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    settled = [one.settle(60) for one in upgrades()]
    over.set()
    for thread in threads:
        thread.join()
    assert all(settled) and all(found)


def test_where_better_code_of_products_fails_the_first_stays(anew, rng, monkeypatch):
    def fail(self, library):
        raise CompilationError("no memory for code")

    given, native = problems("f64", rng)[4], every_kind("f64")
    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning, match="products of .*: the first code stays"):
        patch.setattr(tiers.Upgrade, "exchange", fail)
        assert not any(one.settle(60) for one in upgrades()) and tiers.idle(60)
    np.testing.assert_allclose(native(*given)[0], given[0] @ given[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("x_axes", "g_axes", "out", "dense"),
    [
        ("hwc", "hwo", "co", "h - 1, w - 1, c"), ("hwc", "hwo", "oc", "h - 1, w - 1, c"),
        ("hwc", "co", "hwo", "h - 1, w - 1, c"), ("hwc", "ohw", "oc", "h - 1, w - 1, c"),
        ("chw", "hwo", "co", "c, h - 1, w - 1"), ("hcw", "hwo", "co", None),
    ],
)  # fmt: skip
def test_a_slice_is_copied_for_a_product_as_it_lies(x_axes, g_axes, out, dense, rng):
    """Copying it with its axes in the order of the product would read far apart elements one by one."""
    whole = dict(zip("hwco", sd.dims("h w c o"), strict=True))
    inner = whole | {"h": whole["h"] - 1, "w": whole["w"] - 1}
    x, g = sd.symbol("x", [whole[a] for a in x_axes]), sd.symbol("g", [inner[a] for a in g_axes])
    cut = tuple([slice(1, None) if a in "hw" else slice(None) for a in x_axes])
    spec = f"{x_axes},{g_axes}->{out}"
    native = sd.compile(np.einsum(spec, x[cut], g), [x, g])
    sizes = {"h": 7, "w": 5, "c": 4, "o": 3}
    a = rng.normal(size=[sizes[axis] for axis in x_axes])
    b = rng.normal(size=[sizes[axis] - (axis in "hw") for axis in g_axes])
    np.testing.assert_allclose(native(a, b), np.einsum(spec, a[cut], b), rtol=1e-13, atol=1e-13)
    temps = [line for line in native.loops.splitlines() if line.startswith("  temp")]
    assert dense is None or any(f"f64({dense})" in line for line in temps), temps
