"""Repeated calls of transforms: the shortest way gives what the first call would, whatever changed in between."""

import copy
import gc
import pickle
import sys
import threading
import time
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
from crowd import together

import symdiff as sd
from codegen.entry import native as entry
from codegen.entry.guarded import Guarded
from symdiff.api import transformed, turns


@pytest.fixture(params=["fast", "portable"])
def way(request, monkeypatch):
    if request.param == "portable":
        monkeypatch.setattr(entry._entry, "made", {(): "not wanted here"})


def test_sizes_take_turns(way, rng):
    f = sd.jit(lambda x, y: x * np.sum(y))
    for n, m in [(3, 4), (3, 4), (5, 4), (3, 4), (4, 4), (4, 4), (5, 4), (1, 4), (1, 4), (3, 1), (0, 2), (3, 4)]:
        x, y = rng.normal(size=n), rng.normal(size=m)
        for _ in range(2):
            np.testing.assert_allclose(f(x, y), x * y.sum(), rtol=1e-14, atol=1e-14)


def test_answers_that_depend_on_sizes_are_given_anew(way):
    f = sd.jit(lambda x: x * 2 if x.shape[0] > 3 else x * 3)
    small, large = np.ones(3), np.ones(4)
    for x, factor in [(small, 3), (small, 3), (large, 2), (large, 2), (small, 3), (np.ones(9), 2), (small, 3)]:
        assert f(x)[0] == factor


def test_numbers_keep_the_dtype_of_what_they_meet(way):
    f = sd.jit(lambda x, y: x * y)
    single, double = np.ones(3, np.float32), np.ones(3)
    for x, y, dtype in [
        (double, 2.0, "f8"), (double, 2.0, "f8"), (single, 2.0, "f4"), (single, 2.0, "f4"), (double, 3, "f8"),
        (single, np.float64(2), "f8"), (single, np.float64(2), "f8"), (single, 2, "f4"), (double, np.float32(2), "f8"),
        (double, True, "f8"), (double, 2.0, "f8"), (np.arange(3), 2.0, "f8"),
    ]:  # fmt: skip
        got = f(x, y)
        assert got.dtype == np.dtype(dtype), (x.dtype, y)
        np.testing.assert_array_equal(got, np.asarray(x * y, dtype))


def test_kinds_of_numbers_are_kinds_of_programs(way):
    f = sd.jit(lambda k: k / 2)
    for k, expected in [(3, 1.5), (3.0, 1.5), (np.int64(3), 1.5), (3, 1.5), (np.float32(3), 1.5), (np.array(3.0), 1.5)]:
        for _ in range(2):
            assert f(k) == expected
    g = sd.jit(lambda x, flag: np.where(flag, x, -x))
    x = np.arange(3.0)
    for flag in (True, True, False, np.bool_(True), np.array(False), 1.0, 0):
        np.testing.assert_array_equal(g(x, flag), np.where(flag, x, -x))


def test_other_arguments_than_before(way):
    f = sd.value_and_grad(lambda x: np.sum(x * x))
    x = np.arange(3.0)
    for given in (x, x, x[::-1].copy()[::-1], x.astype(">f8"), np.ma.masked_array(x), x):
        value, gradient = f(given)
        assert value == 5.0
        np.testing.assert_array_equal(gradient, 2 * x)
    for wrong in (None, "x", object()):
        with pytest.raises((TypeError, sd.SymdiffError)):
            f(wrong)
    with pytest.raises(TypeError):
        f()
    f(x)
    with pytest.raises((TypeError, sd.SymdiffError)):
        f(x, x)


def test_failures_are_told_after_many_good_calls(way):
    f = sd.jit(np.linalg.cholesky)
    good = np.diag([4.0, 9.0])
    for _ in range(3):
        np.testing.assert_array_equal(f(good), np.diag([2.0, 3.0]))
    with pytest.raises(sd.SymdiffError, match="positive definite"):
        f(-good)
    np.testing.assert_array_equal(f(good), np.diag([2.0, 3.0]))


