"""
Airflow's UI in a real browser: the connection form and its test, and a run of the example DAG, as a person sees them.

With ``SCREENSHOTS=folder`` the tests leave pictures there; ``make screenshots`` renews those of the documentation.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from scripts.running_airflow import RunningAirflow, free_port
from tests.e2e.distributed.browser import open_page, picture
from tests.support import slow_storage as storage
from tests.support.vss import LocalVSS

TOKEN = "not-to-be-seen"
TOKEN_SEEN = f"sha256:{hashlib.sha256(f'Bearer {TOKEN}'.encode()).hexdigest()}"
"""What the local VSS's request log shows of it."""


@pytest.fixture
def page(browser: Browser, local_airflow: RunningAirflow) -> Iterator[Page]:
    """A page of the shared Airflow's UI, in English and in UTC."""
    with open_page(browser, local_airflow) as opened:
        yield opened


@pytest.fixture
def conn_id(local_airflow: RunningAirflow) -> Iterator[str]:
    """The id of a connection that is not there before, nor after the test."""
    name = "storage"
    yield name
    local_airflow.request("DELETE", f"/api/v2/connections/{name}")


def unfold(dialog: Locator, section: str) -> None:
    """Open a section of the connection form, which closes the others."""
    dialog.get_by_role("button", name=section, exact=True).click()


def save(dialog: Locator) -> None:
    """Press *Save*, and wait until the form is gone."""
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()


def press_test(page: Page, conn_id: str) -> str:
    """Press *Test* beside a connection, and return the page's message, after earlier messages are gone."""
    page.mouse.move(0, 0)  # a message stays while the mouse is over it, as it is where "Save" was
    expect(page.get_by_role("status").filter(has_text="Connection")).to_have_count(0)
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=conn_id, exact=True))
    row.get_by_role("button", name="Test Connection").click()
    notice = page.get_by_role("status").filter(has_text="Test Connection").last
    expect(notice).to_be_visible()
    return " ".join(notice.inner_text().split())


def tokens_sent(vss: LocalVSS) -> set[str]:
    """Return the authorization headers of a test, as the request log shows them."""
    return {request["headers"]["authorization"] for request in vss.requests(path="/peers$")}


