"""Groups of nodes to kernels of the loop IR: the whole path from a Function to a Program.

`build(function, name)` lowers, plans, writes every kernel and gives a verified `Program` with the meaning of its status
codes. Kernels of one space come from a single `Nest`; library nodes have a writer each in `codegen.schedule.library`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from codegen.analysis.jam import rows_beside_rows
from codegen.arrays import fuse
from codegen.arrays.axes import choose
from codegen.arrays.fuse import Group
from codegen.arrays.layout import with_axis_last
from codegen.arrays.lower import lower
from codegen.arrays.lowered import Lowered
from codegen.arrays.nodes import Node
from codegen.arrays.scans import LOOP, PICKED
from codegen.arrays.unroll import unroll
from codegen.arrays.wrapped import wrapped
from codegen.ir.loops import Buffer, Kernel, Program, Stmt, Store
from codegen.ir.verify import verify
from codegen.schedule.abreast import abreast
from codegen.schedule.blocks import in_blocks
from codegen.schedule.library import WRITERS, Choice, Writer, placed
from codegen.schedule.nests import Memory, Nest
from codegen.schedule.placing import place
from codegen.schedule.rows import join_rows, row_loop
from codegen.schedule.split import split
from codegen.schedule.steps import write_loop
from codegen.schedule.united import united
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import Function


def build(function: Function, name: str, threads: int = 1, fast: bool = False) -> tuple[Program, Lowered]:
    """The loop-nest program of a function; fast: its products may be multiplied in any order."""
    lowered = unroll(wrapped(lower(function)))
    groups = fuse.plan(lowered)
    axis = choose(lowered.graph.nodes, groups)
    if axis is not None:
        laid_out = with_axis_last(lowered, axis)
        groups = groups if laid_out is lowered else fuse.plan(laid_out)
        lowered = laid_out
    memory = Memory(fast=fast)
    params = [
        Buffer(p.name, p.type.dtype, p.type.shape, "param", number) for number, p in enumerate(function.params)
    ]
    results = [Buffer(f"r{number}", n.dtype, n.shape, "result", number) for number, n in enumerate(lowered.results)]
    jobs = _Jobs(memory)
    kernels = jobs.kernels(lowered, groups, params, results, axis)
    kernels, blocks = in_blocks(kernels, axis, memory) if axis is not None else (kernels, [])
    kernels = united(abreast(join_rows(kernels, memory.temps)))
    rows_beside_rows(kernels)
    kernels = split(kernels, memory, threads, [b.chunks for b in blocks])
    program = Program(
        name, function.dims, params, results, memory.temps, jobs.constants,
        kernels, lowered.checks, threads, blocks,
    )  # fmt: skip
    return verify(program), lowered


_LONGEST_RECORD = 8
"""Elements of an axis up to which small arrays of a step become scalars: longer ones fill registers step by step."""


class _Jobs:
    """Writes the kernels of a function, and of the bodies of its loops."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.constants: list[tuple[Buffer, object]] = []

    def kernels(
        self, lowered: Lowered, groups: Sequence[Group], params: Sequence[Buffer], results: Sequence[Buffer],
        axis: Size | None = None,
    ) -> list[Kernel]:  # fmt: skip
        """The kernels that compute the results of a program from its parameters, in order."""
        memory = self.memory
        for node in lowered.graph.nodes:
            if node.kind == "param":
                memory.buffers[node] = params[node.data]
            elif node.kind == "array":
                number = len(self.constants)
                buffer = Buffer(f"c{number}", node.dtype, node.shape, "constant", number)
                self.constants.append((buffer, node.data.array))
                memory.buffers[node] = buffer
        extra: dict[Node, list[Buffer]] = {}
        for node, buffer in zip(lowered.results, results, strict=True):
            extra.setdefault(node, []).append(buffer)
        renamed = _reshaped_results(memory, {n for g in groups for n in g.nodes}, extra)
        writers: list[Writer] = []
        for group in groups:
            nodes = [n for n in group.nodes if n not in renamed]
            if nodes:
                writers.append(self._group(group.space, nodes, extra))
        bodies = [body for writer in writers for body in _kernels(writer, axis) if body]
        return [Kernel(f"k{number}", body) for number, body in enumerate(bodies)]

    def _group(self, space: Shape | None, nodes: Sequence[Node], extra: Mapping[Node, Sequence[Buffer]]) -> Writer:
        """Write what computes the nodes of a group."""
        memory = self.memory
        writer = Writer(memory)
        nest = Nest(memory, space) if space is not None else None
        made: dict[Node, Buffer] = {}
        for node in nodes:
            if node.kind == LOOP:
                continue
            targets = extra.get(node, ())
            buffer = made[node] = targets[0] if targets else memory.temp(node.shape, node.dtype)
            if nest is not None:
                _nest_job(nest, node, [buffer, *targets[1:]])
            elif node.kind != PICKED:
                WRITERS[node.kind](writer, node, buffer)
        if nodes[0].kind == LOOP:
            write_loop(writer, nodes[0], {n.data: b for n, b in made.items()}, self._body)
        if nest is not None:
            writer.parts.append(nest)
        else:
            for node, buffer in made.items():
                for other in extra.get(node, ())[1:]:
                    copy = writer.nest(node.shape)
                    copy.store(other, copy.index, copy.load(buffer, copy.index))
        for node, buffer in made.items():
            memory.buffers.setdefault(node, buffer)
        return writer

    def _body(self, lowered: Lowered, params: Sequence[Buffer], results: Sequence[Buffer]) -> list[Stmt]:
        """The statements of one step of a loop; what it reads besides temporaries of its own stays as it is."""
        lowered = unroll(wrapped(lowered), _LONGEST_RECORD)
        kernels = self.kernels(lowered, fuse.plan(lowered), params, results)
        kernels = abreast(join_rows(kernels, self.memory.temps, {b.root for b in params}))
        return [stmt for kernel in kernels for stmt in kernel.body]


