"""What a language model is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from hyena.filters import LengthPolicy

MIXERS = ("hyena", "attention")


@dataclass
class FilterConfig:
    """The filter network and its window; see `hyena.HyenaFilter`."""

    emb_dim: int = 33
    """Size of the positional encoding; odd."""
    width: int = 64
    """Width of the filter network."""
    depth: int = 4
    """Linear layers of the filter network."""
    sine_freq: float = 14.0
    """Initial frequency of the sines; higher gives rougher filters."""
    train_sine_freq: bool = True
    """Train the sine frequency."""
    window: bool = True
    """Multiply the filter by a decaying window."""
    shift: float = 0.0
    """Constant added to the window, so that it never closes."""
    fast_decay: float = 0.3
    """Share of max_length after which the fastest channel's window is at 1%."""
    slow_decay: float = 1.5
    """Share of max_length after which the slowest channel's window is at 1%."""
    train_decay: bool = False
    """Train the window's decays."""
    normalized: bool = False
    """Divide the filters by their L1 norm over channels."""
    train_encoding: bool = False
    """Keep the encoding as a table of max_length rows and train it."""


@dataclass
class ModelConfig:
    """A language model: blocks of a mixer and an MLP over a tied embedding.

    Raises: ValueError if the values do not fit together.
    """

    vocab_size: int = 257
    """Number of token ids."""
    width: int = 192
    """Width D of the residual stream."""
    layers: int = 4
    """Number of blocks."""
    mlp_width: int | None = None
    """Width of the MLP's hidden layer; 4 · width if not given."""
    mixers: str = "hyena"
    """Mixer of each layer: one name for all, or a comma-separated pattern that repeats, such as
    hyena,hyena,attention. Names: hyena, attention."""
    max_length: int = 512
    """Longest input in tokens, and the length the filters are built for."""
    length_policy: LengthPolicy = "error"
    """What happens to longer inputs: error, extrapolate or interpolate."""
    order: int = 2
    """Order of the Hyena operators: gates, and one more than long convolutions."""
    short_width: int = 3
    """Taps of the short convolution."""
    block_causal: bool = False
    """Keep rounding errors of future tokens out of the Hyena operators' outputs as well. Slower."""
    head_dim: int | None = None
    """Width of an attention head; 64, or the model's width if that is smaller."""
    dropout: float = 0.0
    """Dropout on the embedding, on each mixer's and MLP's output, and inside the mixers."""
    vocab_multiple: int = 8
    """The embedding's rows are padded to a multiple of this; padding is never predicted."""
    filter: FilterConfig = field(default_factory=FilterConfig)
    """The Hyena filters."""

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "width", "layers", "max_length", "short_width", "vocab_multiple")
        for name in (*sizes, "mlp_width", "head_dim"):
            value = getattr(self, name)
            if (value is not None or name in sizes) and value < 1:
                raise ValueError(f"model.{name}: expected at least 1, got {value}")
        if self.order < 2:
            raise ValueError(f"model.order: expected at least 2, got {self.order}")
        if self.length_policy not in get_args(LengthPolicy):
            raise ValueError(
                f"model.length_policy: expected one of {', '.join(get_args(LengthPolicy))}, "
                f"got {self.length_policy!r}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout: expected 0 ≤ dropout < 1, got {self.dropout}")
        self.layer_mixers()

    def layer_mixers(self) -> list[str]:
        """The mixer's name for each layer, the pattern repeated from the first layer on."""
        pattern = [name.strip() for name in self.mixers.split(",")]
        unknown = [name for name in pattern if name not in MIXERS]
        if unknown:
            raise ValueError(
                f"model.mixers={self.mixers!r}: {unknown[0]!r} is no mixer; "
                f"expected {' or '.join(MIXERS)}, or a comma-separated pattern of them"
            )
        return [pattern[i % len(pattern)] for i in range(self.layers)]

    @property
    def hidden(self) -> int:
        """Width of the MLP's hidden layer."""
        return 4 * self.width if self.mlp_width is None else self.mlp_width

    @property
    def heads(self) -> int:
        """Number of heads of an attention layer."""
        return self.width // (min(64, self.width) if self.head_dim is None else self.head_dim)

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple
