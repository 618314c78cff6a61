"""The page in a browser: what a visitor sees of a text, its tokens and a layer."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asking import ask
from browser import CHROMIUM, DRIVER, chromium, errors, requested, show_as
from letters import letters_model
from page_server import page_of
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from hyena.data import load_tokenizer
from hyena.http import Settings

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver"
)

PROMPT = "The people"
SECONDS = 60  # of patience on a busy machine; nothing is asserted of times


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with page_of(letters_model(), load_tokenizer("bytes")) as address:
        yield address


@pytest.fixture(scope="module")
def served_dna() -> Iterator[str]:
    with page_of(letters_model(range(7, 11), 12), load_tokenizer("hyenadna")) as address:
        yield address


class Page:
    """The page as a visitor has it before them."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver, self.url = driver, url
        show_as(driver, 1280, 900)
        errors(driver)
        requested(driver)
        driver.get(url)

    def wait_for_the_model(self) -> "Page":
        self.wait(lambda: "layer" in self["facts"].text and self["filter"].text)
        return self

    def __getitem__(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def wait(self, until: Callable[[], Any]) -> None:
        WebDriverWait(self.driver, SECONDS, 0.05).until(lambda _: until())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def set(self, **settings: object) -> None:
        for name, value in settings.items():
            field = self[name.replace("_", "-")]
            field.clear()
            field.send_keys(str(value))

    def generate(self, prompt: str = PROMPT, **settings: object) -> None:
        self.set(prompt=prompt, **{"temperature": 0, "max_tokens": 12, **settings})
        self["start"].click()
        self.wait_for_the_end()

    def wait_for_the_end(self) -> None:
        self.wait(lambda: self["start"].is_enabled())
        self.wait(lambda: "Arrow keys" in (self.label("matrix")))

    def label(self, name: str) -> str:
        """What a screen reader says of a picture."""
        return self[name].get_attribute("aria-label") or ""

    def pixels(self) -> list[int]:
        """Of the matrix: red, green, blue and opacity of each cell."""
        return self.driver.execute_script(
            "const c = document.getElementById('matrix');"
            "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        )

    def focused(self) -> str:
        return self.driver.switch_to.active_element.get_attribute("id")


@pytest.fixture
def page(browser: Chrome, served: str) -> Iterator[Page]:
    yield Page(browser, served).wait_for_the_model()
    assert [url for url in requested(browser) if not url.startswith(served)] == []


def completion(served: str, tokens: int = 12) -> dict[str, Any]:
    """The likeliest continuation of the prompt, asked for without the page."""
    _, models = ask(served + "v1/models")
    body = {"model": models["data"][0]["id"], "prompt": PROMPT, "max_tokens": tokens}
    status, found = ask(served + "v1/completions", {**body, "temperature": 0, "logprobs": 5})
    assert status == 200
    return found["choices"][0]


def test_a_text_streams_token_by_token(page: Page, served: str) -> None:
    page.driver.execute_script(
        "window.seen = []; const stop = document.getElementById('stop');"
        "new MutationObserver(() => seen.push([tokens.children.length, !stop.disabled]))"
        ".observe(tokens, {childList: true})"
    )
    page.generate()
    expected = completion(served)
    assert "".join(each.text for each in page.all(".token")) == expected["text"]
    assert page["given"].text == PROMPT
    seen = page.driver.execute_script("return seen")
    grown = [count for count, running in seen if running and count]
    assert len(grown) > 3, "it came at once"
    assert grown == sorted(grown)
    assert "12 tokens" in page["status"].text
    assert errors(page.driver) == []


def test_a_token_shows_its_alternatives_when_pointed_at(page: Page, served: str) -> None:
    page.generate()
    scores = completion(served)["logprobs"]
    for i in (2, 5):
        ActionChains(page.driver).move_to_element(page.all(".token")[i]).perform()
        check_details(page, scores, i)
    ActionChains(page.driver).move_to_element(page["prompt"]).perform()
    assert page["token"].text == "None chosen yet."


def check_details(page: Page, scores: dict[str, Any], i: int) -> None:
    top = sorted(scores["top_logprobs"][i].items(), key=lambda each: -each[1])
    names = [each.text for each in page.all(".alternatives code")]
    assert names == [shown(text) for text, _ in top]
    assert page.all(".chosen b")[0].text == shown(scores["tokens"][i])


def shown(text: str) -> str:
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍") or "∅"


def test_the_keyboard_alone_is_enough(page: Page, served: str) -> None:
    keys = ActionChains(page.driver)
    keys.send_keys(Keys.TAB, Keys.TAB).perform()
    assert page.focused() == "prompt"
    page.set(temperature=0, max_tokens=12)
    page["prompt"].send_keys(PROMPT, Keys.CONTROL, Keys.ENTER)
    page.wait(lambda: page.all(".token"))
    page.wait_for_the_end()
    while page.focused() != "tokens":
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
    scores = completion(served)["logprobs"]
    check_details(page, scores, 0)
    for key, i in [(Keys.ARROW_RIGHT, 1), (Keys.END, 11), (Keys.ARROW_LEFT, 10), (Keys.HOME, 0)]:
        page["tokens"].send_keys(key)
        check_details(page, scores, i)
        assert page["tokens"].get_attribute("aria-activedescendant") == f"token-{i}"
        chosen = [each.get_attribute("id") for each in page.all("[aria-selected=true]")]
        assert chosen == [f"token-{i}"]
    while page.focused() != "matrix":
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
    before = page["matrix-cell"].text
    page["matrix"].send_keys(Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ARROW_UP)
    assert page["matrix-cell"].text != before


def test_escape_stops_and_continue_goes_on(page: Page, served: str) -> None:
    page.generate()
    page["more"].click()
    page.wait(lambda: len(page.all(".token")) == 24)
    page.wait_for_the_end()
    written = "".join(each.get_attribute("textContent") or "" for each in page.all(".token"))
    assert written == completion(served, 24)["text"]
    page.set(max_tokens=100)
    page["start"].click()
    page.wait(lambda: page.all(".token"))
    page["prompt"].send_keys(Keys.ESCAPE)
    page.wait_for_the_end()
    assert "stopped" in page["status"].text
    assert len(page.all(".token")) < 100


def test_what_the_server_refuses_is_shown(page: Page) -> None:
    page.set(prompt=PROMPT, max_tokens=1000)
    page["start"].click()
    page.wait(lambda: page["error"].is_displayed())
    assert page["error"].get_attribute("role") == "alert"
    assert "128" in page["error"].text
    page.generate()  # and goes away
    assert not page["error"].is_displayed()
    page.set(prompt="")
    page["start"].click()
    assert page["error"].text == "Write a prompt first."


def test_pictures_are_told_in_words_and_follow_the_channel(page: Page) -> None:
    assert "Filter of layer 0, channel 0. Largest at lag" in page.label("filter")
    page.generate()
    words = "Matrix of layer 0, channel 0, for 22 tokens. The strongest weight"
    assert words in page.label("matrix")
    assert "near 12 tokens of context" in page.label("time")
    before = page.pixels()
    assert len(before) == 4 * 22 * 22
    page.set(channel=7)
    page["layer"].send_keys("2")
    page.wait(lambda: "layer 2, channel 7" in page.label("matrix"))
    page.wait(lambda: "layer 2, channel 7" in page.label("filter"))
    assert page.pixels() != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_future_is_as_light_as_the_paper(page: Page, scheme: str) -> None:
    show_as(page.driver, 1280, 900, prefers_color_scheme=scheme)
    page.generate()
    pixels = page.pixels()
    above = [pixels[4 * (i * 22 + j)] for i in range(22) for j in range(i + 1, 22)]
    on = [pixels[4 * (i * 22 + i)] for i in range(22)]
    assert len(set(above)) == 1
    assert above[0] not in on
    assert (above[0] > 200) == (scheme == "light")


@pytest.mark.parametrize("width", [320, 768])
def test_a_narrow_screen_scrolls_one_way_only(page: Page, width: int) -> None:
    show_as(page.driver, width, 640)
    page.generate("long" * 20)
    page.all(".token")[0].click()
    inner = page.driver.execute_script("return document.documentElement.scrollWidth")
    assert inner <= width
    outside = page.driver.execute_script(
        "return [...document.querySelectorAll('main *')].filter((each) => {"
        "const box = each.getBoundingClientRect();"
        "return box.width && (box.right > innerWidth + 1 || box.left < -1)}).map((each) => each.id)"
    )
    assert outside == []


def test_motion_is_reduced_where_it_is_asked_for(page: Page) -> None:
    page.generate()
    for wish, expected in [("reduce", "0s"), ("no-preference", "0.3s")]:
        show_as(page.driver, 1280, 900, prefers_reduced_motion=wish)
        style = "return getComputedStyle(document.querySelector('.token')).transitionDuration"
        assert page.driver.execute_script(style) == expected


def test_every_control_has_a_name(page: Page) -> None:
    for field in page.all("input, select, textarea, button, svg, canvas, [role=listbox]"):
        if field.is_displayed():
            assert field.accessible_name, field.get_attribute("outerHTML")


def test_dna_is_shown_in_coloured_letters(browser: Chrome, served_dna: str) -> None:
    page = Page(browser, served_dna).wait_for_the_model()
    page.generate("ACGTTGCA", temperature=2, max_tokens=40, seed=1)
    letters = page.all(".token")
    assert {each.text for each in letters} == set("ACGT")
    colours = {each.text: each.value_of_css_property("color") for each in letters}
    assert len(set(colours.values())) == len(colours)
    assert "monospace" in page.all(".output")[0].value_of_css_property("font-family")


def test_a_token_is_asked_for_where_the_server_wants_one(browser: Chrome) -> None:
    settings = Settings(token="sesame")
    with page_of(letters_model(), load_tokenizer("bytes"), settings=settings) as address:
        page = Page(browser, address)
        page.wait(lambda: page["key"].is_displayed())
        assert page["error"].text == "the bearer token is missing or wrong"
        assert page.focused() == "key"
        page.set(prompt=PROMPT, key="open")
        page["start"].click()
        page.wait(lambda: page["start"].is_enabled())
        assert page["error"].is_displayed()
        page.set(key="sesame")
        page["start"].click()
        page.wait(lambda: page.all(".token"))
        page.wait_for_the_end()
        assert not page["error"].is_displayed()
        assert not page["key"].is_displayed()


PIECES = """
const done = arguments[arguments.length - 1];
const {piecesOf} = await import('/page/tokens.js');
const pending = [], choice = (text, tokens) =>
  ({text, logprobs: {tokens, token_logprobs: tokens.map(() => -1), top_logprobs: null}});
const texts = (pieces) => pieces.map((each) => [each.text, each.tokens.length]);
done([
  texts(piecesOf(choice('a', ['a']), pending)),
  texts(piecesOf(choice('', ['\\ufffd']), pending)),
  texts(piecesOf(choice('é', ['\\ufffd']), pending)),
  texts(piecesOf(choice('bc', ['b', 'c']), pending)),
  texts(piecesOf({text: 'x', logprobs: null}, pending)),
]);
"""


def test_a_character_of_several_tokens_is_one_piece(page: Page) -> None:
    script = f"(async (...arguments) => {{{PIECES}}})(...arguments)"
    found = page.driver.execute_async_script(script)
    assert found == [[["a", 1]], [], [["é", 2]], [["b", 1], ["c", 1]], [["x", 0]]]


EVENTS = """
const done = arguments[arguments.length - 1];
const {events} = await import('/page/api.js');
const bytes = new TextEncoder().encode(arguments[0]), found = [];
const stream = new ReadableStream({start(controller) {
  for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
  controller.close();
}});
for await (const data of events(stream)) found.push(data);
done(found);
"""


def test_events_are_read_wherever_the_stream_is_cut(page: Page) -> None:
    text = ': note\r\ndata: {"a": "é"}\r\n\r\ndata:two\n\nevent: x\ndata: [DONE]\n\n'
    script = f"(async (...arguments) => {{{EVENTS}}})(...arguments)"
    found = page.driver.execute_async_script(script, text)
    assert found == ['{"a": "é"}', "two", "[DONE]"]
