"""Drawing of computational graphs: a plain description of boxes and wires in, SVG, DOT, TikZ or a text table out."""

from symdiff.render.drawing.drawing import Drawing
from symdiff.render.drawing.grouping import Grouping, group
from symdiff.render.drawing.labels import formula, intuition, plain_constant, shape_text
from symdiff.render.drawing.model import Edge, Node, Picture, Row

__all__ = [
    "Drawing", "Edge", "Grouping", "Node", "Picture", "Row", "formula", "group", "intuition", "plain_constant",
    "shape_text",
]  # fmt: skip
