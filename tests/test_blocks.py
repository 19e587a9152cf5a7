"""Kernels over one long axis run block by block: right at every size, and the same bits at every register width."""

import numpy as np
import pytest
from codegen_programs import agree, text_function

import codegen
import symdiff as sd
from codegen import compiled
from codegen.ir.loops import Let, statements
from codegen.jit import pool
from codegen.kernels import main
from codegen.schedule import blocks

LOGISTIC = text_function(
    '%0: f64[n] = contract(%X, %w) {spec = "ij,j->i"}\n%1: f64[n] = mul(%y, %0)\n%2: f64[n] = softplus(%1)\n'
    '%3: f64[] = contract(%2) {spec = "i->"}\n%4: f64[n] = sigmoid(%1)\n'
    '%5: f64[d] = contract(%X, %y, %4) {spec = "ij,i,i->j"}\nreturn %3, %5',
    "%X: f64[n,d], %w: f64[d], %y: f64[n]",
)
MIXTURE = text_function(  # long axis in the middle, maxima over it and beside it, stacks of products over blocks
    '%0: f64[k,n,d] = contract(%x) {sizes = [k], spec = "ij->kij"}\n'
    '%1: f64[k,n,d] = contract(%m) {sizes = [n], spec = "ij->ikj"}\n%2: f64[k,n,d] = sub(%0, %1)\n'
    '%3: f64[k,n,d] = contract(%q, %2) {spec = "kij,knj->kni"}\n%4: f64[k,n,d] = mul(%3, %3)\n'
    '%5: f64[k,n] = contract(%4) {spec = "kni->kn"}\n%6: f64[k,n] = neg(%5)\n%7: f64[n] = logsumexp(%6) {axes = [-2]}\n'
    '%8: f64[] = contract(%7) {spec = "n->"}\n%9: f64[k,n] = softmax(%6) {axes = [-2]}\n'
    '%10: f64[k] = contract(%9) {spec = "kn->k"}\n%11: f64[k,d,d] = contract(%9, %3, %2) {spec = "kn,kni,knj->kij"}\n'
    "%12: f64[k] = reduce_max(%6) {axes = [-1]}\n%13: f64[k] = reduce_min(%6) {axes = [-1]}\n"
    '%14: f64[k,d] = contract(%9, %3) {spec = "kn,kni->ki"}\nreturn %8, %10, %11, %12, %13, %14',
    "%x: f64[n,d], %m: f64[k,d], %q: f64[k,d,d]",
)
WARPED = text_function(  # products whose rows, columns or sums are the long axis; a result in the given order
    '%0: f64[k,n,d] = contract(%x) {sizes = [k], spec = "ij->kij"}\n'
    '%1: f64[k,n,d] = contract(%m) {sizes = [n], spec = "ij->ikj"}\n%2: f64[k,n,d] = mul(%0, %1)\n'
    '%3: f64[k,n,e] = contract(%2, %q) {spec = "knj,kij->kni"}\n%4: f64[k,n,e] = tanh(%3)\n'
    '%5: f64[k,n] = reduce_max(%4) {axes = [-1]}\n%6: f64[n] = contract(%5) {spec = "kn->n"}\n'
    '%7: f64[k,e,d] = contract(%4, %6, %2) {spec = "kni,n,knj->kij"}\n'
    '%8: f64[k,n,d] = contract(%4, %q) {spec = "kni,kij->knj"}\n%9: f64[d] = contract(%8, %2) {spec = "knj,knj->j"}\n'
    '%10: f64[n,k] = contract(%8) {spec = "knj->nk"}\nreturn %7, %9, %10',
    "%x: f64[n,d], %m: f64[k,d], %q: f64[k,e,d]",
)
CENTRED = text_function(  # a fold that is needed at once: two passes over the rows
    '%0: f64[d] = contract(%X) {spec = "ij->j"}\n%1: f64[n,d] = contract(%0) {sizes = [n], spec = "j->ij"}\n'
    '%2: f64[n,d] = sub(%X, %1)\n%3: f64[n,d] = exp(%2)\n%4: f64[n] = contract(%3, %0) {spec = "ij,j->i"}\n'
    '%5: f64[d] = contract(%4, %3) {spec = "i,ij->j"}\n%6: f64[n,d] = mul(%3, %3)\nreturn %5, %6, %0',
    "%X: f64[n,d]",
)
ROWS = (0, 1, 31, 32, 33, 700, 2500)


