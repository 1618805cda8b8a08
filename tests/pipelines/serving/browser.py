"""A real Chromium for tests of the page, and common actions in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser: install chromium and chromium-driver to test the page"
)


def start_browser(microphone: Path, downloads: Path) -> Any:
    """Start a browser whose microphone plays a file in a loop."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=900,1100",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    driver.set_script_timeout(30)
    return driver


def until(check: Callable[[], Any], timeout: float = 40) -> Any:
    """Wait until `check` returns a true value, and return it."""
    deadline = time.monotonic() + timeout
    while not (result := check()):
        assert time.monotonic() < deadline, f"the condition does not hold after {timeout:g} s"
        time.sleep(0.05)
    return result


def words(driver: Any) -> list[str]:
    """The words shown on the page."""
    shown: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('.word')].map((word) => word.textContent)"
    )
    return shown


def upload(driver: Any, folder: Path, audio: bytes) -> None:
    """Choose a file on the page."""
    path = folder / "talk.wav"
    path.write_bytes(audio)
    driver.find_element("id", "file").send_keys(str(path))
