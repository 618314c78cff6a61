"""A package of AOTInductor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comparison import assert_close
from small_exports import TOLERANCE, model_of, tokens
from torch._inductor import config

import hyena
from hyena.export import to_aotinductor
from hyena.export.parity import loaded

# Made for one package, headers are not compiled ahead; and a test program for each instruction set
# that the processor has would take as long as the model.
SOON_COMPILED = {
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "aot_inductor.precompile_headers": False,
    "cpp.vec_isa_ok": True,
}
# What a program without hyena prints of a package.
CHECKED = """
import sys

import torch

run = torch._inductor.aoti_load_package(sys.argv[1])
one, longest = torch.ones(1, 1).long(), torch.ones(2, 200).long()
for ids in (one, longest, torch.ones(2, 201).long(), longest.int(), 1000 * one, -one):
    try:
        print(run(ids).shape[1])
    except RuntimeError:
        print("refused")
"""


@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler"
)
def test_a_package_takes_any_batch_and_length(tmp_path: Path) -> None:
    model = model_of("hyena", layers=1, order=2)
    with config.patch(SOON_COMPILED):
        to_aotinductor(model, tmp_path / "model.pt2")
    run = loaded(tmp_path / "model.pt2", "aotinductor")
    with torch.no_grad():
        for i, length in enumerate((1, 2, 3, 64, 65, 96, 199, 200)):
            ids = tokens(1 + i % 3, length, seed=i)
            assert_close(run(ids), model(ids), TOLERANCE)
    model.save(tmp_path / "saved")
    longer = hyena.load(tmp_path / "saved", length_policy="extrapolate")
    with torch.no_grad():  # which is refused only where checks are asked for
        assert_close(run(tokens(1, 201)), longer(tokens(1, 201)), TOLERANCE)
    words = [sys.executable, "-c", CHECKED, str(tmp_path / "model.pt2")]
    asked = {**os.environ, "AOTI_RUNTIME_CHECK_INPUTS": "1"}
    done = subprocess.run(words, env=asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "200", *["refused"] * 4]


def test_what_cannot_be_a_package_is_told_in_a_line(tmp_path: Path) -> None:
    model = model_of("attention", layers=1)
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(RuntimeError, match=r"expected a C\+\+ compiler, which makes the"),
    ):
        to_aotinductor(model, tmp_path / "model.pt2")
