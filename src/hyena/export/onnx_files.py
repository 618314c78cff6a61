"""Models as ONNX files, for onnxruntime and others.

Sizes: B batch, L length, V vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from hyena.data.packages import require
from hyena.export.constants import with_constant_filters
from hyena.export.convolution import ByProducts, written_out
from hyena.export.destination import destination, replacing
from hyena.export.program import Output, longest_of, output_of, record
from hyena.export.quiet import quiet
from hyena.export.step import Step
from hyena.generation.model import check_model
from hyena.model import LanguageModel

OPSET = 20
"""Version of ONNX's operators."""

INSTALL = "hyena[export]"

MOST_BYTES = 1 << 30
"""Of weights in an ONNX file, which can be no longer than 2 GiB."""


def to_onnx(
    model: LanguageModel,
    path: str | Path,
    *,
    length: int | None = None,
    output: Output | None = None,
) -> None:
    """Writes the model, in float32, as an ONNX file of opset 20.

    Inputs and output are those of `hyena.export.to_program`, by the same names. The taps of its
    filters are constants, and convolutions are matrix products: onnxruntime's own transform is
    wrong at lengths that are no power of two. Weights of more than 1 GiB are written beside it, as
    ``PATH.data``.

    Args: model, length and output as of `hyena.export.to_program`; ``path`` ends in .onnx, and is
        replaced.

    Raises: as `hyena.export.to_program`; ValueError if no length is given and max_length is less
        than 6, and on another path; OSError on a path that cannot be written; ImportError without
        the packages of the extra "export".
    """
    require("onnxscript", "exporting to ONNX", INSTALL)
    file = destination("to_onnx", path, ".onnx")
    longest = longest_of("to_onnx", model, length)
    output = output_of("to_onnx", model, output)
    constant = with_constant_filters(model, longest)
    conv = ByProducts(longest)
    if length is None and longest <= conv.example:
        raise ValueError(
            f"to_onnx: a model of max_length {longest} is too short for a file of any length; give "
            "a length"
        )
    program = record("to_onnx", constant, length, output, exact=False, example=conv.example)
    ids: dict[int, str] = {0: "batch"} if length else {0: "batch", 1: "length"}
    axes = {"input_ids": ids} if output == "logits" else {"input_ids": ids, "lengths": {0: "batch"}}
    write_onnx(written_out(program, conv), file, axes, [output])


def step_to_onnx(model: LanguageModel, path: str | Path) -> None:
    """Writes a step of the model, in float32, as an ONNX file: a token in, logits out.

    Inputs are ``input_ids`` (B,) int64 and the state, two tensors a layer by names such as
    ``layers.0.x``; outputs ``logits`` (B, V) and the state after the token, in the same order and
    as ``layers.0.x.next``. Of an attention layer's state a dimension is called past, the tokens so
    far. `initial_state` has it before any.

    Args: the model, of which each layer is attention, or a Hyena operator whose state is of one
        size; ``path`` as of `to_onnx`.

    A step does not count tokens: beyond the model's max_length it goes on, as with the length
    policy "extrapolate".

    Raises: TypeError if it is no model; ValueError if a layer has no such state, or positions are
        learned, and on another path; OSError on a path that cannot be written; ImportError without
        the packages of the extra "export".
    """
    require("onnxscript", "exporting to ONNX", INSTALL)
    file = destination("step_to_onnx", path, ".onnx")
    check_model("step_to_onnx", model, LanguageModel)
    step = Step("step_to_onnx", model)
    dims = {"batch": Dim("batch", min=1), "past": Dim("past", min=0)}
    example = {"batch": 2, "past": 5}
    tensors, sizes = [], []
    for name, free in step.axes.items():
        shape = list(step.empty[name].shape)
        for axis, called in free.items():
            shape[axis] = example[called]
        tensors.append(torch.zeros(shape))
        sizes.append({axis: dims[called] for axis, called in free.items()})
    ids = torch.zeros(example["batch"], dtype=torch.int64)
    with quiet(), torch.no_grad():
        shapes = ({0: dims["batch"]}, sizes)
        program = torch.export.export(step, (ids, tensors), dynamic_shapes=shapes)
    outputs = ["logits", *(f"{name}.next" for name in step.axes)]
    write_onnx(program, file, {"input_ids": {0: "batch"}, **step.axes}, outputs)


def write_onnx(
    program: ExportedProgram,
    path: Path,
    inputs: dict[str, dict[int, str]],
    outputs: Sequence[str],
) -> None:
    """Writes a program; an older file, with what is beside it, stays until this one is whole.

    Args: ``inputs`` by name, each with the names of its free dimensions.
    """
    with quiet(), torch.no_grad():
        made: Any = torch.onnx.export(
            program,
            (),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(inputs.values()),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        for node in made.model.graph.all_nodes():  # where in which file of Python it came from
            node.metadata_props.clear()
        weights = [*program.state_dict.values(), *program.constants.values()]
        size = sum(x.nbytes for x in weights if isinstance(x, torch.Tensor))
        with replacing(path, path.with_name(f"{path.name}.data")) as file:
            made.save(str(file), external_data=size > MOST_BYTES)
