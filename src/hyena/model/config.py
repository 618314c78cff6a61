"""What a language model is made of."""

import math
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from operator import attrgetter
from typing import Any, Literal, get_args

from hyena.arguments import check_whole, is_truth, shown
from hyena.filters import LengthPolicy
from hyena.mixers import SPECS
from hyena.mixers.checks import check_heads
from hyena.model.mlp import Activation

FilterKind = Literal["hyena", "explicit", "fourier", "s4d", "transfer-function", "modal"]
Positions = Literal["rotary", "learned", "none"]
NormKind = Literal["layer", "rms"]
MLPKind = Literal["plain", "gated"]


@dataclass
class FilterConfig:
    """The long filters of the Hyena operators; all but ``kind`` and the five fields after it are of
    `hyena.HyenaFilter`."""

    kind: FilterKind = "hyena"
    """How the filter is parametrised: by a network of the position (hyena), tap by tap (explicit),
    by its lowest frequencies (fourier), as a diagonal state space (s4d, of the sizes in ssm), as a
    ratio of polynomials (transfer-function), or by poles and residues as they are (modal)."""
    taps: int = 64
    """Length of an explicit filter; the rest of it is zero."""
    modes: int = 64
    """Frequencies of a fourier filter, or poles of a modal one."""
    degree: int = 64
    """Degree of the polynomials of a transfer function."""
    state: int | None = None
    """Numbers in the state of a channel of an s4d filter, even; ssm.state if not given."""
    groups: int | None = None
    """How many explicit or modal filters there are, each for as many consecutive channels; one a
    channel if not given."""
    emb_dim: int = 33
    """Size of the positional encoding; odd."""
    width: int = 64
    """Width of the filter network."""
    depth: int = 4
    """Linear layers of the filter network."""
    sine_freq: float = 14.0
    """Initial frequency of the sines; higher gives rougher filters. 14 is the paper's for language
    models, right for their small initial weights; a bare `hyena.HyenaFilter` has others, and 4."""
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
class SSMConfig:
    """The diagonal state spaces of s4d, h3 and gss layers and of s4d filters; see
    `hyena.filters.DiagonalSSM`."""

    state: int = 64
    """Numbers in the state of a channel; even, since they come in conjugate pairs."""
    dt_min: float = 0.001
    """Smallest initial step size; steps are spread evenly on a logarithmic scale."""
    dt_max: float = 0.1
    """Largest initial step size."""
    initial: Literal["lin", "inv"] = "lin"
    """Initial poles: S4D-Lin or S4D-Inv."""


@dataclass
class StripedConfig:
    """The filters of StripedHyena 2's three operators (Ku et al. 2025, arXiv:2503.01868): short
    explicit (hyena-se), medium regularised (hyena-mr) and long implicit (hyena-li)."""

    groups: int | None = None
    """How many filters a hyena-se or hyena-mr layer has, each for as many consecutive channels; one
    a channel if not given."""
    short_taps: int = 7
    """Length of a hyena-se filter."""
    medium_taps: int = 128
    """Length of a hyena-mr filter."""
    medium_decay: bool = True
    """Multiply the taps of hyena-mr filters by a fixed exponential window."""
    modes: int = 16
    """Real exponentials that a hyena-li filter is a sum of."""


