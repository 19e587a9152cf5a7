"""Native loops of scans equal the interpreter's, run once for all results, and move nothing that can stay."""

import numpy as np
import pytest
from codegen_programs import close
from scan_programs import Body, arguments, random_scan

import codegen
import symdiff as sd
from codegen.inspection.profile import profile
from codegen.ir.loops import For, statements
from codegen.ir.verify import verify
from codegen.schedule.jobs import build
from symdiff.interp import interpret
from symdiff.ir.contraction import contract
from symdiff.ir.dims import named
from symdiff.ir.graph import Function

n, m = sd.dims("n m")
SIZES = (
    {"T": 4, "n": 3, "m": 5}, {"T": 0, "n": 3, "m": 4}, {"T": 1, "n": 17, "m": 6}, {"T": 9, "n": 1, "m": 2},
    {"T": 3, "n": 0, "m": 0}, {"T": 5, "n": 35, "m": 33},
)  # fmt: skip


def agree(function, native, seed, sizes, rtol):
    """Native results equal those of the interpreter."""
    args = arguments(function, seed, sizes)
    shown = {str(s) for p in function.params for s in p.type.shape}
    given = {k: v for k, v in sizes.items() if k in function.dims and k not in shown}
    options = {"sizes": given} if given else {}
    for one, other in zip(native(*args, **options), interpret(function, args, **options), strict=True):
        close(one, other, rtol)


@pytest.mark.parametrize("seed", range(24))
def test_random_loops_agree_at_every_size_with_one_compilation(seed):
    function = random_scan(seed, every=seed % 2 == 0)
    native = codegen.compile(function, opt=1)
    for sizes in SIZES:
        agree(function, native, seed, sizes, 1e-10)


@pytest.mark.parametrize("seed", range(100, 104))
def test_random_loops_agree_in_single_precision(seed):
    function = random_scan(seed, "f32", steps=4)
    native = codegen.compile(function, opt=1)
    for sizes in SIZES[::2]:
        agree(function, native, seed, sizes, 1e-3)


@pytest.mark.parametrize("seed", range(200, 206))
def test_loops_in_loops_agree(seed):
    def inner(program):
        """Results of a loop whose operands are values of the outer body."""
        body = Body(np.random.default_rng(seed + 1000), steps=3)
        like = {p.name: p for p in (*program.params, program.index)}
        operands = []
        for one in body.function.params:
            value = like[one.name]
            if one in body.slices:
                labels = tuple(range(1, 1 + len(value.type.shape)))
                value = contract(program.builder, [value], [labels], (0, *labels), {0: named("n") + 1})
            operands.append(value)
        made = body.scans(program.builder, operands, body.picks(), bool(seed % 2), named("n") + 1)
        return [v for v in made if len(v.type.shape) < 3]

    function = random_scan(seed, nested=inner)
    native = codegen.compile(function, opt=1)
    for sizes in SIZES:
        agree(function, native, seed, sizes, 1e-9)


def native(results, inputs):
    """A compiled function that gives a tuple, its program, and the function interpreted."""
    function = Function.of([x.value for x in inputs], [r.value for r in results])
    made = codegen.compile(function, opt=1)
    return made, build(function, "kernel")[0], lambda *args: interpret(function, args)


def loops_of(program):
    return [s for k in program.kernels for s in statements(k.body) if isinstance(s, For) and s.steps]


def check(results, inputs, *args):
    made, program, meaning = native(results, inputs)
    for one, other in zip(made(*args), meaning(*args), strict=True):
        close(one, other, 1e-11)
    return program


# -------------------------------------------------------------------- where carries lie
def test_scalars_stay_in_registers(rng):
    h, a, x = sd.symbol("h", ()), sd.symbol("a", ()), sd.symbol("x", (n,))
    last, ys = sd.scan(lambda c, t: (np.tanh(a * c + t), c * t), h, x, reverse=True)
    for length in (0, 1, 7, 1000):
        program = check([last, ys], [h, a, x], 0.3, 0.7, rng.normal(size=length))
    (loop,) = loops_of(program)
    assert len(loop.carries) == 1 and not program.temps


def test_small_vectors_stay_in_registers(rng):
    state, x, A = sd.symbol("state", (3,)), sd.symbol("x", (n, 3)), sd.symbol("A", (3, 3))
    last, ys = sd.scan(lambda s, t: (np.sin(A @ s) + t, s[0] * s[2]), state, x)
    program = check([last, ys], [state, x, A], rng.normal(size=3), rng.normal(size=(9, 3)), rng.normal(size=(3, 3)))
    (loop,) = loops_of(program)
    assert len(loop.carries) == 3
    assert not any(isinstance(s, For) for s in loop.body)


