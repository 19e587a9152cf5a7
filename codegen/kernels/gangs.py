"""Equal functions of several numbers as one function of a vector, in LLVM IR: a dear function of four numbers takes
hardly longer than of one.

`gang` finds statements that can be taken together, `call` and `couples` write them. An operand is a number,
or a vector of `width` numbers. Lanes that are left over hold the first operand again: a function that looks for rare
arguments in any lane finds none that are not there. Functions have the same bits at every width, so results do not
depend on what is taken together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from codegen.analysis.waves import is_dear
from codegen.ir.loops import Let, Stmt
from codegen.llvm import scalars
from codegen.llvm.text import Lines, register_type


def gang(body: Sequence[Stmt], position: int, most: int) -> list[Let]:
    """The statement at a position and those behind it that are the same dear function of other operands."""
    first = body[position]
    if not isinstance(first, Let) or not is_dear(first):
        return []
    found = [first]
    made, kind = {first.name}, (first.op, first.dtype, first.attr)
    for stmt in body[position + 1 : position + most]:
        if not isinstance(stmt, Let) or (stmt.op, stmt.dtype, stmt.attr) != kind or not made.isdisjoint(stmt.args):
            break
        found.append(stmt)
        made.add(stmt.name)
    return found


def lanes_for(count: int, register: int) -> int:
    """Lanes of the vector for so many numbers: those of one register or of two, which run side by side."""
    return register if count <= register else 2 * register


def call(lines: Lines, stmt: Let, operands: Sequence[Sequence[str]], width: int, lanes: int) -> list[str]:
    """The function of `stmt` for each list of operands."""
    if width > 1:
        args = [_row(lines, stmt.dtype, texts, width) for texts in zip(*operands, strict=True)]
        made = scalars.emit(lines, stmt.op, stmt.dtype, stmt.dtype, args, lanes, stmt.attr)
        return _halves(lines, stmt.dtype, made, width)

    def write(inside: Lines, args: list[str]) -> list[str]:
        return [scalars.emit(inside, stmt.op, stmt.dtype, stmt.dtype, args, lanes, stmt.attr)]

    name = stmt.op if stmt.attr is None else f"{stmt.op}_{stmt.attr}"
    return _outside(lines, name, stmt.dtype, operands, lanes, write)


def both(lines: Lines, pair: str, dtype: str, argument: str, lanes: int) -> tuple[str, str]:
    """Two functions of one number for each lane, computed at once."""
    kind = register_type(dtype, lanes)
    struct = f"{{ {kind}, {kind} }}"
    made = lines.emit(f"call {struct} {lines.module.use_math(pair, dtype, lanes)}({kind} {argument})")
    first, second = [lines.emit(f"extractvalue {struct} {made}, {part}") for part in range(2)]
    return first, second


def couples(
    lines: Lines, pair: str, dtype: str, arguments: Sequence[str], width: int, lanes: int
) -> list[tuple[str, str]]:
    """The two functions of a pair for each argument."""

    def write(inside: Lines, args: list[str]) -> list[str]:
        return list(both(inside, pair, dtype, args[0], lanes))

    if width > 1:
        first, second = [_halves(lines, dtype, v, width) for v in write(lines, [_row(lines, dtype, arguments, width)])]
    else:
        found = _outside(lines, pair, dtype, [[a] for a in arguments], lanes, write)
        first, second = found[: len(arguments)], found[len(arguments) :]
    return list(zip(first, second, strict=True))


def _row(lines: Lines, dtype: str, texts: Sequence[str], width: int) -> str:
    """Two vectors as one."""
    kind = register_type(dtype, width)
    first, second = texts
    return lines.emit(f"shufflevector {kind} {first}, {kind} {second}, {_lanes(0, 2 * width)}")


def _halves(lines: Lines, dtype: str, text: str, width: int) -> list[str]:
    """One vector as two."""
    kind = register_type(dtype, 2 * width)
    return [
        lines.emit(f"shufflevector {kind} {text}, {kind} poison, {_lanes(start, width)}") for start in (0, width)
    ]


def _lanes(start: int, count: int) -> str:
    return f"<{count} x i32> <{', '.join(f'i32 {start + k}' for k in range(count))}>"


def _outside(
    lines: Lines, name: str, dtype: str, operands: Sequence[Sequence[str]], lanes: int,
    write: Callable[[Lines, list[str]], list[str]],
) -> list[str]:  # fmt: skip
    """A call of a small function of numbers, in which `write` makes vectors of vectors; all numbers of the first, then
    of the next. Wherever there are passes it is inlined: LLVM's quick instruction selection has no way with lanes."""
    module, one, count = lines.module, register_type(dtype, 1), len(operands)
    symbol = f"@sd.gang.{name}.{dtype}.{count}of{lanes}"
    inside = Lines(module)
    parameters = [[f"%a{place}.{number}" for number in range(count)] for place in range(len(operands[0]))]
    kind = register_type(dtype, lanes)
    args: list[str] = []
    for own in parameters:
        args.append(inside.splat(own[0], one, lanes))
        for lane, text in enumerate(own[1:], 1):
            args[-1] = inside.emit(f"insertelement {kind} {args[-1]}, {one} {text}, i64 {lane}")
    vectors = write(inside, args)
    result = f"{{ {', '.join([one] * (count * len(vectors)))} }}"
    made = "poison"
    for place, (vector, lane) in enumerate((v, lane) for v in vectors for lane in range(count)):
        text = inside.emit(f"extractelement {kind} {vector}, i64 {lane}")
        made = inside.emit(f"insertvalue {result} {made}, {one} {text}, {place}")
    body = "\n".join(inside.lines)
    head = ", ".join(f"{one} {p}" for own in parameters for p in own)
    module.declare(
        f"define internal {result} {symbol}({head}) alwaysinline {module.attributes} {{\n{body}\n"
        f"  ret {result} {made}\n}}"
    )
    given = ", ".join(f"{one} {texts[place]}" for place in range(len(parameters)) for texts in operands)
    found = lines.emit(f"call {result} {symbol}({given})")
    return [lines.emit(f"extractvalue {result} {found}, {place}") for place in range(count * len(vectors))]
