"""A model's step as a pure function: a token and a state in, logits and the state after it out.

Sizes: B batch, D width, N order, C = (N+1)·D channels of the short convolution, J its taps; F long
convolutions, K taps of theirs that end; m numbers in the state of a channel, of P parts each; G
heads of keys and values, E numbers of a head, t tokens so far; V vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.export.constants import in_float32
from hyena.filters import LongFilter
from hyena.generation.state import ModelState
from hyena.mixers import CausalSelfAttention, HyenaOperator
from hyena.mixers.attention.rotary import Turns
from hyena.mixers.hyena.short_conv import short_conv_step
from hyena.mixers.state import MixerState, tensor_state
from hyena.model import LanguageModel


@tensor_state
class RecurrentStep(NamedTuple):
    """Of an operator whose filters are recurrences; named as in a `hyena.mixers.HyenaState`."""

    short: Tensor  # (B, C, J−1): the last inputs of the short convolution, oldest first
    x: Tensor  # (B, F, D, m, P)


@tensor_state
class FiniteStep(NamedTuple):
    """Of an operator whose filters end."""

    short: Tensor  # (B, C, J−1)
    due: Tensor  # (B, F·D, K−1): what the inputs so far add to the next outputs


@tensor_state
class KeyValues(NamedTuple):
    """Of attention."""

    k: Tensor  # (B, G, t, E), rotated
    v: Tensor


class Step(nn.Module):
    """Called with ids (B,) and the tensors of all layers' states: the logits (B, V), and the
    tensors after the token, in the same order.

    Args: what: who asks, for messages; the model, which is not changed.

    Attributes:
        empty: the tensors before any token, by name, of one row.
        axes: the free dimensions of each, by number: batch, and past, the tokens so far.

    Raises: ValueError if a layer has no such state, or positions are learned.
    """

    def __init__(self, what: str, model: LanguageModel) -> None:
        super().__init__()
        self.model = copy = in_float32(model)
        if model.config.positions == "learned":
            raise ValueError(
                f"{what}: the model's positions are learned, a table that a state knows no place "
                "in; only steps of models with rotary positions or none can be exported"
            )
        self.empty: dict[str, Tensor] = {}
        self.axes: dict[str, dict[int, str]] = {}
        self._kinds: list[Any] = []
        names = model.config.layer_mixers()
        for i, (name, block) in enumerate(zip(names, copy.blocks, strict=True)):
            mixer = _of_mixer(f"{what}: layer {i}, {name},", block.mixer)
            block.mixer, empty = mixer, mixer.empty()
            self._kinds.append(type(empty))
            tensors = named(i, empty)
            self.empty |= tensors
            past = {2: "past"} if isinstance(empty, KeyValues) else {}
            self.axes |= {name: {0: "batch", **past} for name in tensors}

    def forward(self, input_ids: Tensor, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        layers = [kind(*pair) for kind, pair in zip(self._kinds, pairs, strict=True)]
        logits, after = self.model.step(input_ids, ModelState(layers, 0))
        return logits, [x for layer in after.layers for x in layer.tensors().values()]


def named(layer: int, state: MixerState) -> dict[str, Tensor]:
    """The tensors of a layer's state by the names that they have in files."""
    return {f"layers.{layer}.{name}": x for name, x in state.tensors().items()}


def _of_mixer(what: str, mixer: Any) -> "_Hyena | _Attention":
    """Raises: ValueError, which begins with ``what``."""
    if isinstance(mixer, CausalSelfAttention):
        return _Attention(mixer)
    if not isinstance(mixer, HyenaOperator):
        raise ValueError(
            f"{what} cannot be exported as a step; expected hyena, hyena-se, hyena-mr, hyena-li or "
            "attention"
        )
    filter = mixer.filter
    if isinstance(filter, LongFilter) and filter.recurrent:
        return _Hyena(mixer, _Recurrences(filter))
    if isinstance(filter, LongFilter) and filter.finite:
        return _Hyena(mixer, _FewTaps(filter))
    raise ValueError(
        f"{what} keeps all its inputs, since its filters are neither recurrences nor short; make "
        "one whose state is of one size with hyena distill, and export that"
    )


