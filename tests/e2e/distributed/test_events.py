"""Objects start DAGs under a real triggerer, which is killed and stopped meanwhile; its states are in MictlanX."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import psutil
import pytest

import tests.support.airflow_home  # noqa: F401
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from scripts.running_airflow import RunningAirflow, end
from tests.e2e.distributed.conftest import STATES
from tests.e2e.distributed.dags.events import DAGS, MANY, PAIR, RESTARTS, WATCHERS
from tests.support.slow_storage import balls_in
from tests.support.vss import LocalVSS

KILLS = 5
PUTS = 200
SILENT = 60
CHAIN = ("example_mictlanx_events", "example_mictlanx_events_bulk")


class Watched:
    """The watched buckets, and the events of the assets."""

    def __init__(self, airflow: RunningAirflow, vss: LocalVSS) -> None:
        self.airflow = airflow
        self.vss = vss
        self.hook = MictlanXHook()

    def pause(self, dag_ids: Sequence[str], paused: bool) -> None:
        """Pause or unpause DAGs, and have their files parsed at once: only that starts and ends their watchers."""
        files = set()
        for dag_id in dag_ids:
            self.airflow.wait_for(dag_id, lambda dag_id=dag_id: self.airflow._knows(dag_id), 120)
            files.add(self.airflow.request("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})["file_token"])
        for file in files:
            self.airflow.request("PUT", f"/api/v2/parseDagFile/{file}")

    def start(self) -> None:
        self.pause([*DAGS, *CHAIN], False)
        self.wait_for_states(*PAIR, *WATCHERS, "airflow-example-reports", "airflow-example-summaries")

    def stop(self) -> None:
        """End the watchers, so that other tests do not see their requests."""
        self.pause([*DAGS, *CHAIN], True)
        query = "SELECT count(*) FROM trigger WHERE classpath LIKE '%.triggers.events.%'"
        self.airflow.wait_for("the end of the watchers", lambda: self.query(query) == [0], 120)
        self.airflow.wait_for("the last poll", self._is_quiet, 120)  # the triggerer hears of the end a little later

    def _is_quiet(self) -> bool:
        """Return whether nobody asks the storage for longer than watchers pause."""
        last = self.vss.requests()[-1:]
        time.sleep(6)
        return self.vss.requests()[-1:] == last

    def query(self, query: str, *arguments: str) -> list[Any]:
        """Read the database: Airflow's API for events fails while a run of an event is queued (3.3.2)."""
        with closing(sqlite3.connect(self.airflow.home / "airflow.db", timeout=60)) as database:
            return [value for (value,) in database.execute(query, arguments)]

    def wait_for_states(self, *assets: str) -> None:
        """Wait until the watchers of assets have stored what they found first."""
        query = "SELECT a.name FROM asset_state_store s JOIN asset a ON a.id = s.asset_id"
        self.airflow.wait_for("the first states", lambda: set(assets) <= set(self.query(query)), 120)

    def payloads(self, asset: str) -> list[dict[str, Any]]:
        query = "SELECT e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE a.name = ? ORDER BY e.id"
        return [json.loads(extra)["payload"] for extra in self.query(query, asset)]

    def changes(self, key: str, asset: str = PAIR[0]) -> list[str]:
        return [payload["change"] for payload in self.payloads(asset) if payload["key"] == key]

    def wait_for_keys(self, keys: set[str], asset: str) -> None:
        self.airflow.wait_for(f"events of {asset}", lambda: keys <= {p["key"] for p in self.payloads(asset)}, 120)

    def listings(self, bucket_id: str) -> list[float]:
        return [request["at"] for request in self.vss.requests("GET", f"/buckets/{bucket_id}/metadata$")]

    def wait_for_listing(self) -> None:
        before = len(self.listings(RESTARTS))
        self.airflow.wait_for("a listing", lambda: len(self.listings(RESTARTS)) > before, 120)

    def warn_if_blocked(self) -> None:
        """Warn if the event loop was blocked: on a busy machine it may be, whatever runs in it."""
        lines = self.airflow.log_of("triggerer").read_text(errors="replace").splitlines()
        if blocked := [line for line in lines if "async thread was blocked" in line]:
            warnings.warn("\n".join(["the event loop of the triggerer was blocked:", *blocked]), stacklevel=2)

    def terminate_triggerer(self) -> None:
        """Stop the triggerer as a deployment does."""
        guardian = self.airflow.processes.pop("triggerer")
        (triggerer,) = psutil.Process(guardian.pid).children()
        triggerer.terminate()
        triggerer.wait(60)
        end(guardian)


@pytest.fixture(scope="module")
def watched(local_airflow: RunningAirflow, storage: LocalVSS) -> Iterator[Watched]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", storage.uri)
        storage.reset_requests()
        watching = Watched(local_airflow, storage)
        watching.hook.put(RESTARTS, "old", "1")
        watching.hook.put(MANY, "other", "1")
        watching.start()
        yield watching
        watching.stop()
        watching.warn_if_blocked()
        storage.clear_faults()


