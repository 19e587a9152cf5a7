"""Differentiation: Function values in, derivative values out, by forward and reverse sweeps."""

from symdiff.diff.jacobian import Mode, gradients, jacobians, pull_back, push_forward

__all__ = ["Mode", "gradients", "jacobians", "pull_back", "push_forward"]
