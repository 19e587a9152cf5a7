"""Names as LaTeX symbols: Greek letters, subscripts, accents, bold type."""

from __future__ import annotations

import re

_GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi",
    "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
})  # fmt: skip
_SPELLED = {"eps": r"\varepsilon", "lam": r"\lambda", "ell": r"\ell"}
_ACCENTS = {"hat": r"\hat", "bar": r"\bar", "tilde": r"\tilde", "dot": r"\dot", "vec": r"\vec"}


def symbol_latex(name: str, bold: bool = False) -> str:
    """A name as a symbol: alpha, x_1, w12, y_hat, q_, loss."""
    stripped = name.strip("_") or name
    parts = [p for p in stripped.split("_") if p]
    base, rest = parts[0] if parts else "\\_", parts[1:]
    accents = [p for p in rest if p in _ACCENTS]
    indices = [p for p in rest if p not in _ACCENTS]
    match = re.fullmatch(r"([^\W\d_]+?)(\d+)", base)
    if match:
        base, number = match.groups()
        indices.insert(0, number)
    for accent in _ACCENTS:
        if base.endswith(accent) and base != accent and len(base) - len(accent) <= 2:
            base = base[: -len(accent)]
            accents.insert(0, accent)
    text = _word(base)
    if bold:
        text = rf"\mathbf{{{base}}}" if text == base else rf"\boldsymbol{{{text}}}"
    for accent in accents:
        text = f"{_ACCENTS[accent]}{{{text}}}"
    if indices:
        text += f"_{{{','.join([_index(i) for i in indices])}}}"
    return text


def _word(base: str) -> str:
    if base in _GREEK:
        return "\\" + base
    if base in _SPELLED:
        return _SPELLED[base]
    return base if len(base) == 1 else rf"\mathrm{{{base}}}"


def _index(part: str) -> str:
    if part.isdigit() or part in _GREEK or len(part) == 1:
        return _word(part) if not part.isdigit() else part
    return part if len(part) == 2 and part.isalpha() and part[0] in "ijkl" else rf"\mathrm{{{part}}}"
