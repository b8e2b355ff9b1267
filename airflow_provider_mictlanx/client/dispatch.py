"""
The engines' way to the routers: every request goes to the router that the balancer picks, and what can pass is repeated.

One dispatcher serves one call of the surface; it holds what is the same for all of its requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict, TypeVar

from option import Result

from airflow_provider_mictlanx.client.balancer import Balancer
from airflow_provider_mictlanx.client.errors import (
    ConnectFailedError,
    DNSResolutionError,
    MictlanXError,
)
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.retry import RetryRule, can_pass
from airflow_provider_mictlanx.client.router import AsyncRouter
from airflow_provider_mictlanx.client.transport import Verify, checked_timeout

T = TypeVar("T")


class How(TypedDict):
    """What every request takes: seconds, further headers, and how TLS is checked."""

    timeout: float
    headers: Mapping[str, str]
    verify: Verify


Request = Callable[[AsyncRouter, How], Awaitable[Result[T, MictlanXError]]]


@dataclass(frozen=True)
class Dispatcher:
    """
    Sends the requests of one call.

    :param balancer: knows the routers
    :param how: goes with every request
    :param rule: how often a request is tried
    """

    balancer: Balancer[AsyncRouter]
    how: How
    rule: RetryRule = field(default_factory=RetryRule)

    def __post_init__(self) -> None:
        checked_timeout(self.how["timeout"])

    def with_timeout(self, seconds: float) -> Dispatcher:
        """Return a dispatcher whose requests take no longer than this."""
        return replace(self, how={**self.how, "timeout": min(seconds, self.how["timeout"])})

    async def ask(self, request: Request[T], final: tuple[type[MictlanXError], ...] = ()) -> T:
        """
        Make a request, repeated while its failure can pass.

        Raises the last error, marked as ``exhausted``: ``max_tries`` counts per request, and ``repeat`` around it adds no more.

        :param final: errors that are answers to this request, and raised at once
        """
        return await self.repeat_request(lambda: self.once(request), final)

    async def repeat_request(self, work: Callable[[], Awaitable[T]], final: tuple[type[MictlanXError], ...] = ()) -> T:
        """Do the work of one request as ``ask`` does, with its errors."""
        try:
            return await self.repeat(work, final)
        except MictlanXError as error:
            error.exhausted = not isinstance(error, final)
            raise

    async def repeat(self, work: Callable[[], Awaitable[T]], final: tuple[type[MictlanXError], ...] = ()) -> T:
        """Do some work again while its failure can pass and is not ``final``; raises the last error."""
        try:
            return await work()  # nearly always all there is: the rest costs as much as a request
        except MictlanXError as error:
            if not can_pass(error, final):
                raise
            failed: MictlanXError | None = error
        async for attempt in self.rule.attempts(final):
            with attempt:
                first, failed = failed, None
                if first is not None:
                    raise first
                return await work()
        raise AssertionError("tenacity raises the last error")

    async def once(self, request: Request[T]) -> T:
        """Make a request once; a router that can't be reached doesn't count while there is another."""
        tried: list[str] = []
        while True:
            try:
                with self.balancer.lease(tried) as router:
                    return value_of(await request(router, self.how))
            except (ConnectFailedError, DNSResolutionError):
                tried.append(router.router_id)
                if len(tried) >= len(self.balancer.routers):
                    raise

    async def at(self, router: AsyncRouter, request: Request[T]) -> T:
        """Make a request once, of this router: a task is known to the router that gave it."""
        with self.balancer.hold(router):
            return value_of(await request(router, self.how))
