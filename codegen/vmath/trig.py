"""sin cos tan and the fused sincos.

|x| = n pi/2 + r with |r| <= pi/4 as a pair r.hi + r.lo, then polynomials in r^2; the sign of x comes back at the end.
Up to 8e5 four fmas with the parts of pi/2 reduce, and only the last is rounded. Larger arguments are rare: up to 1e14
the products with longer parts are carried as pairs; beyond, lane by lane, the mantissa times the 192 bits of 2/pi that
matter (Payne and Hanek), in integers, the same bits on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from . import tables
from .build import Build, Value, float_text
from .double import Pair, fast_two_sum, rounded_quotient

TWO_OVER_PI = 0.6366197723675814
PI_2 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
# The same with a second part of 33 bits: for n <= 2**19 its products are exact, and so is what they leave.
_SHORT = (PI_2[0], float.fromhex("0x1.1a626331p-54"), float.fromhex("0x1.1701b839a252p-88"))
NEAR, FAST_LIMIT = 8e5, 1e14
_SIGN = -(1 << 63)
_INF = float("inf")
_NAN = float("nan")

# The first 1300 bits of 2/pi, as an integer.
_TWO_OVER_PI_BITS = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73e"
    "e88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b7"
    "4f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361da9e39", 16)
_FRONT, _WORDS = 128, 24  # zero bits in front of the point; 64-bit words of the table


def _table_words() -> list[int]:
    """Little-endian words of 0.(2/pi) preceded by _FRONT zero bits and padded at the low end."""
    whole = _TWO_OVER_PI_BITS << (64 * _WORDS - _FRONT - 1300)
    return [(whole >> (64 * i)) & (2**64 - 1) for i in range(_WORDS)]


def _reducer(symbol: str) -> str:
    """Scalar helper: x (finite, at least 2**46) -> quadrant and the remainder pair.

    Any other x gives some number: callers drop it.
    """
    words = ", ".join(f"i64 {w - 2**64 if w >> 63 else w}" for w in _table_words())
    high, low = (float_text(part, "f64") for part in PI_2[:2])
    return f"""{symbol}.bits = internal unnamed_addr constant [{_WORDS} x i64] [{words}]
