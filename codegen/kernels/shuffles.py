"""Permutations of several registers at once, out of shuffles of two.

Takes the text of vectors of one type and gives as many new ones. Numbering the lanes of all registers, a permutation
that moves the bits of these numbers exchanges one bit of the register with one of the lane at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.llvm.text import Lines


def transposed(lines: Lines, rows: Sequence[str], kind: str) -> list[str]:
    """Element l of result j is element j of row l; as many rows as lanes."""
    rows, width = list(rows), len(rows)
    bit = width // 2
    while bit:
        _exchange(lines, rows, kind, width, bit, bit, range(width))
        bit //= 2
    return rows


def can_interleave(count: int, width: int) -> bool:
    """Whether records of so many elements are worth taking apart and putting together in registers of `width`."""
    return count == 3 <= width or (1 < count <= width and not count & (count - 1))


def interleaved(lines: Lines, columns: Sequence[str], kind: str, width: int) -> list[str]:
    """The elements of all columns record by record: c0[0], c1[0], .., c0[1], c1[1], .."""
    count, columns = len(columns), list(columns)
    if count == 3:
        places = [divmod(k, 3) for k in range(3 * width)]
        picked = [[(column, lane) for lane, column in places[r * width : (r + 1) * width]] for r in range(3)]
        return [_gathered(lines, columns, kind, width, own) for own in picked]
    bits = _top_bits(count, width)
    for bit, lane_bit in bits:
        # Where the high bits of the lane were the column is: at the end it moves to the low ones.
        last = (bit, lane_bit) == bits[-1]
        order = [p % count * (width // count) + p // count if last else p for p in range(width)]
        _exchange(lines, columns, kind, width, bit, lane_bit, order)
    return columns


def separated(lines: Lines, rows: Sequence[str], kind: str, width: int) -> list[str]:
    """The columns of records that fill registers without gaps: what `interleaved` puts together."""
    count, rows = len(rows), list(rows)
    if count == 3:
        return [_gathered(lines, rows, kind, width, [divmod(3 * lane + j, width) for lane in range(width)])
                for j in range(3)]  # fmt: skip
    bits = _top_bits(count, width)
    own = [p % (width // count) * count + p // (width // count) for p in range(width)]
    for bit, lane_bit in bits:
        _exchange(lines, rows, kind, width, bit, lane_bit, range(width), own if (bit, lane_bit) == bits[0] else None)
    return rows


def joined(lines: Lines, vectors: Sequence[str], element: str, width: int) -> str:
    """One vector of the lanes of several, as many as a power of two."""
    vectors = list(vectors)
    while len(vectors) > 1:
        kind, places = f"<{width} x {element}>", ", ".join(f"i32 {k}" for k in range(2 * width))
        vectors = [lines.emit(f"shufflevector {kind} {a}, {kind} {b}, <{2 * width} x i32> <{places}>")
                   for a, b in zip(vectors[::2], vectors[1::2], strict=True)]  # fmt: skip
        width *= 2
    return vectors[0]


def parts(lines: Lines, vector: str, element: str, width: int, count: int) -> list[str]:
    """The lanes of a vector in vectors of `width`."""
    if count == 1:
        return [vector]
    kind = f"<{count * width} x {element}>"
    return [
        lines.emit(f"shufflevector {kind} {vector}, {kind} poison, <{width} x i32> "
                   f"<{', '.join(f'i32 {start + k}' for k in range(width))}>")
        for start in range(0, count * width, width)
    ]  # fmt: skip


def _top_bits(count: int, width: int) -> list[tuple[int, int]]:
    """Pairs of a bit of the register's number and one of the highest bits of the lane."""
    return [(1 << i, (width // count) << i) for i in range(count.bit_length() - 1)]


def _exchange(
    lines: Lines, rows: list[str], kind: str, width: int, bit: int, lane_bit: int, order: Sequence[int],
    inner: Sequence[int] | None = None,
) -> None:  # fmt: skip
    """Exchange a bit of the register's number with one of the lane, whose lanes are at `inner`; results in `order`."""
    own = range(width) if inner is None else inner
    low = [(0, own[k]) if not k & lane_bit else (1, own[k ^ lane_bit]) for k in order]
    high = [(0, own[k | lane_bit]) if not k & lane_bit else (1, own[k]) for k in order]
    for i in range(len(rows)):
        if not i & bit:
            a, b = rows[i], rows[i | bit]
            rows[i], rows[i | bit] = (_shuffle(lines, a, b, kind, width, picked) for picked in (low, high))


def _shuffle(lines: Lines, a: str, b: str, kind: str, width: int, picked: Sequence[tuple[int, int]]) -> str:
    places = ", ".join(f"i32 {which * width + lane}" for which, lane in picked)
    return lines.emit(f"shufflevector {kind} {a}, {kind} {b}, <{len(picked)} x i32> <{places}>")


def _gathered(lines: Lines, parts: Sequence[str], kind: str, width: int, picked: Sequence[tuple[int, int]]) -> str:
    """A register whose lanes come from several: (which of them, its lane there)."""
    total = parts[0]
    for number, part in enumerate(parts[1:], 1):
        from_total = [(0, lane if number == 1 else place) for place, (_, lane) in enumerate(picked)]
        chosen = [(1, lane) if which == number else old
                  for old, (which, lane) in zip(from_total, picked, strict=True)]  # fmt: skip
        total = _shuffle(lines, total, part, kind, width, chosen)
    return total
