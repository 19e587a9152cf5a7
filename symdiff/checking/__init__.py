"""Gradients against numbers that come from the function alone."""

from symdiff.checking.check import GradientOf, check_gradient
from symdiff.checking.report import ArgumentReport, Entry, GradientReport, Verdict

__all__ = ["ArgumentReport", "Entry", "GradientOf", "GradientReport", "Verdict", "check_gradient"]
