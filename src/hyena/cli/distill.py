"""`hyena distill`: a model whose Hyena layers are recurrences with a state of constant size."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyena.arguments import plural
from hyena.cli.bar import bar
from hyena.cli.held_out import HeldOut, Split, held_out, measure
from hyena.cli.saved_model import load_model, load_saved
from hyena.cli.values import check_at_least
from hyena.data import Tokenizer
from hyena.distillation import Distilled, Form, distill, draw_distillation, logit_error
from hyena.distillation.distill import check_settings
from hyena.evaluation import Evaluation
from hyena.files import digests
from hyena.files.atomic import staged
from hyena.filters import LengthPolicy
from hyena.finetuning.config import LANGUAGE_MODELING
from hyena.interop.with_tokenizer import own_tokenizer
from hyena.model import LanguageModel
from hyena.model.saved import find_model, reason_of
from hyena.plots.figure import new_figure
from hyena.training.checkpoint import read_training_state
from hyena.training.device import Accelerator, find_device

POSITIONAL = "model"
REPORT, FIGURE = "distillation.json", "hankel.png"
TOLERANCE, LARGEST = 0.01, 256  # if none are given
Text = Callable[[], HeldOut]  # opens it; each pass over its documents needs it anew
_SEQUENCES = 8  # that the logits are compared on


@dataclass
class Config:
    """What to distil, how nearly, and what to measure the result on."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    out: Path
    """Folder for the distilled model, its report and a figure; new or empty."""
    tolerance: float | None = None
    """Largest relative error of a filter's taps; the state gets as large as that takes. None means
    0.01, unless a state is given."""
    state: int | None = None
    """Numbers in the state of each channel, even, instead of a tolerance."""
    max_state: int | None = None
    """The largest state that the tolerance may take, none means 256; filters that need more are
    reported."""
    length: int | None = None
    """Lags at which the filters are to agree; none takes the model's max_length."""
    form: Form = "modal"
    """What the filters become: a diagonal state space (modal) or, for few poles only, a transfer
    function (rational)."""
    length_policy: LengthPolicy | None = None
    """What the filters are beyond the model's max_length, for a longer length; none takes what is
    saved with the model."""
    data: Path | None = None
    """Held-out text to compare the models on, as of `hyena evaluate`; none takes the data that a
    training run's folder names, a path from the working directory."""
    split: Split = "validation"
    """Which split of prepared data; plain text has none."""
    field: str | None = None
    """Column of a table, or field of JSON Lines, that holds the text; none takes text."""
    documents: int | None = None
    """Compare on so many of the documents; none takes all."""
    batch: int = 8
    """Windows at a time."""
    tokenizer: str | None = None
    """Tokenizer, if none is saved with the model: see `hyena prepare --help`."""
    accelerator: Accelerator = "auto"
    """Where to compute the models' outputs; filters are fitted on the CPU."""

    def __post_init__(self) -> None:
        check_at_least(1, documents=self.documents, batch=self.batch)
        for name in ("tolerance", "max_state"):
            if self.state is not None and getattr(self, name) is not None:
                raise ValueError(
                    f"state and {name} were both given, but a state says how large it is to be, "
                    "and a tolerance that it is to be looked for; leave out one of them"
                )


