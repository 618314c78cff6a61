"""`hyena generate`: what it prints, in which form, and when it is interrupted."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizer_kinds import KINDS

import hyena
from hyena.cli import main
from hyena.data import load_tokenizer
from hyena.generation import Stream, beam_search, generate, stream
from hyena.model import LanguageModel

Output = pytest.CaptureFixture[str]
BYTES = load_tokenizer("bytes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with its tokenizer, which writes readable text."""
    config = hyena.ModelConfig(width=16, layers=1, mlp_width=16, max_length=48)
    model = LanguageModel(config, generator=torch.Generator().manual_seed(1))
    readable = torch.zeros(model.config.padded_vocab)
    readable[32:127] = 1
    model.embedding.weight.data = torch.randn(model.embedding.weight.shape) * readable[:, None]
    path = tmp_path_factory.mktemp("model")
    model.save(path)
    BYTES.save(path)
    return path


def run(folder: Path, capsys: Output, *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["generate", str(folder), *words]) == code
    return capsys.readouterr().out


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_several_prompts_are_one_batch_in_their_order(folder: Path, capsys: Output) -> None:
    prompts = ["The", "[a, b]", "- c"]
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    out = run(folder, capsys, *words, "--max-new-tokens=9", "--seed=4")
    results = generate(hyena.load(folder), prompts, tokenizer=BYTES, max_new_tokens=9, seed=4)
    texts = [
        f"[{i}] {p}{r.text}\n\n" for i, (p, r) in enumerate(zip(prompts, results, strict=True), 1)
    ]
    assert out == "".join(texts)


def test_every_option_of_drawing_arrives(
    folder: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "max_new_tokens": 20,
        "temperature": 1.5,
        "top_k": 60,
        "top_p": 0.95,
        "min_p": 0.01,
        "repetition_penalty": 1.1,
        "seed": 3,
        "stop": ["z", "yx"],
        "stop_tokens": [65, 66],
    }
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()][:-2]
    words += ["--stop", "z", "--stop=yx", "--stop-tokens", "65", "--stop_tokens=66"]
    given: dict[str, Any] = {}

    def recording(*arguments: Any, **options: Any) -> Stream:
        given.update(options)
        return stream(*arguments, **options)

    monkeypatch.setattr("hyena.cli.generate.stream", recording)
    (found,) = lines(run(folder, capsys, "--prompt=A", "--output=jsonl", *words))
    assert {name: given[name] for name in options} == options
    (result,) = generate(hyena.load(folder), "A", tokenizer=BYTES, **options)
    expected = {"index": 0, "prompt": "A", "text": result.text, "tokens": result.tokens}
    assert found == {**expected, "finished": result.finished}


@pytest.mark.parametrize("allowed", ["ACGT", "[65,67,71,84]"])
def test_allowed_tokens_and_biases_are_given_by_text_or_by_id(
    allowed: str, folder: Path, capsys: Output
) -> None:
    words = ["--prompt=A", "--output=jsonl", "--max-new-tokens=9", f"--allowed-tokens={allowed}"]
    (result,) = generate(
        hyena.load(folder),
        "A",
        tokenizer=BYTES,
        max_new_tokens=9,
        allowed_tokens="ACGT",
        logit_bias={"A": -2.5, "=": 1, 71: 3},
    )
    biases = ["--logit-bias=A=-2.5", "--logit_bias", "==1", "--logit_bias", "71=3"]
    (found,) = lines(run(folder, capsys, *words, *biases))
    assert found["tokens"] == result.tokens
    assert {*found["text"]} <= set("ACGT")


def test_log_probabilities_are_in_the_lines(folder: Path, capsys: Output) -> None:
    words = ["--prompt=A", "--prompt=Bc", "--output=jsonl", "--max_new_tokens=4"]
    results = generate(
        hyena.load(folder), ["A", "Bc"], tokenizer=BYTES, max_new_tokens=4, alternatives=2
    )
    found = lines(run(folder, capsys, *words, "--logprobs=2"))
    assert [line["index"] for line in found] == [0, 1]
    for line, result in zip(found, results, strict=True):
        assert line["logprobs"] == result.logprobs
        assert line["alternatives"] == [[[*pair] for pair in of] for of in result.alternatives]
    assert "alternatives" not in lines(run(folder, capsys, *words, "--logprobs=0"))[0]
    assert "logprobs" not in lines(run(folder, capsys, *words))[0]


