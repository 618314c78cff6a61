"""What `hyena info` says of a model, as aligned text."""

from collections import Counter
from collections.abc import Sequence

import torch

from hyena.arguments import plural
from hyena.cli.values import option_names
from hyena.model import LanguageModel, ModelConfig
from hyena.model.build import layers_in_words, option, unread
from hyena.model.config import PARTS
from hyena.model.memory import (
    filters_kept,
    forward_bytes,
    in_groups,
    kept_of_filters,
    may_leave_gaps,
    reckons,
    step_bytes,
    trained_weights,
    weights,
)
from hyena.ops import why_not_native

Row = tuple[str, ...]

_UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_TOLD = 2**26  # bytes of a step, of which it is said that they may double

# Where a parameter counts, by the beginning of its name within its block.
_PARTS = {
    "mixer.filter.": "filters",
    "mixer.short_conv.": "short convolutions",
    "mixer.shift.": "short convolutions",
    "mixer.": "projections of the mixers",
    "mlp.": "MLPs",
    "norm": "norms",
    "head.": "head",
    "label_head.": "head for labels",
    "positions.": "positions",
}


def describe(model: LanguageModel, length: int, batch: int) -> str:
    """Configuration, parameters, generation state, memory and operations, one block of text each.

    Args: a model of any device, meta included; tokens, for state, memory and operations; rows, over
        which the filters' operations are shared.
    """
    return "\n\n".join(
        [
            _configuration(model.config),
            _parameters(model),
            *_refused(model.config, length),
            _generation_state(model, length),
            *_kept(model, length, batch),
            _memory(model, length, batch),
            _operations(model, length, batch),
        ]
    )


def _configuration(config: ModelConfig) -> str:
    """Each field that the model reads, and its value."""
    names = [name for name in option_names(ModelConfig) if name not in PARTS]
    values = {name: option(config, name) for name in names}
    values["mlp_width"] = config.hidden
    if config.head_dim is None:
        values["head_dim"] = min(64, config.width)  # as the mixers take it
    skipped = unread(config)
    rows = [(n, str(v)) for n, v in values.items() if v is not None and n not in skipped]
    return "\n".join(["configuration", *aligned(rows, "<")])


