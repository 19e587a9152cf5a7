"""What the code of a program executes at given sizes: instructions by class, how often, and which bytes it touches.

Takes a `Program` and sizes; gives a `KernelProfile` per kernel, in plain numbers, as `codegen.kernels.emit` writes the
code: the strips of a vector loop, masked ends, totals folded up, tiles of matrix products. How long that takes is not
said here. The classes of a stretch:

    add multiply fma divide compare extremum integer shuffle   on registers (a scalar takes as long as a full one)
    load store masked_store      a register from and to memory
    gather scatter               one lane's elements, at a place of its own
    <name>                       a function of the vector math library, on one register
    iteration strip mask total   of loops: once round, a vector loop begun, a half-filled register, partial results
                                 folded up
    kernel product tile packed   calls; calls, tiles and packed elements of matrix products
    routine routine_line routine_square routine_cube   a call of LAPACK, its rows, elements and multiplications

`waits` counts steps that wait for one another, a step being a multiplication with its addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from codegen.analysis.cutting import block_numbers
from codegen.analysis.facts import BLOCK, CHAIN, CHAINS, OF_EACH, column_fold, in_stretches, light
from codegen.analysis.footprint import Loop, Moved, Traffic
from codegen.analysis.strips import SHORT, may_be_short, strips, vector_width
from codegen.inspection.unsized import Unsized
from codegen.ir.index import flatten
from codegen.ir.loops import Call, Count, For, Kernel, Let, Load, Pointer, Program, Stmt, Store, Trap
from codegen.kernels.columns import PANEL
from codegen.kernels.narrow import LONGEST, narrow_rows
from codegen.llvm.text import registers
from codegen.products.gemm import tiling
from codegen.products.tiles import CHAIN as CHAIN_OF_PRODUCTS
from codegen.schedule.jobs import build
from symdiff.ir.dims import Size, evaluate
from symdiff.ir.graph import Function

FUNCTION_STEPS: Final = 16.0
"""Steps of a function of the vector math library: its argument reduced, then a polynomial."""
_STEPS: Final = {"div": 4.0, "sqrt": 5.0, "mod": 10.0, "floor_divide": 10.0}
_LOAD_STEPS: Final = 1.5
_TWO_SUM: Final = 7.0
"""Instructions that add the total of a stretch and keep what rounding leaves."""
_FOLDS: Final = 9
"""Instructions that fold so many partial results up,"""
_SHORT_TOTAL: Final = 0.4
"""and the part of that which a row in few registers takes,"""
_NARROW_TOTAL: Final = 0.1
"""and one among as many rows as a register has lanes."""

_CLASSES: Final[Mapping[str, Mapping[str, float]]] = {
    "add": {"add": 1}, "sub": {"add": 1}, "mul": {"multiply": 1}, "div": {"divide": 1},
    "neg": {"compare": 1}, "abs": {"compare": 1}, "select": {"compare": 1}, "sign": {"compare": 5},
    "maximum": {"extremum": 1}, "minimum": {"extremum": 1}, "clip": {"extremum": 2}, "relu": {"compare": 2},
    "finite_or_zero": {"compare": 3}, "cast": {"compare": 2}, "floor": {"add": 2}, "ceil": {"add": 2},
    "round": {"add": 2}, "trunc": {"add": 2}, "logaddexp": {"softplus": 1, "extremum": 1, "add": 3, "compare": 3},
    **{op: {"compare": 1} for op in ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not")},
}  # fmt: skip
"""Instructions of the operations that are no functions of the vector math library."""
_MOVES: Final = frozenset({"select", "cast"})
_HALF: Final = {"sin": 0.6, "cos": 0.6, "sinh": 0.6, "cosh": 0.6, "softplus": 0.8, "sigmoid": 0.6}
"""What is left of the cost of functions that are computed together with another one; a bell costs nothing more."""

_ROUTINES: Final[Mapping[str, tuple[float, float]]] = {
    "lu": (1.0, 1 / 3), "inverse": (2.0, 2 / 3), "solve": (0.2, 1.0), "triangular_solve": (0.1, 0.5),
    "cholesky": (1.0, 1 / 6),
}  # fmt: skip
"""Elements gone through, in n^2, and multiplications, in n^3 (n^2 for each right side)."""


@dataclass(eq=False)
class Stretch:
    """Straight code that runs `times` often. units: its instructions by class. waits: steps that one run takes however
    few its instructions."""

    times: float
    units: dict[str, float] = field(default_factory=dict[str, float])
    waits: float = 0.0

    def count(self, name: str, amount: float = 1.0) -> None:
        """So many more instructions of a class."""
        self.units[name] = self.units.get(name, 0.0) + amount


@dataclass(eq=False)
class KernelProfile:
    """One kernel: its stretches, and what it moves, as (bytes, bytes touched since they were touched before,
    whether in lines that lie apart).

    `operations` are those on numbers, an addition with a multiplication two.
    """

    name: str
    stretches: list[Stretch] = field(default_factory=list[Stretch])
    traffic: list[Moved] = field(default_factory=list[Moved])
    operations: float = 0.0


def profiler(function: Function) -> Callable[[Mapping[str, int], int], list[KernelProfile]]:
    """The profile of a function's native code at sizes, on registers of so many bytes; it is lowered once, here."""
    program, _ = build(function, "kernel")
    known = Unsized()
    return lambda sizes, register_bytes: profile(program, sizes, register_bytes, known=known)


