"""
Where a connection comes from: Airflow's secrets backends, database or supervisor. Knows Airflow and ``hooks.connection``.

Both ways, for callers that block and for event loops, end in the same ``Settings``, with its secrets masked in the logs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, mask_secret

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks.connection import ACCEPTED_FORMS, Settings, settings_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseHook

try:
    from airflow.sdk.log import amask_secret
except ImportError:  # before Airflow 3.3.2
    amask_secret = None  # type: ignore[assignment, unused-ignore]

_one_at_a_time: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def look_up(conn_id: str, hook: BaseHook) -> Settings:
    """
    Look a connection up and understand it. Blocks; not to be called where a coroutine could await ``alook_up``.

    Raises ``ValidationError`` where there is no such connection, or where it can't be understood.
    """
    _check_id(conn_id)
    try:
        connection = hook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ValidationError(_why_not_found(conn_id)) from error
    settings = settings_of(connection, connection.extra_dejson)
    for secret in settings.secrets:
        mask_secret(secret)
    return settings


async def alook_up(conn_id: str, hook: BaseHook, known: Callable[[], Settings | None]) -> Settings:
    """
    Do the same without blocking the loop, one look-up per loop at a time.

    Two at once are what Airflow 3 can't take: its lock to the supervisor stays bound to the first loop that contended for
    it, and look-ups in a later loop of that process then end in a misleading "isn't defined".

    :param conn_id: the connection
    :param hook: the hook that asks
    :param known: gives what another coroutine found in the meantime, which saves the look-up
    """
    lock = _one_at_a_time.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with lock:
        if (settings := known()) is not None:
            return settings
        _check_id(conn_id)
        try:
            connection = await get_async_connection(conn_id, hook=hook)
        except AirflowNotFoundException as error:
            raise ValidationError(_why_not_found(conn_id)) from error
        settings = settings_of(connection, await get_async_extra_dejson(connection))
        for secret in settings.secrets:
            await _amask(secret)
        return settings


async def _amask(secret: str) -> None:
    """Mask a secret from within an event loop, where the plain function might wait for the supervisor."""
    if amask_secret is not None:
        await amask_secret(secret)
    else:
        await asyncio.to_thread(mask_secret, secret)


def _check_id(conn_id: str) -> None:
    if not isinstance(conn_id, str) or not conn_id or "\0" in conn_id:
        raise ValidationError(f"mictlanx_conn_id is the id of a connection, not {conn_id!r}")


def _why_not_found(conn_id: str) -> str:
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if not os.environ.get(variable):
        return (
            f"there is no connection {conn_id!r}: make one of type MictlanX in Airflow's connection form, or set {variable}. "
            f"{ACCEPTED_FORMS}"
        )
    return (
        f"connection {conn_id!r}: {variable} is set, but Airflow's own parser refuses what it holds, and reports it as not "
        "defined. It takes no URI with several routers without ids and no port -1; JSON has to be valid. Write it as JSON: "
        f'{variable}=\'{{"conn_type": "mictlanx", "extra": {{"uri": "mictlanx://host:60666,host:60667/?protocol=http"}}}}\'. '
        f"{ACCEPTED_FORMS}"
    )
