"""Metrics of the hook's calls, as a real statsd server receives them."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.statsd_server import report_to

Heard = Callable[[], dict[str, float]]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """Return the sums of what came since the last call, by name and unit: ``{"put.bytes|c": 3}``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.05)
        with report_to(server.getsockname()[1], monkeypatch):
            yield lambda: _received(server)


def _received(server: socket.socket) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    while True:
        try:
            packet = server.recv(65536).decode()
        except TimeoutError:
            return dict(sums)
        for line in packet.splitlines():
            name, _, value = line.partition(":")
            number, _, unit = value.partition("|")
            if "mictlanx." in name:
                sums[f"{name.partition('mictlanx.')[2]}|{unit}"] += float(number)


def counts(heard: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return objects and bytes by operation; every operation also has taken time."""
    operations = {name.partition(".")[0] for name in heard}
    assert all(heard[f"{operation}.seconds|ms"] > 0 for operation in operations)
    return {operation: (heard[f"{operation}.objects|c"], heard[f"{operation}.bytes|c"]) for operation in operations}


def test_every_kind_of_call_is_counted(hook: MictlanXHook, bucket_id: str, heard: Heard, folder: Path) -> None:
    file, copies = folder / "b", f"{bucket_id}-copies"
    calls: list[tuple[Callable[[], object], str, tuple[float, float]]] = [
        (lambda: hook.put(bucket_id, "x/a", b"123"), "put", (1, 3)),
        (lambda: hook.put(bucket_id, "x/a", b"123"), "put", (0, 0)),  # stored already
        (lambda: hook.put_file(bucket_id, "x/b", file), "put", (1, 2)),
        (lambda: hook.put_bulk(f"run-{bucket_id}", bucket_id, [str(folder)], key_prefix="y/"), "put", (3, 6)),
        (lambda: hook.get(bucket_id, "x/a"), "get", (1, 3)),
        (lambda: hook.get_text(bucket_id, "x/a"), "get", (1, 3)),
        (lambda: hook.get_to_file(bucket_id, "x/a", folder / "out"), "get", (1, 3)),
        (lambda: hook.get_to_file(bucket_id, "x/a", folder / "out"), "get", (0, 0)),
        (lambda: hook.get_to_folder(folder / "all", bucket_id, prefix="x/"), "get", (2, 5)),
        (lambda: hook.copy(bucket_id, "x/a", copies), "copy", (1, 3)),
        (lambda: hook.copy_prefix(bucket_id, "x/", copies), "copy", (1, 2)),
        (lambda: hook.delete(bucket_id, "x/a"), "delete", (1, 0)),
        (lambda: hook.delete(bucket_id, "x/a"), "delete", (0, 0)),
        (lambda: hook.delete_keys(bucket_id, ["x/a", "y/a"]), "delete", (1, 0)),
        (lambda: hook.delete_matching(bucket_id, "y/"), "delete", (2, 5)),
        (lambda: hook.delete_bucket(copies), "delete", (2, 0)),
    ]
    for call, operation, expected in calls:
        call()
        assert counts(heard()) == {operation: expected}
    assert hook.delete_matching(bucket_id, "x/", dry_run=True)["deleted"] == 1
    assert hook.list_keys(bucket_id) == ["x/b"]
    with pytest.raises(MictlanXError):
        hook.get(bucket_id, "nothing")
    assert heard() == {}


def test_metrics_can_be_switched_off(
    hook: MictlanXHook, bucket_id: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MICTLANX__METRICS", "False")
    hook.put(bucket_id, "a", b"1")
    assert heard() == {}
