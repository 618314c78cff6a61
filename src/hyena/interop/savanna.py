"""Evo 2 as savanna, the code that trained it, names its tensors: renamed to StripedHyena 2's names.

Its filters are there as they were trained: the taps of medium ones apart from their window, the
poles of long ones as logarithms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

from hyena.ops.arguments import FLOATS

MARK = ".mixer.dense_projection.weight"
MEDIUM_TAPS = 128
_LAYER = re.compile(r"(?:.*?\.)?(\d+)\.(.+)")
_NAMES = {
    "input_layernorm.weight": "pre_norm.scale",
    "pre_mlp_layernorm.weight": "post_norm.scale",
    "mlp.w1.weight": "mlp.l1.weight",
    "mlp.w2.weight": "mlp.l2.weight",
    "mlp.w3.weight": "mlp.l3.weight",
}
_OF_HYENA = {
    "mixer.dense_projection.weight": "projections.weight",
    "mixer.dense.weight": "out_filter_dense.weight",
    "mixer.dense.bias": "out_filter_dense.bias",
    "mixer.hyena_proj_conv.short_conv_weight": "filter.short_filter_weight",
    "mixer.mixer.short_conv.short_conv_weight": "filter.h",
    "mixer.mixer.conv_bias": "filter.D",
}
_OF_ATTENTION = {
    "mixer.dense_projection.weight": "inner_mha_cls.Wqkv.weight",
    "mixer.dense.weight": "inner_mha_cls.out_proj.weight",
    "mixer.dense.bias": "inner_mha_cls.out_proj.bias",
    "mixer.rotary_emb.inv_freq": "inner_mha_cls.rotary_emb.inv_freq",
}
_FILTER = "mixer.mixer.filter."


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under StripedHyena 2's names. Those that have none keep their own.

    Raises: ValueError if a layer is not there between others, or the parts of a filter do not fit
        each other.
    """
    layers: dict[int, dict[str, Tensor]] = {}
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = _LAYER.fullmatch(name)
        if name.endswith("word_embeddings.weight"):
            found["embedding_layer.weight"] = value
        elif match is not None and match[2] == "norm.weight":
            found["norm.scale"] = value
        elif match is not None:
            layers.setdefault(int(match[1]), {})[match[2]] = value
        else:
            found[name] = value
    numbers = sorted(layers)  # the first may not be 0
    for before, after in pairwise(numbers):
        if after != before + 1:
            raise ValueError(
                f"the checkpoint does not fit: it has layers {before} and {after}, but none between"
            )
    blocks = [layers[number] for number in numbers]
    for i, layer in enumerate(blocks):
        hyena = any(name.startswith(("mixer.mixer.", "mixer.hyena_proj_conv.")) for name in layer)
        names = {**_NAMES, **(_OF_HYENA if hyena else _OF_ATTENTION)}
        found.update(_filter(i, layer))
        for name, value in layer.items():
            if not name.startswith(_FILTER):
                new = f"blocks.{i}.{names.get(name, name)}"
                found[new] = value.unsqueeze(1) if _is_flat(name, value) else value
    return found


def _is_flat(name: str, value: Tensor) -> bool:
    """Whether a convolution's weight lacks its middle dimension."""
    return name.endswith("short_conv_weight") and value.dim() == 2


def _filter(i: int, layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The filter of layer i, of what it is computed from. Raises: ValueError as `renamed`."""
    own = {n.removeprefix(_FILTER): x for n, x in layer.items() if n.startswith(_FILTER)}
    own.pop("t", None)  # the times 0, 1, 2 … of its taps
    before = f"blocks.{i}."
    for name, value in own.items():
        if value.dtype not in FLOATS or not value.dim():
            raise ValueError(
                f"the checkpoint does not fit: {name} of layer {i}'s filter, {tuple(value.shape)} "
                f"of {value.dtype}, is no matrix of floats"
            )
    try:
        if {"h", "decay"} <= own.keys():
            taps = own.pop("h").float() * own.pop("decay").float()
            whole = taps.flatten(1)[:, :MEDIUM_TAPS].unsqueeze(1)
            made = {f"{before}filter.h": whole}
        elif {"p", "gamma", "R"} <= own.keys():
            residues = own.pop("R").float().flatten(1)
            poles = -own.pop("p").float().exp() * own.pop("gamma").float().exp()
            made = {
                f"{before}filter.log_poles": poles.flatten(1).unsqueeze(-1),
                f"{before}filter.residues": residues,
            }
        else:
            made = {}
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"the checkpoint does not fit: the parts of layer {i}'s filter have shapes that do not "
            f"fit each other ({str(error).splitlines()[0]})"
        ) from error
    return {**made, **{f"{before}{_FILTER}{name}": value for name, value in own.items()}}
