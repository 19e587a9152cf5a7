"""Temporaries share places in memory, in the steps of scans as outside, and none is read behind another one's back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from codegen_programs import Program as Random
from codegen_programs import close
from scan_programs import random_scan

import codegen
import symdiff as sd
from codegen.analysis.slots import lives, share
from codegen.ir.index import Index, var
from codegen.ir.loops import Buffer, Call, For, Kernel, Let, Load, Pointer, Stmt, Store, accessed, statements
from codegen.schedule.jobs import build
from symdiff.api.expression import function_of
from symdiff.interp import interpret

n, m = sd.dims("n m")


def in_order(body: Sequence[Stmt], times: int) -> Iterator[Sequence[Stmt]]:
    """Statements as they run, loops of scans so many times; statements of other loops together."""
    for stmt in body:
        if isinstance(stmt, For) and stmt.steps:
            for _ in range(times):
                yield from in_order(stmt.body, times)
        else:
            yield list(statements([stmt]))


def read_back(kernels: Sequence[Kernel]) -> int:
    """Check that whatever is read is what the same buffer holds; gives how many places were used again."""
    places, owner = share(kernels)
    assert sorted(set(owner.values())) == list(range(len(places)))
    holder: dict[int, Buffer] = {}
    for kernel in kernels:
        for unit in in_order(kernel.body, 2):
            mine: dict[int, Buffer] = {}
            for stmt in unit:
                reads, writes = ({b.root for b in side} for side in accessed(stmt))
                for buffer in owner.keys() & (reads | writes):
                    place = owner[buffer]
                    assert mine.setdefault(place, buffer) is buffer, "shared within a loop nest"
                    found = buffer in writes or holder.get(place) is buffer
                    assert found, f"{buffer.name} is read where another one lies"
                    holder[place] = buffer
    return len(owner) - len(places)


@pytest.mark.parametrize("seed", range(40))
def test_no_temporary_is_read_behind_anothers_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    function = Random(rng).grow(14).function() if seed % 4 == 0 else random_scan(seed, every=seed % 2 == 0, steps=12)
    for threads in (1, 2):
        read_back(build(function, "f", threads)[0].kernels)


def waves(s: Any, t: Any) -> Any:
    """Many arrays one after the other, each needed by the next alone."""
    for _ in range(12):
        s = np.sin(s * t) + s[::-1] * 0.3
    return s


def places_of(outputs: Sequence[Any], inputs: Sequence[Any]) -> int:
    program, _ = build(function_of(outputs, inputs), "f")
    read_back(program.kernels)
    return len(share(program.kernels)[0])


def test_a_step_needs_no_more_places_than_the_same_outside(rng: Any) -> None:
    c, x, y = sd.symbol("c", (m,)), sd.symbol("x", (n,)), sd.symbol("y", (n, n))
    last, _ = sd.scan(lambda s, t: (waves(s, t), None), c, x)
    assert places_of([waves(c, x[0])], [c, x]) <= 2
    assert places_of([last], [c, x]) <= 4  # with the two that the carry takes turns in
    inner, _ = sd.scan(lambda s, row: (waves(sd.scan(lambda h, t: (waves(h, t), None), s, row)[0], row[0]), None), c, y)
    assert places_of([inner], [c, y]) <= 7
    function = function_of([inner, last], [c, x, y])
    args = rng.normal(size=9), rng.normal(size=3), rng.normal(size=(3, 3))
    for got, expected in zip(codegen.compile(function, opt=1)(*args), interpret(function, args), strict=True):
        close(got, expected, 1e-10)


# -------------------------------------------------------------------- lives, by hand
def temp(name: str) -> Buffer:
    return Buffer(name, "f64", (m,), "temp")


def write(buffer: Buffer, fold: str = "") -> Stmt:
    return For("i", m, [Let(0, "const", (), "f64", 1), Store(buffer, (var("i"),), 0, fold)])


def read(buffer: Buffer) -> Stmt:
    return For("i", m, [Load(0, buffer, (var("i"),))])


def steps(*body: Stmt, name: str = "t0") -> For:
    return For(name, n, list(body), steps=True)


def overlap(kernels: Sequence[Kernel], a: Buffer, b: Buffer) -> bool:
    spans = lives(kernels)
    return spans[a][0] <= spans[b][1] and spans[b][0] <= spans[a][1]


def test_what_a_step_fills_and_reads_lives_between() -> None:
    a, b = temp("a"), temp("b")
    assert not overlap([Kernel("k", [steps(write(a), read(a), write(b), read(b))])], a, b)
    assert overlap([Kernel("k", [steps(write(a), write(b), read(a), read(b))])], a, b)
    assert not overlap([Kernel("k", [write(a), read(a)]), Kernel("l", [write(b)])], a, b)
    assert overlap([Kernel("k", [For("j", n, [write(a), read(a), write(b)])])], a, b)  # no order in other loops


@pytest.mark.parametrize("first", [read, lambda a: write(a, "sum")])
def test_what_is_left_for_the_next_step_lives_as_long_as_the_loop(first: Any) -> None:
    a, b, c = temp("a"), temp("b"), temp("c")
    loop = steps(first(a), write(a), write(b), read(b))
    assert overlap([Kernel("k", [loop])], a, b)
    nested = steps(steps(first(a), write(a), name="t1"), write(b), read(b), write(c))
    assert overlap([Kernel("k", [nested])], a, b) and not overlap([Kernel("k", [nested])], b, c)


def test_what_is_touched_outside_of_a_loop_lives_through_it() -> None:
    a, b = temp("a"), temp("b")
    before: list[Stmt] = [write(a), steps(write(b), read(b), read(a), write(a))]
    behind: list[Stmt] = [steps(write(b), read(b), write(a)), read(a)]
    inside: list[Stmt] = [steps(write(a), steps(write(b), read(b), read(a), name="t1"), read(b), write(b))]
    for body in (before, behind, inside):
        assert overlap([Kernel("k", body)], a, b)
    apart: list[Stmt] = [steps(write(a), read(a)), steps(write(b), read(b))]
    assert not overlap([Kernel("k", apart)], a, b)


def test_a_routine_fills_what_it_writes() -> None:
    a, b = temp("a"), temp("b")
    call = Call("lu", "f64", (m, Pointer(a, (Index(),))), writes=(a,))
    assert not overlap([Kernel("k", [steps(call, read(a), write(b), read(b))])], a, b)
    looks = Call("lu", "f64", (m, Pointer(a, (Index(),)), Pointer(b, (Index(),))), writes=(b,))
    assert overlap([Kernel("k", [steps(write(b), read(b), looks)])], a, b)
