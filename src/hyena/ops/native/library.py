"""The native kernel: found, loaded and chosen for this processor when this module is imported.

At import rather than at first use, so that what `torch.compile` traces is settled before it looks.

Environment:
    HYENA_ISA: which build to take, "avx512", "avx2" or "portable"; "none" for none of them. By
        default the best that the processor can run.
    HYENA_KERNEL_LIBRARY: file of a library to load in place of the installed one; a relative path
        begins at the working directory.
"""

import ctypes
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from hyena.ops.native import _abi
from hyena.ops.native._abi import Conv, Gradients, Modes, ModesGradients
from hyena.ops.observed import compiling

if sys.platform == "win32":
    FILE = "hyena_kernel.dll"
elif sys.platform == "darwin":
    FILE = "libhyena_kernel.dylib"
else:
    FILE = "libhyena_kernel.so"


_MISSING = "this installation was built without a C++ compiler; reinstall hyena with one present"


@dataclass(frozen=True)
class Kernel:
    """One build of the kernel. The functions are those of ``hyena_kernel`` in the C header."""

    isa: str
    isas: tuple[str, ...]
    """All builds that can run here, best first."""
    single_thread: str
    """Why it runs on one thread; empty if it shares PyTorch's."""
    size: Callable[[int], int]
    spectrum_floats: Callable[[int, int], int]
    spectrum: Callable[[Conv, int], int]
    forward: Callable[[Conv], int]
    backward: Callable[[Conv, Gradients], int]
    modal: Callable[[Conv, Modes], int]
    modal_backward: Callable[[Conv, Gradients, Modes, ModesGradients], int]
    step: Callable[[object], int]  # a pointer to a Step
    linear: Callable[[object], int]  # a pointer to a Linear
    blocks: Callable[[object, int, int], int]  # an array of Block, their number and an address
    butterflies: Callable[[int, int], int]


_FUNCTIONS = [field[0] for field in _abi.Functions._fields_[1:]]  # the first is the name


@dataclass(frozen=True)
class Outcome:
    """What came of loading: a kernel, or why there is none."""

    kernel: Kernel | None = None
    why: str = ""
    declined: bool = False
    """HYENA_ISA=none asked for none."""
    refused: bool = False
    """What HYENA_ISA asks for cannot be had: an error as soon as the kernel is wanted."""


def load(file: Path | None, isa: str | None) -> Outcome:
    """Loads a library; ``isa`` is the value of HYENA_ISA, None for the best build."""
    if isa == "none":
        return Outcome(why="HYENA_ISA=none turned it off", declined=True)
    if file is None:
        return Outcome(why=_MISSING)
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        return Outcome(why=f"its library cannot be loaded: {' '.join(str(error).split())}")
    try:
        found = library.hyena_kernel_abi()
    except AttributeError:
        return Outcome(why=f"{file} is another library: it has no hyena_kernel_abi")
    if found != _abi.ABI:
        return Outcome(
            why=f"{file} has version {found} of the interface, but this hyena needs version "
            f"{_abi.ABI}; reinstall hyena"
        )
    library.hyena_kernel_isas.restype = ctypes.c_char_p
    isas = tuple(library.hyena_kernel_isas().decode().split())
    if isa is None:
        isa = isas[0]
    elif isa not in isas:
        return Outcome(why=_cannot_run(isa, isas), refused=True)
    library.hyena_kernel_of.argtypes = [ctypes.c_char_p]
    library.hyena_kernel_of.restype = ctypes.POINTER(_abi.Functions)
    functions = library.hyena_kernel_of(isa.encode()).contents
    return Outcome(
        Kernel(
            isa=isa,
            isas=isas,
            single_thread=_share_threads(library),
            **{name: getattr(functions, name) for name in _FUNCTIONS},
        )
    )


def _cannot_run(isa: str, isas: tuple[str, ...]) -> str:
    choices = ", ".join((*isas, "none"))
    known = isa in ("avx512", "avx2", "portable")
    what = "cannot run on this processor" if known else "is unknown"
    return f"HYENA_ISA={isa} {what}; expected one of {choices}"


