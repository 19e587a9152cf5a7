"""Notation as a paper sets it: what LaTeX and plain Unicode share.

A `Paper` decides what is written: x^T A y for a product of vectors and a matrix, diag(v) M for a broadcast factor, a
fraction for a scalar divisor, A^T B^T for a transposed chain, sums of squares as norms. Its subclasses say how signs
look. Texts are made operands first, so depth is no limit; a text travels with how tightly it holds together.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar

from symdiff.ir.dims import Size
from symdiff.render.notation import Node, chain_runs, is_triangle, split_power, topological
from symdiff.render.quotients import APPLIED, ATOM, CALL, ELEMENTWISE, PRODUCT, SUM, Pairs, Quotients, Text


class Paper(Quotients):
    """Writes nodes. `names` maps named subterms to their names, `known` what is written elsewhere to its name there."""

    odot: ClassVar[str]
    oslash: ClassVar[str]
    one: ClassVar[str]
    identity: ClassVar[str]
    transposed_sign: ClassVar[str]
    transposed_mark: ClassVar[str]
    inverse_sign: ClassVar[str]
    inverse_transposed: ClassVar[str]

    def __init__(self, results: Sequence[Node], names: Mapping[Node, str], known: Mapping[str, str]) -> None:
        self.names = dict(names)
        self._own: dict[Node, Text] = {}
        self._used: dict[Node, Text] = {}
        for node in topological(results):
            text = self._write(node)
            if text[0] in known and node.rank < 3:
                self.names.setdefault(node, known[text[0]])
            self._own[node] = text
            self._used[node] = (self.names[node], ATOM) if node in self.names else text

    # ---------------------------------------------------------------- how signs look
    @abstractmethod
    def symbol(self, name: str, rank: int) -> str: ...
    @abstractmethod
    def number(self, value: Any) -> Text: ...
    @abstractmethod
    def size(self, size: Size) -> Text: ...
    @abstractmethod
    def array_power(self, base: str, exponent: str, rank: int) -> str: ...
    @abstractmethod
    def norm(self, text: str, matrix: bool) -> str: ...
    @abstractmethod
    def function(self, name: str, args: Sequence[str], where: str = "") -> str: ...
    @abstractmethod
    def call(self, node: Node, texts: Sequence[Text]) -> Text: ...
    @abstractmethod
    def einsum(self, node: Node) -> Text: ...
    @abstractmethod
    def subscript(self, node: Node) -> Text: ...
    @abstractmethod
    def entries(self, node: Node) -> Text: ...

    # ---------------------------------------------------------------- reading texts
    def text(self, node: Node) -> Text:
        """How a node is written where it is used."""
        return self._used[node]

    def own(self, node: Node) -> Text:
        """How a node is written on its own line."""
        return self._own[node]

    # ---------------------------------------------------------------- nodes
    def _write(self, node: Node) -> Text:
        kind = node.kind
        if kind == "sym":
            return self.symbol(node.data, node.rank), ATOM
        if kind == "num":
            return self.number(node.data)
        if kind == "dim":
            return self.size(node.data)
        if kind == "eye":
            return self.identity, ATOM
        if kind == "zeros":
            return "0", ATOM
        if kind == "ones":
            square = self.join([self.one, self.one + self.transposed_sign])
            return (square, PRODUCT) if node.rank == 2 else (self.one, ATOM)
        if kind == "add":
            return self._sum(node)
        if kind == "prod":
            return self._product(node)
        if kind == "matmul":
            return self._chain(node)
        if kind == "T":
            return self.transposed(node.args[0])
        if kind == "expand":
            return self.text(node.args[0])
        if kind == "pow":
            return self._power(node)
        if kind == "outer":
            u, v = node.args
            return self.join([self.at(self.text(u), PRODUCT), self._lying(v)]), PRODUCT
        if kind == "diag" and node.args[0].kind == "diagof" and node.args[0] not in self.names:
            return self._own_diagonal(node.args[0])
        if kind == "diag" and node.args[0] not in self.names and _is_reciprocal(node.args[0]):
            return self._reciprocal_diagonal(node.args[0])
        if kind in ("diag", "diagof", "trace"):
            name = "tr" if kind == "trace" else "diag"
            return self.function(name, [self.text(node.args[0])[0]]), APPLIED
        if kind in ("sum", "mean"):
            return self._total(node)
        if kind == "einsum":
            return self.einsum(node)
        if kind == "subscript":
            return self.subscript(node)
        if kind == "entries":
            return self.entries(node)
        if kind == "call" and node.data[0] == "inverse":
            return self.top(self.at(self.text(node.args[0]), APPLIED), self.inverse_sign), CALL
        if kind == "call" and node.data[0] in ("solve", "triangular_solve"):
            return self._solved(node)
        return self.call(node, [self.text(a) for a in node.args])

    def _power(self, node: Node) -> Text:
        base = self.at(self.text(node.args[0]), APPLIED)
        exponent = self.text(node.args[1])[0]
        rank = node.args[0].rank
        return (self.array_power(base, exponent, rank) if rank else self.top(base, exponent)), CALL

    def _solved(self, node: Node) -> Text:
        matrix, right = node.args
        if node.data[0] == "triangular_solve":
            lower, trans = node.data[1:]
            triangle = self.at(self.text(matrix), APPLIED)
            if not is_triangle(matrix, lower):
                triangle = self.function("tril" if lower else "triu", [self.text(matrix)[0]])
            sign = self.inverse_transposed if trans else self.inverse_sign
            return self.join([self.top(triangle, sign), self.at(self.text(right), PRODUCT)]), PRODUCT
        if matrix.kind == "T":
            base, sign = matrix.args[0], self.inverse_transposed
        else:
            base, sign = matrix, self.inverse_sign
        inverse = self.top(self.at(self.text(base), APPLIED), sign)
        return self.join([inverse, self.at(self.text(right), PRODUCT)]), PRODUCT

    # ---------------------------------------------------------------- transposes
    def transposed(self, node: Node) -> Text:
        """The transpose of a matrix, signs moved to the factors of a chain."""
        if node.symmetric:
            return self.text(node)
        if node.kind == "T":
            return self.text(node.args[0])
        inside = None if node in self.names else self._transposed_inside(node)
        if inside is not None:
            return inside
        return self.at(self.text(node), APPLIED) + self.transposed_sign, CALL

    def _transposed_inside(self, node: Node) -> Text | None:
        """The transpose with its sign at the operands, for what reads better so."""
        if node.kind == "matmul":
            parts = [self._turned(f, k) for f, k in reversed(chain_runs(node.args))]
            return self.join(parts), PRODUCT
        if node.kind == "outer":
            u, v = node.args
            return self.join([self.at(self.text(v), PRODUCT), self._lying(u)]), PRODUCT
        if node.kind == "call" and node.data[0] == "inverse":
            return self.top(self.at(self.text(node.args[0]), APPLIED), self.inverse_transposed), CALL
        if node.kind == "prod":
            signs = sum([not self._turns_freely(a) for a in node.args if a.rank == 2 and a.kind != "expand"])
            return self._product(node, turned=True) if signs < 2 else None
        if node.kind == "add":
            turned = self._sum(node, turned=True)
            freely = sum([not t.symmetric for t in node.args if t.rank == 2]) < 2
            return turned if freely or self._signs(turned) <= self._signs(self.text(node)) else None
        return None

    def _signs(self, text: Text) -> int:
        """Transposition signs."""
        return text[0].count(self.transposed_mark)

    def _lying(self, vector: Node) -> str:
        """A vector as a row, bracketed as one factor of a product."""
        return self.at(self.lying(vector, plain=False), PRODUCT)

    def lying(self, vector: Node, plain: bool = True) -> Text:
        """A vector as a row; the sign moves to the factors of a chain, always when `plain`, else when none is added.

        plain: the row is not a factor, so that sums and multiples are turned term by term where a chain is in them.
        """
        if plain and vector not in self.names:
            row = self._row(vector)
            if row is not None:
                return row
        if vector.kind == "matmul" and vector not in self.names:
            factors = vector.args
            if factors[0].rank == 1:
                rest = [self._to_the(f, k) for f, k in chain_runs(factors)[1:]]
                return self.join([self._lying(factors[0]), *rest]), PRODUCT
            if plain or all(self._turns_freely(f) for f in factors[:-1]):
                rest = [self._turned(f, k) for f, k in reversed(chain_runs(factors[:-1]))]
                return self.join([self._lying(factors[-1]), *rest]), PRODUCT
        if vector not in self.names and self._turns_freely(vector):
            row = self._row(vector)
            if row is not None:
                return row
        return self.at(self.text(vector), APPLIED) + self.transposed_sign, CALL

    def _turns_freely(self, node: Node) -> bool:
        """Whether the transpose takes no more signs than the node: those it has change."""
        if node.rank == 1:
            return (node.kind == "call" and node.data[0] == "solve") or (node.kind == "sum" and node.data == (0,))
        return node.symmetric or node.kind == "T" or (node.kind == "call" and node.data[0] == "inverse")

    def _row(self, vector: Node) -> Text | None:
        """Multiples, sums and solutions as rows; None where a transposition sign says it best."""
        if vector.kind == "prod":
            number, count = vector.data
            above, below = vector.args[:count], vector.args[count:]
            arrays, divisors = [n for n in above if n.rank], [n for n in below if n.rank]
            scalars = self._pairs([n for n in above if not n.rank])
            under = self._pairs([n for n in below if not n.rank])
            if len(arrays) == 1 and not divisors:
                return self.quotient(number, scalars, self.lying(arrays[0]), under)
            body = self._elementwise(arrays, divisors)
            return self.quotient(number, scalars, (self.group(body[0]) + self.transposed_sign, CALL), under)
        if vector.kind == "add" and all(t.rank for t in vector.args) and any(_has_chain(t) for t in vector.args):
            rows = [self.lying(t) for t in vector.args]
            return self.signed_sum(list(zip(vector.data, rows, strict=True)))
        if vector.kind == "call" and vector.data[0] == "solve":
            matrix, right = vector.args
            base, sign = matrix, self.inverse_transposed
            if matrix.kind == "T" or matrix.symmetric:
                base, sign = matrix.args[0] if matrix.kind == "T" else matrix, self.inverse_sign
            return self.join([self._lying(right), self.top(self.at(self.text(base), APPLIED), sign)]), PRODUCT
        if vector.kind == "sum" and vector.args[0].rank == 2 and vector.data == (0,):
            return self.join([self.one + self.transposed_sign, self.at(self.text(vector.args[0]), PRODUCT)]), PRODUCT
        return None

    def turned(self, node: Node) -> Text:
        """A vector as a row, a matrix transposed: the other layout."""
        return self.lying(node) if node.rank == 1 else self.transposed(node)

    def _to_the(self, factor: Node, count: int) -> str:
        if count > 1 and factor not in self.names and factor.kind == "call" and factor.data[0] == "inverse":
            return self.top(self.at(self.text(factor.args[0]), APPLIED), f"-{count}")
        return self._raised(self.text(factor), count)

    def _turned(self, factor: Node, count: int) -> str:
        return self._to_the(factor, count) if factor.symmetric else self._raised(self.transposed(factor), count)

    def _raised(self, text: Text, count: int) -> str:
        return self.at(text, PRODUCT) if count == 1 else self.top(self.at(text, APPLIED), str(count))

    def _chain(self, node: Node) -> Text:
        """A chain of matrices with vectors at its ends; a row as result is written as a column."""
        runs = chain_runs(node.args)
        first = node.args[0]
        if node.rank == 1 and first.rank == 1:
            parts = [self._turned(f, k) for f, k in reversed(runs[1:])]
            return self.join([*parts, self.at(self.text(first), PRODUCT)]), PRODUCT
        if first.rank == 1:
            parts = [self._to_the(f, k) for f, k in runs[1:]]
            return self.join([self._lying(first), *parts]), PRODUCT
        return self.join([self._to_the(f, k) for f, k in runs]), PRODUCT

    # ---------------------------------------------------------------- sums
    def _sum(self, node: Node, turned: bool = False) -> Text:
        return self.signed_sum(self.terms(node, turned))

    def terms(self, node: Node, turned: bool = False) -> list[tuple[int, Text]]:
        """The terms of a sum with their signs."""
        return [(sign, self.spread(term, node.rank, turned)) for sign, term in zip(node.data, node.args, strict=True)]

    def signed_sum(self, terms: Sequence[tuple[int, Text]]) -> Text:
        return "".join(self.signed_parts(terms)), SUM

    def signed_parts(self, terms: Sequence[tuple[int, Text]]) -> list[str]:
        """The terms of a sum, each with the sign before it."""
        parts: list[str] = []
        for i, (sign, text) in enumerate(terms):
            mark = (self.minus if sign < 0 else "") if i == 0 else f" {self.minus if sign < 0 else '+'} "
            parts.append(mark + self.at(text, ELEMENTWISE if sign < 0 else SUM))
        return parts

    def spread(self, term: Node, rank: int, turned: bool) -> Text:
        """A vector or number in a sum of matrices is a product with ones; in a sum of vectors it is understood."""
        ones = self.one + self.transposed_sign
        if rank != 2:
            return self.text(term)
        if term.rank == 0:
            matrix = (self.join([self.one, ones]), PRODUCT)
            if term.kind == "prod":
                number, count = term.data
                return self.quotient(number, self._pairs(term.args[:count]), matrix, self._pairs(term.args[count:]))
            bare = term.kind == "num" and term.data == 1
            return matrix if bare else self.quotient(1, self._pairs([term]), matrix, [])
        if term.rank == 1 or term.kind == "expand":
            if (term.rank == 1) != turned:
                return self.join([self.one, self._lying(term)]), PRODUCT
            return self.join([self.at(self.text(term), PRODUCT), ones]), PRODUCT
        return self.transposed(term) if turned else self.text(term)

    def _total(self, node: Node) -> Text:
        """Sums and means: norms and traces where they are known as such, else products with ones."""
        inner, axes = node.args[0], node.data
        text = self.text(inner)
        full = len(axes) == inner.rank
        if node.kind == "mean":
            where = "" if full else {(0,): "columns", (1,): "rows"}.get(axes) if inner.rank == 2 else f"axes {axes}"
            return self.function("mean", [text[0]], where or ""), APPLIED
        base, power = split_power(inner)
        if full and power == 2 and inner.rank <= 2:
            return self.top(self.norm(self.text(base)[0], inner.rank == 2), "2"), CALL
        if full and inner.rank == 2 and inner.kind == "prod" and inner.data == (1, 2) and len(inner.args) == 2:
            a, b = inner.args
            if a.rank == b.rank == 2 and "expand" not in (a.kind, b.kind):
                left = self.at(self.transposed(a), PRODUCT)
                return self.function("tr", [self.join([left, self.at(self.text(b), PRODUCT)])]), APPLIED
        ones = self.one + self.transposed_sign
        if inner.rank == 1:
            return self.join([ones, self.at(text, PRODUCT)]), PRODUCT
        if inner.rank == 2 and full:
            return self.join([ones, self.at(text, PRODUCT), self.one]), PRODUCT
        if inner.rank == 2:
            matrix = text if axes == (1,) else self.transposed(inner)
            return self.join([self.at(matrix, PRODUCT), self.one]), PRODUCT
        return self.einsum(node)

    # ---------------------------------------------------------------- products
    def _pairs(self, nodes: Sequence[Node]) -> Pairs:
        return [(n, self.text(n)) for n in nodes]

    def _product(self, node: Node, turned: bool = False) -> Text:
        number, count = node.data
        above, below = node.args[:count], node.args[count:]
        scalars = self._pairs([n for n in above if not n.rank])
        under = self._pairs([n for n in below if not n.rank])
        arrays, divisors = [n for n in above if n.rank], [n for n in below if n.rank]
        body = self._distributed(arrays, turned) if node.rank == 2 and not divisors else None
        if body is None:
            body = self._arrays(node.rank, arrays, divisors, turned)
        return self.quotient(number, scalars, body, under)

    def _distributed(self, arrays: Sequence[Node], turned: bool) -> Text | None:
        """(I - p 1^T) diag(p) is diag(p) - p p^T: an identity takes the vectors beside it."""
        vectors = [n for n in arrays if n.kind == "expand" or n.rank == 1]
        sums = [n for n in arrays if n.kind == "add" and n not in self.names]
        if not vectors or len(sums) != 1 or len(vectors) + 1 != len(arrays):
            return None
        if not any(t.kind == "eye" for t in sums[0].args):
            return None
        terms: list[tuple[int, Text]] = []
        for sign, term in zip(sums[0].data, sums[0].args, strict=True):
            number, above, below = Fraction(1), [term], list[Node]()
            if term.kind == "prod":
                number, count = Fraction(term.data[0]), term.data[1]
                above, below = list(term.args[:count]), list(term.args[count:])
            body = self._arrays(2, [n for n in above if n.rank] + vectors, [n for n in below if n.rank], turned)
            scalars = self._pairs([n for n in above if not n.rank])
            terms.append((sign, self.quotient(number, scalars, body, self._pairs([n for n in below if not n.rank]))))
        return self.signed_sum(terms)

    def _arrays(
        self, rank: int, above: Sequence[Node], below: Sequence[Node], turned: bool = False
    ) -> Text | None:
        """Elementwise factors; among matrices a broadcast vector is a diagonal matrix at one side."""
        if not above and not below:
            return None
        if rank != 2:
            return self._elementwise(above, below)
        left, over_left = _split(above, "left"), _split(below, "left")
        right, over_right = _split(above, "right"), _split(below, "right")
        middle, under = _split(above, "matrix"), _split(below, "matrix")
        if turned:
            left, over_left, right, over_right = right, over_right, left, over_left
        if not middle and not under:
            u = self._elementwise(left, over_left) if left or over_left else (self.one, ATOM)
            v = self._elementwise(right, over_right) if right or over_right else (self.one, ATOM)
            return self.join([self.at(u, PRODUCT), self.at(v, APPLIED) + self.transposed_sign]), PRODUCT
        core: Text | None = self._elementwise(middle, under, turned)
        if [n.kind for n in middle] == ["eye"] and not under and (left or over_left or right or over_right):
            core = None
        parts = [self._diagonal(left, over_left)] if left or over_left else []
        if core is not None:
            parts.append(self.at(core, PRODUCT))
        parts += [self._diagonal(right, over_right)] if right or over_right else []
        if len(parts) == 1:
            return core if core is not None else (parts[0], APPLIED)
        return self.join(parts), PRODUCT

    def _diagonal(self, above: Sequence[Node], below: Sequence[Node]) -> str:
        if [n.kind for n in above] == ["diagof"] and not below and above[0] not in self.names:
            return self.group(self._own_diagonal(above[0])[0])
        if above:
            return self.function("diag", [self._elementwise(above, below)[0]])
        base, power = split_power(below[0])
        if len(below) > 1 or below[0] in self.names or not isinstance(power, int):
            return self.top(self.function("diag", [self._elementwise(below, ())[0]]), self.inverse_sign)
        return self.top(self.function("diag", [self.text(base)[0]]), f"-{power}")

    def _reciprocal_diagonal(self, vector: Node) -> Text:
        """diag(a / x^2) as a diag(x)^-2."""
        number, count = vector.data
        above, below = self._pairs(vector.args[:count]), vector.args[count:]
        body = self._diagonal((), [b for b in below if b.rank]), CALL
        return self.quotient(number, above, body, self._pairs([b for b in below if not b.rank]))

    def _own_diagonal(self, diagonal: Node) -> Text:
        """The diagonal matrix of a matrix's diagonal."""
        return f"{self.identity} {self.odot} {self.at(self.text(diagonal.args[0]), CALL)}", ELEMENTWISE

    def _elementwise(self, above: Sequence[Node], below: Sequence[Node], turned: bool = False) -> Text:
        def read(node: Node) -> Text:
            return self.transposed(node) if turned else self.text(node)

        if len(above) == 1 and not below:
            return read(above[0])
        base, power = split_power(below[0]) if below and not above else (None, 1)
        if base is not None and len(below) == 1 and below[0] not in self.names and isinstance(power, int) and power > 1:
            rank = base.args[0].rank if base.kind == "expand" else base.rank
            return self.array_power(self.at(read(base), APPLIED), f"-{power}", rank), CALL
        factors = [self.at(read(n), CALL) for n in above] or [self.one]
        text = f" {self.odot} ".join(factors)
        for n in below:
            text += f" {self.oslash} {self.at(read(n), CALL)}"
        return text, ELEMENTWISE


def _is_reciprocal(vector: Node) -> bool:
    """A number over vectors."""
    if vector.kind != "prod":
        return False
    above, below = vector.args[: vector.data[1]], vector.args[vector.data[1] :]
    return not any(a.rank for a in above) and any(b.rank for b in below)


def _has_chain(term: Node) -> bool:
    """Whether a transposition sign has somewhere better to go than behind a bracket."""
    return term.kind in ("matmul", "prod") and any(f.kind == "matmul" for f in (term, *term.args))


def _split(nodes: Sequence[Node], side: str) -> list[Node]:
    """Factors of a matrix: vectors along the rows (left), along the columns (right), and matrices."""
    if side == "left":
        return [n for n in nodes if n.kind == "expand"]
    return [n for n in nodes if n.rank == (1 if side == "right" else 2) and n.kind != "expand"]
