"""Hybrids of Hyena operators and a few attention layers: StripedHyena 7B, Evo 1 and Evo 2.

Sizes are those of the public configurations: togethercomputer/stripedhyena
(``configs/7b-sh-32k-v0.1.yml``), evo-design/evo (Nguyen et al. 2024, doi:10.1126/science.ado9336)
and ArcInstitute/evo2 (``evo2/configs``, such as ``evo2-7b-262k.yml``; Brixi et al. 2026,
doi:10.1038/s41586-026-10176-5), whose operators are those of StripedHyena 2 (Ku et al. 2025,
arXiv:2503.01868).

Evo 2's 7B base model has the 8,192 positions that it was trained on, where its configuration allows
32,768. Rotary bases of Evo 2 are those that its files were made with; configurations of before
August 2025 name another (Zymrael/vortex, pull request 73). StripedHyena 7B has no biases in its
attention layers; here they have some, since its Hyena layers do.
"""

from typing import Any

from hyena.model.config import FilterConfig, ModelConfig, StripedConfig

_EVO2_MIXERS = {"S": "hyena-se", "D": "hyena-mr", "H": "hyena-li", "*": "attention"}
_7B = "SDH*" + 4 * "SDHSDH*"
_20B = "SDH*" + 2 * "SDHSDH*" + "SDHSDH"
_40B = _7B + "SDH*" + 2 * "SDHSDH*"
_AT_1M: dict[str, Any] = {"max_length": 1_048_576, "rotary_scale": 128.0}


def _striped(width: int, **sizes: Any) -> ModelConfig:
    """What all have in common: heads of 128 channels, RMS norms and gated MLPs."""
    return ModelConfig(width=width, head_dim=128, norm="rms", mlp="gated", **sizes)


def _evo1(**sizes: Any) -> ModelConfig:
    return _striped(
        4096,
        vocab_size=512,
        layers=32,
        mlp_width=10_928,
        mixers=",".join(["hyena"] * 8 + (["attention"] + ["hyena"] * 7) * 3),
        norm_eps=1e-6,
        activation="gelu",
        filter=FilterConfig(kind="modal", modes=8),
        **sizes,
    )


def _evo2(blocks: str, width: int, mlp_width: int, groups: int, **sizes: Any) -> ModelConfig:
    """Args: blocks: a letter for each: S, D and H for short, medium and long filters, * for
    attention."""
    return _striped(
        width,
        vocab_size=512,
        layers=len(blocks),
        mlp_width=mlp_width,
        mixers=",".join(_EVO2_MIXERS[block] for block in blocks),
        norm_eps=1e-6,
        activation="gelu,identity",
        in_proj_bias=False,
        # Files have the window of medium filters in their taps.
        striped=StripedConfig(groups=groups, medium_decay=False),
        **sizes,
    )


STRIPED: dict[str, ModelConfig] = {
    "stripedhyena-7b": _striped(
        4096,
        vocab_size=32_000,
        layers=32,
        mlp_width=14_336,
        mixers="hyena,attention",
        max_length=32_768,
        kv_heads=8,
        rotary_base=500_000.0,
        activation="silu",
        tied=False,
        filter=FilterConfig(kind="modal", modes=2),
    ),
    "evo-1-8k-base": _evo1(max_length=8192),
    "evo-1-131k-base": _evo1(max_length=131_072, rotary_scale=16.0),
    "evo2-1b": _evo2("SDH*" + 3 * "SDHSDH*", 1920, 5120, 128, max_length=8192),
    "evo2-7b-base": _evo2(_7B, 4096, 11_008, 256, max_length=8192),
    "evo2-7b-262k": _evo2(_7B, 4096, 11_008, 256, max_length=262_144, rotary_scale=32.0),
    "evo2-7b": _evo2(_7B, 4096, 11_264, 256, **_AT_1M),
    "evo2-20b": _evo2(_20B, 8192, 22_528, 512, rotary_base=1e6, **_AT_1M),
    "evo2-40b-base": _evo2(_40B, 8192, 21_888, 512, rotary_base=1e6, max_length=8192),
    "evo2-40b": _evo2(_40B, 8192, 22_528, 512, rotary_base=1e6, **_AT_1M),
}
"""Evo's tokens are bytes."""
