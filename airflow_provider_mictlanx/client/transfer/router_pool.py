"""
Send requests to the least busy router, and retry transient failures.

The router with the fewest requests in flight is chosen; routers with the same number take turns. A router that could
not be reached, or whose request failed, is skipped during a cooldown, which its next success ends. If all routers are
in cooldown, the one whose cooldown ends first is tried, so no request fails for lack of a router.

While no router can be reached, requests wait for ``CONNECT_PATIENCE`` seconds. A failed connection has sent nothing, so
it uses up no tries. All waiting requests of a pool share one wait: one of them probes the routers.

A ``RequestSender`` serves one call of the client and holds the options of its requests.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from option import Result

from airflow_provider_mictlanx.client.errors import (
    CertificateError,
    ConnectFailedError,
    DNSResolutionError,
    MictlanXError,
    NetworkError,
    UnavailableError,
    UnknownError,
    UpstreamProtocolError,
)
from airflow_provider_mictlanx.client.protocol.endpoint import RequestOptions
from airflow_provider_mictlanx.client.protocol.router import AsyncRouter
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.retry import RetryConfig, is_transient, remember_failure
from airflow_provider_mictlanx.client.texts import format_first, get_logger
from airflow_provider_mictlanx.client.transport.limits import CONNECT_TIMEOUT
from airflow_provider_mictlanx.client.validation import check_seconds, check_timeout

T = TypeVar("T")
log = get_logger(__name__)


COOLDOWN_SECONDS = 10.0
"""Time for which a router is skipped after a failed request, while others are left (seconds)."""

CONNECT_PATIENCE = 20.0
"""Time for which a request waits while no router can be reached (seconds)."""

FIRST_PAUSE = 0.1
"""Pause before the first probe of a router (seconds); every later pause is twice as long …"""

LONGEST_PAUSE = 1.0
"""… up to this time (seconds)."""

PROBE_TIMEOUT = CONNECT_TIMEOUT + 5
"""Timeout of a probe (seconds), long enough to tell a slow answer from a failed connection."""

ROUTERS_SHOWN = 3
"""Maximum number of routers that a message names."""

NOT_CONNECTED = (ConnectFailedError, DNSResolutionError)
"""Errors of a request of which nothing was sent."""

_MAY_BE_THE_ROUTERS = (NetworkError, UnknownError, UpstreamProtocolError)
"""
Errors after which other routers are preferred for a while.

