"""Where the buffers of a step lie: rows of larger arrays, and new values written over old ones.

`moved` puts accesses of a buffer where it really lies; `can_update` says whether what a step makes of an array may be
written over it; `drop_copies` removes what then copies an array to itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen.ir.index import Index
from codegen.ir.loops import Buffer, Call, For, Let, Load, Pointer, Stmt, Store, accessed, statements
from codegen.schedule.nests import Memory
from symdiff.ir.dims import Shape


@dataclass(frozen=True, slots=True)
class Place:
    """Where a buffer lies: in a whole other one, or in a row of it."""

    buffer: Buffer
    row: Index | None = None


def moved(body: list[Stmt], places: Mapping[Buffer, Place], memory: Memory) -> None:
    """Move every access of a buffer in `places`, in place."""

    def target(buffer: Buffer) -> Buffer:
        place = places[buffer.root]
        front = () if place.row is None else place.buffer.shape[:1]
        return memory.reshaped(place.buffer, (*front, *buffer.shape))

    for stmt in statements(body):
        own: list[Load | Store | Pointer] = [stmt] if isinstance(stmt, (Load, Store)) else []
        if isinstance(stmt, Call):
            own = [a for a in stmt.args if isinstance(a, Pointer)]
            stmt.writes = tuple([target(b) if b.root in places else b for b in stmt.writes])
        for one in own:
            place = places.get(one.buffer.root)
            if place is not None:
                one.buffer = target(one.buffer)
                one.index = one.index if place.row is None else (place.row, *one.index)


def can_update(body: Sequence[Stmt], pairs: Sequence[tuple[Buffer, Buffer]]) -> list[bool]:
    """For pairs of buffers whether the second may be written over the first: it is written when that is no more read,
    or element by element."""
    last_read: dict[Buffer, int] = {}
    first_write: dict[Buffer, int] = {}
    for position, top in enumerate(body):
        for stmt in statements([top]):
            reads, writes = accessed(stmt)
            last_read.update([(b.root, position) for b in reads])
            for buffer in writes:
                first_write.setdefault(buffer.root, position)
    found: list[bool] = []
    for before, behind in pairs:
        read, written = last_read.get(before, -1), first_write.get(behind, len(body))
        found.append(read < written or (read == written and _by_element(body[written], before, behind)))
    return found


def _by_element(stmt: Stmt, before: Buffer, behind: Buffer) -> bool:
    """Whether a loop reads each element of one array before it writes it to the other, and touches no other of it."""
    places: set[tuple[int, tuple[Index, ...], Shape]] = set()
    around: tuple[str, ...] = ()
    written = False
    stack: list[tuple[Sequence[Stmt], tuple[For, ...]]] = [([stmt], ())]
    while stack:
        body, loops = stack.pop()
        for one in body:
            if isinstance(one, For):
                if one.steps or one.once or one.along or one.block or one.within or one.step != 1:
                    return False
                stack.append((one.body, (*loops, one)))
            elif isinstance(one, (Load, Store)):
                if one.buffer.root not in (before, behind):
                    continue
                if (isinstance(one, Store) and one.fold) or (written and one.buffer.root is before):
                    return False
                written = written or isinstance(one, Store)
                places.add((id(loops[-1]) if loops else 0, one.index, one.buffer.shape))
                around = tuple([loop.var for loop in loops])
            elif not isinstance(one, Let):
                return False
    if len(places) != 1:
        return False
    ((_, index, _),) = places
    terms = [term for one in index for term in one.terms]
    alone = all(len(one.terms) <= 1 for one in index) and all(factor == 1 for _, factor in terms)
    return alone and sorted(name for name, _ in terms) == sorted(around)


def drop_copies(body: Sequence[Stmt]) -> list[Stmt]:
    """The statements without stores of what was just read from the same place, and without loops that do nothing."""
    made: list[Stmt] = []
    loaded: dict[int, tuple[Buffer, tuple[Index, ...]]] = {}
    for stmt in body:
        if isinstance(stmt, Load):
            loaded[stmt.name] = stmt.buffer, stmt.index
        elif isinstance(stmt, Store):
            if not stmt.fold and loaded.get(stmt.value) == (stmt.buffer, stmt.index):
                continue
            loaded = {n: place for n, place in loaded.items() if place[0].root is not stmt.buffer.root}
        elif isinstance(stmt, For):
            stmt.body = drop_copies(stmt.body)
            if not stmt.carries and all(isinstance(s, (Let, Load)) for s in stmt.body):
                continue
            loaded = {}
        elif isinstance(stmt, Call):
            loaded = {}
        made.append(stmt)
    return made
