"""How wide text is, and how large boxes and ports must be for it.

Widths are those of Helvetica and the fonts that share its metrics (Arial, Liberation Sans), in thousandths of the font
size. Writers that can do so fix every text to the width computed here, so that another font cannot make it overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

from symdiff.render.drawing.model import Node, Picture
from symdiff.render.drawing.plan import Box, Wire

_WIDTHS = {
    **dict.fromkeys("il", 222), **dict.fromkeys(" !,./:;I[\\]tf|", 278), **dict.fromkeys("()r-`{}", 333), "'": 191,
    '"': 355, "*": 389, "^": 469, **dict.fromkeys("Jcksvxyz", 500), **dict.fromkeys("#$0123456789?_L", 556),
    **dict.fromkeys("abdeghnopqu", 556), **dict.fromkeys("+<=>~", 584), **dict.fromkeys("FTZ", 611),
    **dict.fromkeys("&ABEKPSVXY", 667), **dict.fromkeys("CDHNRUw", 722), **dict.fromkeys("GOQ", 778),
    **dict.fromkeys("Mm", 833), "%": 889, "W": 944, "@": 1015,
    # Mathematical signs, about as wide as the fonts that have them make them.
    "·": 333, "²": 370, "³": 370, "ᵀ": 420, "⁻": 400, "¹": 370, "…": 1000, "′": 250, "×": 584, "∂": 520, "‖": 420,
}  # fmt: skip
# Blocks of signs that are narrow or wide as a whole: modifier letters, sub- and superscripts, Greek, bold digits.
_BLOCKS = (
    (0x1D2C, 0x1D62, 380), (0x1D62, 0x1D6B, 260), (0x2070, 0x2090, 370), (0x2090, 0x209D, 300), (0x2C7C, 0x2C7D, 200),
    (0x0370, 0x0400, 560), (0x1D7CE, 0x1D800, 600),
)  # fmt: skip
_OTHER = 700
_WIDE, _FULL = 1000, 0x2E80  # from here on most characters are full squares

TITLE, SMALL = 13.0, 11.0  # font sizes
TITLE_LINE, SMALL_LINE = 19.0, 15.0
PAD_X, PAD_Y = 10.0, 6.0
KEY_GAP = 8.0
ARROW = 8.0
SLOT = 16.0  # a port with a line of text above its wire; one more line below takes as much again


def text_width(text: str, size: float, bold: bool = False) -> float:
    units = sum(_WIDTHS[c] if c in _WIDTHS else _other(ord(c)) for c in text)
    return units * size / 1000 * (1.06 if bold else 1.0)


def _other(code: int) -> int:
    for first, end, width in _BLOCKS:
        if first <= code < end:
            return width
    return _WIDE if code >= _FULL else _OTHER


@dataclass(frozen=True, slots=True)
class Measures:
    """Boxes and wires of a picture, ready for layout; `keys` is the width of each box's column of keys."""

    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    keys: tuple[float, ...]


def measure(picture: Picture) -> Measures:
    """Sizes that hold all the text. Labels above a wire and gradients below it get a slot of their own."""
    incoming = picture.incoming()
    offsets = [0.0] * len(picture.edges)
    boxes: list[Box] = []
    keys: list[float] = []
    for node, edges in zip(picture.nodes, incoming, strict=True):
        # One slot size per box, so that wires spread evenly; two lines when a label and a gradient may meet.
        labels, gradients = (any(getattr(picture.edges[e], k) for e in edges) for k in ("label", "gradient"))
        slot = SLOT * (2 if labels and gradients else 1)
        for place, e in enumerate(edges):
            offsets[e] = (place - (len(edges) - 1) / 2) * slot
        width, key = _text_block(node)
        boxes.append(Box(width + 2 * PAD_X, max(text_height(node) + 2 * PAD_Y, slot * len(edges) + PAD_Y)))
        keys.append(key)
    wires = [
        Wire(e.source, e.target, offset, _label_room(e.label, e.gradient))
        for e, offset in zip(picture.edges, offsets, strict=True)
    ]
    return Measures(tuple(boxes), tuple(wires), tuple(keys))


def text_height(node: Node) -> float:
    return TITLE_LINE + SMALL_LINE * (len(node.rows) + bool(node.note))


def _text_block(node: Node) -> tuple[float, float]:
    """Width of all text in a box, and of the column of keys."""
    key = max((text_width(row.key, SMALL) for row in node.rows), default=0.0)
    rows = max((key + KEY_GAP + text_width(row.text, SMALL) for row in node.rows), default=0.0)
    return max(text_width(node.title, TITLE, bold=True), text_width(node.note, SMALL), rows, 24.0), key


def _label_room(label: str, gradient: str) -> float:
    return ARROW + 4.0 + max(text_width(label, SMALL), text_width(gradient, SMALL))
