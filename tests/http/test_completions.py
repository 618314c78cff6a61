"""Completions as OpenAI's client asks for them: the texts of `hyena.generation.generate`."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
import torch
from asking import ask
from letters import letters_model
from page_server import page_of

from hyena.data import load_tokenizer
from hyena.generation import Generation, generate
from hyena.http import Settings
from hyena.model import LanguageModel
from hyena.serving import Limits

BYTES = load_tokenizer("bytes")
TEXT = "a world in a grain"


@pytest.fixture(scope="module")
def letters() -> LanguageModel:
    return letters_model()


@pytest.fixture(scope="module")
def served(letters: LanguageModel) -> Iterator[str]:
    with page_of(letters_model(), BYTES, Limits(new_tokens=100)) as address:
        yield address


@pytest.fixture(scope="module")
def client(served: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=served + "v1", api_key="none", max_retries=0)


def alone(model: LanguageModel, prompts: Any, **options: Any) -> list[Generation]:
    return generate(model, prompts, tokenizer=BYTES, **options)


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object) == ("small", "model")


def test_a_completion_is_what_generate_gives(client: openai.OpenAI, letters: LanguageModel) -> None:
    found = client.completions.create(model="small", prompt=TEXT, max_tokens=30, temperature=0)
    (expected,) = alone(letters, [TEXT], max_new_tokens=30, temperature=0)
    (choice,) = found.choices
    assert (choice.text, choice.finish_reason, choice.logprobs) == (expected.text, "length", None)
    assert found.object == "text_completion"
    assert found.usage is not None
    usage = found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens
    assert usage == (len(TEXT) + 1, 30, len(TEXT) + 31)


def test_several_prompts_and_choices_come_in_order_each_with_its_seed(
    client: openai.OpenAI, letters: LanguageModel
) -> None:
    found = client.completions.create(
        model="small", prompt=[TEXT, "b"], n=2, seed=5, max_tokens=12, top_p=0.9, stop=["e", "qq"]
    )
    expected = alone(
        letters,
        [TEXT, TEXT, "b", "b"],
        seed=5,
        max_new_tokens=12,
        top_p=0.9,
        stop=["e", "qq"],
    )
    assert [choice.text for choice in found.choices] == [own.text for own in expected]
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    reasons = [choice.finish_reason for choice in found.choices]
    assert reasons == [own.finished for own in expected]


def test_token_ids_are_taken_as_they_are(client: openai.OpenAI, letters: LanguageModel) -> None:
    ids = list(TEXT.encode())
    for prompt in (ids, [ids, ids[:3]]):
        found = client.completions.create(model="small", prompt=prompt, max_tokens=9, temperature=0)
        prompts = [prompt] if isinstance(prompt[0], int) else prompt
        expected = alone(letters, prompts, max_new_tokens=9, temperature=0)
        assert [choice.text for choice in found.choices] == [own.text for own in expected]
        assert found.usage is not None
        assert found.usage.prompt_tokens == sum(map(len, prompts))


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_is_the_same_in_pieces(client: openai.OpenAI, n: int) -> None:
    options: Any = {"prompt": TEXT, "max_tokens": 20, "seed": 3, "n": n, "logprobs": 2}
    whole = client.completions.create(model="small", **options)
    usage = {"include_usage": True}
    *chunks, last = client.completions.create(
        model="small", stream=True, stream_options=usage, **options
    )
    for choice in whole.choices:
        own = [c.choices[0] for c in chunks if c.choices[0].index == choice.index]
        assert "".join(each.text for each in own) == choice.text
        assert [each.finish_reason for each in own] == [None] * 19 + [choice.finish_reason]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            pieces = [one for each in own for one in getattr(each.logprobs, name)]
            assert pieces == getattr(choice.logprobs, name)
    assert (last.choices, last.usage) == ([], whole.usage)
    assert all(chunk.usage is None for chunk in chunks)


def test_a_prompt_is_echoed_with_what_the_model_made_of_it(
    client: openai.OpenAI, letters: LanguageModel
) -> None:
    text = "é " + TEXT
    found = client.completions.create(
        model="small", prompt=text, max_tokens=2, echo=True, logprobs=1, temperature=0
    )
    (choice,) = found.choices
    (expected,) = alone(letters, [text], max_new_tokens=2, temperature=0)
    assert choice.text == text + expected.text
    ids = [256, *text.encode(), *expected.tokens]
    with torch.no_grad():
        logs = letters(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
    own = logs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert choice.logprobs.tokens[:3] == ["token_id:195", "token_id:169", " "]
    assert choice.logprobs.text_offset[:4] == [0, 0, 1, 2]
    assert choice.logprobs.token_logprobs == pytest.approx(own.tolist(), abs=1e-10)
    best = [max(each.values()) for each in choice.logprobs.top_logprobs]
    assert best == pytest.approx(logs.amax(-1).tolist(), abs=1e-10)
    ids = list(TEXT.encode())
    (read,) = client.completions.create(
        model="small", prompt=ids, max_tokens=0, echo=True, logprobs=1
    ).choices
    assert (read.text, read.finish_reason) == (TEXT, "length")
    assert read.logprobs is not None
    assert read.logprobs.token_logprobs[0] is None
    assert len(read.logprobs.token_logprobs) == len(ids)
    (plain,) = client.completions.create(
        model="small", prompt=TEXT, max_tokens=1, echo=True, temperature=0
    ).choices
    assert plain.text.startswith(TEXT)


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "another model": ({"model": "gpt"}, 404, "there is no model 'gpt'; this is 'small'"),
    "best_of": ({"best_of": 3}, 400, "best_of: Input should be 1"),
    "suffix": ({"suffix": "x"}, 400, "suffix: this field is not supported; leave it out"),
    "penalty": ({"presence_penalty": 0.5}, 400, "presence_penalty: Input should be"),
    "temperature": ({"temperature": -1}, 400, "temperature: Input should be greater than or eq"),
    "a kind": ({"max_tokens": "many"}, 400, "max_tokens: Input should be a valid integer"),
    "too many": ({"max_tokens": 101}, 400, "max_new_tokens: expected at most 100, got 101"),
    "nothing": ({"max_tokens": 0}, 400, "max_tokens: expected at least 1 without echo, got 0"),
    "an id": ({"prompt": [257]}, 400, "prompts: token id 257 is outside the vocabulary of 257"),
    "no prompt": ({"prompt": []}, 400, "prompt: expected at least one prompt, got none"),
    "half a pair": ({"prompt": "\ud800"}, 400, ""),
    "too long": ({"prompt": "x" * 200}, 400, "a prompt of 201 tokens and 16 new do not fit"),
    "a bias": ({"logit_bias": {"x": 1}}, 400, "logit_bias: expected token ids as keys, got 'x'"),
    "options": ({"stream_options": {}}, 400, "stream_options: expected none without stream"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_and_never_ignored(served: str, name: str) -> None:
    body, status, message = REFUSED[name]
    found = ask(served + "v1/completions", {"model": "small", "prompt": "x", **body})
    assert found[0] == status
    error = found[1]["error"]
    assert error["message"].startswith(message)
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


def test_errors_are_those_of_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.completions.create(model="gpt", prompt="x")
    with pytest.raises(openai.BadRequestError, match="suffix: this field is not supported"):
        client.completions.create(model="small", prompt="x", suffix="y")


def raw(address: str, body: bytes, *headers: str) -> socket.socket:
    """A connection that has sent a request, to be closed."""
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    lines = ["POST /v1/completions HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    head = "\r\n".join([*lines, "content-type: application/json", "", ""]).encode()
    connection.sendall(head + body)
    return connection


def answer_to(address: str, body: bytes, *headers: str) -> bytes:
    """All that is answered until the connection is closed."""
    with raw(address, body, *headers) as connection, connection.makefile("rb") as file:
        return file.read()


def wait_for(address: str, growing: int, waiting: int = 0) -> None:
    """Until so many answers grow, and so many requests wait."""
    expected = {"status": "ok", "waiting": waiting, "growing": growing}
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if ask(address + "healthz")[1] == expected:
            return
        time.sleep(0.01)
    raise AssertionError(ask(address + "healthz")[1])


@pytest.fixture(scope="module")
def endless() -> Iterator[str]:
    """A server whose answers take long."""
    model = letters_model()
    model.config.length_policy = "extrapolate"
    step = model.step

    def slow(*args: Any) -> Any:
        time.sleep(0.01)
        return step(*args)

    model.step = slow  # type: ignore[method-assign]
    limits = Limits(new_tokens=100, sequences=4, waiting=2)
    with page_of(model, BYTES, limits, Settings(body_bytes=2000)) as address:
        yield address


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(endless: str, stream: bool) -> None:
    asked = {"model": "small", "prompt": "x", "max_tokens": 100, "n": 3, "stream": stream}
    body = json.dumps(asked).encode()
    with raw(endless, body, f"content-length: {len(body)}"):
        wait_for(endless, 3)
    wait_for(endless, 0)


def test_a_queue_that_is_full_answers_429(endless: str) -> None:
    asked = {"model": "small", "prompt": "x", "max_tokens": 100, "n": 4, "stream": True}
    body = json.dumps(asked).encode()
    with ExitStack() as connections:
        for waiting in range(3):
            connections.enter_context(raw(endless, body, f"content-length: {len(body)}"))
            wait_for(endless, 4, waiting)
        status, found = ask(endless + "v1/completions", {**asked, "stream": False})
        assert (status, found["error"]["type"]) == (429, "rate_limit_error")
    wait_for(endless, 0)


def test_half_a_body_holds_nobody_up(endless: str) -> None:
    with raw(endless, b'{"model": "small"', "content-length: 400"):
        assert ask(endless + "v1/completions", {"model": "small", "prompt": "x"})[0] == 200
    wait_for(endless, 0)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_beyond_the_limit_is_refused(endless: str, chunked: bool) -> None:
    body = json.dumps({"model": "small", "prompt": "x" * 3000}).encode()
    length = f"content-length: {len(body)}"
    if chunked:
        body, length = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), "transfer-encoding: chunked"
    answer = answer_to(endless, body, length)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the body has more than 2,000 bytes; send less" in answer


def test_a_body_that_is_no_json_is_refused(endless: str) -> None:
    for body in (b"{", b"\xff", b"[" * 1900, b'{"model": 1e999}', b"null"):
        answer = answer_to(endless, body, f"content-length: {len(body)}")
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_who_does_not_send_the_token_is_refused() -> None:
    settings = Settings(token="secret", cors=["https://example.org"])
    with page_of(letters_model(), BYTES, settings=settings) as address:
        status, found = ask(address + "v1/models")
        assert (status, found["error"]["type"]) == (401, "authentication_error")
        assert ask(address + "healthz")[0] == 200
        options: Any = {"base_url": address + "v1", "max_retries": 0}
        assert openai.OpenAI(api_key="secret", **options).models.list().data[0].id == "small"
        with pytest.raises(openai.AuthenticationError, match="the bearer token is missing or wr"):
            openai.OpenAI(api_key="secre", **options).models.list()


@pytest.mark.parametrize(("origin", "allowed"), [("https://example.org", True), ("null", False)])
def test_other_origins_may_read_answers_if_they_are_named(origin: str, allowed: bool) -> None:
    settings = Settings(cors=["https://example.org"], token="secret")
    with page_of(letters_model(), BYTES, settings=settings) as address:
        asked = urllib.request.Request(address + "v1/completions", method="OPTIONS")
        asked.add_header("Origin", origin)
        asked.add_header("Access-Control-Request-Method", "POST")
        asked.add_header("Access-Control-Request-Headers", "authorization")
        if allowed:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == origin
        else:
            with pytest.raises(urllib.error.HTTPError, match="400") as refused:
                urllib.request.urlopen(asked, timeout=60)
            refused.value.close()
