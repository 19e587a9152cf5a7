"""Random points satisfy every fact that is declared, alone and together."""

import numpy as np
import pytest

import symdiff as sd
from symdiff.api.points import random_arguments

RNG = np.random.default_rng(7)
HOLDS = {
    "symmetric": lambda x: np.array_equal(x, x.T),
    "positive_definite": lambda x: np.linalg.eigvalsh(x).min() > 0,
    "diagonal": lambda x: np.array_equal(x, np.diag(np.diagonal(x))),
    "lower": lambda x: np.array_equal(x, np.tril(x)),
    "upper": lambda x: np.array_equal(x, np.triu(x)),
    "orthogonal": lambda x: np.allclose(x @ x.T, np.eye(len(x))),
    "positive": lambda x: x.min() > 0,
    "nonnegative": lambda x: x.min() >= 0,
    "nonzero": lambda x: np.all(x != 0),
}


@pytest.mark.parametrize(
    "facts",
    [*[{fact} for fact in HOLDS], {"symmetric", "positive"}, {"symmetric", "nonnegative"}, {"symmetric", "nonzero"},
     {"positive_definite", "positive"}, {"positive_definite", "diagonal"}, {"diagonal", "nonnegative"}],
    ids=lambda facts: "+".join(sorted(facts)),
)  # fmt: skip
def test_points_satisfy_facts(facts):
    symbol = sd.symbol("A", (sd.dim("n"), sd.dim("n")), **dict.fromkeys(facts, True))
    for _ in range(5):
        (x,) = random_arguments([symbol.value], {"n": 4}, RNG)
        assert x.shape == (4, 4) and x.dtype == np.float64
        for fact in facts:
            assert HOLDS[fact](x), fact