@dataclass
class ModelConfig:
    """A language model: blocks of a mixer and an MLP between an embedding and a head.

    Raises: ValueError if the values do not fit together.
    """

    vocab_size: int = 257
    """Number of token ids; a model that `hyena train` draws has those of its data, unless another
    number is given."""
    width: int = 192
    """Width D of the residual stream."""
    layers: int = 4
    """Number of blocks."""
    mlp_width: int | None = None
    """Width of the MLP's hidden layer; 4 · width if not given."""
    mixers: str = "hyena"
    """Mixer of each layer: one name for all, or a comma-separated pattern that repeats, such as
    hyena,hyena,attention. Any other name gets the list of all."""
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
    positions: Positions = "rotary"
    """What attention layers know of positions: rotary turns queries and keys; learned adds a
    trained table of max_length rows to the embedding; none."""
    local_width: int = 32
    """Taps of the convolution of an aft-conv layer."""
    dropout: float = 0.0
    """Dropout on the embedding, on each mixer's and MLP's output, and inside the mixers."""
    vocab_multiple: int = 8
    """The embedding's rows are padded to a multiple of this; padding is never predicted."""
    initial: Literal["normal", "pytorch"] = "normal"
    """Initial weights of linear layers: N(0, 0.02), or those that PyTorch gives them."""
    tied: bool = True
    """The embedding is the head as well; otherwise that is a matrix of its own."""
    norm: NormKind = "layer"
    """Norms of the residual stream: layer, or rms without mean and bias."""
    norm_eps: float = 1e-5
    """What keeps norms from dividing by zero: added to the variance, or to the root mean square."""
    mlp: MLPKind = "plain"
    """MLP of each layer: plain, down(act(up(x))), or gated, down(act(gate(x)) · up(x)) without
    biases."""
    activation: str = "gelu-tanh"
    """The MLPs' activation: gelu-tanh, gelu, silu or identity; or a comma-separated list of the
    first layers', whose last is that of all layers that follow, such as gelu,identity."""
    in_proj_bias: bool = True
    """Biases of the input projections of hyena and attention layers, and of short convolutions."""
    kv_heads: int | None = None
    """Heads of keys and values of an attention layer; as many as it has of queries if not given."""
    rotary_base: float = 10000.0
    """Base of the frequencies of rotary positions."""
    rotary_scale: float = 1.0
    """What rotary positions are divided by."""
    filter: FilterConfig = field(default_factory=FilterConfig)
    """The Hyena filters."""
    ssm: SSMConfig = field(default_factory=SSMConfig)
    """The state spaces."""
    striped: StripedConfig = field(default_factory=StripedConfig)
    """The filters of hyena-se, hyena-mr and hyena-li layers."""

    def __post_init__(self) -> None:
        for name, kind in (("mixers", str), ("activation", str), *PARTS.items()):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ValueError(f"model.{name}: expected a {kind.__name__}, got {shown(value)}")
        for name, most in _COUNTS.items():
            part, _, last = name.rpartition(".")
            owner = attrgetter(part)(self) if part else self
            if name in _MAY_BE_NONE and getattr(owner, last) is None:
                continue
            count = getattr(owner, last)
            least = 2 if name == "order" else 1
            setattr(owner, last, check_whole(f"model.{name}", count, least, most))
        dropout = self.dropout
        if not isinstance(dropout, Real) or is_truth(dropout) or not 0 <= dropout < 1:
            raise ValueError(f"model.dropout: expected 0 ≤ dropout < 1, got {shown(dropout)}")
        _check_scalars("model.", self)
        for part in PARTS:
            _check_scalars(f"model.{part}.", getattr(self, part))
        for name in ("norm_eps", "rotary_base", "rotary_scale"):
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"model.{name}: expected a number above 0, got {shown(value)}")
        for name, value, choices in (
            ("length_policy", self.length_policy, get_args(LengthPolicy)),
            ("positions", self.positions, get_args(Positions)),
            ("initial", self.initial, ("normal", "pytorch")),
            ("norm", self.norm, get_args(NormKind)),
            ("mlp", self.mlp, get_args(MLPKind)),
            ("filter.kind", self.filter.kind, get_args(FilterKind)),
            ("ssm.initial", self.ssm.initial, ("lin", "inv")),
        ):
            if not isinstance(value, str) or value not in choices:
                raise ValueError(
                    f"model.{name}: expected one of {', '.join(choices)}, got {shown(value)}"
                )
        self.layer_activations()
        if self.positions == "learned" and self.length_policy != "error":
            raise ValueError(
                "model.positions=learned is a table of max_length rows, so that longer inputs have "
                "none; leave model.length_policy=error"
            )
        for mixer in dict.fromkeys(self.layer_mixers()):
            if mixer in _HEADS:
                times, even = _HEADS[mixer]
                name = f"model.mixers={mixer}"
                check_heads(name, self.width, self.head_dim, times=times, even=even)
            if mixer == "attention" and self.kv_heads and self.heads % self.kv_heads:
                raise ValueError(
                    f"model.kv_heads: expected a divisor of the {self.heads} heads of attention, "
                    f"got {self.kv_heads}"
                )

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, and under ``model_type`` the name that PEFT looks for."""
        return {**asdict(self), "model_type": "hyena"}

    def layer_mixers(self) -> list[str]:
        """The mixer's name for each layer, the pattern repeated from the first layer on."""
        pattern = [name.strip() for name in self.mixers.split(",")]
        unknown = [name for name in pattern if name not in SPECS]
        if unknown:
            known = sorted(SPECS, key=lambda name: (name not in ("hyena", "attention"), name))
            raise ValueError(
                f"model.mixers={self.mixers!r}: {unknown[0]!r} is no mixer; "
                f"expected {', '.join(known)}, or a comma-separated pattern of them"
            )
        return [pattern[i % len(pattern)] for i in range(self.layers)]

    def layer_activations(self) -> list[Activation]:
        """The activation of each layer's MLP, the last of the list for all that follow."""
        known: tuple[Activation, ...] = get_args(Activation)
        listed = [name.strip() for name in self.activation.split(",")]
        unknown = [name for name in listed if name not in known]
        if unknown:
            raise ValueError(
                f"model.activation={self.activation!r}: {unknown[0]!r} is no activation; expected "
                f"{', '.join(known)}, or a comma-separated list of them"
            )
        found = [known[known.index(name)] for name in listed]
        return [found[min(i, len(found) - 1)] for i in range(self.layers)]

    @property
    def has_table(self) -> bool:
        """Whether positions are encoded by a trained table, which ends at max_length under every
        length policy."""
        trained = self.filter.kind == "hyena" and self.filter.train_encoding
        of_filters = trained and "hyena" in self.layer_mixers()
        return of_filters or self.positions == "learned"

    @property
    def hidden(self) -> int:
        """Width of the MLP's hidden layer."""
        return 4 * self.width if self.mlp_width is None else self.mlp_width

    @property
    def heads(self) -> int:
        """Number of heads of an attention layer."""
        return self.width // (min(64, self.width) if self.head_dim is None else self.head_dim)

    @property
    def filter_state(self) -> int:
        """Numbers in the state of a channel of an s4d filter."""
        return self.ssm.state if self.filter.state is None else self.filter.state

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple


