"""The paper's models (Poli et al. 2023, arXiv:2302.10866, Table A.4)."""

from hyena.model.config import FilterConfig, ModelConfig


def _model(layers: int, width: int, mlp_width: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=50257,
        width=width,
        layers=layers,
        mlp_width=mlp_width,
        max_length=2048,
        filter=FilterConfig(emb_dim=33, sine_freq=14.0, train_encoding=True),
    )


PAPER: dict[str, ModelConfig] = {
    "125M": _model(12, 768, 3072),
    "125M-slim": _model(18, 768, 1536),
    "153M": _model(18, 864, 1728),
    "355M": _model(36, 1024, 2048),
    "1.3B": _model(36, 2048, 4096),
}
"""Of order 2; the paper's WikiText-103 models are of order 3: ``preset("125M", order=3)``."""
