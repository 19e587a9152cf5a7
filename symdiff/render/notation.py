"""Notation: the small language of matrix expressions between the IR and the printers.

A `Node` is one mathematical expression with a shape: a symbol, a number, a sum of signed terms, an elementwise product
with a numeric coefficient, a chain of matrix products, a transpose, an outer product, a diagonal, a sum over axes, an
einsum, a function application. `Notation` makes nodes, equal ones once, and knows what each costs to read: `size`
counts operators, calls and leaves (axes, index strings and broadcasting subscripts are free), `weight` adds small
preferences between forms of one size. A matrix knows its transpose (`flip`) in the shortest form; a symmetric one is
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from symdiff.ir.dims import Dim, Shape, Size
from symdiff.render.node import (
    Node,
    Number,
    chain_cost,
    chain_runs,
    coefficient_parts,
    decimal,
    inverted,
    is_triangle,
    nested,
    peeled,
    product_cost,
    solves,
    split_power,
    starts_with_number,
    topological,
    unit_vector,
    uses_matrix_power,
)

__all__ = [
    "Node", "Notation", "Number", "chain_runs", "coefficient_parts", "decimal", "inverted", "is_triangle", "nested",
    "peeled", "solves", "split_power", "topological", "unit_vector", "uses_matrix_power",
]  # fmt: skip

# What a vector in front of a matrix costs: as much as the transposition sign it saves, because X.T @ r reads better.
ROW_VECTOR = 1.01
# A condition selects elements; as a matrix that multiplies others it has to be made numbers first.
MASK_FACTOR = 0.3

# Between forms of one size, work on vectors is better than work on matrices.
MATRIX_WORK = 0.1

# Longer chains nest, so that building one factor by factor stays linear.
LONGEST_CHAIN = 32


class Notation:
    """Makes nodes, equal ones once. Every constructor takes nodes of fitting shapes; it checks nothing."""

    def __init__(self) -> None:
        self._table: dict[Any, Node] = {}
        self.introduced: list[str] = []  # symbols in the order in which a reader met them
        self.sorts = False
        self.for_papers = False
        self.searches = 0

    # ---------------------------------------------------------------- making
    def _node(
        self, kind: str, args: tuple[Node, ...], data: Any, shape: Shape, own: float, symmetric: bool = False,
        key: Any = None,
    ) -> tuple[Node, bool]:  # fmt: skip
        """The node and whether it is new. `own` is its cost beyond its operands, its whole part counting as size."""
        entry = (kind, key if key is not None else tuple([a.key for a in args]), data, shape)
        found = self._table.get(entry)
        if found is not None:
            return found, False
        size = int(own) + sum([a.size for a in args])
        weight = own + sum([a.weight for a in args])
        node = Node(kind, args, data, shape, size, weight, len(self._table))
        self._table[entry] = node
        return node, True

    def _flipped(self, node: Node, new: bool, distributed: Callable[[], Node] | None) -> Node:
        """Give a new matrix its transpose: by `distributed` when that is shorter, else by a transposition sign.

        A matrix whose distributed transpose is the matrix itself is symmetric.
        """
        if not new or node.rank != 2:
            return node
        node.flip = sign = self._node("T", (node,), None, node.shape[::-1], 1)[0]
        sign.flip = node
        if distributed is not None:
            other = distributed()
            if other is node or other.weight < sign.weight:
                node.flip = other
        return node

    # ---------------------------------------------------------------- leaves
    def symbol(self, name: str, shape: Shape, symmetric: bool = False) -> Node:
        node, new = self._node("sym", (), name, shape, 1)
        if new and name in self.introduced:
            node.latest = self.introduced.index(name)
        return node if symmetric else self._flipped(node, new, None)

    def number(self, value: Any) -> Node:
        """An exact number: int, Fraction, bool or the name of a special constant."""
        own = 3 if isinstance(value, Fraction) and decimal(value) is None else 1
        return self._node("num", (), value, (), own, key=(type(value).__name__, value))[0]

    def dimension(self, size: Size) -> Node:
        """A size as a number."""
        if not isinstance(size, Dim):
            return self.number(size)
        text = str(size)
        return self._node("dim", (), size, (), 1 + 2 * sum(text.count(c) for c in "+-*/"))[0]

    def ones(self, shape: Shape, dtype: str = "f64") -> Node:
        node, new = self._node("ones", (), dtype, shape, 1)
        return self._flipped(node, new, lambda: self.ones(shape[::-1], dtype))

    def zeros(self, shape: Shape, dtype: str = "f64") -> Node:
        node, new = self._node("zeros", (), dtype, shape, 1)
        return self._flipped(node, new, lambda: self.zeros(shape[::-1], dtype))

    def eye(self, size: Size, dtype: str = "f64") -> Node:
        return self._node("eye", (), dtype, (size, size), 1)[0]

    # ---------------------------------------------------------------- broadcasting
    def align(self, node: Node, axes: Sequence[int], target: Sequence[int]) -> Node:
        """`node`, whose axes are the named ones, ready to broadcast against a value with the axes `target`."""
        if not axes:
            return node
        present = set(axes)
        tail = list(target)[list(target).index(axes[0]) :]
        if len(tail) == len(axes):
            return node
        mask = tuple([x in present for x in tail])
        return self.expand(node, mask)

    def expand(self, node: Node, mask: tuple[bool, ...]) -> Node:
        """`node[:, None]` and the like: True for an axis of the node, False for a new one of size 1."""
        if node.kind == "prod" and all(a.rank in (0, node.rank) for a in node.args):
            count = node.data[1]
            above, below = node.args[:count], node.args[count:]
            lone = [a for a in above if a.rank]
            if not lone:
                return self.product(node.data[0], above, [self.expand(a, mask) if a.rank else a for a in below])
            scalars, under = [a for a in above if not a.rank], [a for a in below if not a.rank]
            if node.data[0] != 1 or scalars or under:
                inner = self.product(1, lone, [a for a in below if a.rank])
                return self.product(node.data[0], [*scalars, self.expand(inner, mask)], under)
        sizes = iter(node.shape)
        shape = tuple([next(sizes) if kept else 1 for kept in mask])
        return self._node("expand", (node,), mask, shape, 0.001)[0]

    def _across(self, arg: Node) -> Node:
        """An operand of an elementwise matrix expression, for the transposed expression."""
        if arg.rank == 0:
            return arg
        if arg.kind == "expand" and arg.data == (True, False):
            return arg.args[0]
        return self.expand(arg, (True, False)) if arg.rank == 1 else arg.flip

    def full(self, node: Node, axes: Sequence[int], shape: Shape, dtype: str = "f64") -> Node:
        """`node` spread over the whole `shape`."""
        if len(axes) == len(shape):
            return node
        if node.kind == "subscript":
            kept = self.with_axes_of_one(node)
            if kept.shape == shape:
                return kept
        # A number is no array: axes are given to what has some.
        if axes and all(shape[x] == 1 for x in range(len(shape)) if x not in axes):
            spread = self.expand(node, tuple([x in axes for x in range(len(shape))]))
            if spread.rank == len(shape):
                return spread
        if dtype not in ("f64", "f32"):
            target = tuple(range(len(shape)))
            return self.call("broadcast_to", (self.align(node, axes, target),), shape, (shape,))
        if node.kind == "num" and node.data == 0:
            return self.zeros(shape, dtype)
        if len(shape) < 2 or not axes:
            return self.product(1, [node, self.ones(shape, dtype)], ())
        number, scalars, core, below = peeled(node)
        missing = tuple([x for x in range(len(shape)) if x not in axes])
        ones = self.ones(tuple([shape[x] for x in missing]), dtype)
        if len(shape) == 2:
            spread = self.outer(ones, core) if axes[0] == 1 else self.outer(core, ones)
        else:
            spread = self.einsum([core, ones], [tuple(axes), missing], tuple(range(len(shape))))
        return self.product(number, [*scalars, spread], below)

    # ---------------------------------------------------------------- sums and products
    def add(self, terms: Sequence[tuple[int, Node]], shape: Shape) -> Node:
        """A sum of signed terms, ready to broadcast. The first positive term leads.

        Terms stand in the order in which their symbols were introduced, where that is known.
        """
        signed: list[tuple[int, Node]] = []
        for sign, term in terms:
            plus = self.positive(term)
            signed.append((-sign, plus) if plus is not term else (sign, term))
        if len(signed) == 1:
            return signed[0][1] if signed[0][0] > 0 else self.negative(signed[0][1])
        if self.sorts:
            last = max([t.latest for _, t in signed])
            signed.sort(key=lambda t: last if t[1].latest < 0 else t[1].latest)
        lead = next((i for i, (sign, _) in enumerate(signed) if sign > 0), None)
        if lead:
            signed.insert(0, signed.pop(lead))
        signs, args = tuple([s for s, _ in signed]), tuple([t for _, t in signed])
        own = len(args) - 1 + (lead is None and not starts_with_number(args[0]))
        # Equal sums have one node whatever the order of terms: a matrix plus its transpose is then its own transpose.
        key = tuple(sorted([(a.key, s) for s, a in signed]))
        node, new = self._node("add", args, None, shape, own, key=key)
        if new:
            node.data = signs
        return self._flipped(
            node, new, lambda: self.add([(s, self._across(a)) for s, a in signed], shape[::-1])
        )

    def positive(self, term: Node) -> Node:
        """The term without a leading minus sign; itself when it has none."""
        if term.kind == "prod" and term.data[0] < 0:
            return self.product(-term.data[0], term.args[: term.data[1]], term.args[term.data[1] :])
        if term.kind == "num" and isinstance(term.data, (int, Fraction)) and term.data < 0:
            return self.number(-term.data)
        return term

    def negative(self, node: Node) -> Node:
        if node.kind == "add" and {-1, 1} <= set(node.data):
            return self.opposite(node)
        if node.kind == "num" and type(node.data) in (int, Fraction):
            return self.number(-node.data)
        return self.product(-1, (node,), ())

    def opposite(self, node: Node) -> Node:
        """A sum with every sign turned."""
        return self.add([(-s, a) for s, a in zip(node.data, node.args, strict=True)], node.shape)

    def product(self, coefficient: Number, above: Sequence[Node], below: Sequence[Node]) -> Node:
        """coefficient * above / below, elementwise with broadcasting; nested products merge, equal factors too."""
        top: list[tuple[Node, Number]] = []
        bottom: list[tuple[Node, Number]] = []
        total = Fraction(coefficient)
        for factors, side, other, sign in ((above, top, bottom, 1), (below, bottom, top, -1)):
            for factor in factors:
                if factor.kind == "prod":
                    count = factor.data[1]
                    total *= Fraction(factor.data[0]) ** sign
                    side.extend(split_power(a) for a in factor.args[:count])
                    other.extend(split_power(a) for a in factor.args[count:])
                elif factor.kind == "num" and type(factor.data) in (int, Fraction) and factor.data != 0:
                    total *= Fraction(factor.data) ** sign
                elif factor.kind != "ones" or not _redundant(factor, above, below):
                    side.append(split_power(factor))
        upper, lower = self._together(self._merge(top), self._merge(bottom))
        # Scalars lead, so that a product reads 2 s x and not x 2 s; sums end it: p (1 - p).
        upper.sort(key=lambda f: (f.rank > 0, f.kind == "add"))
        lower.sort(key=lambda f: f.rank > 0)
        number: Number = total.numerator if total.denominator == 1 else total
        if not lower and not upper:
            return self.number(number)
        if not lower and len(upper) == 1 and number == 1:
            return upper[0]
        inside = self._absorbed(number, upper, lower)
        if inside is not None:
            return inside
        shape = _broadcast(f.shape for f in (*upper, *lower))
        own = product_cost(number, upper, lower)
        if len(shape) == 2:
            mixed = any(0 < f.rank < 2 or f.kind == "expand" for f in (*upper, *lower))
            own += 0.02 * (len(upper) + len(lower) - 1) + (MATRIX_WORK if mixed else 0.0)
        key = (tuple(sorted(f.key for f in upper)), tuple(sorted(f.key for f in lower)))
        node, new = self._node("prod", (*upper, *lower), (number, len(upper)), shape, own, key=key)
        return self._flipped(
            node, new, lambda: self.product(number, [self._across(f) for f in upper], [self._across(f) for f in lower])
        )

    def _merge(self, factors: list[tuple[Node, Number]]) -> list[Node]:
        powers: dict[Node, Number] = {}
        for node, power in factors:
            powers[node] = powers.get(node, 0) + power
        return [self.power(node, power) for node, power in powers.items() if power != 0]

    def _together(self, upper: list[Node], lower: list[Node]) -> tuple[list[Node], list[Node]]:
        """Factors to one integer power, and roots of one shape, under it: a^2 / b^2 as (a / b)^2; a^2 / a^2 stays."""
        both = {*upper} & {*lower}
        for power, shape in dict.fromkeys([(_raised(f)[1], f.shape) for f in (*upper, *lower)]):
            if not isinstance(power, Fraction) and power < 2:
                continue
            above, below = (
                [f for f in side
                 if f not in both and _raised(f)[1] == power and (isinstance(power, int) or f.shape == shape)]
                for side in (upper, lower)
            )
            if len(above) + len(below) < 2 or not (above or isinstance(power, int)):
                continue
            top, bottom = [_raised(f)[0] for f in above], [_raised(f)[0] for f in below]
            joined = self.power(self.product(1, top or bottom, bottom if top else ()), power)
            first = (above or below)[0]
            gone = {*above, *below} - {first}
            upper, lower = (
                [joined if f is first else f for f in side if f not in gone] for side in (upper, lower)
            )
        return upper, lower

    def _absorbed(self, number: Number, upper: Sequence[Node], lower: Sequence[Node]) -> Node | None:
        """A coefficient as the numerator of a reciprocal inside: 2 diag(1/x) as diag(2/x)."""
        arrays = [f for f in upper if f.rank]
        if len(arrays) != 1 or lower or (number == -1 and len(upper) == 1):
            return None
        core = arrays[0]
        for place, arg in enumerate(core.args if core.kind in ("diag", "outer", "einsum", "matmul") else ()):
            if arg.kind == "prod" and arg.data == (1, 0):
                above = self.product(number, [f for f in upper if not f.rank], arg.args)
                return self._rebuilt(core, (*core.args[:place], above, *core.args[place + 1 :]))
        return None

    def _rebuilt(self, core: Node, args: tuple[Node, ...]) -> Node:
        """A diagonal, outer product, einsum or chain of other operands."""
        if core.kind == "diag":
            return self.diag(args[0])
        if core.kind == "outer":
            return self.outer(*args)
        return self.einsum(args, *core.data) if core.kind == "einsum" else self.chain(args)

    def power(self, base: Node, exponent: Number) -> Node:
        if exponent == 1:
            return base
        if exponent == Fraction(1, 2):
            return self.call("sqrt", (base,), base.shape)
        if exponent == -1:
            return self.product(1, (), (base,))
        return self.general_power(base, self.number(exponent), base.shape)

    def general_power(self, base: Node, exponent: Node, shape: Shape) -> Node:
        node, new = self._node("pow", (base, exponent), None, shape, 1.01)
        return self._flipped(
            node, new, lambda: self.general_power(self._across(base), self._across(exponent), shape[::-1])
        )

    # ---------------------------------------------------------------- matrix products
    def matmul(self, left: Node, right: Node) -> Node:
        """left @ right for vectors and matrices; chains are flattened."""
        first = left.args if left.kind == "matmul" and left.args[-1].rank == 2 else (left,)
        second = right.args if right.kind == "matmul" and right.args[0].rank == 2 else (right,)
        if len(first) + len(second) > LONGEST_CHAIN:
            return self.chain((left, right))
        return self.chain((*first, *second))

    def chain(self, factors: tuple[Node, ...]) -> Node:
        """A flat chain: only the first and the last factor may be vectors."""
        shape = factors[0].shape[:-1] + factors[-1].shape[1:]
        own, sizes = chain_cost(factors, self.for_papers), sum([f.size for f in factors])
        # A vector in front of a matrix saves a transposition sign but reads worse, unless it is but a name.
        row = len(shape) == 1 and factors[0].rank == 1
        style = 0.01 * len(factors) + (ROW_VECTOR if row and factors[0].kind != "sym" else 0.0)
        style += MATRIX_WORK if len(shape) == 2 else 0.0
        style += MASK_FACTOR * sum([_is_mask(f) for f in factors])
        node, new = self._node("matmul", factors, None, shape, 0)
        if new:
            node.size += own - sizes
            node.weight += own - sizes + style
        return self._flipped(node, new, lambda: self.chain(tuple([f.flip for f in reversed(factors)])))

    def outer(self, left: Node, right: Node) -> Node:
        node, new = self._node("outer", (left, right), None, left.shape + right.shape, 1.03 + MATRIX_WORK)
        return self._flipped(node, new, lambda: self.outer(right, left))

    def diag(self, vector: Node, dtype: str = "") -> Node:
        """The diagonal matrix of a vector; that of a matrix's diagonal is a product with the identity of `dtype`."""
        if vector.kind == "diagof" and dtype:
            return self.product(1, (self.eye(vector.shape[0], dtype), vector.args[0]), ())
        return self._node("diag", (vector,), None, vector.shape * 2, 1.01)[0]

    def diagonal(self, matrix: Node) -> Node:
        """The vector on the diagonal."""
        matrix = matrix.args[0] if matrix.kind == "T" else matrix
        return self._node("diagof", (matrix,), None, matrix.shape[:1], 1.01)[0]

    def trace(self, matrix: Node) -> Node:
        return self._node("trace", (min(matrix, matrix.flip, key=lambda m: m.weight),), None, (), 1)[0]

    def sum(self, node: Node, axes: tuple[int, ...]) -> Node:
        """The sum over `axes`; a transpose is summed over the other axis instead."""
        if node.kind == "T":
            node, axes = node.args[0], tuple(sorted(1 - a for a in axes))
        shape = tuple([s for i, s in enumerate(node.shape) if i not in axes])
        if node.kind == "prod" and node.data[0] != 1:
            bare = self.product(1, node.args[: node.data[1]], node.args[node.data[1] :])
            return self.product(node.data[0], (self.sum(bare, axes),), ())
        kept, new = self._node("sum", (node,), axes, shape, 1)
        return self._flipped(kept, new, None)

    def mean(self, node: Node, axes: tuple[int, ...]) -> Node:
        shape = tuple([s for i, s in enumerate(node.shape) if i not in axes])
        kept, new = self._node("mean", (node,), axes, shape, 1)
        return self._flipped(kept, new, None)

    def einsum(self, args: Sequence[Node], labels: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Node:
        """General index notation; labels are numbered output first."""
        sizes = {x: s for a, word in zip(args, labels, strict=True) for x, s in zip(word, a.shape, strict=True)}
        shape = tuple([sizes[x] for x in output])
        node, new = self._node("einsum", tuple(args), (tuple(labels), output), shape, 1)
        return self._flipped(node, new, lambda: self.einsum(args, labels, output[::-1]))

    # ---------------------------------------------------------------- functions
    def call(
        self, name: str, args: tuple[Node, ...], shape: Shape, data: tuple[Any, ...] = (), own: float = 1,
        elementwise: bool = False,
    ) -> Node:  # fmt: skip
        """An op applied; `data` are its attributes as the printers want them."""
        node, new = self._node("call", args, (name, *data), shape, own)
        if elementwise:
            node.pointwise = True
            return self._flipped(
                node, new,
                lambda: self.call(name, tuple([self._across(a) for a in args]), shape[::-1], data, own, True),
            )  # fmt: skip
        return self._flipped(node, new, None)

    def inverse(self, matrix: Node) -> Node:
        if matrix.kind == "T":
            return self.inverse(matrix.args[0]).flip
        node, new = self._node("call", (matrix,), ("inverse",), matrix.shape, 1)
        return node if matrix.symmetric else self._flipped(node, new, None)

    def entries(self, args: Sequence[Node], shape: Shape) -> Node:
        """An array written out: one scalar for each entry, rows first."""
        node, new = self._node("entries", tuple(args), None, shape, 1)

        def across() -> Node:
            columns = shape[1]
            assert isinstance(columns, int)
            return self.entries([a for c in range(columns) for a in args[c::columns]], shape[::-1])

        return self._flipped(node, new, across)

    def subscript(self, node: Node, index: tuple[Any, ...], shape: Shape) -> Node:
        """`node[index]`: slices as (start, stop, step) triples, integers as sizes, None for whole axes, or nodes."""
        if node.kind == "eye" and index[0] is None and isinstance(index[-1], (int, Dim)):
            index = index[::-1]  # a column of the identity is a row of it
        arrays = tuple([i for i in index if isinstance(i, Node)])
        plain = tuple(["@" if isinstance(i, Node) else i for i in index])
        made, new = self._node("subscript", (node, *arrays), plain, shape, -sum([a.size for a in arrays]))
        return self._flipped(made, new, None)

    def with_axes_of_one(self, node: Node) -> Node:
        """A subscript whose integers are slices of one element: x[2] as x[2:3]."""
        base = node.args[0]
        index: list[Any] = []
        shape: list[Size] = []
        for axis, entry in enumerate(node.data):
            if entry == "@":
                return node
            whole = base.shape[axis]
            kept = isinstance(entry, tuple) or entry is None
            index.append(entry if kept else (entry, entry, 1, 1, whole))
            shape.append(1 if not kept else whole if entry is None else entry[3])
        return self.subscript(base, tuple(index), tuple(shape))


def _raised(node: Node) -> tuple[Node, Number]:
    """(base, power) of a whole power or a square root."""
    if node.kind == "call" and node.data[0] == "sqrt":
        return node.args[0], Fraction(1, 2)
    base, power = split_power(node)
    return (base, power) if isinstance(power, int) else (node, 1)


def _is_mask(node: Node) -> bool:
    """A condition as numbers, perhaps transposed."""
    node = node.args[0] if node.kind == "T" else node
    return node.kind == "call" and node.data[0] == "cast"


def _redundant(factor: Node, above: Sequence[Node], below: Sequence[Node]) -> bool:
    """Whether another factor of the same rank makes an array of ones needless."""
    others = [f for f in (*above, *below) if f is not factor and f.kind not in ("expand", "ones")]
    return any(f.shape == factor.shape for f in others)


def _broadcast(shapes: Iterable[Shape]) -> Shape:
    """The shape of an elementwise result: aligned from the end, a literal 1 giving way."""
    result: list[Size] = []
    for shape in shapes:
        if len(shape) > len(result):
            result = [1] * (len(shape) - len(result)) + result
        for i in range(1, len(shape) + 1):
            if result[-i] == 1:
                result[-i] = shape[-i]
    return tuple(result)
