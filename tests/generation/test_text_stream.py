"""Pieces laid end to end are the text before the stop string, whatever tokens and cuts."""

from typing import Any

import pytest
from generation_models import build
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_kinds import KINDS

from hyena.data import Tokenizer, load_tokenizer
from hyena.generation import beam_search, generate, stream
from hyena.generation.text_stream import TextStream

BYTES = load_tokenizer("bytes")


class Words:
    """A tokenizer whose token i is the i-th of some strings of bytes."""

    def __init__(self, words: list[bytes]) -> None:
        self.words = words

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.words[i] for i in ids).decode(errors="replace")


def streamed(tokenizer: Tokenizer, before: list[int], ids: list[int]) -> str:
    stream = TextStream(tokenizer, [], before)
    return "".join([*map(stream.feed, ids), stream.close()])


def before_the_first(text: str, stops: list[str]) -> str | None:
    """The text before the stop string that is complete first; None if there is none."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return None


@given(
    st.text(alphabet="abé\U0001f600 ", max_size=30),
    st.lists(st.text(alphabet="abé", min_size=1, max_size=3), max_size=3),
)
def test_the_pieces_are_the_text_before_the_stop(text: str, stops: list[str]) -> None:
    stream = TextStream(BYTES, stops)
    pieces = [stream.feed(token) for token in text.encode()]
    whole = "".join(pieces) + stream.close()
    expected = before_the_first(text, stops)
    assert whole == (text if expected is None else expected)
    assert stream.stopped == (expected is not None)


@given(
    st.text(alphabet="abé", max_size=20),
    st.lists(st.text(alphabet="abé", min_size=1, max_size=3), max_size=3),
    st.lists(st.integers(1, 5), min_size=30, max_size=30),
)
def test_where_tokens_are_cut_has_no_say(text: str, stops: list[str], sizes: list[int]) -> None:
    data, words = text.encode(), []
    for size in sizes:
        words.append(data[:size])
        data = data[size:]
    stream = TextStream(Words(words), stops)
    whole = "".join(stream.feed(i) for i in range(len(words))) + stream.close()
    expected = before_the_first(text, stops)
    assert whole == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("stops", "expected"),
    [(["!", "."], "one"), ([".", "!"], "one"), (["e", "ne"], "o"), (["ne. t", "."], "one")],
)
def test_of_stops_in_one_token_the_one_complete_first_counts(
    stops: list[str], expected: str
) -> None:
    stream = TextStream(Words([b"one. two! three"]), stops)
    assert stream.feed(0) == expected
    assert stream.stopped
    assert stream.feed(0) + stream.close() == ""


def test_what_cannot_become_a_stop_comes_at_once() -> None:
    stream = TextStream(BYTES, ["###", "END"])
    pieces = [stream.feed(byte) for byte in b"a#b##EN.E"]
    assert pieces == ["a", "", "#b", "", "", "##", "", "EN.", ""]
    assert stream.close() == "E"


def test_a_copy_goes_its_own_way() -> None:
    stream = TextStream(BYTES, ["xy"])
    cut = "é".encode()
    assert stream.feed(cut[0]) == ""
    other = stream.copy()
    assert other.feed(cut[1]) == "é"
    assert (other.feed(ord("x")), other.feed(ord("y")), other.stopped) == ("", "", True)
    assert not stream.stopped
    assert stream.feed(ord("a")) + stream.close() == "\N{REPLACEMENT CHARACTER}a"


@given(st.binary(max_size=20))
def test_bytes_that_are_no_utf8_become_replacement_characters(data: bytes) -> None:
    stream = TextStream(BYTES, [])
    whole = "".join(stream.feed(b) for b in data) + stream.close()
    assert whole == data.decode("utf-8", errors="replace")


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_tokens_of_every_kind_read_as_they_do_together(kind: str, data: st.DataObject) -> None:
    tokenizer = KINDS[kind]
    token = st.integers(0, tokenizer.vocab_size - 1)
    before = data.draw(st.lists(token, max_size=6))
    whole = tokenizer.decode(before)
    if whole.endswith("\ufffd"):  # perhaps the beginning of a character
        before, whole = [], ""
    ids = data.draw(st.lists(token, max_size=12))
    assert whole + streamed(tokenizer, before, ids) == tokenizer.decode(before + ids)


@pytest.mark.parametrize("kind", ["bytes", "byte_fallback", "byte_level"])
def test_a_character_cut_by_the_end_of_the_prompt_is_read_whole(kind: str) -> None:
    tokenizer = KINDS[kind]
    ids = [int(i) for i in tokenizer.encode("\U0001f600")][-4:]
    for cut in (1, 2, 3):
        assert streamed(tokenizer, ids[:cut], ids[cut:]) == "\U0001f600"


@pytest.mark.parametrize("kind", ["bytes", "byte_fallback", "byte_level"])
def test_bytes_without_end_that_are_no_characters_come_as_they_are(kind: str) -> None:
    tokenizer = KINDS[kind]
    first, *rest = [int(i) for i in tokenizer.encode("\U0001f600")][-4:]
    stream = TextStream(tokenizer, [])
    assert "".join(stream.feed(first) for _ in range(200)) == "\ufffd" * 199
    assert "".join(map(stream.feed, rest)) == "\U0001f600"


@pytest.mark.parametrize(
    ("kind", "text", "stop", "left"),
    [
        ("metaspace", "we the people of the", "people of", "we the "),
        ("word_piece", "we the people of the", " people", "we the"),
        ("k_mers", "ACG TTT A C", "T A", "ACG TT"),
        ("byte_fallback", "we the \U0001f600 we", "\U0001f600 ", "we the "),
        ("byte_level", "we the people", " p", "we the"),
    ],
)
def test_a_stop_with_blanks_ends_tokens_of_every_kind(
    kind: str, text: str, stop: str, left: str
) -> None:
    tokenizer = KINDS[kind]
    ids = [int(i) for i in tokenizer.encode(text)]
    first = next(n for n in range(len(ids)) if stop in tokenizer.decode(ids[:n]))
    stream, pieces = TextStream(tokenizer, [stop]), []
    for count, token in enumerate(ids, start=1):
        pieces.append(stream.feed(token))
        assert stream.stopped == (count >= first)
    assert "".join(pieces) + stream.close() == left


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_streams_results_and_beams_read_as_the_tokens_do(kind: str) -> None:
    tokenizer = KINDS[kind]
    model = build(vocab_size=tokenizer.vocab_size, layers=1)
    text, options = "we the ACG", {"tokenizer": tokenizer, "max_new_tokens": 12}
    prompt = [tokenizer.end_of_text, *map(int, tokenizer.encode(text))]

    def after_the_prompt(tokens: list[int]) -> str:
        whole, known = tokenizer.decode(prompt + tokens), tokenizer.decode(prompt)
        assert whole.startswith(known)
        return whole[len(known) :]

    events: Any = stream(model, [text, prompt], seed=3, **options)
    pieces = ["", ""]
    for event in events:
        pieces[event.index] += event.text
    results = generate(model, [text, prompt], seed=3, **options)
    assert [result.text for result in results] == pieces
    assert pieces == [after_the_prompt(result.tokens) for result in results]
    for beam in beam_search(model, text, **options)[0]:
        assert beam.text == after_the_prompt(beam.tokens)


def test_a_stray_byte_takes_no_characters_with_it() -> None:
    tokenizer = KINDS["byte_fallback"]
    first = int(tokenizer.encode("\U0001f600")[-4]) - 0xF0  # of the 256 tokens of bytes
    ids = [first + byte for byte in b"\xe2\x82\xac\x80\xe2\x82"]
    assert tokenizer.decode(ids) == streamed(tokenizer, [], ids) == "\u20ac\ufffd\ufffd"
