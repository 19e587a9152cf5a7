"""What C calls each elementwise op, and the small functions that a generated file brings along.

Every helper follows NumPy where C99's own function does not: maxima pass NaN on, remainders take the divisor's sign.
Singular matrices give NaN; an index out of range or a lack of memory ends the program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

C_TYPES: Mapping[str, str] = {"f64": "double", "f32": "float", "i64": "int64_t", "bool": "bool"}

# Binding strength of C operators, weakest first.
CHOICE, OR, AND, EQUAL, COMPARE, ADD, MUL, UNARY, ATOM = range(9)

BINARY: Mapping[str, tuple[str, int]] = {
    "add": ("+", ADD), "sub": ("-", ADD), "mul": ("*", MUL), "div": ("/", MUL), "lt": ("<", COMPARE),
    "le": ("<=", COMPARE), "gt": (">", COMPARE), "ge": (">=", COMPARE), "eq": ("==", EQUAL), "ne": ("!=", EQUAL),
    "and": ("&&", AND), "or": ("||", OR), "xor": ("!=", EQUAL),
}  # fmt: skip

CALLS: Mapping[str, str] = {
    "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log", "log2": "log2", "log10": "log10", "log1p": "log1p",
    "sqrt": "sqrt", "cbrt": "cbrt", "sin": "sin", "cos": "cos", "tan": "tan", "arcsin": "asin", "arccos": "acos",
    "arctan": "atan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "arctan2": "atan2", "hypot": "hypot", "floor": "floor", "ceil": "ceil", "round": "rint",
    "trunc": "trunc", "erf": "erf", "erfc": "erfc", "lgamma": "lgamma", "abs": "fabs", "sign": "sign",
    "sigmoid": "sigmoid", "softplus": "softplus", "logaddexp": "logaddexp", "relu": "relu",
    "maximum": "maximum", "minimum": "minimum", "clip": "clip", "mod": "mod", "floor_divide": "floor_divide",
    "digamma": "digamma", "pow": "pow",
}  # fmt: skip
INTEGER_CALLS: Mapping[str, str] = {
    "maximum": "imaximum", "minimum": "iminimum", "clip": "iclip", "mod": "imod", "floor_divide": "ifloor_divide",
    "abs": "llabs", "sign": "isign", "floor": "", "ceil": "", "round": "", "trunc": "",
}  # fmt: skip

# What one application costs to do again, in multiplications; anything not named costs as much as a function call.
WEIGHTS: Mapping[str, int] = {
    **dict.fromkeys(("add", "sub", "mul", "neg", "not", "cast", *BINARY), 1), "div": 2, "select": 2,
    **dict.fromkeys(("relu", "maximum", "minimum", "abs", "sign"), 2),
}  # fmt: skip
HEAVY = 8

_LU = """\
/* Factors a in place with row exchanges; the sign of the permutation, 0 when a is singular. */
static int lu(long n, double *a, long *rows)
{
    int sign = 1;
    for (long i = 0; i < n; i++)
        rows[i] = i;
    for (long k = 0; k < n; k++) {
        long best = k;
        for (long i = k + 1; i < n; i++)
            if (fabs(a[i*n + k]) > fabs(a[best*n + k]))
                best = i;
        if (!(fabs(a[best*n + k]) > 0))
            return 0;
        if (best != k) {
            for (long j = 0; j < n; j++) {
                double held = a[k*n + j];
                a[k*n + j] = a[best*n + j];
                a[best*n + j] = held;
            }
            long row = rows[k];
            rows[k] = rows[best];
            rows[best] = row;
            sign = -sign;
        }
        for (long i = k + 1; i < n; i++) {
            a[i*n + k] /= a[k*n + k];
            for (long j = k + 1; j < n; j++)
                a[i*n + j] -= a[i*n + k]*a[k*n + j];
        }
    }
    return sign;
}"""

_SOLVE = """\
/* x with a x = b, b and x of shape (n, k); NaN when a is singular. */
static void solve(long n, long k, const double *a, const double *b, double *x)
{
    double *f = reserve(n*n, sizeof *f);
    long *rows = reserve(n, sizeof *rows);
    for (long i = 0; i < n*n; i++)
        f[i] = a[i];
    int sign = lu(n, f, rows);
    for (long c = 0; c < k; c++) {
        for (long i = 0; i < n; i++) {
            double s = b[rows[i]*k + c];
            for (long j = 0; j < i; j++)
                s -= f[i*n + j]*x[j*k + c];
            x[i*k + c] = sign ? s : NAN;
        }
        for (long i = n - 1; i >= 0; i--) {
            double s = x[i*k + c];
            for (long j = i + 1; j < n; j++)
                s -= f[i*n + j]*x[j*k + c];
            x[i*k + c] = s/f[i*n + i];
        }
    }
    free(f);
    free(rows);
}"""

_DETERMINANT = """\
/* The sign of det a, and log |det a|. */
static int slogdet(long n, const double *a, double *logarithm)
{
    double *f = reserve(n*n, sizeof *f);
    long *rows = reserve(n, sizeof *rows);
    for (long i = 0; i < n*n; i++)
        f[i] = a[i];
    int sign = lu(n, f, rows);
    *logarithm = sign ? 0 : -INFINITY;
    for (long i = 0; i < n && sign; i++) {
        *logarithm += log(fabs(f[i*n + i]));
        sign = f[i*n + i] < 0 ? -sign : sign;
    }
    free(f);
    free(rows);
    return sign;
}"""

HELPERS: Mapping[str, str] = {
    "reserve": (
        "static void *reserve(long count, size_t size)\n{\n    void *p = calloc(count > 0 ? (size_t)count : 1, size);\n"
        "    if (!p)\n        abort();\n    return p;\n}"
    ),
    "place": (
        "/* An index, counted from the end when negative. */\nstatic long place(long i, long n)\n{\n"
        "    if (i < -n || i >= n)\n        abort();\n    return i < 0 ? i + n : i;\n}"
    ),
    "maximum": "static double maximum(double x, double y)\n{\n    return x >= y || x != x ? x : y;\n}",
    "minimum": "static double minimum(double x, double y)\n{\n    return x <= y || x != x ? x : y;\n}",
    "clip": (
        "static double clip(double x, double low, double high)\n{\n    return minimum(maximum(x, low), high);\n}"
    ),
    "relu": "static double relu(double x)\n{\n    return x > 0 ? x : 0*x;\n}",
    "sign": "static double sign(double x)\n{\n    return x != x ? x : (x > 0) - (x < 0);\n}",
    "sigmoid": "static double sigmoid(double x)\n{\n    return 1/(1 + exp(-x));\n}",
    "softplus": "static double softplus(double x)\n{\n    return maximum(x, 0) + log1p(exp(-fabs(x)));\n}",
    "logaddexp": (
        "static double logaddexp(double x, double y)\n{\n"
        "    return x == y ? x + log(2) : maximum(x, y) + log1p(exp(-fabs(x - y)));\n}"
    ),
    "mod": (
        "static double mod(double x, double y)\n{\n    double r = fmod(x, y);\n"
        "    return r != 0 && (r < 0) != (y < 0) ? r + y : r;\n}"
    ),
    "floor_divide": (
        "static double floor_divide(double x, double y)\n{\n    return y == 0 ? x/y : rint((x - mod(x, y))/y);\n}"
    ),
    "imaximum": "static int64_t imaximum(int64_t x, int64_t y)\n{\n    return x > y ? x : y;\n}",
    "iminimum": "static int64_t iminimum(int64_t x, int64_t y)\n{\n    return x < y ? x : y;\n}",
    "iclip": (
        "static int64_t iclip(int64_t x, int64_t low, int64_t high)\n{\n"
        "    return iminimum(imaximum(x, low), high);\n}"
    ),
    "isign": "static int64_t isign(int64_t x)\n{\n    return (x > 0) - (x < 0);\n}",
    "imod": (
        "static int64_t imod(int64_t x, int64_t y)\n{\n    int64_t r = y == 0 || y == -1 ? 0 : x % y;\n"
        "    return r != 0 && (r < 0) != (y < 0) ? r + y : r;\n}"
    ),
    "ifloor_divide": (
        "static int64_t ifloor_divide(int64_t x, int64_t y)\n{\n    return y == 0 ? 0 : (x - imod(x, y))/y;\n}"
    ),
    "digamma": (
        "/* Upwards by the recurrence, then the asymptotic series (DLMF 5.5.2, 5.11.2). */\n"
        "static double digamma(double x)\n{\n    double s = 0;\n    if (x <= 0 && x == floor(x))\n        return NAN;\n"
        "    if (x < 0)\n        return digamma(1 - x) - 3.14159265358979323846/tan(3.14159265358979323846*x);\n"
        "    for (; x < 12; x++)\n        s -= 1/x;\n    double z = 1/(x*x);\n"
        "    return s + log(x) - 0.5/x - z*(1.0/12 - z*(1.0/120 - z*(1.0/252 - z*(1.0/240 - z*(1.0/132\n"
        "        - z*691.0/32760)))));\n}"
    ),
    "lu": _LU,
    "solve": _SOLVE,
    "slogdet": _DETERMINANT,
    "determinant": (
        "static double determinant(long n, const double *a)\n{\n    double *f = reserve(n*n, sizeof *f);\n"
        "    long *rows = reserve(n, sizeof *rows);\n    for (long i = 0; i < n*n; i++)\n        f[i] = a[i];\n"
        "    double s = lu(n, f, rows);\n    for (long i = 0; i < n; i++)\n        s *= f[i*n + i];\n"
        "    free(f);\n    free(rows);\n    return s;\n}"
    ),
    "logabsdet": (
        "static double logabsdet(long n, const double *a)\n{\n    double s;\n    slogdet(n, a, &s);\n    return s;\n}"
    ),
    "signdet": (
        "static double signdet(long n, const double *a)\n{\n    double s;\n    return slogdet(n, a, &s);\n}"
    ),
    "inverse": (
        "static void inverse(long n, const double *a, double *x)\n{\n    double *b = reserve(n*n, sizeof *b);\n"
        "    for (long i = 0; i < n; i++)\n        b[i*n + i] = 1;\n    solve(n, n, a, b, x);\n    free(b);\n}"
    ),
    "cholesky": (
        "/* The lower factor of the symmetric part; NaN when that is not positive definite. */\n"
        "static void cholesky(long n, const double *a, double *l)\n{\n    for (long i = 0; i < n; i++)\n"
        "        for (long j = 0; j < n; j++) {\n            double s = (a[i*n + j] + a[j*n + i])/2;\n"
        "            for (long k = 0; k < j && j <= i; k++)\n                s -= l[i*n + k]*l[j*n + k];\n"
        "            l[i*n + j] = j > i ? 0 : i == j ? (s > 0 ? sqrt(s) : NAN) : s/l[j*n + j];\n        }\n}"
    ),
    "triangular": (
        "/* x with T x = b, T the lower or upper triangle of a or its transpose. */\n"
        "static void triangular(long n, long k, int lower, int trans, const double *a, const double *b, double *x)\n{\n"
        "    int forward = lower != trans;\n    for (long c = 0; c < k; c++)\n        for (long r = 0; r < n; r++) {\n"
        "            long i = forward ? r : n - 1 - r;\n            double s = b[i*k + c];\n"
        "            for (long q = 0; q < r; q++) {\n                long j = forward ? q : n - 1 - q;\n"
        "                s -= (trans ? a[j*n + i] : a[i*n + j])*x[j*k + c];\n            }\n"
        "            x[i*k + c] = a[i*n + i] != 0 ? s/a[i*n + i] : NAN;\n        }\n}"
    ),
}


def helpers_for(body: str) -> list[str]:
    """The helpers that a body calls, directly or through others, in order of definition."""
    needed: set[str] = set()
    pending = [body]
    while pending:
        text = pending.pop()
        for name in HELPERS:
            if name not in needed and re.search(rf"(?<![\w.]){name}\(", text):
                needed.add(name)
                pending.append(HELPERS[name])
    return [text for name, text in HELPERS.items() if name in needed]
