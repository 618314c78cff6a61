"""The models: what they are, how they are trained and resumed, and what they answer."""

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from bacteria_windows import Known
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import hyena
from hyena import FilterConfig, LanguageModel, ModelConfig
from hyena.data import HyenaDNATokenizer
from hyena.files import digests
from hyena.model.hidden import hidden
from hyena.model.label_head import LabelHead, Labels
from hyena.training import OptimizerConfig, adamw, list_checkpoints
from hyena.training.checkpoint import (
    moments,
    prune,
    remedy,
    restore_optimizer,
    write_checkpoint,
)

TOKENIZER = HyenaDNATokenizer()
MIXERS = {"hyena": "hyena-se,hyena-mr,hyena", "attention": "hyena-se,hyena-mr,attention"}
"""The layers of each model: short and medium filters, as in StripedHyena 2, below what reads all of
a window."""


_PROGRESS = "progress.json"


@dataclass
class Progress:
    """How far a training is: seconds, and steps by the length of their windows."""

    seconds: float = 0.0
    steps: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiment."""

    length: int = 32_768
    """Bases of the longest windows."""
    width: int = 64
    minutes: float = 8.0
    """Of training, for each model."""
    steps: int | None = None
    """Of training for each model, instead of minutes."""
    tokens: int = 16_384
    """Bases of a step, at least."""
    rate: float = 4e-3
    """The peak of the learning rate."""
    filter_rate: float = 1e-3
    """That of filters."""
    weight: float = 0.1
    """Of the loss of the species, whose few labels make it a noisy one, beside that of all bases:
    with more, the next base is learned far more slowly."""
    counted: int = 2000
    """Windows of each length that k-mers are counted in."""
    asked: int = 500
    """Windows of each length in the test, at most."""
    window: int = 1024
    """Bases around a substitution that a model reads."""
    substitutions: int = 8
    """Of each kind, of each base to each other, in each species."""

    @property
    def lengths(self) -> list[int]:
        """Bases of which the species is to be told."""
        return [*(n for n in (256, 1024, 4096) if n < self.length), self.length]

    @property
    def stages(self) -> list[int]:
        """Bases of the windows that are learned from, each for as long."""
        return [n for n in self.lengths if n >= min(1024, self.length)]

    def each(self, length: int, species: int) -> int:
        """Windows of a length of each species in a step."""
        return -(-self.tokens // (length * species))

    def done(self, progress: Progress) -> float:
        """The share of the training that is done."""
        if self.steps is not None:
            return progress.steps.total() / self.steps
        return progress.seconds / (60 * self.minutes)


def new_model(mixer: str, species: int, settings: Settings) -> LanguageModel:
    """A language model of bases: two layers with short filters, and a long one or attention.

    In training the species are further tokens of its head: their logits, in the mean over the
    positions, are those of the window. `finished` makes a head for labels of them.
    """
    config = ModelConfig(
        vocab_size=TOKENIZER.vocab_size + species,
        width=settings.width,
        layers=3,
        mixers=MIXERS[mixer],
        max_length=settings.length,
        tied=False,
        filter=FilterConfig(emb_dim=5, sine_freq=10.0, shift=0.05),  # HyenaDNA's
    )
    return LanguageModel(config, generator=torch.Generator().manual_seed(0))


def finished(model: LanguageModel, species: Sequence[str]) -> LanguageModel:
    """The model with the species in a head for labels, as `hyena.predict` asks for it, and no
    longer among the tokens, so that `hyena.score` has bases alone."""
    bases = TOKENIZER.vocab_size
    dtype = model.embedding.weight.dtype
    found = LanguageModel(replace(model.config, vocab_size=bases), dtype=dtype)
    rows = found.config.padded_vocab
    ends = ("embedding.weight", "head.weight")
    weights = {n: w[:rows] if n in ends else w for n, w in model.state_dict().items()}
    found.load_state_dict(weights)
    assert model.head is not None
    labels = Labels("classification", tuple(species), begin=False)
    found.label_head = LabelHead(found.config.width, labels, dtype=dtype)
    with torch.no_grad():
        found.label_head.linear.weight.copy_(model.head.weight[bases : bases + len(species)])
    return found.eval()


def ids_of(windows: Sequence[bytes]) -> Tensor:
    """The tokens of windows of one length, (B, L)."""
    return torch.from_numpy(np.stack([TOKENIZER.encode(window.decode()) for window in windows]))


def losses_of(model: LanguageModel, ids: Tensor, labels: Tensor, lengths: Sequence[int]) -> Tensor:
    """Loss of the next base, and that of the species in the mean over beginnings of the windows.

    A position knows nothing of those behind it, so one pass serves all lengths.

    Args: windows (B, L), their species (B,), and how long the beginnings are.
    """
    bases, of_species = model(ids).tensor_split([TOKENIZER.vocab_size], dim=-1)
    of_bases = F.cross_entropy(bases[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    sums = of_species.cumsum(1)
    species = torch.cat([sums[:, n - 1] / n for n in lengths])
    return torch.stack([of_bases, F.cross_entropy(species, labels.repeat(len(lengths)))])


def train(model: LanguageModel, known: Known, settings: Settings, folder: Path) -> Progress:
    """Trains until the minutes, or the steps, are over.

    The windows get longer with the time, as HyenaDNA's did (arXiv:2306.15794, section 3.2), so that
    there are many updates at first: each length has an equal part of it. A step has as many windows
    of each species.

    Args: folder: of checkpoints, one after each tenth; training goes on from the last of them.
    """
    optimizer = adamw(model, OptimizerConfig(lr=settings.rate, filter_lr=settings.filter_rate))
    progress = resumed(model, optimizer, folder)
    model.train()
    while (done := settings.done(progress)) < 1:
        begin = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done) * group["peak_lr"]
        length = settings.stages[int(done * len(settings.stages))]
        bases, species = update(model, optimizer, known, settings, length, progress.steps.total())
        progress.steps[length] += 1
        progress.seconds += time.monotonic() - begin
        now = settings.done(progress)
        if int(10 * now) > int(10 * done):
            print(
                f"{now:4.0%}: step {progress.steps.total()}, windows of {length:,} bases, loss of "
                f"the next base {bases:.4f}, of the species {species:.3f}",
                flush=True,
            )
            keep(model, optimizer, progress, folder)
    return progress


def update(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    known: Known,
    settings: Settings,
    length: int,
    step: int,
) -> tuple[float, float]:
    """A step on windows of one length that its number determines; returns its losses."""
    species = model.config.vocab_size - TOKENIZER.vocab_size
    labels = np.tile(np.arange(species), settings.each(length, species))
    windows = known.windows(length, labels, np.random.default_rng((0, step)))
    lengths = [n for n in settings.lengths if n <= length]
    rows = max(1, settings.tokens // length)  # at once: the others wait
    total = torch.zeros(2)
    for i in range(0, len(windows), rows):
        part = labels[i : i + rows]
        losses = losses_of(model, ids_of(windows[i : i + rows]), torch.from_numpy(part), lengths)
        losses = losses * (len(part) / len(windows))
        (losses[0] + settings.weight * losses[1]).backward()
        total += losses.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
    optimizer.step()
    optimizer.zero_grad()
    bases, of_species = total.tolist()
    return bases, of_species


def learning_rate(done: float) -> float:
    """The share of its peak when so much of the training is done: a warm-up, then a cosine."""
    return min(1.0, 0.1 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))


def keep(
    model: LanguageModel, optimizer: torch.optim.Optimizer, progress: Progress, folder: Path
) -> None:
    """Writes a checkpoint, and removes the one before it."""

    def write(path: Path) -> None:
        model.save(path)
        (path / _PROGRESS).write_text(json.dumps(vars(progress)))

    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(folder, progress.steps.total(), moments(optimizer), write)
    prune(folder, 1, None)


def resumed(model: LanguageModel, optimizer: torch.optim.Optimizer, folder: Path) -> Progress:
    """Puts the last checkpoint of a folder, if there is one, into a model and its optimizer.

    Raises: ValueError if it is damaged, or of another model.
    """
    saved = list_checkpoints(folder)
    if not saved:
        return Progress()
    digests.check(saved[-1], advice=remedy(saved[-1]))
    model.load_state_dict(hyena.load(saved[-1]).state_dict())
    restore_optimizer(saved[-1], optimizer)
    kept = json.loads((saved[-1] / _PROGRESS).read_text())
    steps = Counter({int(length): count for length, count in kept["steps"].items()})
    return Progress(kept["seconds"], steps)


@torch.no_grad()
def answers(
    model: LanguageModel, windows: Sequence[bytes]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The species that a finished model takes windows of one length for, (B,), and its loss of each
    base but the first, (B, L − 1)."""
    length = len(windows[0])
    guesses, losses = [], []
    for ids in ids_of(windows).split(max(1, 65_536 // length)):
        x = hidden(model, ids)  # (B, L, D)
        assert model.label_head is not None
        assert model.head is not None
        guesses.append(model.label_head(x, torch.ones_like(ids, dtype=torch.bool)).argmax(1))
        logits = model.head(x[:, :-1])[..., : TOKENIZER.vocab_size]
        losses.append(F.cross_entropy(logits.mT, ids[:, 1:], reduction="none"))
    return torch.cat(guesses).numpy(), torch.cat(losses).double().numpy()
