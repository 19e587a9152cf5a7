"""The calling side of compiled kernels, on kernels written by hand in LLVM IR.

Every behaviour is tested on the fast entry and on the portable path; numbers come from NumPy.
"""

import dataclasses
import gc
import math
import pickle
import sys
from fractions import Fraction

import numpy as np
import pytest
from handmade_kernels import (
    ADD3,
    ECHO,
    INNER,
    IOTA,
    MATVEC_SIGNATURE,
    PRODUCT,
    ROOT,
    Minus,
    f64,
    outcome,
    vectors,
)

from codegen.entry import native as entry
from codegen.entry.native import make_function
from codegen.entry.signature import ArraySpec, Signature
from codegen.errors import KernelError, SignatureError

RNG = np.random.default_rng(20261121)


# ---- values


def test_the_fast_entry_is_available_here():
    assert entry.fast_entry_status() == "fast"


def test_scalars_in_and_out(make):
    f = make(PRODUCT)
    x, y, z = 1.7, -2.3, 0.4
    assert f(x, y, z) == ((x * y) * z, y * z, x * z, x * y)
    assert all(type(v) is float for v in f(x, y, z))
    assert f(np.float64(x), np.array(y), z) == f(x, y, z)
    assert f(3, -1, 2) == (-6.0, -2.0, 6.0, -3.0)
    assert f(x=x, z=z, y=y) == f(x, y, z) == f(x, z=z, y=y)
    assert math.isnan(f(math.nan, 1.0, 1.0)[0])


def test_every_dtype_as_a_scalar(make):
    f = make(ECHO)
    assert f(0.1, 0.1, -(2**63), True) == (0.1, float(np.float32(0.1)), -(2**63), True)
    assert [type(v) for v in f(1.5, 2.5, -1, False)] == [float, float, int, bool]
    assert f(np.float64(0.3), np.float32(0.3), np.int64(-1), np.bool_(True)) == (0.3, float(np.float32(0.3)), -1, True)
    assert f(-1, -1, -1, np.array(False)) == (-1.0, -1.0, -1, False)
    assert f(1.0, 1e300, 0, False)[1] == math.inf


def test_every_dtype_as_an_array(make, library):
    for name, kind, values, expected in [
        ("scale32", "f32", RNG.standard_normal(5).astype(np.float32), lambda v: v * np.float32(3)),
        ("double64", "i64", RNG.integers(-(2**60), 2**60, 5), lambda v: v * 2),
        ("invert", "bool", np.array([True, False, False, True]), lambda v: ~v),
    ]:
        spec = ArraySpec("x", kind, ("n",))
        f = make(Signature(name, ("n",), (spec,), (ArraySpec("r", kind, ("n",)),), single=True))
        result = f(values)
        assert result.dtype == values.dtype
        np.testing.assert_array_equal(result, expected(values))
        np.testing.assert_array_equal(f(values[::-2]), expected(values[::-2]))


def test_strides_of_every_kind(make):
    f = make(MATVEC_SIGNATURE)
    base = RNG.standard_normal((14, 20))
    x = RNG.standard_normal(20)
    for W in (base, base.T.copy().T, base[::-1], base[:, ::-2], base[3:9:2, 2:18:5], np.broadcast_to(base[0], (4, 20))):
        for v in (x[: W.shape[1]], x[::-1][: W.shape[1]], np.repeat(x, 3)[::3][: W.shape[1]]):
            np.testing.assert_allclose(f(W, v), W @ v, rtol=1e-13)


def test_arrays_that_need_conversion(make):
    f = make(ADD3)
    x, y, z = vectors()
    expected = x + y + z
    raw = np.zeros(8 * 6 + 1, np.uint8)
    misaligned = raw[1:].view(np.float64)
    misaligned[:] = y
    read_only = z.copy()
    read_only.flags.writeable = False
    for args in [
        (x.astype(">f8"), y, z),
        (x, misaligned, z),
        (x, y, read_only),
        (list(x), tuple(y), memoryview(z)),
        (x.view(type("Sub", (np.ndarray,), {})), y, z),
        (pickle.loads(pickle.dumps(x)), y, z),
        (np.ma.masked_array(x), y, z),
    ]:
        np.testing.assert_array_equal(f(*args), expected)
    assert type(f(x.view(np.recarray), y, z)) is np.ndarray
    small = np.arange(6, dtype=np.int16)
    np.testing.assert_array_equal(f(small, small.astype(np.float32), small > 2), 2.0 * small + (small > 2))
    np.testing.assert_array_equal(f([1, 2], [True, False], (0.5, 0)), [2.5, 2.0])


