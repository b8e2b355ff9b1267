"""
Run mixed work on a misbehaving local storage space for half an hour, and compare with a ledger (``make soak``).

One client and several workers put, replace, read, download, list and delete, one object at a time and in bulks.
Meanwhile every tenth request meets a fault, peers stop and return, peers are silent or hang while they are listed as
available, and the complete storage space is restarted and killed. The ledger (``soak_ledger``) records what each key
may contain at any time; any other result ends the soak. At the end the faults stop, every key and every downloaded
file is compared with the ledger byte by byte, and everything is deleted. The client's memory, file descriptors,
threads, tasks and connections (``soak_watch``) must not grow, and nothing may be open at the end.

The exit status is 0 only if all of that holds. ``--seed`` repeats contents and choices, but not the timing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from soak_ledger import Content, Entry, Violation
from soak_watch import Line, Sample, Watch, left_open

sys.path.insert(0, str(Path(__file__).parents[1]))

from airflow_provider_mictlanx.bulks.attempt import ShardUpload
from airflow_provider_mictlanx.bulks.monitor import await_bulk, delete_bulk
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec
from airflow_provider_mictlanx.bulks.sources import list_sources
from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    FileAlreadyExists,
    MictlanXError,
    NotFoundError,
)
from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.transfer import listing as client_listing
from tests.support.vss import LocalVSS

PEERS, ROUTERS, REPLICAS = 3, 2, 2
KEYS = 12
"""Number of keys of each worker."""

SIZES = (1, 1_000, 40_000, 256_000, 600_000, 1_500_000)
"""Approximate size of a ball (bytes), stored in chunks of 256 kB."""

HASTE = 0.05
"""Share of calls with a deadline that may be too short."""

AWAY = 2.0
"""Minimum seconds that a peer is down; a shorter outage between two requests cannot be detected."""

SILENT_SHARE = 0.05
"""Share of the time in which a peer is silent or hung, and listed as available."""

SILENT = (0.03, 2.5)
"""Range of seconds for that; shorter and longer than a call."""

HANGS = 1.5
"""Seconds that a router waits for a hung peer."""

ROLL_CALL = 1.0
"""Timeout of the client's roll-calls (seconds), short enough to detect a hung peer."""

LATE = 1.0 + HANGS
"""Pause after a failed change of a key (seconds); an abandoned request may still be carried out."""

FAULTS: list[dict[str, Any]] = [
    # One in ten requests to a router fails in one of these ways.
    {"kind": "status", "status": 500, "probability": 0.02},
    {"kind": "status", "status": 503, "body": "<html>busy</html>", "content_type": "text/html", "probability": 0.01},
    {"kind": "status", "status": 200, "body": "<html>hello</html>", "content_type": "text/html", "probability": 0.005},
    {"kind": "reset", "when": "before", "probability": 0.01},
    {"kind": "reset", "when": "after", "probability": 0.02},
    {"kind": "cut_body", "at": 100, "clean": True, "probability": 0.01},
    {"kind": "cut_body", "at": 20_000, "probability": 0.01},
    {"kind": "latency", "seconds": 0.3, "probability": 0.02},
    # Faults of replicas. Only one peer stores wrong data, so that with two replicas the other one is right.
    {"kind": "refuse_data", "probability": 0.03},
    {"kind": "flip_bit", "probability": 0.03},
    {"kind": "ack_without_storing", "peer": "peer-0", "probability": 0.05},
    {"kind": "accept_wrong_bytes", "peer": "peer-0", "probability": 0.05},
]


