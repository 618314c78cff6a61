"""What the Hyena layers of a served model are, and what they make of a text.

Sizes: L tokens, K taps, F filters a channel.
"""

import copy
import threading
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.arguments import check_whole
from hyena.data.tokenizer import Tokenizer
from hyena.mixers import HyenaOperator, hyena_matrix
from hyena.model import LanguageModel
from hyena.model.hidden import mixer_input

MOST_TAPS = 4096
"""Taps that are shown of a filter."""

MOST_TOKENS = 1024
"""Tokens of a text whose matrix is drawn, which takes 4 MB in float32."""

SIDE = 256
"""Rows and columns of a picture, at most."""


@dataclass(frozen=True)
class Layer:
    """A layer's mixer."""

    mixer: str
    """Its name, as in `hyena.ModelConfig`."""
    filters: int
    """Long convolutions of a channel, if it is a Hyena operator; else 0, and it has no matrix."""


@dataclass(frozen=True)
class Picture:
    """The sizes of H(u) of a text, as a picture."""

    tokens: list[str]
    """The L tokens of the text, each decoded alone."""
    cells: Tensor
    """(n, n) with n ≤ `SIDE`. Cell (i, j) is the largest value of rows ⌊iL/n⌋ … ⌈(i+1)L/n⌉ − 1 and
    of columns from j alike."""


class Inspector:
    """Looks into a model that an engine serves, from any thread.

    Args:
        model: what is looked into is another one with the same parameters, which shares their
            memory. Changes of its structure that come later are not seen.
        tokenizer: of the texts.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
        self._model: LanguageModel = copy.deepcopy(model, shared).eval()
        self._model.kept_memory = 0
        self._tokenizer = tokenizer
        self._one_at_a_time = threading.Lock()

    def layers(self) -> list[Layer]:
        """What the layers are, from the first."""
        names = self._model.config.layer_mixers()
        mixers = [block.mixer for block in self._model._blocks()]
        return [
            Layer(name, mixer.order - 1 if isinstance(mixer, HyenaOperator) else 0)
            for name, mixer in zip(names, mixers, strict=True)
        ]

    @torch.no_grad()
    def filter(self, layer: int, channel: int, length: int) -> tuple[Tensor, Tensor]:
        """The taps of a channel's filters, of lags 0 … K − 1, and the weights of the direct paths.

        Args: length: K, from 1 to `MOST_TAPS`.
        Returns: (F, K) and (F,), in the order in which the operator applies them.
        Raises: ValueError if there is no such layer or channel, if the layer is no Hyena operator,
            or on a length that the filter refuses.
        """
        length = check_whole("length", length, 1, MOST_TAPS)
        filter = self._operator(layer, channel)._filter
        with self._one_at_a_time:
            taps = filter.by_channels(length).taps(slice(channel, channel + 1))
        return taps[:, 0], filter.direct[:, channel]

    @torch.no_grad()
    def matrix(self, text: str, layer: int, channel: int) -> Picture:
        """The weights of each token's value in each output of a channel, see
        `hyena.mixers.hyena_matrix`. No end of text is put before the text.

        Raises: ValueError as `filter`, on a text of no tokens or of more than `MOST_TOKENS`, or if
            the model takes none of that length.
        """
        operator = self._operator(layer, channel)
        ids = torch.as_tensor(self._tokenizer.encode(text)).tolist()
        if not 1 <= len(ids) <= MOST_TOKENS:
            raise ValueError(
                f"text: expected one token to {MOST_TOKENS:,}, got {len(ids):,}; "
                f"{'shorten it' if ids else 'write something'}"
            )
        rows = torch.tensor([ids], device=self._model.embedding.weight.device)
        with self._one_at_a_time:
            u = mixer_input(self._model, rows, layer)[0]
            matrix = hyena_matrix(operator, u, channel).matrix.abs()
        size = min(SIDE, len(ids))
        cells = F.adaptive_max_pool2d(matrix[None], size)[0]
        return Picture([self._tokenizer.decode([each]) for each in ids], cells)

    def _operator(self, layer: int, channel: int) -> HyenaOperator:
        layers = self._model._blocks()
        operator = layers[check_whole("layer", layer, 0, len(layers) - 1)].mixer
        if not isinstance(operator, HyenaOperator):
            name = self._model.config.layer_mixers()[layer]
            raise ValueError(f"layer: expected a Hyena operator, but layer {layer} is {name}")
        check_whole("channel", channel, 0, operator.width - 1)
        return operator
