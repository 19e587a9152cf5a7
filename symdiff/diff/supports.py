"""Products with arrays that have zeros by their structure: deltas, paddings, triangles, branches not taken.

There a factor does not matter, be it infinite: the slope of a root at the zeros around `pad(x)` meets a tangent that no
variable moves. So the factor is read where the array can be other than zero, and the product is given the structure:
c * pad(t) is pad(slice(c) * t), c * diag(t) is diag(diagonal(c) * t). That takes fewer operations, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from symdiff.diff.masks import masked
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Labels, Spec, contract, expand, parse_spec, times
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import Value

_DEEP = 6
"""Levels of structure that are looked through."""
_WIDE = 8
"""Parts of a concatenation and operands of a contraction that are many."""
_PLACES = frozenset({"embed", "scatter_add", "tril", "triu"})
"""Linear ops with zeros around what they place,"""
_MOVES = _PLACES | {"concatenate", "slice", "gather", "reshape", "cumsum", "symmetric"}
"""and those that repeat and sum elements, none of them with a minus."""


@dataclass(frozen=True, slots=True)
class _Look:
    """How many levels are still looked through, and whether the factor may be infinite where values are finite."""

    depth: int
    steep: bool

    def inside(self, factor: Handle, array: Handle) -> Handle | None:
        """The product with the structure of the array outside; None where it has none."""
        make = _INSIDE.get(array.value.op.name)
        return make(factor, array, _Look(self.depth - 1, self.steep)) if make is not None and self.depth else None

    def product(self, factor: Handle, array: Handle) -> Handle:
        made = self.inside(factor, array)
        if made is None and self.depth and _structured(factor.value):
            made = self.inside(array, expand(factor, array.shape))
        if made is not None:
            return made
        count = _count(array, self.depth) if self.steep else None
        return masked(None if count is None else count.op("eq", 0), times(factor, array))


def product(factor: Handle, array: Handle, steep: bool) -> Handle:
    """factor * array, broadcast over leading axes of `array`; zeros by structure of either stay zero.

    steep: whether the factor may be infinite where values are finite. Then zeros that sums and moves of other elements
    leave are told by a mask.
    """
    return _Look(_DEEP, steep).product(factor, array) if factor.rank else times(factor, array)


def _args(array: Handle) -> list[Handle]:
    return [Handle(array.builder, a) for a in array.value.args]


def _is_zero(value: Value) -> bool:
    return value.op.name == "const" and value.attr("value") == 0


# -------------------------------------------------------------------- paddings
def _embed(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    (x,), attrs = _args(array), dict(array.value.attrs)
    count = len(attrs["starts"])
    if count > factor.rank:
        return None
    return look.product(_window(factor, attrs, x.shape[x.rank - count :]), x).op("embed", **attrs)


def _window(whole: Handle, attrs: Mapping[str, Any], sizes: Shape) -> Handle:
    return whole.op("slice", starts=attrs["starts"], steps=attrs["steps"], sizes=sizes)


def _scatter(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    x, *indices = _args(array)
    axis = array.value.attr("axis")
    if -axis > factor.rank:
        return None
    return look.product(factor.op("gather", *indices, axis=axis), x).op(
        "scatter_add", *indices, **dict(array.value.attrs)
    )


def _concatenate(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    parts, axis = _args(array), array.value.attr("axis")
    if -axis > factor.rank or not _apart(array.value, look.steep):
        return None
    made: list[Handle] = []
    start: Size = 0
    for part in parts:
        size, after = part.shape[axis], factor.shape[factor.rank + axis + 1 :]
        own = _window(factor, {"starts": (start, *(0,) * len(after)), "steps": (1,) * -axis}, (size, *after))
        made.append(part if _is_zero(part.value) else look.product(own, part))
        start = start + size
    return made[0].op("concatenate", *made[1:], axis=axis)


_ZEROS: WeakKeyDictionary[Value, tuple[bool, bool]] = WeakKeyDictionary()
"""Whether a concatenation has parts with structure, and parts that are zero: looked for once."""


def _apart(joined: Value, steep: bool) -> bool:
    """Whether the parts of a concatenation are multiplied one by one: many of them only where that matters."""
    found = _ZEROS.get(joined)
    if found is None:
        found = any(_structured(p) for p in joined.args), any(_is_zero(p) for p in joined.args)
        _ZEROS[joined] = found
    structured, zero = found
    return structured or (zero and (steep or len(joined.args) <= _WIDE))


# -------------------------------------------------------------------- triangles, branches, what lies on top
def _triangle(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    return look.product(factor, *_args(array)).op(array.value.op.name, k=array.value.attr("k"))


def _select(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    mask, *branches = _args(array)
    if not any(_is_zero(b.value) for b in branches):
        return None
    return mask.op("select", *[b if _is_zero(b.value) else look.product(factor, b) for b in branches])


def _negative(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    made = look.inside(factor, *_args(array))
    return None if made is None else -made


def _sum(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    """Terms of different structure one by one, where that matters."""
    if not look.steep or any(a.op.name in ("add", "sub") for a in array.value.args):
        return None
    parts = [look.inside(factor, x) for x in _args(array)]
    return None if parts[0] is None or parts[1] is None else parts[0].op(array.value.op.name, parts[1])


def _reshape(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    (x,), attrs = _args(array), dict(array.value.attrs)
    count = len(attrs["shape"])
    if count > factor.rank or not _structured(x.value):
        return None
    own = factor.op("reshape", rank=count, shape=x.shape[x.rank - attrs["rank"] :])
    made = look.inside(own, x)
    return None if made is None else made.op("reshape", **attrs)


# -------------------------------------------------------------------- contractions
def _contract(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    value = array.value
    spec = parse_spec(value.attr("spec"))
    if len(set(spec.output)) < len(spec.output):
        return _delta(factor, array, spec, look)
    lifted = _lifted(array, spec)
    return None if lifted is None else look.inside(factor, lifted)


def _delta(factor: Handle, array: Handle, spec: Spec, look: _Look) -> Handle:
    """Read the factor on the diagonal."""
    builder, value = array.builder, array.value
    sizes: dict[int, Size] = dict(zip(spec.output, value.shape, strict=True))
    tail = spec.output[len(spec.output) - factor.rank :]
    own = tuple(dict.fromkeys(tail))
    known = {x for word in spec.operands for x in word}
    before = tuple([x for x in dict.fromkeys(spec.output) if x in known and x not in own])
    core = Handle(builder, contract(builder, value.args, spec.operands, (*before, *own), sizes, value.type.dtype))
    across = Handle(builder, contract(builder, [factor.value], [tail], own))
    made = look.product(across, core).value
    return Handle(builder, contract(builder, [made], [(*before, *own)], spec.output, sizes))


def _lifted(array: Handle, spec: Spec) -> Handle | None:
    """The contraction with the structure of an operand outside."""
    for place, operand in enumerate(array.value.args):
        name = operand.op.name
        if name == "contract":
            made = _merged(array, spec, place)
        elif name == "embed":
            made = _trimmed(array, spec, place)
        elif name == "concatenate":
            padded = _padded(array.builder, operand)
            made = None if padded is None else _trimmed(_with(array, place, padded), spec, place)
        elif name == "select" and len(array.value.args) == 1 and not spec.summed:
            made = _chosen(array, spec)
        elif name in ("tril", "triu"):
            made = _cornered(array, spec, place)
        else:
            continue
        if made is not None:
            return made
    return None


def _free(array: Handle, spec: Spec) -> dict[int, Size]:
    return dict(zip(spec.free, array.value.attr("sizes", ()), strict=True))


def _merged(array: Handle, spec: Spec, place: int) -> Handle | None:
    """An operand with a delta, or that only moves axes of something with structure, as part of the contraction."""
    inner = array.value.args[place]
    own = parse_spec(inner.attr("spec"))
    repeats = len(set(own.output)) < len(own.output)
    if own.summed or not (repeats or any(_structured(a) for a in inner.args)):
        return None
    operands, within = inner.args, own.operands
    if len(operands) > 1 and len(array.value.args) + len(operands) > _WIDE:
        if not repeats:
            return None
        # What the delta is of stays a product of its own: along a chain of them every one would hold all before.
        known = {x for word in within for x in word}
        core = tuple([x for x in dict.fromkeys(own.output) if x in known])
        operands, within = (contract(array.builder, operands, within, core),), (core,)
    base = 1 + max((x for word in (*spec.operands, spec.output) for x in word), default=-1)
    same: dict[int, int] = {}

    def find(x: int) -> int:
        while x in same:
            x = same[x]
        return x

    for outer, x in zip(spec.operands[place], own.output, strict=True):
        a, b = find(outer), find(x + base)
        if a != b:
            same[max(a, b)] = min(a, b)
    sizes = {find(x): s for x, s in _free(array, spec).items()}
    sizes.update({find(x + base): s for x, s in zip(own.output, inner.shape, strict=True)})
    args, words = list(array.value.args), [tuple([find(x) for x in word]) for word in spec.operands]
    args[place : place + 1] = operands
    words[place : place + 1] = [tuple([find(x + base) for x in word]) for word in within]
    output = tuple([find(x) for x in spec.output])
    if not set(sizes) <= {x for word in words for x in word} | set(output):
        return None  # a label that nothing but the delta had is summed: its size counts
    return Handle(array.builder, contract(array.builder, args, words, output, sizes, array.dtype))


def _with(array: Handle, place: int, operand: Value) -> Handle:
    args = list(array.value.args)
    args[place] = operand
    return Handle(array.builder, array.builder.make(array.value.op, tuple(args), array.value.attrs))


def _padded(builder: Builder, joined: Value) -> Value | None:
    """A concatenation of one part and zeros as a padding."""
    own = [i for i, a in enumerate(joined.args) if not _is_zero(a)]
    if len(own) != 1:
        return None
    part, axis = Handle(builder, joined.args[own[0]]), joined.attr("axis")
    start: Size = 0
    for before in joined.args[: own[0]]:
        start = start + before.shape[axis]
    beside = (0,) * (-axis - 1)
    sizes = joined.shape[axis:]
    return part.op("embed", starts=(start, *beside), steps=(1,) * -axis, sizes=sizes).value


def _trimmed(array: Handle, spec: Spec, place: int) -> Handle | None:
    """Only the padded part of an operand takes part; along axes of the result it stands among zeros again."""
    builder, padded = array.builder, array.value.args[place]
    attrs, x = dict(padded.attrs), padded.args[0]
    count = len(attrs["starts"])
    word = spec.operands[place][x.type.rank - count :]
    windows = {
        label: (start, step, size)
        for label, start, step, size, whole in zip(
            word, attrs["starts"], attrs["steps"], x.shape[x.type.rank - count :], attrs["sizes"], strict=True
        )
        if (start, step, size) != (0, 1, whole)
    }
    words = [*spec.operands, spec.output]
    if any(spec.operands[place].count(label) > 1 or spec.output.count(label) > 1 for label in windows):
        return None
    args = [x if i == place else _cut(builder, a, own, windows) for i, (a, own) in
            enumerate(zip(array.value.args, words[:-1], strict=True))]  # fmt: skip
    made = Handle(builder, contract(builder, args, spec.operands, spec.output, _free(array, spec)))
    if windows.keys().isdisjoint(spec.output):
        return made
    first = min(spec.output.index(label) for label in windows if label in spec.output)
    word, sizes = spec.output[first:], array.shape[first:]
    each = [windows.get(label, (0, 1, size)) for label, size in zip(word, sizes, strict=True)]
    return made.op("embed", starts=[w[0] for w in each], steps=[w[1] for w in each], sizes=sizes)


def _cut(builder: Builder, value: Value, word: Labels, windows: Mapping[int, tuple[Size, int, Size]]) -> Value:
    if windows.keys().isdisjoint(word):
        return value
    each = [windows.get(label, (0, 1, size)) for label, size in zip(word, value.shape, strict=True)]
    attrs = {"starts": [w[0] for w in each], "steps": [w[1] for w in each]}
    return _window(Handle(builder, value), attrs, tuple([w[2] for w in each])).value


def _chosen(array: Handle, spec: Spec) -> Handle | None:
    """A choice that is repeated or turned is a choice of what is repeated or turned."""
    inner = array.value.args[0]
    if not any(_is_zero(b) for b in inner.args[1:]):
        return None
    sizes = _free(array, spec)
    mask, *branches = [
        Handle(array.builder, contract(array.builder, [a], spec.operands, spec.output, sizes)) for a in inner.args
    ]
    return mask.op("select", *branches)


def _cornered(array: Handle, spec: Spec, place: int) -> Handle | None:
    """A triangle whose rows and columns are the last axes of the result."""
    inner, corner = array.value.args[place], spec.operands[place][-2:]
    if spec.output[-2:] != corner or corner[0] == corner[1]:
        return None
    args = list(array.value.args)
    args[place] = inner.args[0]
    made = Handle(array.builder, contract(array.builder, args, spec.operands, spec.output, _free(array, spec)))
    return made.op(inner.op.name, k=inner.attr("k"))


# -------------------------------------------------------------------- zeros that sums leave
_COUNTS: WeakKeyDictionary[Builder, dict[tuple[Value, int], Value | None]] = WeakKeyDictionary()
"""What was counted already: the products of a long program see the same values."""


def _count(array: Handle, depth: int) -> Handle | None:
    """An array of numbers that are 0 where `array` is by its structure; None where no structure is seen."""
    if not depth or not array.value.type.floating:
        return None
    counts, key = _COUNTS.setdefault(array.builder, {}), (array.value, depth)
    if key not in counts:
        made = _counted(array, depth) if _near(array.value, depth) else None
        counts[key] = None if made is None else made.value
    found = counts[key]
    return None if found is None else Handle(array.builder, found)


def _near(value: Value, depth: int) -> bool:
    """Whether anything that makes zeros is so many levels near, contractions in contractions not counted."""
    level = {value}
    for _ in range(depth + _DEEP):
        if any(v.op.name in _PLACES or _is_zero(v) for v in level):
            return True
        level = {a for v in level for a in v.args}
    return False


def _counted(array: Handle, depth: int) -> Handle | None:
    value, name = array.value, array.value.op.name
    if _is_zero(value):
        return array.const(0, dtype="f64")
    if name == "contract":
        return _count_contracted(array, depth - 1)
    counts = [_count(x, depth - 1) for x in _args(array)]
    known = [c for c in counts if c is not None]
    if name in ("neg", "cast"):
        return counts[0]
    if name == "mul":
        return known[0] * known[1] if len(known) == 2 else known[0] if known else None
    if name in ("add", "sub"):
        return known[0] + known[1] if len(known) == 2 else None
    if name == "select" and known:
        return array.builder.apply(value.op, _or_ones(array, counts), {})
    if name not in _MOVES or not (known or name in _PLACES):
        return None
    return array.builder.apply(value.op, _or_ones(array, counts), dict(value.attrs))


def _or_ones(array: Handle, counts: Sequence[Handle | None]) -> list[Handle]:
    """What is known of every operand, 1 where that is nothing; conditions and indices as they are."""
    return [
        x if not x.value.type.floating else x.const(1, dtype="f64") if c is None else c
        for x, c in zip(_args(array), counts, strict=True)
    ]


def _count_contracted(array: Handle, depth: int) -> Handle | None:
    for _ in range(_DEEP):
        spec = parse_spec(array.value.attr("spec"))
        places = [i for i, a in enumerate(array.value.args) if a.op.name == "contract"]
        made = next((m for i in places if (m := _merged(array, spec, i)) is not None), None)
        if made is None or made.value.op.name != "contract":
            break
        array = made
    value, spec = array.value, parse_spec(array.value.attr("spec"))
    counts = [_count(x, depth) for x in _args(array)]
    if len(set(spec.output)) < len(spec.output) or all(c is None for c in counts):
        return None  # a mask of a delta would be as large as a Jacobian
    args = [a.value for a in _or_ones(array, counts)]
    sizes: dict[int, Size] = dict(zip(spec.output, value.shape, strict=True))
    return Handle(array.builder, contract(array.builder, args, spec.operands, spec.output, sizes))


_INSIDE = {
    "embed": _embed, "scatter_add": _scatter, "concatenate": _concatenate, "tril": _triangle, "triu": _triangle,
    "select": _select, "neg": _negative, "reshape": _reshape, "contract": _contract,
    "add": _sum, "sub": _sum,
}  # fmt: skip


def _structured(value: Value) -> bool:
    """Whether a value may have zeros by structure, by a look at what is near."""
    pending: list[tuple[Value, int]] = [(value, 0)]
    while pending:
        v, depth = pending.pop()
        name = v.op.name
        if name in _PLACES:
            return True
        if name == "contract":
            output = parse_spec(v.attr("spec")).output
            if len(set(output)) < len(output):
                return True
        elif name in ("select", "concatenate"):
            if any(_is_zero(a) for a in v.args):
                return True
            continue
        elif name not in ("neg", "reshape"):
            continue
        if depth < _DEEP:
            pending += [(a, depth + 1) for a in v.args]
    return False


def settled(array: Handle) -> Handle:
    """A product in which no zero of one operand meets another: that is read on diagonals, and inside paddings."""
    for _ in range(_DEEP):
        value = array.value
        if value.op.name != "contract" or len(value.args) < 2:
            break
        made = _lifted(array, parse_spec(value.attr("spec")))
        if made is None:
            break
        array = made
    return array


def joined(a: Handle, b: Handle) -> Handle:
    """a + b, under one structure when both have the same."""
    around: list[Value] = []
    x, y = a.value, b.value
    while len(around) < _DEEP and x.op is y.op and x.attrs == y.attrs and _alike(x, y):
        around.append(x)
        x, y = _moved(x), _moved(y)
    made = (Handle(a.builder, x) + Handle(a.builder, y)).value
    for layer in reversed(around):
        at = layer.args.index(_moved(layer))
        made = a.builder.make(layer.op, (*layer.args[:at], made, *layer.args[at + 1 :]), layer.attrs)
    return Handle(a.builder, made)


def _moved(value: Value) -> Value:
    """The operand that a structure is around."""
    return next(a for a in value.args if a.type.floating and not _is_zero(a))


def _alike(x: Value, y: Value) -> bool:
    name = x.op.name
    if name in ("embed", "tril", "triu", "neg", "scatter_add"):
        a, b = x.args[0], y.args[0]
        return a.type == b.type and x.args[1:] == y.args[1:] and not (_is_zero(a) or _is_zero(b))
    if name == "select":
        zeros = [[_is_zero(b) for b in v.args[1:]] for v in (x, y)]
        return x.args[0] is y.args[0] and zeros[0] == zeros[1] and sum(zeros[0]) == 1
    if name == "contract" and len(x.args) == len(y.args) == 1:
        spec = parse_spec(x.attr("spec"))
        return not spec.summed and len(set(spec.output)) < len(spec.output) and x.args[0].shape == y.args[0].shape
    return False

