"""What programs execute, by hand for small loops, and the times that a machine of known figures predicts for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bills import MACHINE, k, m, n, x
from hypothesis import given
from hypothesis import strategies as st
from strategies import programs

import symdiff as sd
from codegen import compiled
from codegen.analysis import cutting
from codegen.analysis.strips import strips
from codegen.inspection.profile import KernelProfile, profile
from codegen.ir.loops import PARTS, For, Let
from codegen.schedule.jobs import build
from symdiff.api.expression import function_of
from symdiff.api.native import compile_function, profiler
from symdiff.cost import predict
from symdiff.cost.machine import burden
from symdiff.ir.dims import named

W, B = sd.symbol("W", (m, n)), sd.symbol("B", (n, k))


def executed(expression: Any, register: int = 32, **sizes: int) -> list[KernelProfile]:
    results = expression if isinstance(expression, list) else [expression]
    told = profiler(function_of(results))
    assert told is not None
    return told(sizes, register)


def total(kernels: list[KernelProfile], unit: str) -> float:
    return sum(s.times * s.units.get(unit, 0.0) for kernel in kernels for s in kernel.stretches)


# -------------------------------------------------------------------- instructions
def test_a_map_by_hand() -> None:
    """70 elements: twice 32, then two registers under a mask (the second half empty)."""
    made = executed(x * x + 1, n=70)
    assert total(made, "load") == 8 + 8 + 2
    assert total(made, "fma") == 8 + 8 + 2  # a product with a sum behind it
    assert (total(made, "store"), total(made, "masked_store")) == (16, 2)
    assert (total(made, "strip"), total(made, "mask"), total(made, "iteration")) == (1, 2, 4)
    assert sum(kernel.operations for kernel in made) == 2 * (64 + 8)


def test_wider_registers_need_fewer_instructions_of_the_same_work() -> None:
    narrow, wide = (executed(np.exp(x), register, n=640) for register in (32, 64))
    assert total(narrow, "exp") == 160 and total(wide, "exp") == 80
    single = executed(np.exp(sd.symbol("z", (n,), dtype="f32")), n=640)
    assert total(single, "exp") == 80


def test_rows_that_are_summed_by_hand() -> None:
    made = executed(W @ x, m=10, n=40)
    assert (total(made, "strip"), total(made, "total")) == (10, 10)
    assert total(made, "fma") == 10 * (8 + 2)
    assert total(made, "mask") == 10 * 2
    assert sum(kernel.operations for kernel in made) == 10 * 2 * 40


def test_a_matrix_product_by_hand() -> None:
    """Tiles of four rows and twelve columns, and of eight rows and the last four columns."""
    made = executed(W @ B, m=14, k=40, n=50)
    assert total(made, "tile") == 4 * 3 + 2
    assert total(made, "matrix") == 50 * (4 * 3 * (4 * 3) + 2 * (8 * 1))
    assert sum(kernel.operations for kernel in made) == 2 * 14 * 40 * 50


def test_half_of_a_symmetric_product_is_left_out() -> None:
    whole, half = executed(W.T @ sd.symbol("V", (m, n)), m=60, n=96), executed(W.T @ W, m=60, n=96)
    assert 0.5 < total(half, "matrix") / total(whole, "matrix") < 0.7


def test_what_stands_twice_is_computed_once() -> None:
    i, j = sd.symbol("i", (n,), "i64"), sd.symbol("j", (n,), "i64")
    once, twice = executed(x[i], n=64), executed(x[i] * x[i] + x[j], n=64)
    assert total(twice, "gather") == 2 * total(once, "gather") == 2 * 64


def test_a_chain_is_waited_for() -> None:
    s = sd.symbol("s", ())
    value = s
    for _ in range(20):
        value = value * s + 1
    (kernel,) = executed(value)
    assert max(stretch.waits for stretch in kernel.stretches) == pytest.approx(20 + 1.5)
    (sums,) = executed(np.cumsum(x), n=50)
    assert sum(s.times * s.waits for s in sums.stretches if s.times == 50) == 50


def test_routines_by_hand() -> None:
    A = sd.symbol("A", (n, n))
    made = executed(np.linalg.solve(A, x), n=30)
    assert total(made, "routine") == 2
    assert total(made, "routine_cube") == pytest.approx(30**3 / 3 + 30**2)


def test_a_loop_that_never_runs_executes_nothing() -> None:
    made = executed(np.tanh(W @ x), m=0, n=5)
    assert total(made, "tanh") == total(made, "fma") == 0
    assert predict(made, MACHINE).seconds > 0


@given(st.integers(0, 300), st.booleans(), st.booleans(), st.integers(0, 12), st.sampled_from([2, 4, 8]))
def test_strips_cover_every_iteration_once(
    extent: int, known: bool, dear: bool, more: int, lanes: int
) -> None:
    body: list[Any] = [Let(number, "add", (0, 0), "f64") for number in range(more)]
    body.append(Let(99, "exp" if dear else "mul", (0,), "f64"))
    loop = For("i", extent if known else named("n"), body, vector=True)
    cut = strips(loop, lanes, extent if known else None)
    runs = list(cut.runs(extent))
    whole = sum(width * count for width, count, masked in runs if not masked)
    rest = sum(width * count for width, count, masked in runs if masked)
    assert whole <= extent <= whole + rest
    assert rest < lanes + extent - whole or not rest
    assert all(width <= max(PARTS, 2 * lanes) for width, _, _ in runs)


@given(programs())
def test_every_program_has_a_profile(drawn: Any) -> None:
    program, _ = build(drawn.function, "f")
    made = profile(program, drawn.sizes)
    assert len(made) == len(program.kernels)
    for kernel in made:
        assert all(s.times >= 0 and s.waits >= 0 and min(s.units.values(), default=0) >= 0 for s in kernel.stretches)
        assert all(size >= 0 and since >= 0 for size, since, _ in kernel.traffic)
    assert predict(made, MACHINE).seconds >= MACHINE.call


def test_long_chains_are_read_in_one_walk() -> None:
    value = x
    for _ in range(3000):
        value = np.sin(value) + x
    told = profiler(value.function([x]))
    assert told is not None
    assert total(told({"n": 4}, 32), "sin") == 3000


# -------------------------------------------------------------------- memory
def moved(kernels: list[KernelProfile]) -> float:
    return sum(size for kernel in kernels for size, _, _ in kernel.traffic)


def test_arrays_are_moved_once_where_rows_stay_near() -> None:
    # What is written is fetched and given back.
    assert moved(executed(W + x, m=50, n=100)) == 8 * (50 * 100 + 100 + 2 * 50 * 100)
    # The total, and that of its only part, which is read again.
    assert moved(executed(np.sum(np.exp(np.sin(x) * x)), n=1000)) == 8 * 1000 + 16 + 16 + 8


def test_what_does_not_stay_is_moved_again() -> None:
    """A row of 64 kB is read for every row of the matrix; what lies between is that row and the matrix' own."""
    (kernel,) = executed(W + x, m=50, n=8000)
    again = [(size, since) for size, since, _ in kernel.traffic if since < 1e6]
    assert again == [(49 * 64_000, 3 * 64_000)]  # it is only read


