"""Small models in float32 to be exported, whose every part has a say in the output."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.label_head import LabelHead, Labels

VOCABULARY = 29
KEPT = ".sine_freq", ".decay", "poles", "log_step", "log_decay", "frequency", "reflection"
TOLERANCE = 5e-6  # twice the relative L2 error that float32 and another order of sums were seen at


def model_of(
    mixers: str, *, layers: int = 2, labels: Labels | None = None, **changes: Any
) -> LanguageModel:
    """A model of width 12 with larger weights than initial ones, in evaluation mode."""
    options: dict[str, Any] = {
        "mlp_width": 20,
        "max_length": 200,
        "order": 3,
        "head_dim": 4,
        "filter": FilterConfig(emb_dim=5, width=6, sine_freq=3.0),
    }
    options |= {"vocab_size": VOCABULARY, "width": 12, "layers": layers, "mixers": mixers}
    config = ModelConfig(**{**options, **changes})
    generator = torch.Generator().manual_seed(5)
    model = LanguageModel(config, generator=generator)
    if labels is not None:
        model.label_head = LabelHead(12, labels, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith(KEPT):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tokens(*shape: int, seed: int = 0) -> Tensor:
    """Random ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, shape, generator=generator)


def in_onnx(session: Any, *inputs: Tensor) -> Tensor:
    """The first output of a session of onnxruntime."""
    names = (x.name for x in session.get_inputs())
    feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    return torch.from_numpy(np.asarray(session.run(None, feed)[0]))