def profile(
    program: Program, sizes: Mapping[str, int], register_bytes: int = 32, known: Unsized | None = None
) -> list[KernelProfile]:
    """Every kernel in order, on one thread; `sizes` has all named dimensions. known: of earlier profiles of it."""
    known = known or Unsized()
    numbers = {**sizes, **block_numbers(program.blocks, sizes)}
    traffic = Traffic(program, numbers)
    made: list[KernelProfile] = []
    for kernel in program.kernels:
        reader = _Reader(kernel, known, numbers, register_bytes)
        own = reader.read()
        own.traffic = traffic.of(kernel, reader.loops)
        made.append(own)
    return made


@dataclass(eq=False, slots=True)
class _Run:
    """A body to be read: it runs `times` often, inside of loops, with so many lanes of a vector loop over `vector`.

    top: it runs once, and nothing beside it hides what it waits for. parts: the folds inside run in so many parts, once
    for each. beside: there are several loops in it, so that one waits for the other. resting: partial results stay in
    registers.
    """

    body: Sequence[Stmt]
    loop: For | None
    times: float
    around: Mapping[str, Loop]
    width: int = 1
    vector: str = ""
    masked: bool = False
    varying: set[int] = field(default_factory=set[int])
    top: bool = False
    parts: float = 1.0
    beside: bool = False
    resting: bool = False


