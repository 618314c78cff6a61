"""Requests that run together: each is given what it would be given alone."""

import queue
from typing import Any

import pytest
import torch
from comparison import assert_close
from generation_models import build, tempered

from hyena.data import load_tokenizer
from hyena.generation import Event, Generation, Sampling, generate
from hyena.model import LanguageModel
from hyena.serving import Engine, Failure, LimitError, Limits, PromptScores, Request

BYTES = load_tokenizer("bytes")


def prompt(length: int, seed: int = 0) -> list[int]:
    ids = torch.randint(256, (length,), generator=torch.Generator().manual_seed(seed))
    return ids.tolist()


def alone(model: LanguageModel, request: Request, tokenizer: Any = BYTES) -> list[Generation]:
    """What `generate` makes of a request."""
    drawing = request.sampling
    return generate(
        model,
        [list(request.prompt)] * request.choices,
        tokenizer=tokenizer,
        max_new_tokens=request.max_new_tokens,
        temperature=drawing.temperature,
        top_p=drawing.top_p,
        repetition_penalty=drawing.repetition_penalty,
        seed=request.seed,
        stop=request.stop,
        stop_tokens=request.stop_tokens,
        alternatives=request.alternatives,
    )


def check(found: list[Any], expected: list[Generation]) -> None:
    """The events of a request are the generations."""
    events = [event for event in found if isinstance(event, Event)]
    for index, own in enumerate(expected):
        of_it = [event for event in events if event.index == index]
        kept = of_it[: len(own.tokens)]
        assert [event.token for event in kept] == own.tokens
        assert "".join(event.text for event in of_it) == own.text
        assert [event.finished for event in of_it] == [None] * (len(of_it) - 1) + [own.finished]
        logprobs = torch.tensor([event.logprob for event in kept], dtype=torch.float64)
        assert_close(logprobs, torch.tensor(own.logprobs, dtype=torch.float64), 1e-10)
        ids = [[token for token, _ in event.alternatives] for event in kept]
        assert ids == [[token for token, _ in others] for others in own.alternatives]


def run(engine: Engine, most: int = 1000) -> None:
    """Rounds until there is nothing left to do."""
    for _ in range(most):
        if not engine.round():
            return
    raise AssertionError(f"still at work after {most} rounds")


REQUESTS = [
    Request(prompt(3, 1), 40, Sampling(temperature=0)),
    Request(prompt(20, 2), 12, Sampling(temperature=0.7), seed=5, choices=3, alternatives=2),
    Request(prompt(1, 3), 30, Sampling(top_p=0.9), seed=7, stop=["a", "e", "\x10"]),
    Request(prompt(11, 4), 25, Sampling(repetition_penalty=1.5), stop_tokens=range(0, 256, 11)),
    Request(prompt(17, 5), 1, Sampling(temperature=0)),
    Request(prompt(9, 6), 33, Sampling(temperature=0), alternatives=1),
]


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention"])
@pytest.mark.parametrize("piece", [4, 512])
def test_each_request_is_what_it_is_alone(mixers: str, piece: int) -> None:
    model = tempered(build(mixers), 0.05)
    engine = Engine(model, BYTES, Limits(piece=piece, sequences=6))
    found: list[list[Any]] = []
    for request in REQUESTS:
        own: list[Any] = []
        found.append(own)
        engine.submit(request, own.append)
        engine.round()
        engine.round()
    run(engine)
    for own, request in zip(found, REQUESTS, strict=True):
        check(own, alone(model, request))
    assert engine.growing == engine.waiting == 0


def test_a_long_prompt_stops_nobody() -> None:
    model = build()
    engine = Engine(model, BYTES, Limits(piece=4))
    short: list[Any] = []
    long: list[Any] = []
    engine.submit(Request(prompt(3), 20, Sampling(temperature=0)), short.append)
    engine.round()
    engine.submit(Request(prompt(40), 2, Sampling(temperature=0)), long.append)
    before = len(short)
    for _ in range(9):
        engine.round()
        assert not long
    assert len(short) == before + 9  # a token in each round
    run(engine)
    check(long, alone(model, Request(prompt(40), 2, Sampling(temperature=0))))


