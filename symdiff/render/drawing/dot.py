"""A picture as Graphviz DOT, for those who want Graphviz's layout or their own attributes."""

from __future__ import annotations

from symdiff.render.drawing.model import Node, Picture
from symdiff.render.drawing.palette import INK, KINDS, MUTED, ROLES, WIRE
from symdiff.render.drawing.svg import escape


def to_dot(picture: Picture) -> str:
    """A digraph from left to right; boxes are HTML-like labels with one row per line of text."""
    lines = [
        f"digraph {_quoted(picture.title)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
        f'  edge [color="{WIRE}", fontname="Helvetica", fontsize=10, arrowsize=0.6];',
    ]
    for i, node in enumerate(picture.nodes):
        fill, stroke, _ = KINDS[node.kind]
        dashed = ', style="rounded,filled,dashed"' if node.kind == "group" else ""
        lines.append(f'  n{i} [label=<{_label(node)}>, fillcolor="{fill}", color="{stroke}"{dashed}];')
    for edge in picture.edges:
        rows = [_font(edge.label, MUTED)] if edge.label else []
        rows += [_font(edge.gradient, ROLES["upstream"])] if edge.gradient else []
        label = f" [label=<{'<br/>'.join(rows)}>]" if rows else ""
        lines.append(f"  n{edge.source} -> n{edge.target}{label};")
    return "\n".join([*lines, "}"]) + "\n"


def _label(node: Node) -> str:
    rows = [f'<tr><td align="left" colspan="2">{_font(node.title, INK, "b")}</td></tr>']
    if node.note:
        rows.append(f'<tr><td align="left" colspan="2">{_font(node.note, MUTED, "i")}</td></tr>')
    rows += [
        f'<tr><td align="left">{_font(row.key, MUTED)}</td>'
        f'<td align="left">{_font(row.text, ROLES[row.role])}</td></tr>'
        for row in node.rows
    ]
    return f'<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{"".join(rows)}</table>'


def _font(text: str, colour: str, tag: str = "") -> str:
    shown = escape(text) or " "
    return f'<font color="{colour}">{f"<{tag}>{shown}</{tag}>" if tag else shown}</font>'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
