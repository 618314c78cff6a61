"""What a replaced attention keeps in a cache of Hugging Face's transformers: the operator's state.

Sizes: B batch, T tokens so far.
"""

from typing import Any

import torch
from torch import Tensor

from hyena.mixers.hyena import HyenaState


class HyenaCacheLayer:
    """A layer of a ``transformers.Cache`` that holds a `HyenaState` in place of keys and values.

    It has the methods by which transformers asks a cache for its length and moves its rows, and
    counts as a ``CacheLayerMixin``. It cannot go back: to take tokens off is refused.

    Attributes: ``state``, None if there is none to go on from; ``length`` T; ``real`` (B, T), True
        at real tokens, None without padding.
    """

    # What transformers asks of every layer.
    is_compileable = False
    is_croppable = False
    is_sliding = False
    supports_early_init = False

    def __init__(self) -> None:
        self.reset()

    def __repr__(self) -> str:
        return f"HyenaCacheLayer(length={self.length})"

    def reset(self) -> None:
        """Forgets everything."""
        self.hold(None, 0, None)

    def hold(
        self, state: HyenaState | None, length: int, real: Tensor | None, why: str = ""
    ) -> None:
        """Takes over the state after so many tokens; without one, ``why`` says of the tokens why
        none can follow."""
        self.state, self.length, self.real, self._why = state, length, real, why

    def going_on(self, op: str, tokens: int, real: Tensor | None) -> HyenaState:
        """The state, for so many tokens that come next; ``real`` is of these as well.

        Raises: ValueError if there is none; unless ``real`` is as before, with real tokens after.
        """
        if self.state is None:
            raise ValueError(f"{op}: cannot go on from this cache, since its tokens {self._why}")
        same = real is None
        if self.real is not None:
            after = self.real.new_ones(len(self.real), tokens)
            same = real is not None and torch.equal(real, torch.cat([self.real, after], dim=1))
        if not same:
            raise ValueError(
                f"{op}: expected the attention_mask of the tokens in the cache, and ones after it "
                "for those that come next; got another, or none"
            )
        return self.state

    def get_seq_length(self) -> int:
        """T."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys a mask for so many further tokens has, and which is the first."""
        return self.length + query_length, 0

    def get_max_length(self) -> int:
        """-1, no limit: it is the operator's to refuse tokens beyond its length."""
        return -1

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Takes these rows, in this order."""
        if self.state is not None:
            self.state = self.state.select(beam_idx)
        if self.real is not None:
            self.real = self.real[beam_idx.to(self.real.device)]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Takes each row so many times."""
        if self.state is not None:
            self.reorder_cache(torch.arange(self.state.batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps these rows, by number or by a mask of bool."""
        self.reorder_cache(indices.nonzero()[:, 0] if indices.dtype == torch.bool else indices)

    def crop(self, tokens_to_remove: int) -> None:
        """Raises: ValueError unless there is nothing to remove."""
        if tokens_to_remove:
            raise ValueError(
                "HyenaCacheLayer: cannot take tokens off a state, as assisted decoding does; "
                "generate without an assistant, or read the shorter prompt anew"
            )

    def offload(self) -> None:
        """The state stays where it is."""

    def prefetch(self) -> None:
        """The state is where it was."""


def layer_of(op: str, cache: Any, layer_idx: int | None) -> HyenaCacheLayer:
    """The layer of a cache that holds the state, which takes the place of an empty one.

    Raises: ValueError on a cache of another kind, and on a layer that has keys and values.
    """
    own = getattr(cache, "self_attention_cache", cache)  # beside that of cross-attention
    layers: Any = getattr(own, "layers", None)
    more = getattr(own, "layer_class_to_replicate", None)
    layer = None
    if isinstance(layers, list) and layer_idx is not None:
        while layer_idx >= len(layers) and more is not None:
            layers.append(more())
        layer = layers[layer_idx] if layer_idx < len(layers) else None
    if isinstance(layer, HyenaCacheLayer):
        return layer
    if layer is None or type(layer).__name__ != "DynamicLayer":
        raise ValueError(
            f"{op}: expected a transformers.DynamicCache as cache, got {type(cache).__name__}; "
            "leave cache_implementation out, or pass use_cache=False"
        )
    if layer.get_seq_length():
        raise ValueError(
            f"{op}: the cache holds keys and values of attention, {layer.get_seq_length()} tokens "
            "from before the replacement; begin with an empty cache"
        )
    from transformers.cache_utils import CacheLayerMixin

    CacheLayerMixin.register(HyenaCacheLayer)  # it is asked for its length only if it is one
    made = layers[layer_idx] = HyenaCacheLayer()
    return made