class Storage:
    """The local VSS and its faults."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.vss = LocalVSS(folder, peers=PEERS, routers=ROUTERS)
        self.events: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self._rng = rng
        self._up = asyncio.Lock()
        """Held by tasks that need the process, or that end it."""

    def start(self) -> None:
        """Start the local VSS with its faults."""
        self.vss.start()
        self.vss.control("PUT", "/_faults", FAULTS)

    async def make_trouble(self, pause: float) -> None:
        """Stop and restore peers, restart and kill the storage space, until cancelled."""
        while True:
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.5))
            event = self._rng.choices(["peer away", "restart", "kill -9"], [6, 1, 1])[0]
            self.events[event] += 1
            async with contextlib.nullcontext() if event == "peer away" else self._up:
                await self._let_happen(event, self._rng.uniform(AWAY, 3 * AWAY))

    async def silence_peers(self) -> None:
        """Make peers silent or hung for short times, until cancelled."""
        shortest, longest = SILENT
        while True:
            seconds = shortest * (longest / shortest) ** self._rng.random()
            await asyncio.sleep(seconds / SILENT_SHARE * self._rng.uniform(0.5, 1.5))
            event = self._rng.choices(["peer silent", "peer hung"], [3, 1])[0]
            self.events[event] += 1
            async with self._up:
                await self._let_happen(event, seconds)

    async def _let_happen(self, event: str, seconds: float) -> None:
        happening = asyncio.ensure_future(asyncio.to_thread(self._happen, event, seconds))
        try:
            await asyncio.shield(happening)
        finally:
            await happening  # finish the restart even if the soak ends meanwhile

    def _happen(self, event: str, seconds: float) -> None:
        kinds = {"peer away": "peer_down", "peer silent": "peer_silent", "peer hung": "peer_hung"}
        if event in kinds:
            hangs = {"seconds": HANGS} if event == "peer hung" else {}
            with self.vss.fault(kinds[event], peer=f"peer-{self._rng.randrange(PEERS)}", **hangs):
                time.sleep(seconds)
            return
        self.count()
        self.vss.restart(kill=event == "kill -9")
        self.vss.control("PUT", "/_faults", FAULTS)

    def behave(self) -> None:
        """Remove the faults."""
        self.count()
        self.vss.clear_faults()

    def count(self) -> None:
        """Add up the request counts before a restart resets them."""
        for fault in self.vss.faults():
            self.faults[fault["kind"]] += fault["triggered"]
        for router in range(ROUTERS):
            try:
                text = httpx.get(f"{self.vss.url(router)}/metrics", trust_env=False).text
            except httpx.TransportError:
                continue  # a fault: this router's requests are not counted
            self.requests += sum(int(number) for number in re.findall(r"^http_requests_total{.*} (\d+)$", text, re.M))


class Soak:
    """State that the workers share."""

    def __init__(self, client: AsyncClient, folder: Path, seed: int, workers: int) -> None:
        self.client = client
        self.folder = folder
        self.seeds = itertools.count(seed * 1_000_000)
        self.workers = [Worker(self, number, random.Random(seed * 100 + number)) for number in range(workers)]
        self.calls: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.bytes_checked = 0
        self.bulks: set[str] = set()

    @property
    def entries(self) -> list[Entry]:
        """Return the entries of all workers."""
        return [entry for worker in self.workers for entry in worker.entries]

    def new(self, size: int) -> tuple[Content, bytes]:
        """Return a new, unique content."""
        return Content.make(next(self.seeds), size)

    async def done(self, what: str, work: Awaitable[Any]) -> Any:
        """Await and count some work; return its result, or its ``MictlanXError``."""
        self.calls[what] += 1
        try:
            return await work
        except MictlanXError as error:
            self.errors[f"{what}: {type(error).__name__}"] += 1
            return error

    async def call(self, what: str, result: Awaitable[Any]) -> Any:
        """Call ``done`` for a method that returns a ``Result``."""

        async def value() -> Any:
            return unwrap(await result)

        return await self.done(what, value())


class Worker:
    """Change its own keys step by step, and read the keys of all workers."""

    def __init__(self, soak: Soak, number: int, rng: random.Random) -> None:
        self.soak = soak
        self.rng = rng
        self.prefix = f"w{number}/"
        self.bucket_id = f"soak-{number % 2}"
        self.folder = soak.folder / f"w{number}"
        self.folder.mkdir(parents=True)
        self.entries = [Entry(self.bucket_id, f"{self.prefix}k {n}.bin") for n in range(KEYS // 2)]
        self.entries += [Entry(self.bucket_id, f"w{number}-k{n}") for n in range(KEYS - KEYS // 2)]
        self.files: dict[Path, tuple[int, str] | None] = {}

    async def work(self, until: float) -> None:
        """Work until the given time of the event loop's clock."""
        steps: list[tuple[Callable[[], Awaitable[None]], int]] = [
            *((self.put, 14), (self.rival, 3), (self.delete, 6), (self.get, 22), (self.get_to_file, 14)),
            *((self.exists, 6), (self.list_bucket, 3), (self.bulk, 4), (self.durable_bulk, 3)),
        ]
        for entry in self.entries[::2]:
            await self.put(entry)
        while asyncio.get_running_loop().time() < until:
            step = self.rng.choices([step for step, _ in steps], [weight for _, weight in steps])[0]
            await step()

    # -- changing ------------------------------------------------------------------------------------------------------

    async def put(self, chosen: Entry | None = None) -> None:
        """Put new content from bytes or a file, replacing the old; under a random key by default."""
        entry = chosen or self.rng.choice(self.entries)
        content, data = self.soak.new(self._size())
        source: dict[str, Any] = {"data": data}
        if self.rng.random() < 0.5:
            path = self.folder / "source"
            path.write_bytes(data)
            source = {"path": path}
        old = entry.possible
        entry.allow(content, *([None] if old != {None} else []))
        what = ("put" if old == {None} else "replace") + ("_file" if "path" in source else "")
        replace = old != {None}
        put = self.soak.client.upload(entry.bucket_id, entry.key, **source, replace=replace, rf=REPLICAS, **self._how())
        await self._settle(what, put, entry, content)

    async def rival(self) -> None:
        """Put other bytes under an existing key without ``replace``; it must fail and change nothing."""
        stored = [entry for entry in self.entries if entry.certain and entry.content is not None]
        if not stored:
            return
        entry = self.rng.choice(stored)
        _, data = self.soak.new(1_000)
        put = self.soak.client.upload(entry.bucket_id, entry.key, data=data, rf=REPLICAS, **self._how())
        found = await self.soak.call("put over another", put)
        if not isinstance(found, MictlanXError):
            raise Violation(f"other bytes were put over {entry} without replace: {found}")
        entry.note(f"put over it: {found!r}")
        if not isinstance(found, BallConflictError):
            entry.announced_over = True
            await asyncio.sleep(LATE)

    async def delete(self) -> None:
        """Delete a key."""
        entry = self.rng.choice(self.entries)
        entry.allow(None)
        delete = self.soak.client.delete(entry.key, entry.bucket_id, timeout=20, deadline=self._deadline())
        await self._settle("delete", delete, entry, None)

    async def bulk(self) -> None:
        """Put absent keys as a bulk of this process."""
        chosen, contents = self._absent(), {}
        items: list[Any] = []
        for entry in chosen:
            contents[entry.key], data = self.soak.new(self._size())
            entry.allow(contents[entry.key])
            how = {"rf": REPLICAS, "max_tries": 6, "max_backoff": 0.5, "timeout": 20}
            items.append({"bucket_id": entry.bucket_id, "key": entry.key, "source": data, **how})
        if not items:
            return
        bulk_id = f"{self.prefix}{next(self.soak.seeds)}"
        unwrap(await self.soak.client.put_bulk(bulk_id, items, max_concurrency=2))
        told = await self.soak.call("bulk", self.soak.client.await_bulk(bulk_id, remove_on_completion=True))
        stored = {success["item"]["key"] for success in told["successes"]}
        for entry in chosen:
            entry.note(f"bulk with {contents[entry.key]}: {entry.key in stored}")
            if entry.key in stored:
                entry.settle(contents[entry.key])
        if len(stored) < len(chosen):
            await asyncio.sleep(LATE)

    async def durable_bulk(self) -> None:
        """Put absent keys as a durable bulk, in up to three attempts."""
        chosen = [entry for entry in self._absent() if entry.key.startswith(self.prefix)]
        if not chosen:
            return
        bulk_id, contents = f"soak-{next(self.soak.seeds)}", {}
        source = self.folder / "bulk"
        source.mkdir()
        for entry in chosen:
            contents[entry.key], data = self.soak.new(self._size())
            (source / entry.key.removeprefix(self.prefix)).write_bytes(data)
            entry.allow(contents[entry.key])
        self.soak.bulks.add(bulk_id)
        stored = await self._attempts(bulk_id, source)
        for entry in chosen:
            entry.note(f"durable bulk {bulk_id} with {contents[entry.key]}: {stored}")
            if stored:
                entry.settle(contents[entry.key])
        if not stored:
            await asyncio.sleep(LATE)
        if not isinstance(
            await self.soak.done("delete_bulk", delete_bulk(self.soak.client, bulk_id, 20)), MictlanXError
        ):
            self.soak.bulks.discard(bulk_id)
        shutil.rmtree(source)

    async def _attempts(self, bulk_id: str, source: Path) -> bool:
        client = self.soak.client
        spec = BulkSpec(bulk_id, [str(source)], self.bucket_id, key_prefix=self.prefix, rf=REPLICAS, chunk_size="256kb")
        for attempt in range(3):
            upload = ShardUpload(
                client,
                spec,
                0,
                lambda: list_sources(str(source), self.bucket_id, key_prefix=self.prefix),
                {"owner": "soak"},
                AttemptOptions(4, max_tries=6, max_backoff=0.5, timeout=20, will_retry=attempt < 2),
                lambda line: None,
            )
            outcome = await self.soak.done("durable bulk", upload.run())
            if isinstance(outcome, MictlanXError) or outcome.failures:
                continue
            waiting = await_bulk(client, bulk_id, poke_interval=0.1, timeout=20, request_timeout=20)
            result = await self.soak.done("await_bulk", waiting)
            if not isinstance(result, MictlanXError) and (
                result["failed"] or result["succeeded"] != result["total_balls"]
            ):
                raise Violation(f"bulk {bulk_id} was uploaded without a failure, but its records have {result}")
            return True
        return False

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get(self) -> None:
        """Read a key of any worker into memory."""
        entry = self._anybodys()
        with entry.read() as seen:
            found = await self.soak.call(
                "get", self._reading(self.soak.client.get, entry, max_retries=6, max_backoff=0.5)
            )
        if isinstance(found, NotFoundError):
            entry.check_absent(seen, "get")
        elif not isinstance(found, MictlanXError):
            entry.check_found(seen, len(found.data), hashlib.sha256(found.data).hexdigest(), "get")
            self.soak.bytes_checked += len(found.data)

    async def get_to_file(self) -> None:
        """Download a key of any worker over an older file; the file must be the new or the old one."""
        entry, path = self._anybodys(), self.folder / f"file-{self.rng.randrange(4)}"
        before, replace = self.files.get(path), self.rng.random() < 0.7
        how = {"filename": path.name, "max_tries": 6, "max_backoff": 0.5, "replace": replace}
        with entry.read() as seen:
            call = self._reading(self.soak.client.download, entry, self.folder, **how)
            found = await self.soak.call("get_to_file", call)
        now = self._fingerprint(path)
        self.files[path] = now
        if isinstance(found, MictlanXError):
            if isinstance(found, NotFoundError):
                entry.check_absent(seen, "get_to_file")
            if now == before:
                return
            if isinstance(found, FileAlreadyExists) or now is None:
                raise Violation(f"{path} was {before} and is {now} after: {found}")
        if now is None:
            raise Violation(f"{path} is missing after a successful download")
        entry.check_found(seen, *now, "get_to_file")
        self.soak.bytes_checked += now[0]

    async def exists(self) -> None:
        """Call ``exists`` for a key of any worker."""
        entry = self._anybodys()
        check = self.rng.random() < 0.3
        with entry.read() as seen:
            found = await self.soak.call("exists", self._reading(self.soak.client.exists, entry, check_storage=check))
        if found is False and not entry.announced_over:
            entry.check_absent(seen, f"exists(check_storage={check})")
        if found is True and seen == {None}:
            raise Violation(f"exists returned True for {entry}, which was deleted, or never put{entry.told()}")

    async def list_bucket(self) -> None:
        """List the worker's bucket and compare its own keys, which only this worker changes."""
        listing = self.soak.client.list_balls(self.bucket_id, timeout=20, deadline=self._deadline())
        balls = await self.soak.call("list", listing)
        if not isinstance(balls, MictlanXError):
            check_listing(self.entries, balls)

    async def _settle(self, what: str, change: Awaitable[Any], entry: Entry, content: Content | None) -> None:
        """Change a key, and record the outcome in the ledger."""
        found = await self.soak.call(what, change)
        entry.note(f"{what} of {content}: {found!r}")
        if isinstance(found, MictlanXError):
            await asyncio.sleep(LATE)
        else:
            entry.settle(content)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _size(self) -> int:
        return max(1, int(self.rng.choice(SIZES) * self.rng.uniform(0.5, 1.5)))

    def _deadline(self) -> float | None:
        return self.rng.uniform(0.005, 0.3) if self.rng.random() < HASTE else 60

    def _how(self) -> dict[str, Any]:
        return {"max_tries": 6, "max_backoff": 0.5, "timeout": 20, "deadline": self._deadline()}

    def _reading(self, call: Callable[..., Awaitable[Any]], entry: Entry, *place: Path, **how: Any) -> Awaitable[Any]:
        return call(entry.bucket_id, entry.key, *place, timeout=20, deadline=self._deadline(), **how)

    def _absent(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.possible == {None}][:5]

    def _anybodys(self) -> Entry:
        return self.rng.choice(self.rng.choice(self.soak.workers).entries)

    @staticmethod
    def _fingerprint(path: Path) -> tuple[int, str] | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        return len(data), hashlib.sha256(data).hexdigest()


