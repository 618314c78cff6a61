"""Chromium without a window, which speaks to this machine alone."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,900",
]


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a fresh profile, whose console and network are recorded."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def errors(driver: webdriver.Chrome) -> list[str]:
    """What the console was told of as an error since it was last asked for."""
    return [each["message"] for each in driver.get_log("browser") if each["level"] == "SEVERE"]


def requested(driver: webdriver.Chrome) -> list[str]:
    """The addresses that were asked for since this was last called, but the browser's own pages."""
    events = [json.loads(each["message"])["message"] for each in driver.get_log("performance")]
    sent = [each for each in events if each["method"] == "Network.requestWillBeSent"]
    urls = [each["params"]["request"]["url"] for each in sent]
    return [url for url in urls if not url.startswith(("chrome:", "chrome-untrusted:", "data:"))]


def show_as(driver: webdriver.Chrome, width: int, height: int, **features: str) -> None:
    """A screen of so many CSS pixels, and media features such as ``prefers_color_scheme``."""
    screen: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1}
    screen["mobile"] = width < 500
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
