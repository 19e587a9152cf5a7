"""The loop-nest IR between array nodes and LLVM: indices, loops, its verifier, and what its scalar operations cost."""
