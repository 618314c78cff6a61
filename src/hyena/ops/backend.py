"""The choice between the definition, PyTorch's FFT and a native kernel."""

from typing import Literal

Backend = Literal["auto", "native", "torch", "naive"]

_NAMES = ("auto", "native", "torch", "naive")


def why_not_native() -> str:
    """One line: why the native kernel is not in use."""
    return "this version of hyena has no native kernel yet"


def backends() -> tuple[str, ...]:
    """Names of the backends that can be asked for here, fastest first."""
    return ("torch", "naive")


def resolve_backend(backend: Backend) -> Literal["torch", "naive"]:
    """The backend that ``backend`` stands for; ValueError or RuntimeError if there is none."""
    if backend not in _NAMES:
        raise ValueError(f"backend={backend!r} is unknown; expected one of {', '.join(_NAMES)}")
    if backend == "native":
        raise RuntimeError(
            f'backend="native" was asked for, but the kernel did not load: {why_not_native()}. '
            'Use backend="torch"'
        )
    return "naive" if backend == "naive" else "torch"
