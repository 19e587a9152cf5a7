"""What one instruction computes, as a short formula over the names of its operands, and what it does to gradients.

Formulas are for people: W x, xᵀ y, sum(z, axis 0), x². An index specification that has no such form is written as an
einsum. Long operand lists are abbreviated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from symdiff.ir.contraction import Spec, parse_spec
from symdiff.ir.dims import Shape
from symdiff.ir.graph import Value

LONGEST = 44  # characters of a formula

_INFIX = {
    "add": "+", "sub": "-", "div": "/", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠", "and": "∧",
    "or": "∨", "xor": "⊕", "mod": "mod", "floor_divide": "//",
}  # fmt: skip
_CALLED = {
    "maximum": "max", "minimum": "min", "reduce_max": "max", "reduce_min": "min", "reduce_prod": "prod",
    "concatenate": "concat", "scatter_add": "scatter", "logabsdet": "log|det|", "signdet": "sign det",
}  # fmt: skip
_SPECIAL = {"pi": "π", "e": "e", "euler_gamma": "γ", "inf": "∞", "-inf": "-∞", "nan": "nan", "-0.0": "-0"}
_POWERS = {2: "²", 3: "³", -1: "⁻¹"}
_ATOM = re.compile(r"[\w.²³⁻¹ᵀ'′∞]+|[\w.]*\(.*\)|\|.*\||‖.*‖")


# -------------------------------------------------------------------- constants
def plain_constant(value: Value) -> str | None:
    """The text of a value that has no operands and is no parameter: a number, a dimension, an identity."""
    name = value.op.name
    if value.args or value.is_param:
        return None
    if name == "const":
        return number_text(value.attr("value"))
    if name == "size":
        return str(value.attr("size"))
    if name == "iota":
        return f"arange({value.attr('size')})"
    if name == "array":
        array = value.attr("value").array
        return f"[{', '.join(f'{x:.4g}' for x in array)}]" if array.ndim == 1 and array.size <= 3 else "array"
    if name == "contract":
        return "I" if str(value.attr("spec")) == "->ii" else "δ"
    return None


def number_text(number: bool | int | Fraction | str) -> str:
    """An exact constant: 3, 0.5, 1/3, π."""
    if isinstance(number, str):
        return _SPECIAL[number]
    if not isinstance(number, Fraction):
        return str(number) if abs(number) < 10**7 else f"{float(number):.4g}"
    short = repr(float(number))
    if len(short) <= 7 and Fraction(short) == number:
        return short
    exact = f"{number.numerator}/{number.denominator}"
    return exact if len(exact) <= 7 else f"{float(number):.4g}"


# -------------------------------------------------------------------- formulas
def formula(value: Value, operands: Sequence[str]) -> str:
    """What `value` computes from operands with the given names or texts."""
    name = value.op.name
    if not value.args:
        text = plain_constant(value) or name
    elif name == "contract":
        text = _contraction(value, parse_spec(value.attr("spec")), [_atom(x) for x in operands])
    elif name in _FORMS:
        text = _FORMS[name](value, [_atom(x) for x in operands])
    elif name in _INFIX:
        text = f"{_atom(operands[0])} {_INFIX[name]} {_atom(operands[1])}"
    else:
        text = _call(_CALLED.get(name, str(value.attr("name", name))), operands, _axes(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def _atom(text: str) -> str:
    return text if _ATOM.fullmatch(text) else f"({text})"


def _call(name: str, operands: Sequence[str], axes: str = "") -> str:
    shown = [*operands[:2], "…", operands[-1]] if len(operands) > 4 else list(operands)
    return f"{name}({', '.join([*shown, axes] if axes else shown)})"


def _axes(value: Value) -> str:
    """The axes an operation works on, counted from the front; nothing when it is all of them."""
    axes = value.attr("axes", (value.attr("axis"),))
    rank = value.args[0].type.rank
    if not isinstance(axes, tuple) or not all(isinstance(a, int) for a in axes) or len(axes) == rank:
        return ""
    fronts = [str(a + rank) for a in axes if isinstance(a, int)]
    return f"axis {fronts[0]}" if len(fronts) == 1 else f"axes {' '.join(fronts)}"


def _power(value: Value, xs: Sequence[str]) -> str:
    exponent = value.args[1].attr("value") if value.args[1].op.name == "const" else None
    return xs[0] + _POWERS[exponent] if exponent in _POWERS else f"{xs[0]}^{xs[1]}"


def _undefined(value: Value, xs: Sequence[str]) -> str:
    wrt = value.attr("wrt")
    single = len(xs) == 1
    mark = "′" * len(wrt) if single else "".join(f"_{i + 1}" for i in wrt)
    return _call(f"{value.attr('name')}{mark}", xs)


def _sliced(value: Value, xs: Sequence[str]) -> str:
    starts, steps, sizes = value.attr("starts"), value.attr("steps"), value.attr("sizes")
    whole = value.args[0].shape[value.args[0].type.rank - len(sizes) :]
    parts = [":"] * (value.args[0].type.rank - len(sizes))
    for start, step, count, size in zip(starts, steps, sizes, whole, strict=True):
        if start == 0 and step == 1 and count == size:
            parts.append(":")
        elif step == 1:
            parts.append(f"{start}:{start + count}")
        else:
            parts.append(f"{start}::{step}")
    return f"{xs[0]}[{', '.join(parts)}]"


_FORMS: Mapping[str, Callable[[Value, Sequence[str]], str]] = {
    "mul": lambda v, xs: f"{xs[0]} {'⊙' if v.type.rank else '·'} {xs[1]}",
    "neg": lambda v, xs: f"-{xs[0]}",
    "not": lambda v, xs: f"¬{xs[0]}",
    "pow": _power,
    "abs": lambda v, xs: f"|{_bare(xs[0])}|",
    "norm": lambda v, xs: f"‖{_bare(xs[0])}‖" + (f" over {_axes(v)}" if _axes(v) else ""),
    "select": lambda v, xs: f"{xs[1]} if {xs[0]} else {xs[2]}",
    "cast": lambda v, xs: f"{v.attr('dtype')}({_bare(xs[0])})",
    "inverse": lambda v, xs: f"{xs[0]}⁻¹",
    "solve": lambda v, xs: f"{xs[0]}⁻¹ {xs[1]}",
    "triangular_solve": lambda v, xs: f"{xs[0]}{'⁻¹ᵀ' if v.attr('trans') else '⁻¹'} {xs[1]}",
    "apply": _undefined,
    "functional": _undefined,
    "slice": _sliced,
    "gather": lambda v, xs: f"{xs[0]}[{', '.join(_bare(x) for x in xs[1:])}]",
    "reshape": lambda v, xs: _call("reshape", [_bare(xs[0])]),
}  # fmt: skip


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


# -------------------------------------------------------------------- contractions
def _contraction(value: Value, spec: Spec, xs: Sequence[str]) -> str:
    text = str(spec)
    if len(xs) == 1:
        return _of_one(spec, text, xs[0], value.args[0].shape)
    if len(xs) == 2 and text in _PAIRS:
        return _PAIRS[text].format(*xs)
    words = [set(word) for word in spec.operands]
    if not spec.summed and not spec.free and all(len(w) == len(o) for w, o in zip(words, spec.operands, strict=True)):
        if any(not w for w in words):  # scalars in front of one array
            return " · ".join([x for x, w in zip(xs, words, strict=True) if not w]
                              + [x for x, w in zip(xs, words, strict=True) if w])  # fmt: skip
        if len(set(spec.output)) == len(spec.output) and any(w == set(spec.output) for w in words):
            return " ⊙ ".join(xs)  # an elementwise product, one factor broadcast
    return _call("einsum", [f'"{text}"', *xs])


# The rest of two-operand products go by their text, which is numbered by first appearance.
_PAIRS = {
    "i,i->": "{0}ᵀ {1}", "ij,j->i": "{0} {1}", "ij,i->j": "{0}ᵀ {1}", "i,ij->j": "{0}ᵀ {1}", "i,ji->j": "{1} {0}",
    "ij,jk->ik": "{0} {1}", "ij,ik->jk": "{0}ᵀ {1}", "ij,kj->ik": "{0} {1}ᵀ", "ij,ki->jk": "({1} {0})ᵀ",
    "i,j->ij": "{0} {1}ᵀ", "i,j->ji": "{1} {0}ᵀ", "ij,ij->": "sum({0} ⊙ {1})", "ij,jk->ki": "({0} {1})ᵀ",
    "ijk,ikl->ijl": "{0} {1}", ",->": "{0} · {1}", "i,ij->ij": "diag({0}) {1}", "ij,i->ij": "diag({1}) {0}",
}  # fmt: skip


def _of_one(spec: Spec, text: str, x: str, shape: Shape) -> str:
    labels, output = spec.operands[0], spec.output
    bare = _bare(x)
    distinct = len(set(labels)) == len(labels) and len(set(output)) == len(output)
    if text == "ii->":
        return f"trace({bare})"
    if text in ("ii->i", "i->ii"):
        return f"diag({bare})"
    if distinct and text == "ij->ji":
        return f"{x}ᵀ"
    if distinct and not spec.free and set(labels) == set(output):
        return f"transpose({bare}, {' '.join(str(labels.index(i)) for i in output)})"
    if distinct and not spec.free and tuple(i for i in labels if i in output) == output:
        gone = [str(k) for k, i in enumerate(labels) if i not in output]
        if len(gone) == len(labels):
            return f"sum({bare})"
        return f"sum({bare}, {'axis' if len(gone) == 1 else 'axes'} {' '.join(gone)})"
    # An axis of size 1 that is replaced by a larger one counts as broadcast, as in NumPy.
    kept = tuple(i for i in labels if i in output)
    ones = all(shape[labels.index(i)] == 1 for i in spec.summed)
    if distinct and spec.free and ones and tuple(i for i in output if i in labels) == kept:
        return f"broadcast({bare})"
    return f'einsum("{text}", {bare})'


# -------------------------------------------------------------------- intuitions
_ROUTES = {
    "maximum": "max routes", "minimum": "min routes", "reduce_max": "max routes", "reduce_min": "min routes",
    "select": "select routes", "relu": "relu routes", "clip": "clip routes",
}  # fmt: skip


def intuition(value: Value, moving: Sequence[bool]) -> str:
    """What the operation does to a gradient, in a few words, where that is simply true; "" elsewhere.

    `moving` tells the operands that are no constants.
    """
    name = value.op.name
    if name == "add":
        return "+ distributes" if sum(moving) > 1 else "+ passes on"
    if name == "sub":
        return "- distributes, with a sign" if sum(moving) > 1 else ""
    if name == "mul":
        return "* switches" if sum(moving) > 1 else "* scales"
    if name == "contract":
        spec = parse_spec(value.attr("spec"))
        if len(value.args) > 1:
            return "* switches" if sum(moving) > 1 else ""
        return "sum distributes" if spec.summed and not spec.free else "broadcast adds up" if spec.free else ""
    return _ROUTES.get(name, "")


def shape_text(shape: Sequence[Any], dtype: str = "f64") -> str:
    """A shape on a wire: nothing for a scalar; another dtype than the usual one is named."""
    inner = ", ".join(str(s) for s in shape) + ("," if len(shape) == 1 else "")
    return " ".join(part for part in (f"({inner})" if shape else "", dtype if dtype != "f64" else "") if part)
