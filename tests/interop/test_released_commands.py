"""The commands in the table of docs/checkpoints.md open small files of each released family."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from released import (
    golden,
    random_state,
    stripedhyena,
    stripedhyena2,
    with_frequencies,
)
from safetensors.torch import save_file
from test_released_names import STRIPED_1, STRIPED_2, port, safari, savanna
from tokenizers import Tokenizer, models, pre_tokenizers

import hyena
from hyena.cli import main
from hyena.data import load_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
ROW = r"^\|.*\| `(hyena convert [^`]+)` \|$"
COMMANDS = re.findall(ROW, PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def text_model() -> None:
    """A model of safari with GPT-2's vocabulary, padded, and its configuration."""
    _, state, _ = golden("safari_lm_modulated")
    width = state["lm_head.weight"].shape[1]
    embedding = 0.1 * torch.randn(50264, width)
    state["backbone.embeddings.word_embeddings.weight"] = embedding
    state["lm_head.weight"] = embedding.clone()
    torch.save({"state_dict": {f"model.{name}": x for name, x in state.items()}}, "weights.ckpt")
    config = {"model": {"vocab_size": 50257, "layer": {"_name_": "hyena", "modulate": True}}}
    Path("config.yaml").write_text(json.dumps(config))


def shards(name: str, rows: int, *, biases: bool, tied: bool) -> Path:
    """StripedHyena, or Evo 1 if it is tied, with so many tokens; returns its folder."""
    folder = Path(name)
    folder.mkdir()
    sizes = {"kv_heads": 4, "filters": 32} if tied else {}
    state = random_state(stripedhyena(biases=biases, tied=tied, **sizes))
    state = with_frequencies(state, 10000.0)
    for each in {"embedding_layer.weight", "unembed.weight"} & state.keys():
        state[each] = 0.1 * torch.randn(rows, 32)
    names = sorted(state)
    where = {}
    for file, some in {"a.safetensors": names[::2], "b.safetensors": names[1::2]}.items():
        save_file({each: state[each] for each in some}, folder / file, {"format": "pt"})
        where.update(dict.fromkeys(some, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    config = {**STRIPED_1, "vocab_size": rows, "rotary_emb_base": 10000}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def stripedhyena_7b() -> None:
    """With a tokenizer.json beside the weights."""
    folder = shards("StripedHyena-Hessian-7B", 40, biases=False, tied=False)
    vocabulary = {token: i for i, token in enumerate(["<unk>", "</s>", "ACG", "TTT", "A"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def evo_1() -> None:
    shards("evo-1-8k-base", 512, biases=True, tied=True)


def evo_2() -> None:
    state = with_frequencies(random_state(stripedhyena2()), 10000.0)
    torch.save(state, "evo2_7b.pt")
    Path("evo2-7b-1m.yml").write_text(json.dumps(STRIPED_2))


def evo_2_as_trained() -> None:
    state = with_frequencies(random_state(stripedhyena2()), 10000.0)
    torch.save({"module": savanna(state)}, "savanna_evo2_1b_base.pt")
    Path("evo2-1b-8k.yml").write_text(json.dumps(STRIPED_2))


def in_folder(name: str, write: Callable[[Path], object]) -> Callable[[], None]:
    def make() -> None:
        Path(name).mkdir()
        write(Path(name))

    return make


RELEASED: dict[str, Callable[[], None]] = {
    "weights.ckpt": text_model,
    "hyenadna-tiny-1k-seqlen": in_folder("hyenadna-tiny-1k-seqlen", safari),
    "hyenadna-small-32k-seqlen-hf": in_folder("hyenadna-small-32k-seqlen-hf", port),
    "StripedHyena-Hessian-7B": stripedhyena_7b,
    "evo-1-8k-base": evo_1,
    "evo2_7b.pt": evo_2,
    "savanna_evo2_1b_base.pt": evo_2_as_trained,
}
"""What writes a small model under the name that a command has."""


def test_each_family_has_a_command() -> None:
    assert [shlex.split(command)[2] for command in COMMANDS] == list(RELEASED)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_gives_a_model_with_its_tokenizer(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    RELEASED[words[2]]()
    assert main(words[1:]) == 0
    model, tokenizer = hyena.load("ours"), load_tokenizer("ours")
    assert tokenizer.vocab_size <= model.config.vocab_size
    # HyenaDNA's tokenizer warns of blanks; that of a text needs more than one word.
    text = "ACGTTTA" if tokenizer.name == "hyenadna" else "ACG TTT A"
    (found,) = hyena.score(model, tokenizer, text, begin=False)
    assert found.score is not None
    assert found.score < 0
