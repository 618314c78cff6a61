"""Hyena models as classes of Hugging Face's transformers, known to its Auto classes from the import
of this package on. Needs the extra ``hf``."""

try:
    import transformers
except ModuleNotFoundError as missing:
    raise ImportError(
        f"hyena.huggingface needs the package {missing.name}: pip install 'hyena[hf]'"
    ) from missing

if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 17):
    raise ImportError(
        f"hyena.huggingface needs transformers 5.17 or newer, got {transformers.__version__}: "
        "pip install -U 'hyena[hf]'"
    )

from transformers.models.auto import modeling_auto

from hyena.huggingface.cache import HyenaCache
from hyena.huggingface.causal import HyenaForCausalLM
from hyena.huggingface.classification import HyenaForSequenceClassification
from hyena.huggingface.configuration import HyenaConfig
from hyena.huggingface.exporting import export
from hyena.huggingface.masked import HyenaForMaskedLM
from hyena.huggingface.model import HyenaModel
from hyena.huggingface.pretrained import HyenaPreTrainedModel
from hyena.huggingface.tokenizers import tokenizer_as_transformers

__all__ = [
    "HyenaCache",
    "HyenaConfig",
    "HyenaForCausalLM",
    "HyenaForMaskedLM",
    "HyenaForSequenceClassification",
    "HyenaModel",
    "HyenaPreTrainedModel",
    "export",
    "tokenizer_as_transformers",
]

transformers.AutoConfig.register(HyenaConfig.model_type, HyenaConfig)
transformers.AutoModel.register(HyenaConfig, HyenaModel)
transformers.AutoModelForCausalLM.register(HyenaConfig, HyenaForCausalLM)
transformers.AutoModelForMaskedLM.register(HyenaConfig, HyenaForMaskedLM)
transformers.AutoModelForSequenceClassification.register(
    HyenaConfig, HyenaForSequenceClassification
)
# Of a class that is not in this table, Trainer does not shift labels where it smooths them.
modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[HyenaConfig.model_type] = HyenaForCausalLM.__name__
