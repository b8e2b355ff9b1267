"""
Announce new balls in windows, so that one listing of the bucket confirms many announcements.

A single put lists its ball between announcement and data, which asks every peer. A *window* announces up to a thousand
balls of one chunk, each directly after a look at its placement, and then lists the bucket once. A ball is *confirmed*
if every peer answered and the listing shows only the own announcement. Every other ball is put as a single put, which
has all checks and the recovery: it lists the ball itself before it sends data.

A bucket's listing hides an older version on a later peer (protocol page, *Reading*). The bucket is therefore also
listed before the first announcement. A writer that announces before the own look is found by that look; one that
announces later finds the own announcement. A writer is missed only if its announcement and its listing both fall
between the own look and the own announcement.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse, Metadata
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer import listing
from airflow_provider_mictlanx.client.transfer.chunk_upload import Seen
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from airflow_provider_mictlanx.client.transfer.upload import Announced

log = get_logger(__name__)

FIRST_WINDOW = 64
"""Number of balls in the first window; every undisturbed window doubles it …"""

LARGEST_WINDOW = 1_000
"""… up to this number."""

SMALLEST_WINDOW = 8
"""Lower limit when disturbed windows halve it."""

BYTES_PER_BALL = 1_000_000
"""
Limit for the bytes of a window, per ball of its size: 64 MB in the first window, 1 GB in the largest.

