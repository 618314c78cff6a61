"""What a run reads: the windows of its steps and of its evaluations, at each of its lengths."""

from __future__ import annotations

from dataclasses import dataclass

from hyena.data import TokenFile, Tokenizer, WindowSampler, open_tokens, read_manifest
from hyena.data.stores import find_store
from hyena.training.config import TrainConfig
from hyena.training.lengths import Stage

# Seed of the validation windows: the same ones whatever the run's seed, so that runs compare.
_VALIDATION_SEED = 0


@dataclass
class Part:
    """Windows of one length.

    Attributes:
        stage: of the run, in which they are read.
        training: those of the run's steps by number, of which this stage reads its own.
        validation: the same ones at each evaluation; None if there is none.
    """

    stage: Stage
    training: WindowSampler
    validation: WindowSampler | None


@dataclass
class Data:
    """What a run reads.

    Attributes:
        parts: one after the other.
        tokenizer: of the tokens.
        fingerprint: of all that is read.
        notes: on what is not as it was asked for.
    """

    parts: list[Part]
    tokenizer: Tokenizer
    fingerprint: dict[str, str]
    notes: list[str]

    def at(self, step: int) -> Part:
        """What the update that follows ``step`` finished ones reads."""
        return next(part for part in reversed(self.parts) if part.stage.first <= step)


def open_data(config: TrainConfig) -> Data:
    """Opens the token files of a run.

    Raises: FileNotFoundError if they are not there; ValueError if they are damaged, too short, or
        do not fit the model.
    """
    store = find_store(config.data)
    tokens = open_tokens(store, "train")
    tokens.check_vocabulary(config.model.vocab_size)
    stages = config.stages()
    longest = max(stage.length for stage in stages)
    if len(tokens) <= longest:
        raise ValueError(
            f"{config.data} has {len(tokens):,} tokens to train on, too few for windows of "
            f"{longest:,}; lower length or model.max_length, or prepare more text"
        )
    manifest = read_manifest(store)
    held_out: TokenFile | None = None
    if config.evaluation.every:
        if "validation" not in manifest.splits:
            raise ValueError(
                f"{config.data} has no validation split to evaluate on; prepare it with one, or "
                "train with --evaluation.every 0"
            )
        held_out = open_tokens(store, "validation")
    notes: list[str] = []
    parts = [
        Part(stage, _training(config, stage, tokens), _validation(config, stage, held_out, notes))
        for stage in stages
    ]
    fingerprint = {"tokenizer": tokens.tokenizer.fingerprint}
    for name, split in manifest.splits.items():
        if name in ("train", "validation"):
            fingerprint |= split.sha256
    return Data(parts, tokens.load_tokenizer(), fingerprint, notes)


def _training(config: TrainConfig, stage: Stage, tokens: TokenFile) -> WindowSampler:
    across = config.cross_documents
    return WindowSampler(tokens, stage.length, stage.batch, config.seed, cross_documents=across)


def _validation(
    config: TrainConfig, stage: Stage, tokens: TokenFile | None, notes: list[str]
) -> WindowSampler | None:
    if tokens is None:
        return None
    # Evaluation takes the memory of a training micro batch.
    batch, length = stage.batch // config.accumulate, min(stage.length, len(tokens) - 1)
    if length < stage.length:
        notes.append(
            f"the validation split has {len(tokens):,} tokens, fewer than a window of "
            f"{stage.length:,}; it is evaluated in windows of {length:,}"
        )
    across = config.cross_documents
    return WindowSampler(tokens, length, batch, _VALIDATION_SEED, cross_documents=across)
