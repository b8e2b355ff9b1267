"""The DAG of the README under a real scheduler and triggerer, as a user starts it: copied, paths changed, *Trigger*."""

from __future__ import annotations

from pathlib import Path

from scripts.running_airflow import RunningAirflow
from tests.support.airflow_runs import Run
from tests.support.vss import LocalVSS

DAG_ID = "nightly_beside"
FRAMES = 5


def take_frames(data_folder: Path, text: str) -> None:
    """Write the frames anew, under the same names."""
    for number in range(FRAMES):
        frame = data_folder / "frames" / f"frame-{number:03}.jpg"
        frame.parent.mkdir(parents=True, exist_ok=True)
        frame.write_text(f"{text} {number}")


def fetched(data_folder: Path) -> dict[str, str]:
    """Return what each run has read, by its run id."""
    return {file.parent.name: file.read_text() for file in (data_folder / "out").glob("*/frame-000.jpg")}


def test_click_second_run_and_retry(local_airflow: RunningAirflow, vss: LocalVSS, data_folder: Path) -> None:
    data_folder /= "beside"
    take_frames(data_folder, "first")
    clicked = Run(local_airflow, DAG_ID)
    scheduled_id = local_airflow.wait_for(
        "the scheduled run", lambda: next((run for run in local_airflow.runs(DAG_ID) if run != clicked.run_id), ""), 120
    )
    assert scheduled_id.startswith("scheduled__")
    for run in (Run(local_airflow, DAG_ID, scheduled_id), clicked):
        run.finish()
    assert fetched(data_folder) == {scheduled_id: "first 0", clicked.run_id: "first 0"}

    take_frames(data_folder, "other")
    vss.stop()
    try:
        retried = Run(local_airflow, DAG_ID)
        for task_id in ("upload", "ready"):
            local_airflow.wait_for(
                f"a failed try of {task_id}",
                lambda task_id=task_id: (
                    (task := retried.task(task_id))["state"] == "up_for_retry" or task["try_number"] > 1
                ),
                120,
            )
    finally:
        vss.start()
    retried.finish()
    assert min(retried.task(task_id)["try_number"] for task_id in ("upload", "ready")) > 1
    assert fetched(data_folder) == {scheduled_id: "first 0", clicked.run_id: "first 0", retried.run_id: "other 0"}