def _parameters(model: LanguageModel) -> str:
    """How many there are, in all and in each part."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[_part(name, model.config.tied)] += parameter.numel()
    total = model.parameter_count()
    rows = [(part, f"{n:,}", f"{n / total:.1%}") for part, n in counts.most_common()]
    rows.append(("total", f"{total:,}", ""))
    return "\n".join(["parameters", *aligned(rows)])


def _refused(config: ModelConfig, length: int) -> list[str]:
    """That the model takes no such input, if it would raise."""
    why = f"length_policy {config.length_policy}"
    if config.length_policy == "extrapolate" and config.filter.kind == "hyena" and config.has_table:
        why = "a trained encoding of as many"
    elif config.length_policy != "error":
        return []
    if length <= config.max_length:
        return []
    return [
        f"The model refuses {length:,} tokens (max_length {config.max_length:,}, {why}); what "
        "follows is of its layers built for more."
    ]


def _generation_state(model: LanguageModel, length: int) -> str:
    """What generation keeps for one sequence, after some numbers of tokens."""
    dtype = model.embedding.weight.dtype
    places = sorted({1, max(1, length // 4), max(1, length // 2), length})
    numbers = {f"{tokens:,}": model.state_size(tokens) for tokens in places}
    if len({*numbers.values()}) == 1:
        numbers = {"any": model.state_size(length)}
    rows: list[Row] = [("tokens", "numbers", "memory")]
    rows += [(name, f"{n:,}", size(n * dtype.itemsize)) for name, n in numbers.items()]
    name = str(dtype).removeprefix("torch.")
    return "\n".join([f"state of generation, for one sequence in {name}", *aligned(rows)])


def _kept(model: LanguageModel, length: int, batch: int) -> list[str]:
    """What is kept of the filters between passes over so many tokens; no text without filters."""
    filters = filters_kept(model, length)
    if not filters:
        return []
    title = f"filters in evaluation, kept between inputs of {length:,} tokens"
    if in_groups(model, length, batch):
        why = f"beyond {size(model.working_memory)} of working_memory"
        return [f"{title}\n  none: they are made a range of channels at a time, {why}"]
    sizes = [filter.kept_bytes(length) for filter in filters]
    kept = kept_of_filters(model, length, batch)
    one = "one layer" if len(set(sizes)) == 1 else "the largest layer"
    rows = [(one, size(max(sizes)))]
    if len(sizes) > 1:
        rows.append((f"all {len(sizes)}", size(sum(sizes))))
    if len(kept) < len(sizes):
        rows.append(("kept at most (kept_memory)", size(model.kept_memory)))
        rows.append((f"kept, {len(kept)} of {len(sizes)}", size(sum(kept))))
    return ["\n".join([title, *aligned(rows)])]


def _memory(model: LanguageModel, length: int, batch: int) -> str:
    """What a pass takes at its peak, or why nobody can tell and what is certain."""
    threads = torch.get_num_threads()
    beside = (
        f"with {threads} {plural(threads, 'thread')}, beside Python and PyTorch (about 0.3 GiB)"
    )
    title = f"memory at the peak, {beside}, on {_tokens(length, batch)} tokens"
    if not reckons(model):
        dtype = model.embedding.weight.dtype
        least = [
            ("weights", weights(model)),
            ("weights, gradients and AdamW's moments", trained_weights(model)),
            ("state of generation", batch * model.state_size(length) * dtype.itemsize),
        ]
        layers = layers_in_words(model.config)
        layers += ", block-causal" if model.config.block_causal else ""
        return "\n".join(
            [
                title,
                "  not reckoned, as not all layers are Hyena operators that are not block-causal: "
                f"{layers}",
                *_sizes(least),
            ]
        )
    logits = forward_bytes(model, length, batch)
    losses = forward_bytes(model, length, batch, logits=False)
    rows, notes = [("forward without gradients", logits)], []
    if losses < logits:
        rows = [(f"{rows[0][0]}, all logits", logits), (f"{rows[0][0]}, losses", losses)]
        notes.append(
            "  Losses: by targets= or token_losses, without all logits. So is prefill with\n"
            "  last_only=True, whose state comes on top."
        )
    if kept := sum(kept_of_filters(model, length, batch)):
        rows.append(("  of it, kept of the filters (kept_memory)", kept))
    step = step_bytes(model, length, batch)
    rows.append(("training, activation_checkpointing", step))
    if step >= _TOLD and may_leave_gaps(model, length, batch):
        notes.append(
            "  Steps of training of this size may take twice as much where glibc's heap has gaps;\n"
            "  MALLOC_MMAP_THRESHOLD_=65536 in the environment avoids them."
        )
    if model.embedding.weight.dtype == torch.float64 or why_not_native():
        notes.append(
            "  This is of the native kernel's transforms. Without it, and so in float64, they take "
            "more."
        )
    return "\n".join([title, *_sizes(rows), *notes])


def _tokens(length: int, batch: int) -> str:
    """Those of an input, with its rows if there are several."""
    return f"{batch:,} × {length:,}" if batch > 1 else f"{length:,}"


def _sizes(rows: Sequence[tuple[str, int]]) -> list[str]:
    return aligned([(name, size(number)) for name, number in rows])


def size(number: float) -> str:
    """Bytes, in the largest unit of which there is one."""
    for name, one in _UNITS.items():
        if number >= one:
            return f"{number / one:,.2f} {name}"
    return f"{number:,.0f} {plural(int(number), 'byte')}"


def _operations(model: LanguageModel, length: int, batch: int) -> str:
    """Floating point operations a token, by the paper's formula and as executed."""
    table = model.flops(length, batch)
    paper, executed = table.paper, table.executed
    mixers = model.config.layer_mixers()

    def row(name: str, by_paper: float, by_count: float) -> Row:
        return name, *(f"{paper.per_token(n):,.0f}" for n in (by_paper, by_count))

    rows: list[Row] = [("", "paper's formula", "executed")]
    for mixer, blocks in Counter(mixers).items():
        first = mixers.index(mixer)
        a, b = paper.layers[first], executed.layers[first]
        rows += [(f"{mixer} block, of {blocks}", "", "")]
        rows += [row(f"  {part.replace('_', ' ')}", a[part], b[part]) for part in b.parts]
        rows += [row("  all", a.total, b.total)]
        if b.above_diagonal:
            rows += [row("  all without the pairs in the future", a.causal, b.causal)]
    rows += [row("head", paper.head, executed.head), row("model", paper.total, executed.total)]
    if "attention" in mixers:
        rows += [row("model without the pairs in the future", paper.causal, executed.causal)]
    passes = tuple(f"{count.total:.3e}" for count in (paper, executed))
    rows += [("model, all tokens", *passes)]

    tokens = _tokens(length, batch)
    lines = [f"operations of a forward pass on {tokens} tokens, for each token", *aligned(rows)]
    if "hyena" in mixers:
        lines.append(
            "  The paper's formula (arXiv:2302.10866, App. A.2) counts order projections where\n"
            "  order + 1 run, and leaves out gates, filters and the padding of the FFTs."
        )
    if set(mixers) - {"hyena", "attention"}:
        lines.append(
            "  The paper has no formula for other mixers; they are counted as executed in both."
        )
    return "\n".join(lines)


def _part(name: str, tied: bool) -> str:
    if name.startswith("embedding."):
        return "embedding, which is the head" if tied else "embedding"
    inside = name.split(".", 2)[2] if name.startswith("blocks.") else name
    return next(part for prefix, part in _PARTS.items() if inside.startswith(prefix))


def aligned(rows: Sequence[Row], numbers: str = ">") -> list[str]:
    """Rows of cells as lines: the first cell to the left, the others to the side given."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [f"{cell:{numbers}{w}}" for cell, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(["", f"{first:<{widths[0]}}", *cells]).rstrip())
    return lines


def unit_of_loss(model: LanguageModel) -> str:
    """Of the loss of what the model was trained for."""
    if model.label_head is None:
        return "nats per token"
    regression = model.label_head.labels.task == "regression"
    return "squared deviations" if regression else "nats per label"
