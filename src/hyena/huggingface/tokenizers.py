"""Our tokenizers as tokenizers of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Regex, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from hyena.arguments import shown
from hyena.data import BytesTokenizer, EvoTokenizer, HyenaDNATokenizer, Tokenizer
from hyena.data.hugging_face_tokenizer import HuggingFaceTokenizer

_END = "<|endoftext|>"
_HYENADNA = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", *"ACGTN")


def tokenizer_as_transformers(tokenizer: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of transformers that gives the same ids.

    It puts the end of text before each text, as `hyena.generation.generate` does, since every
    document that a model is trained on begins so; ``add_special_tokens=False`` leaves it out. No
    text yields a special token, whatever it says, unless ``split_special_tokens=False`` is given.
    Padding stands on the left, as generation needs it, and is the end of text where the vocabulary
    has no other token for it.

    Args:
        tokenizer: of `hyena.data.load_tokenizer`.
        options: of `transformers.PreTrainedTokenizerFast`, such as ``model_max_length``.

    Raises: ValueError on a tokenizer of one's own.
    """
    special: dict[str, str] = {}
    if isinstance(tokenizer, HuggingFaceTokenizer):
        backend = _read(tokenizer)
    elif isinstance(tokenizer, BytesTokenizer):
        backend = _bytes({_END: tokenizer.end_of_text})
    elif isinstance(tokenizer, EvoTokenizer):
        special = {"pad_token": "<|padding|>"}
        backend = _bytes({_END: tokenizer.end_of_text, "<|padding|>": tokenizer.padding})
    elif isinstance(tokenizer, HyenaDNATokenizer):
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
        backend = _letters()
    else:
        raise ValueError(
            f"tokenizer_as_transformers: expected a tokenizer of hyena.data.load_tokenizer, got "
            f"{shown(tokenizer)}; build a transformers.PreTrainedTokenizerFast of your own"
        )
    end = backend.id_to_token(tokenizer.end_of_text)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{end} $A", pair=f"{end} $A {end} $B", special_tokens=[(end, tokenizer.end_of_text)]
    )
    told = {
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "padding_side": "left",
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{**told, **special, **options})


def _read(tokenizer: HuggingFaceTokenizer) -> Backend:
    """What its ``tokenizer.json`` says, without truncation, padding and dropout."""
    with TemporaryDirectory() as folder:
        tokenizer.save(folder)
        parts = json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    backend = Backend.from_str(json.dumps({**parts, "truncation": None, "padding": None}))
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None
    backend.add_special_tokens([backend.id_to_token(tokenizer.end_of_text)])
    return backend


def _bytes(special: dict[str, int]) -> Backend:
    """UTF-8 bytes, but for those whose ids special tokens have."""
    taken = set(special.values())
    letters = _spelling()
    vocabulary = {letters[value]: value for value in range(256) if value not in taken}
    # What special tokens have the ids of, Evo's bytes 0 and 1, is padding.
    unknown = next((name for name, i in special.items() if i == 1), None)
    backend = Backend(models.BPE(vocab={**vocabulary, **special}, merges=[], unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(special))
    return backend


def _spelling() -> list[str]:
    """How byte-level tokenizers spell each byte: printable ones as they are, the others, in order,
    by the characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256))
    return [chr(value if value in printable else 256 + next(others)) for value in range(256)]


def _letters() -> Backend:
    """HyenaDNA's: a token for each letter."""
    vocabulary = {token: i for i, token in enumerate(_HYENADNA)}
    backend = Backend(models.WordLevel(vocab=vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([token for token in _HYENADNA if token.startswith("[")])
    return backend
