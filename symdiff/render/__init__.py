"""Function -> text: source code for several targets, LaTeX, and plain Unicode, from one recovery of matrix notation."""

from symdiff.render.conditions import conditions as find_conditions
from symdiff.render.latex import to_latex
from symdiff.render.numpy_source import to_source
from symdiff.render.targets import code, source
from symdiff.render.text import to_text

__all__ = ["code", "find_conditions", "source", "to_latex", "to_source", "to_text"]
