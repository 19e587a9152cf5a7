"""Native code of random programs with loops, integers, booleans and axes that hold nothing: the interpreter's answers,
for any number of threads and however axes are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codegen_programs import close
from mixed_programs import Mixed

import codegen
from codegen.analysis import cutting
from codegen.kernels import main
from codegen.schedule import split
from symdiff.errors import SymdiffError
from symdiff.interp import interpret

SIZES = (
    {"n": 3, "m": 4, "p": 2}, {"n": 0, "m": 3, "p": 2}, {"n": 33, "m": 17, "p": 5}, {"n": 1, "m": 70, "p": 9},
    {"n": 5, "m": 0, "p": 40},
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(9))
def test_mixed_programs_agree(seed: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = Mixed(seed + 1000 * (dtype == "float32"), dtype)
    function = mixed.function(9)
    threads = 1 + seed % 3
    if seed % 2:  # blocks of a few elements, shared whatever their length
        for module, name, value in (
            (main, "SHARED_WORK", 0), (cutting, "BLOCK_BYTES", 1 << 9), (cutting, "SINGLE_BYTES", 1 << 8),
            (cutting, "PARTS_BYTES", 1 << 11), (split, "SUM_BLOCK", 32), (split, "ROW_BLOCK", 2),
            (split, "_MAP_BLOCK", 64), (split, "_COLUMN_BLOCK", 8),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, value)
    native, alone = (codegen.compile(function, opt=1, threads=k) for k in (threads, 1))
    for number, sizes in enumerate(SIZES):
        given = mixed.arguments(np.random.default_rng([seed, number]), **sizes)
        try:
            expected = interpret(function, given)
        except SymdiffError:  # an extremum or an index of nothing; results that need none are left to themselves
            continue
        got: Any = native(*given)
        for one, other, third in zip(got, expected, alone(*given), strict=True):
            close(one, other, {"float64": 1e-9, "float32": 2e-3}[dtype])
            assert np.asarray(one).tobytes() == np.asarray(third).tobytes()