define internal {{ i64, double, double }} {symbol}.reduce(double %x) noinline cold nounwind {{
  %word = bitcast double %x to i64
  %exponent.raw = lshr i64 %word, 52
  %exponent = and i64 %exponent.raw, 2047
  %fraction = and i64 %word, {2**52 - 1}
  %mantissa = or i64 %fraction, {2**52}
  ; bit position of the 192-bit window counted from the low end of the table
  %position.raw = sub i64 {64 * _WORDS - 192 - _FRONT + 1077}, %exponent
  %position = call i64 @llvm.umin.i64(i64 %position.raw, i64 {64 * _WORDS - 256})
  %byte = lshr i64 %position, 3
  %odd = and i64 %position, 7
  %place = getelementptr i8, ptr {symbol}.bits, i64 %byte
  %loaded = load i256, ptr %place, align 1
  %odd.wide = zext i64 %odd to i256
  %aligned = lshr i256 %loaded, %odd.wide
  %window = trunc i256 %aligned to i192
  %mantissa.wide = zext i64 %mantissa to i192
  %turns = mul i192 %window, %mantissa.wide
  %quadrant.wide = lshr i192 %turns, 190
  %quadrant.floor = trunc i192 %quadrant.wide to i64
  %rest = shl i192 %turns, 2
  %negative = icmp slt i192 %rest, 0
  %up = zext i1 %negative to i64
  %quadrant = add i64 %quadrant.floor, %up
  %rest.negated = sub i192 0, %rest
  %size = select i1 %negative, i192 %rest.negated, i192 %rest
  %first.wide = lshr i192 %size, 139
  %first = trunc i192 %first.wide to i64
  %second.wide = lshr i192 %size, 75
  %second = trunc i192 %second.wide to i64
  %first.float = uitofp i64 %first to double
  %second.float = uitofp i64 %second to double
  %a = fmul double %first.float, {float_text(2.0**-53, 'f64')}
  %b = fmul double %second.float, {float_text(2.0**-117, 'f64')}
  %hi = fadd double %a, %b
  %gone = fsub double %hi, %a
  %lo = fsub double %b, %gone
  %p = fmul double %hi, {high}
  %p.negated = fneg double %p
  %e0 = call double @llvm.fma.f64(double %hi, double {high}, double %p.negated)
  %e1 = call double @llvm.fma.f64(double %hi, double {low}, double %e0)
  %e = call double @llvm.fma.f64(double %lo, double {high}, double %e1)
  %p.minus = fneg double %p
  %e.minus = fneg double %e
  %r.hi = select i1 %negative, double %p.minus, double %p
  %r.lo = select i1 %negative, double %e.minus, double %e
  %out.0 = insertvalue {{ i64, double, double }} poison, i64 %quadrant, 0
  %out.1 = insertvalue {{ i64, double, double }} %out.0, double %r.hi, 1
  %out.2 = insertvalue {{ i64, double, double }} %out.1, double %r.lo, 2
  ret {{ i64, double, double }} %out.2
}}
"""


def _reduce_lane(b: Build, lane: str) -> list[tuple[str, str]]:
    """Call the scalar helper on one lane; it is emitted with the function that needs it."""
    b.helpers[f"{b.symbol}.reduce"] = _reducer(b.symbol)
    b.intrinsics.add("declare i64 @llvm.umin.i64(i64, i64)")
    b.intrinsics.add("declare double @llvm.fma.f64(double, double, double)")
    result = "{ i64, double, double }"
    called = b.emit("tuple", f"call {result} {b.symbol}.reduce(double {lane})").text
    kinds = ("i64", "f64", "f64")
    return [(b.emit(kind, f"extractvalue {result} {called}, {i}").text, kind) for i, kind in enumerate(kinds)]


def reduce(b: Build, size: Value, turns: int = 0) -> tuple[Value, Pair]:
    """Quadrant, plus `turns`, (in the low two bits) and remainder of size >= 0 modulo pi/2."""
    n, word = b.rint_of_product(size, TWO_OVER_PI, turns)
    first = b.fma(n, -_SHORT[0], size)
    hi = b.fma(n, -_SHORT[1], first)
    lo = b.fma(n, -_SHORT[2], b.fma(n, -_SHORT[1], first - hi))

    def far() -> list[Value]:
        large, (q, *pair) = size > NEAR, b.outlined("far", [size], _reduce_far)
        parts = [b.select(large, new, old) for new, old in zip(pair, (hi, lo), strict=True)]
        return [b.select(large, q + turns, word), *parts]

    word, hi, lo = b.rare(size > NEAR, (word, hi, lo), far)
    return word, Pair(hi, lo)


def _reduce_far(b: Build, inputs: Sequence[Value]) -> list[Value]:
    """Quadrant and remainder of any number >= 0."""
    size = inputs[0]
    n, word = b.rint_of_product(size, TWO_OVER_PI)
    first = b.fma(n, -PI_2[0], size)
    second = n * PI_2[1]
    second_low = b.fma(n, PI_2[1], -second)
    # A fast two-sum is exact although |first| < |second| can happen: first is a multiple of second's last bit.
    t = first - second
    lo = b.fma(n, -PI_2[2], ((first - t) - second) - second_low)
    return b.rare(size > FAST_LIMIT, (word, t, lo), lambda: exact_reduction(b, size, word, t, lo))


def exact_reduction(b: Build, size: Value, word: Value, *remainder: Value) -> list[Value]:
    """Beyond FAST_LIMIT lane by lane; elsewhere the given word and remainder (one part or two)."""
    q, *exact = b.outlined("exact", [size], lambda inner, inputs: inner.lanes(inputs[0], partial(_reduce_lane, inner)))
    large, finite = size > FAST_LIMIT, size < _INF
    parts = [b.select(large, new, old) for new, old in zip(exact, remainder, strict=False)]
    return [b.select(large, q, word), b.select(large & ~finite, _NAN, parts[0]), *parts[1:]]


def sin_parts(b: Build, r: Pair) -> Pair:
    """sin(r), |r| <= pi/4, as its leading term and the rest."""
    z = r.hi * r.hi
    return Pair(r.hi, b.fma(z * r.hi, b.polynomial(z, tables.SIN), r.lo))


def cos_parts(b: Build, r: Pair) -> Pair:
    z = r.hi * r.hi
    head, tail = _cos_start(b, r, z)
    return Pair(head, b.fma(z * z, b.polynomial(z, tables.COS), tail))


def _cos_start(b: Build, r: Pair, z: Value) -> Pair:
    """1 - z/2 - r.hi r.lo"""
    head = b.fma(z, -0.5, 1.0)
    return Pair(head, b.fma(-r.hi, r.lo, b.fma(z, -0.5, 1.0 - head)))


def _one_of(b: Build, r: Pair, word: Value) -> Value:
    """cos(r) in the odd lanes, sin(r) in the others: one polynomial with selected coefficients."""
    z, odd = r.hi * r.hi, is_odd(b, word)
    head, tail = _cos_start(b, r, z)
    start, low = b.select(odd, head, r.hi), b.select(odd, tail, r.lo)
    mixed = mixed_coefficients(b, word, tables.COS, tables.SIN)
    return start + b.fma(z * b.select(odd, z, r.hi), b.polynomial(z, mixed), low)


def is_odd(b: Build, word: Value) -> Value:
    return b.compare("one", "ne", word & 1, 0)


def mixed_coefficients(b: Build, word: Value, odd: Sequence[float], even: Sequence[float]) -> list[Value]:
    """For every lane one of two polynomials, by the last bit of the word."""
    ones = 0 - (word & 1)
    return [b.either(ones, c, s) for c, s in zip(odd, even, strict=True)]


def flip(b: Build, y: Value, word: Value, x: Value | None = None) -> Value:
    """-y where bit 1 of the word is set; with x, where just one of that bit and the sign of x is set."""
    sign = word << 62
    return b.float(b.bits(y) ^ ((sign if x is None else sign ^ b.bits(x)) & _SIGN))


def sin(b: Build, x: Value) -> Value:
    word, r = reduce(b, b.fabs(x))
    return flip(b, _one_of(b, r, word), word, x)


def cos(b: Build, x: Value) -> Value:
    # cos(x) = sin(x + pi/2), of which only the quadrant matters
    word, r = reduce(b, b.fabs(x), turns=1)
    return flip(b, _one_of(b, r, word), word)


def sincos(b: Build, x: Value) -> tuple[Value, Value]:
    word, r = reduce(b, b.fabs(x))
    odd, (s, s_low), (c, c_low) = is_odd(b, word), sin_parts(b, r), cos_parts(b, r)
    s, c = s + s_low, c + c_low
    return flip(b, b.select(odd, c, s), word, x), flip(b, b.select(odd, s, c), word + 1)


def tan(b: Build, x: Value) -> Value:
    word, r = reduce(b, b.fabs(x))
    odd = is_odd(b, word)
    slope = b.fma(r.hi * r.hi * -0.5, r.lo, r.lo)  # cos(r.hi) r.lo
    s, c = fast_two_sum(*sin_parts(b, Pair(r.hi, slope))), fast_two_sum(*cos_parts(b, r))
    top = Pair(b.select(odd, -c.hi, s.hi), b.select(odd, -c.lo, s.lo))
    bottom = Pair(b.select(odd, s.hi, c.hi), b.select(odd, s.lo, c.lo))
    return flip(b, rounded_quotient(b, top, bottom), b.const(0, "i64"), x)
