"""Text from a language model, token by token, exactly as the full forward would have it."""

from hyena.generation.beam_search import Beam, beam_search
from hyena.generation.results import Event, Generation, SequenceState
from hyena.generation.sampling import Sampling, distribution, sample
from hyena.generation.state_file import load_state, save_state
from hyena.generation.stream import Stream, generate, stream

__all__ = [
    "Beam",
    "Event",
    "Generation",
    "Sampling",
    "SequenceState",
    "Stream",
    "beam_search",
    "distribution",
    "generate",
    "load_state",
    "sample",
    "save_state",
    "stream",
]
