"""
Send requests to the least busy router, and retry transient failures.

The router with the fewest requests in flight is chosen; routers with the same number take turns. A router that could
not be reached is skipped during a cooldown. If all routers are in cooldown, the one whose cooldown ends first is tried,
so no request fails for lack of a router.

A ``RequestSender`` serves one call of the client and holds the options of its requests.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from option import Result

from airflow_provider_mictlanx.client.errors import ConnectFailedError, DNSResolutionError, MictlanXError
from airflow_provider_mictlanx.client.protocol.endpoint import RequestOptions
from airflow_provider_mictlanx.client.protocol.router import AsyncRouter
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.retry import RetryConfig, is_transient
from airflow_provider_mictlanx.client.validation import check_timeout

T = TypeVar("T")


COOLDOWN_SECONDS = 10.0


class HasRouterId(Protocol):
    """An object with a router id."""

    router_id: str


R = TypeVar("R", bound=HasRouterId)


class RouterPool(Generic[R]):
    """
    Chooses a router for every request.

    :param routers: at least one, with unique ids
    :param cooldown: time for which a router that could not be reached is skipped (seconds)
    :param clock: returns the time (seconds); for tests
    """

    def __init__(
        self, routers: Sequence[R], cooldown: float = COOLDOWN_SECONDS, clock: Callable[[], float] = time.monotonic
    ):
        self.routers = list(routers)
        self._cooldown = cooldown
        self._clock = clock
        self._in_flight = {router.router_id: 0 for router in self.routers}
        self._cooldown_until = {router.router_id: 0.0 for router in self.routers}
        self._turn = 0
        self._last_turn = {router.router_id: 0 for router in self.routers}

    def pick(self, exclude: Collection[str] = ()) -> R:
        """
        Return the next router.

        :param exclude: ids of routers that were already tried; used only if all were
        """
        now = self._clock()
        candidates = [router for router in self.routers if router.router_id not in exclude] or self.routers
        ready = [router for router in candidates if self._cooldown_until[router.router_id] <= now]
        if ready:
            return min(ready, key=lambda r: (self._in_flight[r.router_id], self._last_turn[r.router_id]))
        return min(candidates, key=lambda r: self._cooldown_until[r.router_id])

    @contextmanager
    def acquire(self, exclude: Collection[str] = ()) -> Iterator[R]:
        """Choose a router and count the request to it."""
        router = self.pick(exclude)
        with self.track(router):
            yield router

    @contextmanager
    def track(self, router: R) -> Iterator[None]:
        """Count a request to this router; start its cooldown if it can't be reached."""
        self._turn += 1
        self._last_turn[router.router_id] = self._turn
        self._in_flight[router.router_id] += 1
        try:
            yield
        except (ConnectFailedError, DNSResolutionError):
            self._cooldown_until[router.router_id] = self._clock() + self._cooldown
            raise
        else:
            self._cooldown_until[router.router_id] = 0.0
        finally:
            self._in_flight[router.router_id] -= 1


Request = Callable[[AsyncRouter, RequestOptions], Awaitable[Result[T, MictlanXError]]]


@dataclass(frozen=True)
class RequestSender:
    """
    Sends the requests of one call.

    :param pool: of the routers
    :param options: of every request
    :param retry: the number of tries and the waits between them
    """

    pool: RouterPool[AsyncRouter]
    options: RequestOptions
    retry: RetryConfig = field(default_factory=RetryConfig)

    def __post_init__(self) -> None:
        check_timeout(self.options["timeout"])

    def with_timeout(self, seconds: float) -> RequestSender:
        """Return a sender whose requests have at most this timeout."""
        return replace(self, options={**self.options, "timeout": min(seconds, self.options["timeout"])})

    async def request(self, request: Request[T], final: tuple[type[MictlanXError], ...] = ()) -> T:
        """
        Send a request, retrying transient errors.

        Raises the last error, marked as ``exhausted``: ``max_tries`` applies per request, so an outer ``with_retries``
        does not retry it again.

        :param final: errors that are expected answers and raised at once
        """
        return await self.repeat_request(lambda: self.request_once(request), final)

    async def repeat_request(self, work: Callable[[], Awaitable[T]], final: tuple[type[MictlanXError], ...] = ()) -> T:
        """Do the work of one request with the retries and errors of ``request``."""
        try:
            return await self.with_retries(work, final)
        except MictlanXError as error:
            error.exhausted = not isinstance(error, final)
            raise

    async def with_retries(self, work: Callable[[], Awaitable[T]], final: tuple[type[MictlanXError], ...] = ()) -> T:
        """Do work, retrying transient errors other than ``final``; raise the last error."""
        try:
            return await work()  # the fast path: tenacity's loop costs as much as a request
        except MictlanXError as error:
            if not is_transient(error, final):
                raise
            failed: MictlanXError | None = error
        async for attempt in self.retry.attempts(final):
            with attempt:
                first, failed = failed, None
                if first is not None:
                    raise first
                return await work()
        raise AssertionError("tenacity raises the last error")

    async def request_once(self, request: Request[T]) -> T:
        """Send a request once; try each router until one can be reached."""
        tried: list[str] = []
        while True:
            try:
                with self.pool.acquire(tried) as router:
                    return unwrap(await request(router, self.options))
            except (ConnectFailedError, DNSResolutionError):
                tried.append(router.router_id)
                if len(tried) >= len(self.pool.routers):
                    raise

    async def request_to(self, router: AsyncRouter, request: Request[T]) -> T:
        """Send a request once, to this router: only the router that issued a task knows it."""
        with self.pool.track(router):
            return unwrap(await request(router, self.options))
