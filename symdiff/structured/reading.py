"""Reading an array at places: the factor that another term sees of it.

`read(builder, value, places, sizes)` is the array over the labels of `places` whose element is the element of `value`
there. Broadcasts and permutations are looked through, and where labels repeat elementwise operations are too, so the
diagonal of an outer product is never taken from a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Labels, contract, parse_spec
from symdiff.ir.dims import Size
from symdiff.ir.graph import Value
from symdiff.structured.terms import Affine, Factor, Indirect, NoStructureError, Place, single_label

_Job = tuple[Value, tuple[Place, ...]]
_DEEPEST = 400
"""Elementwise values looked through at most; beyond, the array is read as it is."""


def read(builder: Builder, value: Value, places: Sequence[Place], sizes: Mapping[int, Size]) -> Factor:
    """The factor over the labels of `places`, one place per axis of `value`."""
    root: _Job = (value, tuple(places))
    order: list[tuple[_Job, list[_Job] | None]] = []
    known: set[_Job] = set()
    stack = [root]
    while stack:
        job = stack.pop()
        if job in known:
            continue
        known.add(job)
        inner = _through(*job) if len(known) <= _DEEPEST else None
        order.append((job, inner))
        stack += inner or ()
    done: dict[_Job, Factor] = {}
    # A job is found after the job that needs it, though perhaps before another one: walk until all are made.
    pending = order[::-1]
    while pending:
        left: list[tuple[_Job, list[_Job] | None]] = []
        for job, inner in pending:
            if inner is None:
                done[job] = _read(builder, *job, sizes)
            elif all(i in done for i in inner):
                done[job] = _joined(builder, job[0], [done[i] for i in inner], sizes)
            else:
                left.append((job, inner))
        pending = left
    return done[root]


def _through(value: Value, places: tuple[Place, ...]) -> list[_Job] | None:
    """What has to be read in place of `value`; None when it is read itself."""
    if value.op.name == "contract" and len(value.args) == 1:
        spec = parse_spec(value.attr("spec"))
        if not spec.summed and len(set(spec.output)) == len(spec.output):
            at = dict(zip(spec.output, places, strict=True))
            return [(value.args[0], tuple([at[x] for x in spec.operands[0]]))]
    if value.op.name == "contract" and len(value.args) > 1 and _narrow(places):
        spec = parse_spec(value.attr("spec"))
        if not spec.summed and len(set(spec.output)) == len(spec.output):
            at = dict(zip(spec.output, places, strict=True))
            return [(a, tuple([at[x] for x in own])) for a, own in zip(value.args, spec.operands, strict=True)]
    if value.op.elementwise and value.args and _narrow(places):
        return [(a, places) for a in value.args]
    return None


def _narrow(places: Sequence[Place]) -> bool:
    """Whether fewer elements are read than there are: a label repeats, or a position is fixed."""
    labels = [x for p in places for x in p.labels]
    return len(set(labels)) < len(labels) or any(not p.labels for p in places)


def _joined(builder: Builder, value: Value, parts: list[Factor], sizes: Mapping[int, Size]) -> Factor:
    if value.op.name == "contract":
        if len(parts) == 1:
            return parts[0]
        labels = tuple(dict.fromkeys(x for p in parts for x in p.labels))
        return Factor(contract(builder, [p.value for p in parts], [p.labels for p in parts], labels), labels)
    labels = tuple(dict.fromkeys(x for p in parts for x in p.labels))
    spread = [contract(builder, [p.value], [p.labels], labels, sizes) for p in parts]
    return Factor(builder.make(value.op, tuple(spread), value.attrs), labels)


def _read(builder: Builder, value: Value, places: tuple[Place, ...], sizes: Mapping[int, Size]) -> Factor:
    if value.op.name == "const":
        return Factor(builder.const(value.attr("value"), (), value.type.dtype), ())
    # A position of several labels, or with a step that is no number, is an index like any other.
    places = tuple([p if _plain(p) else Indirect(index_of(builder, p, p.labels, sizes), p.labels) for p in places])
    if any(isinstance(p, Indirect) for p in places):
        value, places = _gathered(builder, value, places, sizes)
    starts: list[Size] = []
    steps: list[int] = []
    counts: list[Size] = []
    labels: list[int] = []
    fresh = 1 + max(sizes, default=-1)
    for place in places:
        assert isinstance(place, Affine)
        starts.append(place.start)
        if place.steps:
            label, step = place.steps[0]
            assert isinstance(step, int)
            labels.append(label)
            steps.append(step)
            counts.append(sizes[label])
        else:
            labels.append(fresh)
            fresh += 1
            steps.append(1)
            counts.append(1)
    kept = tuple(dict.fromkeys(x for x in labels if x in sizes))
    if value.type.rank:
        attrs = (("sizes", tuple(counts)), ("starts", tuple(starts)), ("steps", tuple(steps)))
        value = builder.make(builder.opset["slice"], (value,), attrs)
    if value.type.dtype == "bool":  # no sum, not even over one
        shape = tuple([n for x, n in zip(labels, counts, strict=True) if x in sizes])
        value = builder.make(builder.opset["reshape"], (value,), (("rank", value.type.rank), ("shape", shape)))
        labels = [x for x in labels if x in sizes]
    return Factor(contract(builder, [value], [tuple(labels)], kept), kept)


def _plain(place: Place) -> bool:
    return isinstance(place, Indirect) or (len(place.steps) < 2 and all(isinstance(s, int) for _, s in place.steps))


def _gathered(
    builder: Builder, value: Value, places: tuple[Place, ...], sizes: Mapping[int, Size]
) -> tuple[Value, tuple[Place, ...]]:
    """The indexed axes gathered, and what places are left. Axes with the same labels are indexed together."""
    indexed = {x for p in places if isinstance(p, Indirect) for x in p.labels}
    groups: dict[Labels, list[int]] = {}
    plain: list[int] = []
    for axis, place in enumerate(places):
        if isinstance(place, Indirect):
            groups.setdefault(place.labels, []).append(axis)
        elif set(place.labels) & indexed:
            # A diagonal through an indexed axis: the other axis is indexed too.
            groups.setdefault(tuple(sorted(place.labels)), []).append(axis)
        else:
            plain.append(axis)
    groups = _united(groups)
    order = [*plain, *(a for axes in groups.values() for a in axes)]
    value = contract(builder, [value], [tuple(range(value.type.rank))], tuple(order))
    left: list[Place] = [places[a] for a in plain]
    at = len(plain)
    for labels, axes in groups.items():
        indices = [index_of(builder, places[a], labels, sizes) for a in axes]
        axis = at - value.type.rank
        value = builder.make(builder.opset["gather"], (value, *indices), (("axis", axis),))
        left += [Affine(0, ((x, 1),)) for x in labels]
        at += len(labels)
    return value, tuple(left)


def _united(groups: dict[Labels, list[int]]) -> dict[Labels, list[int]]:
    """Groups that share labels joined, over the union of their labels."""
    result: list[tuple[list[int], list[int]]] = []
    for labels, axes in groups.items():
        own, members = list(labels), list(axes)
        rest: list[tuple[list[int], list[int]]] = []
        for other, others in result:
            if set(other) & set(own):
                own, members = list(dict.fromkeys([*other, *own])), [*others, *members]
            else:
                rest.append((other, others))
        result = [*rest, (own, members)]
    return {tuple(labels): axes for labels, axes in result}


def index_of(builder: Builder, place: Place, labels: Labels, sizes: Mapping[int, Size]) -> Value:
    """A place as an array of integers over `labels`."""
    if isinstance(place, Indirect):
        return contract(builder, [place.index], [place.labels], labels, sizes)
    total = Handle(builder, _number(builder, place.start, labels, sizes))
    for label, step in place.steps:
        iota = builder.make(builder.opset["iota"], (), (("size", sizes[label]),))
        along = Handle(builder, contract(builder, [iota], [(label,)], labels, sizes))
        total = total + (along if step == 1 else along * Handle(builder, _number(builder, step, labels, sizes)))
    return total.value


def _number(builder: Builder, number: Size, labels: Labels, sizes: Mapping[int, Size]) -> Value:
    scalar = builder.make(builder.opset["size"], (), (("dtype", "i64"), ("size", number)))
    return contract(builder, [scalar], [()], labels, sizes)


def index_label(place: Place, size: Size, sizes: Mapping[int, Size]) -> int:
    """The label of a place that runs through its axis; NoStructureError for others."""
    label = single_label(place, size, sizes)
    if label is None:
        raise NoStructureError
    return label
