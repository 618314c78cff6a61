"""The program `hyena`: finds the command, runs it, and turns a user's mistake into one line.

Each command is a module of this package, or of a package in it for a command in two words such as
``tasks run``, with three names: ``Config``, the dataclass of its options;
``POSITIONAL``, the option or the options that may be given first without their names, or None; and
``run(config)``, which does the work and may return an exit code.
"""

import errno
import importlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from difflib import get_close_matches
from types import FrameType, ModuleType
from typing import Any, TextIO, cast

from hyena import __version__
from hyena.cli.values import UsageError

COMMANDS = {
    "prepare": "turn text into token files, split into train, validation and test",
    "data": "check a prepared data set",
    "plan": "reckon what a training run will take: memory, operations, tokens and time",
    "train": "train a language model, or go on with an interrupted run",
    "evaluate": "measure perplexity on held-out text, or how well labels are predicted",
    "eval": "run tasks of lm-evaluation-harness",
    "generate": "continue one or more prompts",
    "serve": "answer requests over HTTP as OpenAI's servers do, with a page for a browser",
    "score": "give sequences or variants their log-likelihood under a model",
    "embed": "turn sequences into the vectors of a layer",
    "predict": "give sequences the labels that a model was fine-tuned for",
    "distill": "make a model whose generation takes constant memory",
    "convert": "turn a released model into one of ours, or ours into files of its kind",
    "export": "turn a model into a file for torch.export, AOTInductor or ONNX",
    "info": "print the versions in use and what is known of a model",
    "plot": "draw a run's loss curve and a model's filters",
    "bench": "time convolution, operator, generation and whole models against their rivals",
    "tasks": "train and compare operators on recall and reasoning tasks",
    "scaling": "compare families of models by the loss that an amount of compute buys",
}

# Commands that are made of others, which are modules of a package of their name.
GROUPS = {
    "data": {
        "verify": "read all files of a prepared data set, and name those that are damaged",
    },
    "tasks": {
        "list": "name the tasks and what each of them asks",
        "show": "print a few prompts of a task with their answers",
        "run": "train a model on a task and measure it, or go on with an interrupted run",
        "sweep": "run the cells of a table: rows, a grid, trials and seeds",
        "table": "write a sweep's table and figures, as far as it has come",
    },
    "scaling": {
        "run": "train families of models at sizes and budgets, or go on with a sweep",
        "table": "write a sweep's table and figures, as far as it has come",
    },
}

# Exit codes: the command could not do its work; the command line itself is wrong; Ctrl-C; SIGTERM;
# nobody reads the output any longer, which ends other programs by SIGPIPE.
FAILURE, USAGE, INTERRUPTED, TERMINATED = 1, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM
UNREAD = 128 + 13


# What PyTorch raises of the CPU's memory and of a device's; of sizes that no memory has.
_OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory|Storage size calculation overflow")


_FOR_ALL = """ Each of them can be written in a YAML
file for --config, and --print_config writes such a file.

options:
  --version    print the version
  --traceback  show Python's traceback on an error (or set HYENA_TRACEBACK=1)"""


class _TerminatedError(BaseException):
    """SIGTERM came, and the command has no end of its own for it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    A user's mistake is one line, ``error: ...``, on standard error. ``--traceback`` anywhere among
    the arguments, or HYENA_TRACEBACK=1 in the environment, shows the traceback instead.

    Args:
        arguments: the words after the program's name; none takes those of the process.

    Returns: 0 on success, 1 if the command failed, 2 if the command line is wrong, 130 on Ctrl-C,
        141 if the reader of its output has gone, 143 on SIGTERM.
    """
    try:
        _open_streams()
        if arguments is not None:
            code = _answered(arguments)
        else:
            if isinstance(sys.stdout, io.TextIOWrapper):
                # A terminal that cannot show a character gets a question mark for it, not an error.
                sys.stdout.reconfigure(errors="replace")
            output, errors = _Guarded(sys.stdout, ends=True), _Guarded(sys.stderr, ends=False)
            with redirect_stdout(cast(Any, output)), redirect_stderr(cast(Any, errors)):
                code = _answered(arguments)
                output.flush()  # now rather than at exit, where Python would complain
            if errors.lost:
                print(f"note: standard error: {errors.lost}; what the command said there is lost")
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # as in `hyena generate ... | head`
        _drop(sys.stdout)
        return UNREAD
    except OSError as problem:  # such as a full disk
        _drop(sys.stdout)
        return _error(f"standard output: {_describe(problem)}", FAILURE)


class _LostError(OSError):
    """What was written to standard output went nowhere."""


