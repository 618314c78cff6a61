"""Pieces laid end to end are the text before the stop string, whatever the cuts."""

from hypothesis import given
from hypothesis import strategies as st

from hyena.data import load_tokenizer
from hyena.generation.text_stream import TextStream

BYTES = load_tokenizer("bytes")


@given(st.text(alphabet="abé\U0001f600 ", max_size=30), st.text(alphabet="abé", max_size=3))
def test_the_pieces_are_the_text_before_the_stop(text, stop):
    stream = TextStream(BYTES, stop or None)
    pieces = [stream.feed(token) for token in text.encode()]
    whole = "".join(pieces) + stream.close()
    assert whole == (text.split(stop)[0] if stop else text)
    assert stream.stopped == bool(stop and stop in text)


@given(st.binary(max_size=20))
def test_bytes_that_are_no_utf8_become_replacement_characters(data):
    stream = TextStream(BYTES, None)
    whole = "".join(stream.feed(b) for b in data) + stream.close()
    assert whole == data.decode("utf-8", errors="replace")
