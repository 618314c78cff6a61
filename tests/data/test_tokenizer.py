import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import KINDS

from hyena.data import BytesTokenizer, Tokenizer, load_tokenizer
from hyena.data.hugging_face_tokenizer import MOST_TOKENS, HuggingFaceTokenizer

TEXTS = [
    "",
    "Hello world",
    "naïve cafe\u0301 \U0001f600\n\r\n\t end",
    "<|endoftext|> </s>",
    "\0\x7f",
]


@pytest.fixture(scope="module")
def gpt2():
    return load_tokenizer("gpt2")


@pytest.fixture(scope="module")
def word_json():
    """A word-level tokenizer, whose decoder is not byte-level."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.WordLevel({"<unk>": 0, "a": 1, "b": 2, "</s>": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["</s>"])
    return backend.to_str()


def test_bytes_are_the_utf8_bytes_and_one_id_more():
    tokenizer = load_tokenizer("bytes")
    assert isinstance(tokenizer, Tokenizer)
    assert (tokenizer.vocab_size, tokenizer.end_of_text) == (257, 256)
    assert tokenizer.encode("é\n").tolist() == [0xC3, 0xA9, 0x0A]
    assert tokenizer.encode("x").dtype == np.int64
    assert tokenizer.decode([104, 256, 105]) == "hi"
    assert tokenizer.decode([0xC3]) == "\ufffd"


@given(st.text())
def test_bytes_restore_any_text(text):
    tokenizer = BytesTokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text.encode())


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_a_smaller_type_are_the_same(kind):
    tokenizer = KINDS[kind]
    for text in ("", "a b  c", "é </s> <|endoftext|> 日本 \U0001f600\r\n", "x" * 300):
        found = tokenizer.encode_narrow(text)
        assert found.dtype.itemsize < 8
        assert found.tolist() == tokenizer.encode(text).tolist()
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.encode_narrow("\ud800")


def test_gpt2_gives_the_published_ids(gpt2):
    # Ids as published with GPT-2 and used in its documentation everywhere.
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert gpt2.encode("Hello, my dog is cute").tolist() == [15496, 11, 616, 3290, 318, 13779]
    assert gpt2.encode("\n\n").tolist() == [628]
    assert (gpt2.vocab_size, gpt2.end_of_text, gpt2.name) == (50257, 50256, "gpt2")


@pytest.mark.parametrize("text", TEXTS)
def test_gpt2_restores_text(gpt2, text):
    ids = gpt2.encode(text)
    assert gpt2.end_of_text not in ids
    assert gpt2.decode(ids) == text


@settings(max_examples=50)
@given(text=st.text())
def test_gpt2_restores_any_text(gpt2, text):
    assert gpt2.decode(gpt2.encode(text)) == text


def test_end_of_text_has_no_bytes(gpt2):
    assert gpt2.decode([15496, 50256, 995]) == "Hello world"


@pytest.fixture(params=["bytes", "gpt2"])
def built_in(request):
    return request.getfixturevalue("gpt2") if request.param == "gpt2" else BytesTokenizer()


def test_saved_and_loaded_is_the_same(tmp_path, built_in):
    tokenizer = built_in
    tokenizer.save(tmp_path / "new" / "folder")
    loaded = load_tokenizer(tmp_path / "new" / "folder")
    for attribute in ("name", "vocab_size", "end_of_text", "fingerprint"):
        assert getattr(loaded, attribute) == getattr(tokenizer, attribute)
    for text in TEXTS:
        assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()
    loaded.save(tmp_path / "again")
    for file in (tmp_path / "again").iterdir():
        assert file.read_bytes() == (tmp_path / "new" / "folder" / file.name).read_bytes()


def test_a_tokenizer_json_from_its_file_and_from_its_folder(tmp_path, word_json):
    (tmp_path / "tokenizer.json").write_text(word_json)
    for spec in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path)):
        tokenizer = load_tokenizer(spec)
        assert (tokenizer.vocab_size, tokenizer.end_of_text) == (4, 3)
        assert tokenizer.name == tmp_path.name
        assert tokenizer.encode("a b c").tolist() == [1, 2, 0]
        assert 3 not in tokenizer.encode("a </s> b")
        assert tokenizer.decode([1, 3, 2]) == "a b"


def test_end_of_text_may_be_given_and_makes_another_tokenizer(tmp_path, word_json):
    file = tmp_path / "words.json"
    file.write_text(word_json)
    usual, given_one = load_tokenizer(file), load_tokenizer(file, end_of_text="b")
    assert given_one.end_of_text == 2
    assert given_one.fingerprint != usual.fingerprint
    given_one.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").end_of_text == 2


def test_the_fingerprint_does_not_depend_on_the_layout_of_the_file(tmp_path, word_json):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(word_json)
    two.write_text(json.dumps(json.loads(word_json), indent=7, sort_keys=True))
    assert load_tokenizer(one).fingerprint == load_tokenizer(two).fingerprint


def test_fingerprints_tell_tokenizers_apart(tmp_path, word_json, gpt2):
    changed = json.loads(word_json)
    changed["pre_tokenizer"] = None
    file, other = tmp_path / "words.json", tmp_path / "other.json"
    file.write_text(word_json)
    other.write_text(json.dumps(changed))
    all_of_them = [load_tokenizer(file), load_tokenizer(other), BytesTokenizer(), gpt2]
    assert len({tokenizer.fingerprint for tokenizer in all_of_them}) == 4


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path, word_json):
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(word_json)
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    assert load_tokenizer(tmp_path).encode("a b a").tolist() == [1, 2, 1]


def test_no_end_of_text_token_is_an_error(tmp_path, word_json):
    parts = json.loads(word_json)
    parts["added_tokens"] = []
    parts["model"]["vocab"] = {"<unk>": 0, "a": 1}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(parts))
    with pytest.raises(ValueError, match="none of the usual end-of-text tokens") as error:
        load_tokenizer(file)
    assert str(file) in str(error.value)
    with pytest.raises(ValueError, match="has no token <end>; give the token"):
        load_tokenizer(file, end_of_text="<end>")


def test_an_unknown_name_is_an_error():
    with pytest.raises(
        FileNotFoundError, match="tokenizer 'gpt3' was asked for, but it is neither"
    ):
        load_tokenizer("gpt3")


@pytest.mark.parametrize("name", ["bytes", "gpt2"])
def test_end_of_text_is_fixed_for_the_built_in_ones(name):
    with pytest.raises(ValueError, match=f"end_of_text applies to a tokenizer.json; '{name}'"):
        load_tokenizer(name, end_of_text="x")


@pytest.mark.parametrize("content", ["{", "{}", "[]", '"text"', "null", '{"model": 3}'])
def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(ValueError, match="is not a Hugging Face tokenizer"):
        load_tokenizer(file)


@pytest.mark.parametrize("i", [MOST_TOKENS, 1 << 31])
@pytest.mark.parametrize("added", [False, True])
def test_an_id_far_beyond_all_others_is_an_error(tmp_path, word_json, added, i):
    parts = json.loads(word_json)
    if added:
        parts["added_tokens"][0]["id"] = i
    else:
        parts["model"]["vocab"]["</s>"] = i
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(parts))
    with pytest.raises(ValueError, match=f"Face tokenizer: token '</s>' has id {i}; ids are below"):
        load_tokenizer(file)


def test_a_file_at_which_the_library_panics_is_an_error(tmp_path, word_json):
    parts = json.loads(word_json)
    merges = {"type": "BPE", "vocab": {"a": 0, "b": 1, "</s>": 2}, "merges": [["a", "b"]]}
    parts["model"] = {**merges, "continuing_subword_prefix": "###"}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(parts))
    with pytest.raises(ValueError, match=r"is not a Hugging Face tokenizer: .* out of range"):
        load_tokenizer(file)


def test_a_file_of_another_layout_is_read(tmp_path, word_json):
    parts = json.loads(word_json)
    del parts["model"]["type"]
    parts["model"]["merges"] = [1]  # without a type the library passes this over
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(parts))
    assert load_tokenizer(file).encode("a </s> b").tolist() == [1, 0, 0, 0, 2]


def test_a_missing_package_is_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install 'hyena\\[train\\]'"):
        load_tokenizer("gpt2")


def test_a_changed_tokenizer_is_noticed(tmp_path, word_json):
    (tmp_path / "words.json").write_text(word_json)
    saved = tmp_path / "saved"
    load_tokenizer(tmp_path / "words.json").save(saved)
    (saved / "tokenizer.json").write_text(word_json.replace('"b"', '"c"'))
    with pytest.raises(ValueError, match="is not the one that was saved there"):
        load_tokenizer(saved)
    (saved / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing, though"):
        load_tokenizer(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[1]", "is damaged: expected an object"),
        ('{"format_version": 7}', "has format version 7, but this hyena reads 1; install"),
        ('{"format_version": 1, "kind": "morse"}', "of kind 'morse'; upgrade hyena"),
    ],
)
def test_a_bad_description_is_an_error(tmp_path, content, message):
    (tmp_path / "tokenizer.hyena.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path)


def test_bad_ids_and_bad_text_are_errors(built_in):
    tokenizer = built_in
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match=f"token id {wrong} is outside the vocabulary of"):
            tokenizer.decode([0, wrong])
    with pytest.raises(ValueError, match="lone surrogate U\\+D800 at character 2"):
        tokenizer.encode("ab\ud800")


@pytest.mark.parametrize("text", [0.5, None, b"bytes", ["text"], 3])
def test_what_is_no_text_is_one_line(built_in, text):
    with pytest.raises(TypeError, match=r"^text: expected a str, got "):
        built_in.encode(text)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 1e308, 3], r"expected token ids, got \[1, 1e\+308, 3\]"),
        ([1.0], r"expected token ids, got \[1\.0\]"),
        (np.ones(2), r"expected token ids, got array\(\[1\., 1\.\]\)"),
        ([1, True], r"expected token ids, got \[1, True\]"),
        (np.array([True]), r"expected token ids, got array\(\[ ?True\]\)"),
        ([[1, 2]], r"expected token ids, got \[\[1, 2\]\]"),
        (np.ones((2, 2), dtype=np.int64), "expected token ids, got array"),
        (["a"], r"expected token ids, got \['a'\]"),
        ("ab", "expected token ids, got 'ab'"),
        (7, "expected token ids, got 7"),
        (None, "expected token ids, got None"),
        ([1, -1], "token id -1 is outside the vocabulary of"),
        ([2**70], "token id 1180591620717411303424 is outside the vocabulary of"),
        ([50257], "token id 50257 is outside the vocabulary of"),
    ],
)
def test_what_is_no_token_is_one_line(built_in, ids, message):
    with pytest.raises(ValueError, match=f"^decode: {message}") as error:
        built_in.decode(ids)
    assert "\n" not in str(error.value)


def test_ids_of_every_kind_of_integer(built_in):
    for ids in ((104, 105), iter([104, 105]), np.array([104, 105], "u2"), torch.tensor([104, 105])):
        assert built_in.decode(ids) == built_in.decode([104, 105])


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_not_the_files_fault_is_not_laid_to_it(error, word_json, monkeypatch):
    class Backend:
        @staticmethod
        def from_str(text):
            raise error

    monkeypatch.setattr("tokenizers.Tokenizer", Backend)
    with pytest.raises(type(error)):
        HuggingFaceTokenizer(word_json, name="tiny", origin="tiny")
