"""The choice between the definition, PyTorch's FFT and the native kernel."""

from typing import Literal

from hyena.arguments import shown
from hyena.ops.native import library

Backend = Literal["auto", "native", "torch", "naive"]

NAMES = ("auto", "native", "torch", "naive")


def why_not_native() -> str:
    """One line: why the native kernel is not in use; empty if it is."""
    return library.why_not()


def backends() -> tuple[str, ...]:
    """Names of the backends that can be asked for here, fastest first."""
    return ("torch", "naive") if library.why_not() else ("native", "torch", "naive")


def unknown(backend: object) -> ValueError:
    """The error for a name that is none."""
    return ValueError(f"backend={shown(backend)} is unknown; expected one of {', '.join(NAMES)}")


def kernel_for(backend: Backend) -> library.Kernel | None:
    """The kernel, if it is there and this backend takes it.

    Raises: ValueError if HYENA_ISA asks for a build of the kernel that cannot be had; RuntimeError
        if the backend is "native" and the kernel did not load.
    """
    if backend in ("torch", "naive"):
        return None
    kernel = library.kernel()
    if kernel is None and backend == "native":
        raise RuntimeError(
            'backend="native" was asked for, but the kernel did not load: '
            f'{why_not_native()}. Use backend="torch"'
        )
    return kernel


def resolve_backend(backend: Backend) -> Backend:
    """``backend`` itself, if it is one and can be asked for here.

    Raises: ValueError if it is unknown; as `kernel_for`.
    """
    if not isinstance(backend, str) or backend not in NAMES:
        raise unknown(backend)
    kernel_for(backend)
    return backend
