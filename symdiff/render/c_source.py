"""C99 source of a Function: explicit loops over plain row-major arrays, written from the instructions.

The function takes every dimension as `long`, scalars by value, arrays as pointers, and one output array per result,
which must overlap nothing. Small steps are written into the loop that uses them; what is used twice, summed, or read
again and again gets an array (or a local number) t1, t2, ... Contractions of many factors run in the order of
`symdiff.ir.path`. No op is guessed: one without a spelling here raises UnsupportedError.
"""

from __future__ import annotations

from symdiff.errors import UnsupportedError
from symdiff.ir.contraction import Spec, label_sizes
from symdiff.ir.graph import Function, Value
from symdiff.ir.types import TensorType
from symdiff.render.c_elements import Elements, Index, literal, spec_of
from symdiff.render.c_ops import C_TYPES, HEAVY, WEIGHTS, helpers_for
from symdiff.render.c_statements import STATEMENTS

# An inlined step costs this much at most to do twice, and a line has this many operations at most.
CHEAP = 1
LONGEST = 20
_VIEWS = frozenset({"slice", "tril", "triu", "symmetric", "gather", "iota", "const", "size", "reshape"})
_BUFFERED = frozenset({"reshape", "inverse", "solve", "triangular_solve", "cholesky", "det", "logabsdet", "signdet"})
_REREAD = frozenset({"softmax", "logsumexp", "prod_others", "argmax", "argmin", "gather"})


def c_source(function: Function, name: str) -> str:
    """A C file with the function and the helpers it needs."""
    for v in (*function.params, *function.instrs):
        if v.type.dtype not in C_TYPES:
            raise UnsupportedError(f"source for c: {v.op.name} has dtype {v.type.dtype}, expected real or integer")
    return _File(_separated(function), name).text()


def _separated(function: Function) -> Function:
    """Sums apart from what spreads them: a sum that is the same along an axis is done once."""
    new: dict[Value, Value] = {p: p for p in function.params}
    cores: dict[tuple[tuple[Value, ...], str], Value] = {}
    instrs: list[Value] = []
    for v in function.instrs:
        args = tuple([new[a] for a in v.args])
        spec = spec_of(v) if v.op.name == "contract" else None
        if spec is not None and spec.summed and (spec.free or len(set(spec.output)) < len(spec.output)):
            sizes = label_sizes(spec, [a.type.shape for a in args], v.attr("sizes", ()))
            held = tuple(dict.fromkeys(x for x in spec.output if x not in spec.free))
            text = str(Spec(spec.operands, held))
            core = cores.get((args, text))
            if core is None:
                kind = TensorType(v.type.dtype, tuple([sizes[x] for x in held]))
                core = cores[args, text] = Value(v.op, args, (("spec", text),), kind)
                instrs.append(core)
            args = (core,)
            attrs = (*[item for item in v.attrs if item[0] == "sizes"], ("spec", str(Spec((held,), spec.output))))
            new[v] = Value(v.op, args, attrs, v.type)
        else:
            new[v] = v if args == v.args else Value(v.op, args, v.attrs, v.type)
        instrs.append(new[v])
    return Function(function.name, function.params, instrs, [new[r] for r in function.results])


