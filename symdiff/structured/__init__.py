"""Structured derivatives: sums of products of factors placed by labels, and operators made of them."""

from symdiff.structured.propagate import Structure
from symdiff.structured.terms import Affine, Factor, Indirect, Term

__all__ = ["Affine", "Factor", "Indirect", "Structure", "Term"]
