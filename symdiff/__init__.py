"""symdiff: the derivative of a tensor function as a closed form, a native function and a bill."""

from symdiff.api.derivation import Derivation, derivation
from symdiff.api.derivatives import Equality, eq, gradient, simplify
from symdiff.api.drawing import draw
from symdiff.api.expression import Expression, symbol
from symdiff.api.functions import (
    digamma,
    erf,
    erfc,
    lgamma,
    logsumexp,
    polygamma,
    relu,
    scan,
    sigmoid,
    softmax,
    softplus,
    triangular_solve,
    where,
)
from symdiff.api.generic import check_gradient, hessian, hvp, jacobian, jvp, vjp
from symdiff.api.kinks import Conventions, kinks
from symdiff.api.native import compile
from symdiff.api.report import compare, evaluate
from symdiff.api.sparse import sparse_hessian, sparse_jacobian
from symdiff.api.transforms import grad, jacfwd, jacrev, jit, value_and_grad, vmap
from symdiff.api.verification import Verification, verify
from symdiff.errors import (
    ArgumentError,
    DerivativeError,
    DtypeError,
    EvaluationError,
    ParseError,
    ShapeError,
    SymbolicSizeError,
    SymdiffError,
    UnsupportedError,
    VerifyError,
)
from symdiff.frontend.creation import arange, eye, full, ones, tri, zeros
from symdiff.frontend.expr import Expr, constant, dim, dims
from symdiff.frontend.index_arrays import tril_indices, triu_indices
from symdiff.frontend.joining import stack_nested as array
from symdiff.frontend.sympy_bridge import from_sympy
from symdiff.frontend.text import parse
from symdiff.frontend.undefined import UndefinedFunction as function  # noqa: N813
from symdiff.frontend.update import add_at
from symdiff.frontend.update import set_at as set
from symdiff.structured.operator import Operator

__version__ = "0.1.0"

__all__ = [
    "ArgumentError", "Conventions", "Derivation", "DerivativeError", "DtypeError", "Equality", "EvaluationError",
    "Expr", "Expression", "Operator", "ParseError", "ShapeError", "SymbolicSizeError", "SymdiffError",
    "UnsupportedError",
    "Verification", "VerifyError", "add_at", "arange", "array", "check_gradient", "compare", "compile", "constant",
    "derivation", "digamma", "dim", "dims", "draw", "eq", "erf", "erfc", "evaluate", "eye", "from_sympy", "full",
    "function", "grad", "gradient", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jit", "jvp", "kinks", "lgamma",
    "logsumexp", "ones", "parse", "polygamma", "relu", "scan", "set", "sigmoid", "simplify", "softmax", "softplus",
    "sparse_hessian", "sparse_jacobian", "symbol", "tri", "triangular_solve", "tril_indices", "triu_indices",
    "value_and_grad", "verify", "vjp", "vmap", "where", "zeros",
]  # fmt: skip
