"""A picture as a TikZ environment with the same layout as the SVG; needs only the package tikz."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from symdiff.render.drawing import metrics as m
from symdiff.render.drawing.layout import Point, layered
from symdiff.render.drawing.model import Node, Picture
from symdiff.render.drawing.palette import INK, KINDS, MUTED, ROLES, WIRE

_SCALE = 0.75  # points per unit of the layout

_ESCAPES: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "∂": r"$\partial$", "∑": r"$\sum$",
    "·": r"$\cdot$", "⊙": r"$\odot$", "×": r"$\times$", "⊘": r"$\oslash$", "ᵀ": r"$^{\top}$", "→": r"$\to$",
    "‖": r"$\Vert$", "√": r"$\surd$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$",
    "∧": r"$\wedge$", "∨": r"$\vee$", "¬": r"$\neg$", "⊕": r"$\oplus$", "…": r"\ldots{}", "′": "$'$", "⌊": r"$\lfloor$",
    "⌋": r"$\rfloor$", "⌈": r"$\lceil$", "⌉": r"$\rceil$", "π": r"$\pi$", "γ": r"$\gamma$", "∞": r"$\infty$",
    "\n": " ", "\t": " ",
    "α": r"$\alpha$", "β": r"$\beta$", "δ": r"$\delta$", "ε": r"$\epsilon$", "ζ": r"$\zeta$", "η": r"$\eta$",
    "θ": r"$\theta$", "κ": r"$\kappa$", "λ": r"$\lambda$", "μ": r"$\mu$", "ν": r"$\nu$", "ξ": r"$\xi$",
    "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$", "φ": r"$\varphi$", "χ": r"$\chi$", "ψ": r"$\psi$",
    "ω": r"$\omega$", "Γ": r"$\Gamma$", "Δ": r"$\Delta$", "Θ": r"$\Theta$", "Λ": r"$\Lambda$", "Σ": r"$\Sigma$",
    "Φ": r"$\Phi$", "Ψ": r"$\Psi$", "Ω": r"$\Omega$",
}  # fmt: skip


_FORMS = {"<sub>": "$_{?}$", "<super>": "$^{?}$", "<fraction>": "$?$", "<font>": r"$\mathbf{?}$"}


def to_tikz(picture: Picture) -> str:
    """One `tikzpicture`. Text may hold any character; letters outside TeX's fonts need LuaLaTeX or XeLaTeX."""
    measures = m.measure(picture)
    layout = layered(measures.boxes, measures.wires)
    colours = {
        "ink": INK, "muted": MUTED, "wire": WIRE, **{f"role{r}": c for r, c in ROLES.items()},
        **{f"fill{k}": c[0] for k, c in KINDS.items()}, **{f"line{k}": c[1] for k, c in KINDS.items()},
    }  # fmt: skip
    lines = ["% needs \\usepackage{tikz}", "\\begin{tikzpicture}[x=1pt, y=-1pt]"]
    lines += [f"  \\definecolor{{sd{name}}}{{HTML}}{{{colour[1:].upper()}}}" for name, colour in colours.items()]
    for stations in layout.paths:
        lines.append(f"  \\draw[sdwire, -latex] {_path(stations)};")
    for edge, stations in zip(picture.edges, layout.paths, strict=True):
        x, y = stations[-1][0] - m.ARROW - 2, stations[-1][1]
        if edge.label:
            lines.append(_text(x, y - 4, edge.label, m.SMALL, "muted", anchor="base east"))
        if edge.gradient:
            lines.append(_text(x, y + 11.5, edge.gradient, m.SMALL, "roleupstream", anchor="base east"))
    for node, (x, y), box, keys in zip(picture.nodes, layout.corners, measures.boxes, measures.keys, strict=True):
        dashed = ", dashed" if node.kind == "group" else ""
        lines.append(
            f"  \\draw[sdline{node.kind}, fill=sdfill{node.kind}, rounded corners=3pt{dashed}] "
            f"{_at(x, y)} rectangle {_at(x + box.width, y + box.height)};"
        )
        lines += _rows(node, x, y + (box.height - m.text_height(node)) / 2, keys)
    return "\n".join([*lines, "\\end{tikzpicture}"]) + "\n"


def _rows(node: Node, x: float, y: float, keys: float) -> list[str]:
    x += m.PAD_X
    y += m.TITLE_LINE - 5.5
    lines = [_text(x, y, node.title, m.TITLE, "ink", style="\\bfseries")]
    if node.note:
        y += m.SMALL_LINE
        lines.append(_text(x, y, node.note, m.SMALL, "muted", style="\\itshape"))
    for row in node.rows:
        y += m.SMALL_LINE
        lines.append(_text(x, y, row.key, m.SMALL, "muted"))
        lines.append(_text(x + keys + m.KEY_GAP, y, row.text, m.SMALL, f"role{row.role}"))
    return lines


def _path(stations: Sequence[Point]) -> str:
    text = _at(*stations[0])
    for i in range(1, len(stations)):
        (a, b), (x, y) = stations[i - 1], stations[i]
        if i % 2 or y == b:
            text += f" -- {_at(x, y)}"
        else:
            middle = (a + x) / 2
            text += f" .. controls {_at(middle, b)} and {_at(middle, y)} .. {_at(x, y)}"
    return text


def _text(x: float, y: float, text: str, size: float, colour: str, anchor: str = "base west", style: str = "") -> str:
    font = f"\\fontsize{{{_n(size * 0.93)}}}{{{_n(size * 1.1)}}}\\selectfont\\sffamily{style}"
    return (
        f"  \\node[anchor={anchor}, inner sep=0pt, text=sd{colour}, font={{{font}}}] at {_at(x, y)} "
        f"{{{escape_tex(text)}}};"
    )


def _at(x: float, y: float) -> str:
    return f"({_n(x)},{_n(y)})"


def _n(number: float) -> str:
    return f"{number * _SCALE:.2f}"


def escape_tex(text: str) -> str:
    """Text for TeX: its special characters and the signs that labels use as commands, anything else as it is."""
    return "".join(_ESCAPES[c] if c in _ESCAPES else _decomposed(c) for c in text)


def _decomposed(character: str) -> str:
    """Sub- and superscripts, fractions and bold digits by what Unicode says they are made of; a question mark for the
    control characters that TeX refuses."""
    if unicodedata.category(character) == "Cc":
        return "?"
    kind, _, rest = unicodedata.decomposition(character).partition(" ")
    form = _FORMS.get(kind)
    if form is None:
        return character
    plain = "".join(chr(int(code, 16)) for code in rest.split())
    return form.replace("?", "".join({"\u2044": "/", "\u2212": "-"}.get(c, c) for c in plain))
