"""The example DAGs of objects and of the hook, in processes of their own, against the local VSS."""

from __future__ import annotations

import re
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_mictlanx.log.mictlanx import MictlanXRemoteLogIO
from tests.e2e.system.conftest import FILES, ROOT
from tests.support.dag_runs import balls_in, run_dag, xcoms
from tests.support.vss import LocalVSS


def test_objects_are_copied_listed_read_and_deleted(
    environment: dict[str, str], tmp_path: Path, source: Path, vss: LocalVSS
) -> None:
    target = tmp_path / "copies"
    status, report = run_dag(environment, tmp_path, "example_mictlanx_objects", source=str(source), target=str(target))
    assert Counter(task["state"] for task in report["tasks"]) == {"success": 15 + len(FILES) + 1}, report
    assert (status, report["state"]) == (0, "success")
    (copied,), (listed,), (note,) = (xcoms(report, task) for task in ("copy_all", "list_keys", "get_note"))
    assert (copied["copied"], copied["failed"]) == (len(FILES), 0)
    assert listed == sorted(["out/note.txt", *(f"out/{name}" for name in FILES)])
    assert str(note).startswith("run manual__") or str(note).startswith("run ")
    assert [copy["source_key"] for copy in xcoms(report, "archive_each")] == listed
    (read,), (bulk,) = xcoms(report, "get_archive"), xcoms(report, "get_bulk")
    assert (read["downloaded"], bulk["downloaded"]) == (len(listed), len(FILES))
    assert xcoms(report, "compare") == [{"compared": 2 * len(FILES)}]
    assert (xcoms(report, "delete_keys")[0]["deleted"], xcoms(report, "delete_prefix")[0]["deleted"]) == (
        len(listed),
        len(FILES),
    )
    bucket_id = str(xcoms(report, "name_bucket")[0])
    assert balls_in(vss, bucket_id) == balls_in(vss, f"{bucket_id}-archive") == []
    assert [path for path in target.rglob("*") if path.is_file()] == []


def test_upkeep(environment: dict[str, str], tmp_path: Path, vss: LocalVSS) -> None:
    status, report = run_dag(environment, tmp_path, "example_mictlanx_upkeep")
    assert (status, Counter(task["state"] for task in report["tasks"])) == (0, {"success": 10}), report
    assert xcoms(report, "folders") == [[f"backups/{day}/" for day in ("mon", "thu", "tue", "wed")]]
    assert (xcoms(report, "good")[0]["count"], xcoms(report, "preview")) == (4, [{"old": 2, "rubbish": 0}])
    (old,), (kept,), (swept,) = (xcoms(report, task) for task in ("delete_old", "keep_last", "sweep"))
    assert (old["deleted"], old["kept"], kept["deleted"], kept["kept"], swept["total"]) == (0, 4, 2, 2, 0)
    assert xcoms(report, "forget_bulk")[0]["deleted"] > 0
    bucket_id = str(xcoms(report, "name_bucket")[0])
    assert balls_in(vss, bucket_id) == []


def test_hook_in_tasks_of_ones_own(environment: dict[str, str], tmp_path: Path, vss: LocalVSS) -> None:
    status, report = run_dag(environment, tmp_path, "example_mictlanx_taskflow")
    assert (status, Counter(task["state"] for task in report["tasks"])) == (0, {"success": 8}), report
    (looked,), (bulk,) = xcoms(report, "look"), xcoms(report, "bulk")
    assert looked["readable"] is True
    assert (looked["tomorrow"], looked["kind"]) == (None, "summary")
    assert (looked["both"]["count"], looked["quiet"]["count"]) == (2, 2)
    assert looked["keys"] == ["out/dag.py", "out/summary.json"]
    assert looked["size"] == 12 + (ROOT / "example_dags" / "example_mictlanx_taskflow.py").stat().st_size
    assert xcoms(report, "read") == [2]
    assert xcoms(report, "read_at_once") == [5]
    assert xcoms(report, "give_up") == ["stopped"]
    assert bulk["state"] == "complete"
    assert bulk["gate"] == bulk["result"]
    assert xcoms(report, "tidy") == [0]
    assert balls_in(vss, str(xcoms(report, "name_bucket")[0])) == []


def test_files_are_written_read_and_transferred(environment: dict[str, str], tmp_path: Path, vss: LocalVSS) -> None:
    status, report = run_dag(environment, tmp_path, "example_mictlanx_files")
    assert (status, Counter(task["state"] for task in report["tasks"])) == (0, {"success": 5}), report
    assert (xcoms(report, "read"), xcoms(report, "delete")) == ([7], [0])
    (folder,) = xcoms(report, "name_folder")
    assert balls_in(vss, str(folder).partition("@")[2].partition("/")[0]) == []


def test_folder_and_bucket_are_synced(environment: dict[str, str], tmp_path: Path, vss: LocalVSS) -> None:
    status, report = run_dag(environment, tmp_path, "example_mictlanx_sync")
    assert (status, Counter(task["state"] for task in report["tasks"])) == (0, {"success": 11}), report
    first, preview, second, back, exported = (
        xcoms(report, task)[0] for task in ("publish", "preview", "publish_changes", "restore", "export")
    )
    assert (first["transferred"], back["transferred"], exported["downloaded"]) == (3, 3, 3)
    for result in (preview, second):
        assert result["first_transferred"] == ["index.html", "news/3.html"]
        assert (result["first_deleted"], result["skipped"]) == (["news/1.html"], 1)
    assert xcoms(report, "compare") == [{"equal": True, "copies": 3}]
    assert balls_in(vss, str(xcoms(report, "name_bucket")[0])) == []


@pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", version("apache-airflow"))[:2])) < (3, 2), reason="async tasks are new in 3.2"
)
def test_async_tasks(environment: dict[str, str], tmp_path: Path, vss: LocalVSS) -> None:
    status, report = run_dag(environment, tmp_path, "example_mictlanx_async")
    assert (status, xcoms(report, "store_and_read")) == (0, [50]), report
    [twins] = xcoms(report, "call_every_method")
    assert twins == {
        "read": ["a note", "a note", "dag.py"],
        "routers": 1,
        "there": True,
        "size": len("a note"),
        "keys": ["out/dag.py", "out/note"],
        "balls": 5,
        "both": 2,
        "downloaded": 2,
        "state": "complete",
        "gate": True,
        "left": 0,
    }


def test_old_logs_are_deleted(environment: dict[str, str], tmp_path: Path, vss: LocalVSS, bucket_id: str) -> None:
    file = "dag_id=old/run_id=1/attempt=1.log"
    (log := tmp_path / file).parent.mkdir(parents=True)
    log.write_text("line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", vss.uri)
        remote = MictlanXRemoteLogIO(tmp_path, f"mictlanx://{bucket_id}")
        remote.upload(file, SimpleNamespace(dag_id="old", run_id="1"))
    assert balls_in(vss, remote.run_bucket("old", "1"))
    environment |= {"AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"mictlanx://{bucket_id}"}
    time.sleep(1.1)  # the storage answers with its time in whole seconds
    status, report = run_dag(environment, tmp_path, "example_mictlanx_logs", days=0)
    assert (status, xcoms(report, "delete_old_logs")) == (0, [{"deleted": 1, "kept": 0, "objects": 1}]), report
    assert balls_in(vss, bucket_id) == []
