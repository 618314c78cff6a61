"""Tests on another device: what moves there, what does not, and what is left out."""

import os
import subprocess
import sys
from pathlib import Path

import on_device
import pytest
import torch

from hyena import HyenaOperator

HERE = Path(__file__).parent


def test_what_a_test_makes_is_on_the_device() -> None:
    there = on_device.Torch("meta")
    made = there.randn(2, 3, requires_grad=True)
    assert (made.device.type, made.requires_grad, made.is_leaf) == ("meta", True, True)
    assert there.zeros(2, device="cpu").device.type == "cpu"
    assert there.float32 is torch.float32
    assert there.zeros_like(made).device == made.device


def test_numbers_are_those_of_the_cpu() -> None:
    a, b = (
        x.randn(5, generator=torch.Generator().manual_seed(3))
        for x in (torch, on_device.Torch("cpu"))
    )
    assert torch.equal(a, b)


def test_a_module_that_a_test_makes_is_moved() -> None:
    init = on_device._moving_module(HyenaOperator.__init__, "meta")
    moved, named = (HyenaOperator.__new__(HyenaOperator) for _ in range(2))
    init(moved, 4, 8)
    assert {x.device.type for x in (*moved.parameters(), *moved.buffers())} == {"meta"}
    init(named, 4, 8, device="cpu")
    assert named.in_proj.weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("ops/test_x.py", ""),
        ("ops/native/test_x.py", "it is about the CPU, its kernel or files"),
        ("training/test_x.py", "HYENA_TEST_DEVICE is of the tests of ops, filters, mixers, model"),
    ],
)
def test_what_is_left_out_says_why(path: str, why: str) -> None:
    assert on_device.why_not(HERE / path, False, {}) == why


@pytest.mark.parametrize(
    ("marked", "arguments"), [(True, {}), (False, {"u": torch.ones(2), "backend": "native"})]
)
def test_what_is_of_the_cpu_is_left_out(marked: bool, arguments: dict[str, object]) -> None:
    why = on_device.why_not(HERE / "ops" / "test_x.py", marked, arguments)
    assert why.startswith("it is about the CPU")


def test_a_device_without_numbers_is_refused() -> None:
    with pytest.raises(pytest.UsageError, match="no numbers to compare"):
        on_device.check("meta")


def test_a_device_that_is_not_there_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(HERE / "test_on_device.py")],
        env={**os.environ, "HYENA_TEST_DEVICE": "nowhere"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: HYENA_TEST_DEVICE=nowhere: no such device here: " in done.stderr
    assert "Traceback" not in done.stderr
