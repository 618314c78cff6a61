"""The state of a step that was exported to ONNX, as arrays of NumPy by name."""

from typing import Any

import numpy as np

from hyena.arguments import check_whole
from hyena.export.step import named
from hyena.generation.state import ModelState

Arrays = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]


def initial_state(session: Any, batch: int = 1) -> Arrays:
    """The state before any token, in the order of a step's inputs and outputs.

    Args: session: an ``onnxruntime.InferenceSession`` of a file of `hyena.export.step_to_onnx`;
        batch: rows.

    Returns: zeros, (batch, …) each; of attention's keys and values none yet.
    """
    sizes = {"batch": check_whole("initial_state: batch", batch), "past": 0}
    return {
        x.name: np.zeros([sizes.get(size, size) for size in x.shape], dtype=np.float32)
        for x in session.get_inputs()[1:]
    }


def state_arrays(state: ModelState) -> Arrays:
    """What `hyena.LanguageModel.prefill` returned, for a step of the same model to go on from:
    so a prompt need not be read token by token.

    Raises: ValueError if rows are padded, which a step knows nothing of.
    """
    found = {}
    for i, layer in enumerate(state.layers):
        for name, x in named(i, layer).items():
            if name.endswith(".mask"):
                raise ValueError(
                    "state_arrays: rows of the prompt are padded; give prompts of one length, "
                    "without a mask"
                )
            found[name] = x.detach().float().cpu().numpy().copy()  # a step changes it
    return found
