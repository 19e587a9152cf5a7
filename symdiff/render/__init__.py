"""Function -> text: NumPy source, LaTeX, and plain Unicode, all from one recovery of matrix notation."""

from symdiff.render.latex import to_latex
from symdiff.render.numpy_source import to_source
from symdiff.render.text import to_text

__all__ = ["to_latex", "to_source", "to_text"]