def test_a_compiled_function_inside_a_traced_one_stays_symbolic(way):
    inner = sd.jit(lambda x: np.sum(x**3))
    x = np.arange(3.0)
    for _ in range(3):
        assert inner(x) == 9.0
    outer = sd.grad(lambda t: inner(t) + inner(x) * t[0])
    np.testing.assert_array_equal(outer(x), 3 * x**2 + [9.0, 0, 0])


def test_repeated_calls_stay_in_native_code(monkeypatch, rng):
    f = sd.jit(lambda x, s: x * s)
    x = rng.normal(size=4)
    f(x, 2.0), f(x, 2.0)

    def never(*_):
        raise AssertionError("looked over again")

    monkeypatch.setattr(transformed.Transformed, "_known", never)
    np.testing.assert_array_equal(f(x, 3.0), 3 * x)
    with pytest.raises(AssertionError, match="looked over again"):
        f(x[:3], 3.0)


def test_threads_with_sizes_of_their_own(rng):
    f = sd.jit(lambda x, y: np.sum(x * y) + x)
    problems = [rng.normal(size=(2, n)) for n in (2, 3, 2, 5, 8, 3)]
    wrong = []

    def work(x, y):
        for _ in range(400):
            if not np.allclose(f(x, y), x @ y + x, rtol=1e-12, atol=1e-12):
                wrong.append(len(x))

    together(work, problems)
    assert not wrong


def shape_of(nested):
    return tuple(shape_of(n) for n in nested) if isinstance(nested, tuple) else None


def leaves_of(nested):
    return [leaf for n in nested for leaf in leaves_of(n)] if isinstance(nested, tuple) else [nested]


NESTS = {
    "value and gradient": lambda a, b, c, d: (a, (b, c, d)),
    "one in one": lambda a, b, c, d: ((a * b * c * d,),),
    "deep at the end": lambda a, b, c, d: (a, (b, (c, (d,)))),
    "deep at the start": lambda a, b, c, d: ((((a,), b), c), d),
    "pairs": lambda a, b, c, d: ((a, b), (c, d)),
    "twice the same": lambda a, b, c, d: (a, (a, (b, b)), (c, d, a)),
    "three in the middle": lambda a, b, c, d: (a, ((b, c, d), a), (b,)),
}


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
@pytest.mark.parametrize("sizes", [(None,) * 4, (None, 3, None, 5), (2, 0, 4, 1)], ids=["numbers", "mixed", "arrays"])
def test_nested_results(way, rng, nest, sizes):
    args = [rng.normal(size=n) if n is not None else float(rng.normal()) for n in sizes]
    if nest is NESTS["one in one"]:
        args = [rng.normal(size=3), *[float(rng.normal()) for _ in range(3)]]
    f = sd.jit(nest)
    expected = nest(*args)
    for _ in range(20):
        got = f(*args)
        assert shape_of(got) == shape_of(expected)
        for a, b in zip(leaves_of(got), leaves_of(expected), strict=True):
            assert isinstance(a, float) is isinstance(b, float)
            np.testing.assert_array_equal(a, b)


def test_nested_results_of_other_kinds(way, rng):
    x = rng.normal(size=3)
    f = sd.jit(lambda x: {"a": x, "b": [2 * x, (np.sum(x), None)], "c": ()})
    for _ in range(3):
        got = f(x)
        assert list(got) == ["a", "b", "c"] and got["c"] == () and got["b"][1][1] is None
        np.testing.assert_array_equal(got["b"][0], 2 * x)
        np.testing.assert_allclose(got["b"][1][0], x.sum(), rtol=1e-15)


