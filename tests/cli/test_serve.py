"""`hyena serve` as a process: what it says, how it ends, and what it refuses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hyena
from hyena.cli import main
from hyena.data import load_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "speeches"
    config = hyena.ModelConfig(width=16, layers=1, max_length=65536, vocab_size=257)
    hyena.LanguageModel(config).save(folder)
    load_tokenizer("bytes").save(folder)
    return folder


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address."""
    command = [sys.executable, "-m", "hyena", "serve", *words, "--port", "0"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.fullmatch(r"serving at (http://127\.0\.0\.1:\d+/)\n", line)
        assert found, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def health(address: str) -> Any:
    with urllib.request.urlopen(address + "healthz", timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_streams_with_an_error_that_says_why(
    model: Path, sent: signal.Signals
) -> None:
    count = 20
    asked = {"model": "speeches", "prompt": "x", "max_tokens": 60000, "stream": True}
    body = json.dumps({**asked, "logit_bias": {"256": -100}}).encode()  # which would end it
    with serving(str(model), "--grace", "0.3") as (process, address):
        port = int(address.rstrip("/").rpartition(":")[2])
        connections = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=120)
            head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            head += "Content-Type: application/json\r\n\r\n"
            connection.sendall(head.encode() + body)
            connections.append(connection)
        end = time.monotonic() + 60
        while health(address)["growing"] < count:
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(sent)
        for connection in connections:
            with connection, connection.makefile("rb") as answer:
                events = [line for line in answer.read().split(b"\n") if line.startswith(b"data:")]
            assert events[-1].strip() == b"data: [DONE]"
            error = json.loads(events[-2].removeprefix(b"data: "))["error"]
            assert error["message"] == "the server is closing; ask again later"
        assert process.wait(60) == 128 + sent


def test_a_token_from_the_environment_or_a_file(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    for words, environment in (
        ([], {"HYENA_TOKEN": "secret"}),
        (["--token_file", str(file)], {}),
    ):
        with serving(str(model), *words, **environment) as (_, address):
            asked = urllib.request.Request(address + "v1/models")
            asked.add_header("Authorization", "Bearer secret")
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert json.load(answer)["data"][0]["id"] == "speeches"
            with pytest.raises(urllib.error.HTTPError, match="401") as refused:
                urllib.request.urlopen(address + "v1/models", timeout=60)
            refused.value.close()


def test_what_cannot_be_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        (tmp_path / "empty").touch()
        for words, message in (
            (["--port", port], f"cannot listen at 127.0.0.1:{port}: "),
            (["--port", "70000"], "port: "),
            (["--sequences", "0"], "sequences: "),
            (["--grace", "-1"], "grace: "),
            (["--token_file", str(tmp_path / "none")], "none"),
            (["--token_file", str(tmp_path / "empty")], "expected a token of printable ASCII"),
        ):
            assert main(["serve", str(model), *words]) != 0
            error = capsys.readouterr().err
            assert message in error
            assert len(error.strip().splitlines()) == 1, error
