"""Which router is next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from airflow_provider_mictlanx.client.errors import (
    ConnectFailedError,
    DNSResolutionError,
    MictlanXError,
    NetworkError,
    NotFoundError,
    RequestTimeoutError,
    UnavailableError,
    UnknownError,
)
from airflow_provider_mictlanx.client.transfer.router_pool import RouterPool


@dataclass
class Router:
    router_id: str

    def base_url(self) -> str:
        return f"http://{self.router_id}"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def balancer(clock: Clock) -> RouterPool:
    return RouterPool([Router("a"), Router("b"), Router("c")], clock=clock)


def fail(balancer: RouterPool, router_id: str, error: type[MictlanXError] = ConnectFailedError) -> None:
    router = next(router for router in balancer.routers if router.router_id == router_id)
    with pytest.raises(error), balancer.track(router):
        raise error("no")


def picked(balancer: RouterPool, number: int) -> list[str]:
    found = []
    for _ in range(number):
        with balancer.track(balancer.pick()) as router:
            found.append(router.router_id)
    return found


def test_idle_routers_take_turns(balancer: RouterPool) -> None:
    assert picked(balancer, 6) == ["a", "b", "c", "a", "b", "c"]


def test_the_one_with_the_fewest_in_flight_is_next(balancer: RouterPool) -> None:
    with balancer.track(balancer.pick()), balancer.track(balancer.pick()):
        assert picked(balancer, 3) == ["c", "c", "c"]
    assert Counter(picked(balancer, 6)) == {"a": 2, "b": 2, "c": 2}


def test_many_in_flight_are_spread(balancer: RouterPool) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        routers = [stack.enter_context(balancer.track(balancer.pick())) for _ in range(9)]
        assert Counter(router.router_id for router in routers) == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize(
    "error", [ConnectFailedError, DNSResolutionError, NetworkError, RequestTimeoutError, UnknownError]
)
def test_one_that_fails_rests(balancer: RouterPool, clock: Clock, error: type[MictlanXError]) -> None:
    fail(balancer, "a", error)
    assert "a" not in picked(balancer, 6)
    clock.now += 9.9
    assert "a" not in picked(balancer, 6)
    clock.now += 0.2
    assert "a" in picked(balancer, 3)


@pytest.mark.parametrize("error", [NotFoundError, UnavailableError])
def test_one_that_answers_properly_does_not_rest(balancer: RouterPool, error: type[MictlanXError]) -> None:
    fail(balancer, "a", error)
    assert "a" in picked(balancer, 3)


def test_when_all_rest_the_one_that_rested_longest_is_tried(balancer: RouterPool, clock: Clock) -> None:
    for router_id in ("b", "a", "c"):
        fail(balancer, router_id)
        clock.now += 1
    assert balancer.pick().router_id == "b"


def test_an_answer_ends_the_rest(balancer: RouterPool) -> None:
    fail(balancer, "a")
    with balancer.track(balancer.routers[0]):
        pass
    assert "a" in picked(balancer, 3)


def test_tried_routers_are_skipped_while_others_are_left(balancer: RouterPool) -> None:
    assert balancer.pick(["a"]).router_id != "a"
    assert balancer.pick(["a", "b"]).router_id == "c"
    assert balancer.pick(["a", "b", "c"]).router_id in "abc"


def test_failures_are_not_in_flight_any_more(balancer: RouterPool, clock: Clock) -> None:
    for _ in range(5):
        fail(balancer, "a", NotFoundError)
    assert Counter(picked(balancer, 9)) == {"a": 3, "b": 3, "c": 3}
