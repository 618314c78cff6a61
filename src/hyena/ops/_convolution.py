"""A convolution whose arguments fit together: what every way of computing it is given."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, float32

from hyena.ops.segments import Segments


class Convolution(NamedTuple):
    """Short convolution, gate, long convolution and gate, those of them that there are.

    Sizes: B batch, D channels, L length, K taps, J short taps; P parts of the input: 1 for the
    value alone, 3 for the gate after, the gate before and the value.
    """

    z: Tensor  # (B, P·D, L)
    parts: int  # P
    filter: Tensor | None  # (D, K) with K taps that reach; or a spectrum; None: short one alone
    n: int  # size of the transform if ``filter`` is a spectrum, else 0
    skip: Tensor | None  # (D,); None with a spectrum, which holds it
    taps: Tensor | None  # (P·D, J) of the short convolution
    bias: Tensor | None  # (P·D,)
    lead: int  # long taps of negative lag
    short_lead: int  # and short ones
    segments: Segments | None = None
    causal: bool = True
    block_causal: bool = False
    layout: str = ""  # of a spectrum: "fft", or the build of the kernel

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Input, filter, skip, taps and bias: what there may be gradients of."""
        return self.z, self.filter, self.skip, self.taps, self.bias

    def narrow(self) -> Convolution:
        """With the filters in float32, as the kernel takes them; a spectrum stays what it is."""
        filter, *beside = self.tensors[1:]
        if filter is not None and not self.n:
            filter = filter.to(float32)
        skip, taps, bias = (None if x is None else x.to(float32) for x in beside)
        return self._replace(filter=filter, skip=skip, taps=taps, bias=bias)