def test_a_short_prompt_waits_for_no_long_one_which_is_read_all_the_same() -> None:
    model = build()
    engine = Engine(model, BYTES, Limits(piece=4))
    long, request = Request(prompt(40), 2), Request(prompt(3), 1, Sampling(temperature=0))
    found: list[Any] = []
    engine.submit(long, found.append)
    engine.round()
    for i in range(9):  # ten pieces in all, every other round one at least
        short: list[Any] = []
        engine.submit(request, short.append)
        engine.round()
        engine.round()
        check(short, alone(model, request))
        assert bool(found) == (i == 8)
    run(engine)
    check(found, alone(model, long))


def test_a_prompt_is_scored_as_the_full_forward_has_it() -> None:
    model = build("hyena,attention")
    for piece in (3, 512):
        engine = Engine(model, BYTES, Limits(piece=piece))
        found: list[Any] = []
        request = Request(prompt(14), 0, alternatives=2, score_prompt=True)
        engine.submit(request, found.append)
        run(engine)
        scores, end = found
        assert isinstance(scores, PromptScores)
        assert (end.token, end.finished) == (None, "length")
        with torch.no_grad():
            whole = model(torch.tensor([prompt(14)]))[0].log_softmax(-1)
        own = whole[:-1].gather(-1, torch.tensor(prompt(14)[1:])[:, None])[:, 0]
        assert scores.logprobs[0] is None
        assert_close(torch.tensor(scores.logprobs[1:], dtype=torch.float64), own, 1e-10)
        assert scores.alternatives[0] == []
        best = [[token for token, _ in others] for others in scores.alternatives[1:]]
        assert best == whole[:-1].topk(2).indices.tolist()


def test_who_leaves_frees_its_place_at_once() -> None:
    model = build()
    engine = Engine(model, BYTES, Limits(sequences=2, piece=4))
    found: list[list[Any]] = [[] for _ in range(4)]
    tickets = [
        engine.submit(Request(prompt(5, i), 30, Sampling(temperature=0)), own.append)
        for i, own in enumerate(found)
    ]
    for _ in range(6):
        engine.round()
    assert (engine.growing, engine.waiting) == (2, 2)
    tickets[0].cancel()
    tickets[3].cancel()
    engine.round()
    assert engine.waiting == 0  # the third is being read
    assert [found[i][-1].finished for i in (0, 3)] == ["cancelled"] * 2
    length = len(found[0])
    tickets[0].cancel()
    run(engine)
    assert len(found[0]) == length
    for i in (1, 2):
        check(found[i], alone(model, Request(prompt(5, i), 30, Sampling(temperature=0))))


def test_who_leaves_while_its_prompt_is_read() -> None:
    engine = Engine(build(), BYTES, Limits(piece=4))
    found: list[Any] = []
    ticket = engine.submit(Request(prompt(40), 3, choices=2), found.append)
    engine.round()
    ticket.cancel()
    assert not engine.round()
    assert [(event.index, event.finished) for event in found] == [
        (0, "cancelled"),
        (1, "cancelled"),
    ]


