"""What the files of StripedHyena and of StripedHyena 2 have in common.

Sizes: D width, H heads, E = D/H, K taps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import isclose
from typing import Any

import torch
from torch import Tensor

from hyena.interop.settings import Projections, Settings, need, value_of, vocabulary
from hyena.interop.table import Row, Table, Transform, are_equal, same
from hyena.model import ModelConfig
from hyena.model.saved import some

EMBEDDING, HEAD = "embedding_layer.weight", "unembed.weight"
WQKV = "inner_mha_cls.Wqkv.weight"
_FREQUENCIES = "inner_mha_cls.rotary_emb.inv_freq"

READS = frozenset(
    {
        *("vocab_size", "max_length", "heads", "norm_eps", "activation"),
        *("rotary_base", "rotary_scale", "projections"),
    }
)
REQUIRES: dict[str, tuple[object, ...]] = {
    "positions": ("rotary",),
    "norm": ("rms",),
    "mlp": ("gated",),
}
SIZES = "hidden_size", "num_layers", "attn_layer_idxs", "num_attention_heads", "tie_embeddings"
"""The layers of Hyena are not among them: StripedHyena 7B's configuration lists one too many."""

_ASKED = {
    "norm_eps": "of the norms, 1e-5 in StripedHyena 7B, 1e-6 in Evo",
    "activation": "of the MLPs, silu in StripedHyena 7B, gelu in Evo 1",
    "max_length": "the longest input, 8192 in Evo's base models, 1048576 in Evo 2's 1M ones",
    "projections": "how the projections of a Hyena layer lie: interleaved or by-head where the "
    "configuration says interleave or column_split_hyena, else split",
}
_ASKED_OF_HEADS = "how many attention has: 15 in Evo 2 1B, 32 in the 7B models, 64 in 20B and 40B"
_ASKED_OF_ROTARY = {
    "rotary_base": "of the rotary positions, 1e4 in Evo 1, Evo 2 1B and 7B, 1e6 in 20B and 40B",
    "rotary_scale": "what they are divided by: 16 in Evo 1's 131k model, 128 in Evo 2's 1M models, "
    "32 in the 262k ones, else 1",
}


def settings_of(public: Mapping[str, Any], activation: str | None) -> Settings:
    """What a configuration of either says.

    Args: activation: of MLPs, where it says none.
    """
    by_head = value_of({"column_split_hyena": True, **public}, "column_split_hyena", bool)
    return Settings(
        vocab_size=value_of(public, "vocab_size", int),
        max_length=value_of(public, "max_seqlen", int),
        heads=value_of(public, "num_attention_heads", int),
        norm_eps=value_of(public, "eps", float),
        activation=value_of({"mlp_activation": activation, **public}, "mlp_activation", str),
        rotary_base=value_of(public, "rotary_emb_base", float),
        rotary_scale=_interpolation_of(public),
        projections=None if by_head is None else "by-head" if by_head else "split",
    )