def _kernels(writer: Writer, axis: Size | None) -> list[list[Stmt]]:
    """The bodies of a group's kernels: one, or one for each part when all parts are loops over rows to be joined."""
    parts = [
        part.statements(axis) if isinstance(part, Choice) else place(part, axis) if isinstance(part, Nest) else [part]
        for part in writer.parts
    ]
    if all(row_loop(part) is not None for part in parts):
        return parts
    ends = [0, *writer.cuts, len(parts)]
    return [[stmt for part in parts[start:end] for stmt in part] for start, end in pairwise(ends)]


def _reshaped_results(memory: Memory, stored: set[Node], extra: dict[Node, list[Buffer]]) -> set[Node]:
    """Results that are another node's elements under another shape; that node is written where the result lies."""
    renamed: set[Node] = set()
    for node, targets in list(extra.items()):
        source = node.args[0] if node.kind == "alias" else node
        if node.kind == "alias" and source in stored and source not in extra and len(targets) == 1:
            extra[source] = [memory.reshaped(targets[0], source.shape)]
            renamed.add(node)
    return renamed


def _nest_job(nest: Nest, node: Node, targets: list[Buffer]) -> None:
    """A map, a stack or a fold over the space of the nest."""
    if node.kind == "place":
        for part, places in zip(node.args, node.data[1], strict=True):
            value = nest.value(part, nest.index)
            index = placed(places, nest.index)
            for buffer in targets:
                nest.store(buffer, index, value)
        return
    if node.kind == "output":
        for buffer in targets:
            nest.store(buffer, (), nest.outputs(node.args[0])[node.data])
        return
    if node.kind != "reduce":
        value = nest.value(node, nest.index)
        for buffer in targets:
            nest.store(buffer, nest.index, value)
        return
    kind, count = node.data
    kept = len(nest.space) - count
    value = nest.value(node.args[0], nest.index)
    index = nest.index[:kept]
    if node.dtype == "bool":
        kind = {"max": "or", "min": "and"}[kind]
    for buffer in targets:
        nest.fold(kind, node.args[0].dtype, value, kept, lambda out, buffer=buffer: Store(buffer, index, out))
