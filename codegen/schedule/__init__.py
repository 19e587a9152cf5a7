"""From groups of array nodes to kernels of the loop IR: which loops there are, in which order, cut how."""
