"""A Function as array nodes: one lowering per op, small axes dissolved, what is stored and what is fused."""
