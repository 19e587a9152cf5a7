"""Parts of arrays and arrays among zeros: numbers and scalars stand outside, so that equal parts are one value.

A scalar that may not be finite stays among the zeros: outside it would make NaN of them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from symdiff.ir.graph import AttrItems, Value
from symdiff.simplify.defined import finite_factor
from symdiff.simplify.exact import content_of
from symdiff.simplify.products import product
from symdiff.simplify.sums import labels_of
from symdiff.simplify.views import Context, Factor, Number, normal, number_in


def make_placed(name: str) -> Callable[[Context, tuple[Value, ...], AttrItems], Value]:
    """A linear op of one operand: pad(2 s x) is 2 s pad(x), and pad(b - a) is -pad(a - b) where that came first."""

    def make(ctx: Context, args: tuple[Value, ...], attrs: AttrItems) -> Value:
        (x,) = args
        number: Number = 1
        scalars: list[Factor] = []
        inner = x
        if not x.type.floating or number_in(x) is not None:
            return ctx.plain(name, args, attrs)
        if ctx.is_sum(x):
            number = content_of(ctx, ctx.terms(x))
            inner = ctx.make("scale", (x,), (("by", normal(1 / Fraction(number))),))
        else:
            view = ctx.view(x)
            number = view.coefficient
            scalars = [f for f in view.factors if not f.labels and (name == "slice" or finite_factor(ctx, f))]
            if x.type.rank and (number != 1 or scalars):
                rest = [f for f in view.factors if f not in scalars]
                inner = product(ctx, 1, rest, view.output, view.sizes, x.type.dtype)
        if inner is x:
            return ctx.plain(name, args, attrs)
        made = ctx.make(name, (inner,), attrs)
        labels = labels_of(made)
        sizes = dict(enumerate(made.shape))
        return product(ctx, number, [*scalars, Factor(made, 1, labels)], labels, sizes, made.type.dtype)

    return make