def test_only_line_feeds_end_the_lines_of_a_file(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("A\fb\r\n\nc\u2028d\n".encode())
    out = run(folder, capsys, f"--prompts={file}", "--output=jsonl", "--max-new-tokens=1")
    found = [json.loads(line) for line in out.split("\n")[:-1]]
    assert [line["prompt"] for line in found] == ["A\fb", "", "c\u2028d"]


def test_prompts_of_windows_are_those_of_unix(folder: Path, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "prompts.txt"
    for end, last in (("\r\n", "two"), ("\n", "two"), ("", "two"), ("\r", "two\r")):
        file.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo" + end.encode())
        out = run(folder, capsys, f"--prompts={file}", "--output=jsonl", "--max-new-tokens=1")
        assert {line["index"]: line["prompt"] for line in lines(out)} == {0: "one", 1: "", 2: last}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "prompts.txt is empty; write a prompt in each line"),
        (b"\xef\xbb\xbf", "prompts.txt is empty; write a prompt in each line"),
        (b"a\n\xe9", "prompts.txt is not UTF-8 text: byte 0xe9 at offset 2"),
        (None, "Is a directory"),
    ],
)
def test_files_without_prompts_are_one_clear_line(
    content: bytes | None, message: str, folder: Path, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "prompts.txt"
    file.mkdir() if content is None else file.write_bytes(content)
    assert main(["generate", str(folder), f"--prompts={file}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without end")
def test_prompts_without_end_are_one_line(folder: Path, capsys: Output) -> None:
    assert main(["generate", str(folder), "--prompts=/dev/zero"]) == 1
    assert capsys.readouterr().err == ("error: /dev/zero has more than 64 MiB of prompts; cut it\n")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without end")
def test_a_prompt_without_end_is_one_line(folder: Path, capsys: Output) -> None:
    assert main(["generate", str(folder), "--prompt_file=/dev/zero"]) == 1
    assert capsys.readouterr().err == (
        "error: /dev/zero has more than 64 MiB, and the model has room for 48 tokens; cut it\n"
    )


def test_a_prompt_may_be_as_long_as_the_model_has_room_for(
    folder: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.cli.generate._MOST", 40)
    monkeypatch.setattr("hyena.cli.generate._LONGEST_TOKEN", 1)
    monkeypatch.setattr("hyena.cli.generate._MOST_OF_ONE", 60)
    file = tmp_path / "prompt.txt"
    words = ["generate", str(folder), f"--prompt_file={file}", "--max-new-tokens=1"]
    file.write_text("a" * 47)
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("a" * 47)
    file.write_text("a" * 49)
    assert main(words) == 1
    assert "MiB, and the model has room for 48 tokens; cut it" in capsys.readouterr().err
    words.append("--length_policy=extrapolate")
    file.write_text("a" * 60)
    assert main(words) == 0
    file.write_text("a" * 61)
    assert main(words) == 1
    assert capsys.readouterr().err.endswith(" MiB; cut it\n")


def test_text_is_that_of_a_tokenizer_with_blanks_before_its_words(
    tmp_path: Path, capsys: Output
) -> None:
    tokenizer = KINDS["metaspace"]
    config = hyena.ModelConfig(vocab_size=tokenizer.vocab_size, width=16, layers=1, max_length=48)
    model = LanguageModel(config, generator=torch.Generator().manual_seed(1))
    model.save(tmp_path)
    tokenizer.save(tmp_path)
    words = ["--prompt=we the", "--max-new-tokens=9", "--beam-width=2", "--output=jsonl"]
    printed = run(tmp_path, capsys, *words[:2], words[3]) + run(tmp_path, capsys, *words)
    for line in lines(printed):
        ids = [*tokenizer.encode("we the").tolist(), *line["tokens"]]
        assert "we the" + line["text"] == tokenizer.decode(ids)


@pytest.mark.parametrize("prompts", [["A"], ["A", "B c"]])
def test_beams(prompts: list[str], folder: Path, capsys: Output) -> None:
    words = [f"--prompt={prompt}" for prompt in prompts]
    words += ["--beam-width=3", "--length-penalty=0.5", "--max-new-tokens=6", "--stop=z"]
    beams = beam_search(
        hyena.load(folder),
        prompts,
        tokenizer=BYTES,
        max_new_tokens=6,
        beam_width=3,
        length_penalty=0.5,
        stop="z",
    )
    found = lines(run(folder, capsys, *words, "--output=jsonl"))
    assert [(line.pop("index"), line.pop("rank")) for line in found] == [
        (i, rank) for i in range(len(prompts)) for rank in range(3)
    ]
    assert [line.pop("prompt") for line in found] == [p for p in prompts for _ in range(3)]
    names = ("tokens", "text", "finished", "logprob", "score")
    expected = [{n: vars(beam)[n] for n in names} for of_prompt in beams for beam in of_prompt]
    assert found == expected
    listed = lines(run(folder, capsys, *words, "--output=jsonl", "--logprobs=1"))
    for line, beam in zip(listed, (beam for of_prompt in beams for beam in of_prompt), strict=True):
        assert line["logprobs"] == beam.logprobs
        assert len(line["alternatives"]) == len(beam.tokens)
    out = run(folder, capsys, *words)
    best = [
        f"{prompt}{of_prompt[0].text}" for prompt, of_prompt in zip(prompts, beams, strict=True)
    ]
    assert out == (f"{best[0]}\n" if len(best) == 1 else f"[1] {best[0]}\n\n[2] {best[1]}\n\n")


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes in the fifth step."""
    left, step = [5], LanguageModel.step

    def failing(self: LanguageModel, ids: torch.Tensor, state: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return step(self, ids, state)

    monkeypatch.setattr(LanguageModel, "step", failing)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("output", ["text", "jsonl"])
@pytest.mark.parametrize("prompts", [["A"], ["A", "B c"]])
def test_ctrl_c_leaves_what_there_is(
    prompts: list[str], output: str, folder: Path, capsys: Output
) -> None:
    words = [f"--prompt={prompt}" for prompt in prompts]
    capsys.readouterr()
    assert main(["generate", str(folder), *words, f"--output={output}", "--stop=zzz"]) == 130
    out, err = capsys.readouterr()
    assert err == "interrupted\n"
    results = generate(hyena.load(folder), prompts, tokenizer=BYTES, max_new_tokens=5)
    texts = [f"{prompt}{result.text}" for prompt, result in zip(prompts, results, strict=True)]
    if output == "jsonl":
        found = lines(out)
        assert [f"{line['prompt']}{line['text']}" for line in found] == texts
        assert {line["finished"] for line in found} == {"cancelled"}
    elif len(prompts) == 1:
        assert out == f"{texts[0]}\n"
    else:
        assert out == f"[1] {texts[0]}\n\n[2] {texts[1]}\n\n"


def test_a_text_comes_as_it_is_generated(
    folder: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, step = [], LanguageModel.step

    def watched(self: LanguageModel, ids: torch.Tensor, state: Any) -> Any:
        printed.append(capsys.readouterr().out)
        return step(self, ids, state)

    monkeypatch.setattr(LanguageModel, "step", watched)
    rest = run_without_clearing(folder, capsys, "--prompt=A", "--max-new-tokens=6")
    (result,) = generate(hyena.load(folder), "A", tokenizer=BYTES, max_new_tokens=6)
    assert [*printed[:5], rest] == ["A" + result.text[0], *result.text[1:5], result.text[5] + "\n"]


def run_without_clearing(folder: Path, capsys: Output, *words: str) -> str:
    assert main(["generate", str(folder), *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--prompt x --prompts p.txt", "prompt and prompts were both given; give one of them"),
        ("--prompt x --prompt_file p", "prompt and prompt_file were both given; give one of them"),
        ("--prompts x --prompt_file p", "prompts and prompt_file were both given; give one of"),
        ("--logprobs 2", "got 2 with output text; give --output jsonl too"),
        ("--logprobs=-1 --output jsonl", "a number of alternatives, at least 0"),
        ("--length-penalty 1", "length_penalty is of beam search; give beam_width too"),
        ("--beam-width 2 --top-k 3", "top_k and beam_width were both given, but beam search draws"),
        ("--beam-width 2 --temperature 0", "temperature and beam_width were both given"),
        ("--beam-width 0", "beam_width: expected at least 1, got 0"),
        ("--min-p 2", "min_p: expected 0 < min_p"),
        ("--stop=", "stop: expected a text, got an empty one"),
        ("--stop-tokens 999", "stop_tokens: token id 999 is outside the vocabulary of 257"),
        ("--logprobs 999 --output jsonl", "alternatives: expected 0 to 257, the size of the vocab"),
        ("We the", 'unexpected argument "We the"; did you mean --prompt "We the"?'),
        ("--stop-tokens x", 'stop_tokens: expected a whole number, got "x"'),
        ("--allowed-tokens é", "allowed_tokens: expected texts of one token each, got 'é' of 2"),
        ("--allowed-tokens []", "allowed_tokens: expected at least one token, got none"),
        ("--logit-bias A", 'logit_bias: expected TOKEN=NUMBER, such as A=2.5 or 65=2.5, got "A"'),
        ("--logit-bias =2", 'logit_bias: expected TOKEN=NUMBER, such as A=2.5 or 65=2.5, got "=2"'),
        ("--logit-bias A=inf", "logit_bias: expected TOKEN=NUMBER"),
        ("--logit-bias ab=2", "logit_bias: expected texts of one token each, got 'ab' of 2"),
        ("--logit-bias 999=2", "logit_bias: token id 999 is outside the vocabulary of 257"),
        ("--logit-bias A=1 --logit-bias A=2", "logit_bias: token 'A' was given twice"),
        ("--beam-width 2 --allowed-tokens A", "allowed_tokens and beam_width were both given"),
        ("--beam-width 2 --logit-bias A=1", "logit_bias and beam_width were both given"),
    ],
)
def test_a_mistake_is_one_line(words: str, message: str, folder: Path, capsys: Output) -> None:
    capsys.readouterr()
    code = 2 if words in ("We the", "--stop-tokens x") else 1  # the words alone are wrong
    assert main(["generate", str(folder), *words.split()]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "output", "why"),
    [
        ("--prompt a", "/dev/full", "No space left on device"),
        ("--prompt a --prompt b", "/dev/full", "No space left on device"),
        ("--beam_width 2", "/dev/full", "No space left on device"),
        ("--prompt a", "&-", "it is closed"),
    ],
)
def test_a_text_that_is_lost_is_an_error_in_one_line(
    words: str, output: str, why: str, folder: Path
) -> None:
    if output != "&-" and not Path(output).exists():
        pytest.skip("needs a device that is always full")
    command = f"{sys.executable} -m hyena generate {folder} {words} --max_new_tokens 3 >{output}"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: standard output: {why}\n"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("last", ["\n", "\r", "\r\r"])
@pytest.mark.parametrize("where", ["file", "standard input"])
def test_a_prompt_in_a_file_is_taken_whole(
    where: str,
    last: str,
    end: str,
    folder: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: Any,
) -> None:
    prompt = f"We\n\n the\r\npeople \u00e9{last}"
    # Of what it ends with, a line feed goes, and a carriage return before that; no other.
    whole = prompt.removesuffix("\r") if end == "\n" else prompt
    whole = whole if end else whole.removesuffix("\n")
    data = (prompt + end).encode()
    if where == "file":
        file = str(tmp_path / "prompt.txt")
        Path(file).write_bytes(data)
    else:
        file = "-"
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    out = run(folder, capsys, "--prompt_file", file, "--output=jsonl", "--max-new-tokens=4")
    (found,) = lines(out)
    assert found["prompt"] == whole
    (result,) = generate(hyena.load(folder), whole, tokenizer=BYTES, max_new_tokens=4)
    assert found["tokens"] == result.tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "prompt.txt is empty; write the prompt into it"),
        (b"\xef\xbb\xbf", "prompt.txt is empty; write the prompt into it"),
        (b"ab\xff", "prompt.txt is not UTF-8 text: byte 0xff at offset 2"),
        (b"a" * 60, "a prompt of 61 tokens and 1 new do not fit max_length 48"),
        ("folder", "prompt.txt: Is a directory"),
        (None, "prompt.txt: No such file or directory"),
    ],
)
def test_a_file_without_a_prompt_is_one_clear_line(
    content: Any, message: str, folder: Path, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "prompt.txt"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    assert main(["generate", str(folder), f"--prompt_file={file}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "error: standard input is empty; write the prompt into it\n"),
        (None, "error: standard input is empty; write the prompt into it\n"),
        (b"\xff", "error: standard input is not UTF-8 text: byte 0xff at offset 0"),
    ],
)
def test_a_standard_input_without_a_prompt_is_one_clear_line(
    data: bytes | None, message: str, folder: Path, capsys: Output, monkeypatch: Any
) -> None:
    stdin = None if data is None else io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["generate", str(folder), "--prompt_file", "-"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == 1
