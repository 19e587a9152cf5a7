"""Differentiation: Function values in, derivative values out, by forward and reverse sweeps and by elimination."""

from symdiff.diff.elimination import MIDDLING, representative
from symdiff.diff.jacobian import MODES, Mode, gradients, jacobians, pull_back, push_forward

__all__ = ["MIDDLING", "MODES", "Mode", "gradients", "jacobians", "pull_back", "push_forward", "representative"]
