"""How far an exported file is from its model, on random tokens.

Sizes: B batch, L length, V vocabulary.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyena.data.packages import require
from hyena.export.onnx_files import INSTALL
from hyena.export.onnx_state import initial_state
from hyena.export.program import Output, longest_of, output_of, shortest_labelled
from hyena.model import LanguageModel
from hyena.model.label_outputs import label_outputs

Run = Callable[..., Tensor]
"""Called with the inputs of a program: its output."""

STEPS = 20
_LONGEST = 4096  # positions that are compared at most


def loaded(path: Path, to: str) -> Run:
    """What runs a file of this kind."""
    if to == "torch":
        run: Run = torch.export.load(path).module()
        return run
    if to == "aotinductor":
        run = torch._inductor.aoti_load_package(str(path))
        return run
    session = onnx_session(path)

    def call(*inputs: Tensor) -> Tensor:
        names = (x.name for x in session.get_inputs())
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return call


def onnx_session(path: Path) -> Any:
    """Of onnxruntime, on the CPU. Raises: ImportError in one line without it."""
    require("onnxruntime", "running an ONNX file", INSTALL)
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@torch.no_grad()
def parity(
    model: LanguageModel, run: Run, *, length: int | None = None, output: Output | None = None
) -> dict[int, float]:
    """The relative L2 error of a program's output by length: of this one, or of 1, an odd one and
    the longest, 4,096 at most. Of labels, whose rows are of two lengths, from the shortest on that
    has any."""
    most = min(longest_of("parity", model, length), _LONGEST)
    found = {}
    for L in [length] if length else sorted({1, most // 2 | 1, most}):
        ids = _tokens(model, 2, L)
        if output_of("parity", model, output) == "logits":
            found[L] = _error(run(ids), model(ids))
        elif (least := shortest_labelled(model)) <= L:
            lengths = torch.tensor([max(least, L // 2 + 1), L])
            found[L] = _error(run(ids, lengths), label_outputs(model, ids, lengths))
    return found


@torch.no_grad()
def step_parity(model: LanguageModel, path: Path) -> float:
    """The largest relative L2 error of the logits after each of 20 tokens."""
    session = onnx_session(path)
    state, worst = initial_state(session, 2), 0.0
    ids = _tokens(model, 2, min(STEPS, model.config.max_length))
    for token, expected in zip(ids.unbind(1), model(ids).unbind(1), strict=True):
        logits, *after = session.run(None, {"input_ids": token.numpy(), **state})
        state = dict(zip(state, after, strict=True))
        worst = max(worst, _error(torch.from_numpy(logits), expected))
    return worst


def _tokens(model: LanguageModel, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(model.config.vocab_size, size, generator=generator)


def _error(got: Tensor, expected: Tensor) -> float:
    expected = expected.double()
    return float((got.double() - expected).norm() / expected.norm())
