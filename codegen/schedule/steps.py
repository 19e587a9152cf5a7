"""The loop of a scan: its steps one after the other, everything they touch in place.

`write_loop` takes the node of a loop and the buffers of the arrays it makes, and appends the loop to a `Writer`:

    carries     lie in registers where they are scalars or a few elements that are named one by one; else a step writes
                over the old value where it is done with it, or the two change places
    traces      a step reads its row and writes the next one
    slices      rows of the operand, read where they lie
    outputs     rows of the result, written where they lie

Nothing is allocated in the loop: temporaries of a step lie in the arena like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from codegen.arrays.lowered import Lowered
from codegen.arrays.nodes import Node
from codegen.arrays.scans import Operand, Steps
from codegen.ir.index import Index, combine, contiguous_strides, var
from codegen.ir.loops import Buffer, Carry, For, Let, Stmt, Store, statements
from codegen.schedule.library import Writer
from codegen.schedule.registers import Cell, in_registers
from codegen.schedule.updates import Place, can_update, drop_copies, moved
from symdiff.ir.dims import Shape

Body: TypeAlias = "Callable[[Lowered, Sequence[Buffer], Sequence[Buffer]], list[Stmt]]"


@dataclass(eq=False, slots=True)
class _Carried:
    """A carry: what it begins from, the buffers that stand for it before and behind a step, where its trace lies, and
    where it is wanted behind the loop."""

    init: Node
    before: Buffer
    behind: Buffer
    trace: Buffer | None
    last: Buffer | None


def write_loop(writer: Writer, node: Node, made: Mapping[int, Buffer], body: Body) -> None:
    """Append the loop; `made`: the buffers of its arrays, by number; `body` writes the statements of a step."""
    _Loop(writer, node, made).write(body)


class _Loop:
    """Writes one loop."""

    def __init__(self, writer: Writer, node: Node, made: Mapping[int, Buffer]) -> None:
        self.writer, self.memory, self.node = writer, writer.memory, node
        self.steps: Steps = node.data
        self.var = f"t{self.memory.depth}"
        self.made = {(one.kind, one.number): made.get(number) for number, one in enumerate(self.steps.made)}
        self.places: dict[Buffer, Place] = {}
        self.carries: list[_Carried] = []
        for number, init in enumerate(node.args[: self.steps.carries]):
            before, behind = (Buffer(f"{s}{number}", init.dtype, init.shape, "temp") for s in ("before", "behind"))
            trace, last = (self.made.get((kind, number)) for kind in ("trace", "last"))
            self.carries.append(_Carried(init, before, behind, trace, last))

    def write(self, body: Body) -> None:
        """Append what stands before the loop, the loop, and what stands behind it."""
        steps, memory = self.steps, self.memory
        own = len(memory.temps)
        memory.depth += 1
        params = list(map(self._param, steps.params))
        results = [c.behind for c in self.carries]
        results += [self._output(number, n) for number, n in enumerate(steps.body.results[steps.carries :])]
        loop = For(self.var, steps.length, body(steps.body, params, results), steps=True)
        for stmt in statements(loop.body):
            if isinstance(stmt, For):
                stmt.waited = stmt.vector
        memory.depth -= 1
        cells = {c: Cell(c.before, c.behind, c.trace is not None) for c in self.carries}
        scalars = in_registers(loop, list(cells.values()), memory.temps[own:], memory)
        behind: list[Stmt] = []
        waiting: list[_Carried] = []
        for carry in self.carries:
            if carry.trace is not None:
                self._traced(carry, carry.trace)
            carried = scalars.get(cells[carry])
            if carried is not None:
                behind += self._scalars(carry, carried)
            elif carry.trace is None:
                waiting.append(carry)
        fit = can_update(loop.body, [(c.before, c.behind) for c in waiting])
        turns = [c for c, fits in zip(waiting, fit, strict=True) if not fits]
        for carry in waiting:
            if carry not in turns:
                home = carry.last or memory.temp(carry.init.shape, carry.init.dtype)
                self._begin(carry.init, Place(home))
                self.places[carry.before] = self.places[carry.behind] = Place(home)
        copies = self._turns(turns, loop) if turns else []
        moved(loop.body, self.places, memory)
        loop.body = drop_copies(loop.body)
        self.writer.parts += [loop, *behind]
        for source, target in copies:
            self._copy(source, target)

    # ---------------------------------------------------------------- what a step reads and writes
    def _param(self, operand: Operand) -> Buffer:
        """The buffer of a parameter of the body: one that stands for a row, or the whole operand."""
        if operand.carry >= 0:
            return self.carries[operand.carry].before
        node, memory = self.node.args[operand.number], self.memory
        buffer = memory.buffers[node.args[0] if node.kind == "alias" else node]
        buffer = memory.reshaped(buffer, node.shape)
        if operand.factor is None:
            return buffer
        row = Buffer(f"row{len(self.places)}", node.dtype, node.shape[1:], "temp")
        self.places[row] = Place(buffer, combine([(operand.factor, self._step())], operand.first))
        return row

    def _output(self, number: int, node: Node) -> Buffer:
        row = Buffer(f"out{number}", node.dtype, node.shape, "temp")
        stack = self.made.get(("out", number)) or self.memory.temp((self.steps.length, *node.shape), node.dtype)
        self.places[row] = Place(stack, self._step())
        return row

    def _step(self) -> Index:
        """The position of the current step along the axis."""
        if not self.steps.reverse:
            return var(self.var)
        return combine([(-1, var(self.var))], self.steps.length - 1)

    # ---------------------------------------------------------------- where carries lie
    def _begin(self, init: Node, place: Place) -> None:
        """Write what a carry begins from."""
        nest = self.writer.nest(init.shape)
        index = nest.index if place.row is None else (place.row, *nest.index)
        nest.store(place.buffer, index, nest.value(init, nest.index))

    def _traced(self, carry: _Carried, trace: Buffer) -> None:
        """A step reads a row of the trace and writes the next one."""
        step, reverse = self._step(), self.steps.reverse
        later = combine([(1, step)], 1)
        rows = (later, step) if reverse else (step, later)
        self.places[carry.before], self.places[carry.behind] = (Place(trace, row) for row in rows)
        self._begin(carry.init, Place(trace, Index((), self.steps.length if reverse else 0)))

    def _scalars(self, carry: _Carried, carried: Sequence[Carry]) -> list[Stmt]:
        """What the loop carries round for a carry begins from its value before; statements for behind the loop."""
        if carry.init.kind == "const":
            for one in carried:
                one.init = carry.init.data
        else:
            nest = self.writer.nest(())
            for number, one in enumerate(carried):
                nest.begin(one, nest.value(carry.init, unravelled(number, carry.init.shape)))
        if carry.last is None:
            return []
        return [
            Store(carry.last, unravelled(number, carry.init.shape), one.out) for number, one in enumerate(carried)
        ]

    def _turns(self, carries: Sequence[_Carried], loop: For) -> list[tuple[tuple[Buffer, Index], Buffer]]:
        """Carries that take turns between two places: which one is read is one more value that the loop carries."""
        memory, one, row = self.memory, self.memory.name(), Carry("scan", "i64", 0, 0, 0, 0)
        row.inside, row.value, row.out = memory.name(), memory.name(), memory.name()
        loop.body[:0] = [Let(one, "const", (), "i64", 1), Let(row.value, "sub", (one, row.inside), "i64")]
        loop.carries.append(row)
        copies: list[tuple[tuple[Buffer, Index], Buffer]] = []
        for carry in carries:
            home = memory.temp((2, *carry.init.shape), carry.init.dtype)
            self._begin(carry.init, Place(home, Index()))
            self.places[carry.before] = Place(home, Index(((f"%{row.inside}", 1),)))
            self.places[carry.behind] = Place(home, Index(((f"%{row.value}", 1),)))
            if carry.last is not None:
                copies.append(((home, Index(((f"%{row.out}", 1),))), carry.last))
        return copies

    def _copy(self, source: tuple[Buffer, Index], target: Buffer) -> None:
        nest = self.writer.nest(target.shape)
        names = [int(name[1:]) for name, _ in source[1].terms]
        nest.deps.update(dict.fromkeys(names, 0))
        nest.store(target, nest.index, nest.load(source[0], (source[1], *nest.index)))


def unravelled(number: int, shape: Shape) -> tuple[Index, ...]:
    """The index of an element of an array whose axes are numbers."""
    index: list[Index] = []
    for step in contiguous_strides(shape):
        assert isinstance(step, int)
        index.append(Index((), number // step))
        number %= step
    return tuple(index)
