"""
Which router is next, and which are resting after a failure. Knows routers only as things with an id.

A router is chosen by the number of requests it has in flight from here, the fewest first; among equals it goes round. One
that could not be reached rests for a while; when all of them rest, the one that has rested longest is tried: a
request is never refused for want of a router.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from airflow_provider_mictlanx.client.errors import ConnectFailedError, DNSResolutionError

REST_SECONDS = 10.0


class HasRouterId(Protocol):
    """Anything that is called by a router id."""

    router_id: str


R = TypeVar("R", bound=HasRouterId)


class Balancer(Generic[R]):
    """
    Chooses a router for every request.

    :param routers: at least one, with ids of their own
    :param rest: how long a router that could not be reached is left alone (seconds)
    :param clock: tells the time (seconds); for tests
    """

    def __init__(self, routers: Sequence[R], rest: float = REST_SECONDS, clock: Callable[[], float] = time.monotonic):
        self.routers = list(routers)
        self._rest = rest
        self._clock = clock
        self._in_flight = {router.router_id: 0 for router in self.routers}
        self._resting_until = {router.router_id: 0.0 for router in self.routers}
        self._turn = 0
        self._last_turn = {router.router_id: 0 for router in self.routers}

    def pick(self, besides: Collection[str] = ()) -> R:
        """
        Give the router that is next.

        :param besides: ids of routers that were tried already; they are taken only when there is no other
        """
        now = self._clock()
        candidates = [router for router in self.routers if router.router_id not in besides] or self.routers
        awake = [router for router in candidates if self._resting_until[router.router_id] <= now]
        if awake:
            return min(awake, key=lambda r: (self._in_flight[r.router_id], self._last_turn[r.router_id]))
        return min(candidates, key=lambda r: self._resting_until[r.router_id])

    @contextmanager
    def lease(self, besides: Collection[str] = ()) -> Iterator[R]:
        """Choose a router and count the request that is made of it."""
        router = self.pick(besides)
        with self.hold(router):
            yield router

    @contextmanager
    def hold(self, router: R) -> Iterator[None]:
        """Count a request that has to go to this router; one that can't be reached is sent to rest."""
        self._turn += 1
        self._last_turn[router.router_id] = self._turn
        self._in_flight[router.router_id] += 1
        try:
            yield
        except (ConnectFailedError, DNSResolutionError):
            self._resting_until[router.router_id] = self._clock() + self._rest
            raise
        else:
            self._resting_until[router.router_id] = 0.0
        finally:
            self._in_flight[router.router_id] -= 1
