"""What is known of values: sign and symmetry, from the facts of parameter types and from how values are made.

Every question is answered from the answers for the operands, which were asked before: values are made bottom up, so
no answer walks a graph.
"""

from __future__ import annotations

from symdiff.ir.graph import Value
from symdiff.simplify.views import Context, number_in, unanswered

_POSITIVE_OPS = frozenset({"exp", "exp2", "softmax", "sigmoid", "cosh", "softplus"})
_NONNEGATIVE_OPS = frozenset({"abs", "relu", "norm"})
_SYMMETRIC_FACTS = frozenset({"symmetric", "positive_definite", "diagonal"})


def declared(ctx: Context, value: Value) -> frozenset[str]:
    """Facts of a parameter: of its type and of the assumptions."""
    return value.type.facts | ctx.settings.facts.get(value.name, frozenset()) if value.is_param else frozenset()


# -------------------------------------------------------------------- sign
def positive(ctx: Context, value: Value) -> bool:
    """Every element is > 0 (wherever it is defined)."""
    return sign(ctx, value) == 2


def nonnegative(ctx: Context, value: Value) -> bool:
    return sign(ctx, value) >= 1


def sign(ctx: Context, value: Value) -> int:
    """2: positive, 1: not negative, 0: unknown."""
    memo = ctx.memo("sign")
    found = memo.get(value)
    if found is not None:
        return found
    for v in unanswered(value, memo, lambda v: _asked(ctx, v)):
        memo[v] = _sign(ctx, v, memo)
    return memo[value]


def _asked(ctx: Context, value: Value) -> tuple[Value, ...]:
    """The values whose signs decide that of a value."""
    return (*value.args, *[f.base for f in ctx.view(value).factors if f.base is not value])


def _sign(ctx: Context, value: Value, memo: dict[Value, int]) -> int:
    if value.is_param:
        facts = declared(ctx, value)
        return 2 if "positive" in facts else 1 if "nonnegative" in facts else 0
    number = number_in(value)
    name = value.op.name
    if number is not None:
        return 2 if number > 0 else 1 if number == 0 else 0
    if name == "const":
        return 2 if value.attr("value") in ("pi", "e", "euler_gamma", "inf") else 0
    if name in _POSITIVE_OPS or name == "size":
        return 2
    if name in _NONNEGATIVE_OPS or (name == "cast" and value.args[0].type.dtype == "bool"):
        return 1
    if name == "add":
        signs = [memo[a] for a in value.args]
        return 0 if 0 in signs else max(signs)
    if name == "pow":
        base, power = memo[value.args[0]], number_in(value.args[1])
        if base == 2:
            return 2
        if isinstance(power, int) and power % 2 == 0:
            return 1
        return 1 if base == 1 or not isinstance(power, int) else 0
    if name == "det" and "positive_definite" in declared(ctx, value.args[0]):
        return 2
    if name in ("contract", "mul", "div"):
        return _product_sign(ctx, value, memo)
    if name in ("tril", "triu"):
        return min(1, memo[value.args[0]])
    if name in ("maximum", "logaddexp"):
        return max(memo[a] for a in value.args)
    if name in ("minimum", "reduce_max", "reduce_min", "reduce_prod", "sqrt", "select", "cumsum"):
        operands = value.args[1:] if name == "select" else value.args
        return min(memo[a] for a in operands)
    return 0


def _product_sign(ctx: Context, value: Value, memo: dict[Value, int]) -> int:
    view = ctx.view(value)
    if view.coefficient < 0 or (len(view.factors) == 1 and view.factors[0].base is value):
        return 0
    least = 2
    occurrences: dict[Value, int] = {}
    for base, power, labels in view.factors:
        if base not in memo:
            return 0
        even = isinstance(power, int) and power % 2 == 0
        own = max(memo[base], 1) if even or not isinstance(power, int) else memo[base]
        if own == 0:
            occurrences[base] = occurrences.get(base, 0) + 1
            if power != 1 or len(labels) > 1:
                return 0
        else:
            least = min(least, own)
    if occurrences:
        return 1 if _quadratic(ctx, value, occurrences) else 0
    # A delta has zeros off its diagonal.
    return least if view.distinct else min(least, 1)


def _quadratic(ctx: Context, value: Value, occurrences: dict[Value, int]) -> bool:
    """x @ M @ x with M positive definite."""
    view = ctx.view(value)
    if len(occurrences) != 1 or list(occurrences.values()) != [2] or view.output:
        return False
    (vector,) = occurrences
    matrices = [f for f in view.factors if f.base is not vector]
    if len(matrices) != 1:
        return False
    matrix = matrices[0].base
    ends = {x for f in view.factors if f.base is vector for x in f.labels}
    return definite(ctx, matrix) and set(matrices[0].labels) == ends and len(ends) == 2


def definite(ctx: Context, value: Value) -> bool:
    """Declared positive definite, or the inverse of such a matrix."""
    if value.op.name == "inverse":
        value = value.args[0]
    return "positive_definite" in declared(ctx, value)


# -------------------------------------------------------------------- symmetry
def symmetric(ctx: Context, value: Value) -> bool:
    """A matrix that is its own transpose."""
    if value.type.rank != 2 or value.shape[0] != value.shape[1]:
        return False
    memo = ctx.memo("symmetric")
    found = memo.get(value)
    if found is None:
        memo[value] = False  # while asking: its own transpose is built from its factors, not from itself
        ctx.asking += 1
        found = memo[value] = _symmetric(ctx, value)
        ctx.asking -= 1
    return found


def _symmetric(ctx: Context, value: Value) -> bool:
    name = value.op.name
    if value.is_param:
        return bool(declared(ctx, value) & _SYMMETRIC_FACTS)
    if name == "const":
        return True
    if name in ("inverse", "cholesky_inverse"):
        return symmetric(ctx, value.args[0])
    if ctx.is_sum(value):
        own = {t: c for c, t in ctx.terms(value)}
        for c, t in ctx.terms(value):
            k, other = ctx.split(ctx.make("flip", (t,)))
            if own.get(other) != c * k:
                return False
        return True
    view = ctx.view(value)
    if len(view.factors) != 1 or view.factors[0].base is not value:
        return ctx.make("flip", (value,)) is value
    if value.op.elementwise:
        return all(symmetric(ctx, a) for a in value.args)
    return False
