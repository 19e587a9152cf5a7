"""Matrix products and factorizations in LLVM IR: tiles, packing, small sizes, parts that threads share."""
