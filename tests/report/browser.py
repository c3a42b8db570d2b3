"""A headless Chromium or Chrome for tests, where there is one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def open_browser(folder: str):
    """A selenium driver with a fresh profile in `folder`; skips the test where none can be had.

    Both programs have to be there already: selenium would download what it misses.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "Chromium or Chrome" if browser is None else "chromedriver"
        pytest.skip(f"no {missing} on the PATH; Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver, env={**os.environ, "HOME": folder})
    return webdriver.Chrome(options=options, service=service)


def show(driver, width: int, height: int = 900, dark: bool = False) -> None:
    """A screen of so many pixels, and whether its user likes it dark."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


AXE = Path("node_modules/axe-core/axe.min.js")


def serious_violations(driver) -> list[str]:
    """What axe-core finds wrong on the page that hinders readers seriously or worse.

    Its npm package is looked for where `.ci/run` puts it, in the folder and above; without it the
    test is skipped.
    """
    root = Path(__file__).parents[2]
    files = [root / "build/axe" / AXE, *(folder / AXE for folder in (root, *root.parents))]
    script = next((file for file in files if file.is_file()), None)
    if script is None:
        pytest.skip("no axe-core; npm install --prefix build/axe --no-save axe-core")
    driver.execute_script(script.read_text(encoding="utf-8"))
    driver.set_script_timeout(60)
    found = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [
        f"{problem['id']}: {problem['help']}; {node['html'][:200]}"
        for problem in found["violations"]
        if problem["impact"] in ("serious", "critical")
        for node in problem["nodes"][:3]
    ]