def test_connection_form(page: Page, local_airflow: RunningAirflow, vss: LocalVSS, conn_id: str) -> None:
    # A person opens the form, chooses the type, and finds what it takes to reach a router.
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("[name=connection_id]").fill(conn_id)
    dialog.get_by_role("combobox").click()
    page.keyboard.type("MictlanX")
    page.keyboard.press("Enter")
    for label in ("Router", "Token", "Port"):
        expect(dialog.get_by_text(label, exact=True)).to_be_visible()
    for hidden in ("login", "schema"):
        expect(dialog.locator(f"[name={hidden}]")).to_have_count(0)
    expect(dialog.locator("[name=host]")).to_have_attribute(
        "placeholder", "one router, such as http://host:60666; several go into Routers (Extra Fields)"
    )
    picture(page, "connection-form")

    # Two routers, one per line; the second one's port is the connection's.
    dialog.locator("[name=port]").fill(str(vss.port + 1))
    dialog.locator("[name=password]").fill(TOKEN)
    unfold(dialog, "Extra Fields")
    dialog.locator("[name=element_routers]").click()
    page.keyboard.type(f"http://127.0.0.1:{vss.port}\nhttp://localhost")
    dialog.locator("[name=element_client_id]").fill("a person")
    dialog.locator("[name=connection_id]").focus()
    dialog.locator("[name=connection_id]").scroll_into_view_if_needed()
    picture(page, "connection-routers")
    save(dialog)

    said = press_test(page, conn_id)
    assert said.startswith("Test Connection Successful 2 routers of one storage space with 3 peers. router-0 (")
    for url in (vss.url(0), f"http://localhost:{vss.port + 1}"):
        assert f"({url}): 3 peers available, " in said
    picture(page, "connection-test")
    assert tokens_sent(vss) == {TOKEN_SEEN}

    # Opened again, nothing is lost, and what is secret is not shown. Another value for one field leaves the others.
    page.reload()
    page.get_by_role("row", name=conn_id).get_by_role("button", name="Edit Connection").click()
    expect(dialog.locator("[name=port]")).to_have_value(str(vss.port + 1))
    assert TOKEN not in page.content()
    assert dialog.locator("[name=password]").input_value() != TOKEN
    unfold(dialog, "Extra Fields")
    expect(dialog.locator("[name=element_routers]")).to_have_value(f"http://127.0.0.1:{vss.port}\nhttp://localhost")
    expect(dialog.locator("[name=element_client_id]")).to_have_value("a person")
    expect(dialog.locator("[name=element_verify]")).to_be_checked()
    wrong = free_port()
    dialog.locator("[name=element_routers]").fill(f"http://127.0.0.1:{vss.port}\nhttp://127.0.0.1:{wrong}")
    save(dialog)
    kept = local_airflow.request("GET", f"/api/v2/connections/{conn_id}")
    extra = {name: value for name, value in json.loads(kept["extra"]).items() if value is not None}
    routers = [f"http://127.0.0.1:{vss.port}", f"http://127.0.0.1:{wrong}"]
    assert extra == {"routers": routers, "verify": True, "trust_env": False, "client_id": "a person"}

    # A router that nobody is at.
    vss.reset_requests()
    said = press_test(page, conn_id)
    refused = f"router-1 (http://127.0.0.1:{wrong}): no connection (Connection refused)"
    assert said.startswith(f"Test Connection Failed 1 of 2 routers failed. {refused}; check the address, ")
    assert f"router-0 ({vss.url()}): 3 peers available, " in said
    assert tokens_sent(vss) == {TOKEN_SEEN}
    picture(page, "connection-test-failed")


