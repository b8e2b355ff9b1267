"""Operators, sensors and the hook meet objects that another client stored under chunk keys of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.batches.runner import BatchError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXDeleteOperator,
    MictlanXGetToFolderOperator,
    MictlanXListOperator,
)
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXBucketUnchangedSensor, MictlanXObjectSensor
from tests.support.operator_runs import run
from tests.support.raw_requests import RawRequests
from tests.support.router_requests import peer_of, put, router_of
from tests.support.sample_bytes import pattern
from tests.support.sensor_modes import MODES, Wait
from tests.support.vss import LocalVSS

FRAMES = {f"video123_{number:03}.jpg": pattern(100, seed=number) for number in range(1, 4)}
HELLO = b"Hello, router!"
KEYS = ["hello-object-router", *FRAMES]


@pytest.fixture
async def official(hook: MictlanXHook, connected: LocalVSS, bucket_id: str) -> LocalVSS:
    """Store frames on a peer and an object through a router, as the official pages do."""
    async with peer_of(connected, 1) as peer:
        for key, data in FRAMES.items():
            await put(peer, bucket_id, "video123", data, key=key, tags={})
    async with router_of(connected) as router:
        await put(router, bucket_id, "bx", HELLO, key="hello-object-router", tags={})
    return connected


def test_list_operator_shows_them(official: LocalVSS, bucket_id: str) -> None:
    listed = run(MictlanXListOperator(task_id="list", bucket_id=bucket_id))
    assert listed == KEYS


def test_folder_has_a_file_for_each(official: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    result = run(MictlanXGetToFolderOperator(task_id="get", bucket_id=bucket_id, output_path=str(tmp_path)))
    assert (result["downloaded"], result["failed"], result["unverified"]) == (4, 0, 0)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files == {"hello-object-router": HELLO, **FRAMES}


def test_folder_counts_what_is_unverified(
    hook: MictlanXHook, connected: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    RawRequests(connected).put(bucket_id, "k", [b"one", b"two"], standard_tags=False)
    hook.put(bucket_id, "tagged", b"bytes")
    result = run(MictlanXGetToFolderOperator(task_id="get", bucket_id=bucket_id, output_path=str(tmp_path)))
    assert (result["downloaded"], result["unverified"]) == (2, 1)
    assert hook.get_metadata(bucket_id, "k")["verified"] is False
    assert hook.get_to_file(bucket_id, "k", str(tmp_path / "one"))["verified"] is False
    assert hook.get_to_file(bucket_id, "tagged", str(tmp_path / "one"))["verified"] is True


def test_prefix_delete_deletes_only_keys_that_begin_with_it(
    official: LocalVSS, hook: MictlanXHook, bucket_id: str
) -> None:
    assert hook.delete_matching(bucket_id, "b")["total"] == 0  # the object's ball id begins with it, not its key
    result = run(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, prefix="video123_"))
    assert (result["deleted"], result["failed"]) == (3, 0)
    assert [ball["key"] for ball in hook.list_balls(bucket_id)] == ["hello-object-router"]


def test_part_of_the_frames_is_not_deleted_with_the_others(
    official: LocalVSS, hook: MictlanXHook, bucket_id: str
) -> None:
    first, second, third = FRAMES
    with pytest.raises(BatchError, match=third):
        hook.delete_keys(bucket_id, [first, second])
    with pytest.raises(BatchError, match=third):
        hook.delete_matching(bucket_id, first)
    assert [ball["key"] for ball in hook.list_balls(bucket_id)] == KEYS
    assert hook.delete_keys(bucket_id, list(FRAMES))["failed"] == 0
    assert hook.delete_keys(bucket_id, ["hello-object-router"])["deleted"] == 1
    assert hook.list_balls(bucket_id) == []


@pytest.mark.parametrize("mode", MODES)
def test_sensors_find_them(official: LocalVSS, bucket_id: str, make_wait: Callable[..., Wait], mode: str) -> None:
    objects: Any = make_wait(mode, MictlanXObjectSensor)
    one = objects(bucket_id=bucket_id, key="hello-object-router")
    assert (one["key"], one["size"], one["verified"]) == ("hello-object-router", len(HELLO), True)
    assert objects(bucket_id=bucket_id, key=list(KEYS))["count"] == 4
    assert objects(bucket_id=bucket_id, prefix="video123_")["count"] == 3
    unchanged: Any = make_wait(mode, MictlanXBucketUnchangedSensor)
    assert unchanged(bucket_id=bucket_id, inactivity_period=0, prefix="video123_")["count"] == 3


def test_bucket_is_copied_with_them(official: LocalVSS, hook: MictlanXHook, bucket_id: str) -> None:
    assert hook.copy_prefix(bucket_id, "", f"{bucket_id}-copy")["copied"] == 4
    assert [ball["key"] for ball in hook.list_balls(f"{bucket_id}-copy")] == KEYS