class _Reader:
    """Reads one kernel."""

    def __init__(self, kernel: Kernel, known: Unsized, numbers: Mapping[str, int], register_bytes: int) -> None:
        self.kernel, self.known, self.numbers = kernel, known, numbers
        self.register_bytes = register_bytes
        uses = known.uses(kernel)
        self.fused: set[int] = uses.fused
        self.halves = uses.halves
        self.lanes = vector_width(kernel, register_bytes)
        self.made = KernelProfile(kernel.name)
        self.loops: dict[int, Loop] = {}
        """By the identity of loops: names come again."""
        self._same: dict[int, int] = {}
        """Scalars that are another one again, which the compiler finds."""
        self._numbers: dict[object, int] = {}
        self._known: dict[Size, int] = {}

    def number(self, size: Size) -> int:
        """A size in numbers."""
        if isinstance(size, int):
            return size
        found = self._known.get(size)
        if found is None:
            found = self._known[size] = evaluate(size, self.numbers)
        return found

    def read(self) -> KernelProfile:
        """The whole kernel."""
        self._add(Stretch(1.0, {"kernel": 1.0}))
        pending = [_Run(self.kernel.body, None, 1.0, {}, top=True)]
        while pending:
            run = pending.pop()
            stretch = self._add(Stretch(run.times))
            run.beside = sum(isinstance(s, For) for s in run.body) > 1
            self._straight(run, stretch)
            if run.loop is not None:
                self._round(run, run.loop, stretch)
            if run.top:
                stretch.waits = max(stretch.waits, self._longest(run.body))
            for stmt in run.body:
                if isinstance(stmt, For):
                    pending += self._runs(stmt, run)
                elif isinstance(stmt, Call):
                    self._call(stmt, run)
        return self.made

    def _add(self, stretch: Stretch) -> Stretch:
        self.made.stretches.append(stretch)
        return stretch

    # ---------------------------------------------------------------- loops
    def _runs(self, loop: For, run: _Run) -> Iterator[_Run]:
        """How the body of a loop runs."""
        if loop.along:  # for some iterations of the vector loop around it
            part = min(max(self.number(loop.extent), 0) / max(run.around[loop.var].trips, 1.0), 1.0)
            yield replace(run, body=loop.body, loop=None, times=run.times * part, top=False)
            return
        own = self._loop(loop, run.around)
        self.loops[id(loop)] = own
        around = {**run.around, loop.var: own}
        trips = own.trips
        if trips <= 0:
            return
        if not loop.vector or run.width > 1:
            top = run.top and trips == 1
            trips /= run.parts if loop.carries else 1.0
            length = CHAIN * (CHAINS if light(loop) else 1)
            if in_stretches(loop, length) and trips > length:
                units = {"add": _TWO_SUM * len(loop.carries) * max(run.width / self.lanes, 1), "iteration": 1.0}
                self._add(Stretch(run.times * math.ceil(trips / length), units))
            times = run.times * trips
            yield _Run(loop.body, loop, times, around, run.width, run.vector, run.masked, run.varying, top)
            return
        inner = column_fold(loop)
        parts = 1.0 if inner is None else math.ceil(max(self.number(inner.extent), 1) / BLOCK)
        stretch = OF_EACH * loop.parts
        length = PANEL if inner is not None else stretch if in_stretches(loop, stretch) else trips
        static = loop.extent if isinstance(loop.extent, int) and not (loop.block or loop.within) else None
        cut = strips(loop, self.lanes, static if length >= trips else None)
        whole, rest = divmod(trips, length)
        times = run.times * parts
        runs = [(width, count * whole, masked) for width, count, masked in cut.runs(length) if whole]
        runs += list(cut.runs(rest))
        begun = self._add(Stretch(times * (whole + (rest > 0)), {"strip": 1.0}))
        if whole and (rest or whole > 1):
            begun.count("add", _TWO_SUM * len(loop.carries))
        short = _SHORT_TOTAL if around and may_be_short(loop) and trips <= SHORT * self.lanes else 1.0
        if trips <= LONGEST and run.loop is not None and narrow_rows(run.loop) is loop:
            short = _NARROW_TOTAL
        for carry in loop.carries:
            begun.count("total", short)
            if self._spilled(loop):
                begun.count("load", loop.parts / self.lanes)
                begun.count("store", loop.parts / self.lanes)
            if carry.kind in ("max", "min"):
                begun.count("extremum", _FOLDS)
        if run.top or run.beside:
            begun.waits = self._longest(loop.body)
        rounds = sum([count for _, count, _ in runs])
        width = trips / rounds
        self.loops[id(loop)] = Loop(rounds, {name: by * width for name, by in own.moves.items()}, width=width)
        for width, count, masked in runs:
            if inner is not None and parts > 1:  # totals rest in memory, with what roundings left
                units = {"load": 2.0, "store": 2.0, "add": _TWO_SUM}
                self._add(Stretch(times * count * max(width / self.lanes, 1), units))
            times_all, resting = times * count, cut.some > 0
            yield _Run(loop.body, loop, times_all, around, width, loop.var, masked, parts=parts, resting=resting)

    def _loop(self, loop: For, around: Mapping[str, Loop]) -> Loop:
        """How often the body runs each time the loop is met, on average, and what moves the counter."""
        extent = float(max(self.number(loop.extent), 0))
        moves = {loop.var: float(self.number(loop.step))}
        if loop.once or loop.joined:
            return Loop(min(extent, 1.0), moves)
        if loop.within:
            outer, share = around[loop.within], self.number(loop.share)
            moves.update({name: share * by for name, by in outer.moves.items()})
            return Loop(outer.block * share, moves)
        if loop.block is not None:
            outer = around[loop.block[0]]
            extent /= max(outer.trips, 1.0)
            moves.update(dict.fromkeys(outer.moves, float(self.number(loop.block[1]))))
        if loop.step == 1:
            return Loop(extent, moves)
        trips = float(math.ceil(extent / max(self.number(loop.step), 1)))
        return Loop(trips, moves, extent / max(trips, 1.0))

    def _spilled(self, loop: For) -> bool:
        """Whether the partial results of all totals are more than there are registers for."""
        return len(loop.carries) * loop.parts / self.lanes >= registers(self.register_bytes, True)

    def _round(self, run: _Run, loop: For, stretch: Stretch) -> None:
        """What one iteration of a loop adds to its body."""
        stretch.count("iteration")
        if run.masked and loop.var == run.vector:
            stretch.count("mask")
        registers = max(run.width / self.lanes, 1.0)
        for carry in loop.carries:
            if carry.inside >= 0:
                stretch.waits = max(stretch.waits, self._longest(run.body, carry.inside, carry.value))
                continue
            kind = {"sum": "fma" if carry.value in self.fused else "add", "prod": "multiply"}.get(carry.kind)
            stretch.count(kind or ("extremum" if carry.kind in ("max", "min") else "compare"), registers)
            self.made.operations += run.times * run.width
            if run.width == loop.parts and self._spilled(loop):
                stretch.count("load", registers)
                stretch.count("store", registers)
            if loop.var != run.vector:
                steps = 3.0 if carry.kind in ("max", "min") else 1.0
                stretch.waits = max(stretch.waits, steps / (CHAINS if light(loop) else 1))
            elif run.width < loop.parts and not run.resting:  # partial results lie in memory
                stretch.count("load", registers)
                stretch.count("store", registers)

    # ---------------------------------------------------------------- straight code
    def _straight(self, run: _Run, stretch: Stretch) -> None:
        registers = max(run.width / self.lanes, 1.0)
        wide = run.width > 1
        windows = self.known.windows(run.body, run.vector, run.width)
        moved: set[int] = set()
        seen: dict[object, int] = {}
        for position, stmt in enumerate(run.body):
            if isinstance(stmt, (Let, Load)) and self._again(stmt, seen, run):
                continue
            if isinstance(stmt, Let):
                self._let(stmt, run, stretch)
            elif isinstance(stmt, Load):
                window = windows.loads.get(position)
                if window is None:
                    self._load(stmt, run, registers, stretch)
                    continue
                run.varying.add(stmt.name)
                if id(window) not in moved:
                    moved.add(id(window))
                    found = any(n[0] == "%" and self._varies(n, run) for n, _ in window.row.terms)
                    self._window("gather" if found else "load", window.count, run.width, stretch)
            elif isinstance(stmt, Store) and position not in windows.written:
                self._store(stmt, run, registers, stretch)
            elif isinstance(stmt, Trap):
                stretch.count("compare")
            elif isinstance(stmt, For) and wide:  # what it carries has lanes
                run.varying.update([n for c in stmt.carries for n in (c.out, c.inside)])
        for window in [w for group in windows.stores.values() for w in group]:
            self._window("store", window.count, run.width, stretch)

    def _again(self, stmt: Let | Load, seen: dict[object, int], run: _Run) -> bool:
        """Whether a scalar of this body is one that was there before."""
        if isinstance(stmt, Load):
            key: object = ("load", stmt.buffer, stmt.index)
        else:
            args = tuple([self._same.get(a, a) for a in stmt.args])
            key = (stmt.op, args, str(stmt.attr), stmt.dtype)
            if stmt.op == "const":
                seen = self._numbers
        first = seen.setdefault(key, stmt.name)
        if first == stmt.name:
            return False
        self._same[stmt.name] = first
        if first in run.varying:
            run.varying.add(stmt.name)
        return True

    def _window(self, kind: str, count: int, width: int, stretch: Stretch) -> None:
        """Rows of memory moved as a whole, and exchanged in registers."""
        stretch.count(kind, width)
        stretch.count("shuffle", width * (math.log2(width) if count > 1 else 1.0))

    def _let(self, stmt: Let, run: _Run, stretch: Stretch) -> None:
        if stmt.op in ("const", "size"):
            return
        registers = max(run.width / self.lanes, 1.0)
        if stmt.op == "index":
            if any(self._varies(n, run) for n, _ in stmt.attr.terms):
                run.varying.add(stmt.name)
                stretch.count("integer", registers)
            return
        lanes = run.width > 1 and any(a in run.varying for a in stmt.args)
        if lanes:
            run.varying.add(stmt.name)
        for name, amount in self._classes(stmt).items():
            stretch.count(name, amount * (registers if lanes else 1.0))
        if stmt.op not in _MOVES:
            self.made.operations += run.times * (run.width if lanes else 1)

    def _classes(self, stmt: Let) -> Mapping[str, float]:
        if stmt.op == "mul" and stmt.name in self.fused:
            return {}
        if stmt.dtype == "i64" and stmt.op in ("add", "sub", "neg"):
            return {"integer": 1}
        if stmt.op in ("add", "sub") and any(a in self.fused for a in stmt.args):
            return {"fma": 1}
        if stmt.op == "pow_int":
            power = abs(int(stmt.attr))
            return {"multiply": max(power.bit_length() + power.bit_count() - 2, 0)}
        own = _CLASSES.get(stmt.op) or {stmt.op: 1}
        half = self.halves.get(stmt.name)
        if half is None:
            return own
        return {name: _HALF.get(stmt.op, 1.0) * amount for name, amount in own.items()} if half.begins else {}

    def _varies(self, name: str, run: _Run) -> bool:
        if run.width == 1:
            return False
        return int(name[1:]) in run.varying if name[0] == "%" else name == run.vector

    def _lie(self, stmt: Load | Store, run: _Run) -> str:
        """How the lanes of an access lie: in one place, dense or apart."""
        index = flatten(stmt.index, stmt.buffer.shape)
        if not any(self._varies(n, run) for n, _ in index.terms):
            return "same"
        scattered = any(n[0] == "%" and self._varies(n, run) for n, _ in index.terms)
        return "dense" if not scattered and index.coefficient(run.vector) == 1 else "apart"

    def _load(self, stmt: Load, run: _Run, registers: float, stretch: Stretch) -> None:
        lie = self._lie(stmt, run)
        if lie != "same":
            run.varying.add(stmt.name)
        if lie == "apart":
            stretch.count("gather", run.width)
        else:
            stretch.count("load", registers if lie == "dense" else 1.0)

    def _store(self, stmt: Store, run: _Run, registers: float, stretch: Stretch) -> None:
        lie = self._lie(stmt, run)
        if lie == "same":
            registers = 1.0
        if stmt.fold:
            stretch.count("add", registers)
            if lie == "apart":
                stretch.count("gather", run.width)
            else:
                stretch.count("load", registers)
            self.made.operations += run.times * run.width
        if lie == "apart":
            stretch.count("scatter", run.width)
        else:
            stretch.count("masked_store" if run.masked and lie == "dense" else "store", registers)

    def _longest(self, body: Sequence[Stmt], start: int = -1, end: int = -1) -> float:
        """Steps of the longest chain through straight code; from one scalar to another where they are given."""
        depth: dict[int, float] = {} if start < 0 else {start: 0.0}
        longest = 0.0
        for stmt in body:
            if isinstance(stmt, Load) and start < 0:
                depth[stmt.name] = _LOAD_STEPS
            elif isinstance(stmt, Let):
                known = [depth[a] for a in stmt.args if a in depth]
                if known:
                    depth[stmt.name] = max(known) + self._steps(stmt)
                    longest = max(longest, depth[stmt.name])
        return depth.get(end, 0.0) if end >= 0 else longest

    def _steps(self, stmt: Let) -> float:
        if stmt.op == "mul" and stmt.name in self.fused:
            return 0.0
        known = _STEPS.get(stmt.op)
        if known is not None:
            return known
        if stmt.op == "pow_int":
            return sum(self._classes(stmt).values())
        return 1.0 if stmt.op in _CLASSES else FUNCTION_STEPS

    # ---------------------------------------------------------------- routines
    def _call(self, stmt: Call, run: _Run) -> None:
        times = run.times
        numbers = [self._argument(a, run) for a in stmt.args]
        if stmt.routine == "gemm":
            self._product(numbers, stmt, run)
            return
        if stmt.routine == "panels":
            n, k, *_, m, rows = numbers
            self._add(Stretch(times, {"product": 1.0, "packed": n * k if m > rows else 0.0}))
            return
        n = numbers[0]
        squares, cubes = _ROUTINES.get(stmt.routine, (0.0, 0.0))
        whole = squares * n * n, cubes * n**3
        if "solve" in stmt.routine:
            columns = numbers[1]
            turned = 2 * n * columns if columns > 1 else 0.0
            whole = squares * n * n + turned, cubes * n * n * columns
        units = {"routine": 1.0, "routine_line": n, "routine_square": whole[0], "routine_cube": whole[1]}
        if stmt.routine not in _ROUTINES:  # over the diagonal of the factors
            units = {"iteration": 4 * n, "log": n if stmt.routine == "logabsdet" else 0.0}
        self._add(Stretch(times, units))
        self.made.operations += times * 2 * whole[1]

    def _argument(self, arg: object, run: _Run) -> float:
        if isinstance(arg, Count):
            return run.around[arg.within].block
        return 0.0 if arg is None or isinstance(arg, Pointer) else float(self.number(arg))  # pyright: ignore[reportArgumentType]

    def _product(self, numbers: Sequence[float], stmt: Call, run: _Run) -> None:
        m, n, k = numbers[:3]
        times, rows = run.times, stmt.args[0]
        ready = stmt.args[13] is not None and isinstance(rows, Count) and run.around[rows.within].trips > 1
        cut = tiling(m, n, k, numbers[5], numbers[8], stmt.args[11] is not None, int(numbers[12]),
                     self.register_bytes, True, stmt.dtype, ready)  # fmt: skip
        self._add(Stretch(times, {"product": 1.0, "packed": cut.packed, "tile": cut.tiles}))
        for rows, vectors, steps in cut.steps:
            units = {"matrix": float(rows * vectors), "load": float(rows + vectors)}
            self._add(Stretch(times * steps, units, waits=1.0))
            sums: dict[str, float] = dict.fromkeys(("load", "store", "add"), float(rows * vectors))
            self._add(Stretch(times * steps / CHAIN_OF_PRODUCTS, sums))
        self.made.operations += times * 2 * m * n * k
