"""Colours and their legend, shared by every writer."""

from __future__ import annotations

from collections.abc import Mapping

from symdiff.render.drawing.model import Kind, Picture, Role

INK = "#1c2430"
MUTED = "#5c6570"
WIRE = "#8b95a1"

# Fill, border, and the word in the legend.
KINDS: Mapping[Kind, tuple[str, str, str]] = {
    "input": ("#e3eefb", "#3b73b9", "input"),
    "operation": ("#f7f7f5", "#8a8f98", "operation"),
    "result": ("#e2f3e6", "#3a8a54", "result"),
    "group": ("#fdf6e3", "#a58a3c", "several operations"),
}
ROLES: Mapping[Role, str] = {"value": INK, "upstream": "#b3321b", "local": "#6a4aa0"}
_WORDS: Mapping[Role, str] = {
    "value": "value",
    "upstream": "gradient: upstream in a box, downstream on a wire",
    "local": "local derivative",
}


def legend(picture: Picture) -> list[tuple[str, str, str]]:
    """(fill, border, word) for everything the picture uses."""
    kinds = {node.kind for node in picture.nodes}
    roles = {row.role for node in picture.nodes for row in node.rows}
    entries = [entry for kind, entry in KINDS.items() if kind in kinds]
    if len(roles) > 1:
        entries += [(colour, colour, _WORDS[role]) for role, colour in ROLES.items() if role in roles]
    return entries