def test_an_unpickled_array_takes_the_fast_path(library):
    """Its descriptor is a copy of NumPy's own, so identity of descriptors alone would miss it."""
    f = make_function(ADD3, library)
    x, y, z = vectors()
    copied = pickle.loads(pickle.dumps(x))
    if copied.dtype is x.dtype:
        copied = np.ndarray(6, np.dtype("f8", copy=True), x.tobytes())
    assert copied.dtype is not x.dtype
    f.__dict__["_marshal"].__class__ = _NoFallback
    np.testing.assert_array_equal(f(copied, y, z), x + y + z)
    with pytest.raises(AssertionError, match="fallback"):
        f(x.astype(">f8"), y, z)


class _NoFallback(entry.Marshal):
    def __call__(self, *args, **named):
        raise AssertionError("fallback")


def test_empty_arrays(make):
    assert make(ADD3)(*np.zeros((3, 0))).shape == (0,)
    assert make(ADD3)([], [], []).shape == (0,)
    assert make(MATVEC_SIGNATURE)(np.zeros((0, 3)), np.ones(3)).shape == (0,)
    np.testing.assert_array_equal(make(MATVEC_SIGNATURE)(np.zeros((2, 0)), np.zeros(0)), [0.0, 0.0])


def test_no_parameters_and_no_results(make):
    assert make(Signature("nothing", (), (), ()))() == ()
    f = make(IOTA)
    np.testing.assert_array_equal(f(sizes={"n": 4}), [0, 1, 2, 3])
    with pytest.raises(TypeError, match=r"no argument shows the size of n; call with sizes=\{'n': ...\}"):
        f()
    for bad in (-1, 1.5, True, "4", None):
        with pytest.raises(TypeError, match="sizes: n cannot have the size"):
            f(sizes={"n": bad})
    with pytest.raises(ValueError, match="sizes names 'k'; its dimensions: n"):
        f(sizes={"k": 1, "n": 2})


def test_signatures_with_very_many_parameters(library):
    """Up to a frame that fits the stack well they are fast; beyond, they work all the same."""
    array = np.ones((2, 3))
    for count, is_fast in ((400, True), (4000, False)):
        params = tuple(f64(f"x{i}", "m", "n") for i in range(count))
        f = make_function(Signature("nothing", ("m", "n"), params, ()), library)
        assert f.is_fast is is_fast and f(*[array] * count) == ()
        with pytest.raises(ValueError, match=rf"^x{count - 1}: dimension m is 3 here .* but 2 in x0 \(axis 0\)$"):
            f(*[array] * (count - 1), array.T)


def test_many_random_calls_agree_between_the_paths(library):
    """Arguments of all kinds, right and wrong: the same values or the same error, bit for bit."""
    pairs = [
        [make_function(s, library, portable=p) for p in (False, True)] for s in (ADD3, PRODUCT, ECHO, INNER, ROOT)
    ]
    pool = [0.5, -1, True, None, 2**70, -(2**70), 1j, "a", [1.0, 2.0], np.float64(2.5), np.float32(0.5), np.int64(-4)]
    pool += [np.array(1.5), np.array(2), np.bool_(False), np.float32([1, 2]), np.arange(2.0), np.arange(3.0)]
    pool += [np.arange(4.0)[::2], np.arange(2), np.zeros((2, 1)), np.zeros(2, ">f8"), np.zeros(2, complex), math.inf]
    pool += [np.array([None, 1]), Fraction(1, 2), np.longdouble(1), np.uint8(3), np.zeros(1), np.array(0.25)]
    good = 0
    for _ in range(6000):
        fast, portable = pairs[RNG.integers(len(pairs))]
        count = len(fast.signature.params) + (RNG.random() < 0.02)
        args = [pool[i] for i in RNG.integers(len(pool), size=count)]
        if RNG.random() < 0.5:  # mostly alike, so that calls succeed as well
            args = [args[0]] * count
        first = outcome(fast, *args)
        assert first == outcome(portable, *args), args
        good += isinstance(first, list)
    assert good > 500


