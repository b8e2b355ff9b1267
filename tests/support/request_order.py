"""
Interleavings that are chosen, not hoped for: several clients at once, of whose requests one at a time is let through.

Every client speaks to a router of its own in front of the storage space, which holds each request until its client's turn has come.
A turn is given only while every client waits for one or is done, so a schedule leads to the same interleaving every time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from airflow_provider_mictlanx.client import AsyncClient
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.vss import LocalVSS

Actor = Callable[[AsyncClient], Awaitable[Any]]

_LONGEST = 60
"""No turn waits longer for the clients (seconds)."""


class Turns:
    """
    :param schedule: whose turn it is, as numbers of clients; when it is used up, the first client that waits goes on
    """

    def __init__(self, vss: LocalVSS, schedule: Sequence[int]) -> None:
        self._vss = vss
        self._schedule = list(schedule)
        self._waiting: list[list[asyncio.Future[None]]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._passing = 0
        self._changed = asyncio.Event()
        self.order: list[tuple[int, str]] = []
        """What was let through: number of the client, and method and path."""

    async def run(self, *actors: Actor) -> list[Any]:
        """Run the clients, and return their results."""
        self._waiting = [[] for _ in actors]
        async with contextlib.AsyncExitStack() as stack:
            for number, actor in enumerate(actors):
                interceptor = await stack.enter_async_context(intercepting(self._gate(number), self._vss))
                client = await stack.enter_async_context(AsyncClient(interceptor.uri, f"client-{number}"))
                task = asyncio.create_task(actor(client))  # type: ignore[arg-type]
                task.add_done_callback(lambda _: self._changed.set())
                self._tasks.append(task)
            await self._give_turns()
            return [await task for task in self._tasks]

    def _gate(self, number: int) -> Callable[[Asked, Callable[[Asked], Awaitable[Reply]]], Awaitable[Reply | None]]:
        async def hold(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply:
            turn = asyncio.get_running_loop().create_future()
            self._waiting[number].append(turn)
            self._changed.set()
            await turn
            self.order.append((number, f"{asked.method} {asked.path}"))
            try:
                return await pass_on(asked)
            finally:
                self._passing -= 1
                self._changed.set()

        return hold

    async def _give_turns(self) -> None:
        async with asyncio.timeout(_LONGEST):
            while not all(task.done() for task in self._tasks):
                if self._all_wait():
                    self._passing += 1
                    self._waiting[self._next()].pop(0).set_result(None)
                else:
                    self._changed.clear()
                    await self._changed.wait()

    def _all_wait(self) -> bool:
        return self._passing == 0 and all(
            task.done() or waiting for task, waiting in zip(self._tasks, self._waiting, strict=True)
        )

    def _next(self) -> int:
        while self._schedule:
            number = self._schedule.pop(0)
            if self._waiting[number]:
                return number
        return next(number for number, waiting in enumerate(self._waiting) if waiting)