def arguments(function, rng, n, **sizes):
    sizes = {"n": n, "d": 3, "k": 4, "e": 5, **sizes}
    return [rng.normal(size=[sizes[str(s)] for s in p.type.shape]) / 4 for p in function.params]


@pytest.mark.parametrize("name", ["LOGISTIC", "MIXTURE", "WARPED", "CENTRED"])
def test_programs_in_blocks_agree_at_every_size(name, rng):
    function = globals()[name]
    native = codegen.compile(function, opt=1)
    assert "blocks of" in codegen.inspect(native).loops
    for n in ROWS[(name == "MIXTURE") :]:  # there is no maximum over nothing
        for d in (1, 3, 37) if name != "MIXTURE" else (3, 9):
            agree(function, native, arguments(function, rng, n, d=d))


@pytest.mark.parametrize("sizes", [(0, 3, 2), (1, 1, 1), (2, 13, 1), (3, 2, 17), (5, 0, 4), (1, 12, 26)])
def test_stacks_of_products_of_any_size_in_blocks(sizes, rng):
    native = codegen.compile(WARPED, opt=1)
    for n in (0, 1, 65, 300):
        agree(WARPED, native, arguments(WARPED, rng, n, **dict(zip("kde", sizes, strict=True))))


@pytest.mark.parametrize("name", ["MIXTURE", "WARPED"])
def test_what_is_made_for_each_element_of_the_long_axis_has_that_axis_last(name):
    program = codegen.inspect(codegen.compile(globals()[name])).program
    (block,) = program.blocks
    shapes = [t.shape for t in program.temps if block.size in t.shape and len(t.shape) > 1]
    assert shapes and all(shape[-1] == block.size for shape in shapes), shapes


def test_a_cheap_array_for_two_products_is_made_twice_a_row_at_a_time():
    program = codegen.inspect(codegen.compile(MIXTURE)).program
    made = [s for k in program.kernels for s in statements(k.body) if isinstance(s, Let) and s.op == "sub"]
    rows = [t for t in program.temps if t.private and list(map(str, t.shape)) == ["d", "#0"]]
    assert len(made) == 4 and len(rows) == 3, program


def test_blocks_of_strided_arrays_and_numbers_that_are_not_finite(rng):
    native = codegen.compile(LOGISTIC)
    X, w, y = arguments(LOGISTIC, rng, 2100, d=40)
    wide = np.zeros((4200, 80))
    wide[::2, ::2] = X
    for got, want in zip(native(wide[::2, ::2], w, y), native(X, w, y), strict=True):
        np.testing.assert_array_equal(got, want)
    X[1500, 3] = np.nan
    value, slope = native(X, w, y)
    assert np.isnan(value) and np.isnan(slope).all()