def _share_threads(library: ctypes.CDLL) -> str:
    """Hands PyTorch's threads to the kernel; why not, if that fails."""
    try:
        # Symbols of a library are looked up in those that it is linked with, too, save on Windows.
        torch_file = (
            Path(torch.__file__).parent / "lib" / "torch_cpu.dll"
            if sys.platform == "win32"
            else torch._C.__file__
        )
        torch_functions = ctypes.CDLL(str(torch_file))
        threads = torch_functions.torch_parallel_for, torch_functions.torch_get_num_threads
    except (OSError, AttributeError) as error:
        return f"PyTorch {torch.__version__} does not lend its threads: {error}"
    library.hyena_kernel_set_threads.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.hyena_kernel_set_threads.restype = None
    library.hyena_kernel_set_threads(*(ctypes.cast(one, ctypes.c_void_p) for one in threads))
    return ""


def find() -> Path | None:
    """The file to load; None if the installation has none."""
    if given := os.environ.get("HYENA_KERNEL_LIBRARY"):
        return Path(given).absolute()  # a name alone would be looked for in the system's folders
    # An editable installation keeps the library apart from this file; importlib knows where.
    file = resources.files("hyena.ops.native") / FILE
    return Path(str(file)) if file.is_file() else None


outcome = load(find(), os.environ.get("HYENA_ISA") or None)
_warned = False


def kernel() -> Kernel | None:
    """The kernel in use, or None if `why_not` tells a reason.

    Raises: ValueError if HYENA_ISA asks for a build that is unknown or cannot run here.
    """
    if outcome.refused:
        raise ValueError(outcome.why)
    return outcome.kernel


def loaded() -> Kernel:
    """The kernel in use. Raises: as `kernel`; RuntimeError if there is none."""
    found = kernel()
    if found is None:
        raise RuntimeError(f"the native kernel is not loaded: {why_not()}")
    return found


def multiply_add_rate(threads: int) -> float:
    """Operations per second of the kernel's mix of multiplications and additions, in registers.

    What a transform could reach if memory took no time. Raises: RuntimeError without a kernel.
    """
    best, found = 0.0, loaded()
    for _ in range(10):
        start = time.perf_counter()
        operations = found.butterflies(threads, 500_000)
        best = max(best, operations / (time.perf_counter() - start))
    return best


def why_not() -> str:
    """One line: why no kernel is loaded; empty if one is."""
    return outcome.why


def isa() -> str:
    """The build in use: "avx512", "avx2" or "portable"; "none" if there is none."""
    return "none" if outcome.kernel is None else outcome.kernel.isa


def isas() -> tuple[str, ...]:
    """The builds that can run here, best first."""
    return () if outcome.kernel is None else outcome.kernel.isas


@contextmanager
def use(isa: str) -> Iterator[None]:
    """Takes another build, or "none", while the context lasts: in all threads, so it is for tests.

    Raises: ValueError if the build is unknown or cannot run here; RuntimeError without a library.
    """
    global outcome
    before = outcome
    chosen = load(find(), isa)
    if chosen.refused:
        raise ValueError(chosen.why)
    if chosen.kernel is None and isa != "none":
        raise RuntimeError(f"the kernel did not load: {chosen.why}")
    outcome = chosen
    try:
        yield
    finally:
        outcome = before


def warn_if_missing() -> None:
    """Says once a process that a convolution is slower than it would be with the kernel, and why
    there is none; nothing where HYENA_ISA=none asked for that."""
    global _warned
    wanted = outcome.kernel is None and not outcome.declined
    if not wanted or _warned or compiling():
        return
    _warned = True
    warnings.warn(
        "hyena convolves through PyTorch's FFT, more slowly than with its native kernel: "
        f"{outcome.why}; or set HYENA_ISA=none to do without",
        RuntimeWarning,
        stacklevel=2,
    )
