#!/usr/bin/env bash
# tokenizers 0.23.3: one stray byte ends `DecodeStream` for good, and `decode` drops whole characters.
#
# With a decoder of byte fallback (Llama's: Replace, ByteFallback, Fuse, Strip), a model that writes
# the three bytes of a euro sign and then a byte that is no UTF-8:
#   - `decode` of all ids makes U+FFFD of every byte of the run, the whole character's too
#     (one would expect "we€\ufffd the", as bytes.decode(errors="replace") has it);
#   - `DecodeStream.step` has given out the euro sign by then. At the next token that is no byte it
#     raises "Invalid prefix encountered while decoding stream", and so does every step after it,
#     though the further tokens are plain words: their text is lost.
# Without the stray byte both give the same text. So whoever streams needs a decoder that can take
# a character back, or one that treats the bytes of a run as UTF-8 with replacement.
#
# Seen: decode   'we\ufffd\ufffd\ufffd\ufffd the people'
#       streamed ['we', None, None, '€', None, 'Invalid prefix', 'Invalid prefix']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, decoders, models
from tokenizers.decoders import DecodeStream

words = ["<unk>", "▁we", "▁the", "▁people"] + [f"<0x{byte:02X}>" for byte in range(256)]
tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], byte_fallback=True))
tokenizer.decoder = decoders.Sequence(
    [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)


def streamed(ids: list[int]) -> list[str | None]:
    stream, pieces = DecodeStream(), []
    for i in ids:
        try:
            pieces.append(stream.step(tokenizer, i))
        except Exception as error:
            pieces.append(str(error)[:14])
    return pieces


euro, stray = [4 + byte for byte in "€".encode()], [4 + 0x80]
sound, damaged = [1, *euro, 2, 3], [1, *euro, *stray, 2, 3]
print("sound:  ", ascii(tokenizer.decode(sound)), streamed(sound))
print("damaged:", ascii(tokenizer.decode(damaged)), streamed(damaged))
assert tokenizer.decode(sound) == "we€ the people"
assert streamed(sound) == ["we", None, None, "€", " the", " people"]
assert tokenizer.decode(damaged) == "we" + 4 * "\ufffd" + " the people"
assert streamed(damaged) == ["we", None, None, "€", None, "Invalid prefix", "Invalid prefix"]
PYTHON