def test_new_values_are_written_over_old_ones_that_are_done_with(rng):
    c, x = sd.symbol("c", (m,)), sd.symbol("x", (n, m))
    last, _ = sd.scan(lambda s, t: (s * t + np.sum(t), None), c, x)
    program = check([last], [c, x], rng.normal(size=5), rng.normal(size=(4, 5)))
    assert not any(b.shape == (sd.dim("m"),) for b in program.temps)


def test_a_value_that_is_still_read_takes_turns_with_the_new_one(rng):
    c, W = sd.symbol("c", (m,)), sd.symbol("W", (m, m))
    last, _ = sd.scan(lambda s, _: (np.tanh(W @ s) + np.sin(s)[::-1], None), c, None, length=n)
    made, program, _ = native([last], [c, W])
    args = rng.normal(size=5), rng.normal(size=(5, 5))
    for length in (0, 1, 2, 7):
        sizes = {"n": length}
        close(made(*args, sizes=sizes)[0], interpret(made.compiled.function, args, sizes=sizes)[0], 1e-11)
    (loop,) = loops_of(program)
    assert [c.dtype for c in loop.carries] == ["i64"]


def test_carries_that_change_places(rng):
    a, b = sd.symbol("a", (m,)), sd.symbol("b", (m,))
    (p, q, r), ys = sd.scan(lambda s, _: ((s[1], s[2], s[0] - s[1]), s[2]), (a, b, a), None, length=5)
    check([p, q, r, ys], [a, b], rng.normal(size=4), rng.normal(size=4))


def test_integers_and_booleans_are_carried(rng):
    k, x = sd.symbol("k", (), dtype="i64"), sd.symbol("x", (n,))
    zero = k * 0

    def step(s, t):
        count, seen, big = s
        return (count + 1, np.logical_or(seen, t > 1), np.maximum(big, t)), (count, seen)

    (count, seen, big), (counts, seens) = sd.scan(step, (zero, zero > 1, x[0]), x)
    check([count, seen, big, counts, seens], [k, x], 5, rng.normal(size=40))


def test_slices_of_windows_and_reversed_arrays_are_read_where_they_lie(rng):
    x = sd.symbol("x", (n, m))
    _, ys = sd.scan(lambda s, t: (s + t[0], s * t[1] + t[2]), x[0], (x[1:], x[:-1], x[::-1][:-1]))
    program = check([ys], [x], rng.normal(size=(7, 3)))
    assert not any(len(b.shape) == 2 for b in program.temps)


# -------------------------------------------------------------------- errors and calls
def test_failures_inside_are_reported(rng):
    A, b = sd.symbol("A", (n, m, m)), sd.symbol("b", (m,))
    last, _ = sd.scan(lambda s, a: (np.linalg.solve(a, s), None), b, A)
    made, _, meaning = native([last], [A, b])
    good = rng.normal(size=(5, 4, 4)) + 4 * np.eye(4)
    close(made(good, np.ones(4))[0], meaning(good, np.ones(4))[0], 1e-10)
    good[3] = 0
    with pytest.raises(sd.EvaluationError, match="solve: Singular matrix"):
        made(good, np.ones(4))


def test_what_fails_does_not_fail_where_there_are_no_steps(rng):
    A, b, x = sd.symbol("A", (m, m)), sd.symbol("b", (m,)), sd.symbol("x", (n, m))
    (last, _), _ = sd.scan(lambda s, t: ((s[0] + np.linalg.solve(s[1], b) * t, s[1]), None), (b, A), x)
    made, _, _ = native([last], [A, b, x])
    np.testing.assert_array_equal(made(np.zeros((3, 3)), np.ones(3), np.zeros((0, 3)))[0], np.ones(3))
    with pytest.raises(sd.EvaluationError, match="Singular"):
        made(np.zeros((3, 3)), np.ones(3), np.zeros((2, 3)))
    c = sd.symbol("c", (2,))
    slices, _ = sd.scan(lambda s, t: (s + t[2:4], None), c, x)
    made, _, _ = native([slices], [c, x])
    with pytest.raises(sd.SymdiffError, match="elements from 2 by 1 leave an axis of size 3"):
        made(np.zeros(2), np.zeros((2, 3)))
    assert made(np.zeros(2), np.zeros((0, 3)))[0].shape == (2,)


