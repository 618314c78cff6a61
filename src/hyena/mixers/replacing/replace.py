"""Hyena in place of the self-attention of a given model."""

import re
from collections.abc import Callable
from typing import Any

from torch import nn

from hyena.arguments import shown
from hyena.filters import HyenaFilter, LengthPolicy, LongFilter
from hyena.filters.budget import Budget
from hyena.filters.cache import clear_cache
from hyena.mixers.attention import CausalSelfAttention
from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.replacing.multihead import MultiheadAttentionAdapter
from hyena.ops import Backend

_Attention = nn.MultiheadAttention | CausalSelfAttention


def replace_attention(
    model: nn.Module,
    max_length: int,
    *,
    causal: bool,
    order: int = 2,
    short_width: int = 3,
    dropout: float | None = None,
    length_policy: LengthPolicy | None = None,
    filter: Callable[[int], HyenaFilter] | None = None,
    backend: Backend = "auto",
    names: str | Callable[[str, nn.Module], bool] | None = None,
) -> list[str]:
    """Swaps the self-attention modules inside ``model`` for new Hyena operators, in place.

    Replaced are, wherever they stand:

    - ``torch.nn.MultiheadAttention``, as in ``torch.nn.TransformerEncoderLayer``, by a
      `MultiheadAttentionAdapter`, which is called in the same way, honours padding masks and the
      causal mask, and refuses every other ``attn_mask``, ``need_weights=True`` and cross-attention.
      The ``multihead_attn`` of a ``torch.nn.TransformerDecoderLayer`` is cross-attention and is
      left alone. Whether another module attends across is known only when it is called.
    - `hyena.CausalSelfAttention`, by a `HyenaOperator`; only with ``causal=True``.

    Each operator has the width, device, dtype and training mode of the module that it replaces,
    and fresh, trainable parameters. A module that stands in several places is replaced by one
    operator in all of them. Either everything is replaced or, on an error, nothing.

    A ``torch.nn.TransformerEncoder`` around a replaced module gets ``use_nested_tensor = False``:
    in evaluation it would otherwise turn padded inputs into nested tensors.

    Replace first, then make the optimizer, register hooks, compile or shard: these hold on to the
    modules that were there before.

    Args:
        model: holds the attention modules; may not itself be one.
        max_length: of `HyenaOperator`: the longest input, unless ``length_policy`` allows more.
        causal: True if each position may see itself and its past only, whether or not a causal
            mask is passed at the call; False if each sees the whole sequence.
        order, short_width, length_policy, backend: of `HyenaOperator`.
        dropout: of `HyenaOperator`; the default is that of the module replaced.
        filter: makes the filter for an operator of the given width, order − 1 filters a channel;
            the default is `HyenaOperator`'s.
        names: which of the modules to replace, by their qualified names in ``model``: a regular
            expression, searched for anywhere in the name, or a predicate of (name, module). The
            default is all.

    Returns: the qualified names of the replaced modules, in the order of the model.
    Raises: TypeError on a model that is no module, or a filter that is no function of the width;
        ValueError if nothing was found to replace, if ``model`` itself is an attention module,
        if a module attends in a way that Hyena does not (``kdim``, ``vdim``, ``add_bias_kv``,
        ``add_zero_attn``, a subclass with a forward of its own, a `CausalSelfAttention` with
        ``causal=False``), or on settings that `HyenaOperator` refuses.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"replace_attention: expected a module as model, got {shown(model)}")
    if isinstance(model, _Attention):
        raise ValueError(
            f"replace_attention: the model itself is a {type(model).__name__}, which cannot be "
            "replaced in place; pass the module that holds it"
        )
    found = _self_attention(model)
    chosen = {name: module for name, module in found.items() if _wanted(names, name, module)}
    if not chosen:
        raise ValueError(_nothing(names, list(found)))

    budget = Budget()  # of what all filters keep
    new: dict[int, nn.Module] = {}  # by identity, so that what was shared stays shared
    for name, module in chosen.items():
        _check(name, module, causal)
        if id(module) in new:
            continue
        weight = module.out_proj.weight
        place: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        width = module.out_proj.in_features
        mixer = HyenaOperator(
            width,
            max_length,
            order,
            short_width=short_width,
            dropout=module.dropout if dropout is None else dropout,
            bidirectional=not causal,
            length_policy=length_policy,
            filter=None if filter is None else _filter(filter, width).to(**place),
            backend=backend,
            **place,
        )
        clear_cache(mixer, budget)
        new[id(module)] = _in_place_of(module, mixer).train(module.training)

    for name, module in chosen.items():
        parent, _, attribute = name.rpartition(".")
        model.get_submodule(parent).register_module(attribute, new[id(module)])
    swapped = {id(module) for module in new.values()}
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(
            id(inner) in swapped for inner in encoder.modules()
        ):
            encoder.use_nested_tensor = False
    return list(chosen)


def _filter(make: Any, width: int) -> HyenaFilter | LongFilter:
    function = callable(make) and not isinstance(make, nn.Module | type)
    made = make(width) if function else make
    if not (function and isinstance(made, HyenaFilter | LongFilter)):
        raise TypeError(
            "replace_attention: expected as filter a function that makes one for a width, such as "
            f"lambda width: HyenaFilter(width, 1024), got {shown(made)}"
        )
    return made


def _self_attention(model: nn.Module) -> dict[str, _Attention]:
    """The attention modules by name, under each of their names, without cross-attention."""
    found: dict[str, _Attention] = {}
    crossing: set[str] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.TransformerDecoderLayer):
            crossing.add(f"{name}.multihead_attn" if name else "multihead_attn")
        elif isinstance(module, _Attention) and name not in crossing:
            found[name] = module
    return found


def _wanted(
    names: str | Callable[[str, nn.Module], bool] | None, name: str, module: nn.Module
) -> bool:
    if names is None:
        return True
    if callable(names):
        return names(name, module)
    try:
        return re.search(names, name) is not None
    except (re.error, TypeError) as error:
        raise ValueError(
            f"replace_attention: names={shown(names)} is not a regular expression: {error}"
        ) from error


def _nothing(names: str | Callable[[str, nn.Module], bool] | None, found: list[str]) -> str:
    """What to say when nothing is to be replaced."""
    if found:
        asked = shown(names) if isinstance(names, str) else "the predicate"
        sample = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        return (
            f"replace_attention: names={asked} matched none of the {len(found)} self-attention "
            f"modules: {sample}"
        )
    return (
        "replace_attention: found nothing to replace in the model; looked for "
        "torch.nn.MultiheadAttention (but not the cross-attention of "
        "torch.nn.TransformerDecoderLayer) and hyena.CausalSelfAttention"
    )


def _check(name: str, module: _Attention, causal: bool) -> None:
    """Raises ValueError if Hyena cannot stand in for the module."""
    own = f"{type(module).__name__} has a forward of its own"
    if isinstance(module, CausalSelfAttention):
        if not causal:
            raise ValueError(
                f"replace_attention: {name} is a CausalSelfAttention, so causal=False would let "
                "it see the future; pass causal=True, or leave it out (names=)"
            )
        reasons = {own: any(_own(module, CausalSelfAttention, x) for x in ("forward", "_mix"))}
    else:
        reasons = {
            f"kdim={module.kdim} or vdim={module.vdim} differs from embed_dim={module.embed_dim}": (
                not module._qkv_same_embed_dim
            ),
            "add_bias_kv=True": module.bias_k is not None or module.bias_v is not None,
            "add_zero_attn=True": module.add_zero_attn,
            own: _own(module, nn.MultiheadAttention, "forward"),
        }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(
                f"replace_attention: {name} has no counterpart in Hyena ({reason}); leave it out "
                "(names=)"
            )


def _own(module: nn.Module, kind: type[nn.Module], method: str) -> bool:
    """Whether a subclass, or the module alone, computes something else."""
    return method in vars(module) or getattr(type(module), method) is not getattr(kind, method)


def _in_place_of(module: _Attention, mixer: HyenaOperator) -> nn.Module:
    """The mixer, called as the module is."""
    if isinstance(module, CausalSelfAttention):
        return mixer
    return MultiheadAttentionAdapter(mixer, module.num_heads, batch_first=module.batch_first)