def test_a_call_that_runs_out_of_memory_gives_back_what_it_made():
    memory = pytest.importorskip("_testcapi")
    f = sd.jit(lambda a, b: (a * b, (a + b, (a - b, a / b), b)))
    v = sd.jit(lambda x, s: (x * s, (s + s, (x + s, s * s)), x))
    x, expected = np.arange(1.0, 4.0), (10.0, (7.0, (3.0, 2.5), 2.0))
    # No number and no tuple is left over from before.
    spare = [[(float(i), i)[: 1 + i % 2], (i, i, i)[: 2 + i % 2]] for i in range(10_000)]
    for g, args in [(f, (5.0, 2.0)), (v, (x, 2.0))]:
        for _ in range(20):  # as many results are kept as ever
            g(*args)
        assert "Callee" in type(g).__mro__[1].__name__ or entry.fast_entry_status() != "fast"
        before = sys.getrefcount(x), sys.getrefcount(np.dtype(float))
        failed = 0
        for at in range(30):
            held = [g(*args) for _ in range(8)]  # nothing is left to be given again
            memory.set_nomemory(at, at + 1)
            try:
                g(*args)
            except MemoryError:
                failed += 1
            finally:
                memory.remove_mem_hooks()
            del held
        assert 2 < failed < 30
        assert (sys.getrefcount(x), sys.getrefcount(np.dtype(float))) == before
    assert f(5.0, 2.0) == expected and spare


def test_what_a_function_closes_over_may_be_a_symbol_later(way):
    held = [2.0]
    inner = sd.jit(lambda x: x * held[0])
    for _ in range(3):
        assert inner(3.0) == 6.0

    def outer(t):
        held[0] = t
        return inner(3.0)

    assert sd.grad(outer)(5.0) == 3.0
    held[0] = 2.0
    assert inner(3.0) == 6.0


def test_calls_while_another_thread_traces(rng):
    f = sd.jit(lambda x, y: (np.sum(x * y), (x, y)))
    x, y = rng.normal(size=(2, 5))
    f(x, y)

    def call(_):
        for _ in range(3000):
            value, (a, b) = f(x, y)
            assert abs(value - x @ y) < 1e-12 and np.array_equal(a, x) and np.array_equal(b, y)

    def derive(k):
        for i in range(20):
            assert sd.grad(lambda t, i=i: np.sum(t**k) * (i + 1))(x).shape == (5,)

    together(lambda work, k: work(k), [(call, 0), (derive, 2), (call, 1), (derive, 3)])


def test_transforms_as_objects(way):
    f = sd.jit(lambda x: x + 1)
    assert f(1.0) == f(1.0) == 2.0
    assert copy.copy(f) is f and copy.deepcopy([f])[0] is f
    with pytest.raises(TypeError, match="cannot be pickled; pickle the function"):
        pickle.dumps(f)
    assert next(map(f, [2.0])) == f.__call__(2.0) == f(*(2.0,)) == f(x=2.0) == 3.0
    ended = weakref.ref(f)
    gc.disable()
    try:
        del f
        assert ended() is None  # no cycle keeps it
    finally:
        gc.enable()


class Layer(NamedTuple):
    W: Any
    b: Any


def predicted(layers, x):
    for layer in layers:
        W, b = (layer["W"], layer["b"]) if isinstance(layer, dict) else layer
        x = np.tanh(W @ x) if b is None else np.tanh(W @ x + b)
    return x


def test_nested_arguments_take_turns(way, rng):
    """What the arguments are nested in, their sizes and their kinds change from call to call, and come back."""
    f = sd.value_and_grad(lambda layers, x: np.sum(predicted(layers, x) ** 2))

    def a(n, m):
        return rng.normal(size=(n, m)), rng.normal(size=n)

    W, b = a(4, 3)
    cases = [
        [{"W": W, "b": b}],
        [{"b": b, "W": W}],  # another order
        [{"W": W, "b": None}],
        [Layer(W, b)],
        [(W, b)],
        (Layer(W, b),),
        [Layer(W, None), Layer(*a(2, 4))],
        [Layer(W, b), Layer(*a(5, 4))],
        [{"W": a(7, 3)[0], "b": rng.normal(size=7)}],
        [{"W": W.astype(np.float32), "b": b.astype(np.float32)}],
        [{"W": W[::-1, ::-1], "b": b[::-1]}],
    ]
    x = rng.normal(size=3)
    for turn in range(3):
        for layers in cases:
            y = x.astype(np.float32) if layers is cases[9] else x
            for _ in range(1 + turn):
                value, gradient = f(layers, y)
                expected = np.sum(predicted(layers, y) ** 2)
                np.testing.assert_allclose(value, expected, rtol=1e-5 if layers is cases[9] else 1e-12)
                assert type(gradient) is type(layers) and len(gradient) == len(layers)
                for g, layer in zip(gradient, layers, strict=True):
                    assert type(g) is type(layer)
                    if isinstance(layer, dict):
                        assert list(g) == list(layer)
                        assert (g["b"] is None) is (layer["b"] is None) and g["W"].shape == layer["W"].shape
                    else:
                        assert (g[1] is None) is (layer[1] is None) and g[0].shape == layer[0].shape