class _File(Elements):
    """The text in the making."""

    def __init__(self, function: Function, name: str) -> None:
        super().__init__(function, name)
        self.kept = self._kept()

    # ---------------------------------------------------------------- what gets a place of its own
    def _kept(self) -> set[Value]:
        """Values used twice or read again, and operands that must be arrays. Set operands first."""
        uses: dict[Value, int] = {}
        buffered: set[Value] = set()
        for v in self.function.instrs:
            again = self._read_again(v)
            for i, a in enumerate(v.args):
                uses[a] = uses.get(a, 0) + (2 if again[i] else 1)
                if v.op.name in _BUFFERED:
                    buffered.add(a)
        kept: set[Value] = set()
        costs: dict[Value, int] = {}
        lengths: dict[Value, int] = {}
        for v in self.function.instrs:
            inline = v.op.elementwise or v.op.name in _VIEWS or (v.op.name == "contract" and not spec_of(v).summed)
            weight = sum([0 if a in kept else costs.get(a, 0) for a in v.args])
            length = 1 + sum([0 if a in kept else lengths.get(a, 0) for a in v.args])
            if v.op.elementwise:
                weight += WEIGHTS.get(v.op.name, HEAVY)
            elif v.op.name == "contract":
                weight += max(len(v.args) - 1, 0)
            costs[v], lengths[v] = weight, length
            twice = uses.get(v, 0) > 1 and weight > CHEAP
            if v in buffered or twice or length > LONGEST or not inline:
                kept.add(v)
        return kept

    def _read_again(self, v: Value) -> list[bool]:
        """Which operands are read more often than they have elements."""
        if v.op.name in _REREAD:
            return [True] * len(v.args)
        if v.op.name == "contract":
            spec = spec_of(v)
            space = {x for labels in (*spec.operands, spec.output) for x in labels}
            return [set(labels) != space for labels in spec.operands]
        return [False] * len(v.args)

    # ---------------------------------------------------------------- the whole
    def text(self) -> str:
        f = self.function
        single = len(f.results) == 1
        outputs = [self.free_name("out" if single else f"out{i + 1}") for i in range(len(f.results))]
        destined: dict[Value, str] = {}
        for result, out in zip(f.results, outputs, strict=True):
            if result.type.rank and not result.is_param:
                destined.setdefault(result, out)
        parameters = [
            f"{'const ' if p.type.rank else ''}{C_TYPES[p.type.dtype]} {'*' if p.type.rank else ''}{self.where[p]}"
            for p in f.params
        ]
        for v in f.instrs:
            if v in destined or v in self.kept:
                self._place(v, destined.get(v))
        for result, out in zip(f.results, outputs, strict=True):
            if destined.get(result) != out:
                self._copied(result, out)
        for name in reversed(self.owned):
            self.emit(f"free({name});")
        body = "\n".join(self.lines)
        arguments = [f"long {d}" for d in f.dims] + parameters
        arguments += [f"{C_TYPES[r.type.dtype]} *{o}" for r, o in zip(f.results, outputs, strict=True)]
        head = f"void {self.name}({', '.join(arguments)})"
        includes = "\n".join(f"#include <{h}.h>" for h in ("math", "stdbool", "stdint", "stdlib", "string"))
        return "\n\n".join([includes, *helpers_for(body), f"{head}\n{{\n{body}\n}}"]) + "\n"

    def _copied(self, v: Value, out: str) -> None:
        """Write every element of a value to an output."""
        shape = v.type.shape

        def line(index: Index) -> list[str]:
            target = self.read(out, shape, index)[0] if shape else f"{out}[0]"
            return [f"{target} = {self.element(v, index)[0]};"]

        self.loop(shape, line)

    def _place(self, v: Value, out: str | None) -> None:
        """Give a value its array (`out` or a new one) or its local number."""
        c_type, name = C_TYPES[v.type.dtype], v.op.name
        made = STATEMENTS.get(name) if name != "contract" or spec_of(v).summed else None
        if name == "array":
            numbers = [literal(x) for x in v.attr("value").array.ravel().tolist()] or ["0"]
            own = self.fresh()
            text = f"[] = {{{', '.join(numbers)}}}" if v.type.rank else f" = {numbers[0]}"
            self.emit(f"static const {c_type} {own}{text};")
            self.where[v] = own
            if out is not None:
                self._copied(v, out)
            return
        if made is None and not (v.op.elementwise or name in _VIEWS or name == "contract"):
            raise UnsupportedError(f"source for c: {name} has no counterpart in C; source('numpy') has it")
        if not v.type.rank:
            own = self.fresh()
            self.emit(f"{c_type} {own} = {'0' if made else self.element(v, ())[0]};")
        else:
            own = out or self.reserve(v.type.shape, v.type.dtype)
            if made is None:
                self._copied(v, own)
        if made is not None:
            made(self, v, own)
        self.where[v] = own