def test_example_dag_from_the_ui(
    page: Page, local_airflow: RunningAirflow, vss: LocalVSS, tmp_path: Path, conn_id: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    content = os.urandom(300_000)
    (source / "measured.bin").write_bytes(content)
    connection = {
        "connection_id": conn_id,
        "conn_type": "mictlanx",
        "extra": json.dumps({"routers": [vss.url(0), vss.url(1)]}),
    }
    local_airflow.request("POST", "/api/v2/connections", connection)
    dag_id = "example_mictlanx"
    local_airflow.wait_for("the DAG", lambda: dag_id in known_dags(local_airflow), 180)
    kept = storage.put_off_deletes(vss, seconds=25)  # there is time to look at what the DAG has stored

    page.goto(f"/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    for name, value in {"connection": conn_id, "source": str(source), "target": str(tmp_path / "copies")}.items():
        dialog.locator(f"[name=element_{name}]").fill(value)
    dialog.get_by_role("button", name="Trigger", exact=True).click()
    expect(dialog).to_be_hidden()
    run_id = local_airflow.wait_for("the run", lambda: run_of(local_airflow, dag_id, conn_id), 60)
    run = f"/dags/{dag_id}/runs/{run_id}"
    put, get = f"{run}/tasks/store_and_check.put_file/mapped/0", f"{run}/tasks/store_and_check.get_file/mapped/0"

    # While the run is under way: the link leads to the page, which shows the object.
    local_airflow.wait_for(
        "the file to be read back", lambda: "get_file" in done_tasks(local_airflow, dag_id, run_id), 240
    )
    page.goto(f"{get}/details")
    link = page.get_by_role("link", name="MictlanX object")
    expect(link).to_be_visible()
    picture(page, "task-link", height=460)
    link.click()
    page.wait_for_url(f"**/plugin/mictlanx?connection={conn_id}&**")
    shown = page.get_by_role("region", name="Objects of bucket").get_by_role("row").filter(has_text="measured.bin")
    expect(shown).to_contain_text("300 KB")
    expect(shown).to_contain_text(hashlib.sha256(content).hexdigest()[:12])
    kept.off()

    page.goto(run)
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=240_000)
    expect(page.get_by_role("row").filter(has_text="Success")).to_have_count(9)
    picture(page, "grid")

    page.goto(put)
    expect(page.get_by_text("measured.bin: 300 KB in ").first).to_be_visible()
    page.keyboard.press("w")  # long lines are wrapped
    picture(page, "log", height=460)

    page.goto(f"{put}/xcom")
    expect(page.get_by_role("row").filter(has_text="mictlanx_object")).to_contain_text(
        f"/plugin/mictlanx?connection={conn_id}&"
    )
    result = page.get_by_role("row").filter(has_text="return_value")
    expect(result).to_contain_text("measured.bin")
    page.get_by_role("button", name=re.compile("^Expand( all extra JSON)?$")).last.click()
    picture(page, "xcom", height=760)


def test_dag_of_the_readme_runs_on_two_dates(page: Page, local_airflow: RunningAirflow, data_folder: Path) -> None:
    """The first click also starts the scheduled run; before the second one, for another date, the file changes."""
    dag_id = "nightly"
    frame = data_folder / "frames" / "frame-000.jpg"
    frame.parent.mkdir()
    local_airflow.wait_for("the DAG", lambda: dag_id in known_dags(local_airflow), 180)
    expected: dict[str, str] = {}
    for content, date in (("first", ""), ("other", "2026/01/02")):
        frame.write_text(content)
        trigger(page, dag_id, date)
        count = 2 if not date else 3
        local_airflow.wait_for("the runs", lambda count=count: len(local_airflow.runs(dag_id)) == count, 120)
        for run_id in set(local_airflow.runs(dag_id)) - expected.keys():
            assert local_airflow.wait_for_run(dag_id, run_id, 300) == "success"
            expected[run_id] = content
        assert {file.parent.name: file.read_text() for file in data_folder.glob(f"out/*/{frame.name}")} == expected

    page.goto(f"/dags/{dag_id}/runs")
    expect(page.get_by_role("row").filter(has_text="Success")).to_have_count(3)
    page.goto(f"/dags/{dag_id}/runs/{run_id}")
    expect(page.get_by_role("row").filter(has_text="Success")).to_have_count(3)
    picture(page, "nightly", height=560)


def trigger(page: Page, dag_id: str, date: str) -> None:
    """Press *Trigger*, and choose a logical date (``2026/01/02``) if one is given."""
    page.goto(f"/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog").filter(has_text="Trigger Dag")
    if date:
        dialog.get_by_text(re.compile(r"^\w{3} \d+, \d{4} \d\d:\d\d$")).click()
        page.get_by_placeholder("YYYY/MM/DD").fill(date)
        page.get_by_placeholder("YYYY/MM/DD").press("Escape")
    dialog.get_by_role("button", name="Trigger", exact=True).click()
    expect(dialog).to_be_hidden()


def known_dags(airflow: RunningAirflow) -> set[str]:
    return {dag["dag_id"] for dag in airflow.request("GET", "/api/v2/dags?limit=1000")["dags"]}


def done_tasks(airflow: RunningAirflow, dag_id: str, run_id: str) -> set[str]:
    """Return the names, without their groups, of the tasks that succeeded."""
    tasks = airflow.task_instances(dag_id, run_id)
    return {task["task_id"].rpartition(".")[2] for task in tasks if task["state"] == "success"}


def run_of(airflow: RunningAirflow, dag_id: str, conn_id: str) -> str | None:
    """Return the id of the run that was triggered with this connection."""
    runs: list[dict[str, Any]] = airflow.request("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=1000")["dag_runs"]
    return next((run["dag_run_id"] for run in runs if run["conf"].get("connection") == conn_id), None)
