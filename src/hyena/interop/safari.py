"""Language models of HazyResearch's safari, and HyenaDNA's, which have the same layers.

HyenaDNA's are in two forms: the authors' ``weights.ckpt``, which is safari's, and a Hugging Face
port, ``LongSafari/hyenadna-*-hf``, whose files name the sine frequency once and whose configuration
has other names.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hyena.arguments import shown
from hyena.filters import HyenaFilter
from hyena.interop import weights
from hyena.interop.safari_operator import (
    FilterLayout,
    hyena_names,
    repeated_frequencies,
    to_ours,
    to_theirs,
)
from hyena.interop.settings import Settings, need, refuse_others, value_of, vocabulary
from hyena.interop.table import Family, Row, Table
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.saved import some

_HEAD = "lm_head.weight"
_EMBEDDING = "backbone.embeddings.word_embeddings.weight"
_Z, _T = ".mixer.filter_fn.pos_emb.z", ".mixer.filter_fn.pos_emb.t"
_WHAT = "a safari language model"
_DNA_IDS, _DNA_SHIFT = 12, 0.05


def load_safari(
    path: str | Path,
    *,
    window: bool,
    normalized: bool,
    shift: float | None = None,
    layout: FilterLayout | None = None,
    positions: Literal["file", "computed"] = "file",
    vocab_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """The language model in a safari checkpoint, in evaluation mode; `hyena.load` with all settings
    given by hand.

    Args:
        path: see `hyena.load`.
        window: the config's ``modulate``: whether filters are multiplied by the decaying window.
        normalized: the config's ``normalized``.
        shift: the window's ``shift``; needed if ``window``. 0.0 in safari's configs.
        layout: of the filters' channels; needed for models of order 3 and more. "channel_major"
            for safari's ``hyena.py``, "order_major" for its ``standalone_hyena.py``.
        positions: "file" keeps the file's encoding and times, as a table that can be trained;
            "computed" takes the formula instead, for a file whose encoding was not trained.
        vocab_size: entries of the tokenizer, if the embedding's rows are padded beyond them.
        dtype: of the parameters.

    Raises: FileNotFoundError; ValueError on a file that is damaged or of another kind, on missing
        or unknown names (all are listed), or on a setting that is needed.
    """
    if positions not in ("file", "computed"):
        raise ValueError(
            f'load_safari: expected positions "file" or "computed", got {shown(positions)}'
        )
    if layout is not None and layout not in get_args(FilterLayout):
        raise ValueError(
            f"load_safari: expected layout {' or '.join(get_args(FilterLayout))}, got "
            f"{shown(layout)}"
        )
    tensors = weights.read(Path(path))
    if window and shift is None:
        raise ValueError(
            "load_safari: window=True needs shift=, which the file does not say; "
            "0.0 in safari's configs, 0.05 in HyenaDNA's"
        )
    settings = Settings(
        window=window,
        normalized=normalized,
        shift=shift,
        layout=layout,
        positions=positions,
        vocab_size=vocab_size,
    )
    return SAFARI.model(tensors, settings, dtype)


def _marks(tensors: Mapping[str, Tensor]) -> bool:
    return _EMBEDDING in tensors


def _settings(config: Mapping[str, Any]) -> Settings:
    """What safari's configuration says, and what its code takes where that says nothing."""
    if "hyena_order" in config or config.get("model_type") == "hyenadna":  # the Hugging Face port
        return Settings(
            window=True,
            normalized=False,
            shift=_DNA_SHIFT,
            vocab_size=value_of(config, "vocab_size", int),
            max_length=value_of(config, "max_seq_len", int),
            norm_eps=value_of(config, "layer_norm_epsilon", float),
        )
    layer = value_of(config, "layer", dict)
    if layer is None:
        return Settings()
    refuse_others(
        layer,
        bidirectional=(False,),
        outer_mixing=(False,),
        num_blocks=(1,),
        activation=("id", None),
    )
    vocab_size = value_of(config, "vocab_size", int)
    shift = _DNA_SHIFT if vocab_size == _DNA_IDS else 0.0
    return Settings(
        window=value_of({"modulate": True, **layer}, "modulate", bool),
        normalized=value_of({"normalized": False, **layer}, "normalized", bool),
        shift=value_of({"shift": shift, **layer}, "shift", float),
        vocab_size=vocab_size,
        max_length=value_of(layer, "l_max", int),
        norm_eps=value_of(config, "layer_norm_epsilon", float),
    )


