"""`hyena evaluate`: perplexity and bits per byte on held-out text, or the loss by position; of a
fine-tuned model how well it gives the labels of a table."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from hyena.arguments import plural
from hyena.cli.bar import bar
from hyena.cli.held_out import HeldOut, Split, held_out, measure
from hyena.cli.model_facts import Row, aligned, unit_of_loss
from hyena.cli.position_curves import Curve, add_curve, read_curves
from hyena.cli.saved_model import ModelOptions, check_length, open_model, warnings_as_notes
from hyena.data import Tokenizer
from hyena.evaluation import evaluate_by_position
from hyena.finetuning import evaluate_labels
from hyena.finetuning.rows import is_table
from hyena.model import LanguageModel

POSITIONAL = "model"
_OF_TEXT = ("split", "field", "length", "stride", "by_position", "name")
_OF_LABELS = ("labels", "both_strands")


@dataclass
class Labels:
    """Where in a table the labels are."""

    sequence: str | None = None
    """Column of the sequences; none takes the one that the model was trained on."""
    columns: list[str] | str | None = None
    """Column of the labels, or of several targets a list of columns; none takes those that the
    model was trained on."""


@dataclass
class Config(ModelOptions):
    """What to evaluate, and on what."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    data: Path
    """Folder written by `hyena prepare`; or text as `hyena prepare` takes it. Of a model that was
    fine-tuned for labels a table of rows with labels, .tsv, .csv or .jsonl, packed with gzip or
    not."""
    split: Split = "validation"
    """Which split of prepared data; plain text has none."""
    field: str | None = None
    """Column of a table, or field of JSON Lines, that holds the text; none takes text."""
    length: int | None = None
    """Longest window, in tokens; none takes the model's max_length."""
    stride: int | None = None
    """Tokens from one window to the next; none takes half the length."""
    batch: int = 8
    """Windows, or rows with labels, at a time."""
    by_position: Path | None = None
    """Measure the loss by the position in windows of the length, each read alone, instead. This
    JSON file gets the curve, beside those of other models that it holds, and a figure beside it
    (.png) shows all of them."""
    name: str | None = None
    """What the figure calls the curve, in place of one of that name; none takes the model's folder,
    and its length policy if windows are longer than its max_length."""
    labels: Labels = dataclasses.field(default_factory=Labels)
    """Where in a table the labels are."""
    both_strands: bool = False
    """Of labels of DNA: take the mean with what the model gives of the reverse complement."""

    def __post_init__(self) -> None:
        path = self.by_position
        if path is None and self.name is not None:
            raise ValueError("name is that of a curve by position; give --by_position, or leave it")
        if path is not None and path.suffix != ".json":
            raise ValueError(f"by_position: expected the name of a .json file, got {path}")
        if path is not None and self.stride is not None:
            raise ValueError(
                "stride: windows by position follow one another; leave it out, or by_position"
            )


def run(config: Config) -> None:
    """Evaluates and prints the figures."""
    model, tokenizer = open_model(config.model, config)
    of_rows = is_table(config.data)
    if model.label_head is not None and of_rows:
        _refuse(config, _OF_TEXT, f"{config.data} is a table of rows with labels")
        _of_labels(config, model, tokenizer)
        return
    without = "the model was not fine-tuned for any" if of_rows else f"{config.data} is no table"
    _refuse(config, _OF_LABELS, f"it is of labels, and {without}")
    length = model.config.max_length if config.length is None else config.length
    check_length(model, length, "lower --length, or give --length_policy extrapolate")
    text = held_out(config.data, config.split, config.field, model, tokenizer)
    if config.by_position is not None:
        _by_position(config, model, text, tokenizer.fingerprint, length)
        return
    stride = max(1, length // 2) if config.stride is None else config.stride
    result = measure(model, text, length=length, stride=stride, batch=config.batch)
    lines = [
        f"{text.name}: {result.documents:,} {plural(result.documents, 'document')}, "
        f"{result.tokens:,} {plural(result.tokens, 'token')}, {result.bytes:,} "
        f"{plural(result.bytes, 'byte')}, in windows of {length} "
        f"{plural(length, 'token')} with stride {stride}",
        f"  bits per byte  {result.bits_per_byte:.4f}",
        f"  perplexity     {result.perplexity:.4f} per token",
        f"  loss           {result.loss_nats_per_token:.4f} nats per token",
        *(f"  note: {note}" for note in text.notes()),
    ]
    print("\n".join(lines))


def _refuse(config: Config, names: tuple[str, ...], why: str) -> None:
    """Raises ValueError if an option is given that has no effect."""
    plain = Config(model=config.model, data=config.data)
    for name in names:
        if getattr(config, name) != getattr(plain, name):
            raise ValueError(f"{name} has no effect: {why}; leave it out")


def _of_labels(config: Config, model: LanguageModel, tokenizer: Tokenizer) -> None:
    """Measures how well labels are predicted, and prints it."""
    with warnings_as_notes(), bar("rows") as report:
        found = evaluate_labels(
            model,
            tokenizer,
            config.data,
            sequence=config.labels.sequence,
            columns=config.labels.columns,
            both_strands=config.both_strands,
            batch=config.batch,
            progress=report,
        )
    print(f"{config.data}: {found.rows:,} {plural(found.rows, 'row')} with labels")
    loss = f"{found.metrics['loss']:.4f} {unit_of_loss(model)}"
    rows = [(name, f"{x:.5g}") for name, x in found.metrics.items() if name != "loss"]
    print("\n".join(aligned([*rows, ("loss", loss)], "<")))


def _by_position(
    config: Config, model: LanguageModel, text: HeldOut, tokenizer: str, length: int
) -> None:
    """Measures the losses by position, adds them to the file and prints them."""
    assert config.by_position is not None
    of_model, name = model.config, config.name
    if name is None:
        beyond = length > of_model.max_length
        name = f"{config.model}, {of_model.length_policy}" if beyond else str(config.model)
    there = read_curves(config.by_position, text.name, tokenizer)
    with bar() as report:
        found = evaluate_by_position(
            model,
            text.documents,
            length=length,
            batch=config.batch,
            progress=lambda n, done: report(done, text.targets, n),
        )
    rows: list[Row] = [("position", "nats per token")]
    for first, last, loss in zip(found.edges, found.edges[1:], found.losses, strict=False):
        rows.append((f"{first:,} to {last - 1:,}", f"{loss:.4f}"))
    windows, documents = plural(found.windows, "window"), plural(found.documents, "document")
    print(
        f"{text.name}: {found.windows:,} {windows} of {length:,} {plural(length, 'token')} from "
        f"{found.documents:,} {documents}; {found.shorter:,} shorter ones left out"
    )
    print("\n".join([*aligned(rows), *(f"  note: {note}" for note in text.notes())]))
    curve = Curve(
        name=name,
        model=str(config.model),
        mixers=of_model.mixers,
        max_length=of_model.max_length,
        length_policy=of_model.length_policy,
        length=length,
        found=found,
    )
    figure = add_curve(config.by_position, there, curve)
    print(f"{config.by_position}\n{figure}")
