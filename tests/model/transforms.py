"""Counts the FFTs that run."""

from math import log2, prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Transforms(TorchDispatchMode):
    """Adds up 2.5 · n · log2 n for each real FFT and its inverse that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0.0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in (torch.ops.aten._fft_r2c.default, torch.ops.aten._fft_c2r.default):
            real = args[0] if function is torch.ops.aten._fft_r2c.default else result
            n = real.shape[-1]
            self.operations += prod(real.shape[:-1]) * 2.5 * n * log2(n)
        return result