def test_results_go_where_they_are_wanted(rng):
    c, x = sd.symbol("c", (m,)), sd.symbol("x", (n, m))
    last, ys = sd.scan(lambda s, t: (np.cos(s) * t, s + t), c, x)
    args = rng.normal(size=5), rng.normal(size=(8, 10))[:, ::2]
    made, _, meaning = native([last, ys], [c, x])
    expected = meaning(*args)
    out = np.empty(10)[::2], np.empty((5, 8)).T
    assert made(*args, out=out)[0] is out[0]
    bound = made.bind(*args)
    for one, two, other in zip(out, bound(), expected, strict=True):
        close(one, other)
        close(two, other)


@pytest.mark.parametrize("threads", [2, 3])
def test_bits_do_not_depend_on_threads(rng, threads):
    c, W, x = sd.symbol("c", (m,)), sd.symbol("W", (m, m)), sd.symbol("x", (n, m))
    last, ys = sd.scan(lambda s, t: (np.tanh(W @ s + W @ t), np.sum(s)), c, x)
    function = Function.of([c.value, W.value, x.value], [last.value, ys.value])
    args = rng.normal(size=200), rng.normal(size=(200, 200)) / 20, rng.normal(size=(30, 200))
    one, several = (codegen.compile(function, opt=1, threads=k)(*args) for k in (1, threads))
    for a, b in zip(one, several, strict=True):
        np.testing.assert_array_equal(a, b)


# -------------------------------------------------------------------- looking inside
def test_loops_read_as_expected(golden):
    c, W, x = sd.symbol("c", (m,)), sd.symbol("W", (m, m)), sd.symbol("x", (n, m))
    last, ys = sd.scan(lambda s, t: ((np.tanh(W @ s[0] + t), s[1] + s[0][0]), s[1] * t), (c, c[0]), x, reverse=True)
    function = Function.of([c.value, W.value, x.value], [last[0].value, last[1].value, ys.value])
    golden("loops_scan", str(build(function, "scan")[0]))


def test_explain_and_predictions_count_every_step(rng):
    c, x = sd.symbol("c", (m,)), sd.symbol("x", (n, m))
    last, _ = sd.scan(lambda s, t: (np.exp(s * t), None), c, x)
    made = sd.compile(last, [c, x])
    (row,) = [line for line in made.explain(np.ones(50), np.zeros((307, 50))).splitlines() if " exp" in line]
    assert " 307 50v " in row and " 368500 " in row

    def count(sizes):
        return sum(s.times * s.units.get("exp", 0) for k in profile(made.compiled.program, sizes) for s in k.stretches)

    assert count({"n": 300, "m": 48}) == pytest.approx(300 * 48 / 4, rel=0.3)


def test_the_verifier_asks_for_what_a_loop_begins_from(rng):
    h, x = sd.symbol("h", ()), sd.symbol("x", (n,))
    last, _ = sd.scan(lambda c, t: (c * t, None), h, x)
    program = build(Function.of([h.value, x.value], [last.value]), "kernel")[0]
    (loop,) = loops_of(verify(program))
    loop.carries[0].start = 999
    with pytest.raises(sd.VerifyError, match="%999 is used where it is not defined"):
        verify(program)


# -------------------------------------------------------------------- derivatives
def compiled(results, inputs):
    """What users get, simplified; and the meaning of what was derived."""
    function = Function.of([x.value for x in inputs], [r.value for r in results])
    return sd.compile(results, inputs), lambda *args: interpret(function, args)


def rnn(reverse=False):
    """A recurrent network with a read-out in every step; weights, inputs and targets."""
    W, U, b, V = sd.symbol("W", (m, m)), sd.symbol("U", (m, 2)), sd.symbol("b", (m,)), sd.symbol("V", (2, m))
    x, y = sd.symbol("x", (n, 2)), sd.symbol("y", (n, 2))

    def step(s, t):
        h = np.tanh(W @ s[0] + U @ t[0] + b)
        return (h, s[1] + np.sum((V @ h - t[1]) ** 2)), np.log1p(np.exp(h))

    (_, loss), ys = sd.scan(step, (b, b[0] * 0), (x, y), reverse=reverse)
    return loss + np.sum(ys), [W, U, b, V, x, y]


def rnn_arguments(rng, steps, size):
    shapes = (size, size), (size, 2), (size,), (2, size), (steps, 2), (steps, 2)
    return [rng.normal(size=s) / max(size, 1) for s in shapes]


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_loops_agree(rng, reverse):
    loss, inputs = rnn(reverse)
    results = [loss, *sd.gradient(loss, inputs)]
    made, meaning = compiled(results, inputs)
    for steps, size in ((7, 5), (1, 33), (0, 4), (40, 1)):
        args = rnn_arguments(rng, steps, size)
        for one, other in zip(made(*args), meaning(*args), strict=True):
            close(one, other, 1e-10)


