"""Random well-typed programs over OPSET, grown by fitting types.

`programs()` draws a `Program`: a Function, arguments for it and the sizes of its dimensions (some named, some numbers).
Values are evaluated as they are made, so a step that leaves an op's domain, overflows or is too large is not taken; an
op with a narrow domain gets its operands squashed into it. `MAKERS` says how attributes of structural ops are chosen;
elementwise ops need no entry. All choices come from one drawn seed, which spreads them evenly; fewer steps with the
same seed are a prefix of the program, so failures still shrink.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import assume, settings
from hypothesis import strategies as st

from symdiff.errors import SymdiffError
from symdiff.ir.builder import Builder, Handle
from symdiff.ir.contraction import contract, einsum
from symdiff.ir.dims import Size, evaluate, named, product
from symdiff.ir.graph import ArrayConstant, Function, Value
from symdiff.ir.run import resolve
from symdiff.ir.types import TensorType, float64
from symdiff.ops import OPSET

# Not drawn: no operand of their own (the makers use them inside), or no value without a definition.
NOT_DRAWN = frozenset({"const", "array", "iota", "size", "apply", "functional", "symmetric"})
WITHOUT_LOOPS = tuple([name for name, op in OPSET.items() if not op.picks])
_WIDE = (-3.0, 3.0)
# Steep functions, squashed although their domain is everything.
_STEEP = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "pow", "erf", "erfc", "div", "mod", "floor_divide"})
# How much more often than once these are tried: what programs are mostly made of.
_OFTEN = {"contract": 8, "mul": 3, "add": 3, "sub": 2, "select": 4, "tanh": 2, "sin": 2, "scan": 2}
_MOST_ELEMENTS, _MOST_RANK, _LARGEST = 30, 3, 1e3
_DEEPEST = 2  # loops in loops


@dataclass(frozen=True)
class Program:
    """A function, arguments in its domain, the numbers of its dimensions, and the builder that holds its values."""

    function: Function
    args: tuple[Any, ...]
    sizes: dict[str, int]
    builder: Builder

    def __repr__(self) -> str:
        return f"Program({self.function}, sizes={self.sizes})"


class UnfitError(Exception):
    """A step that does not fit; the grower tries another."""


class Grower:
    """A pool of values with their numbers, and random choices; `outer` grows the program whose loop has this body."""

    def __init__(self, seed: int, ops: Sequence[str] = (), outer: Grower | None = None) -> None:
        self.builder = Builder(OPSET)
        self.ops = ops
        self.rng = np.random.default_rng(seed)
        self.sizes = outer.sizes if outer is not None else {"m": self.integer(1, 3), "n": self.integer(2, 3)}
        self.depth: int = outer.depth + 1 if outer is not None else 0
        self.numbers: dict[Value, Any] = {}
        self.pool: list[Handle] = []
        self.params: list[Value] = []

    # ---------------------------------------------------------------- choices
    def pick(self, items: Iterable[Any]) -> Any:
        items = list(items)
        if not items:
            raise UnfitError
        return items[self.integer(0, len(items) - 1)]

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def float(self, least_rank: int = 0) -> Handle:
        fitting = [h for h in self.pool if h.value.type.floating and h.rank >= least_rank]
        return self.pick(fitting[-3:] if self.integer(0, 1) else fitting)  # recent ones, so that programs grow deep

    def like(self, handle: Handle) -> Handle:
        """Another value of the same type."""
        return self.pick(h for h in self.pool if h.value.type == handle.value.type)

    def square(self) -> Handle:
        """A well-conditioned matrix: the identity, twice, plus something small."""
        x = self.pick(h for h in self.pool if h.rank == 2 and h.shape[0] == h.shape[1] and h.value.type.floating)
        eye = einsum("i->ii", x.const(2, x.shape[:1]))
        return eye + self.squash(x, (-0.3, 0.3))

    def condition(self, like: Handle) -> Handle:
        return like.op(self.pick(("lt", "le", "gt", "ge", "ne")), self.like(like))

    def indices(self, size: Size) -> Handle:
        """An index array into an axis of this size."""
        whole = evaluate(size, self.sizes)
        if not whole:
            raise UnfitError
        shape = self.pick([(), (1,), (3,), (2, 2)])
        numbers = self.rng.integers(-whole, whole, shape)
        # Named sizes change under nothing here, so an index valid at these sizes is valid.
        return self.handle("array", value=ArrayConstant(np.asarray(numbers, np.int64)))

    def handle(self, name: str, **attrs: Any) -> Handle:
        return self.builder.handle(self.builder.make(OPSET[name], (), tuple(sorted(attrs.items()))))

    def squash(self, x: Handle, interval: tuple[float, float]) -> Handle:
        low, high = interval
        return x.op("tanh") * ((high - low) / 2 * 0.95) + (low + high) / 2

    # ---------------------------------------------------------------- steps
    def parameter(self, shape: tuple[Size, ...], numbers: Any = None) -> None:
        value = self.builder.param(f"p{len(self.params)}", TensorType("f64", shape))
        self.params.append(value)
        if numbers is None:
            sign = self.rng.choice([-1.0, 1.0])
            numbers = sign * self.rng.uniform(0.2, 1.5, [evaluate(s, self.sizes) for s in shape])
        self.numbers[value] = numbers
        self.pool.append(self.builder.handle(value))

    def grown(self, ops: Sequence[str] = ()) -> Handle | None:
        """One more value, of an op that fits within a few tries."""
        for _ in range(4):
            try:
                return self.step(self.pick(ops or self.ops))
            except (UnfitError, SymdiffError):
                continue
        return None

    def step(self, name: str) -> Handle:
        maker = MAKERS.get(name)
        made = maker(self) if maker is not None else self._elementwise(name)
        self._evaluate(made.value)
        if made not in self.pool:
            self.pool.append(made)
        return made

    def _elementwise(self, name: str) -> Handle:
        op = OPSET[name]
        if not op.elementwise:
            raise LookupError(f"op {name} has no entry in MAKERS")
        first = self.float()
        operands = [first, *(self.like(first) for _ in range((op.arity or 1) - 1))]
        for i, interval in enumerate(op.sample.intervals):
            if interval != _WIDE or name in _STEEP:
                operands[i] = self.squash(operands[i], interval)
        return operands[0].op(name, *operands[1:])

    def _evaluate(self, value: Value) -> None:
        """Numbers for `value` and what it is made of; `UnfitError` when one is too large or undefined."""
        if value in self.numbers:
            return
        for operand in value.args:
            self._evaluate(operand)  # a step is a few instructions deep
        if value.type.rank > _MOST_RANK or evaluate(product(value.type.shape), self.sizes) > _MOST_ELEMENTS:
            raise UnfitError
        attrs = {k: resolve(v, self.sizes) for k, v in value.attrs}
        with np.errstate(all="ignore"):
            result = value.op.evaluate(*[self.numbers[a] for a in value.args], **attrs)
        if value.type.floating and not np.all(np.abs(result) < _LARGEST):
            raise UnfitError
        self.numbers[value] = result


# -------------------------------------------------------------------- structural ops
def _contract(g: Grower) -> Handle:
    operands = [g.float() for _ in range(g.integer(1, 3))]
    sizes: dict[int, Size] = {}
    words: list[tuple[int, ...]] = []
    for operand in operands:
        word: list[int] = []
        for size in operand.shape:
            label = g.pick([*(k for k, s in sizes.items() if s == size), len(sizes)])
            sizes[label] = size
            word.append(label)
        words.append(tuple(word))
    if len(operands) > 1 and not any(set(a) & set(b) for a, b in pairwise(words)):
        raise UnfitError  # outer products of everything are large and teach little
    kept = [label for label in sizes if g.integer(0, 2)]
    output = [kept[i] for i in g.rng.permutation(len(kept))]
    if output and g.integer(0, 5) == 0:
        output = [*output, g.pick(output)]  # a delta
    if g.integer(0, 5) == 0:
        label = len(sizes)
        sizes[label] = g.pick([s for h in g.pool for s in h.shape] or [2])
        output = [*output, label]  # a broadcast
    value = contract(g.builder, [o.value for o in operands], words, tuple(output), sizes)
    return g.builder.handle(value)


def _axes(g: Grower, x: Handle) -> tuple[int, ...]:
    return tuple(sorted({-g.integer(1, x.rank) for _ in range(g.integer(1, 2))}))


def _reduction(name: str) -> Callable[[Grower], Handle]:
    def make(g: Grower) -> Handle:
        x = g.float(1)
        return x.op(name, axes=_axes(g, x))

    return make


def _along(name: str, deepest: int = 9) -> Callable[[Grower], Handle]:
    def make(g: Grower) -> Handle:
        x = g.float(1)
        return x.op(name, axis=-g.integer(1, min(x.rank, deepest)))

    return make


def _position(name: str) -> Callable[[Grower], Handle]:
    def make(g: Grower) -> Handle:
        x = g.float(1)
        return x.op(name, axis=-1).op("cast", dtype="f64")

    return make


def _cumsum(g: Grower) -> Handle:
    x = g.float(1)
    return x.op("cumsum", axis=-g.integer(1, x.rank), reverse=bool(g.integer(0, 1)))


def _reshape(g: Grower) -> Handle:
    x = g.float(1)
    rank = g.integer(1, x.rank)
    tail = x.shape[x.rank - rank :]
    return x.op("reshape", rank=rank, shape=g.pick([(product(tail),), (*tail[::-1],), (1, *tail), (*tail, 1)]))


def _slice(g: Grower) -> Handle:
    x = g.float(1)
    size = x.shape[-1]
    choices = [((1,), (1,), (size - 1,)), ((0,), (2,), ((size + 1) // 2,)), ((size - 1,), (-1,), (size,))]
    starts, steps, sizes = g.pick(choices)
    return x.op("slice", starts=starts, steps=steps, sizes=sizes)


def _embed(g: Grower) -> Handle:
    x = g.float(1)
    size = x.shape[-1]
    choices = [((1,), (1,), (size + 2,)), ((0,), (2,), (2 * size,)), ((size - 1,), (-1,), (size,))]
    starts, steps, sizes = g.pick(choices)
    return x.op("embed", starts=starts, steps=steps, sizes=sizes)


def _concatenate(g: Grower) -> Handle:
    x = g.float(1)
    return x.op("concatenate", *(g.like(x) for _ in range(g.integer(1, 2))), axis=-g.integer(1, x.rank))


def _gather(g: Grower) -> Handle:
    x = g.float(1)
    axis = -g.integer(1, x.rank)
    return x.op("gather", g.indices(x.shape[axis]), axis=axis)


def _scatter_add(g: Grower) -> Handle:
    x = g.float(1)
    index = g.handle("array", value=ArrayConstant(g.rng.integers(-4, 4, evaluate(x.shape[-1], g.sizes))))
    return x.op("scatter_add", index, axis=-1, sizes=(4,))


def _last_writer(g: Grower) -> Handle:
    writer = g.indices(5).op("last_writer", sizes=(5,))
    return writer.op("cast", dtype="f64")


def _triangle(name: str) -> Callable[[Grower], Handle]:
    def make(g: Grower) -> Handle:
        return g.float(2).op(name, k=g.integer(-1, 1))

    return make


def _of_matrix(name: str) -> Callable[[Grower], Handle]:
    return lambda g: g.square().op(name)


def _cholesky(g: Grower) -> Handle:
    x = g.square()
    return einsum("ij,kj->ik", x, x).op("cholesky")


def _right_side(g: Grower, a: Handle) -> Handle:
    return g.pick(h for h in g.pool if h.rank >= 2 and h.shape[-2] == a.shape[-1] and h.value.type.floating)


def _solve(g: Grower) -> Handle:
    a = g.square()
    return a.op("solve", _right_side(g, a))


def _triangular_solve(g: Grower) -> Handle:
    a = g.square()
    return a.op("triangular_solve", _right_side(g, a), lower=bool(g.integer(0, 1)), trans=bool(g.integer(0, 1)))


def _select(g: Grower) -> Handle:
    a = g.float()
    return g.condition(a).op("select", a, g.like(a))


def _comparison(name: str) -> Callable[[Grower], Handle]:
    def make(g: Grower) -> Handle:
        x = g.float()
        return x.op(name, g.like(x)).op("cast", dtype="f64")

    return make


def _logic(name: str) -> Callable[[Grower], Handle]:
    def make(g: Grower) -> Handle:
        x = g.float()
        made = g.condition(x)
        if name == "not":
            return made.op("not").op("cast", dtype="f64")
        return made.op(name, g.condition(x)).op("select", x, g.like(x))

    return make


def _polygamma(g: Grower) -> Handle:
    return g.squash(g.float(), (0.6, 3.0)).op("polygamma", order=g.integer(1, 2))


def _power(g: Grower) -> Handle:
    base = g.squash(g.float(), (0.3, 2.0))
    return base ** g.pick([2, 3, -1, 0.5, -2, 1.5, g.squash(g.like(base), (-1.0, 2.0))])


def _cast(g: Grower) -> Handle:
    return g.float().op("cast", dtype=g.pick(["i64", "bool"])).op("cast", dtype="f64")


def _scan(g: Grower) -> Handle:
    """One result of a loop over a body of a few steps, which may hold a loop again. Carries stay bounded."""
    if g.depth == _DEEPEST:
        raise UnfitError
    xs = [g.float(1) for _ in range(g.integer(1, 2))]
    length = xs[0].shape[0]
    xs = [x for x in xs if x.shape[0] == length]
    starts, rest = [g.float() for _ in range(g.integer(1, 2))], [g.float() for _ in range(g.integer(0, 2))]
    inner = Grower(g.integer(0, 2**32 - 1), g.ops, g)
    for h in starts:
        inner.parameter(h.shape, g.numbers[h.value])
    for h in xs:
        stack = g.numbers[h.value]
        inner.parameter(h.shape[1:], stack[0] if len(stack) else np.ones(stack.shape[1:]))
    for h in rest:
        inner.parameter(h.shape, g.numbers[h.value])
    carries = inner.pool[: len(starts)]
    made = [made for _ in range(g.integer(1, 3)) if (made := inner.grown()) is not None]
    after = [((c + inner.like(c)) * 0.5).op("tanh") if g.integer(0, 4) else inner.like(c) for c in carries]
    results = [r.value for r in (*after, *made[-1:], *[inner.float() for _ in range(g.integer(0, 1))])]
    body = Function.of(inner.params, results, "step")
    pick = g.pick(range(len(starts) + len(results)))
    return starts[0].op(
        "scan", *starts[1:], *xs, *rest, body=body, carries=len(starts), length=length, pick=pick,
        reverse=bool(g.integer(0, 1)), slices=len(xs),
    )  # fmt: skip


MAKERS: dict[str, Callable[[Grower], Handle]] = {
    "contract": _contract, "reshape": _reshape, "slice": _slice, "embed": _embed, "concatenate": _concatenate,
    "gather": _gather, "scatter_add": _scatter_add, "last_writer": _last_writer, "cumsum": _cumsum,
    "tril": _triangle("tril"), "triu": _triangle("triu"), "solve": _solve, "triangular_solve": _triangular_solve,
    "cholesky": _cholesky, "select": _select, "polygamma": _polygamma, "pow": _power, "cast": _cast, "scan": _scan,
    **{n: _reduction(n) for n in ("reduce_max", "reduce_min", "logsumexp", "norm", "softmax")},
    "reduce_prod": _along("reduce_prod", 2), "prod_others": _along("prod_others", 2),
    **{n: _position(n) for n in ("argmax", "argmin")},
    **{n: _of_matrix(n) for n in ("inverse", "det", "logabsdet", "signdet")},
    **{n: _comparison(n) for n in ("lt", "le", "gt", "ge", "eq", "ne")},
    **{n: _logic(n) for n in ("and", "or", "xor", "not")},
}  # fmt: skip


def examples(number: int) -> settings:
    """That many examples, forty times as many under HYPOTHESIS_PROFILE=long."""
    return settings(max_examples=number * (40 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 1))


# -------------------------------------------------------------------- programs
def drawable(ops: Iterable[str]) -> list[str]:
    """Those of `ops` that are drawn, as often as they are wanted."""
    names = sorted(set(ops) - NOT_DRAWN)
    return names + [name for name, times in _OFTEN.items() for _ in range(times) if name in names]


@st.composite
def programs(
    draw: Callable[[Any], Any], max_steps: int = 8, ops: Sequence[str] | None = None, scalar: bool = False,
    last: str = "",
) -> Program:  # fmt: skip
    """A program of up to `max_steps` steps over `ops` (all drawable ones), the last one of op `last`, if given.

    `scalar` sums the result to one number.
    """
    g = Grower(draw(st.integers(0, 2**32 - 1)), drawable(ops if ops is not None else OPSET))
    m, n = named("m"), named("n")
    shapes: list[tuple[Size, ...]] = [(n,), (m, n), (n, n), (), (2, n), (3,)]
    for _ in range(g.integer(1, 3)):
        g.parameter(g.pick(shapes))
    result: Handle | None = None
    for _ in range(draw(st.integers(min(3, max_steps), max_steps))):
        result = g.grown() or result
    result = g.grown([last]) if last else result
    assume(result is not None)
    assert result is not None
    results = [result, g.float()]
    if scalar:
        results = [total(result.op("tanh"))]
    function = Function.of(g.params, [r.value for r in results])
    return Program(function, tuple(g.numbers[p] for p in g.params), g.sizes, g.builder)


def total(x: Handle) -> Handle:
    """The sum of all elements."""
    labels = "abcdefgh"[: x.rank]
    return einsum(f"{labels}->", x)


def variable(builder: Builder, name: str, *shape: Any) -> Handle:
    """A handle on the parameter `name`."""
    return builder.handle(builder.param(name, float64(*shape)))
