"""Loading the native kernel: what is loaded, and what is said when nothing is."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hyena.ops import backends, long_conv, why_not_native
from hyena.ops.native import _abi, library
from hyena.ops.native.library import Outcome, load

pytestmark = pytest.mark.cpu


HEADER = Path(__file__).parents[2] / "csrc" / "hyena_kernel.h"
FILE = library.find()
needs_library = pytest.mark.skipif(FILE is None, reason="built without a C++ compiler")


@pytest.fixture
def file() -> Path:
    assert FILE is not None
    return FILE


# What a name of the header is in Python.
STRUCTURES = {
    "hyena_row": _abi.Row,
    "hyena_conv": _abi.Conv,
    "hyena_gradients": _abi.Gradients,
    "hyena_modes": _abi.Modes,
    "hyena_modes_gradients": _abi.ModesGradients,
    "hyena_linear": _abi.Linear,
    "hyena_online": _abi.Online,
    "hyena_step": _abi.Step,
    "hyena_norm": _abi.Norm,
    "hyena_block": _abi.Block,
    "hyena_kernel": _abi.Functions,
}


def ctype(declaration: str) -> object:
    """The ctypes type of a C type: a number, a structure or a pointer."""
    words = declaration.replace("*", " * ").split()
    name = next(word for word in words if word != "const")
    if "*" in words:
        if name == "char":
            return ctypes.c_char_p
        return ctypes.POINTER(STRUCTURES[name]) if name in STRUCTURES else ctypes.c_void_p
    numbers = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "double": ctypes.c_double}
    return STRUCTURES.get(name) or numbers[name]


def without_name(parameter: str) -> str:
    return re.sub(r"\w+$", "", parameter.strip())


def fields(body: str) -> Iterator[tuple[str, object]]:
    """The fields of a struct: their names, and their types; of a function result and arguments."""
    for declaration in re.sub(r"//.*", "", body).replace("\n", " ").split(";"):
        text = declaration.strip()
        if function := re.fullmatch(r"(\w+) \(\*(\w+)\)\((.*)\)", text):
            arguments = tuple(ctype(without_name(a)) for a in function[3].split(","))
            yield function[2], (ctype(function[1]), arguments)
        elif text:
            first, *others = text.split(",")
            kind = ctype(without_name(first))
            for name in (first, *others):
                yield re.findall(r"\w+", name)[-1], kind


def mirror(structure: type[ctypes.Structure]) -> Iterator[tuple[str, object]]:
    for name, kind, *_ in structure._fields_:
        if hasattr(kind, "_restype_"):
            yield name, (kind._restype_, kind._argtypes_)
        else:
            yield name, kind


def test_the_structures_are_those_of_the_header() -> None:
    text = HEADER.read_text(encoding="utf-8")
    structs = re.findall(r"typedef struct \{(.*?)\n\} (\w+);", text, flags=re.DOTALL)
    assert [name for _, name in structs] == list(STRUCTURES)
    for body, name in structs:
        assert list(mirror(STRUCTURES[name])) == list(fields(body)), name
    defined = re.findall(r"#define HYENA_(?:KERNEL_(ABI)|(MOST_\w+_TAPS)) (\d+)", text)
    numbers = {first or second: int(value) for first, second, value in defined}
    assert numbers == {
        name: getattr(_abi, name) for name in ("ABI", "MOST_SHORT_TAPS", "MOST_DIRECT_TAPS")
    }
    constants = re.findall(r"HYENA_(\w+) = (\d+)", text)
    assert {name: int(value) for name, value in constants} == dict(_abi.Dtype.__members__.items())


@needs_library
def test_every_build_that_can_run_here(file: Path) -> None:
    best = load(file, None).kernel
    assert best is not None
    assert best.isa == best.isas[0]
    assert best.isas[-1] == "portable"
    assert best.single_thread == ""
    for isa in best.isas:
        outcome = load(file, isa)
        assert outcome.kernel is not None
        assert (outcome.kernel.isa, outcome.kernel.isas) == (isa, best.isas)
        assert outcome.kernel.size(1000) >= 1000
        assert outcome.why == ""


@needs_library
def test_use_takes_another_build_for_a_while(file: Path) -> None:
    before = library.isa()
    with library.use("portable"):
        assert library.isa() == "portable"
        assert why_not_native() == ""
        with library.use("none"):
            assert library.kernel() is None
            assert (library.isa(), library.isas()) == ("none", ())
            assert backends() == ("torch", "naive")
        assert library.isa() == "portable"
    assert library.isa() == before
    with pytest.raises(ValueError, match=r"^HYENA_ISA=neon is unknown"), library.use("neon"):
        pass


@needs_library
def test_a_build_that_cannot_run_here(file: Path) -> None:
    kernel = load(file, None).kernel
    assert kernel is not None
    choices = ", ".join((*kernel.isas, "none"))
    outcome = load(file, "neon")
    assert outcome.why == f"HYENA_ISA=neon is unknown; expected one of {choices}"
    assert outcome.refused
    for isa in {"avx512", "avx2"} - set(kernel.isas):
        what = "cannot run on this processor"
        assert load(file, isa).why == f"HYENA_ISA={isa} {what}; expected one of {choices}"


def test_turned_off() -> None:
    assert load(FILE, "none") == Outcome(why="HYENA_ISA=none turned it off", declined=True)


def test_an_installation_without_the_library() -> None:
    outcome = load(None, None)
    assert outcome.kernel is None
    assert outcome.why == (
        "this installation was built without a C++ compiler; reinstall hyena with one present"
    )


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    file = tmp_path / library.FILE
    file.write_bytes(b"not a library\n")
    for path in (file, tmp_path / "nothing"):
        outcome = load(path, None)
        assert outcome.kernel is None
        assert outcome.why.startswith("its library cannot be loaded: ")
        assert str(path) in outcome.why
        assert "\n" not in outcome.why


def test_another_library() -> None:
    other = Path(torch._C.__file__)
    assert load(other, None) == Outcome(
        why=f"{other} is another library: it has no hyena_kernel_abi"
    )


@needs_library
def test_a_library_of_another_version(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_abi, "ABI", _abi.ABI + 1)
    assert load(file, None) == Outcome(
        why=f"{file} has version {_abi.ABI - 1} of the interface, but this hyena needs "
        f"version {_abi.ABI}; reinstall hyena"
    )


@needs_library
def test_a_pytorch_that_lends_no_threads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "__file__", str(file))  # a library that does not have it
    kernel = load(file, None).kernel
    assert kernel is not None
    assert kernel.single_thread.startswith(
        f"PyTorch {torch.__version__} does not lend its threads: "
    )


@pytest.mark.parametrize("cause", ["missing", "typo", "other", "version"])
def test_one_warning_where_no_kernel_can_be_had(
    cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = {"missing": None, "typo": Path("/typo.so"), "other": Path(torch._C.__file__)}
    if cause == "version":
        if FILE is None:
            pytest.skip("built without a C++ compiler")
        monkeypatch.setattr(_abi, "ABI", _abi.ABI + 1)
    monkeypatch.setattr(library, "outcome", load(file.get(cause, FILE), None))
    monkeypatch.setattr(library, "_warned", False)
    why = re.escape(why_not_native())
    assert why
    message = (
        "^hyena convolves through PyTorch's FFT, more slowly than with its native kernel: "
        f"{why}; or set HYENA_ISA=none to do without$"
    )
    u, k = torch.zeros(1, 1, 4), torch.zeros(1, 4)
    with pytest.warns(RuntimeWarning, match=message):
        long_conv(u, k)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        long_conv(u, k)  # once is enough


def test_no_warning_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_warned", False)
    monkeypatch.setattr(library, "outcome", load(FILE, "none"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        long_conv(torch.zeros(1, 1, 4), torch.zeros(1, 4))


def test_the_library_is_looked_for_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for given in ("elsewhere/kernel.so", "kernel.so"):
        monkeypatch.setenv("HYENA_KERNEL_LIBRARY", given)
        assert library.find() == Path.cwd() / given
    monkeypatch.setenv("HYENA_KERNEL_LIBRARY", "/elsewhere/kernel.so")
    assert library.find() == Path("/elsewhere/kernel.so").absolute()


@needs_library
def test_an_isa_that_cannot_be_had_is_an_error_of_the_first_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "outcome", load(FILE, "neon"))
    u, k = torch.zeros(1, 1, 4), torch.zeros(1, 4)
    with pytest.raises(ValueError, match=r"^HYENA_ISA=neon is unknown; expected one of "):
        long_conv(u, k)
    assert long_conv(u, k, backend="torch").shape == u.shape


ENVIRONMENT = """
import importlib, os, sys
import torch
from hyena.ops import long_conv, why_not_native
from hyena.ops.native import library

def imported(**environment):
    before = dict(os.environ)
    os.environ.update(environment)
    importlib.reload(library)  # does again what importing it does
    os.environ.clear()
    os.environ.update(before)

print(library.isa())
imported(HYENA_ISA="", HYENA_KERNEL_LIBRARY="/typo.so")
long_conv(torch.zeros(1, 1, 4), torch.zeros(1, 4))
for name in sys.argv[1:]:
    imported(HYENA_ISA="portable")
    print(library.isa())
    imported(HYENA_ISA="", HYENA_KERNEL_LIBRARY=name)
    print(why_not_native() or "loaded")
"""


def test_the_environment_chooses(tmp_path: Path) -> None:
    """In a process of its own: the build, and a library, which may be misspelt. One with a name
    alone is that of the working directory; the system would look in its own folders only."""
    names = [] if FILE is None else [shutil.copy(FILE, tmp_path / "kernel.so").name]
    done = subprocess.run(
        [sys.executable, "-c", ENVIRONMENT, *names],
        env={**os.environ, "HYENA_ISA": "none"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["none", *(["portable", "loaded"] if names else [])]
    assert done.stderr.count("RuntimeWarning: hyena convolves through PyTorch's FFT") == 1
    assert "/typo.so" in done.stderr
