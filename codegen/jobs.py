"""Groups of nodes to kernels of the loop IR: the whole path from a Function to a Program.

`build(function, name)` lowers, plans, writes every kernel and gives a verified `Program` with the meaning of its status
codes. Kernels of one space come from a single `Nest`; library nodes have a writer each in `codegen.library`.
"""

from __future__ import annotations

from itertools import pairwise

from codegen import fuse
from codegen.abreast import abreast
from codegen.axes import choose
from codegen.blocks import in_blocks
from codegen.layout import with_axis_last
from codegen.library import WRITERS, Choice, Writer, placed
from codegen.loops import Buffer, Kernel, Program, Stmt, Store, verify
from codegen.lower import Lowered, lower
from codegen.nests import Memory, Nest
from codegen.nodes import Node
from codegen.placing import place
from codegen.rows import join_rows, row_loop
from codegen.split import split
from codegen.unroll import unroll
from symdiff.ir.dims import Size
from symdiff.ir.graph import Function


def build(function: Function, name: str, threads: int = 1) -> tuple[Program, Lowered]:
    """The loop-nest program of a function."""
    lowered = unroll(lower(function))
    groups = fuse.plan(lowered)
    axis = choose(lowered.graph.nodes, groups)
    if axis is not None:
        laid_out = with_axis_last(lowered, axis)
        groups = groups if laid_out is lowered else fuse.plan(laid_out)
        lowered = laid_out
    memory = Memory()
    params = [
        Buffer(p.name, p.type.dtype, p.type.shape, "param", number) for number, p in enumerate(function.params)
    ]
    constants: list[tuple[Buffer, object]] = []
    for node in lowered.graph.nodes:
        if node.kind == "param":
            memory.buffers[node] = params[node.data]
        elif node.kind == "array":
            buffer = Buffer(f"c{len(constants)}", node.dtype, node.shape, "constant", len(constants))
            constants.append((buffer, node.data.array))
            memory.buffers[node] = buffer
    results, extra = _results(lowered)
    stored = {n for g in groups for n in g.nodes}
    renamed = _reshaped_results(memory, stored, extra)
    writers: list[Writer] = []
    for group in groups:
        nodes = [n for n in group.nodes if n not in renamed]
        if not nodes:
            continue
        writer = Writer(memory)
        writers.append(writer)
        made: list[tuple[Node, Buffer]] = []
        nest = Nest(memory, group.space) if group.space is not None else None
        for node in nodes:
            targets = extra.get(node, ())
            buffer = targets[0] if targets else memory.temp(node.shape, node.dtype)
            if nest is None:
                WRITERS[node.kind](writer, node, buffer)
            else:
                _nest_job(nest, node, [buffer, *targets[1:]])
            if nest is None:
                for other in targets[1:]:
                    memory.buffers[node] = buffer
                    copy = writer.nest(node.shape)
                    copy.store(other, copy.index, copy.load(buffer, copy.index))
            made.append((node, buffer))
        if nest is not None:
            writer.parts.append(nest)
        for node, buffer in made:
            memory.buffers.setdefault(node, buffer)
    bodies = [body for writer in writers for body in _kernels(writer, axis) if body]
    kernels = [Kernel(f"k{number}", body) for number, body in enumerate(bodies)]
    kernels, blocks = in_blocks(kernels, axis, memory) if axis is not None else (kernels, [])
    kernels = abreast(join_rows(kernels, memory.temps))
    kernels = split(kernels, memory, threads, [b.chunks for b in blocks])
    program = Program(
        name, function.dims, params, results, memory.temps, constants,
        kernels, lowered.checks, threads, blocks,
    )  # fmt: skip
    return verify(program), lowered


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


def _results(lowered: Lowered) -> tuple[list[Buffer], dict[Node, list[Buffer]]]:
    """The result buffers, and which node writes them."""
    results: list[Buffer] = []
    by_node: dict[Node, list[Buffer]] = {}
    for number, node in enumerate(lowered.results):
        buffer = Buffer(f"r{number}", node.dtype, node.shape, "result", number)
        results.append(buffer)
        by_node.setdefault(node, []).append(buffer)
    return results, by_node


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
