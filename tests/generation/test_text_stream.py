"""Pieces laid end to end are the text before the stop string, whatever the cuts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena.data import load_tokenizer
from hyena.generation.text_stream import TextStream

BYTES = load_tokenizer("bytes")


class Words:
    """A tokenizer whose token i is the i-th of some strings of bytes."""

    def __init__(self, words: list[bytes]) -> None:
        self.words = words

    def decode_bytes(self, ids: list[int]) -> bytes:
        return b"".join(self.words[i] for i in ids)


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
