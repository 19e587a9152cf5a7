"""Sizes as instructions of LLVM IR: polynomials in the named dimensions of a call, each computed once."""

from __future__ import annotations

from math import lcm

from codegen.llvm.text import Lines
from symdiff.ir.dims import Dim, FloorDiv, Size


class SizeWriter:
    """Writes the values of sizes, each once."""

    def __init__(self, lines: Lines, dims: tuple[str, ...]) -> None:
        self.lines = lines
        self.slots = {name: slot for slot, name in enumerate(dims)}
        self.known: dict[Size, str] = {}

    def value(self, size: Size) -> str:
        """The i64 that a size is."""
        if isinstance(size, int):
            return str(size)
        found = self.known.get(size)
        if found is None:
            found = self._write(size)
            self.known[size] = found
        return found

    def _write(self, size: Dim) -> str:
        lines = self.lines
        # A floor division holds a polynomial of its own; these nest as deep as a user writes them.
        denominator = lcm(*(c.denominator for _, c in size.terms))
        total = ""
        for monomial, coefficient in size.terms:
            factor = int(coefficient * denominator)
            term = "" if factor == 1 and monomial else str(factor)
            for atom, power in monomial:
                own = self._floor(atom) if isinstance(atom, FloorDiv) else self._dimension(atom)
                for _ in range(power):
                    term = own if not term else lines.emit(f"mul i64 {term}, {own}")
            total = term if not total else lines.emit(f"add i64 {total}, {term}")
        return total if denominator == 1 else self._divide(total, denominator)

    def _dimension(self, name: str) -> str:
        key = Dim({((name, 1),): 1})  # pyright: ignore[reportArgumentType]
        found = self.known.get(key)
        if found is None:
            address = self.lines.emit(f"getelementptr inbounds i64, ptr %dims, i64 {self.slots[name]}")
            found = self.lines.emit(f"load i64, ptr {address}")
            self.known[key] = found
        return found

    def _floor(self, atom: FloorDiv) -> str:
        return self._divide(self.value(atom.numerator), atom.divisor)

    def _divide(self, text: str, divisor: int) -> str:
        lines = self.lines
        quotient = lines.emit(f"sdiv i64 {text}, {divisor}")
        back = lines.emit(f"mul i64 {quotient}, {divisor}")
        over = lines.emit(f"icmp sgt i64 {back}, {text}")
        less = lines.emit(f"sub i64 {quotient}, 1")
        return lines.emit(f"select i1 {over}, i64 {less}, i64 {quotient}")
