"""Cleaning up before native code: one pass along the program, linear in its length.

Takes a Function, gives an equal one that never does more work nor rounds worse: equal instructions are merged, exact
constants folded, instructions that no result needs dropped, moves of axes (transposes, broadcasts, diagonals,
identities) absorbed by the contraction that reads them, functions of a broadcast computed before it, guards inside
equal guards removed. Nothing here uses more than an instruction and its operands' instructions, and no guard at a kink
is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import Labels, Spec, contract, parse_spec
from symdiff.ir.dims import Size
from symdiff.ir.graph import AttrItems, Function, Value
from symdiff.ir.op import Op, OpSet
from symdiff.simplify import loops, merging, residuals
from symdiff.simplify.stable import RULES
from symdiff.simplify.views import number_in

Args: TypeAlias = "tuple[Value, ...]"
Local: TypeAlias = "Callable[[Builder, Args, AttrItems], Value | None]"


MOST_ROUNDS = 6


def optimize(function: Function, opset: OpSet) -> Function:
    """The cleaned-up program; cleaning it up again changes nothing."""
    return _optimized(function, {}, opset)


def _optimized(function: Function, known: dict[Function, Function], opset: OpSet) -> Function:
    """known: bodies, and what became of them. (Only bodies: comparing a whole program takes as long as cleaning it.)"""
    found = _cleaned(function, opset)
    if any(v.op.picks for v in found.instrs):
        # Loops that moved or merged may have more in common, so rounds go on until one changes nothing.
        for _ in range(MOST_ROUNDS):
            before, found = found, _shortened(found, known, opset)
            if found == before:
                break
    return found


def _shortened(function: Function, known: dict[Function, Function], opset: OpSet) -> Function:
    """One round over the loops of a function."""

    def clean(body: Function, _: OpSet) -> Function:
        found = known.get(body)
        if found is None:
            found = _optimized(body, known, opset)
            known[body] = known[found] = found
        return found

    # What one loop may hand to another shows while both are as they were derived.
    shared = residuals.handed_over(loops.with_bodies(function, opset, clean), opset)
    return _cleaned(merging.merged(loops.tidied(shared, opset, clean), opset), opset)


def _cleaned(function: Function, opset: OpSet) -> Function:
    builder = Builder(opset)
    mapping: dict[Value, Value] = {p: builder.adopt(p) for p in function.params}
    for value in function.instrs:
        args = tuple([mapping[a] for a in value.args])
        found = _found(builder, value.op, args, value.attrs)
        mapping[value] = builder.again(value, args) if found is None else found
    return Function.of([mapping[p] for p in function.params], [mapping[r] for r in function.results], function.name)


def _clean(builder: Builder, op: Op, args: Args, attrs: AttrItems) -> Value:
    found = _found(builder, op, args, attrs)
    return builder.make(op, args, attrs) if found is None else found


def _found(builder: Builder, op: Op, args: Args, attrs: AttrItems) -> Value | None:
    """What an instruction becomes, if it becomes another one."""
    local = LOCAL.get(op.name)
    if local is not None:
        found = local(builder, args, attrs)
        if found is not None:
            return found
    if op.elementwise and args[0].type.shape:  # a scalar is no broadcast
        return _before_broadcast(builder, op, args, attrs)
    return None


def _make(builder: Builder, name: str, *args: Value) -> Value:
    return _clean(builder, builder.opset[name], args, ())


# -------------------------------------------------------------------- arithmetic
def _add(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    a, b = args
    if b.op.name == "neg":
        return _make(builder, "sub", a, b.args[0])
    return _make(builder, "sub", b, a.args[0]) if a.op.name == "neg" else None


def _sub(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    a, b = args
    if b.op.name == "neg":
        return _make(builder, "add", a, b.args[0])
    if a is b and a.type.dtype == "i64":
        return builder.const(0, a.shape, a.type.dtype)
    return None


def _neg(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    (x,) = args
    if x.op.name == "neg":
        return x.args[0]
    return builder.make(x.op, x.args[::-1]) if x.op.name == "sub" else None


def _mul(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    a, b = args
    if a.op.name == "neg" and b.op.name == "neg":
        return _make(builder, "mul", a.args[0], b.args[0])
    if a.op.name != "const" and b.op.name != "const":
        return None
    na, nb = number_in(a), number_in(b)
    if na is None and nb is not None:
        a, b, na = b, a, nb
    if na is None:
        return None
    if na == -1:
        return _make(builder, "neg", b)
    inner = number_in(b.args[0]) if b.op.name == "mul" else None
    if inner is not None and a.type.floating:
        return _make(builder, "mul", builder.const(Fraction(na) * inner, a.shape, a.type.dtype), b.args[1])
    return builder.make(builder.opset["mul"], (a, b))


def _pow(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    x, power = args[0], number_in(args[1])
    if not x.type.floating:
        return None
    if power == 2:
        return _make(builder, "mul", x, x)
    if power == -1:
        return _make(builder, "div", builder.const(1, x.shape, x.type.dtype), x)
    return None


# -------------------------------------------------------------------- conditions
def _select(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    condition, a, b = args
    kept_a, kept_b = _under(builder, condition, a, True), _under(builder, condition, b, False)
    if kept_a is a and kept_b is b:
        return None
    return _make(builder, "select", condition, kept_a, kept_b)


def _under(builder: Builder, condition: Value, branch: Value, truth: bool) -> Value:
    """A branch without selections by the same condition, directly or as a factor."""
    if branch.op.name == "select" and branch.args[0] is condition:
        return branch.args[1 if truth else 2]
    if branch.op.name in ("mul", "neg", "div", "add", "sub"):
        side = 1 if truth else 2
        kept = [a.args[side] if a.op.name == "select" and a.args[0] is condition else a for a in branch.args]
        if any(new is not old for new, old in zip(kept, branch.args, strict=True)):
            return _clean(builder, branch.op, tuple(kept), branch.attrs)
    return branch


def _compared(builder: Builder, args: Args, attrs: AttrItems, wanted: bool) -> Value | None:
    """A comparison of an indicator with 0."""
    a, b = args
    if a.op.name != "cast" or a.args[0].type.dtype != "bool" or number_in(b) != 0:
        return None
    return a.args[0] if wanted else _make(builder, "not", a.args[0])


def _not(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    return args[0].args[0] if args[0].op.name == "not" else None


def _logic(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    return args[0] if args[0] is args[1] else None


# -------------------------------------------------------------------- contraction
def _contract(builder: Builder, args: Args, attrs: AttrItems) -> Value | None:
    """Operands that only move axes are read where they come from; filled operands become numbers."""
    if len(args) > 1 and any(a.op.name == "symmetric" for a in args):  # nothing stands between two products
        inner = tuple([a.args[0] if a.op.name == "symmetric" else a for a in args])
        return _clean(builder, builder.opset["contract"], inner, attrs)
    if not any(a.op.name == "contract" or (a.op.name == "const" and a.type.rank) for a in args):
        return None
    named: dict[str, Any] = dict(attrs)
    spec = parse_spec(named["spec"])
    work = _Reading(spec, named.get("sizes", ()), args)
    changed = False
    for arg, word in zip(args, spec.operands, strict=True):
        changed = work.read(builder, arg, word) or changed
    if not changed:
        return None
    return work.built(builder, next(a.type.dtype for a in args))


class _Reading:
    """Operands and labels of a contraction being rebuilt."""

    def __init__(self, spec: Spec, sizes: tuple[Size, ...], args: Args) -> None:
        self.output = spec.output
        self.sizes: dict[int, Size] = dict(zip(spec.free, sizes, strict=True))
        for word, arg in zip(spec.operands, args, strict=True):
            self.sizes.update(zip(word, arg.shape, strict=True))
        self.next = 1 + max(self.sizes, default=-1)
        self.args: list[Value] = []
        self.labels: list[Labels] = []
        self.same: dict[int, int] = {}

    def find(self, label: int) -> int:
        while label in self.same:
            label = self.same[label]
        return label

    def join(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        if a != b:
            self.same[max(a, b)] = min(a, b)

    def read(self, builder: Builder, arg: Value, word: Labels) -> bool:
        """Take one operand; True when something else is read in its place."""
        number = number_in(arg)
        if number is not None and word and arg.type.dtype != "bool":
            self.args.append(builder.const(number, (), arg.type.dtype))
            self.labels.append(())
            return True
        inner = parse_spec(arg.attr("spec")) if arg.op.name == "contract" else None
        if inner is None or len(inner.operands) > 1 or inner.summed:
            self.args.append(arg)
            self.labels.append(word)
            return False
        places: dict[int, int] = {}
        for x, y in zip(inner.output, word, strict=True):
            if x in places:
                self.join(places[x], y)
            else:
                places[x] = y
        for operand, own in zip(arg.args, inner.operands, strict=True):
            self.args.append(operand)
            self.labels.append(tuple([places[x] for x in own]))
        return True

    def built(self, builder: Builder, dtype: str) -> Value | None:
        labels = [tuple([self.find(x) for x in word]) for word in self.labels]
        output = tuple([self.find(x) for x in self.output])
        sizes = {self.find(x): s for x, s in self.sizes.items()}
        used = {x for word in labels for x in word} | set(output)
        for x, s in sizes.items():
            if x in used:
                continue
            # A sum that nothing depends on counts its length.
            if dtype == "bool":
                return None
            count = builder.make(builder.opset["size"], (), (("dtype", dtype), ("size", s)))
            self.args.append(count)
            labels.append(())
        if dtype == "bool" and len(self.args) != 1:
            return None
        return contract(builder, self.args, labels, output, {x: sizes[x] for x in output}, dtype)


def _before_broadcast(builder: Builder, op: Op, args: Args, attrs: AttrItems) -> Value | None:
    """f(broadcast(x)) = broadcast(f(x)): all operands the same broadcast, or constants."""
    first = next((a for a in args if a.op.name != "const"), None)
    if first is None or first.op.name != "contract" or len(first.args) != 1:
        return None
    named: dict[str, Any] = dict(first.attrs)
    if "sizes" not in named:
        return None
    spec = parse_spec(named["spec"])
    if spec.summed or len(set(spec.output)) < len(spec.output) or len(set(spec.operands[0])) < len(spec.operands[0]):
        return None
    shape = first.args[0].shape
    inner: list[Value] = []
    for a in args:
        if a.op.name == "const":
            inner.append(builder.const(a.attr("value"), shape, a.type.dtype))
        elif a.op.name == "contract" and len(a.args) == 1 and a.attrs == first.attrs and a.args[0].shape == shape:
            inner.append(a.args[0])
        else:
            return None
    small = _clean(builder, op, tuple(inner), attrs)
    sizes = dict(zip(spec.free, named["sizes"], strict=True))
    if small.op.name == "const":
        return builder.const(small.attr("value"), first.shape, small.type.dtype)
    return contract(builder, [small], spec.operands, spec.output, sizes)


def _stable(rule: Callable[[Builder, Args, Collection[Value]], Value | None]) -> Local:
    return lambda builder, args, attrs: rule(builder, args, ())


LOCAL: Mapping[str, Local] = {
    "add": _add, "sub": _sub, "neg": _neg, "mul": _mul, "pow": _pow, "select": _select, "not": _not, "and": _logic,
    "or": _logic, "contract": _contract,
    "eq": lambda builder, args, attrs: _compared(builder, args, attrs, False),
    "ne": lambda builder, args, attrs: _compared(builder, args, attrs, True),
    **{name: _stable(rule) for name, rule in RULES.items()},
}  # fmt: skip
