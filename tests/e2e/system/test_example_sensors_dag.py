"""The example DAG of the sensors as a whole, in a process of its own, against the local VSS."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support.dag_runs import balls_in, run_dag, xcoms
from tests.support.vss import LocalVSS


def test_every_way_to_wait(environment: dict[str, str], tmp_path: Path, vss: LocalVSS) -> None:
    status, report = run_dag(environment, tmp_path, "example_mictlanx_sensors")
    assert Counter(task["state"] for task in report["tasks"]) == {"success": 10}, report
    assert (status, report["state"]) == (0, "success")
    (bucket_id,) = xcoms(report, "name_bucket")
    size = len("rows: 12")
    north, south, west = ({"key": f"in/{name}.csv", "size": size} for name in ("north", "south", "west"))
    for task_id, objects in {
        "all_of_them": [north, south],
        "any_of_them": [west],
        "two_by_prefix": [north, south, west],
        "one_by_glob": [north, south, west],
    }.items():
        expected = {"bucket_id": bucket_id, "count": len(objects), "total_size": size * len(objects)}
        assert xcoms(report, task_id) == [{**expected, "objects": objects}]
    (written,) = xcoms(report, "all_written")
    assert (written["prefix"], written["count"], written["total_size"]) == ("in/", 3, 3 * size)
    assert balls_in(vss, str(bucket_id)) == []