class _Guarded:
    """A standard stream, which may be closed or on a full disk; that ``ends`` a command or not."""

    def __init__(self, stream: TextIO, *, ends: bool) -> None:
        self._stream, self._ends = stream, ends
        self.lost = ""
        """Why something could not be written."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._kept(self._stream.write, text) or len(text)

    def flush(self) -> None:
        self._kept(self._stream.flush)

    def _kept(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except BrokenPipeError:
            raise
        except OSError as problem:
            self.lost = "it is closed" if problem.errno == errno.EBADF else _describe(problem)
            _drop(self._stream)
            if self._ends:
                raise _LostError(self.lost) from problem


def _open_streams() -> None:
    """Standard streams that are closed are opened, or the next file would be in their place: output
    with nothing that could be written to, so that it is not lost in silence."""
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:  # for which print would take the output
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _drop(stream: TextIO) -> None:
    """What is still in the buffer, and what may follow, has nowhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _answered(arguments: Sequence[str] | None) -> int:
    """What `main` does, if its output is read."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words or os.environ.get("HYENA_TRACEBACK", "") not in ("", "0")
    words = [word for word in words if word != "--traceback"]
    if words[:1] == ["--version"]:
        print(f"hyena {__version__}")
        return 0
    command, commands = "", COMMANDS
    while commands:  # a group of commands, of which the next word names one
        if not words or words[0] in ("-h", "--help"):
            print(_help(command, commands))
            return 0 if words else USAGE
        if words[0] not in commands:
            close = get_close_matches(words[0], commands, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"choose from {', '.join(commands)}"
            return _error(f'unknown command "{words[0]}"; {hint}', USAGE)
        command = f"{command} {words.pop(0)}".lstrip()
        commands = GROUPS.get(command, {})
    try:
        with _handled(signal.SIGTERM, signal.SIG_DFL, _terminate):
            alone = signal.default_int_handler if arguments is None else None
            with _handled(signal.SIGINT, alone, _end):  # in a process of its own
                module, parse = _loaded(command)
            config = parse(command, programs()[command], module.Config, module.POSITIONAL, words)
            return 0 if config is None else module.run(config) or 0
    except UsageError as problem:
        return _error(str(problem), USAGE)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except _TerminatedError:
        print("terminated", file=sys.stderr)
        return TERMINATED
    except (BrokenPipeError, _LostError):
        raise
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError, OverflowError) as problem:
        if traceback:
            raise
        return _error(_describe(problem), FAILURE)


def programs() -> dict[str, str]:
    """All commands that can be run, such as "train" or "tasks run", with a line on each."""
    found = {}
    for name, summary in COMMANDS.items():
        parts = GROUPS.get(name, {})
        found.update({f"{name} {part}": text for part, text in parts.items()} or {name: summary})
    return found


def module_of(command: str) -> ModuleType:
    """The module of one of `programs`."""
    return importlib.import_module("hyena.cli." + command.replace(" ", "."))


def _loaded(command: str) -> tuple[ModuleType, Callable[..., Any]]:
    """The module of a command, and what reads its options."""
    try:
        from hyena.cli.options import parse

        return module_of(command), parse
    except ModuleNotFoundError as missing:
        raise ImportError(
            f"the command line needs the package {missing.name}: pip install 'hyena[train]'"
        ) from missing


@contextmanager
def _handled(number: int, usual: Any, handler: Callable[..., None]) -> Iterator[None]:
    """Within it a signal has this handler, unless it is ignored or has one of another program.

    Commands that end in their own way when asked to set handlers of their own meanwhile.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    ours = main_thread and signal.getsignal(number) is usual
    if ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(number, usual)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM raises, so that what was begun is cleared away."""
    raise _TerminatedError


def _end(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C while libraries are loading, where an exception can be lost."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _help(group: str, commands: Mapping[str, str]) -> str:
    """Of the program, whose group has no name, or of a group of commands."""
    summary = COMMANDS.get(group, "language models built from the Hyena operator")
    program, width = f"hyena {group}".rstrip(), max(map(len, commands))
    lines = "\n".join(f"  {name:{width}}  {text}" for name, text in commands.items())
    return (
        f"usage: {program} COMMAND [options]\n\n{summary[0].upper()}{summary[1:]}.\n\n"
        f"commands:\n{lines}\n\n`{program} COMMAND --help` lists a command's options."
    ) + ("" if group else _FOR_ALL)


def _describe(problem: Exception) -> str:
    if isinstance(problem, MemoryError) or _OUT_OF_MEMORY.search(str(problem)):
        asked = re.search(r"(?i)tr(?:ied|ying) to allocate ([\d.]+ ?\w+)", str(problem))
        amount = f" ({asked[1]} asked for at once)" if asked else ""
        return f"the memory does not suffice{amount}; take a smaller batch, length or model"
    if isinstance(problem, RecursionError):
        return "what was given nests too deeply; write it flatter"
    # What the operating system raises says "[Errno 2] No such file or directory: 'x'".
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return str(problem) or type(problem).__name__


def _error(message: str, code: int) -> int:
    with suppress(OSError):  # of a full disk under standard error
        print("error: " + " ".join(message.split()), file=sys.stderr)
    return code
