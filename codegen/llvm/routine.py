"""A library routine of LLVM IR under construction: loops, choices, elements, LAPACK calls.

Takes calls of its methods, which append instructions; parameters are used by their text (`%n`). `define` gives the text
of the finished function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from codegen.jit.lapack import PREFIX
from codegen.llvm.text import BYTES, REGISTER, Lines, Module, register_type

_LETTER = {"f64": "d", "f32": "s"}


class Routine(Lines):
    """A routine under construction; `%name` parameters are used by their text."""

    def __init__(self, module: Module, dtype: str) -> None:
        super().__init__(module)
        self.dtype = dtype
        self.type = REGISTER[dtype]

    def when(self, condition: str, then: Callable[[], object], otherwise: Callable[[], object] | None = None) -> None:
        """Run `then` where the condition holds, `otherwise` where it does not."""
        yes, no, end = self.label("then"), self.label("else"), self.label("end")
        self.do(f"br i1 {condition}, label %{yes}, label %{no if otherwise else end}")
        self.begin(yes)
        then()
        self.do(f"br label %{end}")
        if otherwise is not None:
            self.begin(no)
            otherwise()
            self.do(f"br label %{end}")
        self.begin(end)

    def in_lanes(self, extent: str, width: int, body: Callable[[str, int], None]) -> None:
        """Run `body` with a counter and the number of lanes: `width` of them at a time, then one by one."""
        whole = self.emit(f"and i64 {extent}, {-width}")
        self.loop(whole, lambda j: body(j, width), width)
        self.loop(extent, lambda j: body(j, 1), start=whole)

    def lanes(self, width: int) -> str:
        """The type of so many elements."""
        return register_type(self.dtype, width)

    def get_lanes(self, base: str, offset: str, width: int) -> str:
        """So many elements that lie side by side."""
        place = self.place(base, offset)
        return self.emit(f"load {self.lanes(width)}, ptr {place}, align {BYTES[self.dtype]}")

    def put_lanes(self, text: str, base: str, offset: str, width: int) -> None:
        """Store so many elements side by side."""
        place = self.place(base, offset)
        self.do(f"store {self.lanes(width)} {text}, ptr {place}, align {BYTES[self.dtype]}")

    def add(self, a: str, b: str | int) -> str:
        """Sum of two sizes."""
        return self.emit(f"add nsw i64 {a}, {b}")

    def sub(self, a: str | int, b: str | int) -> str:
        """Difference of two sizes."""
        return self.emit(f"sub nsw i64 {a}, {b}")

    def mul(self, a: str, b: str | int) -> str:
        """Product of two sizes."""
        return self.emit(f"mul nsw i64 {a}, {b}")

    def parts(self, size: str, each: str | int) -> str:
        """How many parts of so many elements there are, the last of which may be shorter."""
        return self.emit(f"sdiv i64 {self.sub(self.add(size, each), 1)}, {each}")

    def flag(self, flags: str, bit: int) -> str:
        """Whether a bit is set."""
        return self.emit(f"icmp ne i64 {self.emit(f'and i64 {flags}, {bit}')}, 0")

    def both(self, *conditions: str) -> str:
        """Whether all conditions hold."""
        return reduce(lambda x, y: self.emit(f"and i1 {x}, {y}"), conditions)

    def define(self, symbol: str, result: str, parameters: str, ending: str, linkage: str = "internal ") -> str:
        """The text of the function, which ends with `ending`."""
        body = "\n".join(self.lines)
        return (
            f"define {linkage}{result} @{symbol}({parameters}) noinline {self.module.attributes} {{\n"
            f"entry:\n{body}\n  {ending}\n}}\n"
        )

    def opaque(self, pointer: str) -> str:
        """The same, hidden from LLVM's strength reduction, which would keep more addresses than there are registers."""
        return self.emit(f'call ptr asm "", "=r,0"(ptr {pointer})')

    def place(self, base: str, offset: str, kind: str = "") -> str:
        """The address of an element."""
        return self.emit(f"getelementptr inbounds {kind or self.type}, ptr {base}, i64 {offset}")

    def get(self, base: str, offset: str, kind: str = "") -> str:
        """An element."""
        return self.emit(f"load {kind or self.type}, ptr {self.place(base, offset, kind)}")

    def put(self, text: str, base: str, offset: str) -> None:
        """Write an element."""
        self.do(f"store {self.type} {text}, ptr {self.place(base, offset)}")

    def at(self, row: str, width: str, column: str) -> str:
        """The offset of a matrix element."""
        start = self.emit(f"mul nsw i64 {row}, {width}")
        return self.emit(f"add nsw i64 {start}, {column}")

    def variable(self, kind: str, init: str) -> str:
        """Memory for one value."""
        name = self.fresh("var")
        # Loads and stores of a whole vector take it to be as aligned as it is long.
        self.lines.insert(0, f"  {name} = alloca {kind}, align {64 if kind.startswith('<') else 8}")
        self.do(f"store {kind} {init}, ptr {name}")
        return name

    def integer(self, text: str) -> str:
        """A 32-bit integer in memory, as LAPACK takes them."""
        return self.variable("i32", self.emit(f"trunc i64 {text} to i32"))

    def leave(self, condition: str, status: int) -> None:
        """Return a status where the condition holds."""
        out, on = self.label("out"), self.label("on")
        self.do(f"br i1 {condition}, label %{out}, label %{on}")
        self.begin(out)
        self.do(f"ret i32 {status}")
        self.begin(on)

    def lapack(self, routine: str, args: list[str]) -> None:
        """Call LAPACK; every argument is a pointer."""
        symbol = f"{PREFIX}{_LETTER[self.dtype]}{routine}"
        self.module.declare(f"declare void @{symbol}({', '.join(['ptr'] * len(args))})")
        self.do(f"call void @{symbol}({', '.join(f'ptr {a}' for a in args)})")

    def letter(self, text: str) -> str:
        """A character argument."""
        return self.variable("i8", text)

    def leave_if_empty(self, size: str) -> None:
        self.leave(self.emit(f"icmp sle i64 {size}, 0"), 0)
