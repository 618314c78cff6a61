"""Language models of the public code (HazyResearch/safari), read into ours.

Their state dicts say nothing of the filter's window and normalisation, so the caller does.
"""

import pickle
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hyena.arguments import shown
from hyena.filters import HyenaFilter
from hyena.interop.safari_operator import (
    FilterLayout,
    hyena_names,
    repeated_frequencies,
    to_ours,
)
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.saved import some

# What torch.load raises on bytes that are no checkpoint: its unpickler checks little on the way.
_DAMAGED = (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError)
_HEAD = "lm_head.weight"
_EMBEDDING = "backbone.embeddings.word_embeddings.weight"


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
    """The language model in a safari checkpoint, in evaluation mode.

    Args:
        path: a ``.safetensors`` file, or a PyTorch file that loads with ``weights_only=True``
            (a state dict, or a dict with one under "state_dict"). Prefixes ``model.`` and
            ``module.`` are dropped.
        window: the config's ``modulate``: whether filters are multiplied by the decaying window.
        normalized: the config's ``normalized``.
        shift: the window's ``shift``; needed if ``window``. 0.0 in safari's configs.
        layout: of the filters' channels; needed for models of order 3 and more. "channel_major"
            for safari's ``hyena.py``, "order_major" for its ``standalone_hyena.py``.
        positions: "file" keeps the file's encoding and times, as a table that can be trained;
            "computed" takes the formula instead, for a file whose encoding was not trained.
        vocab_size: entries of the tokenizer, if the embedding's rows are padded beyond them.
        dtype: of the parameters.

    Raises: FileNotFoundError; ValueError on a file that cannot be read without running its code,
        on missing or unknown names (all are listed), or on a setting that is needed.
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
    state = _read(Path(path))
    if window and shift is None:
        raise ValueError(
            "load_safari: window=True needs shift=, which the file does not say; "
            "0.0 in safari's configs, 0.05 in HyenaDNA's"
        )
    table = positions == "file"
    of_filter = FilterConfig(
        window=window, normalized=normalized, shift=shift or 0.0, train_encoding=table
    )
    config = _config(state, of_filter)
    if vocab_size is not None:
        rows = config.vocab_size
        if not 1 <= vocab_size <= rows:
            raise ValueError(
                f"load_safari: vocab_size={shown(vocab_size)}, but the embedding has {rows} rows"
            )
        config = replace(config, vocab_size=vocab_size, vocab_multiple=rows)
    filters, depth = config.order - 1, config.filter.depth
    if filters > 1 and layout is None:
        raise ValueError(
            f"load_safari: the model is of order {config.order}, so layout= is needed, which the "
            'file does not say: "channel_major" for safari\'s hyena.py, "order_major" for '
            "standalone_hyena.py"
        )
    names = _names(config)
    _check_names(state, names, config)
    _check_ties(state, config)
    if positions == "computed":
        _check_untrained(state, config)
    model = LanguageModel(config, device="meta", dtype=dtype)
    ours = {}
    for name, expected in model.state_dict().items():
        value, found = state[names[name]], None
        with suppress(RuntimeError, IndexError):  # its dimensions cannot be split or merged so
            found = to_ours(
                name.split(".mixer.")[-1],
                value,
                depth=depth,
                filters=filters,
                layout=layout or "order_major",
            )
        if found is None or found.shape != expected.shape or not value.is_floating_point():
            raise ValueError(
                f"the checkpoint does not fit: {names[name]}, {tuple(value.shape)} of "
                f"{value.dtype}, is not what the sizes of its other tensors make it"
            )
        ours[name] = found.to(dtype, copy=True)
    model.load_state_dict(ours, assign=True)
    return model.eval()


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    except pickle.UnpicklingError as error:  # its text advises to turn the protection off
        raise ValueError(
            f"{path} is no checkpoint, or one that cannot be read without running code from it; "
            "convert it to safetensors where you trust it"
        ) from error
    except (SafetensorError, *_DAMAGED) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is damaged or no checkpoint ({reason})") from error
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise ValueError(f"{path} holds no state dict of tensors")
    return {k.removeprefix("module.").removeprefix("model."): v for k, v in state.items()}


def _config(state: dict[str, Tensor], of_filter: FilterConfig) -> ModelConfig:
    """What the shapes say, besides what the caller said of the filters."""
    mixer = "backbone.layers.0.mixer."
    filter = mixer + "filter_fn.implicit_filter."
    try:
        rows, width = state[_EMBEDDING].shape
        layers = 1 + max(int(n.split(".")[2]) for n in state if n.startswith("backbone.layers."))
        z = state[mixer + "filter_fn.pos_emb.z"]
        indices = {int(n[len(filter) :].split(".")[0]) for n in state if n.startswith(filter)}
        return ModelConfig(
            vocab_size=rows,
            vocab_multiple=1,
            width=width,
            layers=layers,
            mlp_width=state["backbone.layers.0.mlp.fc1.weight"].shape[0],
            max_length=z.shape[1],
            order=state[mixer + "in_proj.weight"].shape[0] // width - 1,
            short_width=state[mixer + "short_filter.weight"].shape[2],
            filter=replace(
                of_filter,
                emb_dim=z.shape[2],
                width=state[filter + "0.weight"].shape[0],
                depth=max(indices) // 2 + 1,
            ),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(
            f"this is no safari language model: missing or misshapen: {error}; found {some(state)}"
        ) from error


def _names(config: ModelConfig) -> dict[str, str]:
    """Our names → the file's."""
    names = {
        "embedding.weight": _EMBEDDING,
        "norm.weight": "backbone.ln_f.weight",
        "norm.bias": "backbone.ln_f.bias",
    }
    mixer = hyena_names(config.filter.depth, config.filter.train_encoding)
    for i in range(config.layers):
        ours, theirs = f"blocks.{i}.", f"backbone.layers.{i}."
        for part in ("weight", "bias"):
            names[f"{ours}norm1.{part}"] = f"{theirs}norm1.{part}"
            names[f"{ours}norm2.{part}"] = f"{theirs}norm2.{part}"
            names[f"{ours}mlp.up.{part}"] = f"{theirs}mlp.fc1.{part}"
            names[f"{ours}mlp.down.{part}"] = f"{theirs}mlp.fc2.{part}"
        for a, b in mixer.items():
            names[f"{ours}mixer.{a}"] = f"{theirs}mixer.{b}"
    return names


