"""What the operators of StripedHyena 2 do between their projections: ours against plain PyTorch.

Ku et al. 2025 (arXiv:2503.01868): a short convolution without bias, gates, and a filter of few taps
(hyena-se), of more (hyena-mr) or of real exponentials (hyena-li).

Sizes: B batch, D width, L length, J taps of the short convolution, G groups of channels, K taps of
a filter, S exponentials.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from hyena.bench.convolution.baselines import public_long_conv, public_short_conv
from hyena.bench.convolution.contender import Contender, Makers, Outputs, in_float64, outputs
from hyena.bench.convolution.truth import of_channels
from hyena.bench.reference import STRIPED_TOLERANCE, seeded
from hyena.filters import LongFilter
from hyena.mixers import HyenaOperator
from hyena.model import ModelConfig
from hyena.model.build import build_mixer
from hyena.model.config import StripedConfig
from hyena.ops import naive

GROUP = 16
"""Channels that share an explicit filter, as in the released Evo 2."""

# Up to so many multiply-adds the truth is the definition, a sum over lags.
_NAIVE = 1 << 26
_COMPARED = 2  # groups of channels that are compared, the first and the last

Convolve = Callable[[Tensor, Tensor], Tensor]
"""Of u (B, D, L) and taps (D, K): (B, D, L)."""


def build_operator(mixer: str, width: int, length: int) -> HyenaOperator:
    """The operator as a model of that mixer has it, with the same weights each time; the taps of
    hyena-mr have their window in them, as those of the released files."""
    config = ModelConfig(
        width=width,
        layers=1,
        mixers=mixer,
        max_length=length,
        in_proj_bias=False,
        striped=StripedConfig(groups=_groups(width), medium_decay=False),
    )
    with seeded():
        operator = build_mixer(config, mixer)
    assert isinstance(operator, HyenaOperator)
    return operator


def between(operator: HyenaOperator, z: Tensor) -> Tensor:
    """What the output projection is given, (B, D, L), of what the input projection gives, z
    (B, 3D, L), made as in a forward pass."""
    short = operator.short_conv
    L = z.shape[2]
    by_modes = operator.sums_modes(z, L, None)
    kernels = operator.modes(L) if by_modes else operator.kernels(L, None)
    return operator.between(z, (short.weight, short.bias), kernels, None)


def by_formula(
    convolve: Convolve, z: Tensor, short: Tensor, taps: Tensor, skip: Tensor | None = None
) -> Tensor:
    """The same in plain PyTorch, from the taps of the short convolution (3D, J), those of the
    filter (D, K), K ≤ L, and the weight of its direct path (D,)."""
    post, pre, value = public_short_conv(z, short).chunk(3, dim=1)
    u = pre * value
    y = convolve(u, taps)
    return post * (y if skip is None else y + skip[:, None] * u)


def explicit_taps(width: int, weight: Tensor) -> Tensor:
    """(D, K) of weight (1, G, K): a filter for D/G neighbouring channels."""
    return weight[0].repeat_interleave(width // weight.shape[1], dim=0)


def modal_taps(length: int, log_poles: Tensor, residues: Tensor) -> Tensor:
    """(D, L) of exponents and weights (1, D, S), as public code sums them: all at once."""
    time = torch.arange(length, dtype=log_poles.dtype)
    return (residues[0, ..., None] * torch.exp(log_poles[0, ..., None] * time)).sum(1)


def striped(mixer: str, *, batch: int, width: int, length: int, training: bool) -> Makers:
    """Contenders on one z (B, 3D, L): "ours"; "conv1d", PyTorch's depthwise convolution, of few
    taps alone; and "public", real transforms of twice the length, that of the filter in every call.

    In inference ours keeps of its filter what it keeps between calls, and the others have the taps
    at hand; in training each makes them of its parameters, of which it gives the gradients.

    Args: mixer: "hyena-se", "hyena-mr" or "hyena-li".
    """
    B, D, L = batch, width, length
    operator = build_operator(mixer, D, L).train(training)
    filter = operator.filter
    assert isinstance(filter, LongFilter)
    parameters = dict(filter.taps.named_parameters())
    direct = {} if filter.skip is None else {"skip": filter.skip}
    randn = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    z, drawn = randn(B, 3 * D, L).requires_grad_(training), randn(B, D, L)
    dy = drawn if training else None
    named: dict[str, Tensor] = {"z": z, "short": operator.short_conv.weight, **parameters, **direct}
    leaves = list(named.values())
    some = _Some(D)

    def taps_of(width: int, given: Sequence[Tensor]) -> Tensor:
        """Those that reach into the sequence."""
        if mixer == "hyena-li":
            return modal_taps(L, *given)
        return explicit_taps(width, *given)[:, :L]

    def formula(convolve: Convolve, taps: Tensor | None, *given: Tensor) -> Tensor:
        z, short, *others = given
        skip = others.pop()[0] if direct else None
        if taps is None:
            taps = taps_of(z.shape[1] // 3, others)
        return by_formula(convolve, z, short, taps, skip)

    @cache
    def truth() -> dict[str, Tensor]:
        wide = {
            name: some.of(name, x.detach()).double().requires_grad_(training)
            for name, x in named.items()
        }
        lags = L if mixer == "hyena-li" else min(L, parameters["weight"].shape[2])
        few = B * len(some.channels) * L * lags <= _NAIVE
        convolve: Convolve = naive.long_conv if few else public_long_conv
        its = None if dy is None else dy[:, some.channels]
        return in_float64(partial(formula, convolve, None), wide.values(), wide, its)

    def compared(got: Outputs) -> Outputs:
        y, *gradients = got
        cut = (some.of(name, x) for name, x in zip(named, gradients, strict=False))
        return [y[:, some.channels], *cut]

    def ours() -> Contender:
        call = partial(outputs, partial(between, operator), [z], leaves, dy)
        return Contender(call, truth, STRIPED_TOLERANCE, compared)

    def rival(convolve: Convolve) -> Contender:
        taps = None
        if not training:
            with torch.no_grad():
                taps = taps_of(D, list(parameters.values()))
        call = partial(outputs, partial(formula, convolve, taps), leaves, leaves, dy)
        return Contender(call, truth, STRIPED_TOLERANCE, compared)

    makers: Makers = {"ours": ours, "public": lambda: rival(public_long_conv)}
    if mixer != "hyena-li":
        makers["conv1d"] = lambda: rival(public_short_conv)
    return makers


class _Some:
    """The channels that are compared, those of a few groups, and what they have of each tensor."""

    def __init__(self, width: int) -> None:
        groups = _groups(width)
        self.groups = torch.linspace(0, groups - 1, min(_COMPARED, groups)).round().long()
        size = width // groups
        self.channels = (self.groups[:, None] * size + torch.arange(size)).flatten()

    def of(self, name: str, x: Tensor) -> Tensor:
        """Of z (B, 3D, L), short (3D, J), weight (1, G, K), and others (1, D, …)."""
        if name == "z":
            return of_channels(x, self.channels)
        if name == "short":
            return of_channels(x[None], self.channels)[0]
        return x[:, self.groups if name == "weight" else self.channels]


def _groups(width: int) -> int:
    return max(1, width // GROUP)