def test_static_and_keyword_arguments_take_turns(way, rng):
    f = sd.jit(lambda x, k, s=1.0, how="sum": (np.sum if how == "sum" else np.max)(x**k * s), static_argnums=1)
    for n in (3, 3, 5, 3):
        x = rng.normal(size=n)
        for k in (2, 2, 3, 2):
            np.testing.assert_allclose(f(x, k), np.sum(x**k), rtol=1e-13)
            for s in (2.0, 3, np.float64(0.5), np.float32(0.25)):
                np.testing.assert_allclose(f(x, k, s=s), np.sum(x**k * s), rtol=1e-13)
                np.testing.assert_allclose(f(x, k, s=s, how="max"), np.max(x**k * s), rtol=1e-13)


def test_static_arguments_that_change_in_place_are_other_ones(way):
    f = sd.jit(lambda x, k: x * sum(k), static_argnums=1)
    x, weights = np.array([0.5, 2.0]), [1.0, 2.0]
    for _ in range(2):
        np.testing.assert_array_equal(f(x, weights), 3 * x)
    weights.append(4.0)
    for _ in range(2):
        np.testing.assert_array_equal(f(x, weights), 7 * x)
    assert f.compilations == 2


def test_a_finalizer_calls_a_transform_that_a_collection_found(way):
    found = []

    class Model:
        def __init__(self):
            self.scale = 3.0
            self.loss = sd.jit(lambda x: self.scale * np.sum(x * x))
            for _ in range(2):
                assert self.loss(np.ones(2)) == 6.0

        def __del__(self):
            found.extend([self.loss(np.ones(2)), self.loss(np.ones(4)), self.loss(x=np.ones((2, 3)))])

    Model()
    gc.collect()
    assert found == [6.0, 12.0, 18.0]


def test_arguments_that_are_no_numbers_are_told_by_name(way, rng):
    x = rng.normal(size=3)
    masked, half = np.ma.masked_array(x, [False, True, False]), x.astype(np.float16)
    for early in (False, True):  # as the first call, and after a program was made
        f, g = sd.grad(lambda w, x: np.sum(w * x)), sd.grad(lambda p, x: np.sum(p["w"] * x))
        if early:
            f(x, x), g({"w": x}, x)
        for bad, words in ((masked, "masked"), (half, "float16")):
            with pytest.raises(TypeError, match=f"w: .*{words}"):
                f(bad, x)
            with pytest.raises(sd.DtypeError, match=f"argument p_w: .*{words}"):
                g({"w": bad}, x)
        np.testing.assert_array_equal(f(np.ma.masked_array(x), x), x)


def test_failures_of_nested_calls_are_told(way):
    f = sd.jit(lambda p: np.linalg.cholesky(p["A"]))
    good = np.diag([4.0, 9.0])
    for _ in range(3):
        np.testing.assert_array_equal(f({"A": good}), np.diag([2.0, 3.0]))
    with pytest.raises(sd.SymdiffError, match="positive definite"):
        f({"A": -good})
    with pytest.raises(sd.SymdiffError):
        f({"A": good[0]})
    np.testing.assert_array_equal(f({"A": good}), np.diag([2.0, 3.0]))


