"""Kernels written by hand in LLVM IR, and their signatures, for the tests of the calling side."""

from dataclasses import dataclass

import numpy as np

from codegen.entry.signature import ArraySpec, Signature


@dataclass(frozen=True)
class Minus:
    """The size `name - by`."""

    name: str
    by: int

    @property
    def names(self):
        return (self.name,)

    def __call__(self, sizes):
        return sizes[self.name] - self.by

    def __str__(self):
        return f"{self.name} - {self.by}"


def pointers(count):
    """IR that loads the addresses %d0, %d1, ... of the arrays."""
    return "".join(
        f"  %d{i}.at = getelementptr ptr, ptr %data, i64 {i}\n  %d{i} = load ptr, ptr %d{i}.at\n" for i in range(count)
    )


def strided(name, inputs, body, kind="double"):
    """A kernel over one axis of size dims[0]: `body` computes %r from %v0, %v1, ..."""
    lines = []
    for i in range(inputs + 1):
        lines += [f"  %s{i}.at = getelementptr i64, ptr %strides, i64 {i}", f"  %s{i} = load i64, ptr %s{i}.at"]
    steps = []
    for i in range(inputs + 1):
        steps += [f"  %o{i} = mul i64 %i, %s{i}", f"  %p{i} = getelementptr i8, ptr %d{i}, i64 %o{i}"]
    steps += [f"  %v{i} = load {kind}, ptr %p{i}" for i in range(inputs)]
    return f"""
define i32 @{name}(ptr %dims, ptr %data, ptr %strides) {{
entry:
  %n = load i64, ptr %dims
{pointers(inputs + 1)}{chr(10).join(lines)}
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
{chr(10).join(steps)}
{body}
  store {kind} %r, ptr %p{inputs}
  %i.next = add i64 %i, 1
  br label %head
done:
  ret i32 0
}}
define i32 @{name}.shapes(ptr %dims, ptr %out) {{
  %n = load i64, ptr %dims
  store i64 %n, ptr %out
  ret i32 0
}}
"""


MATVEC = f"""
define i32 @matvec(ptr %dims, ptr %data, ptr %strides) {{
entry:
  %m = load i64, ptr %dims
  %n.at = getelementptr i64, ptr %dims, i64 1
  %n = load i64, ptr %n.at
{pointers(3)}
  %s0 = load i64, ptr %strides
  %s1.at = getelementptr i64, ptr %strides, i64 1
  %s1 = load i64, ptr %s1.at
  %s2.at = getelementptr i64, ptr %strides, i64 2
  %s2 = load i64, ptr %s2.at
  %s3.at = getelementptr i64, ptr %strides, i64 3
  %s3 = load i64, ptr %s3.at
  br label %row
row:
  %i = phi i64 [ 0, %entry ], [ %i.next, %store ]
  %i.more = icmp slt i64 %i, %m
  br i1 %i.more, label %col, label %done
col:
  %j = phi i64 [ 0, %row ], [ %j.next, %step ]
  %sum = phi double [ 0.0, %row ], [ %sum.next, %step ]
  %j.more = icmp slt i64 %j, %n
  br i1 %j.more, label %step, label %store
step:
  %oi = mul i64 %i, %s0
  %oj = mul i64 %j, %s1
  %ox = mul i64 %j, %s2
  %pi = getelementptr i8, ptr %d0, i64 %oi
  %pij = getelementptr i8, ptr %pi, i64 %oj
  %px = getelementptr i8, ptr %d1, i64 %ox
  %w = load double, ptr %pij
  %x = load double, ptr %px
  %wx = fmul double %w, %x
  %sum.next = fadd double %sum, %wx
  %j.next = add i64 %j, 1
  br label %col
store:
  %or = mul i64 %i, %s3
  %pr = getelementptr i8, ptr %d2, i64 %or
  store double %sum, ptr %pr
  %i.next = add i64 %i, 1
  br label %row
done:
  ret i32 0
}}
define i32 @matvec.shapes(ptr %dims, ptr %out) {{
  %m = load i64, ptr %dims
  store i64 %m, ptr %out
  ret i32 0
}}
"""

