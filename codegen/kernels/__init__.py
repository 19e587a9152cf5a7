"""Kernels of the loop IR as functions of LLVM IR, with explicit vector code."""
