"""Tuples and numbers of earlier calls are used again once nobody refers to them: never while somebody can see them."""

import collections
import gc
import itertools
import sys
import weakref

import numpy as np
import pytest
from crowd import together
from handmade_kernels import PRODUCT, ROOT

import symdiff as sd
from codegen.entry.ir import KEPT_EACH, KEPT_ELEMENTS

RNG = np.random.default_rng(20261129)
SOME = 3 * KEPT_EACH  # calls after which every place has been looked at, and what was put there, too


def expected(x, y, z):
    return x * y * z, y * z, x * z, x * y


def mixed(x, s):
    """Every kind of result, some of them nested twice."""
    return s * 2, (x * s, (1000 * np.sum(x > 0), np.any(x > 0)), np.sum(x)), np.argmax(x), x[:1] + s


def same(a, b):
    if isinstance(b, tuple):
        return type(a) is tuple and len(a) == len(b) and all(map(same, a, b))
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-13)


def arguments(n=4):
    return RNG.standard_normal(n), float(RNG.standard_normal())


def test_numbers_that_are_held_stay_as_they_are(make):
    f = make(PRODUCT)
    inputs = [tuple(map(float, RNG.standard_normal(3))) for _ in range(SOME)]
    whole = [f(*v) for v in inputs]
    first = [f(*v)[0] for v in inputs]
    rest = [f(*v)[1:] for v in inputs]
    unpacked = []
    for v in inputs:
        value, *slopes = f(*v)
        unpacked.append((value, *slopes))
    for v, all_of_it, value, slopes, parts in zip(inputs, whole, first, rest, unpacked, strict=True):
        assert all_of_it == (value, *slopes) == parts == expected(*v)
    assert len({id(answer) for answer in whole}) == len({id(value) for value in first}) == SOME


@pytest.mark.parametrize("held", [0, 1, KEPT_EACH - 1, KEPT_EACH, 2 * KEPT_EACH + 1])
def test_the_last_answers_are_right(make, held):
    f = make(PRODUCT)
    g = sd.jit(mixed)
    answers = collections.deque(maxlen=held)
    for i in range(10 * KEPT_EACH):
        v, w = tuple(map(float, RNG.standard_normal(3))), arguments(2 + i // 20)
        answers.append((v, f(*v), w, g(*w)))
        assert all(got == expected(*v) and same(nested, mixed(*w)) for v, got, w, nested in answers)


@pytest.mark.parametrize(
    "part", [lambda a: a, lambda a: a[1], lambda a: a[1][1], lambda a: a[0], lambda a: a[1][0], lambda a: a[1][2]]
)
def test_parts_of_nested_answers_stay_as_they_are(part):
    f = sd.jit(mixed)
    held = []
    for _ in range(SOME):
        v = arguments()
        held.append((part(f(*v)), part(mixed(*v))))
        assert same(f(*v), mixed(*v))
    assert all(same(a, b) for a, b in held)


def test_an_answer_may_be_given_back(make):
    f = make(PRODUCT)
    g = sd.jit(lambda x, y: (x + y, x - y))
    x = y = 1.0
    for _ in range(SOME):
        assert f(*f(2.0, 3.0, 5.0)[:3]) == expected(30.0, 15.0, 10.0)
        x, y = 1.0, 1.0
        for _ in range(20):
            assert g(*g(x, y)) == (2 * x, 2 * y)
            x, y = (v / 1.5 for v in g(*g(x, y)))


def test_hashes_are_those_of_the_contents(make):
    f = make(PRODUCT)
    g = sd.jit(lambda x: (x, (x + 1, x)))
    for i in range(SOME):
        v = float(i), 2.0, 3.0
        assert hash(f(*v)) == hash(expected(*v)) and {f(*v)} == {expected(*v)}
        assert hash(g(v[0])) == hash((v[0], (v[0] + 1, v[0]))) and hash(g(v[0])[1]) == hash((v[0] + 1, v[0]))


def test_answers_without_holders_cost_no_memory(make):
    f = make(PRODUCT)
    g = sd.jit(mixed)
    v = arguments()
    seen = {id(f(1.0, 2.0, float(i))) for i in range(1000)}, {id(g(*v)) for _ in range(1000)}
    if f.is_fast:
        assert all(len(ids) <= KEPT_EACH + 2 for ids in seen)
    blocks = sys.getallocatedblocks()
    for i in range(2000):
        f(1.0, 2.0, float(i)), g(*v)
    assert sys.getallocatedblocks() - blocks < 100


def test_large_parts_end_with_their_holders():
    f = sd.jit(lambda x: (np.sum(x), (x * 2, np.sum(x * x))))
    for n in (3, KEPT_ELEMENTS + 1, 3, 2, KEPT_ELEMENTS + 1, KEPT_ELEMENTS + 2, 3):
        x = RNG.standard_normal(n)
        for _ in range(SOME):
            answer = f(x)
            assert same(answer, (x.sum(), (x * 2, (x * x).sum())))
            ended = weakref.ref(answer[1][0])
            del answer
            assert n <= KEPT_ELEMENTS or ended() is None


def test_a_watcher_of_a_part_may_call_again():
    f = sd.jit(mixed)
    v = arguments()
    calls, watches = [], []
    for _ in range(SOME):
        watches.append(weakref.ref(f(*v)[1][0], lambda _: calls.append(f(*v))))
    del watches
    assert all(same(c, mixed(*v)) for c in calls)


def test_an_answer_found_where_it_is_kept_has_as_many_references_as_holders(make):
    """By the collector anybody comes to the list, also while a call is at work on what is in it."""
    f = make(ROOT)
    if not f.is_fast:
        return
    kept = f._keep[1]
    found = []

    def find(_):
        found.extend(t for t in kept if t is not None)
        for i in range(SOME):
            f(float(i + 1))

    alone = object()
    watches = [weakref.ref(f(2.0)[1], find) for _ in range(KEPT_EACH)]
    for i in range(SOME):
        answer = f(float(i + 1))
        held = sum(t is answer for t in itertools.chain(found, kept))
        assert sys.getrefcount(answer) == held + sys.getrefcount(alone)
    assert found
    del watches


def test_a_collection_may_look_at_everything(make):
    f = make(PRODUCT)
    g = sd.jit(mixed)
    v = arguments()
    seen = []
    for i in range(SOME):
        answer, nested = f(1.0, 2.0, float(i)), g(*v)
        gc.collect()
        seen += [answer, nested, *itertools.chain.from_iterable(gc.get_referrers(answer[0], nested[1]))][:4]
        assert repr(answer) == repr(expected(1.0, 2.0, float(i))) and same(nested, mixed(*v))


def test_threads_do_not_share_answers(make):
    f = make(PRODUCT)
    g = sd.jit(mixed)
    h = make(PRODUCT, release_above=-1)  # without the GIL the kernel writes into what the call has taken

    def work(seed):
        rng = np.random.default_rng(seed)
        held = []
        for i in range(1500):
            v, w = tuple(map(float, rng.standard_normal(3))), (rng.standard_normal(3), 0.5)
            held = [*held[-(i % 4) :], (v, f(*v), h(*v), w, g(*w))]
            for v, a, b, w, nested in held:
                assert a == b == expected(*v) and same(nested, mixed(*w))

    together(work, [(seed,) for seed in range(4)])
