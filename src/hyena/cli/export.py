"""`hyena export`: a model as a file for programs that know nothing of this package."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hyena import __version__
from hyena.arguments import plural
from hyena.cli.saved_model import load_saved, warnings_as_notes
from hyena.data.packages import require
from hyena.export import step_to_onnx, to_aotinductor, to_onnx, to_program
from hyena.export.onnx_files import INSTALL
from hyena.export.parity import loaded, parity, step_parity
from hyena.export.program import Output, output_of
from hyena.files import digests
from hyena.files.atomic import staged, writing
from hyena.files.records import write_record
from hyena.filters import LengthPolicy
from hyena.interop.conversion import refuse_filled
from hyena.interop.with_tokenizer import own_tokenizer
from hyena.model import LanguageModel
from hyena.model.saved import find_model

POSITIONAL = ("model", "out")
DESCRIPTION = "export.json"
FORMAT_VERSION = 1
FILES = {
    "torch": "model.pt2",
    "aotinductor": "model.pt2",
    "onnx": "model.onnx",
    "onnx-step": "step.onnx",
}


@dataclass
class Config:
    """What to export, and as what."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    out: Path
    """Folder for the file, its description and the tokenizer's files; new or empty."""
    to: Literal["torch", "aotinductor", "onnx", "onnx-step"] = "torch"
    """A program of torch.export; the same compiled by AOTInductor for this machine, which takes a
    C++ compiler; an ONNX file in float32; or the step of generation as an ONNX file, of a model
    whose state is of one size, as hyena distill makes it."""
    length: int | None = None
    """The one length that the file is to take; none takes any up to the model's max_length."""
    output: Output | None = None
    """The logits of each next token, or the labels that the model was fine-tuned for; none takes
    labels of a fine-tuned model."""
    kernel: bool = False
    """Of torch: leave convolutions to this package, which a program then has to import, and which
    computes them by its kernel."""
    length_policy: LengthPolicy | None = None
    """What filters are beyond the model's max_length, for a longer length; none takes what is
    saved with the model."""

    def __post_init__(self) -> None:
        if self.kernel and self.to != "torch":
            raise ValueError(f"kernel: only --to torch leaves convolutions to it, not {self.to}")
        if self.to == "onnx-step":
            for name in ("length", "output"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: a step has none; leave --{name} out")


def run(config: Config) -> None:
    """Exports, compares the file with the model, describes and prints it."""
    refuse_filled(config.out)
    if config.to.startswith("onnx"):
        require("onnxruntime", "comparing an ONNX file with its model", INSTALL)
    folder = find_model(config.model)
    model = load_saved(folder, length_policy=config.length_policy)
    tokenizer = own_tokenizer(folder)
    with staged(config.out) as target, writing(config.out):
        file = target / FILES[config.to]
        with warnings_as_notes():
            errors = _written(config, model, file)
        _check(errors, model)
        description = _description(config, model, max(errors.values()))
        write_record(target / DESCRIPTION, description, FORMAT_VERSION)
        if tokenizer is not None:
            tokenizer.save(target)
        digests.complete(target)
        size = sum(each.stat().st_size for each in target.glob(f"{file.name}*"))
    print(f"{config.out / file.name}: {size / 1e6:,.1f} MB")
    where = "20 steps" if config.to == "onnx-step" else f"length {', '.join(map(str, errors))}"
    print(f"relative error on random tokens, {where}: {max(errors.values()):.1e}")
    if tokenizer is None:
        print("note: no tokenizer is saved with the model, so none is beside it", file=sys.stderr)


def _written(config: Config, model: LanguageModel, file: Path) -> dict[int, float]:
    """Writes the file; its errors by length."""
    options: dict[str, Any] = {"length": config.length, "output": config.output}
    if config.to == "onnx-step":
        step_to_onnx(model, file)
        return {1: step_parity(model, file)}
    if config.to == "onnx":
        to_onnx(model, file, **options)
    elif config.to == "aotinductor":
        to_aotinductor(model, file, **options)
    else:
        torch.export.save(to_program(model, kernel=config.kernel, **options), file)
    return parity(model, loaded(file, config.to), **options)


def _check(errors: dict[int, float], model: LanguageModel) -> None:
    """Raises ValueError if a file is further from its model than rounding takes it."""
    bound = max(1e-3, 16 * torch.finfo(next(model.parameters()).dtype).eps)
    for length, error in errors.items():
        if not error <= bound:  # which NaN is not either
            raise ValueError(
                f"export: expected a file within {bound:.1g} of the model, got a relative error of "
                f"{error:.1e} on {length} random {plural(length, 'token')}, so it is not kept; "
                "look for weights that are not finite, or take another --to"
            )


def _description(config: Config, model: LanguageModel, error: float) -> dict[str, Any]:
    """What a program that runs the file has to know."""
    step = config.to == "onnx-step"
    output = "logits" if step else output_of("export", model, config.output)
    found: dict[str, Any] = {
        "kind": "hyena export",
        "hyena": __version__,
        "to": config.to,
        "file": FILES[config.to],
        "output": output,
        "length": 1 if step else config.length,
        "max_length": model.config.max_length,
        "vocab_size": model.config.vocab_size,
        "relative_error": error,
    }
    if output == "labels":
        assert model.label_head is not None
        found["labels"] = model.label_head.labels
    return found
