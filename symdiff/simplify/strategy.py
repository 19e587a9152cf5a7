"""Which normal forms and rules a simplification uses, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from symdiff.errors import ArgumentError, ShapeError
from symdiff.ir.dims import format_shape
from symdiff.ir.graph import Function, Value, topological
from symdiff.ir.op import OpSet
from symdiff.ir.text import print_function
from symdiff.ir.types import FACTS
from symdiff.simplify import (
    contractions,
    linear,
    placing,
    pointwise,
    recognize,
    reshapes,
    rules_scalar,
    sums,
    triangles,
)
from symdiff.simplify.choose import choose
from symdiff.simplify.entries import assemble, is_assembled, reading, take_apart, worth_taking_apart
from symdiff.simplify.finish import finish
from symdiff.simplify.loops import tidied, with_bodies
from symdiff.simplify.match import Rule, RuleBook, compile_rule, factor_pass
from symdiff.simplify.residuals import handed_over
from symdiff.simplify.views import Context, Handler, Passes, Settings, Step

# Longer programs are only brought to normal form, and kept as they are when that makes them no shorter.
MOST_SEARCHED = 2000
MOST_ROUNDS = 4
MOST_CUT_SHORT = 1
# Scalars side by side read more easily than slices, padding and stacking: they may be so many times longer.
MOST_LONGER = 2

_ATOMS = (
    "exp", "exp2", "expm1", "log2", "log10", "log1p", "cbrt", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
    "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "arctan2", "hypot", "sigmoid", "softplus", "erf", "erfc",
    "logaddexp",
    "lgamma", "digamma", "polygamma", "apply", "maximum", "minimum", "relu", "clip", "sign", "floor", "ceil", "round",
    "trunc", "mod", "floor_divide", "xor",
)  # fmt: skip

HANDLERS: Mapping[str, Handler] = {
    "add": sums.make_add, "sub": sums.make_sub, "scale": sums.make_scale, "total": sums.make_total,
    "distribute": sums.make_distribute, "mul": pointwise.make_mul,
    "div": pointwise.make_div, "neg": pointwise.make_neg, "contract": pointwise.make_contract,
    "flip": pointwise.make_flip, "pow": pointwise.make_pow, "sqrt": pointwise.make_sqrt, "abs": pointwise.make_abs,
    "log": pointwise.make_log, "norm": pointwise.make_norm, "prod_others": pointwise.make_prod_others,
    "size": pointwise.make_size, "cast": pointwise.make_cast, "not": pointwise.make_not,
    "and": pointwise.make_logic("and"), "or": pointwise.make_logic("or"), "select": pointwise.make_select,
    "symmetric": pointwise.make_symmetric,
    "tril": triangles.make_triangle("tril"), "triu": triangles.make_triangle("triu"), "cumsum": triangles.make_cumsum,
    "reshape": reshapes.make_reshape, "softmax": pointwise.along_axes("softmax"),
    "logsumexp": pointwise.along_axes("logsumexp"),
    "slice": placing.make_placed("slice"), "embed": placing.make_placed("embed"),
    "inverse": linear.make_inverse, "solve": linear.make_solve, "det": linear.make_determinant("det"),
    "logabsdet": linear.make_determinant("logabsdet"), "signdet": linear.make_determinant("signdet"),
    **{name: pointwise.make_compare(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    **{name: pointwise.handler(name) for name in _ATOMS},
}  # fmt: skip

# Rules are matched as they stand: a selection in a left side is not taken apart.
_PATTERN_HANDLERS = {k: v for k, v in HANDLERS.items() if k != "select"}


_PRODUCTS = (
    *contractions.PASSES, *linear.PASSES, *reshapes.PASSES, *triangles.PASSES, *recognize.PRODUCTS,
)  # fmt: skip


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
        products=(*_PRODUCTS, factor_pass(book)),
        sums=(book.in_terms, *recognize.SUMS),
        roots=(book.at_root, *recognize.ROOTS),
    )
    return Context(opset, HANDLERS, passes, settings)


def normal_form(ctx: Context, function: Function) -> dict[Value, Value]:
    """Every value of a function in normal form."""
    mapping: dict[Value, Value] = {p: ctx.builder.adopt(p) for p in function.params}
    for value in function.instrs:
        mapping[value] = ctx.make(value.op.name, [mapping[a] for a in value.args], value.attrs)
    return mapping


def once(
    function: Function, opset: OpSet, settings: Settings, trace: list[Step] | None = None
) -> tuple[Function, bool]:  # fmt: skip
    """One round: normal forms, the choice between factored and expanded, the form that is shown.

    Also whether the search for shorter forms came to its end.
    """
    ctx = new_context(opset, settings)
    ctx.trace = trace
    mapping = normal_form(ctx, function)
    if settings.equalities:
        _declare(ctx, settings, function)
        mapping = normal_form(ctx, function)
    results = [mapping[r] for r in function.results]
    ended = True
    if len(function.instrs) <= MOST_SEARCHED:
        results, ended = choose(ctx, results)
    shown = finish(ctx, results, _book(opset, True))
    return Function.of([mapping[p] for p in function.params], shown, function.name), ended


def simplify(
    function: Function,
    opset: OpSet,
    assumptions: Sequence[tuple[Any, Any]] = (),
    trace: list[Step] | None = None,
    keep_kinks: bool = False,
    entries: bool = True,
) -> Function:
    """The shortest equal function found.

    assumptions: pairs (parameter name, fact), such as ("x", "positive"), and pairs (value, value) declared equal, the
    first replaced by the second. trace: a list that receives the rules applied. With `keep_kinks` the result is equal
    at ties and kinks too; otherwise it may differ on sets of measure zero where a derivative is a convention.
    entries: a small array of fixed size may become a stack of scalar formulas, one for each entry.
    Simplifying the result again gives the result.
    """
    facts: dict[str, frozenset[str]] = {}
    equalities: list[tuple[Value, Value]] = []
    for left, right in assumptions:
        if isinstance(left, str):
            facts[left] = facts.get(left, frozenset()) | {_fact(left, right, function)}
        elif isinstance(left, Value) and isinstance(right, Value):
            equalities.append((left, right))
        else:
            raise ArgumentError(
                f"simplify: assumption ({left!r}, {right!r}), expected (parameter name, fact) or two equal values"
            )
    settings = Settings(keep_kinks, facts, tuple(equalities))
    if not any(v.op.picks for v in function.instrs):
        return _closed(function, opset, settings, entries, trace)
    known: dict[Function, Function] = {}

    def clean(body: Function, _: OpSet) -> Function:
        if body not in known:
            found = simplify(body, opset, keep_kinks=keep_kinks, entries=entries)
            known[body] = known[found] = found
        return known[body]

    # What goes into a loop may become simpler than it was when the loop was made shorter.
    for number in range(MOST_ROUNDS):
        before = function
        function = handed_over(with_bodies(function, opset, clean), opset, named=True)
        function = tidied(function, opset, clean, moving=False)
        if number and function == before:
            break
        function = _closed(function, opset, settings, entries, trace)
    return function


def _closed(
    function: Function, opset: OpSet, settings: Settings, entries: bool, trace: list[Step] | None
) -> Function:  # fmt: skip
    """The shortest equal function, arrays as they are or entry by entry."""
    stacked = entries and not settings.equalities and is_assembled(function)
    found = function if stacked else _rounds(function, opset, settings, trace)
    if not entries or settings.equalities or not (stacked or worth_taking_apart(found)):
        return found
    apart = take_apart(found, opset, settings.facts)
    if apart is None:
        return found
    scalars = _rounds(apart.scalars, opset, Settings(settings.keep_kinks), trace)
    one_by_one = assemble(found, apart, scalars, opset)
    return one_by_one if stacked or reading(one_by_one) <= MOST_LONGER * reading(found) else found


def _rounds(function: Function, opset: OpSet, settings: Settings, trace: list[Step] | None) -> Function:
    """The shortest equal function, arrays as they are."""
    # Rounds until one repeats. A cycle of forms is left at its smallest, so the outcome does not depend on the entry.
    first, ended = once(function, opset, settings, trace)
    if len(function.instrs) > MOST_SEARCHED and len(first.instrs) >= len(function.instrs):
        return function
    rounds = [first]
    # A search that was cut short begins anew from what it made: once more, and no further.
    while len(rounds) <= (MOST_ROUNDS if ended else MOST_CUT_SHORT):
        following, finished = once(rounds[-1], opset, settings)
        ended = ended and finished
        if following == rounds[-1]:
            return rounds[-1]
        if following in rounds:
            cycle = rounds[rounds.index(following) :]
            return min(cycle, key=lambda f: (len(f.instrs), print_function(f)))
        rounds.append(following)
    return rounds[-1]


def _fact(name: str, fact: Any, function: Function) -> str:
    if fact not in FACTS:
        raise ArgumentError(f"simplify: fact {fact!r} of {name}, expected one of {', '.join(sorted(FACTS))}")
    if name not in [p.name for p in function.params]:
        known = ", ".join([p.name for p in function.params])
        raise ArgumentError(f"simplify: an assumption on {name}, which is no parameter ({known})")
    return fact


def _declare(ctx: Context, settings: Settings, function: Function) -> None:
    """Bring declared equalities to normal form, where the context looks for them."""
    known: dict[Value, Value] = {}
    for pair in settings.equalities:
        mapping: dict[Value, Value] = {}
        for v in topological(pair):
            mapping[v] = (
                ctx.builder.adopt(v) if v.is_param else ctx.make(v.op.name, [mapping[a] for a in v.args], v.attrs)
            )
        left, right = mapping[pair[0]], mapping[pair[1]]
        if left.type.shape != right.type.shape:
            raise ShapeError(
                f"simplify: declared equal are shapes {format_shape(left.shape)} and {format_shape(right.shape)}"
            )
        known[left] = right
    ctx.declare_equal(known)
