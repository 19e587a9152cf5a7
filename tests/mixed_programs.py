"""Random programs over arrays of all kinds, with loops in loops, for comparing native code with the interpreter.

Sizes are names or numbers, 0 and 1 among them; floats, integers and booleans make each other; loops carry and give all
of them, read slices forwards and backwards, and have steps that may be random programs with loops of their own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import symdiff as sd
from symdiff.api.expression import function_of
from symdiff.errors import SymdiffError
from symdiff.frontend.update import add_at, set_at
from symdiff.ir.dims import evaluate

_NUMBERS = (0, 1, 2, 3, 5, 8, 9, 17, 33)


class Mixed:
    """Grows one program from a seed. Values stay of moderate size, so that rounding is comparable."""

    def __init__(self, seed: int, dtype: str = "float64") -> None:
        self.rng, self.dtype = random.Random(seed), dtype
        dims = [sd.dim(k) if self.rng.random() < 0.6 else self.rng.choice(_NUMBERS) for k in "nmp"]
        n, m, p = dims if self.rng.random() < 0.75 else (dims[0], dims[0], dims[2])
        shapes = {"A": (n, m), "B": (m, p), "S": (n, n), "x": (n,), "y": (m,), "z": (p,), "s": (), "X": (n, m, p)}
        self.floats = [sd.symbol(k, shape, dtype) for k, shape in shapes.items()]
        self.ints = [sd.symbol(k, shape, "int64") for k, shape in {"k": (m,), "K": (n, p), "j": ()}.items()]
        self.bools = [sd.symbol(k, shape, "bool") for k, shape in {"f": (n,), "F": (m, n)}.items()]
        self.params = [*self.floats, *self.ints, *self.bools]

    def function(self, steps: int) -> Any:
        """Some of what so many steps make."""
        pool = _Pool(self.rng, list(self.floats), list(self.ints), list(self.bools))
        pool.grow(steps, 2)
        made = [v for v in (*pool.floats, *pool.ints, *pool.bools) if not any(v is p for p in self.params)]
        return function_of(self.rng.sample(made, min(len(made), 4)), self.params)

    def arguments(self, rng: Any, **sizes: int) -> list[Any]:
        """Random arrays, some of them transposed, reversed, or every other element of a larger one."""
        arrays: list[Any] = []
        for one in self.params:
            shape = tuple(evaluate(s, sizes) for s in one.shape)
            if one.value.type.dtype == "i64":
                array = rng.integers(-5, 6, size=shape)
            else:
                array = rng.random(shape) < 0.5 if one.value.type.dtype == "bool" else rng.normal(size=shape)
            array = np.asarray(array, self.dtype if array.dtype.kind == "f" else array.dtype)
            layout = rng.integers(4) if shape else 0
            if layout == 1:
                array = np.array(array.T, order="C").T
            elif layout == 2:
                array = np.array(array[::-1])[::-1]
            elif layout == 3:
                array = np.repeat(array, 2, axis=-1)[..., ::2]
            arrays.append(array)
        return arrays


def _turned(v: Any) -> Any:
    return v[::-1] if v.shape else v


class _Pool:
    """Values of a program, or of a step, and how to make more."""

    def __init__(self, rng: random.Random, floats: list[Any], ints: list[Any], bools: list[Any]) -> None:
        self.rng, self.floats, self.ints, self.bools = rng, floats, ints, bools

    def grow(self, steps: int, depth: int) -> None:
        """Make so many values; what cannot be made of what there is is left out."""
        forms: list[Callable[[], Any]] = [
            self.unary, self.binary, self.binary, self.broadcast, self.product, self.fold, self.extremum, self.flip,
            self.window, self.joined, self.turned, self.running, self.triangle, self.choice, self.compare, self.logic,
            self.whole, self.integer, self.position, self.gather, self.gather, self.update, self.diagonal, self.flat,
            self.outer, self.shifted, *[lambda: self.loop(depth)] * (3 * (depth > 0)),
        ]  # fmt: skip
        for _ in range(12 * steps):
            if not steps:
                return
            try:
                made = self.rng.choice(forms)()
            except (SymdiffError, LookupError):
                continue
            for value in made if isinstance(made, list) else [made]:
                if value is not None and len(value.shape) <= 3:
                    kind = value.value.type.dtype
                    (self.ints if kind == "i64" else self.bools if kind == "bool" else self.floats).append(value)
                    steps -= steps > 0

    def pick(self, rank: int = 0, like: Any = None, of: Sequence[Any] | None = None) -> Any:
        """A value of at least that rank, or of the shape of another one; raises where there is none."""
        values = self.floats if of is None else of
        fit = [v for v in values if len(v.shape) >= rank and (like is None or v.shape == like.shape)]
        return self.rng.choice(fit[-14:] if self.rng.random() < 0.7 else fit)

    def axis(self, v: Any) -> int:
        return self.rng.randrange(len(v.shape))

    def filled(self, v: Any, axis: int) -> int:
        """The axis, if it may hold something; raises otherwise."""
        if isinstance(v.shape[axis], int) and v.shape[axis] == 0:
            raise LookupError
        return axis

    # ---------------------------------------------------------------- floats
    def unary(self) -> Any:
        forms = (np.sin, np.cos, np.tanh, np.abs, np.arctan, np.sign, np.negative, lambda v: np.exp(-v * v))
        return self.rng.choice(forms)(self.pick())

    def binary(self) -> Any:
        a = self.pick()
        forms = (np.add, np.subtract, np.maximum, np.minimum, lambda a, b: a * b * 0.5, lambda a, b: a / (1.5 + b * b))
        return self.rng.choice(forms)(a, self.pick(like=a))

    def broadcast(self) -> Any:
        a = self.pick(2)
        rows = [v for v in self.floats if v.shape == a.shape[1:]]
        columns = [v[:, None] for v in self.floats if len(a.shape) == 2 and v.shape == a.shape[:1]]
        return np.tanh(a * self.rng.choice([*rows, *columns]))

    def product(self) -> Any:
        a = self.pick(2)
        fit = [v for v in self.floats if 1 <= len(v.shape) <= 2 and v.shape[0] == a.shape[-1]]
        return np.tanh(a @ self.rng.choice(fit))

    def fold(self) -> Any:
        a = self.pick(1)
        form = self.rng.choice((np.sum, np.prod, lambda v, axis: np.sum(v * v, axis=axis)))
        return np.tanh(form(a, axis=self.axis(a) if self.rng.random() < 0.7 else None))

    def extremum(self) -> Any:
        a = self.pick(1)
        return self.rng.choice((np.max, np.min, sd.softmax))(a, axis=self.filled(a, self.axis(a)))

    def flip(self) -> Any:
        a = self.pick(1)
        return np.flip(a, self.axis(a))

    def window(self) -> Any:
        a = self.pick(1)
        axis = self.axis(a)
        part = self.rng.choice((slice(1, None), slice(None, -1), slice(None, None, 2), slice(None, None, -2)))
        a = np.concatenate([a, np.cos(a), a], axis=self.filled(a, axis))
        return a[(slice(None),) * axis + (part,)]

    def joined(self) -> Any:
        a = self.pick(1)
        axis = self.axis(a)
        both = np.concatenate([a, np.sin(self.pick(like=a))], axis=axis)
        return both[(slice(None),) * axis + (slice(None, None, 2),)]

    def turned(self) -> Any:
        a = self.pick(2)
        return a.transpose(self.rng.sample(range(len(a.shape)), len(a.shape)))

    def running(self) -> Any:
        a = self.pick(1)
        return np.tanh(np.cumsum(a, axis=self.axis(a)))

    def triangle(self) -> Any:
        return self.rng.choice((np.tril, np.triu))(self.pick(2), self.rng.randint(-1, 1))

    def diagonal(self) -> Any:
        a = self.pick(1)
        return np.diag(a) if len(a.shape) == 1 or (len(a.shape) == 2 and a.shape[0] == a.shape[1]) else None

    def flat(self) -> Any:
        a = self.pick(2)
        return np.sin(a).reshape(*self.rng.choice(((-1,), (a.shape[0] * a.shape[1], *a.shape[2:]), a.shape[::-1])))

    def outer(self) -> Any:
        a, b = self.pick(1), self.pick(1)
        return np.outer(a, b) * 0.5 if len(a.shape) == len(b.shape) == 1 else None

    def shifted(self) -> Any:
        a = self.pick(1)
        axis = self.axis(a)
        wide = np.pad(a, [(1, 2) if k == axis else (0, 0) for k in range(len(a.shape))])
        return wide[(slice(None),) * axis + (slice(1, -2),)] + np.cos(a)

    # ---------------------------------------------------------------- booleans and integers
    def choice(self) -> Any:
        a = self.pick(of=self.bools)
        return np.where(a, self.pick(like=a), np.tanh(self.pick(like=a)))

    def compare(self) -> Any:
        a = self.pick()
        return self.rng.choice((np.less, np.greater_equal))(a, self.pick(like=a))

    def logic(self) -> Any:
        a = self.pick(of=self.bools)
        form = self.rng.choice((np.logical_and, np.logical_or, np.logical_xor, lambda a, _: np.logical_not(a)))
        return form(a, self.pick(like=a, of=self.bools))

    def whole(self) -> Any:
        a = self.pick(1, of=self.bools)
        return self.rng.choice((np.any, np.all))(a, axis=self.filled(a, self.axis(a)))

    def integer(self) -> Any:
        a = self.pick(of=self.ints)
        if a.shape and self.rng.random() < 0.4:
            return self.rng.choice((np.sum, np.cumsum))(a, axis=self.axis(a))
        form = self.rng.choice((np.add, np.subtract, np.maximum, np.minimum))
        return form(a, self.pick(like=a, of=self.ints))

    def position(self) -> Any:
        a = self.pick(1)
        return self.rng.choice((np.argmax, np.argmin))(a, axis=self.filled(a, self.axis(a)))

    def index(self, v: Any, axis: int) -> tuple[Any, ...]:
        """An index by integers, negative ones too, that stays inside."""
        size, own = v.shape[self.filled(v, axis)], self.pick(of=self.ints)
        return (*(slice(None),) * axis, np.minimum(np.maximum(own, 0 * own - size), 0 * own + (size - 1)))

    def gather(self) -> Any:
        a = self.pick(1)
        return a[self.index(a, self.axis(a))]

    def update(self) -> Any:
        a = self.pick(1)
        at = self.index(a, self.axis(a))
        return self.rng.choice((lambda *x: np.tanh(add_at(*x)), set_at))(a, at, np.sin(a[at]) * 0.5)

    # ---------------------------------------------------------------- loops
    def loop(self, depth: int) -> list[Any]:
        rng = self.rng
        length = self.pick(1).shape[0]

        def some(values: Sequence[Any], most: int, fit: Callable[[Any], bool]) -> list[Any]:
            found = [v for v in values if fit(v)]
            return rng.sample(found, min(len(found), rng.randint(0, most)))

        def rows(v: Any) -> bool:
            return bool(v.shape) and v.shape[0] == length

        slices = [some(v, 2, rows) for v in (self.floats, self.ints, self.bools)]
        slices[0] = [np.flip(v, 0) if rng.random() < 0.2 else v for v in slices[0]]
        starts = [some(v, 3, lambda v: len(v.shape) <= 2) for v in (self.floats, self.ints, self.bools)]
        given = any(slices)
        before, steps, behind = rng.getstate(), rng.randint(1, 5), rng.getstate()

        def step(carries: Any, parts: Any) -> Any:
            nonlocal behind
            rng.setstate(before)  # a step may be traced more than once
            around = [rng.sample(v, min(3, len(v))) for v in (self.floats, self.ints, self.bools)]
            parts = parts if given else [[], [], []]
            inner = _Pool(rng, *([*a, *p, *c] for a, p, c in zip(around, parts, carries, strict=True)))
            inner.grow(steps, depth - 1)
            floats = [
                rng.choice((np.tanh(v * 0.5 + inner.pick(like=v)), inner.pick(like=v), np.sin(v) + 0.5 * _turned(v)))
                for v in carries[0]
            ]
            ints = [np.minimum(v + inner.pick(like=v, of=inner.ints), 50) for v in carries[1]]
            bools = [np.logical_xor(v, inner.pick(like=v, of=inner.bools)) for v in carries[2]]
            outputs = some([*inner.floats, *inner.ints, *inner.bools], 3, lambda v: len(v.shape) <= 2)
            behind = rng.getstate()
            return (floats, ints, bools), outputs

        reverse = rng.random() < 0.4
        last, stacks = sd.scan(step, tuple(starts), slices if given else None, length=length, reverse=reverse)
        rng.setstate(behind)
        return [*last[0], *last[1], *last[2], *stacks]
