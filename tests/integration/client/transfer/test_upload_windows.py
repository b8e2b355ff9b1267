"""Bulks whose balls are announced in windows: requests, disturbances, and other writers, of whom a listing may say nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, BallConflictError, UnavailableError
from airflow_provider_mictlanx.client.background_bulks import BulkPutResponse
from airflow_provider_mictlanx.client.transfer import chunk_upload, listing, upload, upload_window
from tests.support.bulk_uploads import make_files
from tests.support.bulk_uploads import upload as bulk_upload
from tests.support.clients import checked_client, client_of
from tests.support.intercepting_router import Asked, InterceptingRouter, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import pattern, sha256
from tests.support.vss import LocalVSS

BALLS = 40
NAMES = [f"b{number:03}" for number in range(BALLS)]
RIVAL = pattern(150, seed=999)

PassOn = Callable[[Asked], Awaitable[Reply]]


@pytest.fixture(autouse=True)
def _short_waits(no_retry_waits: None, no_window_ends_by_time: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 0.2)
    monkeypatch.setattr(listing, "PEER_CHECK_TIMEOUT", 2.0)


def content(name: str, seed: int = 0) -> bytes:
    return pattern(100, seed=int(name[1:]) + 1000 * seed)


async def put_bulk(
    client: AsyncClient, bucket_id: str, names: list[str] = NAMES, seed: int = 0, **options: Any
) -> BulkPutResponse:
    stop = {"stop_on_failure": options.pop("stop_on_failure", False)}
    at_once = options.pop("max_concurrency", 4)
    balls: list[Any] = [
        {"bucket_id": bucket_id, "key": name, "source": content(name, seed), **options} for name in names
    ]
    (await client.put_bulk("bulk", balls, max_concurrency=at_once, **stop)).unwrap()
    response: BulkPutResponse = (await client.await_bulk("bulk", remove_on_completion=True)).unwrap()
    return response


def failures(response: BulkPutResponse) -> dict[str, type[Exception]]:
    return {failed["item"]["key"]: type(failed["error"]) for failed in response["failures"]}


def check_stored(vss: LocalVSS, bucket_id: str, but: tuple[str, ...] = (), seed: int = 0) -> None:
    """Fail unless every ball is there with its bytes, and nothing is announced beside it."""
    wire = RawRequests(vss)
    for name in NAMES:
        if name not in but:
            assert wire.peers_with(bucket_id, f"{name}_0", content(name, seed)), name
            assert len(wire.listed(bucket_id, name)) == 1, name


class Steps:
    """
    The requests of a bulk, in front of a VSS: ``listings`` of the bucket, and what is done to the replies.

    :ivar before: is called with the number of a bucket's listing before it is passed on
    :ivar change: changes the rows of a listing
    """

    def __init__(self, vss: LocalVSS, bucket_id: str) -> None:
        self.wire = RawRequests(vss)
        self.bucket_id = bucket_id
        self.listings = 0
        self.before: Callable[[int], None] = lambda number: None
        self.change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: rows
        self.at: Callable[[Asked], None] = lambda asked: None

    async def __call__(self, asked: Asked, pass_on: PassOn) -> Reply | None:
        await asyncio.to_thread(self.at, asked)
        if asked.method == "GET" and asked.path.endswith(f"/buckets/{self.bucket_id}/metadata"):
            self.listings += 1
            await asyncio.to_thread(self.before, self.listings)
            reply = await pass_on(asked)
            told = reply.json()
            reply.body = json.dumps({**told, "balls": self.change(told["balls"])}).encode()
            return reply
        return None


def listed_alone(router: InterceptingRouter) -> set[str]:
    """Return the balls that were listed by themselves."""
    return {asked.path.split("/")[-2] for asked in router.seen("GET", "/chunks")}


def sent(router: InterceptingRouter) -> list[bytes]:
    return [asked.body for asked in router.seen("POST", "/buckets/data/")]


# -- undisturbed ---------------------------------------------------------------------------------------------------------


async def test_one_listing_confirms_a_window(vss: LocalVSS, bucket_id: str) -> None:
    async def handler(asked: Asked, pass_on: PassOn) -> None:
        return None

    async with intercepting(handler, vss) as router, AsyncClient(router.uri, "tests") as client:
        response = await put_bulk(client, bucket_id)
        assert (response["successed"], response["failed"]) == (BALLS, 0)
        kinds = [
            "list bucket"
            if asked.path.endswith(f"{bucket_id}/metadata") and asked.method == "GET"
            else "announce"
            if asked.path.endswith(f"{bucket_id}/metadata")
            else "peers"
            if asked.path.endswith("/peers")
            else "send"
            if "/data/" in asked.path
            else "look"
            for asked in router.asked
        ]
        assert Counter(kinds) == {"list bucket": 2, "peers": 2, "look": BALLS, "announce": BALLS, "send": BALLS}
        order = [kind for kind in kinds if kind in ("list bucket", "announce", "send")]
        assert order == ["list bucket", *["announce"] * BALLS, "list bucket", *["send"] * BALLS]
        for name in NAMES:  # the look is directly before the announcement
            look = next(at for at, asked in enumerate(router.asked) if asked.path.endswith(f"{name}_0"))
            between = router.asked[look + 1 :]
            announced = next(
                at for at, asked in enumerate(between) if json.loads(asked.body or b"{}").get("ball_id") == name
            )
            assert announced < 8
    check_stored(vss, bucket_id)


async def test_windows_grow(vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 5)
    steps = Steps(vss, bucket_id)
    sizes: list[int] = []
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        steps.before = lambda number: sizes.append(len(router.seen("POST", f"{bucket_id}/metadata")))
        await put_bulk(client, bucket_id)
    assert sizes == [0, 5, 15, 40]  # the rest of 25 is at most 1.5 times as many as 20
    check_stored(vss, bucket_id)


async def test_bytes_limit_a_window(vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 1)
    monkeypatch.setattr(upload_window, "BYTES_PER_BALL", 50)
    steps = Steps(vss, bucket_id)
    sizes: list[int] = []
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        steps.before = lambda number: sizes.append(len(router.seen("POST", f"{bucket_id}/metadata")))
        await put_bulk(client, bucket_id, max_concurrency=10)
    assert sizes == [0, 1, 2, 4, 8, 16, 32, 40]  # 50 bytes, which one ball exceeds, then 100, 200, 400, 800, 1,600
    check_stored(vss, bucket_id)


async def test_few_balls_are_put_one_by_one(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        vss.reset_requests()
        await put_bulk(client, bucket_id, NAMES[: upload_window.FEWEST_BALLS])
        assert vss.requests("GET", f"{bucket_id}/metadata$") == []


async def test_large_bucket_is_not_listed(vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with checked_client(vss) as client:
        for number in range(4):
            (await client.put(bucket_id, f"other-{number}", b"x", tags={"t": "x" * 20_000})).unwrap()
        monkeypatch.setattr(listing, "ROW_SIZE", 1)
        vss.reset_requests()
        assert (await put_bulk(client, bucket_id))["failed"] == 0
        assert len(vss.requests("GET", f"{bucket_id}/metadata$")) == 1
        assert len(vss.requests("GET", f"{bucket_id}/metadata/.*/chunks$")) == BALLS


async def test_bucket_with_many_rows_has_no_windows(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listing is short enough to be read once, and too long to be read for each window."""
    monkeypatch.setattr(upload_window, "ROWS_PER_BALL", 1)
    monkeypatch.setattr(listing, "ROW_SIZE", 500_000)
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 8)
    monkeypatch.setattr(upload_window, "LARGEST_WINDOW", 16)
    async with checked_client(vss) as client:
        await put_bulk(client, bucket_id)
        vss.reset_requests()
        assert (await put_bulk(client, bucket_id, [f"c{number:03}" for number in range(50)]))["failed"] == 0
        assert len(vss.requests("GET", f"{bucket_id}/metadata$")) == 1
        assert len(vss.requests("GET", f"{bucket_id}/metadata/.*/chunks$")) == 50


