"""Hyena in place of the self-attention of a given model."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from hyena.arguments import several, shown
from hyena.filters import HyenaFilter, LengthPolicy, LongFilter
from hyena.filters.budget import Budget
from hyena.filters.cache import clear_cache
from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.replacing.kinds import Kind, kind_of
from hyena.ops import Backend

Names = str | Sequence[str] | Callable[[str, nn.Module], bool] | None
"""Which modules of a model: see `replace_attention`."""


def replace_attention(
    model: nn.Module,
    max_length: int,
    *,
    causal: bool,
    order: int = 2,
    short_width: int = 3,
    dropout: float | None = None,
    length_policy: LengthPolicy | None = None,
    filter: Callable[[int], HyenaFilter | LongFilter] | None = None,
    backend: Backend = "auto",
    names: Names = None,
) -> list[str]:
    """Swaps the self-attention modules inside ``model`` for new Hyena operators, in place.

    Replaced are, wherever they stand:

    - ``torch.nn.MultiheadAttention``, as in ``torch.nn.TransformerEncoderLayer``, by a
      `MultiheadAttentionAdapter`, which is called in the same way, honours padding masks and the
      causal mask, and refuses every other ``attn_mask``, ``need_weights=True`` and cross-attention.
      The ``multihead_attn`` of a ``torch.nn.TransformerDecoderLayer`` is cross-attention and is
      left alone. Whether another module attends across is known only when it is called.
    - `hyena.CausalSelfAttention`, by a `HyenaOperator`; only with ``causal=True``.
    - The self-attention of BERT, GPT-2 and ViT in Hugging Face's transformers, whatever the head of
      the model, by a `TransformersAttentionAdapter`. It honours their padding masks and refuses
      others. GPT-2, and BERT as a decoder, need ``causal=True``; they generate with a cache, which
      then holds the operator's state. Cross-attention is left alone.
    - The ``Attention`` of Vision Transformers in timm, by a `TimmAttentionAdapter`.

    A class token in front is to see the image behind it: replace with ``causal=False``, or pool
    over all tokens in its place.

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
            expression, of whole parts between dots, so that ``"layers.1"`` is in
            ``"layers.1.self_attn"`` and not in ``"layers.10.self_attn"``; several of them; or a
            predicate of (name, module). The default is all.

    Returns: the qualified names of the replaced modules, in the order of the model.
    Raises: TypeError on a model that is no module, or a filter that is no function of the width;
        ValueError if nothing was found to replace, if one of the names is in none of what was found
        or is no regular expression, on other names, if ``model`` itself is an attention module,
        if a module attends in a way that Hyena does not (``kdim``, ``vdim``, ``add_bias_kv``,
        ``add_zero_attn``, an output of another width than the input, a subclass with a forward of
        its own, causal attention with ``causal=False``), or on settings that `HyenaOperator`
        refuses.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"replace_attention: expected a module as model, got {shown(model)}")
    if kind_of(model) is not None:
        raise ValueError(
            f"replace_attention: the model itself is a {type(model).__name__}, which cannot be "
            "replaced in place; pass the module that holds it"
        )
    found = _self_attention(model)
    if not found:
        raise ValueError(
            "replace_attention: found nothing to replace in the model; looked for "
            "torch.nn.MultiheadAttention, hyena.CausalSelfAttention, the attention of BERT, GPT-2 "
            "and ViT in transformers and of Vision Transformers in timm, but not for "
            "cross-attention"
        )
    wanted = _wanted(names, {name: module for name, (_, module) in found.items()})
    chosen = {name: each for name, each in found.items() if name in wanted}

    budget = Budget()  # of what all filters keep
    new: dict[int, nn.Module] = {}  # by identity, so that what was shared stays shared
    for name, (kind, module) in chosen.items():
        _check(name, kind, module, causal)
        if id(module) in new:
            continue
        weight, width = kind.weight(module), kind.width(module)
        place: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        mixer = HyenaOperator(
            width,
            max_length,
            order,
            short_width=short_width,
            dropout=kind.dropout(module) if dropout is None else dropout,
            bidirectional=not causal,
            length_policy=length_policy,
            filter=None if filter is None else _filter(filter, width).to(**place),
            backend=backend,
            **place,
        )
        clear_cache(mixer, budget)
        new[id(module)] = kind.replacement(module, mixer).train(module.training)

    for name, (_, module) in chosen.items():
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


def _self_attention(model: nn.Module) -> dict[str, tuple[Kind, Any]]:
    """The attention modules and their kinds by name, under each of their names, without
    cross-attention."""
    found: dict[str, tuple[Kind, Any]] = {}
    crossing: set[str] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.TransformerDecoderLayer):
            crossing.add(f"{name}.multihead_attn" if name else "multihead_attn")
        elif name not in crossing:
            kind = kind_of(module)
            if kind is not None and not kind.crosses(module):
                found[name] = kind, module
    return found


def _wanted(names: Names, found: dict[str, nn.Module]) -> set[str]:
    """The names of those that are meant. Raises: as `replace_attention`."""
    if names is None:
        return {*found}
    if callable(names):
        chosen = {name for name, module in found.items() if names(name, module)}
        if not chosen:
            raise ValueError(_matches_none("the predicate", found))
        return chosen
    patterns = several(names)
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(
            "replace_attention: expected as names a regular expression, a list of them, or a "
            f"predicate of (name, module), got {shown(names)}"
        )
    chosen = set()
    for pattern in patterns:
        whole = _whole_parts(pattern)
        matched = {name for name in found if whole.search(name)}
        if not matched:
            raise ValueError(_matches_none(shown(pattern), found))
        chosen |= matched
    return chosen


def _whole_parts(pattern: str) -> re.Pattern[str]:
    """The pattern where it begins and ends at a dot, or at an end of the name."""
    try:
        re.compile(pattern)  # which may be none by itself
        return re.compile(rf"(?:(?<![^.])|(?=\.))(?:{pattern})(?:(?![^.])|(?<=\.))")
    except re.error as error:
        raise ValueError(
            f"replace_attention: names={shown(pattern)} is not a regular expression: {error.msg}"
        ) from error


def _matches_none(names: str, found: Iterable[str]) -> str:
    """What to say of names that are in none of those that were found."""
    every = list(found)
    sample = ", ".join(every[:5]) + (", …" if len(every) > 5 else "")
    return (
        f"replace_attention: names={names} matched none of the {len(every)} self-attention "
        f"modules: {sample}"
    )


def _check(name: str, kind: Kind, module: Any, causal: bool) -> None:
    """Raises ValueError if Hyena cannot stand in for the module."""
    title = type(module).__name__
    if kind.causal(module) and not causal:
        raise ValueError(
            f"replace_attention: {name} is a {title} that sees its past only, and causal=False "
            "would let it see the future; pass causal=True, or leave it out (names=)"
        )
    base = kind.base_of(module)
    own = any(_own(module, base, method) for method in kind.methods)
    reasons = {**kind.reasons(module), f"{title} has a forward of its own": own}
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(
                f"replace_attention: {name} has no counterpart in Hyena ({reason}); leave it out "
                "(names=)"
            )


def _own(module: nn.Module, base: type[nn.Module] | None, method: str) -> bool:
    """Whether a class derived from the base, or the module alone, computes something else."""
    return method in vars(module) or getattr(type(module), method) is not getattr(base, method)