SCALARS = f"""
define i32 @product(ptr %dims, ptr %data, ptr %strides) {{
{pointers(7)}
  %x = load double, ptr %d0
  %y = load double, ptr %d1
  %z = load double, ptr %d2
  %xy = fmul double %x, %y
  %yz = fmul double %y, %z
  %xz = fmul double %x, %z
  %v = fmul double %xy, %z
  store double %v, ptr %d3
  store double %yz, ptr %d4
  store double %xz, ptr %d5
  store double %xy, ptr %d6
  ret i32 0
}}
define i32 @echo(ptr %dims, ptr %data, ptr %strides) {{
{pointers(8)}
  %a = load double, ptr %d0
  %b = load float, ptr %d1
  %c = load i64, ptr %d2
  %e = load i8, ptr %d3
  store double %a, ptr %d4
  store float %b, ptr %d5
  store i64 %c, ptr %d6
  store i8 %e, ptr %d7
  ret i32 0
}}
define i32 @nothing(ptr %dims, ptr %data, ptr %strides) {{
  ret i32 0
}}
define i32 @iota(ptr %dims, ptr %data, ptr %strides) {{ ; result[i] = i for i < dims[0]
entry:
  %n = load i64, ptr %dims
  %d0 = load ptr, ptr %data
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %p = getelementptr i64, ptr %d0, i64 %i
  store i64 %i, ptr %p
  %i.next = add i64 %i, 1
  br label %head
done:
  ret i32 0
}}
define i32 @iota.shapes(ptr %dims, ptr %out) {{
  %n = load i64, ptr %dims
  store i64 %n, ptr %out
  ret i32 0
}}
define i32 @huge(ptr %dims, ptr %data, ptr %strides) {{
  ret i32 0
}}
define i32 @huge.shapes(ptr %dims, ptr %out) {{ ; one small result, then one that no machine can hold
  store i64 3, ptr %out
  %second = getelementptr i64, ptr %out, i64 1
  store i64 1152921504606846975, ptr %second
  ret i32 0
}}
define i32 @root(ptr %dims, ptr %data, ptr %strides) {{ ; two results; status 7 below zero, 9 at zero
{pointers(3)}
  %x = load double, ptr %d0
  %negative = fcmp olt double %x, 0.0
  %zero = fcmp oeq double %x, 0.0
  %s = call double @sqrt(double %x)
  store double %s, ptr %d1
  store double %x, ptr %d2
  %a = select i1 %zero, i32 9, i32 0
  %b = select i1 %negative, i32 7, i32 %a
  ret i32 %b
}}
define i32 @root.shapes(ptr %dims, ptr %out) {{ ; second result: one element
  store i64 1, ptr %out
  ret i32 0
}}
declare double @sqrt(double)
define i32 @wait(ptr %dims, ptr %data, ptr %strides) {{ ; waits until x[0] is not 0; status 1 when nobody sets it
entry:
  %d0 = load ptr, ptr %data
  br label %spin
spin:
  %i = phi i64 [ 0, %entry ], [ %i.next, %again ]
  %x = load volatile double, ptr %d0
  %set = fcmp une double %x, 0.0
  br i1 %set, label %done, label %again
again:
  %i.next = add i64 %i, 1
  %late = icmp ugt i64 %i, 2000000000
  br i1 %late, label %stuck, label %spin
done:
  ret i32 0
stuck:
  ret i32 1
}}
"""

CHECKED = """
define i32 @inner.check(ptr %dims, ptr %shapes) {
  %n = load i64, ptr %dims
  %second = getelementptr i64, ptr %shapes, i64 1
  %size = load i64, ptr %second
  %want = sub i64 %n, 1
  %same = icmp eq i64 %size, %want
  %status = select i1 %same, i32 0, i32 1
  ret i32 %status
}
"""

TEXT = (
    strided("add3", 3, "  %t = fadd double %v0, %v1\n  %r = fadd double %t, %v2")
    + strided("scale32", 1, "  %r = fmul float %v0, 3.0", "float")
    + strided("double64", 1, "  %r = mul i64 %v0, 2", "i64")
    + strided("invert", 1, "  %r = xor i8 %v0, 1", "i8")
    + strided("inner", 2, "  %r = fadd double %v0, 0.5")
    + MATVEC
    + SCALARS
    + CHECKED
)
NAMES = [line.split("@")[1].split("(")[0] for line in TEXT.splitlines() if line.startswith("define")]


def f64(name, *axes):
    return ArraySpec(name, "f64", axes)


ADD3 = Signature("add3", ("n",), (f64("x", "n"), f64("y", "n"), f64("z", "n")), (f64("r", "n"),), single=True)
MATVEC_SIGNATURE = Signature("matvec", ("m", "n"), (f64("W", "m", "n"), f64("x", "n")), (f64("y", "m"),), single=True)
PRODUCT = Signature("product", (), (f64("x"), f64("y"), f64("z")), (f64("v"), f64("gx"), f64("gy"), f64("gz")))
ECHO_KINDS = ("f64", "f32", "i64", "bool")
ECHO = Signature(
    "echo",
    (),
    tuple(ArraySpec("abce"[i], kind) for i, kind in enumerate(ECHO_KINDS)),
    tuple(ArraySpec("pqrs"[i], kind) for i, kind in enumerate(ECHO_KINDS)),
)
ROOT = Signature(
    "root",
    (),
    (f64("x"),),
    (f64("s"), f64("same", 1)),
    statuses={7: "x has to be positive", 9: lambda sizes: ZeroDivisionError(f"x is zero {dict(sizes)}")},
)
INNER = Signature("inner", ("n",), (f64("x", "n"), f64("z", Minus("n", 1))), (f64("r", "n"),), single=True)
IOTA = Signature("iota", ("n",), (), (ArraySpec("r", "i64", ("n",)),), single=True, given=("n",))
WAIT = Signature("wait", ("n",), (f64("x", "n"),), (), statuses={1: "nobody came"})


RNG = np.random.default_rng(20261121)


def vectors(n=6):
    """Three vectors for the kernel that adds three."""
    return RNG.standard_normal((3, n))


def outcome(function, *args, **named):
    """What a call gives, or the error it raises, in a form that compares exactly."""
    try:
        answer = function(*args, **named)
    except Exception as error:
        return type(error), str(error)
    items = answer if isinstance(answer, tuple) else (answer,)
    return [(type(i), np.asarray(i).dtype, np.shape(i), np.asarray(i).tobytes()) for i in items]
