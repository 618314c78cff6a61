"""Prompts that begin as one that was read before: the same texts, and less to read."""

from typing import Any

import pytest
from generation_models import build
from test_engine import BYTES, alone, check, prompt, run

from hyena.generation import Sampling
from hyena.model import LanguageModel
from hyena.serving import Engine, Limits, Request, prefixes, reading

GREEDY = Sampling(temperature=0)
BASE = prompt(20, 9)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "SHORTEST", 6)
    monkeypatch.setattr(prefixes, "LONG", 30)
    monkeypatch.setattr(reading, "ROOM", 12)


class Served:
    """An engine that counts the tokens it reads."""

    def __init__(self, model: LanguageModel, monkeypatch: pytest.MonkeyPatch, **limits: int):
        self.model, self.read = model, 0
        prefill = model.prefill

        def counted(ids: Any, **rest: Any) -> Any:
            self.read += ids.shape[1]
            return prefill(ids, **rest)

        monkeypatch.setattr(model, "prefill", counted)
        self.engine = Engine(model, BYTES, Limits(**limits))

    def ask(self, tokens: list[int], new: int = 9, **rest: Any) -> int:
        """Tokens that were read for it. What comes is compared with what `generate` gives."""
        request, found, before = Request(tokens, new, GREEDY, **rest), [], self.read
        self.engine.submit(request, found.append)
        run(self.engine)
        read, self.read = self.read - before, before
        check(found, alone(self.model, request))
        return read


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention", "h3,s4d", "hyena-mr,hyena-li"])
@pytest.mark.parametrize("piece", [3, 512])
def test_what_two_prompts_share_is_not_read_a_third_time(
    mixers: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = {"positions": "none"} if "li" in mixers else {}
    served = Served(build(mixers, **positions), monkeypatch, piece=piece)
    assert served.ask(BASE + prompt(3, 1)) == 23
    assert served.ask(BASE + prompt(4, 2)) == 24  # nothing was kept: who knew that it begins alike
    assert served.ask(BASE + prompt(2, 3)) == 2
    assert served.ask(BASE + prompt(5, 4), choices=3) == 5
    assert served.ask(BASE, 1) == 0
    assert served.ask(BASE[:19]) == 19


def test_a_long_prompt_is_kept_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    served, long = Served(build(), monkeypatch), prompt(40, 5)
    assert served.ask(long) == 40
    assert served.ask([*long, 1, 2]) == 2
    assert served.ask(long) == 0


def test_a_beginning_without_room_for_what_is_asked_is_read_again_with_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served(build(max_length=128), monkeypatch)
    for seed in (1, 2):
        served.ask(BASE + prompt(4, seed), new=5)  # room for 24 + 4 + 12
    assert served.ask(BASE + prompt(10, 3), new=11) == 10
    assert served.ask(BASE + prompt(10, 4), new=12) == 30
    assert served.ask(BASE + prompt(10, 5), new=20) == 10


def test_room_ends_where_the_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(build(max_length=40), monkeypatch)
    assert served.ask(prompt(31, 1), new=9) == 31
    assert served.ask(prompt(31, 1), new=9) == 0


def test_a_prompt_whose_tokens_are_scored_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(build(), monkeypatch)
    served.ask(prompt(40, 5))
    assert served.ask(prompt(40, 5), score_prompt=True) == 40


def test_what_is_kept_is_within_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(build(max_length=256), monkeypatch)
    served.ask(prompt(40, 1))
    (one,) = served.engine._prefixes._kept
    served = Served(build(max_length=256), monkeypatch, kept_bytes=2 * one.nbytes)
    for seed in (1, 2):
        served.ask(prompt(40, seed))
    assert served.ask(prompt(40, 1)) == 0  # the other was used longer ago
    assert served.ask(prompt(40, 3)) == 40
    assert served.ask(prompt(40, 1)) == 0
    assert served.ask(prompt(40, 2)) == 40
    assert sum(each.nbytes for each in served.engine._prefixes._kept) <= 2 * one.nbytes
    for bytes_ in (0, one.nbytes - 1):
        served = Served(build(max_length=256), monkeypatch, kept_bytes=bytes_)
        assert [served.ask(prompt(40, 1)) for _ in range(2)] == [40, 40]


def test_a_batch_is_no_wider_for_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(build(max_length=256), monkeypatch)
    monkeypatch.setattr(reading, "ROOM", 150)
    for _ in range(2):  # read, and begun with
        served.engine.submit(Request(prompt(40, 1), 9, GREEDY), [].append)
        served.engine.round()
        state = served.engine._batch._state
        assert state is not None
        assert state.layers[0].long.planned <= 64
        run(served.engine)
