"""Continuing prompts in one call."""

from __future__ import annotations

from collections.abc import Sequence

from hyena.data.tokenizer import Tokenizer
from hyena.generation.model import Model
from hyena.generation.prompts import Prompts
from hyena.generation.results import Generation, SequenceState
from hyena.generation.stream import stream


def generate(
    model: Model,
    prompts: Prompts,
    *,
    tokenizer: Tokenizer | None = None,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | Sequence[int] = 0,
    stop: str | Sequence[str] = (),
    stop_tokens: int | Sequence[int] = (),
    alternatives: int = 0,
    state: SequenceState | Sequence[SequenceState] | None = None,
    return_state: bool = False,
) -> list[Generation]:
    """Continues each prompt; prompts of different lengths run as one batch.

    A sequence that has ended leaves the batch. Each draws from a random generator of its own, so
    that a seed gives the same tokens alone and beside others, as far as the logits are the same: in
    float32 batches of other shapes differ by rounding, which now and then tips a draw.

    Args:
        model: in evaluation mode for the duration of the call, whatever its mode before.
        prompts: a text, texts, or sequences of token ids. A text is preceded by the tokenizer's
            end of text, which begins every document of the training data, so it may be empty.
        tokenizer: needed for texts and for ``stop``; ends a sequence at its end of text.
        max_new_tokens: at most so many tokens a prompt.
        temperature, top_k, top_p, min_p, repetition_penalty: see `Sampling`. The penalty is for the
            tokens of the prompt and those generated, but for none that end a sequence.
        seed: one for each prompt, or one number: the prompt of index i then has seed + i.
        stop: a text, or texts, each of which ends a sequence when it appears in what is generated;
            not part of the text returned. The one that is complete first counts.
        stop_tokens: an id, or ids, that end a sequence as the end of text does; not returned.
        alternatives: so many of the likeliest tokens are listed beside each.
        state: for each prompt where it goes on, such as the ``state`` of an earlier `Generation`;
            it is not changed. The prompts are then what follows, with nothing put before a text,
            and may be empty; they are read in a step a token.
        return_state: give each `Generation` its state, which takes one more step, and memory that
            grows with the sequence.

    Returns: one `Generation` a prompt, in order.
    Raises: TypeError if it is no model; ValueError on an empty prompt of token ids or one that
        holds something else, a missing tokenizer, a prompt too long for the model's max_length
        under its length policy, or options out of range or of another kind.
    """
    with stream(
        model,
        prompts,
        tokenizer=tokenizer,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        stop_tokens=stop_tokens,
        alternatives=alternatives,
        state=state,
        return_state=return_state,
    ) as events:
        for _ in events:
            pass
    return events.generations