# ---- errors


def test_shape_errors(make):
    f, g = make(MATVEC_SIGNATURE), make(ADD3)
    W, x = RNG.standard_normal((3, 4)), RNG.standard_normal(5)
    with pytest.raises(ValueError, match=r"^x: dimension n is 5 here \(axis 0\) but 4 in W \(axis 1\)$"):
        f(W, x)
    with pytest.raises(ValueError, match=r"^W: expected shape \(m, n\), given \(5,\)$"):
        f(x, x)
    with pytest.raises(ValueError, match=r"^z: expected shape \(n,\), given \(\)$"):
        g(x, x, 1.0)
    with pytest.raises(ValueError, match=r"dimension n is 4 here .* but 9 in sizes"):
        g(*vectors(4), sizes={"n": 9})
    np.testing.assert_array_equal(g(x, x, x, sizes={"n": 5}), x + x + x)


def test_fixed_and_polynomial_axes(make):
    fixed = make(Signature("add3", ("n",), (f64("x", "n"), f64("y", "n"), f64("z", 4)), (f64("r", "n"),), single=True))
    x, y, z = vectors(4)
    np.testing.assert_array_equal(fixed(x, y, z), x + y + z)
    with pytest.raises(ValueError, match=r"^z: expected shape \(4,\), given \(3,\)$"):
        fixed(x, y, z[:3])
    inner = make(INNER)
    np.testing.assert_array_equal(inner(x, y[1:]), x + 0.5)
    message = r"^z: expected shape \(n - 1,\), given \(4,\): axis 0 has to be n - 1 = 3, because n = 4$"
    with pytest.raises(ValueError, match=message):
        inner(x, y)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"expected a float64 number, given None"),
        (1j, r"given complex 1j; the imaginary part would be lost"),
        ("1", r"given str"),
        (object(), r"given object"),
        (np.array(1.0, object), r"given ndarray of dtype object"),
        (np.longdouble(1), r"precision would be lost, convert with .astype\(np.float64\)"),
        (np.datetime64(1, "s"), r"given datetime64"),
        (2**2000, r"given int"),
        ([1.0, [2.0]], r"given list"),
        (np.ma.masked_array([1.0], [True]), "masked"),
    ],
)
def test_refused_as_float64(make, value, message):
    with pytest.raises(TypeError, match=f"^y: .*{message}"):
        make(PRODUCT)(1.0, value, 1.0)


def test_errors_of_foreign_arrays_say_which_argument(make):
    error = RuntimeError("copy it to the host first")

    class OnDevice:
        def __array__(self, dtype=None, copy=None):
            raise error

    with pytest.raises(RuntimeError, match="to the host first") as caught:
        make(ADD3)(np.ones(2), OnDevice(), np.ones(2))
    assert caught.value.__notes__ == ["y: expected a float64 array of shape (n,), given OnDevice"]