def test_distances_between_kernels_and_calls() -> None:
    """The second sum reads what the first has just written; the argument was touched in the call before."""
    first, second = executed(np.cumsum(np.cumsum(x)), n=1000)
    assert sorted(first.traffic) == [(8000, 24000, False), (16000, 16000, False)]
    assert sorted(second.traffic) == [(8000, 16000, False), (16000, 24000, False)]


def test_columns_are_written_apart() -> None:
    (kernel,) = executed(sd.symbol("u", (m, 3)) @ sd.symbol("v", (3, n)), m=400, n=400)
    assert [size for size, _, apart in kernel.traffic if apart] == [2 * 8 * 400 * 400]


@pytest.mark.parametrize(("rows", "columns"), [(3000, 20), (500, 3000), (200_000, 3)])
def test_blocks_are_cut_as_the_code_cuts_them(rows: int, columns: int) -> None:
    """Blocks that fit the cache, rows so long that the shortest block is taken, and more chunks than usual."""
    sizes = {"m": rows, "n": columns}
    residual = W @ x - sd.symbol("b", (m,))
    function = function_of([sd.gradient(residual @ residual, x)])
    native = compile_function(function)
    program = compiled.inspect(native).program
    assert program.blocks, "this gradient runs over blocks of rows"
    arrays = [np.ones([sizes[str(s)] for s in p.type.shape]) for p in function.params]
    numbers, _ = compiled.inspect(native).measure(arrays, None)
    expected = {name: numbers[name] for name in numbers if name.startswith("#")}
    assert cutting.block_numbers(program.blocks, sizes) == expected


# -------------------------------------------------------------------- seconds
def test_prediction_of_one_loop_by_hand() -> None:
    """exp(x) of 64 elements, eight at a time: the exponentials weigh more than loads and stores."""
    told = predict(executed(np.exp(x), n=64), MACHINE)
    compute = 16 * 97e-9 + 43e-9 + (1.5 + 16) * 2e-9
    assert told.compute == pytest.approx(compute)
    assert told.memory == pytest.approx(3 * 512 / MACHINE.bandwidth_at(1024))
    assert told.overhead == pytest.approx(1e-7 + 79e-9)
    assert told.seconds == pytest.approx(compute + 1e-7 + 79e-9)
    assert (told.operations, told.bytes, told.bound) == (64, 3 * 512, "compute")
    large = predict(executed(x + x, n=10**7), MACHINE)
    assert large.memory == pytest.approx(24 * 10**7 / 1e9)
    assert large.intensity == pytest.approx(1 / 24)


def test_what_weighs_less_is_free() -> None:
    (kernel,) = executed(x + 1, n=64)
    taken = burden(kernel, MACHINE)
    assert "add" not in taken and taken["load"] == taken["store"] == 16


def test_bandwidth_between_measured_points() -> None:
    assert MACHINE.bandwidth_at(1) == 1e11
    assert MACHINE.bandwidth_at(1e5) == pytest.approx(1e10)  # half way on both log scales
    assert MACHINE.bandwidth_at(1e9) == 1e9
    assert MACHINE.bandwidth_at(1e5, apart=True) == pytest.approx(1e9)


def test_functions_never_measured_count_as_the_slowest() -> None:
    assert MACHINE.figure("exp") == 97e-9
    assert MACHINE.figure("arctan") == 101e-9
    assert MACHINE.peak == pytest.approx(60e9)


def test_deltas_stay_structure() -> None:
    """B (diag(s) (x) x): n^3 products, though the array with the delta has n^3 entries of its own and B n rows."""
    A, V = sd.symbol("A", (n, n)), sd.symbol("V", (n, n))
    program = sd.jacobian(V @ np.tanh(A @ x), A, "forward")
    small, large = (sum(kernel.operations for kernel in executed(program, n=size)) for size in (50, 100))
    assert 2**2.8 < large / small < 2**3.2

