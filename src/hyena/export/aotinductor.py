"""A model compiled ahead of time, for Python and C++ programs that have PyTorch alone."""

from pathlib import Path

import torch

from hyena.export.program import Output, to_program
from hyena.export.quiet import quiet
from hyena.model import LanguageModel


def to_aotinductor(
    model: LanguageModel,
    path: str | Path,
    *,
    length: int | None = None,
    output: Output | None = None,
) -> None:
    """Compiles the program of `hyena.export.to_program` for this machine's processor, into a
    package that `torch._inductor.aoti_load_package` opens.

    Args: model, length and output as of `hyena.export.to_program`; ``path`` ends in .pt2, and is
        replaced.

    Raises: as `hyena.export.to_program`; ValueError on another path; RuntimeError without a C++
        compiler.
    """
    if not str(path).endswith(".pt2"):
        raise ValueError(f"to_aotinductor: expected a path that ends in .pt2, got {path}")
    _check_compiler()
    program = to_program(model, length=length, output=output)
    with quiet(), torch.no_grad():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def _check_compiler() -> None:
    """Before the work that would be in vain without."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise RuntimeError(
            "to_aotinductor: expected a C++ compiler, which makes the package, and found none; "
            "install g++ or clang++, or name one in the environment variable CXX"
        ) from error