def check_listing(entries: list[Entry], balls: list[Any]) -> None:
    """Raise ``Violation`` if a listing lacks a key, has an extra key or another content."""
    listed = {(ball.bucket_id, ball.key): (ball.size, ball.checksum) for ball in balls}
    for entry in entries:
        if not entry.certain:
            continue
        found = listed.get((entry.bucket_id, entry.key))
        content = entry.content
        if (found is None) != (content is None):
            raise Violation(f"the listing has {found} for {entry}, which is {content}{entry.told()}")
        if content and not entry.announced_over and found != (content.size, content.checksum):
            raise Violation(f"the listing has {found} for {entry}, which is {content}{entry.told()}")


# -- final checks ------------------------------------------------------------------------------------------------------


async def make_certain(soak: Soak) -> int:
    """Read and put every uncertain key, which must succeed without faults; return their number."""
    uncertain = [entry for entry in soak.entries if not entry.certain or entry.announced_over]
    for entry in uncertain:
        with entry.read() as seen:
            found = await soak.call("get (uncertain)", soak.client.get(entry.bucket_id, entry.key))
        if not isinstance(found, MictlanXError):
            entry.check_found(seen, len(found.data), hashlib.sha256(found.data).hexdigest(), "the last get")
        elif entry.certain:
            raise Violation(f"{entry} can no longer be read: {found}{entry.told()}")
        content, data = soak.new(300_000)
        unwrap(await soak.client.upload(entry.bucket_id, entry.key, data=data, rf=REPLICAS, replace=True))
        entry.settle(content)
    return len(uncertain)


