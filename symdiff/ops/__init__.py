"""Every op, declared once, in one frozen set."""

from symdiff.ir.op import OpSet
from symdiff.ops import choice, indexing, linalg, reduce, region, scalar, structure

OPSET = OpSet((*scalar.OPS, *choice.OPS, *structure.OPS, *indexing.OPS, *reduce.OPS, *linalg.OPS, *region.OPS))
