"""Products with arrays that have zeros by their structure: deltas, paddings, triangles, branches not taken.

There a factor does not matter, be it infinite: the slope of a root at the zeros around `pad(x)` meets a tangent that no
variable moves. So the factor is read where the array can be other than zero, and the product is given the structure:
c * pad(t) is pad(slice(c) * t), c * diag(t) is diag(diagonal(c) * t). That takes fewer operations, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from symdiff.diff.lifting import DEEP, WIDE, is_zero, lifted, operands, structured, window
from symdiff.diff.masks import masked
from symdiff.diff.zeros import zero_mask
from symdiff.ir.builder import Handle
from symdiff.ir.contraction import Spec, contract, expand, parse_spec, times
from symdiff.ir.dims import Size
from symdiff.ir.graph import Value


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
        if made is None and self.depth and structured(factor.value):
            made = self.inside(array, expand(factor, array.shape))
        if made is not None:
            return made
        return masked(zero_mask(array, self.depth) if self.steep else None, times(factor, array))


def product(factor: Handle, array: Handle, steep: bool) -> Handle:
    """factor * array, broadcast over leading axes of `array`; zeros by structure of either stay zero.

    steep: whether the factor may be infinite where values are finite. Then zeros that sums and moves of other elements
    leave are told by a mask.
    """
    return _Look(DEEP, steep).product(factor, array) if factor.rank else times(factor, array)


# -------------------------------------------------------------------- paddings
def _embed(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    (x,), attrs = operands(array), dict(array.value.attrs)
    count = len(attrs["starts"])
    if count > factor.rank:
        return None
    return look.product(window(factor, attrs, x.shape[x.rank - count :]), x).op("embed", **attrs)


def _scatter(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    x, *indices = operands(array)
    axis = array.value.attr("axis")
    if -axis > factor.rank:
        return None
    return look.product(factor.op("gather", *indices, axis=axis), x).op(
        "scatter_add", *indices, **dict(array.value.attrs)
    )


def _concatenate(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    parts, axis = operands(array), array.value.attr("axis")
    if -axis > factor.rank or not _apart(array.value, look.steep):
        return None
    made: list[Handle] = []
    start: Size = 0
    for part in parts:
        size, after = part.shape[axis], factor.shape[factor.rank + axis + 1 :]
        own = window(factor, {"starts": (start, *(0,) * len(after)), "steps": (1,) * -axis}, (size, *after))
        made.append(part if is_zero(part.value) else look.product(own, part))
        start = start + size
    return made[0].op("concatenate", *made[1:], axis=axis)


_ZEROS: WeakKeyDictionary[Value, tuple[bool, bool]] = WeakKeyDictionary()
"""Whether a concatenation has parts with structure, and parts that are zero: looked for once."""


def _apart(joined: Value, steep: bool) -> bool:
    """Whether the parts of a concatenation are multiplied one by one: many of them only where that matters."""
    found = _ZEROS.get(joined)
    if found is None:
        found = any(structured(p) for p in joined.args), any(is_zero(p) for p in joined.args)
        _ZEROS[joined] = found
    placed, zero = found
    return placed or (zero and (steep or len(joined.args) <= WIDE))


# -------------------------------------------------------------------- triangles, branches, what lies on top
def _triangle(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    return look.product(factor, *operands(array)).op(array.value.op.name, k=array.value.attr("k"))


def _select(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    mask, *branches = operands(array)
    if not any(is_zero(b.value) for b in branches):
        return None
    return mask.op("select", *[b if is_zero(b.value) else look.product(factor, b) for b in branches])


def _negative(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    made = look.inside(factor, *operands(array))
    return None if made is None else -made


def _sum(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    """Terms of different structure one by one, where that matters."""
    if not look.steep or any(a.op.name in ("add", "sub") for a in array.value.args):
        return None
    parts = [look.inside(factor, x) for x in operands(array)]
    return None if parts[0] is None or parts[1] is None else parts[0].op(array.value.op.name, parts[1])


def _reshape(factor: Handle, array: Handle, look: _Look) -> Handle | None:
    (x,), attrs = operands(array), dict(array.value.attrs)
    count = len(attrs["shape"])
    if count > factor.rank or not structured(x.value):
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
    outside = lifted(array, spec)
    return None if outside is None else look.inside(factor, outside)


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


_INSIDE = {
    "embed": _embed, "scatter_add": _scatter, "concatenate": _concatenate, "tril": _triangle, "triu": _triangle,
    "select": _select, "neg": _negative, "reshape": _reshape, "contract": _contract,
    "add": _sum, "sub": _sum,
}  # fmt: skip


def joined(a: Handle, b: Handle) -> Handle:
    """a + b, under one structure when both have the same."""
    around: list[Value] = []
    x, y = a.value, b.value
    while len(around) < DEEP and x.op is y.op and x.attrs == y.attrs and _alike(x, y):
        around.append(x)
        x, y = _moved(x), _moved(y)
    made = (Handle(a.builder, x) + Handle(a.builder, y)).value
    for layer in reversed(around):
        at = layer.args.index(_moved(layer))
        made = a.builder.make(layer.op, (*layer.args[:at], made, *layer.args[at + 1 :]), layer.attrs)
    return Handle(a.builder, made)


def _moved(value: Value) -> Value:
    """The operand that a structure is around."""
    return next(a for a in value.args if a.type.floating and not is_zero(a))


def _alike(x: Value, y: Value) -> bool:
    name = x.op.name
    if name in ("embed", "tril", "triu", "neg", "scatter_add"):
        a, b = x.args[0], y.args[0]
        return a.type == b.type and x.args[1:] == y.args[1:] and not (is_zero(a) or is_zero(b))
    if name == "select":
        zeros = [[is_zero(b) for b in v.args[1:]] for v in (x, y)]
        return x.args[0] is y.args[0] and zeros[0] == zeros[1] and sum(zeros[0]) == 1
    if name == "contract" and len(x.args) == len(y.args) == 1:
        spec = parse_spec(x.attr("spec"))
        return not spec.summed and len(set(spec.output)) < len(spec.output) and x.args[0].shape == y.args[0].shape
    return False

