"""A picture as SVG: text in the document's order, colours by role, nothing loaded from elsewhere, no ids to clash."""

from __future__ import annotations

from collections.abc import Sequence

from symdiff.render.drawing import metrics as m
from symdiff.render.drawing.layout import Layout, Point, layered
from symdiff.render.drawing.model import Node, Picture
from symdiff.render.drawing.palette import INK, KINDS, MUTED, ROLES, WIRE, legend

_FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
_LEGEND_LINE = 26.0
_ENTITIES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;"))


def to_svg(picture: Picture) -> str:
    """A complete SVG element. Every text is held to the width that its place has, whatever font is found."""
    measures = m.measure(picture)
    layout = layered(measures.boxes, measures.wires)
    entries = legend(picture)
    legend_widths = [18.0 + m.text_width(text, m.SMALL) + 16.0 for _, _, text in entries]
    width = max(layout.width, sum(legend_widths) + m.text_width(picture.remark, m.SMALL) + 2 * m.PAD_X)
    height = layout.height + _LEGEND_LINE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" style="max-width:none" font-family="{_FONT}" '
        f'font-size="{_n(m.SMALL)}">',
        f"<title>{escape(picture.title)}</title>",
        f'<rect width="{_n(width)}" height="{_n(height)}" fill="#ffffff"/>',
    ]
    parts += _wires(picture, layout)
    for i, node in enumerate(picture.nodes):
        box = measures.boxes[i]
        parts += _box(node, layout.corners[i], box.width, box.height, measures.keys[i])
    x, y = m.PAD_X, layout.height + 6.0
    for (fill, stroke, text), step in zip(entries, legend_widths, strict=True):
        parts.append(_rect(x, y - 9, 12, 10, fill, stroke, 2))
        parts.append(_text(x + 18, y, text, m.SMALL, MUTED))
        x += step
    if picture.remark:
        parts.append(_text(x, y, picture.remark, m.SMALL, MUTED, italic=True))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _wires(picture: Picture, layout: Layout) -> list[str]:
    lines: list[str] = []
    labels: list[str] = []
    for edge, stations in zip(picture.edges, layout.paths, strict=True):
        lines.append(f'<path d="{_path(stations)}" fill="none" stroke="{WIRE}" stroke-width="1.2"/>')
        x, y = stations[-1]
        tip = f"M{_n(x)} {_n(y)}l{_n(-m.ARROW)} -3.5v7z"
        lines.append(f'<path d="{tip}" fill="{WIRE}"/>')
        if edge.label:
            labels.append(_text(x - m.ARROW - 2, y - 4, edge.label, m.SMALL, MUTED, anchor="end"))
        if edge.gradient:
            labels.append(_text(x - m.ARROW - 2, y + 11.5, edge.gradient, m.SMALL, ROLES["upstream"], anchor="end"))
    return lines + labels


def _path(stations: Sequence[Point]) -> str:
    """Straight from even to odd stations, level curves from odd to even ones; the arrow covers the end."""
    x, y = stations[0]
    text = f"M{_n(x)} {_n(y)}"
    last = len(stations) - 1
    for i in range(1, len(stations)):
        x, y = stations[i]
        if i == last:
            x -= m.ARROW - 1
        if i % 2 or y == stations[i - 1][1]:
            text += f"L{_n(x)} {_n(y)}"
        else:
            middle = (stations[i - 1][0] + x) / 2
            text += f"C{_n(middle)} {_n(stations[i - 1][1])} {_n(middle)} {_n(y)} {_n(x)} {_n(y)}"
    return text


def _box(node: Node, corner: Point, width: float, height: float, keys: float) -> list[str]:
    fill, stroke, _ = KINDS[node.kind]
    x, y = corner
    parts = ["<g>", _rect(x, y, width, height, fill, stroke, 5, dashed=node.kind == "group")]
    baseline = y + (height - m.text_height(node)) / 2 + m.TITLE_LINE - 5.5
    if node.rows or node.note:
        parts.append(_text(x + m.PAD_X, baseline, node.title, m.TITLE, INK, bold=True))
    else:
        parts.append(_text(x + width / 2, baseline, node.title, m.TITLE, INK, bold=True, anchor="middle"))
    if node.note:
        baseline += m.SMALL_LINE
        parts.append(_text(x + m.PAD_X, baseline, node.note, m.SMALL, MUTED, italic=True))
    for row in node.rows:
        baseline += m.SMALL_LINE
        parts.append(_text(x + m.PAD_X, baseline, row.key, m.SMALL, MUTED))
        parts.append(_text(x + m.PAD_X + keys + m.KEY_GAP, baseline, row.text, m.SMALL, ROLES[row.role]))
    return [*parts, "</g>"]


def _rect(x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: int, dashed: bool = False
          ) -> str:  # fmt: skip
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    return (
        f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{radius}" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1.2"{dash}/>'
    )


def _text(
    x: float, y: float, text: str, size: float, colour: str, anchor: str = "", bold: bool = False, italic: bool = False
) -> str:
    style = (' font-weight="bold"' if bold else "") + (' font-style="italic"' if italic else "")
    style += f' font-size="{_n(size)}"' if size != m.SMALL else ""
    style += f' text-anchor="{anchor}"' if anchor else ""
    if len(text) > 1:
        style += f' textLength="{_n(m.text_width(text, size, bold))}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{_n(x)}" y="{_n(y)}" fill="{colour}"{style}>{escape(text)}</text>'


def _n(number: float) -> str:
    """A coordinate with one decimal, without a trailing zero or a negative one."""
    text = f"{number + 0.0:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def escape(text: str) -> str:
    """Text for XML content and attributes; characters that XML forbids become a replacement mark."""
    clean = "".join(c if c in "\t\n" or " " <= c < "\ud800" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "\ufffd"
                    for c in text)  # fmt: skip
    for character, entity in _ENTITIES:
        clean = clean.replace(character, entity)
    return clean