def test_arguments_are_asked_for_their_contents_once_and_in_turn(make):
    asked = []

    class Foreign:
        def __init__(self, size):
            self.size = size

        def __array__(self, dtype=None, copy=None):
            asked.append(self.size)
            return np.ones(self.size, np.float32)

    f, g = make(ADD3), make(PRODUCT)
    np.testing.assert_array_equal(f(Foreign(2), z=Foreign(2), y=[1, 2]), [3.0, 4.0])
    for function, args, message in [
        (f, (Foreign(3), "a", Foreign(4)), "^y: expected a float64 array"),
        (f, (Foreign(5), [1.0] * 5, Foreign(6)), "^z: dimension n is 6 here"),
        (g, (np.ones(1), Foreign(()), "a"), r"^x: expected shape \(\), given \(1,\)"),
        (g, (1.0, Foreign(1), "a"), r"^y: expected shape \(\), given \(1,\)"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            function(*args)
    assert asked == [2, 2, 3, 5, 6, 1]


def test_sizes_are_given_by_name(make):
    for sizes in (5, [("n", 3)], "n"):
        with pytest.raises(TypeError, match=r"^iota: sizes: expected a dict of sizes by name, given"):
            make(IOTA)(sizes=sizes)


def test_no_conversion_loses_anything(make):
    f = make(ECHO)
    for args, message in [
        ((1.0, np.float64(0.5), 1, True), r"^b: expected a float32 number, given float64 .*precision would be lost"),
        ((1.0, np.array(0.5), 1, True), r"^b: expected a float32 number.*precision would be lost"),
        ((1.0, 0.5, 1.0, True), r"^c: expected a int64 number, given float 1.0; floats are not rounded"),
        ((1.0, 0.5, np.array(1.0), True), r"^c: .*floats are not rounded"),
        ((1.0, 0.5, 1, 1), r"^e: expected a bool number, given int 1"),
        ((1.0, np.array(2**40), 1, True), r"^b: .*precision would be lost"),
    ]:
        with pytest.raises(TypeError, match=message):
            f(*args)
    with pytest.raises((TypeError, ValueError), match=r"^c: "):
        f(1.0, 0.5, 2**63, True)
    with pytest.raises(ValueError, match=r"^c: the value 18446744073709551615 does not fit into int64"):
        f(1.0, 0.5, np.uint64(2**64 - 1), True)
    assert f(1.0, 0.5, np.uint64(7), True)[2] == 7


def test_argument_counts_and_names(make):
    f = make(PRODUCT)
    for args, named, message in [
        ((1.0,), {}, r"^product: expected 3 arguments \(x, y, z\), given 1$"),
        ((1.0,) * 4, {}, r"given 4$"),
        ((1.0, 2.0), {"q": 3.0}, r"unexpected keyword 'q'"),
        ((1.0, 2.0), {"x": 3.0}, r"x is given by position and by name"),
        ((1.0, 2.0, 3.0), {"q": 1}, r"unexpected keyword 'q'"),
        ((1.0, 2.0), {"self": 3.0}, r"unexpected keyword 'self'"),
        ((1.0, 2.0, 3.0), {"out": 1.0}, r"out: expected a tuple of 4 arrays \(v, gx, gy, gz\), given float 1.0"),
    ]:
        with pytest.raises(TypeError, match=message):
            f(*args, **named)
    named_so = Signature("product", (), (f64("self"), f64("args"), f64("named")), PRODUCT.results)
    assert make(named_so)(1.5, named=2.0, args=3.0) == make(named_so)(named=2.0, self=1.5, args=3.0) == f(1.5, 3.0, 2.0)


def test_statuses_become_errors(make):
    f = make(dataclasses.replace(ROOT, name="f"), symbol="root")
    value, same = f(2.25)
    assert value == 1.5
    np.testing.assert_array_equal(same, [2.25])
    with pytest.raises(KernelError, match=r"^x has to be positive$"):
        f(-1.0)
    with pytest.raises(ZeroDivisionError, match=r"^x is zero {}$"):
        f(0.0)
    with pytest.raises(KernelError, match="status 7"):
        make(Signature("root", (), (f64("x"),), (f64("s"), f64("same", 1))))(-2.0)
    with pytest.raises(KernelError, match=r"^x has to be positive$"):
        f.bind(-1.0)()


def test_results_that_do_not_fit_in_memory(make):
    """The first result is made and must be given back when the second cannot be."""
    f = make(Signature("huge", (), (), (f64("a", 3), f64("b", 2**60 - 1))))
    before = sys.getrefcount(np.dtype(float))
    for _ in range(50):
        with pytest.raises((MemoryError, ValueError)):
            f()
    assert abs(sys.getrefcount(np.dtype(float)) - before) < 10


def test_contradictory_signatures():
    for build, message in [
        (lambda: Signature("f", ("n",), (), ()), "no parameter shows the size of n"),
        (lambda: Signature("f", ("n",), (f64("x", Minus("n", 1)),), ()), "no parameter shows the size of n"),
        (lambda: Signature("f", (), (f64("x", "n"),), ()), "'n', which is not declared"),
        (lambda: Signature("f", (), (f64("x"), f64("x")), ()), "parameter is named twice"),
        (lambda: Signature("f", (), (), (), single=True), "single means one result"),
        (lambda: Signature("f", (), (ArraySpec("x", "c128"),), ()), "dtype 'c128', not one of f64, f32"),
        (lambda: Signature("f", (), (f64("x", -1),), ()), "axis of size -1"),
        (lambda: Signature("f", (), (), (), given=("k",)), "given dimensions k"),
    ]:
        with pytest.raises(SignatureError, match=message):
            build()


# ---- out=


def test_out_is_written_and_returned(make):
    f = make(ADD3)
    x, y, z = vectors()
    for out in (np.empty(6), np.empty(18)[::3], np.empty(6)[::-1], np.empty((6, 2))[:, 1]):
        assert f(x, y, z, out=out) is out
        np.testing.assert_array_equal(out, x + y + z)
    out = np.empty(6)
    assert f(x, y, z, out=(out,)) is out
    value, gx = np.empty(()), np.empty(())
    answer = make(PRODUCT)(2.0, 3.0, 5.0, out=(value, None, gx, None))
    assert answer[0] is value and answer[2] is gx and answer[1] == 15.0 and answer[3] == 6.0
    assert (value[()], gx[()]) == (30.0, 10.0)


def test_out_may_share_memory_with_arguments(make):
    f = make(MATVEC_SIGNATURE)
    W, x = RNG.standard_normal((5, 5)), RNG.standard_normal(5)
    expected = W @ x
    assert f(W, x, out=x) is x
    np.testing.assert_allclose(x, expected, rtol=1e-13)
    line = RNG.standard_normal(9)
    expected = line[:8] + line[:8] + line[:8]
    make(ADD3)(line[:8], line[:8], line[:8], out=line[1:])
    np.testing.assert_array_equal(line[1:], expected)
    raw = np.zeros(8 * 6 + 1, np.uint8)[1:].view(np.float64)
    v = vectors()
    np.testing.assert_array_equal(make(ADD3)(*v, out=raw), v.sum(axis=0))


def test_out_takes_the_fast_path(library):
    """The portable path would give the same numbers, only 200 times slower."""
    f, g, matvec = (make_function(s, library) for s in (ADD3, PRODUCT, MATVEC_SIGNATURE))
    for function in (f, g, matvec):
        function.__dict__["_marshal"].__class__ = _NoFallback
    x, y, z = vectors()
    for out in (np.empty(6), np.empty(18)[::3], np.empty(6)[::-1], np.empty((6, 2), order="F")[:, 1]):
        before = sys.getrefcount(out)
        assert f(x, y, z, out=out) is out
        assert sys.getrefcount(out) == before
        np.testing.assert_array_equal(out, x + y + z)
    np.testing.assert_array_equal(f(x, y, z, out=None), x + y + z)
    f(np.zeros(0), np.zeros(0), np.zeros(0), out=np.zeros(0))
    cells = tuple(np.empty(()) for _ in range(4))
    assert g(2.0, np.array(3.0), 5, out=cells) is cells and [float(c) for c in cells] == [30.0, 15.0, 10.0, 6.0]
    row = RNG.standard_normal((2, 6))
    np.testing.assert_allclose(matvec(row, x, out=np.empty((2, 3))[:, 2]), row @ x, rtol=1e-13)
    for out in (x, np.empty(7), np.empty(6, np.float32), [0.0], np.lib.stride_tricks.as_strided(x, (6,), (0,)), (z,)):
        with pytest.raises(AssertionError, match="fallback"):
            f(x, y, z, out=out)
    with pytest.raises(AssertionError, match="fallback"):
        f(x, y, z=z, out=np.empty(6))


def test_random_views_of_one_buffer_as_arguments_and_outputs(library):
    """Whatever overlaps: the whole buffer ends up as on the portable path, and as NumPy computes it."""
    fast, portable = (make_function(ADD3, library, portable=p) for p in (False, True))
    f2, p2 = (make_function(ROOT, library, portable=p) for p in (False, True))
    disjoint = 0
    for _ in range(1500):
        n = int(RNG.integers(0, 7))
        start, step = RNG.integers(0, 60, 4), RNG.choice([-3, -2, -1, 1, 2, 3], 4)
        data = RNG.standard_normal(60)

        def run(function, start=start, step=step, data=data, n=n):
            buffer = np.concatenate([np.full(20, 7.0), data, np.full(20, 7.0)])
            views = [np.lib.stride_tricks.as_strided(buffer[20 + a :], (n,), (8 * b,))
                     for a, b in zip(start, step, strict=True)]  # fmt: skip
            expected = views[0] + views[1] + views[2]
            assert function(*views[:3], out=views[3]) is views[3]
            np.testing.assert_array_equal(views[3], expected)
            return buffer, views

        (one, views), (two, _) = run(fast), run(portable)
        np.testing.assert_array_equal(one, two)
        disjoint += not any(np.may_share_memory(views[3], v) for v in views[:3])
        pair = RNG.standard_normal(3) ** 2
        first, second = RNG.integers(0, 3, 2)
        results = [
            outcome(f, 2.25, out=(b[first : first + 1].reshape(()), b[second : second + 1]))
            for f, b in ((f2, pair.copy()), (p2, pair.copy()))
        ]
        assert results[0] == results[1] and isinstance(results[0], list) == (first != second)
    assert 100 < disjoint < 1400


def test_out_is_refused_when_it_cannot_take_the_result(make):
    f = make(ADD3)
    v = vectors()
    read_only = np.empty(6)
    read_only.flags.writeable = False
    for out, error, message in [
        (np.empty(5), ValueError, r"r has shape \(6,\), given an array of shape \(5,\)"),
        (np.empty((6, 1)), ValueError, "shape"),
        (np.empty(6, np.float32), TypeError, "r has dtype float64, given an array of dtype float32"),
        (np.empty(6, ">f8"), TypeError, "dtype"),
        (read_only, ValueError, "the array for r is read-only"),
        ([0.0] * 6, TypeError, "expected an array for r, given list"),
        ((np.empty(6), np.empty(6)), TypeError, "expected 1 arrays, given 2"),
    ]:
        with pytest.raises(error, match=f"^out: .*{message}"):
            f(*v, out=out)
    cell = np.empty(())
    with pytest.raises(ValueError, match="the arrays for v and gy share memory"):
        make(PRODUCT)(1.0, 2.0, 3.0, out=(cell, None, cell, None))


# ---- bound calls


def test_bound_calls_follow_the_buffers(make):
    f = make(ADD3)
    x, y, z = vectors()
    call = f.bind(x, y, z)
    assert call() is call.out
    x[:] = RNG.standard_normal(6)
    np.testing.assert_array_equal(call(), x + y + z)
    out = np.empty((6, 2))[:, 0]
    call = f.bind(x, z=z, y=y, out=out)
    assert call() is out
    np.testing.assert_array_equal(out, x + y + z)
    cell = np.array(4.0)
    product = make(PRODUCT).bind(cell, 2.0, 3)
    assert [float(v) for v in product()] == [24.0, 6.0, 12.0, 8.0]
    cell[()] = -1.0
    assert product() is product.out and float(product.out[0]) == -6.0
    np.testing.assert_array_equal(make(IOTA).bind(sizes={"n": 3})(), [0, 1, 2])
    del x, y, z, out, cell  # a bound call keeps what it needs
    gc.collect()
    assert call().shape == (6,)
    with pytest.raises(TypeError, match="takes no arguments"):
        call(1)


def test_bind_refuses_what_it_cannot_follow(make):
    f = make(ADD3)
    x, y, z = vectors()
    with pytest.raises(TypeError, match=r"^z: bind needs a float64 number .* given ndarray of dtype int64"):
        make(PRODUCT).bind(np.float64(2), np.float32(1.5), np.array(1))
    for bad in (list(x), x.astype(np.float32), x.astype(">f8")):
        with pytest.raises(TypeError, match=r"y: bind needs a float64 array of shape .* without a copy"):
            f.bind(x, bad, z)
    with pytest.raises(ValueError, match="the array for r shares memory with z"):
        f.bind(x, y, z, out=z)
    with pytest.raises(ValueError, match="misaligned or overlaps itself"):
        f.bind(x, y, z, out=np.lib.stride_tricks.as_strided(np.empty(6), (6,), (0,)))
    with pytest.raises(ValueError, match="dimension n is 5"):
        f.bind(x, y, z[:5])
