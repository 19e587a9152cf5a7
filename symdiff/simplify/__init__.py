"""Simplification: a Function in, an equal Function out. `simplify` seeks the closed form, `optimize` cleans up fast."""

from symdiff.simplify.cleanup import optimize
from symdiff.simplify.stable import stabilized
from symdiff.simplify.strategy import simplify

__all__ = ["optimize", "simplify", "stabilized"]
