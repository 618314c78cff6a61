"""Log-likelihoods of sequences and of variants, and vectors of sequences, many at a time."""

from .embeddings import Embedding, embed
from .scores import Score, score
from .variants import VariantScore, score_variants

__all__ = ["Embedding", "Score", "VariantScore", "embed", "score", "score_variants"]