Taking turns does not avoid a router that fails: a put asks twice per try, so with two routers every announcement would
go to the same one.
"""


class RouterPool:
    """
    Chooses a router for every request.

    :param routers: at least one, with unique ids
    :param clock: returns the time (seconds); for tests
    :param patience: time for which a request waits while no router can be reached (seconds)
    """

    def __init__(
        self,
        routers: Sequence[AsyncRouter],
        clock: Callable[[], float] = time.monotonic,
        patience: float = CONNECT_PATIENCE,
    ):
        self.routers = list(routers)
        self._patience = check_seconds("connect_patience", patience)
        self._waiting = 0
        """Number of requests that wait for a router."""
        self._probing = asyncio.Lock()
        """Held by the request that probes the routers; the others wait for it."""
        self._wait_began = self._wait_ended = self._gave_up = -math.inf
        self._clock = clock
        self._in_flight = {router.router_id: 0 for router in self.routers}
        self._cooldown_until = {router.router_id: 0.0 for router in self.routers}
        self._turn = 0
        self._last_turn = {router.router_id: 0 for router in self.routers}

    def pick(self, exclude: Collection[str] = ()) -> AsyncRouter:
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

    def track(self, router: AsyncRouter) -> TrackedRequest:
        """Count a request to this router; start its cooldown if the request fails."""
        return TrackedRequest(self, router)

    def begin(self, router: AsyncRouter) -> None:
        """Count a request to a router."""
        self._turn += 1
        self._last_turn[router.router_id] = self._turn
        self._in_flight[router.router_id] += 1

    def end(self, router: AsyncRouter, error: BaseException | None) -> None:
        """Count the end of a request, and its error if it failed."""
        self._in_flight[router.router_id] -= 1
        if isinstance(error, _MAY_BE_THE_ROUTERS) and not isinstance(error, UnavailableError):
            self._cooldown_until[router.router_id] = self._clock() + COOLDOWN_SECONDS
        elif error is None:
            self._cooldown_until[router.router_id] = 0.0
            self._gave_up = -math.inf

    async def wait_for_router(
        self, error: MictlanXError, first_failure: float, probe: Callable[[AsyncRouter], Awaitable[object]]
    ) -> None:
        """
        Wait until a router can be reached; raise the error, marked as ``exhausted``, when the patience is over.

        A request that fails soon after another one has waited in vain does not wait again: else a bulk would wait once
        for each of its balls.

        :param error: of a request that reached no router
        :param first_failure: time at which the request reached no router for the first time
        :param probe: sends a small request to a router
        """
        error.exhausted = True
        now = time.monotonic()
        if not self._patience:
            raise error
        if now < self._gave_up + self._patience:
            error.amend(f"{error}; not waiting again: {self._describe_vain_wait()}")
            raise error
        if not self._waiting:
            self._probing = asyncio.Lock()  # the last one may belong to another event loop
        if not self._waiting or self._wait_ended > self._wait_began:
            self._wait_began = now
            log.warning("%s; waiting up to %g s for %s", error, self._patience, self._describe_routers())
        self._waiting += 1
        try:
            async with asyncio.timeout(first_failure + self._patience - now), self._probing:
                if self._wait_ended < now:  # no other request has reached a router meanwhile
                    router = await self._probe(probe)
                    self._wait_ended = time.monotonic()
                    waited = self._wait_ended - self._wait_began
                    log.info("Router %s answered after %.1f s; continuing", router.router_id, waited)
        except TimeoutError:
            self._gave_up = time.monotonic()
            error.amend(f"{error}; {self._describe_vain_wait()}")
            raise error from None
        finally:
            self._waiting -= 1
            if not self._waiting and self._wait_ended < self._wait_began:
                waited = time.monotonic() - self._wait_began
                log.warning("Stopped waiting after %.1f s for %s", waited, self._describe_routers())

    async def _probe(self, probe: Callable[[AsyncRouter], Awaitable[object]]) -> AsyncRouter:
        """Probe all routers with growing pauses; return the first that can be reached."""

        async def probe_until_reached(router: AsyncRouter) -> AsyncRouter:
            pause = FIRST_PAUSE
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    with self.track(router):
                        await probe(router)
                except MictlanXError as error:
                    if is_unreachable(error):
                        continue
                return router

        probes = [asyncio.create_task(probe_until_reached(router)) for router in self.routers]
        try:
            done, _ = await asyncio.wait(probes, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in probes:
                task.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    def _describe_vain_wait(self) -> str:
        return f"{self._describe_routers()} could not be reached for {self._patience:g} s"

    def _describe_routers(self) -> str:
        named = [f"{router.router_id} ({router.base_url()})" for router in self.routers]
        return f"router{'s' if len(named) > 1 else ''} {format_first(named, most=ROUTERS_SHOWN)}"


class TrackedRequest:
    """Context manager that counts a request to a router; it is entered for every request."""

    def __init__(self, pool: RouterPool, router: AsyncRouter) -> None:
        self._pool = pool
        self._router = router

    def __enter__(self) -> AsyncRouter:
        self._pool.begin(self._router)
        return self._router

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._pool.end(self._router, error)


def is_unreachable(error: MictlanXError) -> bool:
    """Return whether a router could not be reached; a refused certificate is an answer."""
    return isinstance(error, NOT_CONNECTED) and not isinstance(error, CertificateError)


Request = Callable[[AsyncRouter, RequestOptions], Awaitable[Result[T, MictlanXError]]]


@dataclass(frozen=True)
class RequestSender:
    """
    Sends the requests of one call.

    :param pool: of the routers
    :param options: of every request
    :param retry: the number of tries and the waits between them
    """

    pool: RouterPool
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
        """Send a request once; try each router until one can be reached, and wait for one if none can."""
        tried: list[str] = []
        first_failure = 0.0
        while True:
            try:
                with self.pool.track(self.pool.pick(tried)) as router:
                    return unwrap(await request(router, self.options))
            except NOT_CONNECTED as error:
                tried.append(router.router_id)
                if len(tried) < len(self.pool.routers):
                    continue
                if not is_unreachable(error):
                    raise
                remember_failure(error)
                first_failure = first_failure or time.monotonic()
                await self.pool.wait_for_router(error, first_failure, self._probe)
                tried.clear()

    async def _probe(self, router: AsyncRouter) -> None:
        options: RequestOptions = {**self.options, "timeout": PROBE_TIMEOUT}
        unwrap(await router.get_peers(**options))

    async def request_to(self, router: AsyncRouter, request: Request[T]) -> T:
        """Send a request once, to this router: only the router that issued a task knows it."""
        if len(self.pool.routers) == 1:
            return await self.request_once(request)
        with self.pool.track(router):
            return unwrap(await request(router, self.options))
