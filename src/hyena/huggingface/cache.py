"""What a Hyena model remembers of the tokens so far, as transformers passes it from call to call.

Sizes: B batch, L length.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from hyena.generation.state import ModelState

CACHE = next(
    field.name
    for field in fields(CausalLMOutputWithPast)
    if field.name in ("cache", "past_key_values")
)
"""What transformers calls a cache: ``cache`` from 5.24 on, ``past_key_values`` before."""


class HyenaCache(Cache):
    """The exact state of `HyenaForCausalLM`, a `hyena.model.ModelState`.

    The logits after it are those of one pass over all tokens. It is of the whole model, and has no
    layers of keys and values. Tokens cannot be taken back from it; copy it, as by
    ``copy.deepcopy``, to go on in two ways.

    Args:
        limit: the most tokens that it will have, for which it then has its size from the first
            ones on; None if that is not known.
        keep_inputs: whether it is to go on beyond the limit, which takes memory.

    Attributes: ``state``, None before the first tokens.
    """

    def __init__(self, limit: int | None = None, keep_inputs: bool = True) -> None:
        super().__init__(layers=[])
        self.state: ModelState | None = None
        self.limit, self.keep_inputs = limit, keep_inputs

    def __repr__(self) -> str:
        return f"HyenaCache({self.state!r})"

    def __len__(self) -> int:
        return 0 if self.state is None else len(self.state.layers)

    def room(self, length: int) -> tuple[int | None, bool]:
        """``future`` and ``keep_inputs`` of `hyena.LanguageModel.prefill` for tokens up to this
        length."""
        if self.state is not None:  # which goes on in its plan
            return None, self.keep_inputs and self.state.grows
        return (None if self.limit is None else max(self.limit - length, 0)), self.keep_inputs

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens so far, padding included."""
        return 0 if self.state is None else self.state.length

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """−1: none is known."""
        return -1

    get_max_cache_shape = get_max_length  # its name in earlier versions of transformers

    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
        """Columns of an attention mask for these further tokens, and the first of them."""
        return self.get_seq_length() + int(query_length), 0

    def has_previous_state(
        self, layer_idx: int | None = None, state_idx: int | None = None
    ) -> bool:
        return self.state is not None

    def reset(self) -> None:
        """Forgets all tokens."""
        self.state = None

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """The sequences of these indices (B,), in this order, as beams go on."""
        rows = beam_idx.tolist()
        if self.state is not None and rows != list(range(self.batch_size)):
            self.state = self.state.select(rows)

    def batch_select_indices(self, indices: Tensor) -> None:
        """The sequences of these indices."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each sequence so many times."""
        if self.state is not None:
            rows = [i for i in range(self.batch_size) for _ in range(repeats)]
            self.state = self.state.select(rows)

    def crop(self, tokens_to_remove: int) -> None:
        """Raises: ValueError if there is anything to be taken back."""
        if tokens_to_remove:
            raise ValueError(
                "HyenaCache.crop: a state has no tokens that could be taken back; copy the cache "
                "before them"
            )

    @property
    def batch_size(self) -> int:
        """B, −1 before the first tokens."""
        return -1 if self.state is None else self.state.layers[0].batch

    @property
    def is_initialized(self) -> bool:
        return self.state is not None

    @property
    def is_compileable(self) -> bool:
        return False

    @property
    def is_croppable(self) -> bool:
        return False

    @property
    def is_linear(self) -> list[bool]:
        """Of no layer, as asked where a prompt has tokens that the cache has read: it is cut."""
        return [False]


def check_cache(cache: object) -> None:
    """Raises TypeError unless it is None or a cache of ours."""
    if cache is not None and not isinstance(cache, HyenaCache):
        raise TypeError(
            f"expected as {CACHE} a HyenaCache, got {type(cache).__name__}; leave it out, or give "
            "what this model returned"
        )