def test_second_derivatives_of_loops_agree(rng):
    loss, inputs = rnn()
    v = sd.symbol("v", (m,))
    made, meaning = compiled([sd.hvp(loss, inputs[2], v), sd.jvp(loss, inputs[2], v)], [*inputs, v])
    args = [*rnn_arguments(rng, 6, 5), rng.normal(size=5)]
    for one, other in zip(made(*args), meaning(*args), strict=True):
        close(one, other, 1e-10)


def test_gradients_of_loops_in_loops_agree(rng):
    W, x, c = sd.symbol("W", (m, m)), sd.symbol("x", (n, 3, m)), sd.symbol("c", (m,))

    def row(s, rows):
        inner, seen = sd.scan(lambda h, t: (lambda q: (q, np.sum(q)))(np.tanh(W @ h + t)), s, rows, reverse=True)
        return inner * 0.5, np.sum(seen**2)

    last, ys = sd.scan(row, c, x)
    loss = np.sum(last) + np.sum(ys)
    made, meaning = compiled([loss, *sd.gradient(loss, [W, x, c])], [W, x, c])
    for steps, size in ((4, 5), (0, 3), (1, 1)):
        args = rng.normal(size=(size, size)), rng.normal(size=(steps, 3, size)), rng.normal(size=size)
        for one, other in zip(made(*args), meaning(*args), strict=True):
            close(one, other, 1e-10)


def test_gradients_of_a_filter_agree(rng):
    A, H, y = sd.symbol("A", (m, m)), sd.symbol("H", (2, m)), sd.symbol("y", (n, 2))
    P0, eye = sd.symbol("P0", (m, m)), np.eye(2)

    def step(s, t):
        mean, P, total = s
        mean, P = A @ mean, A @ P @ A.T + P0
        S = H @ P @ H.T + eye
        r = t - H @ mean
        K = np.linalg.solve(S, H @ P).T
        return (mean + K @ r, P - K @ S @ K.T, total + r @ np.linalg.solve(S, r) + np.linalg.slogdet(S)[1]), None

    (_, _, loss), _ = sd.scan(step, (P0[0], P0, P0[0, 0] * 0), y)
    made, meaning = compiled([loss, *sd.gradient(loss, [A, H])], [A, H, y, P0])
    args = rng.normal(size=(3, 3)) / 3, rng.normal(size=(2, 3)), rng.normal(size=(9, 2)), np.eye(3)
    for one, other in zip(made(*args), meaning(*args), strict=True):
        close(one, other, 1e-9)


def test_vectors_of_known_length_fill_registers(rng):
    c, x = sd.symbol("c", (14,)), sd.symbol("x", (n, 14))
    last, ys = sd.scan(lambda s, t: (s * t + s[::-1], np.sum(s * t)), c, x)
    program = check([last, ys], [c, x], rng.normal(size=14), rng.normal(size=(5, 14)))
    (loop,) = loops_of(program)
    assert any(isinstance(s, For) and s.vector for s in loop.body)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 64])
def test_a_carry_begins_from_what_is_computed_before_the_loop(size, rng):
    b, c = sd.symbol("b", (size,)), sd.symbol("c", (size,))
    y, _ = sd.scan(lambda s, _: (np.tanh(s), None), c @ b * 0.5 + 0.1, length=3)
    x, z = rng.normal(size=(2, size))
    expected = x @ z * 0.5 + 0.1
    for _ in range(3):
        expected = np.tanh(expected)
    np.testing.assert_allclose(sd.compile(y, [b, c])(x, z), expected, rtol=1e-13)


@pytest.mark.parametrize("sizes", [(4, 3), ("T", "M")])
def test_gradients_of_a_loop_in_a_loop_begin_from_a_slope(sizes, rng):
    """The inner loop of the reverse sweep begins from the slope of the outer step."""
    sizes = [sd.dim(s) if isinstance(s, str) else s for s in sizes]
    s, u = sd.symbol("s"), sd.symbol("u", tuple(sizes))

    def outer(c, row):
        return np.tanh(sd.scan(lambda d, x: (0.5 * d + x * c, None), 0.0, row)[0]), None

    last, _ = sd.scan(outer, s, u)
    value, slope = sd.compile([last, sd.gradient(last, s)], [s, u])(0.3, rows := rng.normal(size=(4, 3)))

    def run(c):
        for row in rows:
            d = 0.0
            for x in row:
                d = 0.5 * d + x * c
            c = np.tanh(d)
        return c

    np.testing.assert_allclose(value, run(0.3), rtol=1e-13)
    np.testing.assert_allclose(slope, run(0.3 + 1e-30j).imag / 1e-30, rtol=1e-12)