def _prepared(tensors: dict[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """With the times of each encoding, which follow from its length."""
    computed = settings.positions == "computed"
    for name in [name for name in tensors if name.endswith(_Z) and tensors[name].dim() == 3]:
        times = name.removesuffix(_Z) + _T
        if times in tensors and not computed:
            continue
        z, t = _formula(*tensors[name].shape[1:])
        for own, formula in ((name, z), (times, t)):
            if computed and not _is_near(tensors.get(own, formula), formula):
                raise ValueError(
                    f'{own} was trained, so positions="computed" would change the model; '
                    'use positions="file"'
                )
        tensors.setdefault(times, t)
    return tensors


def _is_near(x: Tensor, formula: Tensor) -> bool:
    return x.shape == formula.shape and torch.allclose(x.float(), formula, rtol=0, atol=1e-4)


def _config(tensors: Mapping[str, Tensor], settings: Settings) -> ModelConfig:
    """What the shapes say, and the settings."""
    mixer = "backbone.layers.0.mixer."
    network = mixer + "filter_fn.implicit_filter."
    tables = [value for name, value in tensors.items() if name.endswith(_Z)]
    try:
        rows, width = tensors[_EMBEDDING].shape
        layers = 1 + max(int(n.split(".")[2]) for n in tensors if n.startswith("backbone.layers."))
        indices = {int(n[len(network) :].split(".")[0]) for n in tensors if n.startswith(network)}
        order = tensors[mixer + "in_proj.weight"].shape[0] // width - 1
        hidden = tensors["backbone.layers.0.mlp.fc1.weight"].shape[0]
        short_width = tensors[mixer + "short_filter.weight"].shape[2]
        filter_width, emb_dim = tensors[network + "0.weight"].shape
        table = tensors.get(f"backbone.layers.0{_Z}", tables[0] if tables else None)
        length = settings.max_length if table is None else table.shape[1]
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"this is no safari language model: missing or misshapen: {error}; "
            f"found {some(tensors)}"
        ) from error
    asked = {
        "window": "whether its filters are multiplied by a decaying window, modulate in safari's "
        "configuration, true in HyenaDNA",
        "normalized": "whether they are divided by their norm over channels, false in HyenaDNA",
    }
    if settings.window:
        asked["shift"] = "what is added to the window, 0.0 in safari, 0.05 in HyenaDNA"
    if order > 2:
        asked["layout"] = (
            'of the filters, "channel_major" of safari\'s hyena.py, "order_major" of '
            "standalone_hyena.py"
        )
    if length is None:
        asked["max_length"] = "the longest input, since it has no encoding of the positions"
    need(settings, _WHAT, **asked)
    return ModelConfig(
        **vocabulary(rows, settings),
        width=width,
        layers=layers,
        mlp_width=hidden,
        max_length=length or 0,
        order=order,
        short_width=short_width,
        norm_eps=1e-5 if settings.norm_eps is None else settings.norm_eps,
        filter=FilterConfig(
            emb_dim=emb_dim,
            width=filter_width,
            depth=max(indices) // 2 + 1,
            window=settings.window,  # type: ignore[arg-type]  # it was asked for
            normalized=settings.normalized,  # type: ignore[arg-type]
            shift=settings.shift or 0.0,
            train_encoding=bool(tables) and settings.positions != "computed",
        ),
    )


def _table(config: ModelConfig, settings: Settings, repeated: bool = True) -> Table:
    filter = config.filter
    layout: FilterLayout = settings.layout or "channel_major"
    how: dict[str, Any] = {
        "depth": filter.depth,
        "filters": config.order - 1,
        "layout": layout,
    }
    rows = [
        Row("embedding.weight", _EMBEDDING, also=(_HEAD,)),
        Row("norm.weight", "backbone.ln_f.weight"),
        Row("norm.bias", "backbone.ln_f.bias"),
    ]
    made = {}
    for i in range(config.layers):
        ours, theirs = f"blocks.{i}.", f"backbone.layers.{i}."
        for part in ("weight", "bias"):
            rows += [
                Row(f"{ours}norm1.{part}", f"{theirs}norm1.{part}"),
                Row(f"{ours}norm2.{part}", f"{theirs}norm2.{part}"),
                Row(f"{ours}mlp.up.{part}", f"{theirs}mlp.fc1.{part}"),
                Row(f"{ours}mlp.down.{part}", f"{theirs}mlp.fc2.{part}"),
            ]
        for name, named in hyena_names(filter.depth, filter.train_encoding).items():
            again = repeated_frequencies(filter.depth) if name == "filter.sine_freq" else []
            rows.append(
                Row(
                    f"{ours}mixer.{name}",
                    f"{theirs}mixer.{named}",
                    partial(to_ours, name, **how),
                    partial(to_theirs, name, **how),
                    also=tuple(f"{theirs}mixer.{other}" for other in again),
                    repeated=repeated,
                    wide=name.startswith("filter.") and name != "filter.skip",
                )
            )
        if not filter.train_encoding:
            for place, name in enumerate((_Z, _T)):
                sizes = config.max_length, filter.emb_dim, place
                made[theirs.removesuffix(".") + name] = partial(_part_of_formula, *sizes)
    return Table(rows, made)


def _formula(length: int, emb_dim: int) -> tuple[Tensor, Tensor]:
    """The encoding (1, L, emb_dim) and the times (1, L, 1) that are not trained."""
    filter = HyenaFilter(1, length, emb_dim=emb_dim, train_encoding=True)
    assert filter.encoding is not None
    assert filter.time is not None
    return filter.encoding.detach()[None], filter.time.detach().view(1, -1, 1)


def _part_of_formula(length: int, emb_dim: int, place: int) -> Tensor:
    return _formula(length, emb_dim)[place]


def _configuration(
    config: ModelConfig, settings: Settings, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    filter = config.filter
    return {
        "d_model": config.width,
        "n_layer": config.layers,
        "d_inner": config.hidden,
        "vocab_size": config.vocab_size,
        "pad_vocab_size_multiple": config.vocab_multiple,
        "layer_norm_epsilon": config.norm_eps,
        "layer": {
            "_name_": "hyena",
            "l_max": config.max_length,
            "order": config.order,
            "filter_order": filter.width,
            "num_inner_mlps": filter.depth - 2,
            "emb_dim": filter.emb_dim,
            "short_filter_order": config.short_width,
            "modulate": filter.window,
            "shift": filter.shift,
            "normalized": filter.normalized,
            "w": filter.sine_freq,
        },
    }


def _configuration_of_port(
    config: ModelConfig, settings: Settings, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    filter = config.filter
    return {
        "model_type": "hyenadna",
        "d_model": config.width,
        "d_inner": config.hidden,
        "n_layer": config.layers,
        "vocab_size": config.vocab_size,
        "pad_vocab_size_multiple": config.vocab_multiple,
        "pad_token_id": 4,
        "max_seq_len": config.max_length,
        "hyena_order": config.order,
        "short_filter_order": config.short_width,
        "filter_order": filter.width,
        "num_inner_mlps": filter.depth - 2,
        "emb_dim": filter.emb_dim,
        "activation_freq": filter.sine_freq,
        "train_freq": filter.train_sine_freq,
        "layer_norm_epsilon": config.norm_eps,
    }


_READS = frozenset(
    {
        *("window", "shift", "normalized", "layout", "positions"),
        *("vocab_size", "max_length", "norm_eps"),
    }
)
_REQUIRED: dict[str, tuple[object, ...]] = {
    "filter.kind": ("hyena",),
    "positions": ("rotary", "none"),  # of attention, which it has none of
    "tied": (True,),
    "norm": ("layer",),
    "mlp": ("plain",),
    "activation": ("gelu-tanh",),
    "in_proj_bias": (True,),
}

SAFARI = Family(
    name="safari",
    title=_WHAT,
    marks=_marks,
    reads=_READS,
    settings=_settings,
    prepared=_prepared,
    config=_config,
    table=_table,
    requires=_REQUIRED,
    mixers=frozenset({"hyena"}),
    sizes=("d_model", "n_layer"),
    configuration=_configuration,
    weights="weights.ckpt",
)
"""HazyResearch/safari, and HyenaDNA's original checkpoints."""

HYENADNA = replace(
    SAFARI,
    name="hyenadna-hf",
    title="a HyenaDNA model of the Hugging Face port",
    table=partial(_table, repeated=False),
    requires={
        **_REQUIRED,
        "filter.window": (True,),
        "filter.normalized": (False,),
        "filter.shift": (_DNA_SHIFT,),
    },
    configuration=_configuration_of_port,
    prefix="hyena.",
    weights="model.safetensors",
)
"""``LongSafari/hyenadna-*-hf``; read as safari's, from which it differs in names alone."""
