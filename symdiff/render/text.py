"""Plain Unicode text of a Function, one line per result: A^T (A x - b) with real signs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from symdiff.ir.dims import Size
from symdiff.ir.graph import Function
from symdiff.render.index_notation import Indexer
from symdiff.render.latex import extra_arguments, where_of
from symdiff.render.naming import fresh_names, named_subterms
from symdiff.render.notation import Node, nested, unit_vector
from symdiff.render.paper import Paper
from symdiff.render.quotients import APPLIED, ATOM, CALL, ELEMENTWISE, PRODUCT, SUM, Text
from symdiff.render.recover import recover
from symdiff.render.recurrences import told
from symdiff.render.steps import Hand, clause_lines

LARGEST_LINE = 200

_RAISED = str.maketrans("0123456789-+()ijknT", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ⁱʲᵏⁿᵀ")
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓₕₐₑ₊₋"
_LOWERED = str.maketrans("0123456789ijklmnoprstuvxhae+-", _SUBSCRIPTS)
_LETTERS = "ijklmnprstuvhaexo"
_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eps": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "lam": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ",
    "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
_SPECIAL = {"pi": "π", "e": "e", "euler_gamma": "γ", "inf": "∞", "-inf": "-∞", "nan": "nan", "-0.0": "-0"}
_VULGAR = {(1, 2): "½", (1, 3): "⅓", (2, 3): "⅔", (1, 4): "¼", (3, 4): "¾"}
_RELATIONS = {"lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠", "and": "∧", "or": "∨", "xor": "⊕"}
_NAMES = {
    "reduce_max": "max", "reduce_min": "min", "reduce_prod": "prod", "maximum": "max", "minimum": "min",
    "sigmoid": "σ", "cholesky": "chol", "digamma": "ψ", "iota": "range", "broadcast_to": "broadcast",
    "scatter_add": "scatter", "embed": "pad",
}  # fmt: skip


def to_text(function: Function, like: Function | None = None) -> str:
    """One line per result; expressions too large for a line are cut into numbered subterms that follow.

    like: a program whose sums are written in the same order here.
    """
    style = TextSigns()
    loops = told(function, style)
    lines, clauses = _written(loops.function, loops.symbols, like)
    hand = Hand(style, TextPaper, lambda paper, node: [paper.line(node)], _placed, LARGEST_LINE)
    clauses += [line for (line,) in clause_lines(loops, hand)]
    marks = ["where ", *["      "] * len(clauses)]
    return "\n".join([*lines, *[mark + clause for mark, clause in zip(marks, clauses, strict=False)]])


def _written(function: Function, symbols: Mapping[str, str], like: Function | None) -> tuple[list[str], list[str]]:
    """The lines of the results, and those of subterms that got names."""
    _, results = recover(function, like=like, for_papers=True)
    large = any(r.size > LARGEST_LINE * 5 for r in results)
    named = named_subterms(results, large, LARGEST_LINE, shorter=True)
    taken = {p.name for p in function.params} | set(function.dims)
    names = dict(zip(named, fresh_names(len(named), taken), strict=True))
    paper = TextPaper(results, names, symbols)
    lines = [names.get(r) or paper.line(r) for r in results]
    clauses: list[str] = []
    for node in named:
        shown = _placed(paper, names[node], node) if node.rank > 2 else names[node]
        clauses.append(f"{shown} = {paper.line(node)}")
    return lines, clauses


def _placed(paper: TextPaper, sign: str, node: Node) -> str:
    """The sign of a tensor with its indices."""
    return _below(sign, paper.indexer.letters[: node.rank])


class TextSigns:
    """How the symbols of loops look."""

    between = ",  "

    def symbol(self, name: str, rank: int) -> str:
        return symbol_text(name)

    def indexed(self, base: str, index: str) -> str:
        lowered = all(c in "0123456789+-ijklmnoprstuvxhae" for c in index) and base[-1] not in _SUBSCRIPTS
        return base + index.translate(_LOWERED) if lowered else f"{base}[{index}]"

    def size(self, size: Size) -> str:
        return size_text(size)

    def steps(self, index: str, first: str, last: str) -> str:
        return f",  {index} = {first}, …, {last}"

    def width(self, text: str) -> float:
        return len(text)

    def short(self, function: Function, symbols: Mapping[str, str]) -> str:
        text = _written(function, symbols, None)[0][0]
        return text if re.fullmatch(r"\w+(\[[\w, ]+\])?", text) else ""


def symbol_text(name: str) -> str:
    base, *rest = name.strip("_").split("_") if name.strip("_") else [name]
    accents = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "dot": "\u0307"}
    text = _GREEK.get(base, base) + "".join([accents[part] for part in rest if part in accents])
    for part in rest:
        if part not in accents:
            text += part.translate(_LOWERED) if part.isdigit() and all(c.isdigit() for c in part) else f"_{part}"
    return text


def size_text(size: Size | str) -> str:
    """A size, or its text: a symbol, or a polynomial."""
    text = str(size)
    if text.isidentifier():
        return symbol_text(text)
    text = re.sub(r"\*\*(\d+)", lambda power: power.group(1).translate(_RAISED), text)
    return text.replace("//", "/").replace("*", " ")


class TextPaper(Paper):
    """The signs of Unicode."""

    odot = "⊙"
    dot = "·"
    oslash = "⊘"
    minus = "-"
    one = "𝟏"
    identity = "I"
    transposed_sign = transposed_mark = "ᵀ"
    inverse_sign = "-1"
    inverse_transposed = "-T"

    def __init__(
        self, results: Sequence[Node], names: Mapping[Node, str], symbols: Mapping[str, str] | None = None,
        known: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.symbols = symbols or {}
        self.indexer = Indexer(self, _LETTERS, "δ", _below, _total, results)
        super().__init__(results, names, known or {})

    def line(self, node: Node) -> str:
        if node.rank > 2 and node.kind != "entries":
            return self.indexer.defined(node, self.indexer.letters[: node.rank])[0]
        return self.own(node)[0]

    # ---------------------------------------------------------------- signs
    def symbol(self, name: str, rank: int) -> str:
        return self.symbols.get(name) or symbol_text(name)

    def number(self, value: Any) -> Text:
        if isinstance(value, bool):
            return str(value).lower(), ATOM
        if isinstance(value, str):
            return _SPECIAL[value], ATOM if not value.startswith("-") else SUM
        fraction = Fraction(value)
        numeral = self.numeral(abs(fraction))
        if numeral is not None:
            return ("-" + numeral[0], SUM) if fraction < 0 else numeral
        if fraction.denominator == 1:
            return str(fraction.numerator), SUM if fraction < 0 else ATOM
        text = self.fraction((str(abs(fraction.numerator)), ATOM), (str(fraction.denominator), ATOM))
        return ("-" + text[0], SUM) if fraction < 0 else text

    def size(self, size: Size) -> Text:
        return size_text(size), ATOM if str(size).isidentifier() else SUM

    def group(self, text: str) -> str:
        return f"({text})"

    def top(self, base: str, exponent: str) -> str:
        if all(c in "0123456789-()Tijkn" for c in exponent):
            return base + exponent.translate(_RAISED)
        return f"{base}^{exponent if exponent.isalnum() else self.group(exponent)}"

    def array_power(self, base: str, exponent: str, rank: int) -> str:
        return self.top(base if rank == 1 else base + "⊙", exponent)

    def fraction(self, above: Text, below: Text) -> Text:
        if above[0].isdigit() and below[0].isdigit() and (int(above[0]), int(below[0])) in _VULGAR:
            return _VULGAR[int(above[0]), int(below[0])], CALL
        return f"{self.at(above, PRODUCT)}/{self.at(below, CALL)}", PRODUCT

    def coefficient(self, above: Text, below: Text) -> Text:
        text = self.fraction(above, below)
        return text if text[1] > PRODUCT else (self.group(text[0]), ATOM)

    def norm(self, text: str, matrix: bool) -> str:
        return f"‖{text}‖"

    def function(self, name: str, args: Sequence[str], where: str = "") -> str:
        return f"{name}{'_' + where.replace(' ', '') if where else ''}({', '.join(args)})"

    def subscript(self, node: Node) -> Text:
        if unit_vector(node):
            place = str(node.data[0])
            return (_below("e", [place]) if place.isdigit() else f"e[{place}]"), APPLIED
        arrays = iter(node.args[1:])
        parts: list[str] = []
        for entry in node.data:
            if entry == "@":
                parts.append(self.text(next(arrays))[0])
            elif entry is None:
                parts.append(":")
            elif isinstance(entry, tuple):
                first, last, step, _, _ = entry
                ends = f"{self.size(first)[0]}…{self.size(last)[0]}"
                parts.append(ends + (f" by {step}" if step != 1 else ""))
            else:
                parts.append(self.size(entry)[0])
        while len(parts) > 1 and parts[-1] == ":":
            parts.pop()
        return f"{self.at(self.text(node.args[0]), ATOM)}[{', '.join(parts)}]", APPLIED

    def entries(self, node: Node) -> Text:
        return nested([self.text(a)[0] for a in node.args], node.shape), ATOM

    def einsum(self, node: Node) -> Text:
        text, index = self.indexer.bare(node)
        if node.rank > 2:
            return text, PRODUCT
        return (_below(f"[{text}]", index), CALL) if index else (text, PRODUCT)

    # ---------------------------------------------------------------- functions
    def _total(self, node: Node) -> Text:
        """Full sums carry a sum sign."""
        inner = node.args[0]
        made = super()._total(node)
        if node.kind == "sum" and made[1] == PRODUCT and len(node.data) == inner.rank < 3:
            return f"Σ({self.text(inner)[0]})", APPLIED
        return made

    def call(self, node: Node, texts: Sequence[Text]) -> Text:
        name, data = node.data[0], node.data[1:]
        args = [t[0] for t in texts]
        if name in _RELATIONS:
            parts = [self.at(t, ELEMENTWISE if name in ("and", "or", "xor") else SUM) for t in texts]
            return f"{parts[0]} {_RELATIONS[name]} {parts[1]}", -1
        if name in ("apply", "functional"):
            return self._undefined(node, args)
        if name == "norm" and len(data[0]) == node.args[0].rank:
            return self.norm(args[0], False), APPLIED
        if name == "abs":
            return f"|{args[0]}|", APPLIED
        if name == "sqrt":
            return "√" + (args[0] if len(args[0]) == 1 else self.group(args[0])), CALL
        if name in ("floor", "ceil"):
            return f"⌊{args[0]}⌋" if name == "floor" else f"⌈{args[0]}⌉", CALL
        if name == "logabsdet":
            return f"log|det {self.at(texts[0], CALL)}|", CALL
        if name == "logaddexp":
            return f"log(exp({args[0]}) + exp({args[1]}))", APPLIED
        if name == "concatenate" and node.rank <= 2:
            return f"[{('; ' if data[0] == 0 else ', ').join(args)}]", ATOM
        if name == "select":
            return f"{{{args[1]} if {args[0]} else {args[2]}}}", CALL
        if name == "not":
            return f"¬{self.at(texts[0], ATOM)}", CALL
        if name == "cast":
            return (f"[{args[0]}]", CALL) if texts[0][1] < 0 else texts[0]
        if name == "array":
            return str(data[0].array.tolist()) if data[0].array.size <= 16 else f"array{data[0].array.shape}", CALL
        if name == "polygamma":
            return self.top("ψ", f"({data[0]})") + self.group(args[0]), CALL
        extra = [size_text(a) for a in extra_arguments(node)]
        return self.function(_NAMES.get(name, name), args + extra, where_of(node)), APPLIED

    def _undefined(self, node: Node, args: list[str]) -> Text:
        kind, name, wrt = node.data
        shown, inner = symbol_text(name), f"({', '.join(args)})"
        if kind == "apply" and len(args) == 1:
            return shown + "′" * len(wrt) + inner, CALL
        mark = "∂" if kind == "apply" else "∇"
        places = "".join([str(i + 1) for i in wrt]).translate(_LOWERED) if len(args) > 1 else ""
        raised = self.top("", str(len(wrt))) if len(wrt) > 1 and not places else ""
        return (mark + places + raised + shown + inner if wrt else shown + inner), CALL


def _below(base: str, index: Sequence[str]) -> str:
    return base + "".join(index).translate(_LOWERED)


def _total(letters: Sequence[str], body: str) -> str:
    return f"Σ{''.join(letters).translate(_LOWERED)} {body}"
