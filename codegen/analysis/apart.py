"""Whether the iterations of a loop touch different places of what they write, so that threads may share them.

Takes a loop, or statements and the name of a loop's variable; gives an answer that holds for all sizes. Two accesses
never meet where some axis tells iterations apart: both step through it alike, and all else in their indices stays
within one step, or the two keep to different parts of it. Other loops' variables range over their extents; what is
data may be anything. A call of a routine stays in the rest of the array behind the axes that its address counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from codegen.ir.index import Index, contiguous_strides, flatten, span, without
from codegen.ir.loops import Buffer, Call, Stmt, accessed, extents_of, places_of, touched, walk
from symdiff.ir.dims import Shape, Size, at_least

_MOST = 32
"""Different places of one buffer that are compared with each other, where no axis tells all apart at once."""

_Span: TypeAlias = "tuple[Size, Size, Size]"
"""What one axis of an access is in an iteration: step, lowest and highest place at iteration 0."""

_Place: TypeAlias = "tuple[Shape, tuple[Index, ...], bool, tuple[tuple[str, Size], ...]]"
"""Shape and index of an access, whether a routine makes it, and how far the variables run."""


def apart(name: str, extent: Size, body: Sequence[Stmt], own: Collection[Buffer] = ()) -> bool:
    """Whether iterations of the loop `name` around `body` never meet; private buffers and those of `own` aside."""
    open_ = touched(body)[1] - set(own)
    places: dict[Buffer, dict[_Place, bool]] = {b: {} for b in open_ if not b.private}
    for stmt, around in walk(body):
        written = {b.root for b in accessed(stmt)[1]}
        for buffer, index in places_of(stmt):
            if buffer.root in places:
                names = {n for one in index for n, _ in one.terms}
                runs = tuple([run for run in extents_of(around).items() if run[0] in names])
                key = buffer.shape, index, isinstance(stmt, Call), runs
                known = places[buffer.root]
                known[key] = known.get(key, False) or buffer.root in written
    return all(_buffer_apart(name, extent, root, known) for root, known in places.items())


def _buffer_apart(name: str, extent: Size, root: Buffer, known: Mapping[_Place, bool]) -> bool:
    alike = len({shape for shape, *_ in known}) == 1
    spans: list[tuple[list[_Span | None], bool]] = []
    for (shape, index, call, runs), written in known.items():
        own = index if alike else (flatten(index, shape),)
        found = [_span(one, name, dict(runs)) for one in own]
        if call:
            behind = _behind(own, shape if alike else (), root)
            found = [_wider(s, more) for s, more in zip(found, behind, strict=True)]
        spans.append((found, written))
    if any(_one_step(axis, extent) for axis in zip(*(span for span, _ in spans), strict=True)):
        return True
    if len(known) > _MOST:
        return False
    for number, (one, writes) in enumerate(spans):
        for other, also in spans[: number + 1]:
            if (writes or also) and not any(_distinct(a, b, extent) for a, b in zip(one, other, strict=True)):
                return False
    return True


def _one_step(axis: Sequence[_Span | None], extent: Size) -> bool:
    """Whether all accesses step through an axis alike and stay within one step."""
    hull = axis[0]
    for own in axis[1:]:
        if hull is None or own is None or own[0] != hull[0]:
            return False
        low, high = _lesser(hull[1], own[1]), _lesser(-1 * hull[2], -1 * own[2])
        if low is None or high is None:
            return False
        hull = hull[0], low, -1 * high
    return _distinct(hull, hull, extent)


def _lesser(a: Size, b: Size) -> Size | None:
    return a if at_least(b, a) else b if at_least(a, b) else None


def _span(index: Index, name: str, extents: Mapping[str, Size]) -> _Span | None:
    """None where the index is data."""
    reach = span(without(index, (name,)), extents)
    return None if reach is None else (index.coefficient(name), *reach)


def _behind(index: Sequence[Index], shape: Shape, root: Buffer) -> Sequence[Size | None]:
    """How far a routine reaches along each axis from the address it is given; None: anywhere."""
    if len(index) > 1:
        counted = 0
        while counted < len(index) and (index[counted] != Index() or shape[counted] == 1):
            counted += 1
        if any(one != Index() for one in index[counted:]):
            return [None] * len(index)
        return [0] * counted + [s - 1 for s in shape[counted:]]
    # One axis: the array as a whole, or its elements in a row. The address steps through the first axes in order.
    strides = contiguous_strides(root.shape)
    factors = [factor for _, factor in index[0].terms]
    depth = 0
    while depth < len(strides) and (strides[depth] in factors or root.shape[depth] == 1):
        depth += 1
    if index[0].const != 0 or not depth or any(f not in strides[:depth] for f in factors):
        return [None]
    return [strides[depth - 1] - 1]


def _wider(span: _Span | None, more: Size | None) -> _Span | None:
    return None if span is None or more is None else (span[0], span[1], span[2] + more)


def _distinct(a: _Span | None, b: _Span | None, extent: Size) -> bool:
    """Whether an axis tells different iterations of two accesses apart."""
    if a is None or b is None or a[0] != b[0]:
        return False
    for step in (a[0], -1 * a[0]):
        # That both hold means a step of at least 1, wherever there is any place.
        if at_least(step, a[2] - b[1] + 1) and at_least(step, b[2] - a[1] + 1):
            return True
        reach = step * (extent - 1)
        parts = at_least(a[1], b[2] + reach + 1) or at_least(b[1], a[2] + reach + 1)
        if parts and at_least(step, 0):
            return True
    return False
