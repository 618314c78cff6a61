"""Continuing prompts token by token: one prefill, then a step a token."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Sequence
from typing import Any, ParamSpec, cast

from torch import nn

from hyena.arguments import check_whole, several, shown
from hyena.data.tokenizer import Tokenizer
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.generation.batch import begin
from hyena.generation.chosen_tokens import AllowedTokens, LogitBias, allowed_ids, bias_of_ids
from hyena.generation.continuation import Continuation, Ending
from hyena.generation.model import Model, check_model
from hyena.generation.prompts import Prompts, check_room, prompt_ids, require_tokens
from hyena.generation.results import Event, Generation, SequenceState
from hyena.generation.sampling import Sampling, check_alternatives
from hyena.generation.state import ModelState

_Arguments = ParamSpec("_Arguments")


class Stream:
    """An iterator of `Event`, made by `stream`.

    Round by round it has an event for every sequence that is still growing, in order; nothing is
    computed before it is asked for. It ends when all sequences have ended. `close` ends it before
    that, and so does the end of a ``with`` block, or that nothing refers to it any longer, as
    after ``break`` in ``for event in stream(...)``.
    """

    def __init__(self, events: Generator[Event, None, None], rows: list[Continuation]) -> None:
        self._events, self._rows = events, rows

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancels what is still growing, without further events; the model's mode is restored."""
        self._events.close()
        _cancel_all(self._rows)

    def cancel(self, index: int) -> None:
        """Ends the sequence of the prompt ``index``, whose next event says so; the others go on.

        Raises: IndexError if there is no such prompt.
        """
        self._rows[index].cancelled = True

    @property
    def generations(self) -> list[Generation]:
        """What there is so far after each prompt; with a held-back end once it has ended."""
        return [row.generation() for row in self._rows]


def stream(
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
    allowed_tokens: AllowedTokens | None = None,
    logit_bias: LogitBias | None = None,
    seed: int | Sequence[int] = 0,
    stop: str | Sequence[str] = (),
    stop_tokens: int | Sequence[int] = (),
    alternatives: int = 0,
    state: SequenceState | Sequence[SequenceState] | None = None,
    return_state: bool = False,
) -> Stream:
    """Continues each prompt and hands out every token as it comes.

    The model is in evaluation mode from the first event to the end of the stream.

    Args: as `generate`.
    Returns: an iterator of `Event`; its ``generations`` are what `generate` returns.
    Raises and warns: as `generate`, at once where the arguments are wrong.
    """
    check_model("model", model)
    vocabulary = model.config.vocab_size
    ending = Ending.of(max_new_tokens, stop, stop_tokens, tokenizer, vocabulary)
    allowed, bias = allowed_ids(allowed_tokens, tokenizer), bias_of_ids(logit_bias, tokenizer)
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, allowed, bias)
    sampling.check_vocabulary(vocabulary)
    alternatives = check_alternatives(alternatives, vocabulary)
    ids = prompt_ids(prompts, tokenizer, vocabulary, begin=state is None)
    starts = _starts(state, len(ids))
    require_tokens([p for p, s in zip(ids, starts, strict=True) if s is None])
    if any(s and s.logits is None and not p for p, s in zip(ids, starts, strict=True)):
        raise ValueError("a state has no logits to go on from: its prompt needs at least one token")
    seeds = _seeds(seed, len(ids))
    each = enumerate(zip(ids, starts, seeds, strict=True))
    rows = [Continuation(i, *of_row, ending) for i, of_row in each]
    # Rows that begin anew are padded to the longest; those with a state are not.
    known = [len(row.prompt) + (row.start.model.length if row.start else 0) for row in rows]
    if known:
        check_room(model.config, max(known), ending.max_new_tokens, feed_last=return_state)
    return Stream(_events(model, rows, sampling, alternatives, return_state), rows)


