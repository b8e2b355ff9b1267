"""Paths, XCom and task state on MictlanX, by a connection that is in the database only."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.io.operators.file_transfer import FileTransferOperator
from airflow.sdk import DAG, ObjectStoragePath, get_current_context, task

FOLDER = "mictlanx://from_database@{{ params.bucket_id }}/files"
PATHS = [ObjectStoragePath("mictlanx://from_database@any/made/when/the/file/is/parsed")]


@task
def write(folder: str) -> str:
    path = ObjectStoragePath(folder) / "a b" / "ñ.txt.gz"
    with path.open("wt", compression="gzip") as file:
        file.write("written by a task")
    return str(path)


@task
def read(path: str) -> str:
    with ObjectStoragePath(path).open("rt", compression="gzip") as file:
        return str(file.read())


@task
def numbers() -> list[int]:
    return list(range(50_000))


@task
def add(values: list[int]) -> int:
    return sum(values)


@task(retries=1, retry_delay=timedelta(seconds=1))
def remember() -> list[Any]:
    context = get_current_context()
    store = context["task_state_store"]
    if (done := store.get("done")) is None:
        store.set("done", [f"object {number}" for number in range(1000)])
        raise RuntimeError("the first try fails, and leaves its progress")
    return [len(done), context["ti"].try_number]


@task
def mapped(number: int, folder: str) -> int:
    path = ObjectStoragePath(folder) / f"part-{number}.txt"
    path.write_text(str(number))
    return int(path.read_text())


with DAG("files_everywhere", schedule=None, start_date=datetime(2025, 1, 1), catchup=False, params={"bucket_id": ""}):
    path = write(FOLDER)
    read(path)
    add(numbers())
    remember()
    mapped.partial(folder=FOLDER).expand(number=[1, 2, 3])
    FileTransferOperator(task_id="copy", src=path, dst=f"{FOLDER}/copy.gz") << path  # type: ignore[arg-type]
