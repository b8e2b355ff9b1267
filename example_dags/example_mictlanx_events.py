"""
Start DAGs by objects and by bulks, on Airflow 3: new reports start one DAG, and its bulk starts another.

Put a file whose key ends in `.csv` into the bucket `airflow-example-inbox`. The first DAG stores a summary of every new
report as a bulk; the second one lists what the bulk stored. Unpause both DAGs first. They use the connection
`mictlanx_default`, and delete nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.triggers.events import MictlanXBulkCompleteEventTrigger, MictlanXObjectEventTrigger

INBOX = "airflow-example-inbox"
SUMMARIES = "airflow-example-summaries"
# A watcher does not know of runs, so the bulk has a constant id; every run deletes the records of the one before.
BULK = "airflow-example-summaries"

# [START howto_event_object]
new_reports = Asset(
    "airflow-example-reports",
    uri=f"mictlanx://{INBOX}/",
    watchers=[
        AssetWatcher(
            name="new_reports",
            trigger=MictlanXObjectEventTrigger(bucket_id=INBOX, glob="*.csv", poke_interval=5),
        )
    ],
)
# [END howto_event_object]

# [START howto_event_bulk]
summaries = Asset(
    "airflow-example-summaries",
    uri=f"mictlanx://{SUMMARIES}/",
    watchers=[
        AssetWatcher(name="summaries", trigger=MictlanXBulkCompleteEventTrigger(bulk_id=BULK, poke_interval=5)),
    ],
)
# [END howto_event_bulk]


# [START howto_event_payloads]
def payloads(triggering_asset_events: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
    """Yield the payload of every event that waited for this run, each event once."""
    seen = set()
    for events in triggering_asset_events.values():
        for event in events:
            payload = event.extra["payload"]
            if payload["event_id"] not in seen:
                seen.add(payload["event_id"])
                yield payload


# [END howto_event_payloads]


with DAG(
    dag_id="example_mictlanx_events",
    description="Summarize new objects of a bucket, and store the summaries as a bulk",
    doc_md=__doc__,
    schedule=[new_reports],
    start_date=datetime(2025, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["example", "mictlanx"],
):

    @task
    def summarize(triggering_asset_events: Any = None) -> dict[str, Any]:
        """Store the number of lines of every new report."""
        hook = MictlanXHook()
        hook.delete_bulk(BULK)
        with tempfile.TemporaryDirectory() as folder:
            for payload in payloads(triggering_asset_events):
                lines = hook.get_text(payload["bucket_id"], payload["key"]).count("\n")
                (Path(folder) / f"{payload['event_id']}.txt").write_text(f"{payload['key']}: {lines}")
            return hook.put_bulk(BULK, SUMMARIES, folder)

    summarize()


with DAG(
    dag_id="example_mictlanx_events_bulk",
    description="List what the bulk of example_mictlanx_events stored",
    schedule=[summaries],
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
):

    @task
    def read(triggering_asset_events: Any = None) -> dict[str, str]:
        """Return the summaries by key, once a bulk is complete."""
        hook = MictlanXHook()
        complete = [payload["bulk_id"] for payload in payloads(triggering_asset_events)]
        return {key: hook.get_text(SUMMARIES, key) for key in hook.list_keys(SUMMARIES)} if complete else {}

    read()