def _check_names(state: dict[str, Tensor], names: dict[str, str], config: ModelConfig) -> None:
    own = repeated_frequencies(config.filter.depth)
    own += ["filter_fn.pos_emb.z", "filter_fn.pos_emb.t"]
    repeats = {f"backbone.layers.{i}.mixer.{name}" for i in range(config.layers) for name in own}
    missing = sorted(set(names.values()) - set(state))
    unknown = sorted(set(state) - set(names.values()) - repeats - {_HEAD})
    if missing or unknown:
        raise ValueError(
            f"the checkpoint does not fit: missing {', '.join(missing) or 'none'}; "
            f"unknown {', '.join(unknown) or 'none'}"
        )


def _check_ties(state: dict[str, Tensor], config: ModelConfig) -> None:
    """What the file holds several times must be equal, since we keep it once."""
    if _HEAD in state and not torch.equal(state[_HEAD], state[_EMBEDDING]):
        raise ValueError(f"{_HEAD} differs from {_EMBEDDING}: an untied head is not supported")
    for i in range(config.layers):
        filter = f"backbone.layers.{i}.mixer.filter_fn."
        first = state[filter + "implicit_filter.1.freq"]
        for name in repeated_frequencies(config.filter.depth):
            full = f"backbone.layers.{i}.mixer.{name}"
            if full in state and not torch.equal(state[full], first):
                raise ValueError(f"{full} differs from the first sine frequency of its filter")


def _check_untrained(state: dict[str, Tensor], config: ModelConfig) -> None:
    formula = HyenaFilter(1, config.max_length, emb_dim=config.filter.emb_dim, train_encoding=True)
    assert formula.encoding is not None
    for i in range(config.layers):
        name = f"backbone.layers.{i}.mixer.filter_fn.pos_emb.z"
        if not torch.allclose(state[name][0].float(), formula.encoding, rtol=0, atol=1e-4):
            raise ValueError(
                f'{name} was trained, so positions="computed" would change the model; '
                'use positions="file"'
            )
