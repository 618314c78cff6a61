"""The documentation's code runs, and the commands it shows are commands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hyena.cli import main
from hyena.cli.options import parse
from hyena.cli.program import module_of, programs
from hyena.mixers import SPECS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
WITH_CODE = [
    "checkpoints",
    "data",
    "distillation",
    "distributed",
    "dna",
    "export",
    "extending",
    "filters",
    "finetuning",
    "formats",
    "generation",
    "harness",
    "huggingface",
    "kernel",
    "long_context",
    "mathematics",
    "mixers",
    "page",
    "peft",
    "quantization",
    "replace_attention",
    "scoring",
    "serving",
    "training",
    "vision",
]
WITH_SHELL = ("dna", "harness")  # of which the shell blocks run as well


def blocks(text: str, languages: tuple[str, ...] = ("python",)) -> Iterator[tuple[int, str]]:
    """The fenced blocks of these languages: the line before the code, and the code."""
    fence = rf"^```({'|'.join(languages)})\n(.*?)^```$"
    for match in re.finditer(fence, text, flags=re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start(2)), match[2]


def execute(page: Path, *, with_shell: bool = False) -> None:
    """Runs a page's Python blocks as one program whose line numbers are those of the page.

    Args: with_shell: run the commands of shell blocks too, where they stand between.
    """
    text = page.read_text(encoding="utf-8")
    shell = dict(blocks(text, ("sh",))) if with_shell else {}
    namespace: dict[str, object] = {"__name__": page.stem}
    for line, code in sorted([*blocks(text), *shell.items()]):
        if line in shell:
            run(code)
        else:
            exec(compile("\n" * line + code, str(page), "exec"), namespace)


def run(code: str) -> None:
    """The commands of `hyena` in shell code, which may have those that install it as well."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] != "pip":
            assert words[0] == "hyena", line
            assert main(words[1:]) == 0, line


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The command lines shown in a page, as the command of `hyena` and what follows it.

    They stand in blocks of shell code, in indented blocks, and in the prose if they have options.
    """
    shell = [code for _, code in blocks(text, ("sh", "shell", "console"))]
    shell += re.findall(r"^    (hyena .*)$", text, flags=re.MULTILINE)
    shell += re.findall(r"`(hyena [^`]*--[^`]*)`", text)
    names = "|".join(programs())
    for code in shell:
        for line in code.replace("\\\n", " ").splitlines():
            if match := re.search(rf"(?:^|\s)hyena ({names})\b([^>|#]*)", line):
                yield match[1], match[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what a page may set for the process is put back."""
    monkeypatch.chdir(tmp_path)
    dtype, mixers = torch.get_default_dtype(), dict(SPECS)
    yield tmp_path
    torch.set_default_dtype(dtype)
    SPECS.clear()
    SPECS.update(mixers)


def weights_of_the_public_code(file: Path) -> None:
    """A language model of the public code with random weights and GPT-2's vocabulary, padded."""
    with safe_open(ROOT / "tests/golden/safari_lm_modulated.safetensors", framework="pt") as golden:
        state = {
            name.removeprefix("state."): golden.get_tensor(name)
            for name in golden.keys()  # noqa: SIM118
            if name.startswith("state.")
        }
    embedding = torch.randn(50264, state["lm_head.weight"].shape[1])
    state["backbone.embeddings.word_embeddings.weight"] = embedding
    state["lm_head.weight"] = embedding.clone()
    save_file(state, file)


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_of_a_page_runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "checkpoints":
        weights_of_the_public_code(folder / "weights.safetensors")
    if name == "harness":  # whose data sets are not to lie in the user's cache
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        monkeypatch.setattr("datasets.config.HF_UPDATE_DOWNLOAD_COUNTS", False)
    if name == "distributed":  # as torchrun would say it
        for setting in ("MASTER_ADDR=localhost", "MASTER_PORT=0", "RANK=0", "WORLD_SIZE=1"):
            monkeypatch.setenv(*setting.split("="))
    execute(DOCS / f"{name}.md", with_shell=name in WITH_SHELL)


def test_no_page_with_code_is_left_out() -> None:
    found = [name for name in PAGES if any(blocks((DOCS / name).read_text(encoding="utf-8")))]
    assert found == [f"{name}.md" for name in WITH_CODE]


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_are_commands(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)  # the configurations that the commands name are there
    for command, rest in commands((DOCS / name).read_text(encoding="utf-8")):
        module = module_of(command)
        words = shlex.split(rest)
        if "--help" not in words:
            parse(command, programs()[command], module.Config, module.POSITIONAL, words)
    capsys.readouterr()  # what --print_config printed


def test_blocks_are_found_with_their_lines() -> None:
    text = "a\n```python\nx = 1\n```\n```sh\nhyena info\n```\n\n```python\ny = 2\n```\n"
    assert list(blocks(text)) == [(2, "x = 1\n"), (9, "y = 2\n")]


def test_code_that_fails_is_reported_at_its_line(folder: Path) -> None:
    page = folder / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\n```\nThen\n\n```python\n\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as error:
        execute(page)
    assert (str(error.traceback[-1].path), error.traceback[-1].lineno + 1) == (str(page), 10)


def test_commands_are_found_wherever_they_stand() -> None:
    text = (
        "Try `hyena info --length 8` or `hyena info`, or\n\n    hyena plot RUN > x\n\n"
        "```sh\nhyena train --data a \\\n    --out b\nls\ntorchrun -m hyena train --out c\n```\n"
    )
    assert list(commands(text)) == [
        ("train", " --data a      --out b"),
        ("train", " --out c"),
        ("plot", " RUN "),
        ("info", " --length 8"),
    ]


def test_shell_blocks_run_between_those_of_python(folder: Path) -> None:
    page = folder / "page.md"
    text = """
```sh
pip install '.[train]'
hyena prepare text.txt --out data \\
    --separator '|' --validation 0 --test 0  # one split
```
"""
    before = '```python\nfrom pathlib import Path\n\nPath("text.txt").write_text("a|b|c")\n```\n'
    after = '```python\nassert Path("data/manifest.json").is_file()\n```\n'
    page.write_text(before + text + after)
    execute(page, with_shell=True)
    page.write_text(text.replace("text.txt", "none.txt"))
    with pytest.raises(AssertionError, match=r"hyena prepare none\.txt"):
        execute(page, with_shell=True)
    page.write_text("```sh\nrm data\n```\n")
    with pytest.raises(AssertionError, match="rm data"):
        execute(page, with_shell=True)
