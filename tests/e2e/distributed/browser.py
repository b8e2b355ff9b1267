"""Chromium for the tests of Airflow's UI, and the pictures that it takes for the documentation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FloatRect, Page, expect, sync_playwright

from scripts.running_airflow import RunningAirflow

PATIENCE = 90_000
"""How long the page may take for anything, on a machine that does other things too (ms)."""
WIDTH, HEIGHT = 1280, 840


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a headless Chromium; without its sandbox, which it does not start as root."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium is missing; on Debian: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def open_page(browser: Browser, airflow: RunningAirflow, **options: Any) -> Iterator[Page]:
    """Open a page of an Airflow's UI, in English and in UTC."""
    expect.set_options(timeout=PATIENCE)
    settings = {"viewport": {"width": WIDTH, "height": HEIGHT}, "locale": "en-US", "timezone_id": "UTC"}
    context = browser.new_context(base_url=airflow.url, **settings | options)
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def picture(page: Page, name: str, *, height: int = HEIGHT) -> None:
    """Keep the upper part of what the page shows, where somebody asked for pictures."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.mouse.move(0, 0)  # so that no tooltip is in the way
        page.wait_for_timeout(700)  # and what fades in is there
        width = page.viewport_size["width"] if page.viewport_size else WIDTH
        page.screenshot(path=Path(folder, f"{name}.png"), clip=FloatRect(x=0, y=0, width=width, height=height))
