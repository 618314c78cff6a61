"""A tiny tokenizer of every kind: how their tokens become text differs in all that can."""

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from hyena.data import BytesTokenizer, Tokenizer
from hyena.data.hugging_face_tokenizer import HuggingFaceTokenizer

WORDS = ["we", "the", "people", "of"]
END = "</s>"


def numbered(tokens: list[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate(["<unk>", END, *tokens])}


def metaspace() -> Backend:
    tokens = [f"▁{word}" for word in WORDS] + list("▁s,.é\U0001f600\ufffd")
    scores = [(token, -1.0) for token in numbered(tokens)]
    backend = Backend(models.Unigram(scores, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def word_piece() -> Backend:
    vocabulary = numbered([*WORDS, "##s", "##people", ",", ".", "é", "##é", "\ufffd"])
    backend = Backend(models.WordPiece(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def k_mers() -> Backend:
    vocabulary = numbered(["ACG", "TTT", "A", "C"])
    backend = Backend(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def end_of_word() -> Backend:
    backend = Backend(models.BPE(numbered(["we</w>", "the</w>", "pe", "ople</w>"]), []))
    backend.decoder = decoders.BPEDecoder()
    return backend


def byte_fallback() -> Backend:
    tokens = [f"▁{word}" for word in WORDS] + list("▁s,é")
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    backend = Backend(models.BPE(numbered(tokens), [], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return backend


def byte_level() -> Backend:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(numbered([*alphabet, "Ġwe", "Ġthe"]), []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def wrapped(backend: Backend) -> Tokenizer:
    backend.add_special_tokens([END])
    return HuggingFaceTokenizer(backend.to_str(), name="tiny", origin="tiny")


KINDS: dict[str, Tokenizer] = {
    "bytes": BytesTokenizer(),
    **{
        kind.__name__: wrapped(kind())
        for kind in (metaspace, word_piece, k_mers, end_of_word, byte_fallback, byte_level)
    },
}
