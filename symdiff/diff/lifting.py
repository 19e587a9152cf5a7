"""Contractions with the structure of an operand outside: the product with a padding is the padding of a product.

What an operand has around it (deltas, paddings, triangles, branches not taken) is looked for `DEEP` levels deep. Values
do not change but where a zero by structure meets an infinity: there they are zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import Labels, Spec, contract, parse_spec
from symdiff.ir.dims import Shape, Size
from symdiff.ir.graph import Value

DEEP = 6
"""Levels of structure that are looked through."""
WIDE = 8
"""Parts of a concatenation and operands of a contraction that are many."""
PLACES = frozenset({"embed", "scatter_add", "tril", "triu"})
"""Linear ops with zeros around what they place."""


def operands(array: Handle) -> list[Handle]:
    return [Handle(array.builder, a) for a in array.value.args]


def is_zero(value: Value) -> bool:
    return value.op.name == "const" and value.attr("value") == 0


def window(whole: Handle, attrs: Mapping[str, Any], sizes: Shape) -> Handle:
    return whole.op("slice", starts=attrs["starts"], steps=attrs["steps"], sizes=sizes)


def structured(value: Value) -> bool:
    """Whether a value may have zeros by structure, by a look at what is near."""
    pending: list[tuple[Value, int]] = [(value, 0)]
    while pending:
        v, depth = pending.pop()
        name = v.op.name
        if name in PLACES:
            return True
        if name == "contract":
            output = parse_spec(v.attr("spec")).output
            if len(set(output)) < len(output):
                return True
        elif name in ("select", "concatenate"):
            if any(is_zero(a) for a in v.args):
                return True
            continue
        elif name not in ("neg", "reshape"):
            continue
        if depth < DEEP:
            pending += [(a, depth + 1) for a in v.args]
    return False


def settled(array: Handle) -> Handle:
    """A product in which no zero of one operand meets another: that is read on diagonals, and inside paddings."""
    for _ in range(DEEP):
        value = array.value
        if value.op.name != "contract" or len(value.args) < 2:
            break
        made = lifted(array, parse_spec(value.attr("spec")))
        if made is None:
            break
        array = made
    return array


def lifted(array: Handle, spec: Spec) -> Handle | None:
    """The contraction with the structure of an operand outside."""
    for place, operand in enumerate(array.value.args):
        name = operand.op.name
        if name == "contract":
            made = merged(array, spec, place)
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


def merged(array: Handle, spec: Spec, place: int) -> Handle | None:
    """An operand with a delta, or that only moves axes of something with structure, as part of the contraction."""
    inner = array.value.args[place]
    own = parse_spec(inner.attr("spec"))
    repeats = len(set(own.output)) < len(own.output)
    if own.summed or not (repeats or any(structured(a) for a in inner.args)):
        return None
    operands, within = inner.args, own.operands
    if len(operands) > 1 and len(array.value.args) + len(operands) > WIDE:
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
    own = [i for i, a in enumerate(joined.args) if not is_zero(a)]
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
    return window(Handle(builder, value), attrs, tuple([w[2] for w in each])).value


def _chosen(array: Handle, spec: Spec) -> Handle | None:
    """A choice that is repeated or turned is a choice of what is repeated or turned."""
    inner = array.value.args[0]
    if not any(is_zero(b) for b in inner.args[1:]):
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