def config_of(
    what: str,
    tensors: Mapping[str, Tensor],
    settings: Settings,
    mixer_of: Callable[[str], str],
    sizes_of: Callable[[list[str], int], dict[str, Any]],
) -> ModelConfig:
    """What the tensors and the settings make the model.

    Args:
        what: the kind of model, for messages.
        mixer_of: gives the mixer of a block, such as "blocks.0.".
        sizes_of: gives further fields of the config, of the mixers of all blocks and the width; it
            may raise KeyError, ValueError or IndexError where a file is none of the family.

    Raises: ValueError on a setting that is needed, and on a file that is none of the family.
    """
    settings = _with_file(settings, tensors)
    try:
        rows, width = tensors[EMBEDDING].shape
        mixers = [mixer_of(f"blocks.{i}.") for i in range(_layers_of(tensors))]
        sizes = sizes_of(mixers, width)
        sizes["mlp_width"] = tensors["blocks.0.mlp.l1.weight"].shape[0]
        hyena = next(i for i, mixer in enumerate(mixers) if mixer != "attention")
        sizes["short_width"] = tensors[f"blocks.{hyena}.filter.short_filter_weight"].shape[2]
        attends = "attention" in mixers
        qkv = tensors[f"blocks.{mixers.index('attention')}.{WQKV}"].shape[0] if attends else 0
    except (KeyError, ValueError, IndexError, StopIteration) as error:
        raise ValueError(
            f"this is not {what}: missing or misshapen: {error}; found {some(tensors)}"
        ) from error
    asked = dict(_ASKED)
    if attends or settings.projections == "by-head":
        asked["heads"] = _ASKED_OF_HEADS
    if attends:
        asked |= _ASKED_OF_ROTARY
    need(settings, what, **asked)
    heads = 1 if settings.heads is None else settings.heads
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"heads={heads}, but the width is {width}; expected a divisor of it")
    kv_heads, rest = divmod(qkv - width, 2 * (width // heads))
    if not attends or rest:  # rows that are no heads are listed with what else does not fit
        kv_heads = heads
    return ModelConfig(
        **vocabulary(rows, settings),
        width=width,
        layers=len(mixers),
        mixers=mixers[0] if len(set(mixers)) == 1 else ",".join(mixers),
        max_length=settings.max_length or 0,
        head_dim=None if settings.heads is None else width // heads,
        kv_heads=None if kv_heads == heads else kv_heads,
        rotary_base=10000.0 if settings.rotary_base is None else settings.rotary_base,
        rotary_scale=1.0 if settings.rotary_scale is None else settings.rotary_scale,
        tied=_is_tied(tensors),
        norm="rms",
        norm_eps=settings.norm_eps or 0.0,
        mlp="gated",
        activation=settings.activation or "",
        **sizes,
    )


def table_of(
    config: ModelConfig,
    projections: Projections,
    filter_of: Callable[[str, str], list[Row]],
    *,
    heads_apart: bool = False,
) -> Table:
    """All tensors of a model.

    Args:
        projections: how those of a Hyena layer lie in the file.
        filter_of: gives the rows of a filter, of the mixer and its block, such as "blocks.0.".
        heads_apart: whether the rows of attention's queries, keys and values lie head by head.
    """
    heads = heads_of(config)
    layout, of_heads = layout_of(projections, heads), layout_of("by-head", heads)
    rows = _rows_of_model(config)
    made: dict[str, Callable[[], Tensor]] = {}
    for i, mixer in enumerate(config.layer_mixers()):
        block = f"blocks.{i}."
        rows += _rows_of_block(block)
        if mixer == "attention":
            of_attention = of_heads if heads_apart else (same, same)
            rows += _rows_of_attention(block, *of_attention, bias=config.in_proj_bias)
            head_dim = config.width // heads
            made[block + _FREQUENCIES] = partial(_frequencies, config.rotary_base, head_dim)
        else:
            rows += _rows_of_hyena(block, *layout, bias=config.in_proj_bias)
            rows += filter_of(mixer, block)
    return Table(rows, made)


def configuration_of(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the configurations of both say of a model."""
    heads = heads_of(config)
    found: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "make_vocab_size_divisible_by": config.vocab_multiple,
        "hidden_size": config.width,
        "num_filters": config.width,
        "num_layers": config.layers,
        "attn_layer_idxs": places(config, "attention"),
        "num_attention_heads": heads,
        "proj_groups": heads // (config.kv_heads or heads),
        "short_filter_length": config.short_width,
        "short_filter_bias": config.in_proj_bias,
        "inner_mlp_size": config.hidden,
        "eps": config.norm_eps,
        "final_norm": True,
        "tie_embeddings": config.tied,
        "mha_out_proj_bias": any(n.endswith("inner_mha_cls.out_proj.bias") for n in tensors),
        "qkv_proj_bias": any(n.endswith("Wqkv.bias") for n in tensors),
        "max_seqlen": config.max_length,
        "rotary_emb_base": config.rotary_base,
    }
    if config.rotary_scale != 1:
        found["use_interpolated_rotary_pos_emb"] = True
        found["rotary_emb_scaling_factor"] = config.rotary_scale
    return found


def layout_of(projections: Projections, heads: int) -> tuple[Transform, Transform]:
    """How rows (3·D, …) become the three projections one after the other, and the inverse."""
    if projections == "split":
        return same, same
    if projections == "interleaved":
        return partial(_from_groups, sizes=(-1, 3)), partial(_from_groups, sizes=(3, -1))
    apart, together = (heads, 3, -1), (3, heads, -1)
    return partial(_from_groups, sizes=apart), partial(_from_groups, sizes=together)


def _from_groups(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Rows of these sizes with the first two in the other order."""
    return x.unflatten(0, sizes).transpose(0, 1).flatten(0, len(sizes) - 1)


def heads_of(config: ModelConfig) -> int:
    """H, as attention layers of the model have it, or would have it."""
    head_dim = min(64, config.width) if config.head_dim is None else config.head_dim
    return 1 if config.width % head_dim else config.width // head_dim


def places(config: ModelConfig, name: str) -> list[int]:
    """Where a mixer stands in the layers."""
    return [i for i, mixer in enumerate(config.layer_mixers()) if mixer == name]


def with_filters(x: Tensor) -> Tensor:
    """(D, …) as (1, D, …): an operator of order 2 has one filter a channel."""
    return x.unsqueeze(0)


def without_filters(x: Tensor) -> Tensor:
    """The inverse."""
    return x.squeeze(0)


def skip_of(block: str) -> Row:
    """The direct path beside the filter of a block."""
    return Row(f"{block}mixer.filter.skip", f"{block}filter.D", with_filters, without_filters)


def base_of(frequencies: Tensor) -> float | None:
    """The base b of frequencies b^(−2i/E), the roundest that gives them; None of one frequency,
    which is 1 for any base.

    Raises: ValueError if they are of no base.
    """
    values = frequencies.double()
    half = values.numel()
    if half < 2:
        return None
    steps = torch.arange(half, dtype=torch.float64) / half
    tolerance = 4 * torch.finfo(frequencies.dtype).eps
    near = float(values[-1].clamp(min=torch.finfo(torch.float64).tiny) ** (-half / (half - 1)))
    for digits in range(8):
        base = float(f"{near:.{digits}e}")
        if torch.allclose(base**-steps, values, rtol=tolerance, atol=0):
            return base
    if not torch.allclose(near**-steps, values, rtol=4 * tolerance, atol=0):
        raise ValueError(
            "the rotary frequencies in the file are not the powers of one base, b^(−2i/E): "
            "positions that are scaled otherwise than by one number are not known here"
        )
    return near


def note_on_base(config: ModelConfig, public: Mapping[str, Any]) -> list[str]:
    """Says so if a configuration has another base than the file."""
    said = value_of(public, "rotary_emb_base", float)
    if said is None or isclose(config.rotary_base, said, rel_tol=1e-3):
        return []
    return [
        f"the configuration says rotary_emb_base {said:g}, but the weights were made with "
        f"{config.rotary_base:g}, which is taken"
    ]


def _with_file(settings: Settings, tensors: Mapping[str, Tensor]) -> Settings:
    """The settings with what the rotary frequencies in a file say, where it has them: its own
    heads and base count, rather than those of a configuration.

    Raises: ValueError if layers have different ones, or such as are of no base.
    """
    found = {name: x for name, x in tensors.items() if name.endswith(_FREQUENCIES)}
    embedding = tensors.get(EMBEDDING)
    if not found or embedding is None or embedding.dim() != 2:
        return settings
    first, *others = sorted(found)
    for name in others:
        if not are_equal(found[name], found[first]):
            raise ValueError(
                f"{name} differs from {first}, but all attention layers of a model have the same "
                "rotary frequencies here"
            )
    numbers = found[first].numel()
    if not (found[first].is_floating_point() and numbers) or embedding.shape[1] % (2 * numbers):
        raise ValueError(
            f"{first}, {tuple(found[first].shape)} of {found[first].dtype}, are not the rotary "
            f"frequencies of heads of a width of {embedding.shape[1]}"
        )
    heads = embedding.shape[1] // (2 * numbers)
    return Settings(heads=heads, rotary_base=base_of(found[first])).over(settings)


def _layers_of(tensors: Mapping[str, Tensor]) -> int:
    """How many blocks a file has. Raises: ValueError if none, or more than it has tensors."""
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    if layers > len(tensors):
        raise ValueError(f"blocks up to number {layers - 1}")
    return layers


def _is_tied(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the head is the embedding, be it in the file twice or once."""
    head = tensors.get(HEAD)
    return head is None or are_equal(head, tensors[EMBEDDING])


def _rows_of_model(config: ModelConfig) -> list[Row]:
    """The embedding first, then the head and the last norm."""
    rows = [
        Row(
            "embedding.weight",
            EMBEDDING,
            also=(HEAD,) if config.tied else (),
            repeated=False,
        ),
        Row("norm.weight", "norm.scale"),
    ]
    return rows if config.tied else [*rows, Row("head.weight", HEAD)]


def _rows_of_block(block: str) -> list[Row]:
    """Norms and MLP of a block; the mixer's layers aside."""
    return [
        Row(f"{block}norm1.weight", f"{block}pre_norm.scale"),
        Row(f"{block}norm2.weight", f"{block}post_norm.scale"),
        Row(f"{block}mlp.gate.weight", f"{block}mlp.l1.weight"),
        Row(f"{block}mlp.up.weight", f"{block}mlp.l2.weight"),
        Row(f"{block}mlp.down.weight", f"{block}mlp.l3.weight"),
    ]


def _rows_of_attention(block: str, read: Transform, write: Transform, *, bias: bool) -> list[Row]:
    """The attention layer of a block, whose rows of queries, keys and values lie so."""
    ours, theirs = f"{block}mixer.", f"{block}inner_mha_cls."
    zeros: dict[str, Any] = {"may_lack": True, "leave_zeros_out": True}
    rows = [
        Row(f"{ours}in_proj.weight", f"{theirs}Wqkv.weight", read, write),
        Row(f"{ours}out_proj.weight", f"{theirs}out_proj.weight"),
        Row(f"{ours}out_proj.bias", f"{theirs}out_proj.bias", **zeros),
    ]
    if bias:
        rows.append(Row(f"{ours}in_proj.bias", f"{theirs}Wqkv.bias", read, write, **zeros))
    return rows


def _rows_of_hyena(block: str, read: Transform, write: Transform, *, bias: bool) -> list[Row]:
    """The Hyena layer of a block, whose projections lie so; the filter aside."""
    ours, short = f"{block}mixer.", f"{block}filter.short_filter"
    taps = partial(_taps_of, layout=read), partial(_convolution_of, layout=write)
    rows = [
        Row(f"{ours}in_proj.weight", f"{block}projections.weight", read, write),
        Row(f"{ours}short_conv.weight", f"{short}_weight", *taps),
        Row(f"{ours}out_proj.weight", f"{block}out_filter_dense.weight"),
        Row(f"{ours}out_proj.bias", f"{block}out_filter_dense.bias", may_lack=True),
    ]
    if bias:
        rows += [
            Row(f"{ours}in_proj.bias", f"{block}projections.bias", read, write, may_lack=True),
            Row(f"{ours}short_conv.bias", f"{short}_bias", read, write, may_lack=True),
        ]
    return rows


def _taps_of(x: Tensor, layout: Transform) -> Tensor:
    """A depthwise convolution's weight (C, 1, K), last tap at lag 0, as taps (C, K) by lag."""
    return layout(x).squeeze(1).flip(1)


def _convolution_of(x: Tensor, layout: Transform) -> Tensor:
    """The inverse."""
    return layout(x.flip(1).unsqueeze(1))


def _interpolation_of(public: Mapping[str, Any]) -> float | None:
    """What a configuration divides rotary positions by; None if it does not say."""
    if not value_of(public, "use_interpolated_rotary_pos_emb", bool):
        return 1.0
    return value_of({"rotary_emb_scaling_factor": 1, **public}, "rotary_emb_scaling_factor", float)


def _frequencies(base: float, head_dim: int) -> Tensor:
    steps = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    return (base**-steps).float()
