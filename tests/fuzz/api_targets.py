"""What is called with hostile arguments: ops, layers, filters, models, steps, generation.

A target is a function, and good arguments by name; it is made anew for each call.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

import hyena
from hyena import filters, generation, mixers, ops
from hyena.data import BytesTokenizer

Make = Callable[[], tuple[Callable[..., Any], dict[str, Any]]]
U, K = functools.partial(torch.randn, 2, 4, 9), functools.partial(torch.randn, 4, 5)


def _segments() -> ops.Segments:
    return ops.Segments.from_document_ids(torch.tensor([[0] * 4 + [1] * 5] * 2))


def _ops() -> dict[str, Make]:
    common = {"causal": True, "segments": None, "backend": "auto"}
    return {
        "ops.long_conv": lambda: (
            ops.long_conv,
            {"u": U(), "k": K(), "skip": torch.randn(4), "block_causal": False, **common},
        ),
        "ops.long_conv packed": lambda: (
            ops.long_conv,
            {"u": U(), "k": K(), "segments": _segments(), "backend": "auto"},
        ),
        "ops.gated_conv": lambda: (
            ops.gated_conv,
            {
                "z": torch.randn(2, 12, 9),
                "k": K(),
                "skip": torch.randn(4),
                "short": (torch.randn(12, 3), torch.randn(12)),
                **common,
            },
        ),
        "ops.short_conv": lambda: (
            ops.short_conv,
            {"u": U(), "k": torch.randn(4, 3), "bias": torch.randn(4), **common},
        ),
        "ops.filter_spectrum": lambda: (
            ops.filter_spectrum,
            {"k": K(), "length": 9, "skip": torch.randn(4), "causal": True, "backend": "auto"},
        ),
        "ops.long_conv spectrum": lambda: (
            lambda u, k, length: ops.long_conv(u, ops.filter_spectrum(k, length)),
            {"u": U(), "k": K(), "length": 9},
        ),
        "ops.Segments.from_document_ids": lambda: (
            ops.Segments.from_document_ids,
            {"document_ids": torch.tensor([[0, 0, 1]])},
        ),
        "ops.Segments.from_cu_seqlens": lambda: (
            ops.Segments.from_cu_seqlens,
            {"cu_seqlens": torch.tensor([0, 4, 9]), "batch": 1, "length": 9},
        ),
        "ops.naive.long_conv": lambda: (
            ops.naive.long_conv,
            {"u": U(), "k": K(), "skip": torch.randn(4)},
        ),
    }


SSM = {"state": 4, "dt_min": 0.001, "dt_max": 0.1, "initial": "lin"}
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "HyenaOperator": (
        mixers.HyenaOperator,
        {"width": 4, "max_length": 12, "order": 2, "short_width": 3, "dropout": 0.0,
         "bidirectional": False, "block_causal": False, "length_policy": "error", "bias": True,
         "backend": "auto", "dtype": torch.float32, "device": "cpu", "filter": None},
    ),
    "CausalSelfAttention": (
        mixers.CausalSelfAttention,
        {"width": 4, "head_dim": 2, "kv_heads": 1, "rotary": True, "rotary_base": 10000.0,
         "rotary_scale": 1.0, "bias": True, "dropout": 0.0},
    ),
    "LinearAttention": (mixers.LinearAttention, {"width": 4, "head_dim": 2}),
    "RWKV": (mixers.RWKV, {"width": 4, "dtype": torch.float32}),
    "AFTConv": (mixers.AFTConv, {"width": 4, "taps": 3}),
    "S4D": (mixers.S4D, {"width": 4, **SSM}),
    "H3": (mixers.H3, {"width": 4, "head_dim": 2, **SSM}),
    "GSS": (mixers.GSS, {"width": 4, **SSM}),
}  # fmt: skip
FILTERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "HyenaFilter": (
        filters.HyenaFilter,
        {"channels": 4, "max_length": 9, "filters": 1, "emb_dim": 5, "width": 4, "depth": 3,
         "sine_freq": 4.0, "window": True, "shift": 0.0, "fast_decay": 0.3, "slow_decay": 1.5,
         "bidirectional": False, "length_policy": "error", "normalized": False},
    ),
    "ExplicitTaps": (
        filters.ExplicitTaps,
        {"channels": 4, "taps": 3, "filters": 1, "groups": None, "decay": False},
    ),
    "ModalTaps": (filters.ModalTaps, {"channels": 4, "modes": 3, "filters": 1, "groups": None}),
    "RealModalTaps": (filters.RealModalTaps, {"channels": 4, "modes": 3, "filters": 1}),
    "FourierTaps": (filters.FourierTaps, {"channels": 4, "modes": 3, "max_length": 9}),
    "TransferFunctionTaps": (filters.TransferFunctionTaps, {"channels": 4, "degree": 3}),
    "DiagonalSSM": (filters.DiagonalSSM, {"channels": 4, "filters": 1, **SSM}),
}  # fmt: skip


@functools.cache
def _layer(name: str) -> Any:
    kind, arguments = LAYERS[name]
    return kind(**arguments).eval()


@functools.cache
def _filter(name: str) -> Any:
    kind, arguments = FILTERS[name]
    made = kind(**arguments)
    return made if name == "HyenaFilter" else filters.LongFilter(made, 4, 9)


def _of_layers() -> dict[str, Make]:
    found: dict[str, Make] = {}
    for name, (kind, arguments) in (*LAYERS.items(), *FILTERS.items()):
        found[name] = lambda kind=kind, arguments=arguments: (kind, dict(arguments))
    for name in LAYERS:
        found[f"{name}.forward"] = lambda name=name: (
            _layer(name),
            {
                "u": torch.randn(2, 9, 4),
                "mask": torch.ones(2, 9, dtype=torch.bool),
                "document_ids": None,
                "cu_seqlens": None,
            },
        )
        found[f"{name}.forward packed"] = lambda name=name: (
            _layer(name),
            {
                "u": torch.randn(1, 9, 4),
                "document_ids": torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2]]),
            },
        )
        found[f"{name}.prefill"] = lambda name=name: (
            _layer(name).prefill,
            {"u": torch.randn(2, 9, 4), "mask": None, "future": 3, "keep_inputs": False},
        )
        found[f"{name}.step"] = lambda name=name: (
            _layer(name).step,
            {"u": torch.randn(2, 4), "state": _layer(name).prefill(torch.randn(2, 5, 4))[1]},
        )
        found[f"{name}.state_size"] = lambda name=name: (
            _layer(name).state_size,
            {"length": 9, "future": 3},
        )
        found[f"{name} states"] = lambda name=name: (
            _layer(name).prefill(torch.randn(2, 5, 4))[1].select,
            {"rows": [0, 1]},
        )
    for name in FILTERS:
        found[f"{name}.forward"] = lambda name=name: (_filter(name), {"length": 9})
        found[f"{name}.spectra"] = lambda name=name: (
            _filter(name).spectra,
            {"length": 9, "backend": "auto"},
        )
        found[f"{name}.online"] = lambda name=name: (
            _filter(name).online,
            {"room": 4, "block": 16, "backend": "auto"},
        )
    return found


MODEL: dict[str, Any] = {
    "vocab_size": 11, "width": 4, "layers": 1, "mlp_width": 4, "mixers": "hyena", "max_length": 12,
    "length_policy": "error", "order": 2, "short_width": 3, "block_causal": False, "head_dim": None,
    "positions": "rotary", "local_width": 3, "dropout": 0.0, "vocab_multiple": 8,
    "initial": "normal", "tied": True, "norm": "layer", "norm_eps": 1e-5, "mlp": "plain",
    "activation": "gelu-tanh", "in_proj_bias": True, "kv_heads": None, "rotary_base": 10000.0,
    "rotary_scale": 1.0,
}  # fmt: skip
FILTER: dict[str, Any] = {
    "kind": "hyena", "taps": 4, "modes": 3, "degree": 3, "state": None, "groups": None,
    "emb_dim": 5, "width": 4, "depth": 3, "sine_freq": 4.0, "window": True, "shift": 0.0,
    "fast_decay": 0.3, "slow_decay": 1.5, "normalized": False,
}  # fmt: skip
SAMPLING: dict[str, Any] = {
    "max_new_tokens": 3, "temperature": 1.0, "top_k": 3, "top_p": 0.9, "min_p": 0.1,
    "repetition_penalty": 1.1, "seed": 0, "stop": "x", "stop_tokens": [3], "alternatives": 1,
    "state": None, "return_state": False,
}  # fmt: skip
IDS = functools.partial(torch.randint, 0, 11, (2, 7))


@functools.cache
def _model() -> hyena.LanguageModel:
    config = hyena.ModelConfig(**{**MODEL, "layers": 2, "mixers": "hyena,attention"})
    return hyena.LanguageModel(config).eval()


@functools.cache
def _text_model() -> hyena.LanguageModel:
    return hyena.LanguageModel(hyena.ModelConfig(**{**MODEL, "vocab_size": 257})).eval()


def _built(**changes: Any) -> Any:
    return hyena.LanguageModel(hyena.ModelConfig(**changes))


def _with_filter(**changes: Any) -> Any:
    return _built(**MODEL, filter=hyena.FilterConfig(**changes))


def _of_models() -> dict[str, Make]:
    ids = {"mask": None, "document_ids": None, "cu_seqlens": None}
    return {
        "ModelConfig": lambda: (_built, dict(MODEL)),
        "ModelConfig of rivals": lambda: (
            _built,
            {**MODEL, "mixers": "attention,rwkv,aft-conv,s4d,h3,gss"},
        ),
        "FilterConfig": lambda: (_with_filter, dict(FILTER)),
        "LanguageModel.forward": lambda: (_model(), {"input_ids": IDS(), **ids}),
        "LanguageModel.forward packed": lambda: (
            _model(),
            {"input_ids": IDS(), "document_ids": torch.tensor([[0] * 3 + [1] * 4] * 2)},
        ),
        "LanguageModel.prefill": lambda: (
            _model().prefill,
            {
                "input_ids": IDS(),
                "mask": None,
                "future": 3,
                "keep_inputs": False,
                "last_only": True,
            },
        ),
        "LanguageModel.step": lambda: (
            _model().step,
            {"input_ids": torch.tensor([3, 4]), "state": _model().prefill(IDS())[1]},
        ),
        "LanguageModel.flops": lambda: (_model().flops, {"length": 7, "batch": 2}),
        "LanguageModel.state_size": lambda: (_model().state_size, {"length": 7, "future": 2}),
        "generate": lambda: (
            generation.generate,
            {"model": _model(), "prompts": [[1, 2], [3]], **SAMPLING, "stop": ()},
        ),
        "generate text": lambda: (
            generation.generate,
            {
                "model": _text_model(),
                "prompts": ["a", "bc"],
                "tokenizer": BytesTokenizer(),
                **SAMPLING,
            },
        ),
        "beam_search": lambda: (
            generation.beam_search,
            {
                "model": _text_model(),
                "prompts": ["a", "bc"],
                "tokenizer": BytesTokenizer(),
                "max_new_tokens": 3,
                "beam_width": 2,
                "length_penalty": 1.0,
                "stop": "x",
                "stop_tokens": [3],
                "alternatives": 1,
            },
        ),
        "replace_attention": lambda: (
            lambda **words: hyena.replace_attention(
                torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), **words
            ),
            {
                "max_length": 9,
                "causal": True,
                "order": 2,
                "short_width": 3,
                "dropout": 0.0,
                "length_policy": "error",
                "backend": "auto",
                "names": None,
            },
        ),
    }


TARGETS = {**_ops(), **_of_layers(), **_of_models()}
