"""The page where a server fails it, and the parts of the page alone."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from browser import CHROMIUM, DRIVER, chromium
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from letters import letters_model
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from hyena.data import load_tokenizer
from hyena.http import inspection, page

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver"
)

ONE = 'data: {"choices": [{"text": "a", "logprobs": null}]}\n\n'
TOKEN = ONE.replace("null}]}", '{"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{}]}}]}')
ANSWERS = {
    "many": TOKEN * 500 + "data: [DONE]\n\n",
    "whole": ONE + "data: [DONE]\n\n",
    "broken": ONE,
    "error": ONE + 'data: {"error": {"message": "the server is closing"}}\n\n',
}


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """A server whose completions are the answer that the prompt names."""
    app = FastAPI()
    app.include_router(page.router())
    app.include_router(inspection.router(letters_model(), load_tokenizer("bytes")))

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"data": [{"id": "small"}]}

    @app.post("/v1/completions")
    def completions(asked: dict[str, Any]) -> StreamingResponse:
        return StreamingResponse(iter([ANSWERS[asked["prompt"]]]), media_type="text/event-stream")

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def opened(served: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The page, once it knows its model."""
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        driver.get(served)
        facts = driver.find_element(By.ID, "facts")
        WebDriverWait(driver, 60, 0.05).until(lambda _: "layers" in facts.text)
        yield driver


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("broken", "The server’s answer broke off."),
        ("error", "the server is closing"),
        ("whole", ""),
    ],
)
def test_an_answer_that_is_cut_keeps_its_text_and_says_why(
    opened: Chrome, prompt: str, message: str
) -> None:
    field, start = (opened.find_element(By.ID, name) for name in ("prompt", "start"))
    field.clear()
    field.send_keys(prompt)
    start.click()
    status = opened.find_element(By.ID, "status")
    WebDriverWait(opened, 60, 0.05).until(lambda _: status.text.endswith("."))
    assert opened.find_element(By.ID, "error").text == message
    assert opened.find_element(By.ID, "tokens").text == "a"
    assert start.is_enabled()


def run(driver: Chrome, module: str, code: str) -> Any:
    """What the code passes to ``done``, with the names that a module of the page exports."""
    script = f"""
    const done = arguments[arguments.length - 1];
    import("/page/{module}").then((it) => {{ {code} }}).catch((error) => done(String(error)));
    """
    return driver.execute_async_script(script)


def test_times_are_told_against_the_context(opened: Chrome) -> None:
    code = """
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const chart = new it.Timeline(svg);
    for (let i = 0; i < 30; i++) chart.add(4, 1);
    for (let i = 0; i < 15; i++) chart.add(20, 2);
    chart.beginAt(100);
    done([svg.getAttribute("aria-label"), svg.querySelectorAll(".dot").length]);
    """
    words = "Time per token in milliseconds: a mean of 4 near 101 tokens of context, 10 near 160."
    assert run(opened, "timeline.js", code) == [words, 60]


def test_a_cell_of_several_tokens_names_them_all(opened: Chrome) -> None:
    code = """
    const [canvas, cell, caption] = ["canvas", "p", "p"].map((e) => document.createElement(e));
    document.body.append(canvas);
    const matrix = new it.Matrix(canvas, cell, caption);
    matrix.draw({tokens: [..."ab cd"], cells: [[1, 0], [0.5, 2]]}, 0, 7);
    canvas.remove();
    done([cell.textContent, canvas.getAttribute("aria-label")]);
    """
    cell, label = run(opened, "matrix.js", code)
    assert cell == "output at “␣cd” (2–4) ← “␣cd” (2–4): 2"
    assert label.startswith("Matrix of layer 0, channel 7, for 5 tokens. The strongest weight, 2,")


def test_filters_are_told_by_their_largest_tap_and_their_energy(opened: Chrome) -> None:
    code = """
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const chart = new it.FilterChart(svg, document.createElement("p"));
    chart.draw([[0, 3, -4, 1], [1, 0, 0, 0]], 2, 7);
    done([svg.getAttribute("aria-label"), svg.querySelectorAll(".line").length]);
    """
    words = (
        "Filter of layer 2, channel 7. Filter 1: largest at lag 2, -4; nine tenths of its energy "
        "within 3 lags. Filter 2: largest at lag 0, 1; nine tenths of its energy within 1 lag."
    )
    assert run(opened, "filter.js", code) == [words, 2]


def test_the_end_of_a_long_text_stays_in_sight_until_somebody_scrolls_up(opened: Chrome) -> None:
    code = """
    const [frame, list] = ["p", "span"].map((name) => document.createElement(name));
    frame.style = "height: 100px; overflow-y: auto; white-space: pre-wrap";
    frame.append(list);
    document.body.append(frame);
    const tokens = new it.TokenList(list, () => {});
    const write = async (lines) => {
      for (let i = 0; i < lines; i++) tokens.add({text: `line ${i}\\n`, tokens: []});
      await new Promise((drawn) => setTimeout(drawn, 100));
      return frame.scrollHeight - frame.clientHeight - frame.scrollTop;
    };
    (async () => {
      const below = [await write(30), await write(30)];
      frame.scrollTop = 0;
      below.push(await write(30));
      frame.remove();
      done(below);
    })();
    """
    first, second, after = run(opened, "tokens.js", code)
    assert (round(first), round(second)) == (0, 0)
    assert after > 1000


def test_a_screen_reader_is_not_told_of_every_token(opened: Chrome) -> None:
    code = """
    const said = [], status = document.getElementById("status");
    new MutationObserver(() => said.push(status.textContent)).observe(status, {childList: true});
    document.getElementById("prompt").value = "many";
    document.getElementById("start").click();
    const wait = setInterval(() => {
      if (!status.textContent.endsWith(".")) return;
      clearInterval(wait);
      done(said);
    }, 50);
    """
    said = run(opened, "tokens.js", code)
    assert said[:2] == ["Reading the prompt …", "Writing …"]
    assert "500 tokens in" in said[2]
    assert len(said) == 3