async def audit(soak: Soak) -> tuple[int, int]:
    """Compare everything with the ledger byte by byte; return the number of balls and their bytes."""
    balls, size = 0, 0
    for entry in soak.entries:
        found = await soak.call("audit", soak.client.get(entry.bucket_id, entry.key, force=True))
        content = entry.content
        if content is None:
            if not isinstance(found, NotFoundError):
                raise Violation(f"{entry} was deleted, but reading it returned {found!r}{entry.told()}")
        elif isinstance(found, MictlanXError):
            raise Violation(f"{entry} can't be read: {found}{entry.told()}")
        else:
            if bytes(found.data) != random.Random(content.seed).randbytes(content.size):
                raise Violation(f"{entry} has other bytes than were put")
            balls, size = balls + 1, size + content.size
    for bucket_id in {entry.bucket_id for entry in soak.entries}:
        own = [entry for entry in soak.entries if entry.bucket_id == bucket_id]
        listed = unwrap(await soak.client.list_balls(bucket_id))
        check_listing(own, listed)
        if len(listed) != sum(entry.content is not None for entry in own):
            raise Violation(f"{bucket_id} contains objects that were never put: {[ball.key for ball in listed]}")
    for worker in soak.workers:
        for path, fingerprint in worker.files.items():
            if worker._fingerprint(path) != fingerprint:
                raise Violation(f"{path} changed after it was downloaded")
    return balls, size


