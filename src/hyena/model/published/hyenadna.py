"""HyenaDNA (Nguyen et al. 2023, arXiv:2306.15794) in the sizes that were released.

The positional encoding is computed: as in the original training code it is no parameter. Files of
the Hugging Face port have it as one.
"""

from hyena.model.config import FilterConfig, ModelConfig


def _model(layers: int, width: int, context: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=12,
        width=width,
        layers=layers,
        max_length=context + 2,  # and two special tokens
        filter=FilterConfig(emb_dim=5, sine_freq=10.0, shift=0.05),
    )


HYENADNA: dict[str, ModelConfig] = {
    "hyenadna-tiny-1k": _model(2, 128, 1024),
    "hyenadna-tiny-1k-d256": _model(2, 256, 1024),
    "hyenadna-tiny-16k-d128": _model(2, 128, 16_384),
    "hyenadna-small-32k": _model(4, 256, 32_768),
    "hyenadna-medium-160k": _model(8, 256, 160_000),
    "hyenadna-medium-450k": _model(8, 256, 450_000),
    "hyenadna-large-1m": _model(8, 256, 1_000_000),
}
"""Tokens are single nucleotides."""
