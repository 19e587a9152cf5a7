"""How a vector loop is cut into strips: so many iterations at a time, full or under a mask.

Takes a loop and the lanes of a register; gives `Strips`, from which the code is written and its cost is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codegen.analysis.facts import WIDE_LIMIT, light, weight
from codegen.analysis.waves import is_dear
from codegen.ir.index import flatten
from codegen.ir.loops import Call, For, Kernel, Let, Load, Stmt, Store, Trap, statements
from codegen.llvm.text import BYTES

_LONGEST = 1500
"""Statements of a body from which it is written once, for full and for half-filled registers alike;"""
_LONG = 150
"""and from which it is where it stores little."""
_TWICE = 40
_STEPS = {"const": (0.0, 0.0), "mul": (4.0, 0.5), "div": (13.0, 6.0), "sqrt": (18.0, 9.0)}
_DEAR_STEPS = (60.0, 25.0)
"""Cycles until results are there, and until the next operation of the kind may begin, about;"""
_WAITING = 1.1
"""how many times as long code waits as it computes that is written for two registers, which run side by side."""
_NARROW = 128
"""Bytes of columns that are folded at a time behind those taken by `For.parts`."""
SHORT = 4
"""Registers that hold a short row."""
_TAIL = 64
"""Instructions written for the last iterations of a fold, whose partial results then stay in registers."""


@dataclass(frozen=True, slots=True)
class Strips:
    """Iterations at a time: `wide` with partial results in registers (0: not at all), then `plain` (0: not at all),
    then `lanes` under a mask where `masked`. A fold whose results stay in registers ends with up to `some` registers
    under a mask, one after the other (0: there is no such end)."""

    wide: int
    plain: int
    lanes: int
    masked: bool
    some: int = 0

    def runs(self, extent: float) -> Iterator[tuple[int, float, bool]]:
        """For so many iterations: (iterations at a time, how often, masked)."""
        left = extent
        for width in (self.wide, self.plain):
            if width:
                count = left // width
                left -= count * width
                if count:
                    yield width, count, False
        if left > 0 and (self.masked or self.some):
            yield self.lanes, -(-left // self.lanes), True


def strips(loop: For, lanes: int, static: int | None) -> Strips:
    """The strips of a vector loop; static: its iterations, where that is known."""
    length, dear = weight(loop.body)
    guests = any(isinstance(s, For) and s.along for s in loop.body)
    wide = loop.parts if not dear and length <= WIDE_LIMIT and lanes <= loop.parts else 0
    if static is not None:
        while lanes > 2 and lanes // 2 >= static:
            lanes //= 2
    if loop.waited and dear and (static is None or static > lanes):
        lanes *= 2  # dear functions of two registers run side by side
    some = -(-(loop.parts - 1 if static is None else static % loop.parts) // lanes)
    if wide and loop.carries and not guests and length * some <= _TAIL:
        return Strips(wide, 0, lanes, False, max(some, 1))
    wide = 0 if static is not None and static < loop.parts else wide
    long = length > _LONG and not loop.carries and _dense_stores(loop) <= length // _LONG
    long = long or length > _LONGEST
    plain = 0
    narrow = _NARROW // widest(loop.body)
    if wide and narrow > lanes and not loop.carries and any(isinstance(s, For) and light(s) for s in loop.body):
        plain = narrow
    alone = dear and not loop.waited and not loop.carries and _TWICE < length <= _LONGEST
    if alone and (static is None or static >= 2 * lanes) and waiting(loop.body):
        plain = 2 * lanes
    elif not long and not wide and (static is None or static >= lanes):
        twice = dear and not loop.waited and length <= _TWICE and (static is None or static >= 2 * lanes)
        plain = 2 * lanes if twice else lanes
    masked = static is None or long or static % (wide or plain or lanes) != 0
    return Strips(wide, plain, lanes, masked)


def may_be_short(loop: For) -> bool:
    """Whether a fold may turn out to be over a few elements only, and is short enough to be written out for those."""
    if not loop.carries or isinstance(loop.extent, int) or any(c.inside >= 0 for c in loop.carries):
        return False
    if loop.block or loop.within or loop.once or any(isinstance(s, (For, Trap, Call)) for s in loop.body):
        return False
    return weight(loop.body)[0] * SHORT <= _TAIL


def short_registers(loop: For, lanes: int) -> int:
    """Registers that hold a short row: no element of it shares a partial result with another."""
    return min(SHORT, loop.parts // lanes)


def vector_width(kernel: Kernel, register_bytes: int) -> int:
    """Lanes of one register: the widest element type decides."""
    most = widest(kernel.body)
    return max(2, register_bytes // most if most > 1 else register_bytes // 4)


def widest(body: Sequence[Stmt]) -> int:
    """Bytes of the widest element type."""
    most = 1
    for stmt in statements(list(body)):
        if isinstance(stmt, Let):
            most = max(most, BYTES[stmt.dtype])
        elif isinstance(stmt, (Load, Store)):
            most = max(most, BYTES[stmt.buffer.dtype])
    return most


def _dense_stores(loop: For) -> int:
    """How many stores go from lane to lane by one element; under a mask they are slow on some processors."""
    stores = [s for s in statements(loop.body) if isinstance(s, Store)]
    return sum(flatten(s.index, s.buffer.shape).coefficient(loop.var) == 1 for s in stores)


def waiting(body: Sequence[Stmt]) -> bool:
    """Whether straight code with dear functions waits for results longer than it computes, in one register."""
    ready: dict[int, float] = {}
    work = 0.0
    for stmt in body:
        if isinstance(stmt, Let):
            steps, own = _DEAR_STEPS if is_dear(stmt) else _STEPS.get(stmt.op, _STEPS["mul"])
            work += own
            ready[stmt.name] = steps + max([ready.get(a, 0.0) for a in stmt.args], default=0.0)
        elif not isinstance(stmt, (Load, Store)):
            return False
    return max(ready.values(), default=0.0) > _WAITING * work
