"""Places in memory for temporaries: those of one size whose lives do not overlap share one.

Takes the kernels of a program; gives places and the place of every temporary. Kernels run one after the other, and so
do the statements of a step of a scan. What a step fills before it is read lives within the step; what other steps, or
statements outside of the loop, touch as well lives as long as the loop runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from codegen.ir.loops import Buffer, Call, For, Kernel, Let, Stmt, accessed, walk
from codegen.llvm.text import BYTES
from symdiff.ir.dims import Size, product

Place: TypeAlias = "tuple[Size, int, bool]"
"""Elements of a buffer, the bytes of one, and whether each thread has its own."""
_Steps: TypeAlias = "tuple[int, ...]"
"""The identities of loops of scans, outermost first."""
_Span: TypeAlias = "tuple[int, int]"


@dataclass(eq=False, slots=True)
class _Touches:
    """When a buffer is touched first and last, by the loops of scans around; `filled`: at first it is written."""

    filled: bool
    times: dict[_Steps, _Span] = field(default_factory=dict["_Steps", "_Span"])


def share(kernels: Sequence[Kernel]) -> tuple[list[Place], dict[Buffer, int]]:
    """The places, and the number of the one that a temporary lies in."""
    beginning: dict[int, list[Buffer]] = {}
    ending: dict[int, list[Buffer]] = {}
    for buffer, (first, last) in lives(kernels).items():
        beginning.setdefault(first, []).append(buffer)
        ending.setdefault(last, []).append(buffer)
    places: list[Place] = []
    owner: dict[Buffer, int] = {}
    free: dict[Place, list[int]] = {}
    for time in sorted({*beginning, *ending}):
        for buffer in beginning.get(time, ()):
            place = product(buffer.shape), BYTES[buffer.dtype], buffer.private
            if free.get(place):
                owner[buffer] = free[place].pop()
            else:
                owner[buffer] = len(places)
                places.append(place)
        for buffer in ending.get(time, ()):
            free.setdefault(places[owner[buffer]], []).append(owner[buffer])
    return places, owner


def lives(kernels: Sequence[Kernel]) -> dict[Buffer, _Span]:
    """When the life of every temporary begins and ends. Statements that may touch memory in any order have one time."""
    found: dict[Buffer, _Touches] = {}
    runs: dict[int, _Span] = {}
    time = 0
    for kernel in kernels:
        time += 1
        apart = False
        for stmt, around in walk(kernel.body):
            if isinstance(stmt, Let):  # there may be very many of them
                continue
            steps = _steps(around)
            if len(steps) == len(around):
                own = isinstance(stmt, (For, Call))
                time += own or apart
                apart = own
            for loop in steps:
                runs[loop] = runs.get(loop, (time, time))[0], time
            _touch(found, stmt, steps, time)
    return {buffer: _life(touches, runs) for buffer, touches in found.items()}


def _steps(around: Sequence[For]) -> _Steps:
    """The loops of scans around a statement, up to the first other loop."""
    count = 0
    while count < len(around) and around[count].steps:
        count += 1
    return tuple([id(loop) for loop in around[:count]])


def _touch(found: dict[Buffer, _Touches], stmt: Stmt, steps: _Steps, time: int) -> None:
    reads, writes = accessed(stmt)
    for buffer in (*reads, *writes):
        root = buffer.root
        if root.kind == "temp":
            if root not in found:
                written = any(b.root is root for b in writes)
                found[root] = _Touches(written and (isinstance(stmt, Call) or not reads))
            times = found[root].times
            times[steps] = times.get(steps, (time, time))[0], time


def _life(touches: _Touches, runs: Mapping[int, _Span]) -> _Span:
    """From the first touch to the last, loops as a whole that are not around all of them; all steps where one reads
    what an earlier one left."""
    common = min(touches.times, key=len)
    for steps in touches.times:
        while steps[: len(common)] != common:
            common = common[:-1]
    depth = len(common)
    spans = [runs[steps[depth]] if len(steps) > depth else span for steps, span in touches.times.items()]
    if common and not touches.filled:
        spans.append(runs[common[0]])
    return min(first for first, _ in spans), max(last for _, last in spans)