def test_what_could_never_be_served_is_refused_at_once() -> None:
    model = build()
    engine = Engine(model, None, Limits(sequences=2, prompt_tokens=20, new_tokens=30))
    refused = {
        "a prompt: expected at most 20, got 21": Request(prompt(21)),
        "max_new_tokens: expected at most 30, got 31": Request(prompt(2), 31),
        "choices: expected at most 2, got 3": Request(prompt(2), 3, choices=3),
        "a prompt has no tokens": Request([]),
        "prompt: token id 900 is outside the vocabulary": Request([900]),
        "max_new_tokens: expected at least 0, got -1": Request([1], -1),
        "stop= speaks of text": Request([1], 1, stop="a"),
        "alternatives: expected 0 to 257": Request([1], 1, alternatives=300),
        "logit_bias: token id 999": Request([1], 1, Sampling(logit_bias={999: 1.0})),
        "seed: expected at most": Request([1], 1, seed=2**63),
    }
    for message, request in refused.items():
        with pytest.raises(ValueError, match=message):
            engine.submit(request, print)
    full = Engine(model, None)
    with pytest.raises(ValueError, match="a prompt of 50 tokens and 20 new do not fit max_length"):
        full.submit(Request(prompt(50), 20), print)
    little = Engine(model, None, Limits(state_bytes=10_000))
    with pytest.raises(ValueError, match=r"1 × 30 new take \d+ MiB, more than the 0 MiB"):
        little.submit(Request(prompt(30), 30), print)
    with pytest.raises(ValueError, match="piece: expected at least 1, got 0"):
        Limits(piece=0)


def test_the_memory_of_states_decides_how_many_grow() -> None:
    model, request = build(), Request(prompt(5), 20, Sampling(temperature=0))
    needed = Limits().bytes_of([request] * 2, model) + Limits().bytes_to_read(request, model)
    engine = Engine(model, BYTES, Limits(state_bytes=needed))
    found: list[list[Any]] = [[], [], []]
    for own in found:
        engine.submit(request, own.append)
    most = 0
    while engine.round():
        most = max(most, engine.growing)
    assert most == 2
    for own in found:
        check(own, alone(model, request))


def test_a_queue_that_is_full_says_so() -> None:
    engine = Engine(build(), None, Limits(waiting=1))
    engine.submit(Request([1], 1), [].append)
    with pytest.raises(LimitError, match="all 1 places to wait are taken; ask again later"):
        engine.submit(Request([1], 1), [].append)


def test_an_error_ends_those_it_concerns_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    engine = Engine(model, BYTES)
    found: list[Any] = []
    engine.submit(Request(prompt(5), 20), found.append)
    engine.round()
    with monkeypatch.context() as patch:

        def broken(*args: Any, **options: Any) -> Any:
            raise RuntimeError("can't allocate memory")

        patch.setattr(LanguageModel, "step", broken)
        engine.round()
    assert isinstance(found[-1], Failure)
    assert str(found[-1].error) == "can't allocate memory"
    later: list[Any] = []
    request = Request(prompt(5), 20, Sampling(temperature=0))
    engine.submit(request, later.append)
    run(engine)
    check(later, alone(model, request))
    assert sum(isinstance(each, Failure) for each in found) == 1


def test_a_thread_serves_until_it_is_closed() -> None:
    model = build().train()
    engine = Engine(model, BYTES, Limits(piece=4))
    engine.start()
    with pytest.raises(RuntimeError, match="the engine was started before"):
        engine.start()
    requests = [Request(prompt(6, i), 10, Sampling(temperature=0)) for i in range(5)]
    lines: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in requests]
    for request, line in zip(requests, lines, strict=True):
        engine.submit(request, line.put)
    found = []
    for line in lines:
        own = []
        while not own or own[-1].finished is None:
            own.append(line.get(timeout=60))
        found.append(own)
    endless: queue.SimpleQueue[Any] = queue.SimpleQueue()
    engine.submit(Request(prompt(6), 50, Sampling(temperature=1e6)), endless.put)
    endless.get(timeout=60)
    engine.close()
    last = None
    while not endless.empty():
        last = endless.get()
    assert last is not None
    assert last.finished in ("cancelled", "end of text", "length")
    with pytest.raises(RuntimeError, match="the engine has been closed"):
        engine.submit(requests[0], print)
    assert model.training  # as it was
    for own, request in zip(found, requests, strict=True):
        check(own, alone(model, request))
