"""Text from a language model, token by token, exactly as the full forward would have it."""

from hyena.generation.generate import Generation, generate
from hyena.generation.sampling import Sampling, sample
from hyena.generation.state_file import load_state, save_state

__all__ = ["Generation", "Sampling", "generate", "load_state", "sample", "save_state"]
