"""Our tokenizers as tokenizers of transformers: the same ids, in memory and from a folder."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from hyena.data import load_tokenizer
from hyena.huggingface import tokenizer_as_transformers

TEXTS = (
    "Hello, world!\n\tÄé漢字😀  two ",
    "",
    "ACGTNacgtX é",
    "<|endoftext|> in a text, [PAD] and [UNK]",
    "a\r\nb \x7f",
)


def trained(path: Path) -> Path:
    """A tokenizer.json with what a file may have of its own: truncation, padding, a template."""
    backend = Backend(models.BPE(dropout=0.5))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["hello world", "hello there, world"] * 20, trainer)
    backend.enable_truncation(3)
    backend.enable_padding(length=12)
    backend.save(str(path / "tokenizer.json"))
    return path


@pytest.mark.parametrize("name", ["bytes", "hyenadna", "evo", "trained"])
def test_ids_and_texts_are_ours(name: str, tmp_path: Path) -> None:
    ours = load_tokenizer(trained(tmp_path) if name == "trained" else name)
    theirs = tokenizer_as_transformers(ours, model_max_length=64)
    theirs.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for one in (theirs, again):
        assert (one.bos_token_id, one.eos_token_id) == (ours.end_of_text, ours.end_of_text)
        assert one.pad_token_id == getattr(ours, "padding", ours.end_of_text)
        assert (one.padding_side, one.model_max_length) == ("left", 64)
        for text in TEXTS:
            ids = ours.encode(text).tolist()
            assert one(text)["input_ids"] == [ours.end_of_text, *ids]
            assert one(text, add_special_tokens=False)["input_ids"] == ids
            if name != "hyenadna":  # of which unknown letters have a special token
                decoded = one.decode([ours.end_of_text, *ids], skip_special_tokens=True)
                assert decoded == ours.decode(ids)
        assert one.decode(one("ACGT")["input_ids"], skip_special_tokens=True) == "ACGT"
        batch = one(["AC", "ACGT"], padding=True)
        assert batch["attention_mask"][1] == [1] * len(batch["input_ids"][1])
        assert batch["attention_mask"][0][0] == 0
        pair = one("A", "C")["input_ids"]
        assert pair == [*one("A")["input_ids"], *one("C")["input_ids"]]


def test_a_special_token_in_a_text_is_asked_for() -> None:
    theirs = tokenizer_as_transformers(load_tokenizer("bytes"), split_special_tokens=False)
    assert theirs("a<|endoftext|>")["input_ids"] == [256, 97, 256]


def test_a_tokenizer_of_ones_own_is_refused() -> None:
    class Own:
        name, vocab_size, end_of_text, fingerprint = "own", 2, 0, ""

        def encode(self, text: str) -> Any: ...
        def decode(self, ids: Any) -> str: ...
        def save(self, directory: Any) -> None: ...

    with pytest.raises(ValueError, match="PreTrainedTokenizerFast of your own"):
        tokenizer_as_transformers(Own())