def run(config: Config) -> None:
    """Distils, compares, saves and prints. What can be refused is, before filters are fitted."""
    _refuse_folder(config.out)
    new_figure(1, 1)  # or it is missing at the end
    teacher, tokenizer, text = _found(config)
    length, tolerance = teacher.config.max_length, config.tolerance
    if tolerance is None and config.state is None:
        tolerance = TOLERANCE
    settings: dict[str, Any] = {
        "tolerance": tolerance,
        "state": config.state,
        "largest": LARGEST if config.max_state is None else config.max_state,
        "length": config.length,
        "form": config.form,
    }
    check_settings(teacher, **settings)
    evaluated = partial(
        measure,
        length=length,
        stride=max(1, length // 2),
        batch=config.batch,
        documents=config.documents,
    )
    with staged(config.out) as folder:
        # Now, so that a text which cannot be read to its end is known before the filters are.
        before = None if text is None else evaluated(teacher, text())
        with bar("filters") as report:
            distilled = distill(teacher, **settings, progress=report)
        student = distilled.model
        with _writing(config.out):
            student.save(folder)
            if tokenizer is not None:
                tokenizer.save(folder)
            draw_distillation(distilled, folder / FIGURE, tolerance=tolerance)
        if text is None or before is None:
            lines, figures = _compared_on_random_tokens(teacher, student)
        else:
            error = logit_error(teacher, student, _sequences(text(), length))
            lines, figures = _compared(error, before, evaluated(student, whole := text()), whole)
        values = {
            "kind": "hyena distillation",
            "model": str(config.model),
            "tolerance": tolerance,
            "state": distilled.order,
            "length": config.length or length,
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
        with _writing(config.out):
            (folder / REPORT).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            digests.complete(folder)
        _refuse_folder(config.out)  # of what has come meanwhile nothing is to be replaced
    # After all is written: nobody may be reading any longer.
    print(_filters(distilled, tolerance))
    print(
        f"state of generation after {length:,} {plural(length, 'token')}: "
        f"{student.state_size(length):,} numbers a sequence, before {teacher.state_size(length):,}"
    )
    print("\n".join(lines))
    print(f"{config.out}: the model, {REPORT} and {FIGURE}")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Says of an error in the temporary folder that ``out`` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"cannot write {out}: {reason_of(error)}; it is as it was before. Free space or choose "
            "another folder"
        ) from error


def _refuse_folder(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already; give a new or empty folder to --out")
    if out.is_mount():
        raise FileExistsError(f"{out} is a mount point; give a folder in it to --out")


def _found(config: Config) -> tuple[LanguageModel, Tokenizer | None, Text | None]:
    """The model, its tokenizer if one is there or needed, and the text if there is one."""
    folder = find_model(config.model)
    data = _data_of_the_run(folder) if config.data is None else config.data
    if data is None and config.tokenizer is None and own_tokenizer(folder) is None:
        device, policy = find_device(config.accelerator), config.length_policy
        return load_saved(folder, device=device, length_policy=policy), None, None
    model, tokenizer = load_model(
        folder, config.tokenizer, config.accelerator, config.length_policy
    )
    text = None
    if data is not None:
        text = partial(held_out, data, config.split, config.field, model, tokenizer)
    return model, tokenizer, text


def _data_of_the_run(checkpoint: Path) -> Path | None:
    """The data that a training run was given; says so if it is not where it was."""
    if not (checkpoint / "training.json").is_file():
        return None
    config = read_training_state(checkpoint).config
    if config.get("task", LANGUAGE_MODELING) != LANGUAGE_MODELING:  # rows with labels are no text
        return None
    named = Path(str(config.get("data")))
    if named.exists():
        return named
    where = "there" if named.is_absolute() else f"in {Path.cwd()}"
    print(
        f"note: the run was trained on {named}, which is not {where}; the models are compared "
        "on random tokens. For held-out text, give --data",
        file=sys.stderr,
    )
    return None


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
        blocks = sorted({block for block, _ in above})
        layers = f"{plural(len(blocks), 'layer')} {', '.join(map(str, blocks))}"
        lines.append(
            f"  {len(above)} {plural(len(above), 'filter')}, of {layers}, "
            f"{plural(len(above), 'is', 'are')} beyond the tolerance of {tolerance:g}, the worst "
            f"at {max(error for _, error in above):.2e}: no recurrence of this size is near, or "
            "none was found; allow a larger --tolerance, or where --length has room for one a "
            "larger --max_state"
        )
    return "\n".join(lines)


def _compared_on_random_tokens(
    teacher: LanguageModel, student: LanguageModel
) -> tuple[list[str], dict[str, object]]:
    """How far the models' outputs are apart: for a reader, and for the report."""
    sizes = (_SEQUENCES, teacher.config.max_length)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(teacher.config.vocab_size, sizes, generator=generator)
    error = logit_error(teacher, student, ids)
    line = f"logits: relative error {error:.2e} on random tokens; for text, give --data"
    return [line], {"logit_error": error, "on": "random tokens"}


def _compared(
    error: float, before: Evaluation, after: Evaluation, text: HeldOut
) -> tuple[list[str], dict[str, object]]:
    """The same of a text."""
    lines = [
        f"logits: relative error {error:.2e} on {text.name}",
        f"bits per byte: {after.bits_per_byte:.4f}, before {before.bits_per_byte:.4f} "
        f"({after.bits_per_byte - before.bits_per_byte:+.4f}) on {after.documents:,} "
        f"{plural(after.documents, 'document')}, {after.bytes:,} {plural(after.bytes, 'byte')}",
        *(f"  note: {note}" for note in text.notes()),
    ]
    return lines, {
        "logit_error": error,
        "on": text.name,
        "bits_per_byte": after.bits_per_byte,
        "bits_per_byte_before": before.bits_per_byte,
    }


def _sequences(text: HeldOut, length: int) -> Iterator[Tensor]:
    """Tokens of the first documents, in pieces of the model's length."""
    pieces = (
        torch.tensor(tokens[:-1][start : start + length].astype("int64"))
        for tokens, _ in text.documents
        for start in range(0, len(tokens) - 1, length)
    )
    return islice(pieces, _SEQUENCES)