def test_fifty_watchers_share_one_listing_per_poll(watched: Watched) -> None:
    assert len(balls_in(watched.vss, STATES)) >= len(PAIR) + len(WATCHERS), "the states are in MictlanX"
    for name in WATCHERS:
        watched.hook.put(MANY, f"{name}/a", "1")
    for name in WATCHERS:
        watched.wait_for_keys({f"{name}/a"}, name)
    watched.vss.reset_requests()
    time.sleep(8)
    listings = watched.listings(MANY)
    assert 3 <= len(listings) <= 9, "one in each second at most"
    assert all([p["change"] for p in watched.payloads(name)] == ["new"] for name in WATCHERS)


def test_only_other_bytes_are_events(watched: Watched) -> None:
    hook = watched.hook
    for key in ("replaced", "deleted", "same", "copied"):
        hook.put(RESTARTS, key, "1")
    for asset in PAIR:
        watched.wait_for_keys({"replaced", "deleted", "same", "copied"}, asset)
    hook.delete(RESTARTS, "deleted")
    for _ in range(2):
        watched.wait_for_listing()
    hook.put(RESTARTS, "deleted", "1")
    hook.put(RESTARTS, "replaced", "2", replace=True)
    hook.put(RESTARTS, "same", "1")
    hook.put(RESTARTS, "copied", "1", rf=3)
    hook.put(RESTARTS, "last", "1")
    for asset in PAIR:
        watched.wait_for_keys({"last"}, asset)
        # A poll may have seen the gap in the middle of the replace.
        assert watched.changes("replaced", asset) in (["new", "changed"], ["new", "new"])
        assert watched.changes("deleted", asset) == ["new", "new"]
        assert watched.changes("same", asset) == watched.changes("copied", asset) == ["new"]
        assert watched.changes("old", asset) == []


def test_killed_triggerer_loses_no_event(watched: Watched) -> None:
    keys = {f"killed/{number}" for number in range(PUTS)}
    at = iter(sorted(keys))
    done = threading.Event()

    def put(count: int) -> None:
        for _, key in zip(range(count), at, strict=False):
            watched.hook.put(RESTARTS, key, key)
        done.set()

    for _ in range(KILLS):
        done.clear()
        putting = threading.Thread(target=put, args=(PUTS // KILLS,))
        putting.start()
        time.sleep(1.5)
        watched.airflow.kill("triggerer")
        watched.airflow.start("triggerer")
        putting.join()
        watched.wait_for_listing()
    check_events(watched, keys)


def check_events(watched: Watched, keys: set[str]) -> None:
    """Check that every key has an event, and that repeated events have the same id."""
    for asset in PAIR:
        watched.wait_for_keys(keys, asset)
        found = Counter((p["key"], p["event_id"]) for p in watched.payloads(asset) if p["key"] in keys)
        assert {key for key, _ in found} == keys
        assert len(found) == len(keys), "one id for each"


def test_terminated_triggerer_and_silent_peer(watched: Watched) -> None:
    """A peer is silent for a minute, in which the triggerer is stopped and another one starts."""
    keys = {f"terminated/{number}" for number in range(20)}
    for key in keys:
        watched.hook.put(RESTARTS, key, key)
    stopped = time.monotonic()
    watched.terminate_triggerer()
    assert time.monotonic() - stopped < 30
    before = {p["event_id"] for p in watched.payloads(PAIR[0])}

    def invented() -> set[str]:
        return {p["key"] for p in watched.payloads(PAIR[0]) if p["event_id"] not in before} - keys

    with watched.vss.fault("peer_silent", peer="peer-1"):
        watched.airflow.start("triggerer")
        time.sleep(SILENT)
    assert invented() == set()
    watched.hook.put(RESTARTS, "terminated/last", "1")
    check_events(watched, keys | {"terminated/last"})
    assert invented() == {"terminated/last"}


def test_object_starts_a_dag_and_its_bulk_another(watched: Watched) -> None:
    def read() -> set[str]:
        values: set[str] = set()
        for run_id in watched.airflow.runs(CHAIN[1]):
            if watched.airflow.state_of(CHAIN[1], run_id) == "success":
                values |= set(watched.airflow.xcom(CHAIN[1], run_id, "read").values())
        return values

    watched.hook.put("airflow-example-inbox", "c.txt", "x\n")
    # One by one: an event that Airflow (3.3.2) stores while it creates a run may wait for the next event.
    for number, key in enumerate(("a.csv", "b.csv"), start=1):
        watched.hook.put("airflow-example-inbox", key, "x\n" * 3)
        watched.airflow.wait_for("the second DAG", lambda number=number: len(read()) == number, 120)
    assert read() == {"a.csv: 3", "b.csv: 3"}
