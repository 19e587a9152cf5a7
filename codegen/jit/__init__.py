"""Machine code in this process: the LLVM engine, its cache on disk, better code made later, threads, LAPACK."""
