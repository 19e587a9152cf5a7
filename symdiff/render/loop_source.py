"""Python source of a Function with loops: a function per step, a `scan` that runs it, and a definition that calls both.

Takes the Function and how one without loops is written; gives the whole text. Between loops stand definitions of what
goes into the next one, where that is more than names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from symdiff.errors import ArgumentError
from symdiff.ir.graph import Function, Value, bodies, loop_key, topological
from symdiff.ir.loop import groups_of
from symdiff.ops.helpers import undefined
from symdiff.render.recurrences import Rebuilt

Write = Callable[[Function, str], str]
Sizes = Callable[[Function, str], tuple[list[str], list[str]]]

SCANS: Final = {
    "numpy": '''\
def SCAN(step, carry, xs, constants, length, reverse, kept, kinds):
    """Last carries; of every step what `kept` numbers of carries before it and outputs, of these shapes and dtypes."""
    rows = []
    for t in range(length - 1, -1, -1) if reverse else range(length):
        results = step(*carry, *[x[t] for x in xs], *constants)
        every = (*carry, *results[len(carry):])
        rows.append([every[k] for k in kept])
        carry = results[:len(carry)]
    columns = zip(*rows[::-1 if reverse else 1]) if rows else [()] * len(kinds)
    return *carry, *[np.array(c, d).reshape(length, *s) for c, (s, d) in zip(columns, kinds)]''',
    "torch": '''\
def SCAN(step, carry, xs, constants, length, reverse, kept, kinds):
    """Last carries; of every step what `kept` numbers of carries before it and outputs, of these shapes and dtypes."""
    rows = []
    for t in range(length - 1, -1, -1) if reverse else range(length):
        results = step(*carry, *[x[t] for x in xs], *constants)
        every = (*carry, *results[len(carry):])
        rows.append([torch.as_tensor(every[k]) for k in kept])
        carry = results[:len(carry)]
    if not rows:
        return *carry, *[torch.zeros(0, *s, dtype=d) for s, d in kinds]
    return *carry, *map(torch.stack, zip(*rows[::-1 if reverse else 1]))''',
    "jax": '''\
def SCAN(step, carry, xs, constants, length, reverse, kept):
    """Last carries; of every step what `kept` numbers of carries before it and outputs."""
    def one(carry, x):
        results = step(*carry, *x, *constants)
        every = (*carry, *results[len(carry):])
        return results[:len(carry)], [every[k] for k in kept]

    last, rows = jax.lax.scan(one, carry, xs, length, reverse)
    return *last, *rows''',
}
_IMPORTS: Final = {
    "numpy": "import numpy as np", "torch": "import torch", "jax": "import jax\nimport jax.numpy as jnp",
}  # fmt: skip
_MODULES: Final = {"numpy": ("np", "scipy"), "torch": ("torch", "math"), "jax": ("jax", "jnp")}
_DTYPES: Final = {
    "numpy": {"f64": "float", "f32": "np.float32", "i64": "int", "bool": "bool"},
    "torch": {"f64": "torch.float64", "f32": "torch.float32", "i64": "torch.int64", "bool": "torch.bool"},
    "jax": {"f64": "float", "f32": "jnp.float32", "i64": "int", "bool": "bool"},
}


def loop_source(function: Function, target: str, name: str, write: Write, sizes: Sizes) -> str:
    """The text. `write` writes a function without loops under a name, `sizes` the lines that read dimensions off.

    Names made up here are nobody's: neither a parameter's nor a dimension's of any depth, nor an undefined function's.
    Raises ArgumentError for a symbol with the name of a module that the text needs.
    """
    given = {name, *undefined(function.instrs)}
    for part in (function, *bodies(function.instrs)):
        given.update([p.name for p in part.params], part.dims)
    clash = next((m for m in _MODULES[target] if m in given), None)
    if clash is not None:
        raise ArgumentError(f"source for {target}: the symbol {clash} has the name of a module; rename it")
    return _Source(function, target, name, write, sizes, _free("scan", given), given).text()


def _free(wanted: str, taken: Collection[str]) -> str:
    """A name like the one that is wanted."""
    return next(n for n in (f"{wanted}{i}" if i > 1 else wanted for i in itertools.count(1)) if n not in taken)


class _Source:
    """One function: `scan` is the name of what runs its loops, `given` are names that are not to be made up."""

    def __init__(
        self, function: Function, target: str, name: str, write: Write, sizes: Sizes, scan: str, given: Collection[str]
    ) -> None:
        self.whole, self.target, self.name, self.write, self.sizes = function, target, name, write, sizes
        self.scan, self.given = scan, given
        self.sections: dict[str, None] = {}
        self.imports: dict[str, None] = dict.fromkeys(_IMPORTS[target].splitlines())
        self.work = Rebuilt(function.params)
        self.lines: list[str] = []
        self.taken = {*given, scan, *_MODULES[target]}

    def text(self) -> str:
        self.sections[SCANS[self.target].replace("SCAN", self.scan)] = None
        groups = groups_of(self.whole)
        numbers = {key: number for number, key in enumerate(groups, 1)}
        for value in self.whole.instrs:
            if not value.op.picks:
                self.work.again(value)
            elif value not in self.work.mapping:
                self.loop(groups[loop_key(value)], numbers[loop_key(value)])
        results = self.named(self.work.of(self.whole.results), "result")
        self.lines.append(f"    return {', '.join(results)}")
        body = "\n".join(self.lines)
        known, unknown = self.sizes(self.whole, body)
        head = f"def {self.name}({', '.join([*[p.name for p in self.whole.params], *unknown])}):"
        self.sections["\n".join([head, *known, body])] = None
        return "\n\n\n".join(["\n".join(self.imports), *self.sections]) + "\n"

    def defined(self, function: Function, name: str) -> list[str]:
        """Write a definition; returns the dimensions that it takes besides its parameters."""
        text = self.inner(function, name)
        for section in text.rstrip("\n").split("\n\n\n"):
            if section.startswith("import "):
                self.imports.update(dict.fromkeys(line for line in section.splitlines() if line))
            elif section not in self.sections:
                self.sections[section] = None
        found = re.search(rf"^def {name}\((.*)\):$", text, re.MULTILINE)
        assert found is not None
        return [a for a in found.group(1).split(", ") if a][len(function.params) :]

    def inner(self, function: Function, name: str) -> str:
        if any(v.op.picks for v in function.instrs):
            return _Source(function, self.target, name, self.write, self.sizes, self.scan, self.given).text()
        return self.write(function, name)

    def fresh(self, wanted: str) -> str:
        name = _free(wanted, self.taken)
        self.taken.add(name)
        return name

    def named(self, values: Sequence[Value], what: str) -> list[str]:
        """Names of values; what is more than a symbol is computed by a definition."""
        made = list(dict.fromkeys(v for v in values if not v.is_param))
        names: dict[Value, str] = {v: v.name for v in values if v.is_param}
        if made:
            params = [v for v in topological(made) if v.is_param]
            stage = self.fresh(f"{self.name}_{what}")
            more = self.defined(Function.of(params, made, stage), stage)
            names.update((v, self.fresh(what)) for v in made)
            left = ", ".join([names[v] for v in made])
            self.lines.append(f"    {left} = {stage}({', '.join([*[p.name for p in params], *more])})")
        return [names[v] for v in values]

    def loop(self, group: list[Value], number: int) -> None:
        """The step of one loop, and the line that runs it."""
        first = group[0]
        body: Function = first.attr("body")
        count, end = first.attr("carries"), first.attr("carries") + first.attr("slices")
        step = self.fresh(f"{self.name}_step" + (str(number) if number > 1 else ""))
        more = self.defined(Function(step, body.params, body.instrs, body.results), step)
        names = self.named([self.work.mapping[a] for a in first.args], "given")
        carries = names[:count]
        dtypes = _DTYPES[self.target]
        if self.target == "jax":  # a carry has the dtype that steps give it
            carries = [f"jnp.asarray({x}, {dtypes[p.type.dtype]})" for x, p in zip(carries, body.params, strict=False)]
        run = step if len(body.results) != 1 else f"lambda *args: ({step}(*args),)"
        parts = ", ".join([_tuple(carries), _tuple(names[count:end]), _tuple([*names[end:], *more])])
        picks = sorted({v.attr("pick") for v in group})
        symbols = {v.attr("pick"): self.work.symbol(v, self.fresh("looped")) for v in group}
        found = self.fresh("found")
        kept = [k - count for k in picks if k >= count]
        called = f"{run}, {parts}, {first.attr('length')}, {first.attr('reverse')}, {_tuple([*map(str, kept)])}"
        if self.target != "jax":  # without a single step nothing shows what its results would be
            kinds = [(*body.params[:count], *body.results[count:])[k].type for k in kept]
            called += f", [{', '.join([f'({_tuple([*map(str, k.shape)])}, {dtypes[k.dtype]})' for k in kinds])}]"
        self.lines.append(f"    {found} = {self.scan}({called})")
        for k in picks:
            place = k if k < count else count + kept.index(k - count)
            self.lines.append(f"    {symbols[k].name} = {found}[{place}]")


def _tuple(items: Sequence[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
