"""Forms that overflow in between as the functions they spell out: log(1 + exp x), log(sum(exp x)), 1/(1 + exp(-x)).

Their values are right far beyond where exp is infinite, and so are the derivatives of these functions, but not those of
the steps: at x = -800 the derivative of 1/(1 + exp(-x)) by the quotient rule is 0 times infinity. So they are read
before a program is differentiated or compiled. What a program differentiates in stays as it is, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

from symdiff.ir.builder import Builder
from symdiff.ir.contraction import parse_spec
from symdiff.ir.graph import AttrItems, Function, Value
from symdiff.simplify.views import number_in

Args: TypeAlias = "tuple[Value, ...]"
Held: TypeAlias = "Collection[Value]"
_LARGEST = frozenset({"reduce_max", "logsumexp", "maximum"})
_MOVES = frozenset({"contract", "reshape", "neg"})
_PEELED = 4


def _log(builder: Builder, args: Args, held: Held) -> Value | None:
    """softplus, logaddexp and logsumexp, and those of them that are repeated (keepdims)."""
    (x,) = args
    around: list[Value] = []
    while _repeats(x) and x not in held:
        around.append(x)
        x = x.args[0]
    found = None if x in held else _log_of(builder, x, held)
    if found is not None:
        for outer in reversed(around):
            found = builder.make(outer.op, (found,), outer.attrs)
    return found


def _log_of(builder: Builder, x: Value, held: Held) -> Value | None:
    if x.op.name == "add":
        first, second = [_exponent(a, held) for a in x.args]
        if first is not None and second is not None:
            return builder.make(builder.ops["logaddexp"], (first, second))
        u = _beside_one(x, held)
        return None if u is None else builder.make(builder.ops["softplus"], (u,))
    if x.op.name != "contract" or len(x.args) != 1:
        return None
    z, spec = _exponent(x.args[0], held), parse_spec(x.attr("spec"))
    (word,) = spec.operands
    kept = tuple([label for label in word if label in spec.output])
    if z is None or not spec.summed or spec.output != kept or len(set(word)) < len(word) or _shifted(z):
        return None
    axes = tuple([i - len(word) for i, label in enumerate(word) if label not in kept])
    return builder.make(builder.ops["logsumexp"], (z,), (("axes", axes),))


def _repeats(value: Value) -> bool:
    """Whether a value has the elements of another, moved and repeated."""
    if value.op.name == "reshape":
        return True
    if value.op.name != "contract" or len(value.args) != 1:
        return False
    spec = parse_spec(value.attr("spec"))
    return not spec.summed and len(set(spec.output)) == len(spec.output)


def _log1p(builder: Builder, args: Args, held: Held) -> Value | None:
    u = _exponent(args[0], held)
    return None if u is None else builder.make(builder.ops["softplus"], (u,))


def _div(builder: Builder, args: Args, held: Held) -> Value | None:
    """sigmoid, alone and as a factor, and powers of it."""
    above, below = args
    powered = below.op.name == "pow" and below not in held and number_in(below.args[1]) is not None
    u = _beside_one(below.args[0] if powered else below, held)
    if u is None:
        return None
    ops = builder.ops
    if _exponent(above, held) is u and not powered:
        return builder.make(ops["sigmoid"], (u,))
    minus = u.args[0] if u.op.name == "neg" else builder.make(ops["neg"], (u,))
    found = builder.make(ops["sigmoid"], (minus,))
    if powered:
        found = builder.make(below.op, (found, below.args[1]))
    return found if number_in(above) == 1 else builder.make(ops["mul"], (above, found))


def _exponent(value: Value, held: Held) -> Value | None:
    return value.args[0] if value.op.name == "exp" and value not in held else None


def _beside_one(value: Value, held: Held) -> Value | None:
    """u in 1 + exp(u)."""
    if value.op.name != "add" or value in held:
        return None
    a, b = value.args
    if number_in(a) == 1:
        return _exponent(b, held)
    return _exponent(a, held) if number_in(b) == 1 else None


def _shifted(z: Value) -> bool:
    """Whether a largest element was taken away already."""
    if z.op.name not in ("add", "sub"):
        return False
    for part in z.args:
        for _ in range(_PEELED):
            if part.op.name not in _MOVES:
                break
            part = part.args[0]
        if part.op.name in _LARGEST:
            return True
    return False


RULES: Mapping[str, Callable[[Builder, Args, Held], Value | None]] = {"log": _log, "log1p": _log1p, "div": _div}


def stabilized(builder: Builder, mapping: Mapping[Value, Value], held: Held) -> dict[Value, Value]:
    """`mapping` with its values, operands first, in stable form; those in `held`, and only they, stay what they are."""
    if not any(v.op.name == "exp" or v.op.picks for v in mapping.values()):
        return dict(mapping)
    made: dict[Value, Value] = {}
    bodies: dict[Function, Function] = {}
    kept = {mapping[x] for x in held}
    now: set[Value] = set()
    for value in mapping.values():
        if value in made:
            continue
        args = tuple([made.get(a, a) for a in value.args])
        rule = RULES.get(value.op.name)
        found = rule(builder, args, now) if rule is not None else None
        if found is None and value.op.picks:
            found = builder.make(value.op, args, _with_body(value.attrs, bodies, builder))
        made[value] = builder.remake(value, args) if found is None else found
        if value in kept:
            now.add(made[value])
    return {old: made[value] for old, value in mapping.items()}


def _with_body(attrs: AttrItems, known: dict[Function, Function], builder: Builder) -> AttrItems:
    body: Function = dict(attrs)["body"]
    if body not in known:
        work = Builder(builder.opset)
        mapping = stabilized(work, work.inline(body), ())
        known[body] = Function.of(
            [mapping[p] for p in body.params], [mapping[r] for r in body.results], body.name
        )
    return tuple([(k, known[body] if k == "body" else v) for k, v in attrs])
