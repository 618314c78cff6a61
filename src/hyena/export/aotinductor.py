"""A model compiled ahead of time, for Python and C++ programs that have PyTorch alone."""

from pathlib import Path

import torch

from hyena.export.destination import destination, replacing
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

    It checks its inputs only where the environment variable AOTI_RUNTIME_CHECK_INPUTS is 1; else it
    takes int32 ids for int64 ones, and runs on beyond max_length.

    Args: model, length and output as of `hyena.export.to_program`; ``path`` ends in .pt2, and is
        replaced.

    Raises: as `hyena.export.to_program`; ValueError on another path, OSError on one that cannot be
        written, and RuntimeError without a C++ compiler, before anything is done.
    """
    file = destination("to_aotinductor", path, ".pt2")
    _check_compiler()
    program = to_program(model, length=length, output=output)
    with quiet(), torch.no_grad(), replacing(file) as whole:
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(whole), inductor_configs=_checks()
        )


def _checks() -> dict[str, bool]:
    """Of what a package compares inputs with where it is asked to: not with 2 as the least size,
    which PyTorch assumes of sizes that are free, and which would refuse a batch of one row."""
    from torch._inductor import config

    known = hasattr(config.aot_inductor, "check_lowerbound")  # not to the oldest PyTorch
    return {"aot_inductor.check_lowerbound": False} if known else {}


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
