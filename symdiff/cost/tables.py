"""Tables as text: aligned, Markdown, and LaTeX with booktabs; and polynomials of dimensions in LaTeX.

Takes rows of cells (the first row the head) and remarks; gives text. A `Cell` carries its plain and its LaTeX form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from symdiff.cost.poly import Poly
from symdiff.ir.dims import FloorDiv

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One entry of a table. best: marked as the winner of its row."""

    plain: str
    latex: str
    best: bool = False


def words(text: str) -> Cell:
    """A cell of ordinary text."""
    return Cell(text, escaped(text))


def escaped(text: str) -> str:
    """Text with LaTeX's special characters made harmless."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def formula(poly: Poly) -> Cell:
    """A polynomial."""
    return Cell(str(poly), f"${poly_latex(poly)}$")


def quantity(text: str, best: bool = False) -> Cell:
    """A number with or without a unit."""
    number = re.sub(r"(?<=\d),(?=\d)", r"{,}", escaped(text))
    return Cell(text, number.replace(" us", r"~$\mu$s").replace(" ns", "~ns").replace(" ms", "~ms"), best)


def poly_latex(poly: Poly) -> str:
    """`2*m*n**2 - m*((n + 1)//2)` as `2 m n^{2} - m \\left\\lfloor \\frac{n + 1}{2} \\right\\rfloor`."""
    text = ""
    for monomial, coefficient in poly.terms:
        sign = ("-" if coefficient < 0 else "") if not text else (" - " if coefficient < 0 else " + ")
        above, below = abs(coefficient.numerator), coefficient.denominator
        factors = [_atom_latex(atom) + (f"^{{{power}}}" if power > 1 else "") for atom, power in monomial]
        if above != 1 or not factors:
            factors.insert(0, str(above))
        product = " ".join(factors)
        text += sign + (rf"\frac{{{product}}}{{{below}}}" if below != 1 else product)
    return text or "0"


def _atom_latex(atom: str | FloorDiv) -> str:
    if isinstance(atom, str):
        return name_latex(atom)
    # One level only: a floor inside a floor keeps its plain form.
    inner = Poly(atom.numerator)
    nested = any(not isinstance(a, str) for monomial, _ in inner.terms for a, _ in monomial)
    above = rf"\text{{{escaped(str(inner))}}}" if nested else poly_latex(inner)
    return rf"\left\lfloor \frac{{{above}}}{{{atom.divisor}}} \right\rfloor"


def name_latex(name: str) -> str:
    """A dimension's name in math mode; several letters stay together."""
    return name if len(name) == 1 else rf"\mathit{{{escaped(name)}}}"


def size_latex(text: str) -> str:
    """The text form of a size or quotient of sizes, such as `(2*m + n)/(k**2)`, in LaTeX."""
    parts = re.findall(r"[A-Za-z_]\w*|\*\*\d+|\d+|.", text)
    return "".join(
        name_latex(p) if p.isidentifier() else f"^{{{p[2:]}}}" if p.startswith("**") else " " if p == "*" else p
        for p in parts
    )


# -------------------------------------------------------------------- whole tables
def aligned(grid: Sequence[Sequence[Cell]], remarks: Sequence[str]) -> str:
    """Columns under one another; * marks the best of a row."""
    rows = [[_starred(cell, "*") for cell in line] for line in grid]
    wide = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{text:<{w}}" for text, w in zip(line, wide, strict=True)).rstrip() for line in rows]
    return "\n".join([lines[0], "-" * (sum(wide) + 2 * len(wide) - 2), *lines[1:], "", *remarks])


def markdown(grid: Sequence[Sequence[Cell]], remarks: Sequence[str]) -> str:
    """A table of GitHub's Markdown and the remarks as paragraphs."""
    head, *body = [[_starred(cell, "*").replace("*", r"\*").replace("|", r"\|") for cell in line] for line in grid]
    lines = [head, ["---"] * len(head), *body]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*text, "", *[r.replace("*", r"\*") for r in remarks]])


def booktabs(grid: Sequence[Sequence[Cell]], caption: str, rules: Sequence[int] = ()) -> str:
    """A table environment for the package booktabs; the best of a row is bold. rules: rows that get a line above."""
    head, *body = grid
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"]
    lines.append(" & ".join(cell.latex for cell in head) + r" \\")
    lines.append(r"\midrule")
    for number, line in enumerate(body, 1):
        if number in rules and number > 1:
            lines.append(r"\midrule")
        lines.append(" & ".join(rf"\textbf{{{c.latex}}}" if c.best else c.latex for c in line) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"])


def _starred(cell: Cell, mark: str) -> str:
    return f"{cell.plain} {mark}" if cell.best else cell.plain
