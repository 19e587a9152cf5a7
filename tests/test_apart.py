"""Which loops threads may share: the analysis against every place of small loops, and kernels of whole programs."""

import itertools

import numpy as np
import pytest

import symdiff as sd
from codegen import inspect, pool
from codegen.apart import apart
from codegen.index import make
from codegen.loops import Buffer, Call, For, Let, Load, Pointer, Stmt, Store
from symdiff.ir.dims import Dim

n, m = sd.dims("n m")


def loop_places(index, i, extents):
    """The places of an access in iteration i, by enumeration."""
    names = [name for name, _ in index[0].terms + (index[1].terms if len(index) > 1 else ()) if name != "i"]
    for values in itertools.product(*(range(extents[name]) for name in names)):
        known = {"i": i, **dict(zip(names, values, strict=True))}
        yield tuple(sum(c * known[v] for v, c in one.terms) + one.const for one in index)


def meet(accesses, extents):
    """Whether two iterations of `i` touch one place, one of them writing."""
    seen: dict[tuple[int, ...], tuple[int, bool]] = {}
    for i in range(extents["i"]):
        now: dict[tuple[int, ...], bool] = {}
        for index, writes in accesses:
            for place in loop_places(index, i, extents):
                now[place] = now.get(place, False) or writes
        for place, writes in now.items():
            if place in seen and (writes or seen[place][1]):
                return True
            seen[place] = i, writes or seen.get(place, (0, False))[1]
    return False


@pytest.mark.parametrize("rank", [1, 2])
def test_what_is_called_apart_never_meets(rank, rng):
    extents = {"i": 4, "j": 3}
    agreed = claimed = 0
    for _ in range(3000):
        accesses = []
        for number in range(rng.integers(1, 4)):
            index = tuple(
                make({"i": int(rng.integers(-3, 7)), "j": int(rng.integers(-1, 3))}, int(rng.integers(0, 16)))
                for _ in range(rank)
            )
            if number and rng.random() < 0.6:  # the same steps, elsewhere
                index = tuple(make(dict(one.terms), int(rng.integers(0, 16))) for one in accesses[0][0])
            accesses.append((index, number == 0 or rng.random() < 0.5))
        buffer = Buffer("b", "f64", (100,) * rank, "result")
        body: list[Stmt] = [Let(0, "const", (), "f64", 1)]
        inside = [Store(buffer, x, 0) if w else Load(1 + k, buffer, x) for k, (x, w) in enumerate(accesses)]
        found = apart("i", extents["i"], [*body, For("j", extents["j"], list(inside))])
        free = not meet(accesses, extents)
        assert free or not found, [(str(x), w) for x, w in accesses]
        claimed += found
        agreed += free
    assert 0 < claimed <= agreed
    assert claimed > 0.35 * agreed


def symbolic(*accesses, extent: "Dim | int" = n, inner: "Dim | int" = m, shape=(n * m,)):
    """Whether loops over n and m are apart that write at the given places (terms of i and j, and a constant)."""
    buffer = Buffer("b", "f64", shape, "result")
    stores = [Store(buffer, tuple(make(t, c) for t, c in index), 0) for index in accesses]
    return apart("i", extent, [For("j", inner, [Let(0, "const", (), "f64", 1), *stores])])


def test_symbolic_sizes():
    assert symbolic([({"i": m, "j": 1}, 0)])
    assert not symbolic([({"i": m, "j": 1}, 0)], [({"i": m, "j": 1}, 1)])  # the last of a row and the first of the next
    assert symbolic([({"i": m + 1, "j": 1}, 0)], [({"i": m + 1, "j": 1}, 1)])
    assert not symbolic([({"i": m - 1, "j": 1}, 0)])
    assert symbolic([({"i": 1}, 3), ({"j": 1}, 0)], shape=(n + 3, m))
    assert not symbolic([({"i": 1}, 0), ({"j": 1}, 0)], [({"i": 1}, 1), ({"j": 1}, 0)], shape=(n + 1, m))
    assert symbolic([({"i": 1}, 0), ({"j": 1}, 0)], [({"i": 1}, n), ({"j": 1}, 0)], shape=(2 * n, m))
    assert symbolic([({"i": -1}, n - 1), ({"j": 1}, 0)], shape=(n, m))
    assert not symbolic([({"j": 1}, 0)], shape=(m,))
    half = (m + 1) // 2
    assert symbolic([({"i": half, "j": 1}, 0)], inner=half)
    assert not symbolic([({"i": m // 2 - 1, "j": 1}, 0)], inner=m // 2)


def test_data_and_routines():
    buffer, flat = Buffer("b", "f64", (n, m, m), "temp"), Buffer("f", "f64", (n * m * m,), "temp")
    flat.base = buffer
    assert not apart("i", n, [Load(0, buffer, (make({"i": 1}), make({}), make({}))),
                              Store(buffer, (make({"%0": 1}), make({}), make({})), 0)])  # fmt: skip

    def called(place):
        return apart("i", n, [Call("lu", "f64", (m, place), writes=(place.buffer,))])

    assert called(Pointer(buffer, (make({"i": 1}), make({}), make({}))))
    assert not called(Pointer(buffer, (make({}), make({"i": 1}), make({}))))
    assert called(Pointer(flat, (make({"i": m * m}),)))
    assert not called(Pointer(flat, (make({"i": m}),)))
    assert not called(Pointer(flat, (make({"i": m * m}, 1),)))


def shared(outputs, inputs):
    program = inspect(sd.compile(outputs, inputs, threads=2)).program
    return [k.work is not None for k in program.kernels]


@pytest.mark.skipif(not pool.available(), reason="no POSIX threads here")
def test_kernels_of_programs():
    x, A, y = sd.symbol("x", (n,)), sd.symbol("A", (m, n, n)), sd.symbol("y", (m, n))
    assert shared(np.concatenate([np.exp(y), np.sin(y)], axis=0), [y]) == [True]
    assert shared(np.concatenate([np.zeros(1), np.exp(x[:-1])]), [x]) == [False, True]
    assert all(shared(np.exp(A - np.sum(A, axis=2, keepdims=True)), [A]))
    assert all(shared(np.linalg.inv(A), [A]))
    assert all(shared(np.linalg.solve(A, y[:, :, None])[:, :, 0], [A, y]))
