"""Sparse derivatives: which entries of a Jacobian can differ from zero, and which of them share one sweep."""

from symdiff.sparsity.acyclic import Substitution, colour_acyclic, substitution
from symdiff.sparsity.bicolouring import Bicolouring, colour_both
from symdiff.sparsity.colouring import Colouring, colour_columns, colour_star
from symdiff.sparsity.structure import pattern

__all__ = [
    "Bicolouring", "Colouring", "Substitution", "colour_acyclic", "colour_both", "colour_columns", "colour_star",
    "pattern", "substitution",
]  # fmt: skip