def _check_scalars(prefix: str, owner: Any) -> None:
    """Makes fields of truth values and numbers bools and floats, as the file of a model has them.

    Raises: ValueError that names the field if it is none; a number is no truth value.
    """
    for each in fields(owner):
        value: Any = getattr(owner, each.name)
        if each.type is bool:
            if not is_truth(value) or getattr(value, "shape", None):
                raise ValueError(f"{prefix}{each.name}: expected True or False, got {shown(value)}")
            setattr(owner, each.name, bool(value))
        elif each.type is float:
            if not isinstance(value, Real) or is_truth(value) or not math.isfinite(value):
                raise ValueError(
                    f"{prefix}{each.name}: expected a finite number, got {shown(value)}"
                )
            setattr(owner, each.name, float(value))


PARTS: dict[str, type] = {"filter": FilterConfig, "ssm": SSMConfig, "striped": StripedConfig}
"""The fields of `ModelConfig` that have fields themselves."""

# Of the mixers with heads: how often head_dim may go into the width, and whether it must be even.
_HEADS = {"attention": (1, True), "linear-attention": (1, False), "mamba2": (2, False)}
_LENGTH, _WIDTH, _DEPTH = 2**31, 2**20, 2**10  # no product of them overflows, no loop is endless
_COUNTS = {
    "vocab_size": _LENGTH,
    "width": _WIDTH,
    "mlp_width": _WIDTH,
    "layers": _DEPTH,
    "max_length": _LENGTH,
    "order": _DEPTH,
    "short_width": _WIDTH,
    "head_dim": _WIDTH,
    "kv_heads": _WIDTH,
    "local_width": _WIDTH,
    "vocab_multiple": _LENGTH,
    "filter.taps": _LENGTH,
    "filter.modes": _LENGTH,
    "filter.degree": _WIDTH,
    "filter.state": _WIDTH,
    "filter.groups": _WIDTH,
    "filter.emb_dim": _WIDTH,
    "filter.width": _WIDTH,
    "filter.depth": _DEPTH,
    "ssm.state": _WIDTH,
    "striped.groups": _WIDTH,
    "striped.short_taps": _LENGTH,
    "striped.medium_taps": _LENGTH,
    "striped.modes": _WIDTH,
}
_MAY_BE_NONE = (
    "mlp_width",
    "head_dim",
    "kv_heads",
    "filter.state",
    "filter.groups",
    "striped.groups",
)
