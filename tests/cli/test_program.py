"""The program as a user meets it: help, exit codes, and one line for each mistake."""

import errno
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import hyena
from hyena.cli import main
from hyena.cli.program import COMMANDS, GROUPS, module_of, programs
from hyena.cli.values import option_names

Output = pytest.CaptureFixture[str]


def test_help_names_every_command(capsys: Output) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, summary in COMMANDS.items():
        assert f"  {name}" in text
        assert summary in text


def test_no_command_is_help_and_a_usage_error(capsys: Output) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: hyena COMMAND")


def test_version(capsys: Output) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hyena {hyena.__version__}\n"


def test_help_version_and_prepare_need_no_pytorch(tmp_path: Path) -> None:
    program = """
import sys
from hyena.cli import main
assert main(["--help"]) == main(["--version"]) == main(["tasks", "--help"]) == 0
assert main(["prepare", "--help"]) == 0
assert main(["prepare", "a.txt", "--separator", " ", "--out", "data"]) == 0
assert "torch" not in sys.modules
"""
    (tmp_path / "a.txt").write_text("one two three four")
    words = [sys.executable, "-c", program]
    subprocess.run(words, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_what_several_processes_need_is_not_imported_for_one() -> None:
    """PyTorch's engine takes as long to import as all else."""
    program = """
import sys
import hyena.experiments
from hyena.cli import main
assert main(["info"]) == 0
assert "hyena.training" in sys.modules
assert not sys.modules.keys() & {"torch.distributed.fsdp", "torch.distributed.tensor", "sympy"}
from hyena.distributed import shard
assert "torch.distributed.fsdp" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_the_package_shows_its_public_names_its_submodules_and_no_more() -> None:
    program = """
import pkgutil
import hyena
parts = {module.name for module in pkgutil.iter_modules(hyena.__path__)}
for name in dir(hyena):
    assert name in {*hyena.__all__, *parts} or name[:2] == name[-2:] == "__", name
    assert getattr(hyena, name, None) is not None or name in ("__file__", "__path__"), name
assert {*hyena.__all__, "ops", "filters", "mixers", "model"} <= {*dir(hyena)}
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_name_that_the_package_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hyena' has no attribute 'loda'"):
        _ = getattr(hyena, "loda")  # noqa: B009


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_names_its_commands(group: str, capsys: Output) -> None:
    assert main([group, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: hyena {group} COMMAND")
    for name, summary in GROUPS[group].items():
        assert f"  {name}" in text
        assert summary in text
    assert main([group]) == 2
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("command", programs())
def test_help_of_a_command(command: str, capsys: Output) -> None:
    assert main([*command.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: hyena {command} ")
    assert "--print_config" in out
    assert err == ""
    # no word of Python's or jsonargparse's, and no option without a description
    for word in ("class '", "Literal", "Optional", "str |", "PATHS_FILE", "None (", "\b"):
        assert word not in out


@pytest.mark.parametrize("command", ["train", "tasks run", "generate", "bench"])
def test_the_help_of_a_command_names_the_options_that_it_takes(
    command: str, capsys: Output
) -> None:
    assert main([*command.split(), "--help"]) == 0
    names = re.findall(r"^  --([\w.+]+)", capsys.readouterr().out, flags=re.MULTILINE)
    assert {*names} == {*option_names(module_of(command).Config), "config", "print_config"}


@pytest.mark.parametrize("command", programs())
def test_print_config_of_a_command_can_be_read_back(
    command: str, tmp_path: Path, capsys: Output
) -> None:
    assert main([*command.split(), "--print_config"]) == 0
    first = capsys.readouterr().out
    file = tmp_path / "run.yaml"
    file.write_text(first)
    assert main([*command.split(), "--config", str(file), "--print_config"]) == 0
    assert capsys.readouterr().out == first


def failing(problem: BaseException) -> Callable[[object], None]:
    def run(config: object) -> None:
        raise problem

    return run


@pytest.mark.parametrize(
    ("problem", "code", "line"),
    [
        (ValueError("width is 0;\n it must be 1"), 1, "error: width is 0; it must be 1"),
        (RuntimeError("in use"), 1, "error: in use"),
        (ImportError("needs rich"), 1, "error: needs rich"),
        (FileNotFoundError("no model in x"), 1, "error: no model in x"),
        (
            PermissionError(errno.EACCES, "Permission denied", "out"),
            1,
            "error: out: Permission denied",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device"),
        (ValueError(), 1, "error: ValueError"),
        (MemoryError(), 1, "error: the memory does not suffice; take a smaller batch, length or"),
        (
            RuntimeError("[enforce fail] can't allocate memory: you tried to allocate 90 bytes."),
            1,
            "error: the memory does not suffice (90 bytes asked for at once); take a smaller",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            1,
            "error: the memory does not suffice (2.00 GiB asked for at once); take",
        ),
        (OverflowError("int too big to convert"), 1, "error: int too big to convert"),
        (RecursionError("maximum"), 1, "error: what was given nests too deeply; write it flatter"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_command_raises_is_one_line(
    problem: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:
    monkeypatch.setattr("hyena.cli.info.run", failing(problem))
    assert main(["info"]) == code
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_an_error_of_the_program_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyena.cli.info.run", failing(KeyError("bug")))
    with pytest.raises(KeyError, match="bug"):
        main(["info"])


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyena.cli.info.run", failing(ValueError("why")))
    with pytest.raises(ValueError, match="why"):
        main(["info", "--traceback"])
    monkeypatch.setenv("HYENA_TRACEBACK", "1")
    with pytest.raises(ValueError, match="why"):
        main(["info"])
    monkeypatch.setenv("HYENA_TRACEBACK", "0")
    assert main(["info"]) == 1


def test_python_m_hyena() -> None:
    command = [sys.executable, "-m", "hyena", "prepre"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["info"], ["--help"], ["--version"], ["tasks", "--help"]])
def test_a_reader_that_goes_away_ends_the_program_quietly(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "hyena", *words], stdout=write, stderr=-1)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")  # what a shell says after SIGPIPE


def in_shell(words: str) -> tuple[int, str]:
    """The exit code of a command line, and what it says on standard error."""
    program = f"{sys.executable} -m hyena {words}"
    done = subprocess.run(["sh", "-c", program], stdout=subprocess.DEVNULL, stderr=-1, text=True)
    return done.returncode, done.stderr


def test_a_program_without_a_standard_error_ends_as_ever() -> None:
    assert in_shell("info 2>&-") == (0, "")


@pytest.mark.parametrize("words", ["--version", "--help", "info"])
def test_what_a_closed_output_would_lose_is_an_error_in_one_line(words: str) -> None:
    assert in_shell(f"{words} >&-") == (1, "error: standard output: it is closed\n")


def test_a_command_that_says_nothing_needs_no_output() -> None:
    assert in_shell("nonsense >&-")[0] == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_is_full_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "hyena", "--help"], stdout=full, stderr=-1)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["error: standard output: No space left on device"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_standard_error_that_is_full_ends_no_command(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def run(config: object) -> None:
        for _ in range(3):
            print("a line", file=sys.stderr, flush=True)
        print("done")

    monkeypatch.setattr("hyena.cli.info.run", run)
    monkeypatch.setattr("sys.argv", ["hyena", "info"])
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        assert main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "done",
        "note: standard error: No space left on device; what the command said there is lost",
    ]


def test_a_character_that_the_terminal_lacks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["hyena", "info", "125M", "--batch", "2"])
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    assert main() == 0
    terminal.seek(0)
    assert "2 ? 2,048 tokens" in terminal.read()


def test_info_names_the_versions(capsys: Output) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for name in ("hyena", "torch", "Python", "threads", "convolution"):
        assert f"{name} " in text
