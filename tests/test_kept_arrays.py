"""Small results are given again once nobody refers to them: never while somebody can see them, always as new."""

import gc
import weakref

import numpy as np
import pytest
from crowd import together
from handmade_kernels import ADD3, MATVEC_SIGNATURE, vectors

from codegen.entry.ir import KEPT_EACH, KEPT_ELEMENTS

RNG = np.random.default_rng(20261128)
SOME = 3 * KEPT_EACH  # calls after which every place has been looked at, and what was put there, too


def total(v):
    return v[0] + v[1] + v[2]


def test_what_is_held_is_never_given_again(make):
    f = make(ADD3)
    inputs = [vectors() for _ in range(SOME)]
    results = [f(*v) for v in inputs]
    views = [f(*v)[2:] for v in inputs]
    buffers = [memoryview(f(*v)) for v in inputs]
    chained = f(f(*inputs[0]), f(*inputs[1]), f(*inputs[2]))
    for v, result, view, buffer in zip(inputs, results, views, buffers, strict=True):
        np.testing.assert_array_equal(result, total(v))
        np.testing.assert_array_equal(view, total(v)[2:])
        np.testing.assert_array_equal(np.asarray(buffer), total(v))
    np.testing.assert_array_equal(chained, total([total(v) for v in inputs[:3]]))
    assert len({result.ctypes.data for result in results}) == SOME


def test_what_is_dropped_is_given_again(make):
    f = make(ADD3)
    v = vectors()
    seen = {f(*v).ctypes.data for _ in range(1000)}
    if f.is_fast:
        assert len(seen) <= KEPT_EACH
    held = [f(*v) for _ in range(KEPT_EACH // 2)]
    for _ in range(SOME):
        held = [f(*v) for _ in held]  # as the stages of a step: each made while those of the last are there
        assert all(np.array_equal(h, total(v)) for h in held)


def strange_flags(y):
    y.flags.writeable = False


def strange_shape(y):
    y.shape = (2, y.size // 2)


def strange_kind(y):
    y.dtype = np.int64


def strange_contents(y):
    y[:] = np.nan


@pytest.mark.parametrize("change", [strange_flags, strange_shape, strange_kind, strange_contents])
@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
def test_changed_arrays_are_not_given_again(make, change):
    f = make(ADD3)
    v = [u[:4] for u in vectors()]
    for _ in range(SOME):
        y = f(*v)
        assert y.shape == (4,) and y.dtype == np.float64 and y.flags.num == np.empty(4).flags.num
        np.testing.assert_array_equal(y, total(v))
        change(y)


def test_watched_arrays_end(make):
    f = make(ADD3)
    v = vectors()
    watched = []
    ended = []
    for _ in range(SOME):
        y = f(*v)
        watched.append(weakref.ref(y, ended.append))
        y = None
    assert len(ended) >= SOME - KEPT_EACH and all(w() is None for w in watched[:-KEPT_EACH])
    for w in watched[-KEPT_EACH:]:  # still there, or ended: what is there has its contents
        assert w() is None or np.array_equal(w(), total(v))
    del f
    gc.collect()
    assert len(ended) == SOME


def test_a_watcher_may_call_again(make):
    f = make(ADD3)
    v = vectors()
    calls = []

    def again(_):
        calls.append(f(*v))

    watches = []
    for _ in range(SOME):
        watches.append(weakref.ref(f(*v), again))
    assert calls and all(np.array_equal(c, total(v)) for c in calls)


def test_other_sizes_and_large_arrays(make):
    f = make(MATVEC_SIGNATURE)
    for _ in range(SOME):
        for m in (0, 1, 3, KEPT_ELEMENTS, KEPT_ELEMENTS + 1):
            W, x = RNG.standard_normal((m, 2)), RNG.standard_normal(2)
            y = f(W, x)
            assert y.shape == (m,)
            np.testing.assert_allclose(y, W @ x, rtol=1e-12, atol=1e-12)
    y = f(np.ones((KEPT_ELEMENTS + 1, 2)), np.ones(2))
    ended = weakref.ref(y)
    del y
    assert ended() is None


def test_threads_do_not_share_results(make):
    f = make(ADD3)

    def work(seed):
        rng = np.random.default_rng(seed)
        held = []
        for i in range(3000):
            v = [rng.standard_normal(8) for _ in range(3)]
            held = [*held[-(i % 5) :], (v, f(*v))]
            for u, y in held:
                assert np.array_equal(y, total(u))

    together(work, [(seed,) for seed in range(4)])
