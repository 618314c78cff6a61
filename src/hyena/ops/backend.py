"""The choice between the definition, PyTorch's FFT and the native kernel."""

from typing import Literal

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native.takes import applies

Backend = Literal["auto", "native", "torch", "naive"]

_NAMES = ("auto", "native", "torch", "naive")


def why_not_native() -> str:
    """One line: why the native kernel is not in use; empty if it is."""
    return library.why_not()


def backends() -> tuple[str, ...]:
    """Names of the backends that can be asked for here, fastest first."""
    return ("torch", "naive") if library.why_not() else ("native", "torch", "naive")


def resolve_backend(backend: Backend) -> Backend:
    """``backend`` itself, if it is one and can be asked for here.

    Raises: ValueError if it is unknown, or if HYENA_ISA asks for a build of the kernel that cannot
        be had; RuntimeError if it is "native" and the kernel did not load.
    """
    if backend not in _NAMES:
        raise ValueError(f"backend={backend!r} is unknown; expected one of {', '.join(_NAMES)}")
    if backend in ("auto", "native"):
        kernel = library.kernel()
        if backend == "native" and kernel is None:
            raise RuntimeError(
                'backend="native" was asked for, but the kernel did not load: '
                f'{why_not_native()}. Use backend="torch"'
            )
    return backend


def takes_native(op: str, backend: Backend, u: Tensor, *filters: Tensor | None) -> bool:
    """Whether the native kernel computes ``op`` on these tensors; ``backend`` is resolved.

    Raises: ValueError if it is "native" and the kernel cannot take them.
    """
    if backend not in ("auto", "native"):
        return False
    if applies(u, *filters):
        return True
    if backend == "native":
        dtypes = ", ".join(str(x.dtype) for x in (u, *filters) if x is not None)
        raise ValueError(
            f'{op}: backend="native" takes float32, bfloat16 or float16 on the CPU, outside '
            f"torch.func, with filters that are not float64; got {dtypes} on {u.device}. "
            'Use backend="auto"'
        )
    if u.device.type == "cpu" and u.dtype != torch.float64:
        library.warn_if_missing()
    return False
