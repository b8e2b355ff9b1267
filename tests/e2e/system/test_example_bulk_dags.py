"""The example DAGs of bulks as a whole, in processes of their own, against the local VSS."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.system.conftest import FILES
from tests.support.dag_runs import balls_in, run_dag, xcoms
from tests.support.vss import LocalVSS

SIZE = sum(len(content) for content in FILES.values())


def test_folder_goes_up_is_waited_for_and_cleaned_up(
    environment: dict[str, str],
    tmp_path: Path,
    source: Path,
    vss: LocalVSS,
) -> None:
    vss.reset_requests()
    status, report = run_dag(
        environment, tmp_path, "example_mictlanx_bulk", source=str(source), target=str(tmp_path / "copies")
    )
    assert Counter(task["state"] for task in report["tasks"]) == {"success": 9}, report
    assert (status, report["state"]) == (0, "success")
    (upload,), (ready,), (result,) = (xcoms(report, name) for name in ("upload", "ready", "result"))
    assert (upload["total_balls"], upload["uploaded"], upload["uploaded_size"]) == (len(FILES), len(FILES), SIZE)
    assert (ready["state"], ready["succeeded"], ready["uploaded_size"]) == ("complete", len(FILES), SIZE)
    assert result == ready
    (compared,) = xcoms(report, "compare")
    largest = max(FILES, key=lambda name: len(FILES[name]))
    assert (compared["key"], compared["checksum"]) == (largest, hashlib.sha256(FILES[largest]).hexdigest())
    assert_nothing_is_left(vss, report)
    assert [path for path in (tmp_path / "copies").rglob("*") if path.is_file()] == []


def test_four_mapped_shards(
    environment: dict[str, str],
    tmp_path: Path,
    source: Path,
    vss: LocalVSS,
) -> None:
    vss.reset_requests()
    status, report = run_dag(environment, tmp_path, "example_mictlanx_bulk_mapped", source=str(source))
    assert Counter(task["state"] for task in report["tasks"]) == {"success": 9}, report
    assert (status, report["state"]) == (0, "success")
    uploads = xcoms(report, "upload")
    assert [upload["shard"] for upload in uploads] == [0, 1, 2, 3]
    assert sum(upload["uploaded"] for upload in uploads) == len(FILES)
    assert xcoms(report, "compare") == [{"shards": 4, "files": len(FILES), "size": SIZE}]
    assert_nothing_is_left(vss, report)


def test_failure_breaks_the_gate_and_is_cleaned_up(
    environment: dict[str, str],
    tmp_path: Path,
    vss: LocalVSS,
) -> None:
    vss.reset_requests()
    status, report = run_dag(environment, tmp_path, "example_mictlanx_bulk", source=str(tmp_path / "nowhere"))
    assert (status, report["state"]) == (1, "failed")
    errors = {task["task_id"]: task["error"] for task in report["tasks"] if task["state"] == "failed"}
    assert sorted(errors) == ["ready", "upload"]
    assert "nowhere' failed" in errors["upload"]
    assert "failed permanently" in errors["ready"]
    assert_nothing_is_left(vss, report)


def assert_nothing_is_left(vss: LocalVSS, report: dict[str, Any]) -> None:
    assert balls_in(vss, str(xcoms(report, "name_bucket")[0])) == []
    listed = {seen["path"].split("/")[-2] for seen in vss.requests("GET", r"/buckets/bulk-[^/]+/metadata$")}
    assert len(listed) == 1
    assert balls_in(vss, listed.pop()) == []


@pytest.mark.parametrize("failures", [1, 2])
def test_retry_mends_an_upload_and_the_gate_waits_for_it(
    environment: dict[str, str],
    tmp_path: Path,
    source: Path,
    own_vss: Callable[..., LocalVSS],
    bucket_id: str,
    failures: int,
) -> None:
    """With one retry: one failure is mended, two are not."""
    vss = own_vss(peers=1)
    vss.set_fault("refuse_data", bucket=bucket_id, key="one_0", count=failures)
    (source / "one").write_text("1")
    environment |= {
        "AIRFLOW_CONN_MICTLANX_DEFAULT": vss.uri,
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
    }
    status, report = run_dag(environment, tmp_path, "mended_by_retry", source=str(source), bucket_id=bucket_id)
    states = {task["task_id"]: task["state"] for task in report["tasks"]}
    if failures == 2:
        assert states == {"upload": "failed", "gate": "failed"}, report
        assert "failed permanently: 1 of" in next(
            task["error"] for task in report["tasks"] if task["task_id"] == "gate"
        )
        return
    assert (status, states) == (0, {"upload": "success", "gate": "success"}), report
    ((upload,), (gate,)) = (xcoms(report, name) for name in ("upload", "gate"))
    assert (upload["uploaded"], upload["skipped"]) == (1, len(FILES)), "the retry sends only what is missing"
    assert (gate["state"], gate["succeeded"]) == ("complete", len(FILES) + 1)