def _as_stream(
    of: Callable[_Arguments, Stream],
) -> Callable[[Callable[..., list[Generation]]], Callable[_Arguments, list[Generation]]]:
    """For a function that passes its arguments on: types, `help` and errors show those of `stream`
    under its own name."""

    def shown(function: Callable[..., list[Generation]]) -> Callable[_Arguments, list[Generation]]:
        returned = inspect.signature(function).return_annotation
        signature = inspect.signature(of).replace(return_annotation=returned)
        function.__signature__ = signature  # type: ignore[attr-defined]

        @functools.wraps(function)
        def checked(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> list[Generation]:
            try:
                signature.bind(*arguments, **options)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(*arguments, **options)

        return checked

    return shown


@_as_stream(stream)
def generate(*arguments: Any, **options: Any) -> list[Generation]:
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
        allowed_tokens: the only tokens that may be drawn, as ids, or as a text each of whose
            characters is one token; the end of text is one of them only if its id is given.
        logit_bias: what is added to the logits of some tokens, by ids or by texts of one token.
        seed: one for each prompt, or one number: the prompt of index i then has seed + i.
        stop: a text, or texts, each of which ends a sequence when it appears in what is generated;
            not part of the text returned. The one that is complete first counts.
        stop_tokens: an id, or ids, that end a sequence as the end of text does; not returned.
        alternatives: so many of the likeliest tokens are listed beside each.
        state: for each prompt where it goes on, such as the ``state`` of an earlier `Generation`;
            it is not changed. The prompts are then what follows, with nothing put before a text,
            and may be empty; each is read in one pass.
        return_state: give each `Generation` its state, which takes one more step, and memory that
            grows with the sequence.

    Returns: one `Generation` a prompt, in order.
    Raises: TypeError if it is no model, or no state; ValueError on an empty prompt of token ids or
        one that holds something else, a missing tokenizer, a prompt too long for the model's
        max_length under its length policy, or options out of range or of another kind.
    Warns: UserWarning of letters of a text that the tokenizer does not know, if it knows others.
    """
    with stream(*arguments, **options) as events:
        for _ in events:
            pass
    return events.generations


def _events(
    model: Model,
    rows: list[Continuation],
    sampling: Sampling,
    alternatives: int,
    return_state: bool,
) -> Generator[Event, None, None]:
    """What a `Stream` iterates over. It does not refer to the stream, or would keep it alive."""
    try:
        with evaluation_mode(cast(nn.Module, model)):
            batches = begin(model, rows, return_state)
            while batches:
                for batch in batches:
                    drawn = batch.draw(sampling, alternatives)
                    for row, token in zip(batch.rows, drawn, strict=True):
                        yield row.cancel() if row.cancelled else row.take(*token)
                    batch.advance(return_state)
                batches = [batch for batch in batches if batch.rows]
    finally:
        _cancel_all(rows)


def _cancel_all(rows: list[Continuation]) -> None:
    for row in rows:
        if row.finished is None:
            row.cancel()


def _starts(state: Any, count: int) -> list[SequenceState | None]:
    if state is None:
        return [None] * count
    states = several(state)
    for one in states:
        _check_start(one)
    if len(states) != count:
        raise ValueError(
            f"state: expected one for each prompt, {count} in all, got {len(states)}; prompts "
            'without further tokens are "" or []'
        )
    return [*states]


def _check_start(state: Any) -> None:
    if not isinstance(state, SequenceState):
        advice = ""
        if isinstance(state, ModelState):
            advice = "; SequenceState(state) makes one of it"
        elif isinstance(state, Generation):
            advice = ", which has it as .state if return_state=True was given"
        raise TypeError(
            "state: expected a SequenceState, such as the state of a Generation, got a "
            f"{type(state).__name__}{advice}"
        )
    rows = state.model.layers[0].batch
    if rows != 1:
        raise ValueError(
            f"state: expected the state of one sequence, got that of {rows}; ModelState.select "
            "takes one out of a batch"
        )


def _seeds(seed: Any, count: int) -> list[int]:
    given = several(seed)
    seeds = [check_whole("seed", value, None, None) for value in given]
    if len(given) == 1 and given[0] is seed:
        seeds = [seeds[0] + i for i in range(count)]
    if len(seeds) != count:
        raise ValueError(f"seed: expected one for each prompt, {count} in all, got {len(seeds)}")
    for value in seeds:
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"seed: expected an integer of 64 bits, got {shown(value)}")
    return seeds
