"""A model as a program that torch.export records, for any batch and length.

Sizes: B batch, L length, V vocabulary, C classes, or targets of a regression.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hyena.arguments import check_whole, plural
from hyena.export.convolution import by_fft, written_out
from hyena.export.quiet import quiet
from hyena.generation.model import check_model, device_of
from hyena.model import LanguageModel
from hyena.model.label_outputs import label_head_of, label_outputs
from hyena.model.stateless import with_parameters

Output = Literal["logits", "labels"]
"""What a program gives: logits of the token after each, or what the head for labels says."""

# Of these no loop depends on the length.
_OF_ANY_LENGTH = ("hyena", "hyena-se", "hyena-mr", "hyena-li", "attention", "s4d", "h3", "gss")
_EXAMPLE = 23  # positions of the input that is recorded: its size means nothing


def to_program(
    model: LanguageModel,
    *,
    length: int | None = None,
    output: Output | None = None,
    kernel: bool = False,
) -> ExportedProgram:
    """The model in PyTorch's own ops, for `torch.export.save`, in evaluation mode.

    Its inputs are ``input_ids`` (B, L) int64 and, for labels, ``lengths`` (B,) int64, of which the
    tokens of each row are counted; rows are padded on the right, with any ids. Any batch is taken,
    and ids are not checked.

    Args:
        model: which is not changed.
        length: L, if the program is to take this one alone; else it takes 1 to max_length. A model
            whose length policy allows more takes more by this alone.
        output: "logits" (B, L, V), or "labels", see `hyena.model.label_outputs`; none means labels
            if the model has a head for them.
        kernel: leave convolutions as the op ``hyena::conv``. Such a program needs ``import hyena``
            where it runs, and takes the native kernel there; else it goes through PyTorch's FFT
            and needs PyTorch alone.

    Raises: TypeError if it is no model; ValueError if it has no head for labels, or that has no
        token to read, on a length that its policy refuses, and if a layer cannot be recorded for
        any length, or not causal to the last bit as its config promises.
    """
    program = record("to_program", model, length, output, exact=kernel)
    return program if kernel else written_out(program, by_fft)


def record(
    what: str,
    model: LanguageModel,
    length: int | None,
    output: Output | None,
    *,
    exact: bool,
    example: int = _EXAMPLE,
) -> ExportedProgram:
    """The program with convolutions as ``hyena::conv``; of any length, it is recorded from an input
    of ``example`` positions, or of the longest if that is less.

    Raises: as `to_program`, beginning with ``what``; ValueError unless ``exact``, if the config
        asks for convolutions that no rounding error of the future reaches.
    """
    longest = longest_of(what, model, length)
    if length is None:
        _check_any_length(what, model)
    if model.config.block_causal and not exact:
        raise ValueError(
            f"{what}: the model's block_causal keeps rounding errors of later tokens out of "
            "earlier outputs, which transforms cannot; record it with kernel=True and a length"
        )
    copy = with_parameters(model, {}).eval()
    if output_of(what, model, output) == "labels" and longest < (least := shortest_labelled(model)):
        raise ValueError(
            f"{what}: labels are read after the token that begins a sequence, so that there are "
            f"none of {longest} {plural(longest, 'token')}; give a length from {least} on"
        )
    ids = torch.zeros(2, length or min(example, longest), dtype=torch.int64)
    ids = ids.to(device_of(model))
    batch = Dim("batch", min=1)
    sizes: dict[int, Any] = {0: batch}
    if length is None and longest > 1:
        sizes[1] = Dim("length", min=1, max=longest)
    with quiet(), torch.no_grad():
        if output_of(what, model, output) == "logits":
            return torch.export.export(copy, (ids,), dynamic_shapes=(sizes,))
        lengths = torch.ones_like(ids[:, 0])
        shapes = sizes, {0: batch}
        return torch.export.export(_Labels(copy), (ids, lengths), dynamic_shapes=shapes)


def longest_of(what: str, model: LanguageModel, length: int | None) -> int:
    """The longest input of a program of this ``length``, or of any.

    Raises: TypeError if it is no model; ValueError if its policy refuses the length.
    """
    check_model(what, model, LanguageModel)
    most, policy = model.config.max_length, model.config.length_policy
    if length is None:
        return most
    length = check_whole(f"{what}: length", length)
    if length > most and policy == "error":
        raise ValueError(
            f"{what}: expected a length up to the model's max_length {most}, got {length}; load it "
            'with length_policy "extrapolate" or "interpolate" for a longer one'
        )
    return length


def output_of(what: str, model: LanguageModel, output: Output | None) -> Output:
    """The output that is meant. Raises: ValueError, which begins with ``what``, on others, and on
    labels of a model without a head for them."""
    if output not in (None, "logits", "labels"):
        raise ValueError(f'{what}: expected output "logits" or "labels", got {output!r}')
    if output == "labels":
        label_head_of(what, model)
    return output or ("logits" if model.label_head is None else "labels")


def shortest_labelled(model: LanguageModel) -> int:
    """The fewest tokens of a row that the model's head for labels has something to say of."""
    return 2 if label_head_of("labels", model).labels.begin else 1


class _Labels(nn.Module):
    """`label_outputs` of a model."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        return label_outputs(self.model, input_ids, lengths)


def _check_any_length(what: str, model: LanguageModel) -> None:
    mixers = dict.fromkeys(model.config.layer_mixers())
    loops = [name for name in mixers if name not in _OF_ANY_LENGTH]
    if model.config.block_causal:
        loops.append("block_causal")
    if loops:
        raise ValueError(
            f"{what}: {', '.join(loops)} {plural(len(loops), 'runs a loop', 'run loops')} that "
            "depends on the length of the sequence, so that no program of any length can be made; "
            "give a length"
        )