async def test_balls_of_several_chunks_and_empty_ones_are_put_by_themselves(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        names = NAMES[:20]
        balls: list[Any] = [{"bucket_id": bucket_id, "key": name, "source": content(name)} for name in names]
        balls.insert(3, {"bucket_id": bucket_id, "key": "large", "source": pattern(5000), "chunk_size": "1kb"})
        balls.insert(9, {"bucket_id": bucket_id, "key": "empty", "source": b""})
        (await client.put_bulk("bulk", balls)).unwrap()
        assert (await client.await_bulk("bulk")).unwrap()["failed"] == 0
        assert bytes((await client.get(bucket_id, "large")).unwrap().data) == pattern(5000)
        assert (await client.get(bucket_id, "empty")).unwrap().data == b""


async def test_balls_added_later_and_in_several_buckets(vss: LocalVSS, bucket_id: str) -> None:
    other = f"{bucket_id}-2"
    async with checked_client(vss) as client:
        for bucket, names in ((bucket_id, NAMES[:20]), (other, NAMES[:20]), (bucket_id, NAMES[20:])):
            balls: list[Any] = [{"bucket_id": bucket, "key": name, "source": content(name)} for name in names]
            (await client.put_bulk("bulk", balls)).unwrap()
            await asyncio.sleep(0.05)
        response = (await client.await_bulk("bulk")).unwrap()
        assert (response["failed"], response["total_balls"]) == (0, 60)
    check_stored(vss, bucket_id)


# -- balls that are there already ----------------------------------------------------------------------------------------


async def test_stored_balls_and_conflicts_are_found(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, NAMES[3], [content(NAMES[3])])
    wire.put(bucket_id, NAMES[5], [RIVAL])
    async with checked_client(vss) as client:
        vss.reset_requests()
        response = await put_bulk(client, bucket_id)
        assert failures(response) == {NAMES[5]: BallConflictError}
        assert len(vss.requests("POST", "/data/")) == BALLS - 2
    check_stored(vss, bucket_id, but=(NAMES[5],))


async def test_copy_without_placement_is_a_conflict(vss: LocalVSS, bucket_id: str) -> None:
    """A look does not find it, and an announcement on an earlier peer would hide it: the first listing shows it."""
    wire = RawRequests(vss)
    [holder] = wire.put(bucket_id, NAMES[5], [RIVAL])[0]
    with vss.fault("peer_down", peer=holder):
        wire.delete_chunk(bucket_id, f"{NAMES[5]}_0")
    steps = Steps(vss, bucket_id)
    hide = {"rows": False}

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        own = [row for row in rows if row["checksum"] != sha256(RIVAL)]
        return own if hide["rows"] else rows

    def before(number: int) -> None:
        hide["rows"] = number > 1

    steps.before, steps.change = before, change
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        response = await put_bulk(client, bucket_id)
        assert failures(response) == {NAMES[5]: BallConflictError}
        assert content(NAMES[5]) not in sent(router)
    check_stored(vss, bucket_id, but=(NAMES[5],))


async def test_announcements_of_a_dead_bulk_wait_once(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that died left announcements; the grace time begins with the listing that shows all of them."""
    monkeypatch.setattr(chunk_upload, "GRACE", 5.0)
    wire = RawRequests(vss)
    for name in NAMES:
        wire.announce(bucket_id, name, 0, content(name), content(name), 1)
    async with checked_client(vss) as client:
        began = asyncio.get_running_loop().time()
        assert (await put_bulk(client, bucket_id, max_concurrency=4))["failed"] == 0
        took = asyncio.get_running_loop().time() - began
    assert 5.0 < took < 5.0 * BALLS / 4
    check_stored(vss, bucket_id)


# -- disturbances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
async def test_failed_announcement_ends_the_window(
    own_vss: Callable[..., LocalVSS], bucket_id: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vss = own_vss()
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 20)
    steps = Steps(vss, bucket_id)
    sizes: list[int] = []
    done: list[bool] = []
    kind = {"before": ("status", {"status": 503}), "after": ("reset", {"when": "after"})}[when]
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:

        def at(asked: Asked) -> None:
            if asked.method == "POST" and len(router.seen("POST", f"{bucket_id}/metadata")) == 9 and not done:
                done.append(True)
                vss.set_fault(kind[0], method="POST", path=f"{bucket_id}/metadata$", count=1, **kind[1])

        steps.at = at
        steps.before = lambda number: sizes.append(len(router.seen("POST", f"{bucket_id}/metadata")))
        response = await put_bulk(client, bucket_id, max_concurrency=1)
        assert failures(response) == {}
    assert sizes[:2] in ([0, 9], [0, 10])
    check_stored(vss, bucket_id)
    assert sizes[2] - sizes[1] in (10, 11)  # half of 20, and the failed one by itself


async def test_silent_peer_stops_a_window_before_its_data(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    """Nothing is sent on the strength of a listing that lacks a peer: each ball is listed by itself, as in a single put."""
    vss = own_vss()
    steps = Steps(vss, bucket_id)
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        listed_before: list[bool] = []

        def before(number: int) -> None:
            if number == 2:
                vss.set_fault("peer_silent", peer="peer-1")
                assert sent(router) == []

        def at(asked: Asked) -> None:
            if "/buckets/data/" in asked.path:
                name = next(name for name in NAMES if content(name) == asked.body)
                listed_before.append(name in listed_alone(router))

        steps.before, steps.at = before, at
        response = await put_bulk(client, bucket_id)
        assert listed_before
        assert all(listed_before)
        vss.clear_faults()
        assert (await put_bulk(client, bucket_id))["failed"] == 0
    assert response["successed"] + response["failed"] == BALLS
    wire = RawRequests(vss)
    assert all(wire.peers_with(bucket_id, f"{name}_0", content(name)) for name in NAMES)


async def test_hung_peer_stops_a_window_before_its_data(
    own_vss: Callable[..., LocalVSS], bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PEER_CHECK_TIMEOUT", 0.5)
    vss = own_vss()
    steps = Steps(vss, bucket_id)
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:

        def before(number: int) -> None:
            if number == 2:
                vss.set_fault("peer_hung", peer="peer-1", seconds=30)
                assert sent(router) == []

        steps.before = before
        response = await put_bulk(client, bucket_id, timeout=1, max_tries=1, max_concurrency=10)
        assert sent(router) == []
        assert response["failed"] == BALLS
        vss.clear_faults()
        monkeypatch.setattr(listing, "PEER_CHECK_TIMEOUT", 30.0)
        assert (await put_bulk(client, bucket_id))["failed"] == 0
    check_stored(vss, bucket_id)


async def test_late_ball_is_listed_by_itself(vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MAX_ANNOUNCED_SECONDS", 0.0)
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 16)
    steps = Steps(vss, bucket_id)
    sizes: list[int] = []
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        steps.before = lambda number: sizes.append(len(router.seen("POST", f"{bucket_id}/metadata")))
        assert (await put_bulk(client, bucket_id, max_concurrency=1))["failed"] == 0
        assert listed_alone(router) == set(NAMES)
        assert sizes == [0, 16, 24, 32, 40]  # the next windows are half as large
    check_stored(vss, bucket_id)


async def test_window_is_short_in_time(vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_window, "ANNOUNCING_SECONDS", 0.0)
    steps = Steps(vss, bucket_id)
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await put_bulk(client, bucket_id, max_concurrency=1))["failed"] == 0
        assert steps.listings > BALLS / 2
    check_stored(vss, bucket_id)


async def test_refused_data_is_recovered(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        with vss.fault("refuse_data", bucket=bucket_id, key=f"{NAMES[7]}_0", count=1):
            assert (await put_bulk(client, bucket_id))["failed"] == 0
    check_stored(vss, bucket_id)


async def test_own_replica_that_is_not_listed_is_looked_for(vss: LocalVSS, bucket_id: str) -> None:
    steps = Steps(vss, bucket_id)
    steps.change = lambda rows: [row for row in rows if row["ball_id"] != NAMES[4]]
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await put_bulk(client, bucket_id))["failed"] == 0
        assert listed_alone(router) == {NAMES[4]}
    check_stored(vss, bucket_id)


async def test_stopped_bulk_withdraws_its_announcements(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, NAMES[5], [RIVAL])
    async with checked_client(vss) as client:
        response = await put_bulk(client, bucket_id, stop_on_failure=True, max_concurrency=1)
        assert response["successed"] == 5
    listed = {name for name in NAMES if wire.listed(bucket_id, name)}
    assert listed == set(NAMES[:6])


async def test_bulk_of_a_closed_client_withdraws_its_announcements(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    sending = vss.set_fault("latency", seconds=20, path="/buckets/data/", method="POST")
    async with client_of(vss) as client:
        balls: list[Any] = [{"bucket_id": bucket_id, "key": name, "source": content(name)} for name in NAMES]
        (await client.put_bulk("bulk", balls, max_concurrency=1)).unwrap()
        while not sending.triggered:
            await asyncio.sleep(0.01)
        assert len({row["ball_id"] for row in wire.listed_in(bucket_id)}) == BALLS
        await client.aclose(cancel_bulks=True)
    sending.off()
    assert len({row["ball_id"] for row in wire.listed_in(bucket_id)}) <= 1, "of the object whose data was being sent"


async def test_changed_file_is_withdrawn(vss: LocalVSS, bucket_id: str, tmp_path: Any) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(content(name))
    steps = Steps(vss, bucket_id)

    def before(number: int) -> None:
        if number == 2:
            (tmp_path / NAMES[2]).write_bytes(RIVAL)
            (tmp_path / NAMES[3]).write_bytes(RIVAL[:100])
            (tmp_path / NAMES[4]).unlink()

    steps.before = before
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        balls: list[Any] = [{"bucket_id": bucket_id, "key": name, "source": tmp_path / name} for name in NAMES]
        (await client.put_bulk("bulk", balls)).unwrap()
        response = (await client.await_bulk("bulk")).unwrap()
        assert failures(response).keys() == set(NAMES[2:5])
        assert not set(sent(router)) & {RIVAL, RIVAL[:100]}
    wire = RawRequests(vss)
    assert [wire.listed(bucket_id, name) for name in NAMES[2:5]] == [[], [], []]
    check_stored(vss, bucket_id, but=tuple(NAMES[2:5]))


# -- other writers -------------------------------------------------------------------------------------------------------


async def test_rival_between_announcement_and_listing_is_a_conflict(vss: LocalVSS, bucket_id: str) -> None:
    steps = Steps(vss, bucket_id)

    def before(number: int) -> None:
        if number == 2:
            steps.wire.put(bucket_id, NAMES[6], [RIVAL])
            steps.wire.announce(bucket_id, NAMES[8], 0, RIVAL, RIVAL, 1)

    steps.before = before
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        response = await put_bulk(client, bucket_id)
        assert failures(response) == {NAMES[6]: BallConflictError, NAMES[8]: BallConflictError}
        assert not {content(NAMES[6]), content(NAMES[8])} & set(sent(router))
    check_stored(vss, bucket_id, but=(NAMES[6], NAMES[8]))


async def test_rival_that_hides_the_own_announcement_is_a_conflict(vss: LocalVSS, bucket_id: str) -> None:
    """A newer version on an earlier peer: the listing repeats it, and shows nothing of the own one."""
    steps = Steps(vss, bucket_id)
    steps.before = lambda number: steps.wire.put(bucket_id, NAMES[6], [RIVAL]) and None if number == 2 else None
    steps.change = lambda rows: [row for row in rows if row["ball_id"] != NAMES[6] or row["checksum"] == sha256(RIVAL)]
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        response = await put_bulk(client, bucket_id)
        assert failures(response) == {NAMES[6]: BallConflictError}
        assert content(NAMES[6]) not in sent(router)


async def test_same_bytes_in_another_layout_are_continued(vss: LocalVSS, bucket_id: str) -> None:
    """Whoever began first decides the layout; who began later sends nothing in its own."""
    steps = Steps(vss, bucket_id)
    data = content(NAMES[6])

    def at(asked: Asked) -> None:
        told = json.loads(asked.body) if asked.path.endswith(f"{bucket_id}/metadata") and asked.body else {}
        if told.get("key") == f"{NAMES[6]}_0" and told["size"] == len(data):
            steps.wire.put(bucket_id, NAMES[6], [data[:60], data[60:]])

    steps.at = at
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await put_bulk(client, bucket_id))["failed"] == 0
        assert bytes((await client.get(bucket_id, NAMES[6])).unwrap().data) == data
        assert data not in sent(router)


@pytest.mark.parametrize("hides", [False, True], ids=["listed", "hidden"])
@pytest.mark.parametrize("same", [False, True], ids=["other bytes", "same bytes"])
async def test_two_bulks_at_once(
    vss: LocalVSS, bucket_id: str, hides: bool, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end as single puts do, also where a listing hides the rival: at most one of two contents is acknowledged."""
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 7)
    both = []
    for writer in range(2):
        steps = Steps(vss, bucket_id)
        steps.change = hide_older if hides else steps.change
        both.append((steps, 0 if same else writer))

    async def write(steps: Steps, seed: int) -> BulkPutResponse:
        async with intercepting(steps, vss) as router, AsyncClient(router.uri, f"writer-{seed}") as client:
            return await put_bulk(client, bucket_id, seed=seed)

    responses = await asyncio.gather(*(write(*one) for one in both))
    acknowledged: defaultdict[str, list[int]] = defaultdict(list)
    for (_, seed), response in zip(both, responses, strict=True):
        assert set(failures(response).values()) <= {BallConflictError}
        for success in response["successes"]:
            acknowledged[success["item"]["key"]].append(seed)
    if same:
        assert all(response["failed"] == 0 for response in responses)
    async with client_of(vss, capacity_storage=0) as client:
        for name, seeds in acknowledged.items():
            assert len(set(seeds)) == 1
            assert bytes((await client.get(bucket_id, name, force=True)).unwrap().data) == content(name, seeds[0])


def hide_older(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Show what a listing shows at worst: the newest announcement of each key, and nothing else."""
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = newest.setdefault(row["key"], row)
        if int(row["tags"]["updated_at"]) > int(known["tags"]["updated_at"]):
            newest[row["key"]] = row
    return list(newest.values())


async def test_rival_before_the_look_is_found_though_listings_hide_it(vss: LocalVSS, bucket_id: str) -> None:
    """It came after the first listing, and the second one shows only the newer, own announcement."""
    steps = Steps(vss, bucket_id)
    steps.change = hide_older

    def at(asked: Asked) -> None:
        if asked.path.endswith(f"{NAMES[0]}_0") and asked.method == "GET":
            steps.wire.put(bucket_id, NAMES[30], [RIVAL])

    steps.at = at
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        response = await put_bulk(client, bucket_id, max_concurrency=1)
        assert failures(response) == {NAMES[30]: BallConflictError}
        assert content(NAMES[30]) not in sent(router)
    check_stored(vss, bucket_id, but=(NAMES[30],))


async def test_peer_of_an_announcement_that_is_no_longer_named(vss: LocalVSS, bucket_id: str) -> None:
    """The listing shows the other replica; whether this one is there, only the ball's own listing tells."""
    steps = Steps(vss, bucket_id)

    async def handler(asked: Asked, pass_on: PassOn) -> Reply | None:
        reply = await steps(asked, pass_on)
        if steps.listings == 2 and asked.path.endswith(("/peers", f"{bucket_id}/metadata")) and asked.method == "GET":
            reply = reply or await pass_on(asked)
            told = reply.json()
            if "available" in told:
                told["available"] = [peer for peer in told["available"] if peer["peer_id"] != "peer-1"]
            else:
                told["peers_ids"] = [peer for peer in told["peers_ids"] if peer != "peer-1"]
            reply.body = json.dumps(told).encode()
        return reply

    async with intercepting(handler, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await put_bulk(client, bucket_id, rf=2))["failed"] == 0
        assert BALLS / 2 < len(listed_alone(router)) < BALLS


@pytest.mark.parametrize("by", ["key", "ball"])
async def test_announcement_deleted_before_its_data_is_repeated(vss: LocalVSS, bucket_id: str, by: str) -> None:
    """Another process deletes after the second listing: the data is refused, announced and sent again."""
    steps = Steps(vss, bucket_id)
    delete = {"key": lambda: steps.wire.delete_chunk(bucket_id, f"{NAMES[30]}_0")}.get(
        by, lambda: steps.wire.delete(bucket_id, NAMES[30])
    )
    deleted: list[int] = []

    def at(asked: Asked) -> None:
        if "/buckets/data/" in asked.path and not deleted:
            deleted.append(delete())

    steps.at = at
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await put_bulk(client, bucket_id, max_concurrency=1))["failed"] == 0
        assert deleted == [1]
        assert sent(router).count(content(NAMES[30])) == 2
        assert bytes((await client.get(bucket_id, NAMES[30], force=True)).unwrap().data) == content(NAMES[30])
    check_stored(vss, bucket_id)


async def test_announcement_replaced_before_its_data_is_a_conflict(vss: LocalVSS, bucket_id: str) -> None:
    steps = Steps(vss, bucket_id)
    replaced: list[Any] = []

    def at(asked: Asked) -> None:
        if "/buckets/data/" in asked.path and not replaced:
            steps.wire.delete_chunk(bucket_id, f"{NAMES[30]}_0")
            replaced.append(steps.wire.put(bucket_id, NAMES[30], [RIVAL]))

    steps.at = at
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        response = await put_bulk(client, bucket_id, max_concurrency=1)
        assert failures(response) == {NAMES[30]: BallConflictError}
        assert bytes((await client.get(bucket_id, NAMES[30], force=True)).unwrap().data) == RIVAL
    check_stored(vss, bucket_id, but=(NAMES[30],))


async def test_late_ball_whose_announcement_was_deleted_fails(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own listing shows nothing of it, so nothing is sent; the next bulk stores it."""
    monkeypatch.setattr(upload, "MAX_ANNOUNCED_SECONDS", 0.0)
    steps = Steps(vss, bucket_id)
    deleted: list[int] = []

    def at(asked: Asked) -> None:
        if "/buckets/data/" in asked.path and not deleted:
            deleted.append(steps.wire.delete_chunk(bucket_id, f"{NAMES[30]}_0"))

    steps.at = at
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert failures(await put_bulk(client, bucket_id, max_concurrency=1)) == {NAMES[30]: UnavailableError}
        assert content(NAMES[30]) not in sent(router)
        assert (await put_bulk(client, bucket_id))["failed"] == 0
    check_stored(vss, bucket_id)


# -- balls that need no window, or no longer need it ---------------------------------------------------------------------


async def test_ball_without_window_opens_no_window(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A durable bulk adds only balls of one chunk to the windows, and asks for all."""
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 5)
    make_files(tmp_path, {"a-large": 5000, "a-empty": 0} | dict.fromkeys(NAMES, 100))
    steps = Steps(vss, bucket_id)
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        options = {"max_concurrency": 1}
        result = await bulk_upload(client, f"of-{bucket_id}", bucket_id, tmp_path, chunk_size="1kb", options=options)
        assert result.failed == 0
        announced = [
            json.loads(asked.body)["ball_id"].split("-")[0] for asked in router.seen("POST", f"/{bucket_id}/metadata")
        ]
    assert announced == ["a"] * 7 + NAMES


async def test_unreadable_file_fails_only_itself(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = upload.hash_source

    async def hash_source(source: Any, *args: Any) -> Any:
        if source.name.endswith(NAMES[7]):
            raise OSError(5, "Input/output error")
        return await real(source, *args)

    monkeypatch.setattr(upload, "hash_source", hash_source)
    make_files(tmp_path, dict.fromkeys(NAMES, 100))
    async with client_of(vss) as client:
        balls: list[Any] = [{"bucket_id": bucket_id, "key": name, "source": str(tmp_path / name)} for name in NAMES]
        (await client.put_bulk("bulk", balls, max_concurrency=4)).unwrap()
        response = (await client.await_bulk("bulk")).unwrap()
    assert set(failures(response)) == {NAMES[7]}


async def test_window_deletes_no_announcement_of_a_running_put(vss: LocalVSS, bucket_id: str) -> None:
    """A writer of the same bytes announces on every peer between the look and the announcement, which gets code 666."""
    steps = Steps(vss, bucket_id)
    data = content(NAMES[6])
    tasks: list[str] = []
    stored: list[list[str]] = []

    def at(asked: Asked) -> None:
        told = json.loads(asked.body) if asked.path.endswith(f"{bucket_id}/metadata") and asked.body else {}
        if told.get("ball_id") == NAMES[6] and not tasks:
            tasks.append(steps.wire.announce(bucket_id, NAMES[6], 0, data, data, 1, rf=vss.peers)[0])

    def before(number: int) -> None:
        if number == 2:
            stored.append(steps.wire.send(tasks[0], data))

    steps.at, steps.before = at, before
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await put_bulk(client, bucket_id))["failed"] == 0
    assert [len(peers) for peers in stored] == [vss.peers]


async def test_ball_added_while_a_stopped_bulk_withdraws_is_put(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, NAMES[5], [RIVAL])
    deletes, added = [0], asyncio.Event()
    balls: list[Any] = [{"bucket_id": bucket_id, "key": name, "source": content(name)} for name in [*NAMES, "b900"]]

    async def handler(asked: Asked, pass_on: PassOn) -> None:
        deletes[0] += asked.method == "DELETE"
        if asked.method == "DELETE" and deletes[0] == 1:
            (await client.put_bulk("bulk", balls[-1:], max_concurrency=1)).unwrap()
            added.set()

    async with intercepting(handler, vss) as router, AsyncClient(router.uri, "tests") as client:
        (await client.put_bulk("bulk", balls[:-1], max_concurrency=1, stop_on_failure=True)).unwrap()
        await asyncio.wait_for(added.wait(), 20)
        response = (await client.await_bulk("bulk")).unwrap()
        assert (response["total_balls"], response["successed"]) == (BALLS + 1, 6)
        assert bytes((await client.get(bucket_id, "b900")).unwrap().data) == content("b900")


async def test_balls_of_a_stopped_bulk_are_not_announced_later(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 7)
    RawRequests(vss).put(bucket_id, NAMES[5], [RIVAL])
    more = [f"c{number:03}" for number in range(20)]

    async def handler(asked: Asked, pass_on: PassOn) -> None:
        return None

    def balls(names: list[str]) -> list[Any]:
        return [{"bucket_id": bucket_id, "key": name, "source": content(name)} for name in names]

    async with intercepting(handler, vss) as router, AsyncClient(router.uri, "tests") as client:
        (await client.put_bulk("bulk", balls(NAMES), max_concurrency=1, stop_on_failure=True)).unwrap()
        while not router.seen("DELETE", f"{NAMES[6]}_0"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        (await client.put_bulk("bulk", balls(more), max_concurrency=1)).unwrap()
        assert (await client.await_bulk("bulk")).unwrap()["successed"] == 25
        announced = [json.loads(asked.body)["ball_id"] for asked in router.seen("POST", f"/{bucket_id}/metadata")]
    assert announced == [*NAMES[:5], NAMES[6], *more]


async def test_late_withdrawal_keeps_what_another_attempt_stored(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the grace time, an attempt of the same client may have put the ball anew."""
    monkeypatch.setattr(upload, "MAX_ANNOUNCED_SECONDS", 0.2)
    monkeypatch.setattr(upload_window, "WITHDRAWAL_SECONDS", 60)
    wire = RawRequests(vss)
    wire.put(bucket_id, NAMES[5], [RIVAL])
    begun = [0]

    async def handler(asked: Asked, pass_on: PassOn) -> None:
        begun[0] += "/data/" in asked.path
        if "/data/" in asked.path and begun[0] == 1:
            await asyncio.sleep(0.3)
            wire.delete_chunk(bucket_id, f"{NAMES[20]}_0")
            async with AsyncClient(vss.uri, "tests") as other:
                (await other.put(bucket_id, NAMES[20], content(NAMES[20]))).unwrap()

    async with intercepting(handler, vss) as router, AsyncClient(router.uri, "tests") as client:
        response = await put_bulk(client, bucket_id, stop_on_failure=True, max_concurrency=1)
        assert response["successed"] == 5
    assert wire.peers_with(bucket_id, f"{NAMES[20]}_0", content(NAMES[20]))
    assert {name for name in NAMES if wire.listed(bucket_id, name)} == {*NAMES[:6], NAMES[20]}