async def clear_away(soak: Soak) -> None:
    """Delete everything, and check that it is gone."""
    for bulk_id in soak.bulks:
        await delete_bulk(soak.client, bulk_id)
    for bucket_id in sorted({entry.bucket_id for entry in soak.entries}):
        unwrap(await soak.client.delete_bucket(bucket_id))
        if left := unwrap(await soak.client.list_balls(bucket_id)):
            raise Violation(f"{bucket_id} was deleted, but contains {left}")


# -- running -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Report:
    """Results of a soak."""

    seed: int
    seconds: float
    balls: int
    ball_bytes: int
    uncertain: int
    bytes_checked: int
    requests: int
    faults: dict[str, int]
    events: dict[str, int]
    calls: dict[str, int]
    errors: dict[str, int]
    lines: list[Line]
    left_open: list[str]

    @property
    def holds(self) -> bool:
        """Return whether nothing grew and nothing was left open; the ledger was compared before."""
        return not self.left_open and all(line.flat for line in self.lines)


async def soak_for(seconds: float, seed: int, workers: int, folder: Path) -> Report:
    """Run the soak; raise ``Violation`` if a promise is broken."""
    client_listing.PEER_CHECK_TIMEOUT = ROLL_CALL
    watch = Watch()
    storage = Storage(folder / "vss", random.Random(seed))
    with storage.vss:  # the process that starts local VSSs stays, and must not count as left open
        pass
    await asyncio.sleep(0.5)
    before = watch.look()
    await asyncio.to_thread(storage.start)
    try:
        client = AsyncClient(storage.vss.uri, "soak", False, log_output_path=None, capacity_storage="8MB")
        async with client:
            soak = Soak(client, folder / "files", seed, workers)
            began = time.monotonic()
            await under_trouble(soak, storage, watch, seconds)
            worked = time.monotonic() - began
            await asyncio.to_thread(storage.behave)
            uncertain = await make_certain(soak)
            balls, size = await audit(soak)
            await clear_away(soak)
    finally:
        await asyncio.to_thread(storage.vss.close)
    await asyncio.get_running_loop().shutdown_default_executor()
    after = await settled(watch, before)
    return Report(
        seed=seed,
        seconds=worked,
        balls=balls,
        ball_bytes=size,
        uncertain=uncertain,
        bytes_checked=soak.bytes_checked,
        requests=storage.requests,
        faults=dict(storage.faults),
        events=dict(storage.events),
        calls=dict(soak.calls),
        errors=dict(soak.errors),
        lines=watch.verdict(before, after, warm_up=min(120, seconds * 0.3)),
        left_open=left_open(before, after),
    )


