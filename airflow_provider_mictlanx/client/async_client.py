"""
``AsyncClient``: the documented surface of the client. Every method returns a ``Result``; the engines behind it raise.

The names, their order and the defaults are the official client's, so that code written for it runs on this one; what is
this client's own are keyword arguments at the end (``replace``, ``deadline``, ``check_storage``), and ``upload`` and
``download``, which tell more of what they did.
"""

from __future__ import annotations

import asyncio
import time
from typing import Self

from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.client.models import RouterCheck
from airflow_provider_mictlanx.client.result import returns_result, value_of
from airflow_provider_mictlanx.client.router import AsyncRouter
from airflow_provider_mictlanx.client.surface.bulks import Bulks
from airflow_provider_mictlanx.client.surface.copying import Copying
from airflow_provider_mictlanx.client.surface.deleting import Deleting
from airflow_provider_mictlanx.client.surface.looking import Looking


class AsyncClient(Bulks, Copying, Looking, Deleting):
    """
    A client of one MictlanX storage space.

    It opens no connection before the first request, and is closed with ``aclose`` or by ``async with``. Use it from one event
    loop at a time.

    :param uri: the routers, as ``mictlanx://router-0@host:60666/?protocol=http``, or a ``MictlanXURI``
    :param client_id: who writes; stored with every chunk as its ``producer_id``
    :param debug: whether everything is logged to the console
    :param max_workers: the most threads, for files and hashing
    :param log_output_path: the folder of the log file ``{client_id}.log``; None or empty for no file. A folder that can't be
        used is warned of, once
    :param log_when: the unit of ``log_interval``, as ``logging.handlers.TimedRotatingFileHandler`` has it (``"m"`` = minutes)
    :param log_interval: after how many of these the log file is rotated
    :param eviction_policy: what the read cache forgets first: ``LRU``, ``LFU``, ``FIFO`` or ``RR`` (any, at random)
    :param capacity_storage: of the read cache of ``get`` (``"1GB"``, or bytes); 0 for none. A cached ball is handed out only
        while its checksum is still the stored one
    :param verify: how TLS is checked: True = by the system's authorities, False = not at all, a text = by the authorities of
        that file, or an ``ssl.SSLContext``. It holds for every request
    :param token: sent to the routers as ``Authorization: Bearer``
    :param headers: sent to the routers with every request

    Raises ``ValidationError`` where an argument is wrong.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        await self.aclose(cancel_bulks=exc_type is not None)

    async def aclose(self, cancel_bulks: bool = False) -> None:
        """
        Wait for the bulks under way, close the connections and let the threads end.

        :param cancel_bulks: whether bulks under way are cancelled instead
        """
        try:
            await self._end_bulks(cancel_bulks)
        finally:
            for router in self._balancer.routers:
                await router.aclose()
            await self._transport.aclose()
            self._threads.close()
            self._cache.clear()
            self._logs.close()

    @returns_result
    async def check_routers(self, timeout: float = 10) -> list[RouterCheck]:
        """
        Ask every router for its peers, all at once; a router that does not answer has its error in its line.

        :param timeout: for each router (seconds)
        """
        return list(await asyncio.gather(*(self._check(router, timeout) for router in self._balancer.routers)))

    async def _check(self, router: AsyncRouter, timeout: float) -> RouterCheck:
        started = time.monotonic()
        available: list[str] = []
        unavailable: list[str] = []
        problem: MictlanXError | None = None
        try:
            peers = value_of(await router.get_peers(timeout=timeout, verify=self._verify))
            available = [peer.peer_id for peer in peers.available]
            unavailable = [peer.peer_id for peer in peers.unavailable]
        except MictlanXError as error:
            problem = error
        milliseconds = round((time.monotonic() - started) * 1000, 1)
        return RouterCheck(router.router_id, router.base_url(), available, unavailable, milliseconds, problem)
