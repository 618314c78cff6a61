"""The routes that show a model's layers, and the files of the page."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import ask
from comparison import assert_close
from letters import letters_model
from page_server import page_of
from torch import Tensor

from hyena.data import load_tokenizer
from hyena.http import page
from hyena.model import LanguageModel
from hyena.serving import Inspector

STATIC = Path(page.__file__).parent / "static"
TEXT = "a world in a grain of sand"


def numbers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def letters() -> LanguageModel:
    return letters_model()


@pytest.fixture(scope="module")
def served(letters: LanguageModel) -> Iterator[str]:
    with page_of(letters, load_tokenizer("bytes")) as address:
        yield address


@pytest.fixture(scope="module")
def inspector(letters: LanguageModel) -> Inspector:
    return Inspector(letters, load_tokenizer("bytes"))


def test_the_model_is_described(served: str, letters: LanguageModel) -> None:
    status, facts = ask(served + "inspection/model")
    assert status == 200
    assert facts == {
        "parameters": letters.parameter_count(),
        "width": 24,
        "context": 128,
        "layers": [{"mixer": "hyena", "filters": 1}] * 3,
        "tokenizer": {"name": "bytes", "kind": "text"},
    }


def test_a_filter_is_answered_in_few_digits(served: str, inspector: Inspector) -> None:
    body = {"layer": 1, "channel": 3, "length": 50}
    status, found = ask(served + "inspection/filter", body)
    taps, skip = inspector.filter(1, 3, 50)
    assert status == 200
    assert_close(numbers(found["taps"]), taps, 1e-3)
    assert_close(numbers(found["skip"]), skip, 1e-3)


def test_a_matrix_is_answered_in_few_digits(served: str, inspector: Inspector) -> None:
    body = {"layer": 2, "channel": 3, "text": TEXT}
    status, found = ask(served + "inspection/matrix", body)
    assert status == 200
    assert found["tokens"] == list(TEXT)
    assert_close(numbers(found["cells"]), inspector.matrix(TEXT, 2, 3).cells, 1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": 3}, "layer: expected at most 2, got 3"),
        ({"channel": -1}, "channel: expected at least 0, got -1"),
        ({"text": ""}, "text: expected one token to 1,024, got 0"),
        ({"text": "x" * 129}, "the input is 129 tokens long"),
        ({"text": "\ud800"}, "surrogate"),
        ({"text": 5}, "text"),
        ({"layer": "0"}, "layer"),
        ({"layer": 0.5}, "layer"),
        ({"rows": 3}, "rows"),
    ],
)
def test_what_cannot_be_asked_is_refused(served: str, change: dict[str, Any], message: str) -> None:
    body = {"layer": 0, "channel": 0, "text": TEXT, **change}
    status, found = ask(served + "inspection/matrix", body)
    assert status == 400
    assert message in found["error"]["message"]
    assert found["error"]["type"] == "invalid_request_error"


def test_the_page_may_run_and_load_its_own_files_alone(served: str) -> None:
    with urllib.request.urlopen(served) as response:
        policy = response.headers["content-security-policy"]
        html = response.read().decode()
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script[^>]*>[^<]|\son\w+=|\sstyle=|https?://", html)


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.iterdir()))
def test_every_file_of_the_page_is_served(served: str, name: str) -> None:
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    types["html"] = "text/html"
    with urllib.request.urlopen(f"{served}page/{name}") as response:
        assert response.read() == (STATIC / name).read_bytes()
        assert response.headers["content-type"].split(";")[0] == types[name.split(".")[1]]
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "..%2f__init__.py"])
def test_no_other_file_is_served(served: str, name: str) -> None:
    status, found = ask(f"{served}page/{name}")
    assert status == 404
    assert found["error"]["message"]


def test_no_file_of_the_page_names_another_host() -> None:
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
