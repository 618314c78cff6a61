import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena.data import Tokenizer, load_tokenizer
from hyena.data.nucleotide_tokenizers import EvoTokenizer, HyenaDNATokenizer
from hyena.data.tokenizer import Cuttable

BOTH = {"hyenadna": HyenaDNATokenizer(), "evo": EvoTokenizer()}


@pytest.fixture(params=BOTH)
def tokenizer(request):
    return BOTH[request.param]


def test_hyenadna_has_the_ids_of_the_release():
    tokenizer = load_tokenizer("hyenadna")
    assert (tokenizer.vocab_size, tokenizer.end_of_text, tokenizer.padding) == (12, 1, 4)
    assert tokenizer.encode("ACGTN").tolist() == [7, 8, 9, 10, 11]
    assert tokenizer.encode("acgtnRU?-é\n\U0001f600\0").tolist() == [6] * 13
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.encode("A").dtype == np.int64
    assert tokenizer.decode(range(12)) == "\ufffdACGTN"


@given(st.text("ACGTN"))
def test_hyenadna_restores_any_bases(text):
    assert BOTH["hyenadna"].decode(BOTH["hyenadna"].encode(text)) == text


def test_evo_has_bytes_as_ids():
    tokenizer = load_tokenizer("evo")
    assert (tokenizer.vocab_size, tokenizer.end_of_text, tokenizer.padding) == (512, 0, 1)
    assert tokenizer.encode("ACgt|é").tolist() == [65, 67, 103, 116, 124, 0xC3, 0xA9]
    assert tokenizer.decode([65, 0, 1, 256, 511, 67, 0xC3]) == "AC\ufffd"
    with pytest.raises(ValueError, match=r"has byte 0 for the end of a text, .* at offset 2; rem"):
        tokenizer.encode("AC\0")


@given(st.text(st.characters(exclude_characters="\0\1", exclude_categories=["Cs"])))
def test_evo_restores_any_text(text):
    assert BOTH["evo"].decode(BOTH["evo"].encode(text)) == text


def test_what_a_tokenizer_offers(tokenizer):
    assert isinstance(tokenizer, Tokenizer)
    assert isinstance(tokenizer, Cuttable)
    assert tokenizer.last_cut("AC GT") == 5
    assert tokenizer.decode([]) == ""
    ids = tokenizer.encode("ACGT").tolist()
    for same in (tuple(ids), iter(ids), np.array(ids, "u2"), torch.tensor(ids)):
        assert tokenizer.decode(same) == "ACGT"
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match=f"token id {wrong} is outside the vocabulary of"):
            tokenizer.decode([wrong])
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.encode("A\ud800")
    with pytest.raises(TypeError, match="expected a str"):
        tokenizer.encode(b"ACGT")


def test_saved_and_loaded_is_the_same(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer) is type(load_tokenizer(tokenizer.name))
    assert loaded.fingerprint == tokenizer.fingerprint
    with pytest.raises(ValueError, match="end_of_text applies to"):
        load_tokenizer(tokenizer.name, end_of_text="x")


def test_fingerprints_tell_them_apart():
    every = [*BOTH.values(), load_tokenizer("bytes")]
    assert len({tokenizer.fingerprint for tokenizer in every}) == 3