async def under_trouble(soak: Soak, storage: Storage, watch: Watch, seconds: float) -> None:
    """Run the workers with faults and with the watch."""
    until = asyncio.get_running_loop().time() + seconds
    beside = [
        asyncio.create_task(watch.go_on(min(2.0, seconds / 50))),
        asyncio.create_task(storage.make_trouble(min(8.0, seconds / 8))),
        asyncio.create_task(storage.silence_peers()),
        asyncio.create_task(tell(soak, storage, watch)),
    ]
    try:
        await for_each(soak.workers, lambda worker: worker.work(until), len(soak.workers))
    finally:
        for task in beside:
            task.cancel()
        for outcome in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def tell(soak: Soak, storage: Storage, watch: Watch) -> None:
    """Print the progress every half a minute."""
    while True:
        await asyncio.sleep(30)
        if watch.samples:
            now, calls, errors = watch.samples[-1], sum(soak.calls.values()), sum(soak.errors.values())
            print(
                f"{now.at:6.0f} s: {calls:,} calls, {errors:,} of them failed; {now.memory:.0f} MB, "
                f"{now.descriptors} descriptors, {now.tasks} tasks, {now.connections} connections; "
                f"{dict(storage.events)}",
                flush=True,
            )


async def settled(watch: Watch, before: Sample) -> Sample:
    """Return a sample after threads and sockets had time to end."""
    for _ in range(100):
        sample = watch.look()
        if not left_open(before, sample):
            break
        await asyncio.sleep(0.1)
    return sample


