"""`hyena distill`: a model whose Hyena layers are recurrences with a state of constant size."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import hyena
from hyena.cli.bar import bar
from hyena.cli.held_out import HeldOut, Split, held_out
from hyena.cli.saved_model import find_model, load_model, own_tokenizer
from hyena.data import Tokenizer
from hyena.distillation import Distilled, Form, distill, draw_distillation, logit_error
from hyena.evaluation import Evaluation, evaluate
from hyena.model import LanguageModel
from hyena.training.checkpoint import read_training_state
from hyena.training.device import Accelerator, find_device

POSITIONAL = "model"
REPORT, FIGURE = "distillation.json", "hankel.png"
_SEQUENCES = 8  # that the logits are compared on


@dataclass
class Config:
    """What to distil, how nearly, and what to measure the result on."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    out: Path
    """Folder for the distilled model, its report and a figure; new or empty."""
    tolerance: float = 0.01
    """Largest relative error of a filter's taps; the state gets as large as that takes."""
    state: int | None = None
    """Numbers in the state of each channel, even, instead of a tolerance."""
    max_state: int = 256
    """The largest state that the tolerance may take; filters that need more are reported."""
    length: int | None = None
    """Lags at which the filters are to agree; none takes the model's max_length."""
    form: Form = "modal"
    """What the filters become: a diagonal state space (modal) or, for few poles only, a transfer
    function (rational)."""
    data: Path | None = None
    """Held-out text to compare the models on, as of `hyena evaluate`; none takes the data that a
    training run's folder names."""
    split: Split = "validation"
    """Which split of prepared data; plain text has none."""
    documents: int | None = None
    """Compare on so many of the documents; none takes all."""
    batch: int = 8
    """Windows at a time."""
    tokenizer: str | None = None
    """Tokenizer, if none is saved with the model: see `hyena prepare --help`."""
    accelerator: Accelerator = "auto"
    """Where to compute the models' outputs; filters are fitted on the CPU."""

    def __post_init__(self) -> None:
        for name in ("documents", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


def run(config: Config) -> None:
    """Distils, saves, compares and prints."""
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise FileExistsError(f"{config.out} is there already; give a new or empty folder to --out")
    teacher, tokenizer, data = _found(config)
    tolerance = config.tolerance if config.state is None else None
    with bar("filters") as report:
        distilled = distill(
            teacher,
            tolerance=tolerance,
            state=config.state,
            largest=config.max_state,
            length=config.length,
            form=config.form,
            progress=None if report is None else lambda n, of: report(n, n, of),
        )
    student = distilled.model
    student.save(config.out)
    if tokenizer is not None:
        tokenizer.save(config.out)
    draw_distillation(distilled, config.out / FIGURE, tolerance=tolerance)
    print(_filters(distilled, tolerance))
    print(_states(teacher, student))
    figures = _compared(config, teacher, student, tokenizer, data)
    values = {
        "kind": "hyena distillation",
        "model": str(config.model),
        "tolerance": tolerance,
        "state": distilled.order,
        "length": config.length or teacher.config.max_length,
        "form": config.form,
        **figures,
        "layers": [
            {
                "layer": layer.block,
                "order": layer.fit.order.tolist(),
                "error": layer.error.flatten().tolist(),
                "least_error": layer.fit.bound.tolist(),
            }
            for layer in distilled.layers
        ],
    }
    text = json.dumps(values, indent=2) + "\n"
    (config.out / REPORT).write_text(text, encoding="utf-8")
    print(f"{config.out}: the model, {REPORT} and {FIGURE}")


def _found(config: Config) -> tuple[LanguageModel, Tokenizer | None, Path | None]:
    """The model, its tokenizer if one is there or needed, and the text if there is one."""
    folder = find_model(config.model)
    data = config.data
    if data is None and (folder / "training.json").is_file():
        named = Path(str(read_training_state(folder).config.get("data")))
        data = named if named.exists() else None
    if data is not None or config.tokenizer is not None or own_tokenizer(folder) is not None:
        return *load_model(folder, config.tokenizer, config.accelerator, None), data
    return hyena.load(folder, device=find_device(config.accelerator)), None, None


def _filters(distilled: Distilled, tolerance: float | None) -> str:
    """A line for each layer, and which filters resisted."""
    lines = [
        f"state {distilled.order} in each channel; orders and relative errors of the filters:",
        "  layer   order: median  largest   error: median  largest",
    ]
    above: list[tuple[int, float]] = []
    for layer in distilled.layers:
        order, error = layer.fit.order, layer.error.flatten()
        lines.append(
            f"  {layer.block:5}   {int(order.median()):13}  {int(order.max()):7}   "
            f"{float(error.median()):13.2e}  {float(error.max()):.2e}"
        )
        if tolerance is not None:
            above += [(layer.block, float(e)) for e in error if e > tolerance]
    if above:
        blocks = ", ".join(str(block) for block in sorted({block for block, _ in above}))
        lines.append(
            f"  {len(above)} filters, of layers {blocks}, are beyond the tolerance of "
            f"{tolerance:g}, the worst at {max(error for _, error in above):.2e}: no recurrence of "
            "this size is near, or none was found; allow a larger --max_state or --tolerance"
        )
    return "\n".join(lines)


def _states(teacher: LanguageModel, student: LanguageModel) -> str:
    length = teacher.config.max_length
    return (
        f"state of generation after {length:,} tokens: {student.state_size(length):,} numbers a "
        f"sequence, before {teacher.state_size(length):,}"
    )


def _compared(
    config: Config,
    teacher: LanguageModel,
    student: LanguageModel,
    tokenizer: Tokenizer | None,
    data: Path | None,
) -> dict[str, object]:
    """Prints how far the models' outputs are apart; the same for the report."""
    length = teacher.config.max_length
    if data is None or tokenizer is None:
        generator = torch.Generator().manual_seed(0)
        vocabulary = teacher.config.vocab_size
        ids = torch.randint(vocabulary, (_SEQUENCES, length), generator=generator)
        error = logit_error(teacher, student, ids)
        print(f"logits: relative error {error:.2e} on random tokens; for text, give --data")
        return {"logit_error": error, "on": "random tokens"}

    text = held_out(data, config.split, teacher, tokenizer)
    error = logit_error(teacher, student, _sequences(text, length))
    print(f"logits: relative error {error:.2e} on {text.name}")
    before, after = (_evaluated(config, m, tokenizer, data) for m in (teacher, student))
    change = after.bits_per_byte - before.bits_per_byte
    print(
        f"bits per byte: {after.bits_per_byte:.4f}, before {before.bits_per_byte:.4f} "
        f"({change:+.4f}) on {after.documents:,} documents, {after.bytes:,} bytes"
    )
    return {
        "logit_error": error,
        "on": text.name,
        "bits_per_byte": after.bits_per_byte,
        "bits_per_byte_before": before.bits_per_byte,
    }


def _evaluated(
    config: Config, model: LanguageModel, tokenizer: Tokenizer, data: Path
) -> Evaluation:
    length = model.config.max_length
    text = held_out(data, config.split, model, tokenizer)
    targets = text.targets if config.documents is None else None
    with bar() as report:
        return evaluate(
            model,
            itertools.islice(text.documents, config.documents),
            length=length,
            stride=max(1, length // 2),
            batch=config.batch,
            progress=None if report is None else lambda n, done: report(n, done, targets),
        )


def _sequences(text: HeldOut, length: int) -> Iterator[Tensor]:
    """Tokens of the first documents, in pieces of the model's length."""
    found = 0
    for tokens, _ in text.documents:
        for start in range(0, len(tokens) - 1, length):
            if found == _SEQUENCES:
                return
            found += 1
            piece = tokens[start : min(start + length, len(tokens) - 1)]
            yield torch.tensor(piece.astype("int64"))
