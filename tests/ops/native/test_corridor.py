"""How far it is from `gated_conv` to the kernel: each Python function on the way costs time."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import corridor


@pytest.mark.parametrize(("gradient", "most"), [("without", 8), ("with", 10)])
def test_few_functions_lie_between_the_op_and_the_kernel(gradient: str, most: int) -> None:
    assert 4 <= corridor.frames(gradient) <= most
