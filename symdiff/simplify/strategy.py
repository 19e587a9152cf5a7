"""Which normal forms and rules a simplification uses, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symdiff.ir.graph import Function, Value
from symdiff.ir.op import OpSet
from symdiff.simplify import contractions, linear, pointwise, products, recognize, rules_scalar, sums
from symdiff.simplify.choose import choose
from symdiff.simplify.finish import finish
from symdiff.simplify.match import Rule, RuleBook, compile_rule, factor_pass
from symdiff.simplify.views import Context, Handler, Passes, Settings, Step

_ATOMS = (
    "exp", "exp2", "expm1", "log2", "log10", "log1p", "cbrt", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
    "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "arctan2", "hypot", "sigmoid", "softplus", "erf", "erfc",
    "lgamma", "digamma", "polygamma", "apply", "maximum", "minimum", "relu", "clip", "sign", "floor", "ceil", "round",
    "trunc", "mod", "floor_divide", "xor",
)  # fmt: skip

HANDLERS: Mapping[str, Handler] = {
    "add": sums.make_add, "sub": sums.make_sub, "scale": sums.make_scale, "total": sums.make_total,
    "distribute": sums.make_distribute, "mul": pointwise.make_mul,
    "div": pointwise.make_div, "neg": pointwise.make_neg, "contract": pointwise.make_contract,
    "flip": pointwise.make_flip, "pow": pointwise.make_pow, "sqrt": pointwise.make_sqrt, "abs": pointwise.make_abs,
    "log": pointwise.make_log, "norm": pointwise.make_norm, "cast": pointwise.make_cast, "not": pointwise.make_not,
    "and": pointwise.make_logic("and"), "or": pointwise.make_logic("or"), "select": pointwise.make_select,
    "reshape": pointwise.make_reshape, "softmax": pointwise.along_axes("softmax"), "logsumexp": pointwise.along_axes("logsumexp"),
    "inverse": linear.make_inverse, "solve": linear.make_solve, "det": linear.make_determinant("det"),
    "logabsdet": linear.make_determinant("logabsdet"), "signdet": linear.make_determinant("signdet"),
    **{name: pointwise.make_compare(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    **{name: pointwise.handler(name) for name in _ATOMS},
}  # fmt: skip

# Rules are matched as they stand: a selection in a left side is not taken apart.
_PATTERN_HANDLERS = {k: v for k, v in HANDLERS.items() if k != "select"}


_BOOKS: dict[tuple[int, bool], tuple[OpSet, RuleBook]] = {}


def _book(opset: OpSet, finishing: bool) -> RuleBook:
    """The compiled rules for an op set, compiled once."""
    key = (id(opset), finishing)
    if key not in _BOOKS:
        families = rules_scalar.FINISHING if finishing else rules_scalar.FAMILIES
        _BOOKS[key] = (opset, rule_book([r for family in families.values() for r in family], opset))
    return _BOOKS[key][1]


def rule_book(rules: Sequence[Rule], opset: OpSet) -> RuleBook:
    """Rules compiled for matching, each in a context of its own."""
    return RuleBook([compile_rule(Context(opset, _PATTERN_HANDLERS, Passes()), rule) for rule in rules])


def new_context(opset: OpSet, settings: Settings | None = None) -> Context:
    """A context with every rule."""
    book = _book(opset, False)
    passes = Passes(
        products=(*contractions.PASSES, factor_pass(book)),
        sums=(book.in_terms,),
        roots=(book.at_root, *recognize.ROOTS),
    )
    return Context(opset, HANDLERS, passes, settings)


def normal_form(ctx: Context, function: Function) -> dict[Value, Value]:
    """Every value of a function in normal form."""
    mapping: dict[Value, Value] = {p: ctx.builder.adopt(p) for p in function.params}
    for value in function.instrs:
        mapping[value] = ctx.make(value.op.name, [mapping[a] for a in value.args], value.attrs)
    return mapping


def once(function: Function, opset: OpSet, settings: Settings | None = None) -> Function:
    ctx = new_context(opset, settings)
    mapping = normal_form(ctx, function)
    results = choose(ctx, [mapping[r] for r in function.results])
    shown = finish(ctx, results, _book(opset, True))
    raw = Function.of([mapping[p] for p in function.params], shown, function.name)
    return raw


def simplify(
    function: Function, opset: OpSet, assumptions: Sequence[tuple[str, str]] = (), trace: list[Step] | None = None,
    keep_kinks: bool = False,
) -> Function:  # fmt: skip
    """The shortest equal function found; with `keep_kinks` equal at ties and kinks too, where a formula may differ."""
    return once(function, opset, Settings(keep_kinks=keep_kinks))
