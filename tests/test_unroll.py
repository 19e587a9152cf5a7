"""Small axes taken apart: programs over records agree with NumPy row by row, at every length of the stack."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import symdiff as sd
from codegen.analysis.waves import in_waves, is_dear
from codegen.arrays import folding
from codegen.arrays.lower import lower
from codegen.arrays.mirror import mirrored
from codegen.arrays.nodes import Graph
from codegen.arrays.unroll import unroll
from codegen.compiled import inspect
from codegen.ir.loops import For, Let, accessed, statements
from codegen.kernels import emit
from codegen.kernels.records import _cover, _runs
from codegen.schedule.jobs import build
from symdiff.interp import interpret

LENGTHS = (1, 2, 3, 4, 5, 8, 13)


def rotated(q, v):
    """A vector turned by a quaternion."""
    w, u = q[0], q[1:4]
    t = 2 * np.stack([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])
    return v + w * t + np.stack([u[1] * t[2] - u[2] * t[1], u[2] * t[0] - u[0] * t[2], u[0] * t[1] - u[1] * t[0]])


def pendulum(s):
    a, b, p, q = s[0], s[1], s[2], s[3]
    c = np.cos(a - b)
    m = np.stack([np.stack([2 + c, c]), np.stack([c, 1 + 0 * c])])
    return np.concatenate([np.stack([p, q]), m @ np.stack([np.sin(a), np.sin(b)])])


def chained(x):
    y = np.stack([x[0] * x[1], x[1] / x[2], x[2] - x[0]])
    return np.sum(np.outer(y, x)[:2] * np.tril(np.outer(x, y))[1:], axis=0) + np.max(y)


def table(x):
    return np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 3.0]]) @ np.stack([x[2], x[0], x[1]]) + x[0]


def windows(x):
    return x[1:3] * x[0:2] + np.pad(x[0:1], (1, 0)) + x[::-1][:2] + x[2]


RECORDS = {"chained": (chained, 3), "pendulum": (pendulum, 4), "table": (table, 3), "windows": (windows, 3)}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("transform", ["value", "jacfwd", "jacrev"])
def test_batches_agree_with_single_rows(name, transform, rng):
    function, size = RECORDS[name]
    derived = {"value": lambda f: f, "jacfwd": sd.jacfwd, "jacrev": sd.jacrev}[transform](function)
    fn = sd.vmap(derived)
    for length in LENGTHS:
        x = rng.uniform(0.5, 2, (length, size))
        got = fn(x)
        if transform == "value":
            np.testing.assert_allclose(got, [function(row) for row in x], rtol=1e-12)
        else:
            step = 1e-20j
            cols = [np.stack([function(row + step * unit).imag / 1e-20 for unit in np.eye(size)], -1)
                    for row in x] if name != "chained" else None  # fmt: skip
            if cols is not None:
                np.testing.assert_allclose(got, cols, rtol=1e-12, atol=1e-12)
            else:
                for row, one in zip(x, got, strict=True):
                    eps = 1e-6
                    numeric = [(function(row + eps * u) - function(row - eps * u)) / (2 * eps) for u in np.eye(size)]
                    np.testing.assert_allclose(one, np.stack(numeric, -1), rtol=1e-6, atol=1e-6)
    assert fn.compilations <= 3  # one row, a length that equals a record's, all others


def test_two_records_and_hessians(rng):
    fn = sd.vmap(sd.hessian(lambda q, v: np.sum(rotated(q, v) ** 3)), in_axes=(0, None))
    one = sd.hessian(lambda q, v: np.sum(rotated(q, v) ** 3))
    q, v = rng.normal(size=(7, 4)), rng.normal(size=3)
    np.testing.assert_allclose(fn(q, v), [one(row, v) for row in q], rtol=1e-12)


def entangled(x):
    return np.exp(x[0] * x[1]) / (1 + x[2] ** 2) + np.sum(np.sin(x[1:] * x[:-1])) * x[0] + np.sqrt(x[3] + x[1] * x[2])


@pytest.mark.parametrize("second", [sd.hessian, lambda f: sd.jacfwd(sd.grad(f)), lambda f: sd.jacrev(sd.jacrev(f))])
def test_hessians_of_records_are_symmetric_to_the_last_bit(second, rng):
    x = rng.uniform(0.5, 2, (5, 4))
    slopes = sd.grad(entangled)
    for got, row in zip(sd.vmap(second(entangled))(x), x, strict=True):
        np.testing.assert_array_equal(got, got.T)
        np.testing.assert_array_equal(got, second(entangled)(row))
        numeric = [(slopes(row + 1e-6 * u) - slopes(row - 1e-6 * u)) / 2e-6 for u in np.eye(4)]
        np.testing.assert_allclose(got, numeric, rtol=1e-7, atol=1e-7)


def test_hessians_of_several_numbers_share_their_mixed_entries(rng):
    f = lambda a, b, c, v: entangled(np.stack([a, b, c, v[0]])) * v[1]  # noqa: E731
    made = sd.hessian(f, argnums=(0, 1, 2, 3))(0.7, 1.2, 0.9, np.array([0.8, 1.3]))
    for i in range(4):
        for j in range(4):
            np.testing.assert_allclose(made[i][j], np.transpose(made[j][i]), rtol=1e-14)
    assert all(made[i][j] == made[j][i] for i in range(3) for j in range(3))
    whole = sd.hessian(lambda x: entangled(x[:4]) * x[4])(np.array([0.7, 1.2, 0.9, 0.8, 1.3]))
    np.testing.assert_allclose([row[:3] for row in made[:3]], whole[:3, :3], rtol=1e-13)
    np.testing.assert_allclose(made[3][3], whole[3:, 3:], rtol=1e-13)


def test_derivatives_with_other_choices_at_kinks_are_not_symmetric():
    f, x = lambda x: np.abs(x[0]) * x[1], np.array([0.0, 2.0])
    slope = sd.grad(f, kinks={"abs": 1})
    for second in (sd.jacfwd, sd.jacrev):
        np.testing.assert_array_equal(second(slope, kinks={"abs": -1})(x), [[0, 1], [-1, 0]])
        np.testing.assert_array_equal(second(slope)(x), [[0, 1], [0, 0]])
        np.testing.assert_array_equal(second(slope, kinks={"abs": 1})(x), [[0, 1], [1, 0]])
    two = sd.grad(lambda a, b: np.abs(a) * b, (0, 1), kinks={"abs": 1})
    assert sd.jacfwd(two, (0, 1))(0.0, 2.0) == ((0, 1), (0, 0))


def test_mixed_entries_of_two_dtypes_keep_theirs():
    f = lambda a, b: np.sin(a * b) * np.exp(a)  # noqa: E731
    a, b = sd.symbol("a", (), "float32"), sd.symbol("b", ())
    for second in (sd.jacfwd, sd.jacrev):
        made = second(sd.grad(f, (0, 1)), (0, 1))(a, b)
        plain = second(lambda a, b: sd.grad(f, (0, 1))(a, b), (0, 1))(a, b)
        assert [[e.dtype for e in row] for row in made] == [[e.dtype for e in row] for row in plain]


def test_half_of_a_hessian_is_computed(rng):
    """Of mirrored entries the cheaper ones; what is no Hessian is computed as it is."""
    def lets(fn):
        fn(rng.uniform(0.5, 2, (6, 4)))
        program = inspect(fn.native[0]).program
        return sum(isinstance(s, Let) for k in program.kernels for s in statements(k.body))

    half, whole = lets(sd.vmap(sd.hessian(entangled))), lets(sd.vmap(sd.jacfwd(lambda x: 1 * sd.grad(entangled)(x))))
    assert half < 0.85 * whole
    skew = sd.vmap(sd.jacfwd(lambda x: np.stack([x[1] ** 2, x[0] * x[1]])))
    np.testing.assert_allclose(skew(np.array([[2.0, 3.0]])), [[[0, 6], [3, 2]]])


def test_either_triangle_may_be_the_cheaper_one():
    graph = Graph()
    leaf = graph.make("param", (), "f64", (), 0)

    def steps(count, node=leaf):
        for _ in range(count):
            node = graph.make("scalar", (), "f64", (node,), ("exp", None))
        return node

    long, short, shared = steps(5), graph.make("scalar", (), "f64", (leaf,), ("sin", None)), steps(3)
    parts = {(i, j): leaf for i in range(3) for j in range(3)}
    parts |= {(0, 1): short, (1, 0): long, (0, 2): long, (2, 0): shared, (1, 2): steps(1, short), (2, 1): shared}
    made = mirrored(parts, set())
    assert made[0, 1] is made[1, 0] is short
    assert made[0, 2] is made[2, 0] is shared
    assert made[1, 2] is made[2, 1] is shared or made[1, 2] is made[2, 1] is parts[1, 2]
    assert made[0, 0] is leaf


@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_tables(length, rng):
    def f(cameras, points, seen):
        one = lambda c, p: np.stack([c[0] * p[0] + c[1] * p[1], np.exp(c[2]) * p[0] / p[1]])  # noqa: E731
        return sd.vmap(sd.jacfwd(one, argnums=(0, 1)))(cameras[seen[:, 0]], points[seen[:, 1]])

    cameras, points = rng.normal(size=(17, 3)), rng.uniform(1, 2, (19, 2))
    seen = np.stack([rng.integers(-17, 17, length), rng.integers(-19, 19, length)], 1)
    da, db = sd.jit(f)(cameras, points, seen)
    c, p = cameras[seen[:, 0]], points[seen[:, 1]]
    zero = 0 * c[:, 0]
    e = np.exp(c[:, 2])
    np.testing.assert_allclose(da[:, 0], np.stack([p[:, 0], p[:, 1], zero], 1))
    np.testing.assert_allclose(da[:, 1], np.stack([zero, zero, e * p[:, 0] / p[:, 1]], 1))
    np.testing.assert_allclose(db[:, 0], c[:, :2])
    np.testing.assert_allclose(db[:, 1], np.stack([e / p[:, 1], -e * p[:, 0] / p[:, 1] ** 2], 1))


def test_an_index_outside_a_table_is_refused(rng):
    fn = sd.jit(lambda t, i: sd.vmap(lambda r: np.stack([r[0] * r[1], r[2]]))(t[i]))
    with pytest.raises(sd.EvaluationError, match="an index leaves an axis of size 5"):
        fn(rng.normal(size=(5, 3)), np.array([0, 1, 5, 2]))


def test_scattered_records(rng):
    """Forces of springs added up at their ends: gathers, records and scatter-adds together."""
    def energy(x, ends):
        d = x[ends[:, 0]] - x[ends[:, 1]]
        return np.sum((np.sqrt(d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2) - 1) ** 2)

    x, ends = rng.normal(size=(9, 3)), rng.integers(0, 9, (23, 2))
    ends[:, 1] = (ends[:, 0] + 1 + ends[:, 1] % 8) % 9
    d = x[ends[:, 0]] - x[ends[:, 1]]
    r = np.linalg.norm(d, axis=1, keepdims=True)
    expected = np.zeros_like(x)
    np.add.at(expected, ends[:, 0], 2 * (r - 1) * d / r)
    np.add.at(expected, ends[:, 1], -2 * (r - 1) * d / r)
    np.testing.assert_allclose(sd.grad(energy)(x, ends), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strided_arguments_and_results(dtype, rng):
    fn = sd.vmap(sd.jacfwd(lambda x: np.stack([x[0] * x[1], x[1] * x[2], x[4] + x[3]])))
    base = rng.normal(size=(11, 10)).astype(dtype)
    for x in (base[:, :5], base[:, ::2], base[::-1, 5:], np.asfortranarray(base[:, 1:6])):
        expected = np.zeros((11, 3, 5), dtype)
        expected[:, 0, 0], expected[:, 0, 1] = x[:, 1], x[:, 0]
        expected[:, 1, 1], expected[:, 1, 2] = x[:, 2], x[:, 1]
        expected[:, 2, 3] = expected[:, 2, 4] = 1
        np.testing.assert_array_equal(fn(x), expected)


def test_structural_zeros_stay_zero_beside_infinities():
    fn = sd.vmap(sd.jacfwd(lambda x: np.stack([np.exp(x[0]), x[1] / x[2]])))
    got = fn(np.array([[1e4, 2.0, 0.0]] * 5))
    assert np.all(got[:, 0, 1:] == 0) and np.all(got[:, 1, 0] == 0)
    assert np.all(np.isinf(got[:, 0, 0])) and np.all(np.isinf(got[:, 1, 1]))


def test_choices_and_whole_numbers_inside_records(rng):
    def f(x, k):
        return np.stack([np.where(x[0] > x[1], x[0], x[1] * k[0]), np.where(k[1] > 2, x[0] * x[1], 0.0)])

    x, k = rng.normal(size=(9, 2)), rng.integers(0, 5, (9, 2))
    np.testing.assert_allclose(sd.vmap(f)(x, k), [f(a, b) for a, b in zip(x, k, strict=True)], rtol=1e-13)


def test_two_stack_axes_and_shared_rows(rng):
    fn = sd.vmap(sd.vmap(sd.jacfwd(rotated), in_axes=(None, 0)), in_axes=(0, 0))
    q, v = rng.normal(size=(5, 4)), rng.normal(size=(5, 6, 3))
    one = sd.jacfwd(rotated)
    np.testing.assert_allclose(fn(q, v), [[one(a, b) for b in rows] for a, rows in zip(q, v, strict=True)], rtol=1e-12)


# -------------------------------------------------------------------- random programs
def random_record_program(rng, x, depth):
    """Random arithmetic that takes a record apart and puts it together."""
    pool = [x[i] for i in range(x.shape[0])]
    whole = [x]
    for _ in range(depth):
        kind = rng.integers(8)
        a, b = pool[rng.integers(len(pool))], pool[rng.integers(len(pool))]
        w = whole[rng.integers(len(whole))]
        if kind < 3:
            pool.append([a * b, a - b, a / (2 + b * b)][kind])
        elif kind == 3:
            pool.append(np.sin(a))
        elif kind == 4:
            whole.append(np.stack([a, b, pool[-1], a * b]))
        elif kind == 5:
            pool.append(np.sum(w * w[::-1]))
        elif kind == 6:
            whole.append(np.concatenate([w[1:], w[:1]]) * 0.5)
        else:
            m = np.outer(w, w)
            pool.append(np.trace(m) + m[0, -1])
    return np.concatenate([np.stack(pool[-4:]), whole[-1]])


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_agree_with_the_interpreter(seed, rng):
    def f(x):
        return random_record_program(np.random.default_rng(seed), x, 12)

    fn = sd.jit(lambda x: (sd.vmap(f)(x), sd.vmap(sd.jacrev(f))(x)))
    x = rng.uniform(-1, 1, (6, 5))
    got = fn(x)
    program = fn._patterns[0].traced.function
    for one, other in zip(got, interpret(program, [x]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(got[0], [f(row) for row in x], rtol=1e-11, atol=1e-11)


# -------------------------------------------------------------------- what is made
def test_a_batched_jacobian_is_one_loop_without_temporaries(golden, rng):
    fn = sd.vmap(sd.jacfwd(lambda x: np.stack([x[0] * x[1], np.sin(x[1])])))
    fn(rng.normal(size=(6, 2)))
    golden("loops_batched_jacobian", inspect(fn.native[0]).loops)


def test_elementwise_work_on_records_stays_dense():
    x = sd.symbol("x", (sd.dim("n"), 3))
    fn = sd.compile(np.exp(x) * 2, [x])
    assert "< 3*n vector" in inspect(fn).loops
    np.testing.assert_allclose(fn(np.ones((5, 3))), np.full((5, 3), 2 * np.e))


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (5, 5), (2, 12), (12, 2), (1, 5), (5, 6)])
@pytest.mark.parametrize("turned", [False, True])
def test_rows_by_a_small_table_are_no_matrix_product(shape, turned, rng):
    n, m = sd.dims("n m")
    table = rng.normal(size=shape)
    x = sd.symbol("x", (m, n, shape[0]))
    y = np.tanh(table.T @ x.transpose(0, 2, 1)) if turned else np.tanh(x @ table)
    fn = sd.compile([y, np.sqrt(np.sum(y**2, axis=1 if turned else 2))], [x])
    kinds = [node.kind for node in lower(inspect(fn).function).graph.nodes]
    assert ("gemm" in kinds) == (shape[0] * shape[1] > 25)
    for length in LENGTHS:
        value = rng.normal(size=(2, length, shape[0]))
        want = np.tanh(value @ table)
        got, norms = fn(value)
        np.testing.assert_allclose(got, want.transpose(0, 2, 1) if turned else want, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(norms, np.sqrt(np.sum(want**2, axis=2)), rtol=1e-12)


def test_programs_too_long_stay_tensors():
    n = sd.dim("n")
    x = sd.symbol("x", (n, 32, 32))
    function = sd.compile(np.sum(x @ x @ x @ x, axis=(1, 2)), [x])
    lowered = lower(inspect(function).function)
    assert unroll(lowered) is lowered
    value = np.ones((2, 32, 32))
    np.testing.assert_allclose(function(value), [32.0**5] * 2)


@pytest.mark.parametrize(("places", "windows"), [
    ([0, 1, 2, 3], [(0, 4)]), ([0, 1, 2], [(0, 3)]), ([0, 1, 2, 3, 4, 5, 6], [(0, 4), (3, 4)]), ([0, 2], [(0, 3)]),
    ([5], [(5, 1)]), ([0, 9], [(0, 4), (6, 4)]),
])  # fmt: skip
def test_loads_are_covered_by_windows_inside_the_row(places, windows):
    assert _cover(places, 4) == windows


@pytest.mark.parametrize(("places", "windows"), [
    ([0, 1, 2, 3, 4], [(0, 4), (1, 4)]), ([0, 1, 2], [(0, 3)]), ([0, 2, 3], [(0, 1), (2, 2)]),
    (list(range(8)), [(0, 4), (4, 4)]),
])  # fmt: skip
def test_stores_are_covered_by_runs(places, windows):
    assert _runs(places, 4) == windows


def test_signs_and_exact_numbers_fold():
    graph = Graph()
    x, y = (graph.make("param", (), "f64", (), i) for i in range(2))
    zero, one = graph.const(0, (), "f64"), graph.const(1, (), "f64")

    def op(name, *args):
        return folding.scalar(graph, name, list(args), "f64", None)

    assert op("mul", x, zero) is zero and op("add", zero, x) is x and op("mul", one, x) is x
    assert op("neg", op("neg", x)) is x
    assert op("sub", y, x) is op("neg", op("sub", x, y))
    assert op("mul", op("neg", x), op("neg", y)) is op("mul", y, x)
    assert op("add", op("neg", x), op("neg", y)) is op("neg", op("add", x, y))
    assert op("div", op("neg", x), y) is op("neg", op("div", x, y))
    assert op("sub", one, one) is zero


def test_building_verifies(rng):
    fn = sd.vmap(rotated)
    fn(rng.normal(size=(6, 4)), rng.normal(size=(6, 3)))
    program, _ = build(inspect(fn.native[0]).function, "rotated")
    assert len(program.kernels) == 1 and not program.temps


# -------------------------------------------------------------------- rounding
def test_differences_of_products_keep_their_zeros(rng):
    x, y = sd.symbol("x", (sd.dim("n"),)), sd.symbol("y", (sd.dim("n"),))
    fn = sd.compile([x * x - y * y, x * y - 3 * y], [x, y])
    a = rng.normal(size=50) * 1e3
    assert not np.any(fn(a, a.copy())[0])
    assert not np.any(fn(np.full(50, 3.0), a)[1])


def test_a_product_and_a_sum_are_rounded_at_most_twice(rng):
    names = [sd.symbol(s, (sd.dim("n"),)) for s in "abc"]
    a, b, c = names
    fn = sd.compile([a * b + c, c - a * b, a * b - c], names)
    x, y, z = rng.normal(size=(3, 40))
    signs = ((1, 1), (-1, 1), (1, -1))
    for got, (p, q) in zip(fn(x, y, z), signs, strict=True):
        for one, u, v, w in zip(got, x, y, z, strict=True):
            exact = p * Fraction(float(u)) * Fraction(float(v)) + q * Fraction(float(w))
            bound = Fraction(2) ** -53 * (abs(exact) + abs(Fraction(float(u)) * Fraction(float(v))))
            assert abs(Fraction(float(one)) - exact) <= bound * Fraction(1001, 1000)


# -------------------------------------------------------------------- dear functions side by side
def test_waves_keep_every_definition_before_its_uses(rng):
    letters = [sd.symbol(s, (sd.dim("n"),)) for s in "xyz"]
    x, y, z = letters
    e = [np.exp(np.sin(x) * y), np.exp(np.tanh(y) - z), np.log(2 + np.sin(z) ** 2), np.cos(x) * np.exp(x)]
    native = sd.compile([*e, e[0] + np.exp(e[1] * np.exp(-e[2] ** 2))], letters)
    arrays = rng.normal(size=(3, 37))
    for got, expected in zip(native(*arrays), interpret(inspect(native).function, arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    for loop in [s for k in inspect(native).program.kernels for s in k.body if isinstance(s, For)]:
        ordered = in_waves(loop.body)
        assert sorted(map(id, ordered)) == sorted(map(id, loop.body)) and list(ordered) != loop.body
        inside, seen = {s.name for s in loop.body if isinstance(s, Let)}, set()
        for stmt in ordered:
            if isinstance(stmt, Let):
                assert {a for a in stmt.args if a in inside} <= seen
                seen.add(stmt.name)
        dear = [s.op for s in ordered if is_dear(s)]
        assert dear.index("sin") + 1 == len(dear) - 1 - dear[::-1].index("sin")


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_two_functions_at_once_have_the_bits_of_each_alone(dtype, rng):
    n = sd.dim("n")
    x, y = sd.symbol("x", (n,), dtype=dtype), sd.symbol("y", (n,), dtype=dtype)
    kind = {"f64": np.float64, "f32": np.float32}[dtype]
    a, b = rng.normal(size=(2, 23)).astype(kind)
    for f in (np.exp, np.sin, np.tanh, lambda v: np.sin(v) * np.cos(v)):
        both = sd.compile([f(x), f(y)], [x, y])(a, b)
        np.testing.assert_array_equal(both[0], sd.compile(f(x), [x])(a))
        np.testing.assert_array_equal(both[1], sd.compile(f(y), [y])(b))


# -------------------------------------------------------------------- how long it may become
def arm(q):
    """A function of the end of a chain of turned links."""
    x, turned = [1.0, q[0], 0.5], [0.0, 0.0, 0.0]
    for angle in q:
        c, s = np.cos(angle), np.sin(angle)
        x = [c * x[0] - s * x[1], s * x[0] + c * x[1], x[2] + x[0] * x[1]]
        turned = [a + b * c for a, b in zip(turned, x, strict=True)]
    return x[0] * turned[1] + np.exp(-(x[2] ** 2)) * turned[2]


@pytest.mark.parametrize("longest", [0, 500, 20_000])
@pytest.mark.parametrize("batch", [1, 7])
def test_one_answer_taken_apart_or_not(longest, batch, rng, monkeypatch):
    size = 5

    def f(q):
        return arm([q[i] for i in range(size)])

    fn = sd.vmap(sd.hessian(f))
    q = rng.normal(size=(batch, size))
    expected = [sd.hessian(f)(row) for row in q]
    for name in ("SHORT", "LONGEST", "ALONE"):
        monkeypatch.setattr(f"codegen.arrays.unroll.{name}", longest)
    monkeypatch.setattr(emit, "PIECE", 40)
    np.testing.assert_allclose(fn(q), expected, rtol=1e-11, atol=1e-11)
    kernels = inspect(fn.native[0]).program.kernels
    assert (len(kernels) == 1) == (longest > 500)
    assert longest > 500 or any(isinstance(s, For) for k in kernels for s in k.body)


def test_axes_of_one_element_keep_nothing_apart(rng):
    def f(v):
        return np.stack([np.exp(v[0] * v[1])])

    fn = sd.jit(sd.vmap(lambda v: (f(v), sd.jacfwd(f)(v))))
    v = rng.normal(size=(9, 2))
    value, slope = fn(v)
    np.testing.assert_allclose(value, np.exp(v[:, 0] * v[:, 1])[:, None])
    np.testing.assert_allclose(slope, (value * v[:, ::-1])[:, None])
    kernels = inspect(fn.native[0]).program.kernels
    assert sum(s.op == "exp" for k in kernels for s in statements(k.body) if isinstance(s, Let)) == len(kernels) == 1

    x = sd.symbol("x", (sd.dim("n"), sd.dim("m")))
    far = x - np.mean(x, axis=1, keepdims=True)
    y = far / np.sqrt(1 + np.sum(far**2, axis=1, keepdims=True))
    for shape in ((5, 3), (1, 7), (33, 1)):
        a = rng.normal(size=shape)
        b = a - a.mean(axis=1, keepdims=True)
        expected = b / np.sqrt(1 + (b**2).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(sd.compile(y, [x])(a), expected, atol=1e-15)


def test_scalars_that_several_results_are_made_of_stay_in_registers(rng):
    """Kernels without loops that follow each other are one: nothing goes through memory between them."""
    x = sd.symbol("x", (4,))
    f = lambda x: entangled(np.sin(x)) * np.exp(entangled(x))  # noqa: E731
    fn = sd.compile([f(x), sd.gradient(f(x), x), sd.hessian(f(x), x), x[0] > x[1]], [x])
    kernels = inspect(fn).program.kernels
    straight = [not any(isinstance(s, For) for s in k.body) for k in kernels]
    assert any(straight) and not any(a and b for a, b in pairwise(straight))
    for number in [n for n, k in enumerate(kernels) if straight[n] and len(k.body) > 100]:
        outside = {b.root for k in kernels[:number] + kernels[number + 1 :] for s in statements(k.body)
                   for own in accessed(s) for b in own}  # fmt: skip
        inside = {b.root for s in statements(kernels[number].body) for own in accessed(s) for b in own}
        assert all(b in outside for b in inside if b.kind == "temp" and not b.shape)
    at = rng.uniform(0.5, 2, 4)
    value, slope, second, larger = fn(at)
    np.testing.assert_allclose(value, f(at), rtol=1e-13)
    np.testing.assert_allclose(slope, sd.grad(f)(at), rtol=1e-11)
    np.testing.assert_allclose(second, sd.hessian(f)(at), rtol=1e-10)
    assert larger == (at[0] > at[1])


def test_scalars_that_a_loop_reads_stay_in_memory(rng):
    def f(x, y):
        s = np.exp(x[0]) * x[1] + np.sin(x[1])
        return np.stack([s, s * s]), np.cos(s) * y, s - 1

    x, y = rng.normal(size=2), rng.normal(size=700)
    s = np.exp(x[0]) * x[1] + np.sin(x[1])
    for got, want in zip(sd.jit(f)(x, y), ([s, s * s], np.cos(s) * y, s - 1), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)
