"""Functions that differ only in which sizes and pointers they read are written once: layers of a network, for example.

A function reads sizes and pointers from tables, at slots, in its head; everything behind that calls them by the order
in which it came upon them. So those that do the same have the same text, and which slots it reads becomes a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TABLES = "ptr noalias readonly %sz, ptr noalias readonly %pt"
_SLOT = "$slot"
_WORTH = 24
"""Lines from which a function is worth a detour."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A value that is read from a slot of a table when a function begins."""

    name: str
    text: str
    """Lines that read it, with `$slot` for the number."""
    number: int | None = None
    """None: there is no slot in it, it is something else that comes first."""


def reading(name: str, kind: str, table: str, number: int) -> Opening:
    """An element of a table of `kind`."""
    at = f"{name}.at"
    text = f"  {at} = getelementptr inbounds {kind}, ptr {table}, i64 {_SLOT}\n"
    return Opening(name, f"{text}  {name} = load {kind}, ptr {at}, !invariant.load !0", number)


@dataclass(eq=False, slots=True)
class Function:
    """A function of one program.

    parameters: text of those behind the tables, which begins with a comma if there are any.
    """

    symbol: str
    result: str
    parameters: str
    attributes: str
    head: Sequence[Opening]
    body: str

    @property
    def key(self) -> tuple[object, ...]:
        """What is the same in functions that do the same."""
        head = tuple((s.text, s.number is None) for s in self.head)
        return self.result, self.parameters, self.attributes, head, self.body

    def text(self) -> str:
        """The function as it is."""
        head = "\n".join(s.text.replace(_SLOT, str(s.number)) for s in self.head)
        return self._defined(self.symbol, TABLES, f"{head}\n  br label %start\nstart:\n{self.body}")

    def common(self, symbol: str) -> str:
        """The same with its slots as a parameter."""
        head: list[str] = []
        for place, one in enumerate(self.head):
            if one.number is not None:
                at = f"getelementptr inbounds i64, ptr %slots, i64 {place}"
                head.append(f"  %in{place} = {at}\n  %slot{place} = load i64, ptr %in{place}, !invariant.load !0")
            head.append(one.text.replace(_SLOT, f"%slot{place}"))
        lines = "\n".join(head)
        tables = f"{TABLES}, ptr noalias readonly %slots"
        return self._defined(symbol, tables, f"{lines}\n  br label %start\nstart:\n{self.body}")

    def through(self, symbol: str) -> str:
        """The same by calling what is common."""
        numbers = ", ".join(f"i64 {s.number or 0}" for s in self.head)
        slots = f"{self.symbol}.slots"
        given = "".join(f", {word}" for word in self.parameters.removeprefix(", ").split(", ") if word)
        made, back = ("", "") if self.result == "void" else ("%made = ", " %made")
        call = f"  {made}call {self.result} {symbol}(ptr %sz, ptr %pt, ptr {slots}{given})\n  ret {self.result}{back}"
        table = f"{slots} = private unnamed_addr constant [{len(self.head)} x i64] [{numbers}]\n"
        return table + self._defined(self.symbol, TABLES, call)

    def _defined(self, symbol: str, tables: str, body: str) -> str:
        head = f"define internal {self.result} {symbol}({tables}{self.parameters}) {self.attributes}"
        return f"{head} {{\nentry:\n{body}\n}}\n"


def texts(functions: Sequence[Function | str]) -> list[str]:
    """The texts of functions, those that are alike written once."""
    alike: dict[tuple[object, ...], list[Function]] = {}
    for one in functions:
        if isinstance(one, Function) and one.head and one.body.count("\n") >= _WORTH:
            alike.setdefault(one.key, []).append(one)
    common = {id(one): own[0] for own in alike.values() if len(own) > 1 for one in own}
    made: list[str] = []
    for one in functions:
        if isinstance(one, str):
            made.append(one)
        elif id(one) not in common:
            made.append(one.text())
        else:
            first = common[id(one)]
            symbol = f"{first.symbol}.alike"
            made += [first.common(symbol)] if one is first else []
            made.append(one.through(symbol))
    return made
