"""Characters that a tokenizer has no token for are not left out in silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_kinds import KINDS
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from hyena.data import PrepareConfig, load_tokenizer, prepare
from hyena.data.hugging_face_tokenizer import HuggingFaceTokenizer


def byte_pairs():
    """A tokenizer of no more than the bytes of its training text, and no token of unknown text."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=40, special_tokens=["</s>"], show_progress=False)
    backend.train_from_iterator(["we the people of the"], trainer)
    return backend


def test_characters_that_a_tokenizer_leaves_out_are_said(tmp_path):
    byte_pairs().save(str(tmp_path / "bytes.json"))
    (tmp_path / "x.txt").write_text("We the people|the 12 W|of the")
    config = PrepareConfig(
        tmp_path / "x.txt", tmp_path / "out", tokenizer=tmp_path / "bytes.json", separator="|"
    )
    (note,) = prepare(config).notes
    assert "no token for 3 characters of the text, the first 'W' in " in note
    assert "x.txt part 1, and none for unknown ones: they were left out; train it with" in note
    (tmp_path / "x.txt").write_text("WW")
    with pytest.raises(ValueError, match="no text in the source: the tokenizer has no token for 1"):
        prepare(PrepareConfig(tmp_path / "x.txt", tmp_path / "no", tokenizer=config.tokenizer))


@pytest.mark.parametrize("separated", [{}, {"end_of_word_suffix": "</w>"}])
@given(text=st.text("weW é12", max_size=6))
def test_what_is_lost_is_what_has_no_token(separated, text):
    tokens = ["w", "we", "é", "e", *(["w</w>", "e</w>", "1</w>"] if separated else [])]
    vocabulary = {token: i for i, token in enumerate(["</s>", *tokens])}
    backend = Backend(models.BPE(vocabulary, [("w", "e")], **separated))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = HuggingFaceTokenizer(backend.to_str(), name="x", origin="x")
    kept = "".join(backend.encode(text).tokens).replace("</w>", "")
    assert bool(tokenizer.lost(text)) == (kept != "".join(text.split()))


def test_tokenizers_that_lose_nothing_say_so():
    assert load_tokenizer("gpt2").lost("We é12") == set()
    for kind in ("metaspace", "word_piece", "k_mers", "byte_fallback", "byte_level"):
        assert not KINDS[kind].lost("We é12"), kind
