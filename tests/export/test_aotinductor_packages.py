"""A package of AOTInductor."""

import shutil
from pathlib import Path

import pytest
import torch
from comparison import assert_close
from small_exports import TOLERANCE, model_of, tokens
from torch._inductor import config

from hyena.export import to_aotinductor
from hyena.export.parity import loaded

# Made for one package, headers are not compiled ahead; and a test program for each instruction set
# that the processor has would take as long as the model.
SOON_COMPILED = {
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "aot_inductor.precompile_headers": False,
    "cpp.vec_isa_ok": True,
}


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


def test_what_cannot_be_a_package_is_told_in_a_line(tmp_path: Path) -> None:
    model = model_of("attention", layers=1)
    with pytest.raises(ValueError, match=r"expected a path that ends in \.pt2, got model\.so"):
        to_aotinductor(model, "model.so")
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(RuntimeError, match=r"expected a C\+\+ compiler, which makes the"),
    ):
        to_aotinductor(model, tmp_path / "model.pt2")
