"""What the files of StripedHyena and of StripedHyena 2 have in common.

Sizes: D width, H heads, E = D/H, K taps.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import isclose
from typing import Any

import torch
from torch import Tensor

from hyena.interop.settings import Projections, Settings
from hyena.interop.table import Row, Transform, same
from hyena.model import ModelConfig

EMBEDDING, HEAD = "embedding_layer.weight", "unembed.weight"
WQKV = "inner_mha_cls.Wqkv.weight"
_FREQUENCIES = "inner_mha_cls.rotary_emb.inv_freq"


def layout_of(projections: Projections, heads: int) -> tuple[Transform, Transform]:
    """How rows (3·D, …) become the three projections one after the other, and the inverse."""
    if projections == "split":
        return same, same
    if projections == "interleaved":
        return partial(_from_groups, sizes=(-1, 3)), partial(_to_groups, sizes=(3, -1))
    return partial(from_heads, heads=heads), partial(to_heads, heads=heads)


def from_heads(x: Tensor, heads: int) -> Tensor:
    """Rows (H, 3, E) as (3, H, E)."""
    return _from_groups(x, (heads, 3, -1))


def to_heads(x: Tensor, heads: int) -> Tensor:
    """The inverse."""
    return _to_groups(x, (3, heads, -1))


def _from_groups(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    return x.unflatten(0, sizes).transpose(0, 1).flatten(0, len(sizes) - 1)


_to_groups = _from_groups  # the first two of the sizes change places either way


def taps_of(x: Tensor, layout: Transform = same) -> Tensor:
    """A depthwise convolution's weight (C, 1, K), last tap at lag 0, as taps (C, K) by lag."""
    return layout(x).squeeze(1).flip(1)


def convolution_of(x: Tensor, layout: Transform = same) -> Tensor:
    """The inverse."""
    return layout(x.flip(1).unsqueeze(1))


def without_filters(x: Tensor) -> Tensor:
    """(1, …) as (…): an operator of order 2 has one filter a channel."""
    return x.squeeze(0)


def with_filters(x: Tensor) -> Tensor:
    """The inverse."""
    return x.unsqueeze(0)


def rows_of_model(config: ModelConfig) -> list[Row]:
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


def rows_of_block(block: str) -> list[Row]:
    """Norms and MLP of a block, such as "blocks.0."; the mixer's layers aside."""
    return [
        Row(f"{block}norm1.weight", f"{block}pre_norm.scale"),
        Row(f"{block}norm2.weight", f"{block}post_norm.scale"),
        Row(f"{block}mlp.gate.weight", f"{block}mlp.l1.weight"),
        Row(f"{block}mlp.up.weight", f"{block}mlp.l2.weight"),
        Row(f"{block}mlp.down.weight", f"{block}mlp.l3.weight"),
    ]


def rows_of_attention(
    block: str, read: Transform = same, write: Transform = same, *, bias: bool
) -> list[Row]:
    """The attention layer of a block, whose rows (3·D, …) lie so."""
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


def frequencies_of(config: ModelConfig, block: str) -> tuple[str, partial[Tensor]]:
    """Name and maker of the rotary frequencies that a file has with each attention layer."""
    return block + _FREQUENCIES, partial(_frequencies, config.rotary_base, head_dim_of(config))


def head_dim_of(config: ModelConfig) -> int:
    """E, as attention layers of the model have it, or would have it."""
    head_dim = min(64, config.width) if config.head_dim is None else config.head_dim
    return config.width if config.width % head_dim else head_dim


def layers_of(tensors: Mapping[str, Tensor]) -> int:
    """How many blocks a file has. Raises: ValueError if none."""
    return 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))


def is_tied(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the head is the embedding, be it in the file twice or once."""
    head = tensors.get(HEAD)
    return head is None or torch.equal(head, tensors[EMBEDDING])


def with_file(settings: Settings, tensors: Mapping[str, Tensor]) -> Settings:
    """The settings with what the rotary frequencies in a file say, where it has them: its own
    heads and base count, rather than those of a configuration."""
    found = next((x for name, x in tensors.items() if name.endswith(_FREQUENCIES)), None)
    embedding = tensors.get(EMBEDDING)
    if found is None or embedding is None or not (found.numel() and embedding.dim()):
        return settings
    heads = embedding.shape[-1] // (2 * found.numel())
    return Settings(heads=heads, rotary_base=base_of(found)).over(settings)


def base_of(frequencies: Tensor) -> float | None:
    """The base b of frequencies b^(−2i/E), the roundest that gives them; None of one frequency,
    which is 1 for any base."""
    values = frequencies.double()
    half = values.numel()
    if half < 2 or not bool((values > 0).all()) or float(values[-1]) == 1:
        return None
    near = float(values[-1] ** (-half / (half - 1)))
    steps = torch.arange(half, dtype=torch.float64) / half
    tolerance = 4 * torch.finfo(frequencies.dtype).eps
    for digits in range(8):
        base = float(f"{near:.{digits}e}")
        if torch.allclose(base**-steps, values, rtol=tolerance, atol=0):
            return base
    return near


def note_on_base(config: ModelConfig, public: Mapping[str, Any]) -> list[str]:
    """Says so if a configuration has another base than the file."""
    said = public.get("rotary_emb_base")
    if not isinstance(said, int | float) or isclose(config.rotary_base, said, rel_tol=1e-3):
        return []
    return [
        f"the configuration says rotary_emb_base {said:g}, but the weights were made with "
        f"{config.rotary_base:g}, which is taken"
    ]


def interpolation_of(public: Mapping[str, Any]) -> float:
    """What a configuration divides rotary positions by."""
    factor = public.get("rotary_emb_scaling_factor", 1)
    stretched = public.get("use_interpolated_rotary_pos_emb") is True
    return float(factor) if stretched and isinstance(factor, int | float) else 1.0


def rotary_settings(config: ModelConfig) -> dict[str, Any]:
    """What a configuration says of rotary positions."""
    found: dict[str, Any] = {"rotary_emb_base": config.rotary_base}
    if config.rotary_scale != 1:
        found["use_interpolated_rotary_pos_emb"] = True
        found["rotary_emb_scaling_factor"] = config.rotary_scale
    return found


def places(mixers: list[str], name: str) -> list[int]:
    """Where a mixer stands in the layers."""
    return [i for i, mixer in enumerate(mixers) if mixer == name]


def pattern_of(mixers: list[str]) -> str:
    """The mixers of all layers as `ModelConfig` has them."""
    return mixers[0] if len(set(mixers)) == 1 else ",".join(mixers)


def _frequencies(base: float, head_dim: int) -> Tensor:
    steps = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    return (base**-steps).float()
