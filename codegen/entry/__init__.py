"""How Python calls a kernel: the fast entry in LLVM IR, and the portable way beside it."""