@pytest.mark.parametrize("name", ["LOGISTIC", "MIXTURE", "WARPED"])
def test_bits_of_blocks_do_not_depend_on_the_width_of_registers(name, rng, monkeypatch):
    function = globals()[name]
    args = arguments(function, rng, 1100, d=9)
    expected = codegen.compile(function)(*args)
    fma = compiled._machine()[1]
    monkeypatch.setattr(compiled, "_machine", lambda: (16, fma))
    for one, other in zip(codegen.compile(function)(*args), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_matrix_is_read_once_for_value_and_gradient(golden):
    golden("loops_logistic", codegen.inspect(codegen.compile(LOGISTIC, name="logistic")).loops)


@pytest.mark.usefixtures("shared")
@pytest.mark.skipif(not pool.available(), reason="no POSIX threads here")
@pytest.mark.parametrize("name", ["LOGISTIC", "MIXTURE", "WARPED", "CENTRED"])
def test_threads_share_chunks_and_give_the_bits_of_one(name, rng, monkeypatch):
    monkeypatch.setattr(main, "SHARED_WORK", 0)
    function = globals()[name]
    alone, several = (codegen.compile(function, opt=1, threads=t) for t in (1, 3))
    assert any(k.work is not None and k.body[-1].apart for k in codegen.inspect(several).program.kernels if k.body)
    for n in ROWS[(name == "MIXTURE") :]:
        given = arguments(function, rng, n, d=9)
        for _ in range(3):
            for one, other in zip(several(*given), alone(*given), strict=True):
                np.testing.assert_array_equal(one, other)


def test_sums_over_many_blocks_stay_close():
    X, w = np.full((200_000, 2), 0.1), np.array([1.0, 0.0])
    value, slope = codegen.compile(LOGISTIC)(X, w, np.ones(len(X)))
    z, s = np.log1p(np.exp(0.1)), 0.1 / (1 + np.exp(-0.1))
    assert abs(value - len(X) * z) <= 16 * np.spacing(len(X) * z)
    assert abs(slope[0] - len(X) * s) <= 64 * np.spacing(len(X) * s)


def axis_of(function):
    """What blocks run along, from the text of the loops."""
    text = str(codegen.compile(function).loops)
    return text.split(" chunks of ")[1].split(":")[0]


@pytest.mark.parametrize(("rows", "columns"), [("n", "d"), ("d", "n"), ("a", "b"), ("b", "a"), ("100000", "d")])
def test_blocks_run_along_rows_whatever_axes_are_called(rows, columns):
    text = (
        '%0: f64[@1] = contract(%X, %w) {spec = "ij,j->i"}\n%1: f64[@1] = exp(%0)\n%2: f64[] = contract(%1) '
        '{spec = "i->"}\n%3: f64[@2] = contract(%X) {spec = "ij->j"}\nreturn %2, %3'
    )
    params = "%X: f64[@1,@2], %w: f64[@2]"
    for short, long in (("@1", rows), ("@2", columns)):
        text, params = text.replace(short, long), params.replace(short, long)
    assert axis_of(text_function(text, params)) == rows


def test_parts_of_a_fold_have_an_axis_as_long_as_the_one_that_is_cut():
    """The sum over the rows of one factor has the rows of the other."""
    m, n = sd.dims("m n")
    a = sd.symbol("a", (m, n))
    differences = np.subtract.outer(a, a)
    clipped = np.clip(differences, -0.7, 0.8)
    f = np.sum(np.append(differences, -clipped) * 1.15) + np.sum(differences * 2.5)
    f = f + np.sum(np.einsum("ijij,ijik", differences, clipped))
    slopes = [sd.gradient(f, a, mode=mode) for mode in ("reverse", "forward")]
    native = sd.compile(slopes, [a])
    for rows in (1, 3, 40):
        given = np.random.default_rng(rows).normal(size=(rows, 2))
        expected = sd.evaluate(slopes[0], {a: given})
        for got in native(given):
            np.testing.assert_allclose(got, expected, atol=1e-10)


def test_groups_of_a_deep_network_are_found_without_trying_every_beginning(monkeypatch, rng):
    tried: list[int] = []

    def split(units, start, before=blocks._split):
        tried.append(start)
        return before(units, start)

    monkeypatch.setattr(blocks, "_split", split)
    layers, (n, d) = 24, sd.dims("n d")
    x, *weights = sd.symbol("x", (n, d)), *(sd.symbol(f"W{i}", (d, d)) for i in range(layers))
    out = x
    for weight in weights:
        out = np.tanh(out @ weight)
    slopes = sd.gradient(np.sum(out * out), weights)
    native = sd.compile(slopes, [x, *weights])
    assert 0 < len(tried) < 6
    given = [rng.normal(size=(70, 3)), *(rng.normal(size=(3, 3)) / 2 for _ in weights)]
    for got, slope in zip(native(*given), slopes, strict=True):
        np.testing.assert_allclose(got, sd.evaluate(slope, dict(zip([x, *weights], given, strict=True))), atol=1e-12)


def test_of_axes_that_save_as_much_the_one_with_rows_is_cut(rng):
    def likelihood(mean, spread, weight, x):
        z = (x[:, None, :] - mean) * np.exp(-spread)
        terms = weight - 0.5 * np.sum(z * z, axis=-1) - np.sum(spread, axis=-1)
        most = np.max(terms, axis=1, keepdims=True)
        return np.sum(np.log(np.sum(np.exp(terms - most), axis=1)) + most[:, 0])

    both = sd.value_and_grad(likelihood, argnums=(0, 1, 2))
    values = [rng.normal(size=shape) for shape in ((7, 8), (7, 8), 7, (300, 8))]
    value, slopes = both(*values)
    np.testing.assert_allclose(value, likelihood(*values), rtol=1e-12)
    direction = [rng.normal(size=v.shape) for v in values[:3]]
    ends = [likelihood(*[v + h * d for v, d in zip(values, direction, strict=False)], values[3]) for h in (1e-6, -1e-6)]
    along = sum(np.sum(s * d) for s, d in zip(slopes, direction, strict=True))
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)
    assert " chunks of n2:" in both.native[0].loops
