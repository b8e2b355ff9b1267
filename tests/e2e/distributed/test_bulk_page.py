"""
The page *MictlanX* of an Airflow that is served below ``/airflow``, as a person sees it in Chromium.

The links that lead to it at the root are in test_browser.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from scripts.running_airflow import RunningAirflow, free_port
from tests.e2e.distributed.browser import open_page, picture
from tests.e2e.distributed.conftest import Starter
from tests.support import slow_storage as storage
from tests.support.airflow_runs import Run
from tests.support.vss import LocalVSS

REFRESH = 5_000
"""Pause between two looks of the page while a bulk runs (ms)."""
HOSTILE = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
PAGE = "/airflow/plugin/mictlanx"
BRIGHTNESS = """element => {
    const context = document.createElement("canvas").getContext("2d");
    context.fillStyle = getComputedStyle(element).color;
    context.fillRect(0, 0, 1, 1);
    return Math.max(...context.getImageData(0, 0, 1, 1).data.slice(0, 3));
}"""
"""Of an element's text: 0 is black, 255 is white."""


@pytest.fixture(scope="module")
def airflow(start_airflow: Starter, storage: LocalVSS) -> Iterator[RunningAirflow]:
    """An Airflow below a path; its UI asks for no login."""
    environment = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
    with start_airflow(storage, environment, path="/airflow") as running:
        yield running


@pytest.fixture
def page(browser: Browser, airflow: RunningAirflow) -> Iterator[Page]:
    with open_page(browser, airflow) as opened:
        yield opened


def start_bulk(airflow: RunningAirflow, folder: Path, bulk_id: str, bucket_id: str, files: int) -> Run:
    """Upload a folder of files as a bulk with two shards."""
    source = folder / "source"
    source.mkdir()
    for number in range(files):
        (source / f"frame-{number:03}.jpg").write_bytes(os.urandom(200_000 + number))
    return Run(airflow, "watched_bulk", bulk_id=bulk_id, bucket_id=bucket_id, source=str(source))


def card(page: Page, bulk_id: str) -> Locator:
    """Return the part of the page that shows a bulk."""
    return page.get_by_role("region", name="Bulks").get_by_role("listitem").filter(has_text=bulk_id)


def percent(bar: Locator) -> int:
    return int(bar.get_attribute("aria-valuenow") or 0)


def test_bulk_is_watched_from_start_to_end(
    page: Page, airflow: RunningAirflow, vss: LocalVSS, tmp_path: Path, bucket_id: str
) -> None:
    bulk_id = "nightly-2026-11-29"
    slow = storage.slow_down(vss, bucket_id, seconds=2)
    run = start_bulk(airflow, tmp_path, bulk_id, bucket_id, files=40)
    airflow.wait_for("the upload", lambda: {task["state"] for task in run.tasks("upload")} == {"running"}, 180)

    page.goto("/airflow/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="MictlanX").click()
    shown = card(page, bulk_id)
    bar = shown.get_by_role("progressbar", name=re.compile(rf"^{bulk_id}: [\d,]+ of 40 objects$"))
    expect(bar).not_to_have_attribute("aria-valuenow", "0")
    first = percent(bar)
    expect(shown).to_contain_text(re.compile(r"last heard \d+ s ago"))
    expect(shown.get_by_role("link", name=re.compile("watched_bulk › upload"))).to_have_count(2)
    expect(page.get_by_role("status")).to_contain_text("1 running")
    picture(page, "bulk-page", height=620)
    expect(bar).not_to_have_attribute("aria-valuenow", str(first))
    assert 0 < first < percent(bar) <= 100

    # Hidden, the page asks for nothing; seen again, it asks at once.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    set_visibility(page, "hidden")
    page.wait_for_timeout(1000)  # what was under way has come
    asked.clear()
    page.wait_for_timeout(REFRESH + 2000)
    assert asked == []
    assert percent(bar) < 100
    with page.expect_request("**/airflow/mictlanx/bulks", timeout=REFRESH - 1000):
        set_visibility(page, "visible")

    slow.off()
    expect(shown).to_contain_text("complete")
    expect(bar).to_have_attribute("aria-valuenow", "100")
    run.finish()
    expect(page.get_by_role("status")).to_contain_text("Nothing is running")
    page.wait_for_timeout(1000)
    asked.clear()
    page.wait_for_timeout(REFRESH + 2000)
    assert asked == []


def set_visibility(page: Page, state: str) -> None:
    """Let the page believe that its tab is hidden, or visible."""
    page.evaluate(
        """state => {
            Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_router_that_is_down_is_seen(
    browser: Browser, airflow: RunningAirflow, vss: LocalVSS, scheme: str, width: int
) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    extra = f'{{"routers": ["{vss.url(0)}", "{dead}"], "connect_patience": 0}}'
    connection = {"connection_id": f"half-{scheme}", "conn_type": "mictlanx", "extra": extra}
    airflow.request("POST", "/api/v2/connections", connection)
    try:
        with open_page(browser, airflow, color_scheme=scheme, viewport={"width": width, "height": 840}) as page:
            page.goto(PAGE)
            connections = page.get_by_role("region", name="Connections")
            shown = connections.get_by_role("listitem").filter(has_text=f"half-{scheme}")
            expect(shown).to_contain_text("no answer")
            expect(shown).to_contain_text(dead)
            expect(shown).to_contain_text(re.compile(r"\d+ ms"))
            expect(page.get_by_role("status").first).to_contain_text("1 router does not answer")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            text = page.get_by_role("heading", name="MictlanX").evaluate(BRIGHTNESS)
            assert (text < 128) == (scheme == "light")
            picture(page, f"bulk-page-{'narrow' if width < 500 else scheme}", height=840)
    finally:
        airflow.request("DELETE", f"/api/v2/connections/half-{scheme}")


def test_link_leads_to_a_bulk_whose_id_stays_text(
    page: Page, airflow: RunningAirflow, vss: LocalVSS, tmp_path: Path, bucket_id: str
) -> None:
    bulk_id = f"{HOSTILE} {bucket_id}"
    run = start_bulk(airflow, tmp_path, bulk_id, bucket_id, files=3)
    run.finish()
    page.goto(f"/airflow/dags/watched_bulk/runs/{run.run_id}/tasks/ready/details")
    page.get_by_role("link", name="MictlanX bulk").click()
    page.wait_for_url(f"**{PAGE}?**")
    assert parse_qs(urlsplit(page.url).query) == {"connection": ["mictlanx_default"], "bulk": [bulk_id]}
    selected = page.get_by_role("region", name="Selected bulk")
    expect(selected.get_by_text(bulk_id, exact=True)).to_be_visible()
    expect(card(page, bulk_id)).to_contain_text("3 of 3 objects")
    assert page.evaluate("window.hit") is None

    # A task's link stays below the path, and a person looks into the bucket without a mouse.
    selected.get_by_role("link", name=re.compile(r"upload \[1\]")).click()
    page.wait_for_url("**/airflow/dags/watched_bulk/runs/**/tasks/upload/mapped/1")
    page.goto(PAGE)
    page.get_by_role("textbox", name="Bucket").fill(bucket_id)
    page.get_by_label("Keys that begin with").fill("frame-00")
    page.keyboard.press("Enter")
    objects = page.get_by_role("region", name=f"Objects of bucket {bucket_id}")
    expect(objects.get_by_role("row")).to_have_count(4)
    expect(objects.get_by_text("200 KB").first).to_have_attribute("title", "200,000 bytes")
    assert parse_qs(urlsplit(page.url).query)["prefix"] == ["frame-00"]
    picture(page, "bulk-page-bucket", height=460)
