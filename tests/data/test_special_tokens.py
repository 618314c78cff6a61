"""No text yields a special token, whatever kind of tokenizer the file holds and says of it."""

import json

import pytest
from tokenizer_kinds import END, KINDS
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from hyena.data import PrepareConfig, load_tokenizer, prepare
from hyena.data.hugging_face_tokenizer import HuggingFaceTokenizer

SPELLED = ["<unk>", "<s>", "<pad>", "<", "/", "s", ">", "▁", "a", "b", "▁a", "▁b"]
VOCABULARY = {token: i for i, token in enumerate([END, *SPELLED])}


def unigram(**_):
    scores = [(token, -9.0 if len(token) == 1 else -1.0) for token in VOCABULARY]
    backend = Backend(models.Unigram(scores, unk_id=VOCABULARY["<unk>"]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return backend


def word_level(**_):
    backend = Backend(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def word_piece(**_):
    backend = Backend(models.WordPiece({**VOCABULARY, "##a": 99}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def merged(**options):
    """As files made of a SentencePiece BPE: its merges yield whatever piece they can."""
    vocabulary = {**VOCABULARY, "</": 50, "s>": 51, "ab": 52}
    merges = [("<", "/"), ("s", ">"), ("</", "s>"), ("a", "b")]
    backend = Backend(models.BPE(vocabulary, merges, unk_token="<unk>", **options))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def whole_words(**_):
    """As Llama 3: what is in the vocabulary is not put together of merges."""
    return merged(ignore_merges=True)


MODELS = [unigram, word_level, word_piece, merged, whole_words]
TEXTS = ["</s>", "a </s> b", "a</s>b", "a</S> </s>", "\n</s>\n", "</s></s>", "＜/s＞"]


def wrapped(backend, **changes):
    parts = json.loads(backend.to_str())
    for token in parts["added_tokens"]:
        token.update(changes)
    return HuggingFaceTokenizer(json.dumps(parts), name="tiny", origin="tiny", end_of_text=END)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("added", ["special", "not special", "not normalized", "not added"])
@pytest.mark.parametrize("normalizer", [None, "NFKC", "Lowercase"])
def test_no_text_yields_end_of_text(model, added, normalizer):
    backend = model()
    backend.normalizer = getattr(normalizers, normalizer)() if normalizer else None
    if added != "not added":
        token = AddedToken(END, special=added == "special", normalized=added == "not special")
        backend.add_tokens([token])
    tokenizer = wrapped(backend)
    assert (tokenizer.end_of_text, tokenizer.vocab_size) == (
        0,
        max(backend.get_vocab().values()) + 1,
    )
    for text in TEXTS:
        ids = tokenizer.encode(text).tolist()
        assert ids
        assert tokenizer.end_of_text not in ids
    assert tokenizer.encode("a b").tolist() == backend.encode("a b", add_special_tokens=False).ids


@pytest.mark.parametrize("model", [unigram, merged, whole_words])
def test_end_of_text_in_a_text_is_spelled_and_comes_back(model):
    backend = model()
    backend.add_special_tokens([END, "<s>", "<pad>"])
    tokenizer = wrapped(backend)
    for text in (END, "<s>"):
        ids = tokenizer.encode(text).tolist()
        assert "".join(backend.id_to_token(i) for i in ids).lstrip("▁") == text
        assert len(ids) >= 2
        assert tokenizer.decode([*ids, tokenizer.end_of_text]).replace(" ", "").lstrip("▁") == text


def test_ids_of_other_added_tokens_stay():
    backend = merged()
    backend.add_tokens([AddedToken("zz", special=False), AddedToken(END, special=False)])
    backend.add_special_tokens(["<new>", "<s>"])
    before = backend.get_vocab()
    tokenizer = wrapped(backend)
    assert tokenizer.encode("zz").tolist() == [before["zz"]]
    assert tokenizer.vocab_size == max(before.values()) + 1
    assert tokenizer.decode([before["zz"], before["<new>"], before["<s>"], 0]) == "zz"


def test_a_byte_level_file_with_end_of_text_as_a_plain_added_token_still_cuts(tmp_path):
    KINDS["byte_level"].save(tmp_path)
    file = tmp_path / "other.json"
    parts = json.loads((tmp_path / "tokenizer.json").read_text())
    parts["added_tokens"][0]["special"] = False
    file.write_text(json.dumps(parts))
    tokenizer = load_tokenizer(file)
    text = f"we{END} the"
    assert tokenizer.end_of_text not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.last_cut("one two") == len("one")


def test_an_end_of_text_that_unknown_text_becomes_is_refused():
    backend = Backend(models.WordLevel({"a": 0, END: 1}, unk_token=END))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = wrapped(backend)
    assert tokenizer.encode("a a").tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"makes its end-of-text token '</s>' of text too; give"):
        tokenizer.encode("a b")


def test_a_single_character_of_bpe_is_told_and_not_lost(tmp_path):
    backend = Backend(models.BPE({"\n": 0, "a": 1}, []))
    (tmp_path / "x.json").write_text(backend.to_str())
    (tmp_path / "x.txt").write_text("a\na")
    config = PrepareConfig(tmp_path / "x.txt", tmp_path / "out", tmp_path / "x.json", "\n")
    with pytest.raises(ValueError, match=r"x\.txt: tokenizer x makes .* token '\\n' of text too"):
        prepare(config)
    assert load_tokenizer(tmp_path / "x.json", end_of_text="\n").encode("aa").tolist() == [1, 1]


def test_merges_of_older_files_are_texts():
    parts = json.loads(merged().to_str())
    merges = [" ".join(merge) for merge in parts["model"]["merges"]]
    parts["model"]["merges"] = ["#version: 0.2", *merges]
    tokenizer = HuggingFaceTokenizer(json.dumps(parts), name="tiny", origin="tiny")
    assert tokenizer.encode("ab </s>").tolist() == [52, 50, 51]


@pytest.mark.parametrize("dropout", [0.1, 1.0])
def test_merges_are_not_left_out_at_random(tmp_path, dropout):
    (tmp_path / "x.json").write_text(merged(dropout=dropout).to_str())
    (tmp_path / "x.txt").write_text("ab" * 200)
    tokenizer = load_tokenizer(tmp_path / "x.json")
    assert tokenizer.encode("ab" * 200).tolist() == [52] * 200
    config = PrepareConfig(
        tmp_path / "x.txt", tmp_path / "out", tmp_path / "x.json", validation=0, test=0
    )
    assert prepare(config).fresh
    assert not prepare(config).fresh  # made by the same tokenizer
    assert load_tokenizer(tmp_path / "out").fingerprint == tokenizer.fingerprint
