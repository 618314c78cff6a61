"""Takes page.png: the page of a model that `hyena serve` serves, after it has continued a prompt.

    python docs/figures/page.py MODEL [--width PIXELS] [--out FILE]

It needs the extra test, and Debian's packages chromium and chromium-driver.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

HERE = Path(__file__).resolve().parent
SCALE = 1.5  # pixels of the picture for each one of the page
SETTINGS = {"temperature": "0.6", "seed": "1"}


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The address of a server of the model, which ends with the context."""
    command = [sys.executable, "-m", "hyena", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if line.startswith("serving at "):
                yield line.split()[-1]
                break
        else:
            sys.exit("".join(lines))
        server.terminate()


def browser(profile: str) -> webdriver.Chrome:
    """Chromium without a window, which speaks to nobody but the server."""
    options = webdriver.ChromeOptions()
    for option in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
        f"--user-data-dir={profile}",
    ):
        options.add_argument(option)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def show(driver: webdriver.Chrome, width: int, height: int) -> None:
    """Lays the page out for a screen of this size."""
    screen = {"width": width, "height": height, "deviceScaleFactor": SCALE, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def continue_text(driver: webdriver.Chrome, prompt: str, tokens: int) -> None:
    """Lets the server write, and chooses the token that surprised it most."""
    for name, value in {"prompt": prompt, "max-tokens": str(tokens), **SETTINGS}.items():
        field = driver.find_element(By.ID, name)
        field.clear()
        field.send_keys(value)
    driver.find_element(By.ID, "start").click()
    picture = driver.find_element(By.ID, "matrix")
    WebDriverWait(driver, 300).until(lambda _: "tokens" in picture.get_attribute("aria-label"))
    driver.execute_script(
        "const surprise = (each) => each.style.getPropertyValue('--surprising');"
        "const inside = [...document.querySelectorAll('.token')].slice(0, 100);"
        "inside.reduce((a, b) => surprise(b) > surprise(a) ? b : a).click();"
    )


def look_into(driver: webdriver.Chrome, layer: int, channel: int) -> None:
    """Draws the filter and the matrix of a channel."""
    field = driver.find_element(By.ID, "channel")
    field.clear()
    field.send_keys(str(channel))
    Select(driver.find_element(By.ID, "layer")).select_by_value(str(layer))
    title = f"layer {layer}, channel {channel},"
    picture = driver.find_element(By.ID, "matrix")
    WebDriverWait(driver, 60).until(lambda _: title in picture.get_attribute("aria-label"))


def take(driver: webdriver.Chrome, width: int, out: Path) -> None:
    """The whole page as a picture of 256 colours."""
    driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    show(driver, width, driver.execute_script("return document.documentElement.scrollHeight"))
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="take a picture of the page of a model")
    parser.add_argument("model", type=Path, help="folder, as hyena serve takes it")
    parser.add_argument("--prompt", default="The people of the United States")
    parser.add_argument("--tokens", type=int, default=400, help="that are written")
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--channel", type=int, default=13)
    parser.add_argument("--width", type=int, default=1180, help="of the page, in pixels")
    parser.add_argument("--out", type=Path, default=HERE / "page.png")
    choice = parser.parse_args()
    with served(choice.model) as address, tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            show(driver, choice.width, 900)
            driver.get(address)
            ready = driver.find_element(By.ID, "filter")
            WebDriverWait(driver, 60).until(lambda _: "lag" in ready.get_attribute("aria-label"))
            continue_text(driver, choice.prompt, choice.tokens)
            look_into(driver, choice.layer, choice.channel)
            take(driver, choice.width, choice.out)
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