class _Hyena(nn.Module):
    """An operator at one position: the paper's loop, on windows and sums that are its state."""

    def __init__(self, operator: HyenaOperator, long: "_Recurrences | _FewTaps") -> None:
        super().__init__()
        self.in_proj, self.short_conv = operator.in_proj, operator.short_conv
        self.long, self.out_proj = long, operator.out_proj
        self.window = (operator.order + 1) * operator.width, operator.short_width - 1

    def empty(self) -> Any:
        return self.long.kind(torch.zeros(1, *self.window), self.long.empty())

    def step(self, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        """u (B, D) and the state before → y (B, D) and the state after."""
        z, (short, sums) = self.in_proj(u), state
        convolved = short_conv_step(self.short_conv, z, short.flip(-1).unbind(-1))
        *gates, v = convolved.split(u.shape[1], dim=1)
        after = []
        for i, gate in enumerate(reversed(gates[1:])):
            v, left = self.long.step(i, gate * v, sums)
            after.append(left)
        window = torch.cat([short, z[..., None]], dim=-1)[..., 1:]
        return self.out_proj(v * gates[0]), self.long.kind(window, self.long.join(after))


class _Recurrences(nn.Module):
    """Long convolutions with x ← decay · x + u, y = Σ weight · x + skip · u."""

    kind = RecurrentStep
    decay: Tensor  # (F, D, m, P)
    weight: Tensor
    skip: Tensor  # (F, D)

    def __init__(self, filter: LongFilter) -> None:
        super().__init__()
        decay, weight, skip = filter.recurrence()
        for name, planes in (("decay", decay), ("weight", weight)):
            self.register_buffer(name, planes.detach()[:, :, :, 0].permute(0, 3, 2, 1).contiguous())
        self.register_buffer("skip", skip.detach())

    def empty(self) -> Tensor:
        return torch.zeros(1, *self.decay.shape)

    def step(self, i: int, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output (B, D) and state of number i, whose input is u (B, D)."""
        decay, added = self.decay[i], u[..., None]
        real, *imaginary = x[:, i].unbind(-1)  # (B, D, m)
        if imaginary:
            a, b = decay.unbind(-1)
            parts = [a * real - b * imaginary[0] + added, b * real + a * imaginary[0]]
        else:
            parts = [decay[..., 0] * real + added]
        after = torch.stack(parts, dim=-1)
        return (after * self.weight[i]).sum((-2, -1)) + self.skip[i] * u, after

    def join(self, states: list[Tensor]) -> Tensor:
        return torch.stack(states, dim=1)


class _FewTaps(nn.Module):
    """Long convolutions with K taps, by what an input adds to its own output and those after."""

    kind = FiniteStep
    taps: Tensor  # (F, D, K), the skip in the first

    def __init__(self, filter: LongFilter) -> None:
        super().__init__()
        taps = filter.finite_filter().taps.detach()
        self.register_buffer("taps", taps[:, :, 0].transpose(1, 2).contiguous())

    def empty(self) -> Tensor:
        parts, width, taps = self.taps.shape
        return torch.zeros(1, parts * width, taps - 1)

    def step(self, i: int, u: Tensor, due: Tensor) -> tuple[Tensor, Tensor]:
        """As of `_Recurrences`."""
        before = due.unflatten(1, self.taps.shape[:2])[:, i]  # (B, D, K−1)
        after = F.pad(before, (0, 1)) + u[..., None] * self.taps[i]
        return after[..., 0], after[..., 1:]

    def join(self, states: list[Tensor]) -> Tensor:
        return torch.cat(states, dim=1)


class _Attention(nn.Module):
    """A query looks back at all keys."""

    def __init__(self, mixer: CausalSelfAttention) -> None:
        super().__init__()
        self.in_proj, self.out_proj = mixer.in_proj, mixer.out_proj
        self.heads, self.kv_heads, self.head_dim = mixer.heads, mixer.kv_heads, mixer.head_dim
        self.rotary, self.base, self.scale = mixer.rotary, mixer.rotary_base, mixer.rotary_scale

    def empty(self) -> Any:
        return KeyValues(*torch.zeros(2, 1, self.kv_heads, 0, self.head_dim))

    def step(self, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        """As of `_Hyena`."""
        H, G = self.heads, self.kv_heads
        z = self.in_proj(u).unflatten(1, (H + 2 * G, self.head_dim))
        qk, v = z.split([H + G, G], dim=1)
        if self.rotary:
            qk = Turns(1, self.base, qk, state.k.shape[2], self.scale).turn(qk, 0)
        q, k = qk.split([H, G], dim=1)
        k = torch.cat([state.k, k[:, :, None]], dim=2)
        v = torch.cat([state.v, v[:, :, None]], dim=2)
        y = F.scaled_dot_product_attention(q.unflatten(1, (G, H // G)), k, v)
        return self.out_proj(y.flatten(1)), KeyValues(k, v)
