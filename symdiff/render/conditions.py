"""What a closed form assumes: declared facts, where it is defined, and the kinks it leaves out.

Takes the program of a closed form and, for a derivative, the program it was found from; gives conditions as plain text
and LaTeX. Quotients, logarithms, roots and inverses give domains, unless signs or declared facts settle them (the fact
is then an assumption); comparisons in a derivative are boundaries between branches, which lie outside the formula.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from symdiff.ir.contraction import parse_spec
from symdiff.ir.graph import Function, Value, topological
from symdiff.render.latex import to_latex
from symdiff.render.recurrences import steps_of
from symdiff.render.text import to_text

# What is known of the sign of every entry (2 positive, 1 not negative, 0 nothing) and from which declarations.
_Sign: TypeAlias = "tuple[int, frozenset[tuple[Value, str]]]"
_NONE: _Sign = (0, frozenset())

_POSITIVE = frozenset({"exp", "exp2", "softmax", "sigmoid", "cosh", "softplus", "size"})
_NOT_NEGATIVE = frozenset({"abs", "relu", "norm"})
_INVERTIBLE = ("positive_definite", "orthogonal")
# From what these are zero or change: text and LaTeX of the condition on an argument.
_BELOW = {"log": "0", "log2": "0", "log10": "0", "log1p": "-1"}
_BETWEEN = {"arcsin": (r"\le", "<="), "arccos": (r"\le", "<="), "arctanh": ("<", "<")}
_JUMPS = {"floor": "an integer", "ceil": "an integer", "trunc": "an integer", "round": "a half-integer"}
_ORDERED = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
_FACTS = {
    "symmetric": ("{} symmetric", r"{0} = {0}^{{\top}}"),
    "positive_definite": ("{} positive definite", r"{} \succ 0"),
    "diagonal": ("{} diagonal", r"{} \text{{ diagonal}}"),
    "lower": ("{} lower triangular", r"{} \text{{ lower triangular}}"),
    "upper": ("{} upper triangular", r"{} \text{{ upper triangular}}"),
    "orthogonal": ("{} orthogonal", r"{0}^{{\top}} {0} = I"),
    "positive": ("{} > 0", "{} > 0"),
    "nonnegative": ("{} >= 0", r"{} \ge 0"),
    "nonzero": ("{} != 0", r"{} \ne 0"),
}
_BY_ENTRY = frozenset({"positive", "nonnegative", "nonzero"})


@dataclass(frozen=True)
class Condition:
    """One condition in both notations."""

    text: str
    latex: str


def conditions(
    closed: Function, program: Function | None = None, used: Iterable[tuple[Value, str]] = ()
) -> list[Condition]:
    """Facts, then domains, then kinks.

    closed: the program of the formula. program: of a derivative, as the sweep made it. used: (parameter, fact) pairs
    that the formula is known to use. Conditions inside a loop hold in every step, s_t > 0.
    """
    reader = _Reader(closed)
    reader.domains(closed.instrs)
    kinks = _Reader(program) if program is not None else None
    if kinks is not None and program is not None:
        kinks.kinks(program.instrs)
    inside = [c for step in steps_of(closed) for c in conditions(step)]
    if kinks is not None and program is not None:
        for step in steps_of(program):
            below = _Reader(step)
            below.kinks(step.instrs)
            inside += below.found
    facts = [*used, *sorted(reader.settled, key=lambda item: (item[0].name, item[1]))]
    found = [_fact(p, fact) for p, fact in facts] + reader.found + (kinks.found if kinks else []) + inside
    return list({c.text: c for c in found}.values())


def _fact(p: Value, fact: str) -> Condition:
    text, latex = _FACTS[fact]
    if fact in _BY_ENTRY:
        return Condition(text.format(_entry(p)[0]), latex.format(_entry(p)[1]))
    return Condition(text.format(p.name), latex.format(_written(p)[1]))


def _core(v: Value) -> Value:
    """The value behind broadcasts and transposes."""
    while v.op.name == "contract" and len(v.args) == 1 and not parse_spec(v.attr("spec")).summed:
        v = v.args[0]
    return v


def _squared(v: Value) -> Value | None:
    """The array whose squares a number sums: x of x @ x."""
    if v.op.name != "contract" or v.type.rank:
        return None
    if len(v.args) == 2 and v.args[0] is v.args[1] and len(set(parse_spec(v.attr("spec")).operands)) == 1:
        return v.args[0]
    if len(v.args) == 1 and v.args[0].op.name == "pow" and _number(v.args[0].args[1]) == 2:
        return v.args[0].args[0]
    return None


def _written(v: Value) -> tuple[str, str]:
    """A value in text and LaTeX."""
    function = Function.of([p for p in topological([v]) if p.is_param], [v])
    return to_text(function), to_latex(function)


def _bracketed(v: Value) -> tuple[str, str]:
    text, latex = _written(v)
    return (text, latex) if v.is_param else (f"({text})", rf"\left({latex}\right)")


def _entry(v: Value) -> tuple[str, str]:
    """One entry of a value: x_i."""
    if not v.type.rank:
        return _written(v)
    letters = "ijklmnop"[: v.type.rank]
    text, latex = _bracketed(v)
    return f"{text}_{letters}", f"{latex}_{{{letters}}}"


def _number(v: Value) -> Fraction | None:
    number = v.attr("value") if v.op.name == "const" else None
    return Fraction(number) if isinstance(number, (int, Fraction)) and not isinstance(number, bool) else None


# What a comparison with zero says of its operand where it holds, and where it does not.
_SAYS = {
    "gt": (">", None),
    "ge": (">=", "<"),
    "lt": ("<", ">="),
    "le": (None, ">"),
    "ne": ("!=", None),
    "eq": (None, "!="),
}


def _implied(condition: Value, holds: bool) -> set[tuple[Value, str]]:
    """Signs of values where a condition holds, or does not."""
    found: set[tuple[Value, str]] = set()
    pending = [(condition, holds)]
    while pending:
        c, truth = pending.pop()
        name = c.op.name
        if name == "not":
            pending.append((c.args[0], not truth))
        elif name == ("and" if truth else "or"):
            pending += [(a, truth) for a in c.args]
        elif name in _SAYS and _number(c.args[1]) == 0 and (said := _SAYS[name][not truth]) is not None:
            found.add((c.args[0], said))
    return found


def _guards(function: Function) -> dict[Value, frozenset[tuple[Value, str]]]:
    """Of every value what holds wherever it is used: it may stand in branches only."""
    found: dict[Value, frozenset[tuple[Value, str]]] = {}
    for r in function.results:
        found[r] = frozenset()
    for v in reversed(function.instrs):
        own = found.get(v, frozenset[tuple[Value, str]]())
        for k, a in enumerate(v.args):
            said = own | _implied(v.args[0], k == 1) if v.op.name == "select" and k else own
            found[a] = found[a] & said if a in found else said
    return found


class _Reader:
    """Signs of the values of a program, and the conditions found so far."""

    def __init__(self, function: Function) -> None:
        self.signs: dict[Value, _Sign] = {}
        self.moving: dict[Value, bool] = {p: p.type.floating for p in function.params}
        self.found: list[Condition] = []
        self.settled: set[tuple[Value, str]] = set()
        self.guards = _guards(function)
        self.here: frozenset[tuple[Value, str]] = frozenset()  # what holds wherever the value at hand is used
        for v in (*function.params, *function.instrs):
            self.signs[v] = self._sign(v)
            # Booleans and what is counted from them do not move: they change where their operands are compared.
            self.moving.setdefault(v, v.op.name != "cast" and any(self.moving[a] for a in v.args))

    # ---------------------------------------------------------------- signs
    def _sign(self, v: Value) -> _Sign:
        name = v.op.name
        if v.is_param:
            fact = next((f for f in ("positive", "nonnegative") if f in v.type.facts), None)
            return (2 if fact == "positive" else 1, frozenset({(v, fact)})) if fact else _NONE
        if name == "const":
            number = _number(v)
            positive = v.attr("value") in ("pi", "e", "euler_gamma", "inf") or (number is not None and number > 0)
            return (2 if positive else 1 if number == 0 else 0), frozenset()
        if name in _POSITIVE:
            return 2, frozenset()
        if name in _NOT_NEGATIVE or (name == "cast" and v.args[0].type.dtype == "bool"):
            return 1, frozenset()
        signs = [self.signs[a] for a in v.args]
        why = frozenset[tuple[Value, str]]().union(*[s[1] for s in signs])
        level = [s[0] for s in signs]
        if name == "pow":
            power = _number(v.args[1])
            even = power is not None and power.denominator == 1 and power % 2 == 0
            return (signs[0][0], signs[0][1]) if level[0] else (1, frozenset()) if even else _NONE
        if name == "contract":
            return self._product(v, level, why)
        if name in ("mul", "div"):
            square = name == "mul" and v.args[0] is v.args[1]
            return (1, frozenset()) if square and not level[0] else (min(level), why) if min(level) else _NONE
        if name == "add":
            return (max(level), why) if min(level) else _NONE
        if name in ("sqrt", "reshape", "slice", "reduce_max", "reduce_min", "reduce_prod"):
            return signs[0]
        return _NONE

    def _product(self, v: Value, level: list[int], why: frozenset[tuple[Value, str]]) -> _Sign:
        spec = parse_spec(v.attr("spec"))
        twice = len(v.args) == 2 and v.args[0] is v.args[1] and spec.operands[0] == spec.operands[1]
        if not v.args or not min(level):
            return (1, frozenset()) if twice or not v.args else _NONE
        return (min(level) if len(set(spec.output)) == len(spec.output) else 1), why

    def _known(self, v: Value, least: int) -> bool:
        """Whether the sign is settled; the declarations that settle it become assumptions."""
        level, why = self.signs[v]
        if level < least:
            return self._guarded(v, least)
        self.settled |= why
        return True

    def _guarded(self, v: Value, least: int) -> bool:
        """Whether a branch is taken only where the sign is as it must be."""
        if v.op.name == "abs":
            return least == 1 or self._not_zero_here(v.args[0])
        return (v, ">") in self.here or (least == 1 and (v, ">=") in self.here)

    def _not_zero_here(self, v: Value) -> bool:
        return any((v, sign) in self.here for sign in (">", "<", "!="))

    # ---------------------------------------------------------------- domains
    def add(self, text: str, latex: str) -> None:
        self.found.append(Condition(text, latex))

    def domains(self, values: Iterable[Value]) -> None:
        for v in values:
            name = v.op.name
            self.here = self.guards.get(v, frozenset())
            if name in ("inverse", "solve", "logabsdet"):
                self._regular(v.args[0])
            elif name == "cholesky":
                self._definite(v.args[0])
            elif name == "triangular_solve":
                text, latex = _bracketed(_core(v.args[0]))
                self.add(f"{text}_ii != 0", rf"{latex}_{{ii}} \ne 0")
            elif name in _BELOW and v.type.floating:
                self._above(v.args[0], _BELOW[name])
            elif name == "div":
                self._divisor(v.args[1])
            elif name == "pow":
                self._power(v)
            elif name == "sqrt" and not self._known(v.args[0], 1):
                text, latex = _entry(_core(v.args[0]))
                self.add(f"{text} >= 0", rf"{latex} \ge 0")
            elif name in _BETWEEN:
                latex_sign, sign = _BETWEEN[name]
                text, latex = _entry(_core(v.args[0]))
                self.add(f"|{text}| {sign} 1", rf"\lvert {latex} \rvert {latex_sign} 1")
            elif name == "arccosh":
                text, latex = _entry(_core(v.args[0]))
                self.add(f"{text} >= 1", rf"{latex} \ge 1")
            elif name in ("lgamma", "digamma", "polygamma") and not self._known(v.args[0], 2):
                text, latex = _entry(_core(v.args[0]))
                self.add(f"{text} not in 0, -1, -2, ...", rf"{latex} \notin \{{0, -1, -2, \ldots\}}")

    def _regular(self, matrix: Value) -> None:
        core = _core(matrix)
        fact = next((f for f in _INVERTIBLE if f in core.type.facts), None)
        if core.is_param and fact is not None:
            self.settled.add((core, fact))
            return
        text, latex = _bracketed(core)
        self.add(f"det {text} != 0", rf"\det {latex} \ne 0")

    def _definite(self, matrix: Value) -> None:
        core = _core(matrix)
        if "positive_definite" in core.type.facts:
            self.settled.add((core, "positive_definite"))
            return
        text, latex = _bracketed(core)
        self.add(f"{text} positive definite", rf"{latex} \succ 0")

    def _above(self, v: Value, bound: str) -> None:
        if self._known(v, 2 if bound == "0" else 1):
            return
        text, latex = _entry(_core(v))
        self.add(f"{text} > {bound}", f"{latex} > {bound}")

    def _power(self, v: Value) -> None:
        base, exponent = v.args[0], _number(v.args[1])
        if exponent is None:
            self._above(base, "0")
        elif exponent.denominator != 1:
            if exponent < 0:
                self._above(base, "0")
            elif not self._known(base, 1):
                text, latex = _entry(_core(base))
                self.add(f"{text} >= 0", rf"{latex} \ge 0")
        elif exponent < 0:
            self._divisor(base)

    def _divisor(self, v: Value) -> None:
        """Factors of a divisor, each of which must not be zero."""
        pending = [v]
        while pending:
            core = _core(pending.pop())
            name = core.op.name
            if core.is_param and "nonzero" in core.type.facts:
                self.settled.add((core, "nonzero"))
            elif _number(core) or self._known(core, 2) or self._not_zero_here(core):
                continue
            elif name == "norm":
                self._not_zero(core.args[0])
            elif name == "sqrt":
                self._root(core.args[0])
            elif (vector := _squared(core)) is not None:
                self._not_zero(vector)
            elif name == "select":
                pending.extend(reversed(core.args[1:]))
            elif name == "pow" and _number(core.args[1]) is not None:
                pending.append(core.args[0])
            elif name == "mul" or (name == "contract" and not parse_spec(core.attr("spec")).summed):
                pending.extend(reversed(core.args))
            elif name == "neg":
                pending.append(core.args[0])
            else:
                text, latex = _entry(core)
                self.add(f"{text} != 0", rf"{latex} \ne 0")

    def _root(self, v: Value) -> None:
        core = _core(v)
        vector = _squared(core)
        if vector is not None:
            self._not_zero(vector)
        else:
            self._above(core, "0")

    def _not_zero(self, v: Value) -> None:
        """A vector or matrix that is not zero altogether."""
        text, latex = _written(_core(v))
        self.add(f"{text} != 0", rf"{latex} \ne 0")

    # ---------------------------------------------------------------- kinks
    def kinks(self, values: Iterable[Value]) -> None:
        """Comparisons and steps of a derivative: it jumps where they change."""
        for v in values:
            name = v.op.name
            if name in _ORDERED and v.args[0].type.floating and self.moving[v]:
                self._boundary(_core(v.args[0]), _core(v.args[1]))
            elif name == "sign" and self.moving[v]:
                text, latex = _entry(_core(v.args[0]))
                self.add(f"{text} != 0", rf"{latex} \ne 0")
            elif name in _JUMPS and self.moving[v]:
                text, latex = _entry(_core(v.args[0]))
                self.add(f"{text} not {_JUMPS[name]}", rf"{latex} \text{{ not {_JUMPS[name]}}}")

    def _boundary(self, left: Value, right: Value) -> None:
        for extreme, other in ((right, left), (left, right)):
            if extreme.op.name in ("reduce_max", "reduce_min") and _core(extreme.args[0]) is other:
                word = extreme.op.name[7:]
                text, latex = _bracketed(other)
                self.add(f"no ties in {word} {text}", rf"\text{{no ties in }} \{word} {latex}")
                return
        if not self.moving[left]:
            left, right = right, left
        if left.op.name == "norm" and _number(right) == 0:
            self._not_zero(left.args[0])
            return
        text, latex = _entry(left)
        other, other_latex = _entry(right) if self.moving[right] else _written(right)
        self.add(f"{text} != {other}", rf"{latex} \ne {other_latex}")
