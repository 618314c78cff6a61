"""Names and layouts of the public code's Hyena operator (HazyResearch/safari, HyenaDNA).

The public code multiplies by exp(−t·|δ|) with negative δ; here the decay is |δ|. It stores the
short convolution as `torch.nn.Conv1d` does, last tap at lag 0; here tap j has lag j. For order > 2
its two implementations lay out the filters' channels differently, see `FilterLayout`.
"""

from typing import Literal

from torch import Tensor

FilterLayout = Literal["order_major", "channel_major"]
"""Layout of the N−1 filters of D channels: "channel_major" in safari's ``hyena.py``, written
(v o) there; "order_major" in its ``standalone_hyena.py`` and in HyenaDNA, written (o d). They agree
at order 2."""


def hyena_names(depth: int, train_encoding: bool) -> dict[str, str]:
    """Our parameter names → the public code's, for one operator whose filter has ``depth`` layers.

    The public code lists its one sine frequency under several names; the first stands for all.
    """
    names = {
        "in_proj.weight": "in_proj.weight",
        "in_proj.bias": "in_proj.bias",
        "out_proj.weight": "out_proj.weight",
        "out_proj.bias": "out_proj.bias",
        "short_conv.weight": "short_filter.weight",
        "short_conv.bias": "short_filter.bias",
        "filter.skip": "filter_fn.bias",
        "filter.decay": "filter_fn.modulation.deltas",
        "filter.sine_freq": "filter_fn.implicit_filter.1.freq",
    }
    for i in range(depth):
        names[f"filter.layers.{i}.weight"] = f"filter_fn.implicit_filter.{2 * i}.weight"
        if i < depth - 1:
            names[f"filter.layers.{i}.bias"] = f"filter_fn.implicit_filter.{2 * i}.bias"
    if train_encoding:
        names["filter.encoding"] = "filter_fn.pos_emb.z"
        names["filter.time"] = "filter_fn.pos_emb.t"
    return names


def repeated_frequencies(depth: int) -> list[str]:
    """The further names under which the public code lists its sine frequency."""
    return [f"filter_fn.implicit_filter.{2 * i + 1}.freq" for i in range(1, depth - 1)]


def to_ours(name: str, value: Tensor, *, depth: int, filters: int, layout: FilterLayout) -> Tensor:
    """A tensor of the public code in our shape, by our name of it.

    Linear in ``value``, but for the decay, whose sign is dropped.
    """
    if name == "short_conv.weight":
        return value.squeeze(1).flip(1)
    if name in ("filter.sine_freq", "filter.encoding"):
        return value.squeeze(0)
    if name == "filter.time":
        return value.flatten()
    if name == "filter.skip":
        return _by_filter(value, filters, layout)
    if name == "filter.decay":
        return _by_filter(value.flatten().abs(), filters, layout)
    if name == f"filter.layers.{depth - 1}.weight":
        return _by_filter(value, filters, layout).flatten(0, 1)
    return value


def to_theirs(
    name: str, value: Tensor, *, depth: int, filters: int, layout: FilterLayout
) -> Tensor:
    """The inverse of `to_ours`, with the sign that decays have in the public code."""
    if name == "short_conv.weight":
        return value.flip(1).unsqueeze(1)
    if name in ("filter.sine_freq", "filter.encoding"):
        return value.unsqueeze(0)
    if name == "filter.time":
        return value.reshape(1, -1, 1)
    if name == "filter.skip":
        return _as_rows(value, layout)
    if name == "filter.decay":
        return -_as_rows(value, layout).abs().reshape(1, 1, -1)
    if name == f"filter.layers.{depth - 1}.weight":
        return _as_rows(value.unflatten(0, (filters, -1)), layout)
    return value


def _as_rows(value: Tensor, layout: FilterLayout) -> Tensor:
    """(N−1, D, …) as rows (D·(N−1), …)."""
    return (value if layout == "order_major" else value.transpose(0, 1)).flatten(0, 1)


def _by_filter(value: Tensor, filters: int, layout: FilterLayout) -> Tensor:
    """Rows (D·(N−1), …) as (N−1, D, …)."""
    if layout == "order_major":
        return value.unflatten(0, (filters, -1))
    return value.unflatten(0, (-1, filters)).transpose(0, 1).contiguous()
