"""Links from tasks to the page, or to the storage: where they lead, when they are kept, and that they hold no secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_mictlanx.get_provider_info import get_provider_info
from airflow_provider_mictlanx.links import page
from airflow_provider_mictlanx.links.mictlanx import MictlanXLink
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXAwaitBulkOperator,
    MictlanXBulkPutOperator,
    MictlanXCopyOperator,
    MictlanXDeleteBucketOperator,
    MictlanXDeleteOperator,
    MictlanXGetOperator,
    MictlanXGetToFileOperator,
    MictlanXGetToFolderOperator,
    MictlanXListOperator,
    MictlanXPutOperator,
)
from airflow_provider_mictlanx.sensors.mictlanx import (
    BulkCompleteSensor,
    MictlanXBucketUnchangedSensor,
    MictlanXObjectSensor,
)
from tests.support.public_names import OPERATORS, SENSORS
from tests.support.vss import LocalVSS


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Link to the router, as before Airflow 3.2."""
    monkeypatch.setattr(page, "HAS_PAGE", False)


@pytest.fixture
def with_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Link to the page, as since Airflow 3.2, served below a path."""
    monkeypatch.setattr(page, "HAS_PAGE", True)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/airflow/")


class TaskInstance:
    """Takes down what a task keeps as XCom."""

    dag_id, run_id, task_id, map_index, try_number, max_tries = "dag", "run", "task", -1, 1, 0

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.kept[key] = value


def links_of(operator: Any, *, expected: type[Exception] | None = None) -> dict[str, Any]:
    """Run the operator, which may fail as expected, and give what it kept."""
    task_instance = TaskInstance()
    if expected is None:
        operator.execute({"ti": task_instance})
    else:
        with pytest.raises(expected):
            operator.execute({"ti": task_instance})
    return task_instance.kept


def told_by(url: str) -> Any:
    """Ask as a browser does, which brings no token."""
    return httpx.get(url, trust_env=False, verify=False).raise_for_status().json()


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("key", ["plain", "2026/05/año nuevo?.bin"])
def test_object(connected: LocalVSS, bucket_id: str, key: str, tmp_path: Path) -> None:
    put = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key=key, data="four words are here")
    get = MictlanXGetOperator(task_id="get", bucket_id=bucket_id, key=key)
    to_file = MictlanXGetToFileOperator(
        task_id="file", bucket_id=bucket_id, key=key, output_path=tmp_path, filename="f"
    )
    kept = links_of(put)
    assert kept == links_of(get) == links_of(to_file)
    told = told_by(kept["mictlanx_object"])
    assert told["size_bytes"] == 19
    assert {chunk["tags"].get("full_path", chunk["ball_id"]) for chunk in told["chunks"]} == {key}


@pytest.mark.usefixtures("without_page")
def test_of_a_task_that_failed(connected: LocalVSS, bucket_id: str) -> None:
    """It shows what is in the way."""
    MictlanXPutOperator(task_id="first", bucket_id=bucket_id, key="k", data="what is there").execute({})
    put = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="k", data="something else")
    kept = links_of(put, expected=AirflowFailException)
    assert told_by(kept["mictlanx_object"])["size_bytes"] == len("what is there")


@pytest.mark.usefixtures("without_page")
def test_bulk(connected: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    bulk_id = f"bulk of {bucket_id}"
    kept = links_of(MictlanXBulkPutOperator(task_id="put", bulk_id=bulk_id, bucket_id=bucket_id, source=str(tmp_path)))
    awaited = links_of(MictlanXAwaitBulkOperator(task_id="await", bulk_id=bulk_id, deferrable=False, poke_interval=0.1))
    gate = links_of(BulkCompleteSensor(task_id="gate", bulk_id=bulk_id, deferrable=False))
    fetched = links_of(MictlanXGetToFolderOperator(task_id="get", bulk_id=bulk_id, output_path=tmp_path / "copies"))
    assert kept == awaited == gate == fetched
    kinds = {chunk["ball_id"].split("-")[0] for chunk in told_by(kept["mictlanx_bulk"])["balls"]}
    assert kinds >= {"start", "plan", "done"}


@pytest.mark.usefixtures("without_page")
def test_bucket(connected: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="k", data="v").execute({})
    kept = [
        links_of(MictlanXListOperator(task_id="list", bucket_id=bucket_id)),
        links_of(MictlanXGetToFolderOperator(task_id="get", bucket_id=bucket_id, output_path=tmp_path)),
        links_of(MictlanXObjectSensor(task_id="one", bucket_id=bucket_id, key="k", deferrable=False)),
        links_of(MictlanXBucketUnchangedSensor(task_id="quiet", bucket_id=bucket_id, inactivity_period=0)),
        links_of(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, key="nobody")),
    ]
    assert kept == [kept[0]] * len(kept)
    url = kept[0].pop("mictlanx_bucket")
    assert {chunk["ball_id"] for chunk in told_by(url)["balls"]} == {"k"}  # once per replica
    assert links_of(MictlanXDeleteBucketOperator(task_id="empty", bucket_id=bucket_id)) == {"mictlanx_bucket": url}
    assert told_by(url)["balls"] == []


@pytest.mark.usefixtures("without_page")
def test_destination_is_behind_the_other_connection(
    connected: LocalVSS, monkeypatch: pytest.MonkeyPatch, bucket_id: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", f"mictlanx://r@localhost:{connected.port}/?protocol=http")
    MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="k", data="v").execute({})
    copy: dict[str, Any] = {"bucket_id": bucket_id, "key": "k", "dest_bucket_id": f"{bucket_id}-copies"}
    here = links_of(MictlanXCopyOperator(task_id="here", **copy))["mictlanx_destination"]
    there = links_of(MictlanXCopyOperator(task_id="there", dest_conn_id="other", **copy))["mictlanx_destination"]
    assert told_by(here)["bucket_id"] == f"{bucket_id}-copies"
    assert there == here.replace("127.0.0.1", "localhost")


def test_a_sensor_keeps_its_link_before_it_opens_and_once(connected: LocalVSS, bucket_id: str) -> None:
    sensor = MictlanXObjectSensor(task_id="one", bucket_id=bucket_id, key="nobody", poke_interval=0.05, timeout=0.3)
    pushed: list[str] = []
    task_instance = TaskInstance()
    task_instance.xcom_push = lambda key, value: pushed.append(key)  # type: ignore[method-assign]
    with pytest.raises(AirflowSensorTimeout):
        sensor.execute({"ti": task_instance})
    assert pushed == ["mictlanx_bucket"]


def test_sensor_that_fails_keeps_its_link(connected: LocalVSS) -> None:
    sensor = MictlanXObjectSensor(task_id="one", bucket_id="no.safe.id", key="k", deferrable=False)
    assert list(links_of(sensor, expected=AirflowFailException)) == ["mictlanx_bucket"]


@pytest.mark.parametrize("bucket_id", [None, 5])
def test_what_is_no_name_is_told_by_the_task(connected: LocalVSS, bucket_id: Any) -> None:
    listing = MictlanXListOperator(task_id="list", bucket_id=bucket_id)
    assert links_of(listing, expected=AirflowFailException) == {}


def test_operators_and_sensors_have_links_the_provider_lists() -> None:
    listed = {path.rpartition(".")[2] for path in get_provider_info()["extra-links"]}
    ours: list[Any] = [*OPERATORS, *SENSORS]
    for kind in ours:
        links = kind.operator_extra_links
        assert links, kind
        assert {type(link).__name__ for link in links} <= listed
        assert all(isinstance(link, MictlanXLink) for link in links)


@pytest.mark.usefixtures("without_page")
def test_holds_no_token(vss: LocalVSS, connect: Callable[..., None], bucket_id: str) -> None:
    connect(vss, password="s3cr3t", headers={"X-Key": "s3cr3t-too"})
    kept = links_of(MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="k", data="v"))
    assert kept == {"mictlanx_object": f"{vss.api()}/buckets/{bucket_id}/metadata/k/chunks"}


@pytest.mark.usefixtures("with_page")
def test_links_lead_to_the_page_that_selects_their_subject() -> None:
    def query(operator: Any) -> list[tuple[str, dict[str, list[str]]]]:
        urls = [urlsplit(link.build_url(operator) or "") for link in operator.operator_extra_links]
        return [(url.path, parse_qs(url.query)) for url in urls if url.path]

    conn: dict[str, Any] = {"mictlanx_conn_id": "nowhere"}  # no link reads the connection
    at = "/airflow/plugin/mictlanx"
    bulk = (at, {"connection": ["nowhere"], "bulk": ["a b/<c>&d"]})
    bucket = (at, {"connection": ["nowhere"], "bucket": ["frames"]})
    copies = (at, {"connection": ["other"], "bucket": ["copies"]})
    key = "2026/05/año nuevo?&.bin"
    one = {"bucket_id": "frames", "key": key, **conn}
    copy = MictlanXCopyOperator(task_id="copy", dest_bucket_id="copies", dest_conn_id="other", **one)
    to_folder = MictlanXGetToFolderOperator(task_id="get", bulk_id="a b/<c>&d", output_path="copies", **conn)
    assert query(BulkCompleteSensor(task_id="gate", bulk_id="a b/<c>&d", **conn)) == [bulk]
    assert query(to_folder) == [bulk]
    assert query(MictlanXGetOperator(task_id="get", **one)) == [
        (at, {"connection": ["nowhere"], "bucket": ["frames"], "key": [key]})
    ]
    assert query(MictlanXObjectSensor(task_id="one", **one)) == [bucket]
    assert query(copy) == [copies]


@pytest.mark.usefixtures("with_page")
def test_link_to_the_page_is_kept_when_the_task_starts(connected: LocalVSS, bucket_id: str) -> None:
    kept = links_of(MictlanXListOperator(task_id="list", bucket_id=bucket_id))
    url = f"/airflow/plugin/mictlanx?connection=mictlanx_default&bucket={bucket_id}"
    assert kept == {"mictlanx_bucket": url}