def lines_of(report: Report) -> Iterator[str]:
    """Return the report as lines."""
    calls, errors, faults = (sum(part.values()) for part in (report.calls, report.errors, report.faults))
    share = faults / report.requests if report.requests else 0
    yield f"{report.seconds:.0f} s, seed {report.seed}: {calls:,} calls, {errors:,} of them ended in an error"
    yield f"{report.requests:,} requests; {faults:,} faults ({share:.1%}): {told(report.faults)}"
    yield f"events: {told(report.events)}"
    yield f"calls: {told(report.calls)}"
    yield f"errors: {told(report.errors)}"
    yield f"read back and compared meanwhile: {report.bytes_checked:,} bytes"
    yield (
        f"ledger: {report.balls} objects, {report.ball_bytes:,} bytes, equal to the storage space; {report.uncertain} "
        "keys were uncertain, and could be written again"
    )
    yield ""
    yield f"{'':12}{'before':>10}{'first part':>12}{'last part':>12}{'limit':>10}{'most':>10}{'after':>10}"
    for line in report.lines:
        numbers = (line.before, line.first, line.last, line.limit, line.most, line.after)
        cells = "".join(
            f"{number:>{width},.0f}" for number, width in zip(numbers, (10, 12, 12, 10, 10, 10), strict=True)
        )
        yield f"{line.name:12}{cells}  {'flat' if line.flat else 'GROWS'}"
    yield from (f"left open: {what}" for what in report.left_open)


def told(counts: dict[str, int]) -> str:
    """Return counts as one line, the largest first."""
    return (
        ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items(), key=lambda pair: -pair[1])) or "none"
    )


def main() -> int:
    """Run the soak and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Run mixed work on a misbehaving local storage space, and compare with a ledger."
    )
    parser.add_argument("--seconds", type=float, default=1800, help="duration in seconds (default: 1800)")
    parser.add_argument("--workers", type=int, default=6, help="number of concurrent workers (default: 6)")
    parser.add_argument("--seed", type=int, default=None, help="seed for contents and choices (default: random)")
    parser.add_argument("--report", type=Path, default=None, help="file for the figures, as JSON")
    args = parser.parse_args()
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    print(f"Soaking for {args.seconds:g} s, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mictlanx-soak-") as folder:
        report = asyncio.run(soak_for(args.seconds, seed, args.workers, Path(folder)))
    print("\n".join(lines_of(report)))
    if args.report:
        args.report.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
