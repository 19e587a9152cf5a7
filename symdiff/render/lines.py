"""How wide and how deep a piece of LaTeX is set: what decides about bracket sizes, fractions, names and line breaks."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\S")
_SILENT = frozenset({
    r"\left", r"\right", r"\bigl", r"\bigr", r"\Bigl", r"\Bigr", r"\operatorname", r"\mathrm", r"\mathbf", r"\text",
    r"\boldsymbol", r"\begin", r"\end", r"\,", r"\;", r"\quad", r"\hat", r"\bar", r"\tilde", r"\dot", r"\vec",
    r"\\", "&",
})  # fmt: skip
_WORDS = frozenset({
    r"\sin", r"\cos", r"\tan", r"\arcsin", r"\arccos", r"\arctan", r"\sinh", r"\cosh", r"\tanh", r"\exp", r"\log",
    r"\det", r"\max", r"\min",
})  # fmt: skip


def glyphs(text: str) -> float:
    """About how many letters wide a formula is set: sub- and superscripts count half, a fraction as its wider part."""
    widths = [0.0]
    kinds: list[str] = []
    above: list[float] = []
    pending: list[str] = []
    for token in _TOKEN.findall(text):
        if token in "_^":
            pending = ["script"]
        elif token == r"\frac":
            pending = ["above", "below"]
        elif token == "{":
            kinds.append(pending.pop(0) if pending else "plain")
            widths.append(0.0)
            if kinds[-1] == "above":
                pending = []
        elif token == "}" and kinds:
            width, kind = widths.pop(), kinds.pop()
            if kind == "above":
                above.append(width)
                pending = ["below"]
            else:
                widths[-1] += {"script": width / 2, "below": max(width, above.pop() if kind == "below" else 0)}.get(
                    kind, width
                )
        elif token not in _SILENT:
            width = len(token) - 1 if token in _WORDS else 1
            widths[-1] += width / 2 if pending == ["script"] else width
            pending = []
    return sum(widths)


def depth(text: str) -> int:
    """How deep brackets nest."""
    deepest = level = 0
    for character in text:
        if character == "(":
            level += 1
            deepest = max(deepest, level)
        elif character == ")":
            level -= 1
    return deepest


def broken(parts: Sequence[str], width: int | None) -> list[str]:
    """A sum in lines of about `width` letters, later ones indented; `parts` are its terms with their signs."""
    if width is None or glyphs("".join(parts)) <= width:
        return ["".join(parts)]
    lines = [""]
    used = 0.0
    for part in parts:
        wide = glyphs(part)
        if lines[-1] and used + wide > width:
            lines.append(r"\quad {}")
            used = 2.0
        lines[-1] += part if lines[-1] != r"\quad {}" else part.lstrip()
        used += wide
    return lines
