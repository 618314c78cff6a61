"""From logits to log-probabilities and tokens. Sizes: B sequences, V vocabulary."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hyena.arguments import check_whole, number, several, shown, token_ids
from hyena.ops.arguments import FLOATS, check_tensor

_LARGEST = torch.finfo(torch.float64).max  # of a logit, whatever it is changed by

Alternatives = list[tuple[int, float]]
"""Token ids with their log-probabilities, the likeliest first."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Applied in the order: repetition_penalty, logit_bias,
    allowed_tokens, temperature, top_k, top_p, min_p.

    Raises: ValueError on a value outside its range, or of another kind.
    """

    temperature: float = 1.0
    """Logits are divided by this; 0 takes the likeliest token."""
    top_k: int | None = None
    """Keep only the k likeliest tokens."""
    top_p: float | None = None
    """Then keep the fewest likeliest tokens whose probabilities add up to p or more (nucleus
    sampling, Holtzman et al. 2019, arXiv:1904.09751)."""
    min_p: float | None = None
    """Keep only tokens at least min_p times as probable as the likeliest one (Nguyen et al. 2024,
    arXiv:2407.01082)."""
    repetition_penalty: float = 1.0
    """θ: the logit x of a token that is in the prompt or has been generated becomes x / θ, as in
    Keskar et al. 2019 (arXiv:1909.05858), if x is positive. Dividing a negative logit would make
    the token likelier, so that it becomes x · θ. Above 1 discourages repetition, 1 does nothing."""
    allowed_tokens: tuple[int, ...] | None = None
    """Ids of the only tokens that may be drawn; None allows all."""
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    """What is added to the logits of some tokens, by their ids."""

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            if value is not None or name in ("temperature", "repetition_penalty"):
                object.__setattr__(self, name, number(name, value))
        if not self.temperature >= 0:
            raise ValueError(f"temperature: expected at least 0, got {self.temperature}")
        if self.top_k is not None:
            object.__setattr__(self, "top_k", check_whole("top_k", self.top_k, 1, None))
        for name, share in (("top_p", self.top_p), ("min_p", self.min_p)):
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name}: expected 0 < {name} ≤ 1, got {share}")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(
                f"repetition_penalty: expected more than 0, got {self.repetition_penalty}"
            )
        if self.allowed_tokens is not None:
            ids = {check_whole("allowed_tokens", i, 0, None) for i in several(self.allowed_tokens)}
            if not ids:
                raise ValueError(
                    "allowed_tokens: expected at least one token, got none; leave it out to allow "
                    "all"
                )
            object.__setattr__(self, "allowed_tokens", tuple(sorted(ids)))
        if not isinstance(self.logit_bias, Mapping):
            raise ValueError(
                f"logit_bias: expected a number for each token, got {shown(self.logit_bias)}"
            )
        bias = {
            check_whole("logit_bias", i, 0, None): number("logit_bias", added)
            for i, added in self.logit_bias.items()
        }
        if not all(map(math.isfinite, bias.values())):
            raise ValueError(f"logit_bias: expected finite numbers, got {shown(bias)}")
        object.__setattr__(self, "logit_bias", bias)

    def check_vocabulary(self, size: int) -> None:
        """Raises ValueError if a token that is named is outside a vocabulary of this size."""
        token_ids("allowed_tokens", self.allowed_tokens or (), size)
        token_ids("logit_bias", self.logit_bias, size)


def sample(
    logits: Tensor,
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    seen: Tensor | None = None,
) -> Tensor:
    """One token for each sequence, drawn from `distribution`.

    A sequence takes one uniform number from its own generator, unless the temperature is 0, and no
    row has a say in another: what is drawn depends on nothing but the row's logits and generator.

    Args:
        logits: (B, V).
        generators: one a sequence, on the CPU.
        seen: (B, V) bool, tokens that repetition_penalty is for; none means no token.

    Returns: token ids (B,), int64, on the device of the logits.
    Raises: ValueError if the logits are not finite.
    """
    check_tensor("sample", "logits", logits)
    if logits.dim() != 2:
        raise ValueError(f"sample: expected logits (B, V), got {tuple(logits.shape)}")
    drawing = isinstance(generators, list | tuple) and len(generators) == len(logits)
    if not drawing or not all(isinstance(g, torch.Generator) for g in generators):
        raise ValueError(f"sample: expected {len(logits)} generators, one a sequence")
    probabilities = distribution(logits, sampling, seen)
    if sampling.temperature == 0:
        return probabilities.argmax(-1).to(logits.device)
    uniform = [torch.rand(1, generator=g, dtype=torch.float64) for g in generators]
    # The first token whose cumulative probability exceeds the number; never an impossible one, even
    # where sums made in parallel are not quite the same before and after it.
    reached = probabilities.cumsum(-1).where(probabilities > 0, 0)
    total = reached.amax(-1, keepdim=True)
    number = torch.stack(uniform).to(total.device) * total
    number = number.minimum(total.nextafter(torch.zeros_like(total)))
    return (reached > number).to(torch.uint8).argmax(-1).to(logits.device)


def distribution(logits: Tensor, sampling: Sampling, seen: Tensor | None = None) -> Tensor:
    """The probabilities that `sample` draws with: (B, V), float64.

    Args and errors as there.
    """
    x = _widened(logits)
    if x.dim() != 2 or not x.shape[1]:
        raise ValueError(f"distribution: expected logits (B, V), got {tuple(x.shape)}")
    if sampling.repetition_penalty != 1 and seen is not None:
        penalty = sampling.repetition_penalty
        changed = torch.where(x > 0, x / penalty, x * penalty).clamp(-_LARGEST, _LARGEST)
        x = x.where(~seen.to(x.device), changed)
    x = _chosen(x, sampling)
    if sampling.temperature == 0:
        return torch.zeros_like(x).scatter_(-1, x.argmax(-1, keepdim=True), 1)
    # From the likeliest down, so that no temperature, however small, overflows.
    x = (x - x.amax(-1, keepdim=True)) / sampling.temperature
    if not (sampling.top_k is None and sampling.top_p is None and sampling.min_p is None):
        x = x.where(_kept(x, sampling), -torch.inf)
    return x.softmax(-1)


def _chosen(x: Tensor, sampling: Sampling) -> Tensor:
    """Logits (B, V) with what is added to them, and −inf for tokens that are not allowed."""
    sampling.check_vocabulary(x.shape[1])
    if sampling.logit_bias:
        ids = torch.tensor(list(sampling.logit_bias), device=x.device)
        added = torch.tensor(list(sampling.logit_bias.values()), dtype=x.dtype, device=x.device)
        x = x.index_add(1, ids, added.expand(len(x), -1)).clamp(-_LARGEST, _LARGEST)
    if sampling.allowed_tokens is not None:
        ids = torch.tensor(sampling.allowed_tokens, device=x.device)
        x = torch.full_like(x, -torch.inf).index_copy(1, ids, x[:, ids])
    return x


def _widened(logits: Tensor) -> Tensor:
    """The logits in float64, checked; those on a device that has no float64 on the CPU."""
    check_tensor("distribution", "logits", logits)
    if logits.dtype not in FLOATS or logits.is_meta:
        raise ValueError(
            "distribution: expected logits (B, V) of floating point, got "
            f"{logits.dtype} on {logits.device}"
        )
    if not bool(logits.isfinite().all()):
        raise ValueError("the model's logits are not finite; its weights may be damaged")
    return (logits.cpu() if logits.device.type == "mps" else logits).detach().double()


def check_alternatives(count: Any, vocab_size: int) -> int:
    """``count`` as an int. Raises ValueError if so many likeliest tokens cannot be listed."""
    count = check_whole("alternatives", count, None, None)
    if not 0 <= count <= vocab_size:
        raise ValueError(
            f"alternatives: expected 0 to {vocab_size}, the size of the vocabulary, got "
            f"{shown(count)}"
        )
    return count


def logprobs(logits: Tensor) -> Tensor:
    """Natural logarithms of the probabilities that the model gives: (B, V), float64.

    Raises: ValueError if the logits (B, V) are not finite.
    """
    return _widened(logits).log_softmax(-1)


def likeliest(logprobs: Tensor, count: int) -> list[Alternatives]:
    """The ``count`` likeliest tokens of each row of `logprobs` (B, V)."""
    top = logprobs.topk(count)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [list(zip(ids, values, strict=True)) for ids, values in pairs]


def _kept(x: Tensor, sampling: Sampling) -> Tensor:
    """Which tokens may be drawn, (B, V) bool; of equally likely ones those with the lower ids.

    Args: x (B, V), logits divided by the temperature, the likeliest 0.
    """
    size = x.shape[-1]
    top = x.topk(min(sampling.top_k or size, size)).values  # from the likeliest down
    count = torch.full_like(top[..., :1], top.shape[-1], dtype=torch.int64)
    if sampling.top_p is not None:
        p = top.softmax(-1)
        before = p.cumsum(-1) - p  # of the likeliest 0, so that it always stays
        count = count.minimum((before < sampling.top_p).sum(-1, keepdim=True))
    if sampling.min_p is not None:
        count = count.minimum((top >= math.log(sampling.min_p)).sum(-1, keepdim=True))
    least = top.gather(-1, count - 1)
    above, tied = x > least, x == least
    return above | (tied & (tied.cumsum(-1) <= count - above.sum(-1, keepdim=True)))