The data follows within ``MAX_ANNOUNCED_SECONDS``, or each ball is listed by itself: 64 MB take 6 s at 10 MB/s. Windows
of more bytes come only after windows without a late ball.
"""

ANNOUNCING_SECONDS = 8.0
"""After this time, a window announces no further ball, so that data follows within ``MAX_ANNOUNCED_SECONDS``."""

FEWEST_BALLS = 16
"""Up to this number, balls of a bucket are listed one by one: a listing of unknown length may cost more."""

ROWS_PER_BALL = 1_000
"""Limit for a listing, in rows per ball: the listing of a far larger bucket costs more than those of the balls."""

WITHDRAWAL_SECONDS = 10.0
"""Limit for the withdrawal of announcements, which a cancelled batch waits for."""

MAX_LISTING_SIZE = 256 * 1024**2
"""Limit for a listing (bytes): its rows take five times as much memory."""


def listing_limit(balls: int) -> int:
    """Return the size (bytes) up to which listing a bucket is cheaper than listing this number of its balls."""
    return min(balls * ROWS_PER_BALL * listing.ROW_SIZE, MAX_LISTING_SIZE)


@dataclass
class _Bucket:
    """
    A bucket that was listed completely.

    :ivar rows: number of rows in its latest listing
    :ivar seen: rows of the balls to put, in the first listing
    :ivar at: time of the first listing (``time.monotonic``)
    """

    rows: int
    seen: dict[str, list[Metadata]]
    at: float


class UploadWindows:
    """
    Announces balls window by window, in the order in which they are put.

    :param name_of: returns the id of a ball by its number
    :param announce: announces a ball that has no placement; returns None if it needs a put of its own
    :param routers: for the listings
    :param max_concurrency: maximum number of announcements in flight
    """

    def __init__(
        self,
        name_of: Callable[[int], ObjectId],
        announce: Callable[[int], Awaitable[Announced | None]],
        routers: RequestSender,
        max_concurrency: int,
    ) -> None:
        self._name_of = name_of
        self._announce = announce
        self._routers = routers
        self.max_concurrency = max_concurrency
        self._queue: deque[int] = deque()
        self._sizes: dict[int, int] = {}
        """Sizes of the queued balls (bytes)."""
        self._added: set[int] = set()
        """Balls that were added and not popped."""
        self._left: Counter[str] = Counter()
        """Number of queued balls by bucket."""
        self._buckets: dict[str, _Bucket | None] = {}
        """None for a bucket whose balls are put one by one."""
        self._ready: dict[int, Announced | Seen | None] = {}
        self._announced: list[Announced] = []
        """Announcements whose put has not begun, as far as known."""
        self._size = FIRST_WINDOW
        self._disturbed: bool | None = None
        """True after a failed request or a late ball: the next window is smaller. None before the first window."""
        self._lock = asyncio.Lock()

    def add(self, sizes: Mapping[int, int]) -> None:
        """Add balls by their sizes (bytes), in the order in which they are put."""
        self._sizes.update(sizes)
        for number in sizes:
            self._queue.append(number)
            self._added.add(number)
            self._left[self._name_of(number).bucket_id] += 1

    async def pop(self, number: int) -> Announced | Seen | None:
        """
        Return the knowledge about a ball for its put, and announce the next window if the ball is in it.

        None: a put without prior knowledge, also for a ball that was not added.
        """
        if number not in self._added:
            return None
        self._added.remove(number)
        is_next = bool(self._queue) and self._queue[0] == number and not self._lock.locked()
        if is_next and not self._has_windows(number):
            self._take()
            return None
        if number not in self._ready:
            async with self._lock:
                while number not in self._ready and self._queue:
                    await self._open_window()
        found = self._ready.pop(number, None)
        if isinstance(found, Announced) and found.is_late:
            self._disturbed = True
        return found

    async def withdraw(self) -> None:
        """
        Forget the balls that were not put, and delete their announcements; end at the first error.

        The batch was stopped or cancelled, or a source could not be opened.
        """
        self._queue.clear()
        self._sizes.clear()
        self._left.clear()
        self._added.clear()
        unused, self._announced = [found for found in self._announced if not found.is_taken], []
        self._ready.clear()
        try:
            async with asyncio.timeout(WITHDRAWAL_SECONDS):
                await for_each(unused, Announced.withdraw, self.max_concurrency)
        except (MictlanXError, TimeoutError) as error:
            log.info("Deleting the announcements of a stopped batch failed; the next put deletes them: %r", error)

    # -- one window ------------------------------------------------------------------------------------------------

    async def _open_window(self) -> None:
        if self._disturbed is not None:
            smaller, larger = max(self._size // 2, SMALLEST_WINDOW), min(self._size * 2, LARGEST_WINDOW)
            self._size = smaller if self._disturbed else larger
        self._disturbed = False
        for bucket_id in dict.fromkeys(self._name_of(number).bucket_id for number in islice(self._queue, self._size)):
            await self._list_first(bucket_id)
        window: dict[int, Announced | Seen | None] = {}
        began = time.monotonic()
        size = self._next_size()

        def numbers() -> Iterator[int]:
            while self._queue and len(window) < size and not self._disturbed:
                if window and time.monotonic() - began > ANNOUNCING_SECONDS:
                    return
                number = self._take()
                window[number] = None
                yield number

        async def announce(number: int) -> None:
            name = self._name_of(number)
            bucket = self._windowed(name.bucket_id, size)
            if bucket is None:
                return
            if rows := bucket.seen.pop(name.ball_id, None):
                window[number] = Seen(rows, bucket.at)
                return
            try:
                window[number] = await self._announce(number)
            except MictlanXError as error:
                log.info("Announcing %s failed; the window ends before it: %s", name, error)
                self._disturbed = True

        try:
            await for_each(numbers(), announce, self.max_concurrency)
            announced: defaultdict[str, list[Announced]] = defaultdict(list)
            for found in window.values():
                if isinstance(found, Announced):
                    announced[found.upload.name.bucket_id].append(found)
            for bucket_id, own in announced.items():
                await self._confirm(bucket_id, own)
        finally:
            self._ready |= window
            new = [found for found in window.values() if isinstance(found, Announced)]
            self._announced = [found for found in self._announced if not found.is_taken] + new
            if not new and not self._disturbed:
                self._disturbed = None  # a window without data says nothing about the next one

    def _next_size(self) -> int:
        """Return the number of balls in the next window, which its bytes limit too."""
        left = len(self._queue)
        # A short rest is not worth a listing of its own.
        size = left if left <= min(self._size * 1.5, LARGEST_WINDOW) else self._size
        room = self._size * BYTES_PER_BALL
        for place, number in enumerate(islice(self._queue, size)):
            room -= self._sizes[number]
            if room < 0:
                return max(place, 1)
        return size

    def _take(self) -> int:
        number = self._queue.popleft()
        del self._sizes[number]
        self._left[self._name_of(number).bucket_id] -= 1
        return number

    def _has_windows(self, number: int) -> bool:
        """Return whether a ball may be announced in a window."""
        bucket_id = self._name_of(number).bucket_id
        if bucket_id in self._buckets:
            return self._windowed(bucket_id, self._size) is not None
        return self._left[bucket_id] > FEWEST_BALLS

    def _windowed(self, bucket_id: str, balls: int) -> _Bucket | None:
        """Return the bucket if listing it costs less than listing this number of its balls one by one."""
        bucket = self._buckets.get(bucket_id)
        if bucket is None or bucket.rows > ROWS_PER_BALL * balls:
            return None
        return bucket

    async def _list_first(self, bucket_id: str) -> None:
        """List a bucket before the first announcement; if it is too large, its balls are put one by one."""
        if bucket_id in self._buckets or self._left[bucket_id] <= FEWEST_BALLS:
            return
        at = time.monotonic()
        self._buckets[bucket_id] = None
        try:
            found = await self._list(bucket_id, listing_limit(self._left[bucket_id]))
        except MictlanXError as error:
            log.info("Listing bucket %s failed; its objects are put one by one: %s", bucket_id, error)
            return
        rows = len(found.balls)
        if rows > ROWS_PER_BALL * min(self._left[bucket_id], LARGEST_WINDOW):
            return
        self._size = max(self._size, -(-rows // ROWS_PER_BALL))
        wanted = {name.ball_id for name in map(self._name_of, self._queue) if name.bucket_id == bucket_id}
        self._buckets[bucket_id] = _Bucket(rows, _rows_by_ball(found, wanted), at)

    async def _confirm(self, bucket_id: str, announced: Iterable[Announced]) -> None:
        """List a bucket after the announcements, and confirm the balls that have no other writer."""
        own = {found.upload.name.ball_id: found for found in announced}
        try:
            found = await self._list(bucket_id, MAX_LISTING_SIZE)
        except MictlanXError as error:
            log.info(
                "Listing bucket %s failed; %d announced objects are listed one by one: %s", bucket_id, len(own), error
            )
            self._disturbed = True
            del self._buckets[bucket_id]  # the next window lists it again, or puts one by one
            return
        if bucket := self._buckets.get(bucket_id):
            bucket.rows = len(found.balls)
        rows = _rows_by_ball(found, own)
        for ball_id, mine in own.items():
            mine.confirm(rows.get(ball_id, []), found.peers_ids)

    async def _list(self, bucket_id: str, max_size: int) -> GetRouterBucketMetadataResponse:
        """List a bucket on every peer; a peer that hangs is noticed within the time of a roll-call."""
        quick = self._routers.with_timeout(listing.PEER_CHECK_TIMEOUT)
        return await quick.with_retries(lambda: listing.list_bucket(quick, bucket_id, max_size))


def _rows_by_ball(found: GetRouterBucketMetadataResponse, ball_ids: Iterable[str]) -> dict[str, list[Metadata]]:
    wanted = set(ball_ids)
    rows: defaultdict[str, list[Metadata]] = defaultdict(list)
    for row in found.balls:
        if row.ball_id in wanted:
            rows[row.ball_id].append(row)
    return dict(rows)
