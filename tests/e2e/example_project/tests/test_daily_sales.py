"""Run the DAG against a real storage space."""

import json

import pytest
from daily_sales import dag

from airflow_provider_mictlanx.client.errors import UnavailableError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXCopyOperator, MictlanXListOperator
from airflow_provider_mictlanx.testing import LocalVSS


@pytest.fixture
def orders(tmp_path):
    """Write the orders of a day, and return the run's parameters."""
    file = tmp_path / "orders.csv"
    file.write_text("article,number\nlamp,2\nchair,1\nlamp,3\n")
    return {"orders": str(file)}


def test_report_is_stored(mictlanx_conn, orders):
    run = dag.test(run_conf=orders)
    assert run.state == "success"
    hook = MictlanXHook(mictlanx_conn)
    assert json.loads(hook.get_text("sales", f"{run.run_id}/report.json")) == {"lamp": 5, "chair": 1}


def test_every_run_has_its_own_report(mictlanx_conn, orders):
    runs = [dag.test(run_conf=orders) for _ in range(2)]
    reports = MictlanXHook(mictlanx_conn).list_keys("sales", glob="*/report.json")
    assert sorted(reports) == sorted(f"{run.run_id}/report.json" for run in runs)


def tries(run):
    return {task.task_id: task.try_number for task in run.get_task_instances()}


def test_request_that_a_router_refuses_is_repeated(mictlanx_conn, mictlanx_vss, orders):
    with mictlanx_vss.fault("status", status=503, method="POST", count=1) as refusal:
        run = dag.test(run_conf=orders)
    assert refusal.triggered == 1
    assert tries(run) == {"upload": 1, "report": 1}


def test_retry_succeeds_after_the_router_was_down(mictlanx_conn, mictlanx_vss, orders, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", f"{mictlanx_vss.uri}&connect_patience=0")
    monkeypatch.setattr(dag.get_task("upload"), "on_retry_callback", [lambda context: mictlanx_vss.start()])
    mictlanx_vss.stop()
    run = dag.test(run_conf=orders)
    assert run.state == "success"
    assert tries(run) == {"upload": 2, "report": 1}


def test_run_succeeds_without_one_peer(mictlanx_conn, mictlanx_vss, orders):
    with mictlanx_vss.fault("peer_down", peer="peer-0"):
        run = dag.test(run_conf=orders)
    assert run.state == "success"


def test_listing_is_refused_while_a_peer_is_silent(mictlanx_conn, mictlanx_vss):
    MictlanXHook(mictlanx_conn).put("sales", "note.txt", "12 lamps")
    operator = MictlanXListOperator(task_id="list", bucket_id="sales")
    assert operator.execute({}) == ["note.txt"]
    with mictlanx_vss.fault("peer_silent", peer="peer-0"), pytest.raises(UnavailableError, match="peer-0"):
        operator.execute({})


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Start another storage space, with two routers, behind the connection ``archive``."""
    with LocalVSS(tmp_path / "archive", routers=2) as vss:
        monkeypatch.setenv("AIRFLOW_CONN_ARCHIVE", vss.uri)
        yield "archive"


def test_object_is_copied_to_the_archive(mictlanx_conn, archive):
    MictlanXHook(mictlanx_conn).put("sales", "note.txt", "12 lamps")
    copy = MictlanXCopyOperator(
        task_id="copy", bucket_id="sales", key="note.txt", dest_bucket_id="old-sales", dest_conn_id=archive
    )
    copy.execute({})
    assert MictlanXHook(archive).get_text("old-sales", "note.txt") == "12 lamps"