def test_nested_calls_stay_in_native_code(monkeypatch, rng):
    f = sd.grad(lambda p: np.sum(p["x"] ** 2) * p["s"][0])
    x = rng.normal(size=4)
    f({"x": x, "s": (2.0,)})

    def never(*_):
        raise AssertionError("looked over again")

    monkeypatch.setattr(transformed.Transformed, "_slow", never)
    got = f({"x": x, "s": (3.0,)})
    np.testing.assert_allclose(got["x"], 6 * x, rtol=1e-14)
    np.testing.assert_allclose(got["s"], (x @ x,), rtol=1e-14)
    with pytest.raises(AssertionError, match="looked over again"):
        f({"x": x[:3], "s": (3.0,)})


def test_threads_with_one_first_call_wait_for_what_one_of_them_makes(rng):
    traced = []

    def f(x, k):
        traced.append(threading.get_ident())
        time.sleep(0.05)  # the others come while this one is at work
        return np.sum(np.sin(x) ** k)

    x = rng.normal(size=9)
    alone = sd.value_and_grad(f)
    expected = alone(x, 2.0)
    count, traced[:] = len(traced), []
    fn = sd.value_and_grad(f)
    start, found = threading.Barrier(6), []

    def call():
        start.wait()
        found.append(fn(x, 2.0))

    together(call, [()] * 6)
    assert len(traced) == count and len(set(traced)) == 1 and fn.compilations == 1 and len(fn.native) == 1
    for value, slope in found:
        assert value == expected[0] and np.array_equal(slope, expected[1])


def test_nobody_waits_for_ever_for_a_call_that_waits_for_it(monkeypatch):
    monkeypatch.setattr(turns, "LONGEST", 0.2)

    def f(x):
        if not asked:
            asked.append(True)
            other = threading.Thread(target=lambda: found.append(fn(2.0)))
            other.start()
            other.join()
        return x * x

    asked, found = [], []
    fn = sd.jit(f)
    assert fn(3.0) == 9.0 and found == [4.0]


def test_callables_by_keyword_do_not_pile_up(rng, monkeypatch):
    monkeypatch.setattr(transformed, "MOST_KEYWORDED", 4)
    fn = sd.grad(lambda x, act: np.sum(act(x)))
    x = rng.normal(size=3)
    acts = [lambda z, k=k: k * z * z for k in range(8)]
    for k, act in enumerate(acts):
        np.testing.assert_allclose(fn(x, act=act), 2 * k * x)
        np.testing.assert_allclose(fn(x, act=acts[0]), 0 * x)  # what is used stays
    assert fn.compilations == 4
    ended = weakref.ref(acts[1])
    del acts[1], act
    gc.collect()
    assert ended() is None
    np.testing.assert_allclose(fn(x, act=acts[1]), 4 * x)


def test_what_threads_call_through_at_once_is_kept(monkeypatch):
    """Threads with the same first call of nested arguments each make a way into native code: none of them may go."""
    both, one, attached = threading.Barrier(2, timeout=60), threading.Event(), []
    guarded, attach = entry.NativeFunction.guarded, Guarded.attach

    def late(*args):
        if both.wait() == 0:  # either has seen that there is none
            assert one.wait(60)
        return guarded(*args)

    def recorded(self, instance):
        attached.append(weakref.ref(self))
        attach(self, instance)
        one.set()

    fn, x = sd.jit(lambda d: np.sum(d["a"])), np.arange(3.0)
    monkeypatch.setattr(entry.NativeFunction, "guarded", late)
    monkeypatch.setattr(Guarded, "attach", recorded)
    together(lambda: np.testing.assert_equal(fn({"a": x}), 3.0), [()] * 2)
    assert attached and all(reference() is not None for reference in attached)
    assert fn({"a": x}) == 3.0


def test_threads_that_call_with_the_same_callable_compile_it_once():
    traced = []

    def f(x, act):
        traced.append(act)
        return np.sum(act(x))

    fn, x = sd.jit(f), np.arange(3.0)
    fn(x, act=np.exp)
    count = len(traced)

    def call():
        for _ in range(1000):
            fn(x, act=np.exp)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        together(call, [()] * 4)
    finally:
        sys.setswitchinterval(interval)
    assert len(traced) == count and fn.compilations == 1
