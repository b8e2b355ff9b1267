"""
``MictlanXHook``: an Airflow connection becomes a MictlanX client, for code that blocks and for code that awaits.

Imports the client, and the other modules of this folder. All transfer logic is the client's, the bulks' and the batches'.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from airflow_provider_mictlanx.assets.places import Trace
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.texts import clean
from airflow_provider_mictlanx.get_provider_info import UI_FIELD_BEHAVIOUR
from airflow_provider_mictlanx.hooks import form, results
from airflow_provider_mictlanx.hooks.batches import BatchCalls
from airflow_provider_mictlanx.hooks.bulks import BulkCalls
from airflow_provider_mictlanx.hooks.connection import Settings
from airflow_provider_mictlanx.hooks.deleting import DeletingCalls
from airflow_provider_mictlanx.hooks.failures import errors_name_connection
from airflow_provider_mictlanx.hooks.finding import FindingCalls
from airflow_provider_mictlanx.hooks.looking import LookingCalls
from airflow_provider_mictlanx.hooks.lookup import alook_up, look_up
from airflow_provider_mictlanx.hooks.reading import ReadingCalls
from airflow_provider_mictlanx.hooks.runner import Runner
from airflow_provider_mictlanx.hooks.writing import WritingCalls

P = ParamSpec("P")
T = TypeVar("T")

_NOT_COPIED = frozenset({"_settings", "_look_up_lock", "_runner", "_log"})


class MictlanXHook(WritingCalls, ReadingCalls, LookingCalls, FindingCalls, DeletingCalls, BatchCalls, BulkCalls):
    """
    Interact with MictlanX.

    Every method that talks to the storage comes twice: ``put`` blocks, its twin ``aput`` is awaited. The blocking ones work
    with and without a running event loop, in any thread and in forked workers; ``cancel`` stops them from elsewhere. All
    of them raise ``MictlanXError``s only (a connection that is missing or can't be understood is a ``ValidationError``).

    ``timeout`` is for one request (seconds), ``max_tries`` per chunk, ``max_backoff`` the longest pause between two tries
    (seconds), ``deadline`` for the whole call (seconds; default none). ``timeout``, ``chunk_size`` and ``max_concurrency``
    default to the connection's, else to the client's.

    :param mictlanx_conn_id: the connection
    :ivar trace: what this hook has read, written and deleted, for lineage
    """

    conn_name_attr = "mictlanx_conn_id"
    default_conn_name = "mictlanx_default"
    conn_type = "mictlanx"
    hook_name = "MictlanX"

    def __init__(self, mictlanx_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mictlanx_conn_id = mictlanx_conn_id
        self.trace = Trace()
        self._settings: Settings | None = None
        self._look_up_lock = threading.Lock()
        self._runner = Runner()

    def __getstate__(self) -> dict[str, Any]:
        """
        Leave behind what belongs to this process, and the connection with its secrets.

        Operators are copied, and pickled, with the hook they may hold.
        """
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_COPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with a lock and a runner of its own; the connection is looked up anew."""
        self.__dict__.update(state)
        self._settings = None
        self._look_up_lock = threading.Lock()
        self._runner = Runner()
        self._log = None

    # The connection

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Give the form's extra fields to Airflow before 3.2."""
        return form.connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Give what the form hides and renames to Airflow before 3.2."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @property
    def settings(self) -> Settings:
        """The connection, looked up once; threads that ask at the same time share the look-up."""
        if self._settings is None:
            with self._look_up_lock:
                if self._settings is None:
                    self._settings = look_up(self.mictlanx_conn_id, self)
        return self._settings

    async def aget_settings(self) -> Settings:
        """Give ``settings`` without blocking the loop; coroutines that ask at the same time share the look-up."""
        if self._settings is None:
            self._settings = await alook_up(self.mictlanx_conn_id, self, lambda: self._settings)
        return self._settings

    def get_conn(self) -> AsyncClient:
        """
        Give an unopened client, to be used as ``async with hook.get_conn() as client``.

        Its methods return a ``Result``. Looks the connection up and reads TLS files, so it blocks; within an event loop use
        ``aget_conn``.
        """
        return _client(self.settings, self.settings.tls())

    @asynccontextmanager
    async def aget_conn(self) -> AsyncIterator[AsyncClient]:
        """
        Open a client for many calls: ``async with hook.aget_conn() as client``; it is closed at the end.

        Its methods return a ``Result``. It belongs to the running event loop and is not to be kept for another. A ``MictlanXError``
        that leaves the block names the connection.
        """
        settings = await self.aget_settings()
        verify = await asyncio.to_thread(settings.tls) if settings.reads_tls_files else settings.verify
        async with _client(settings, verify) as client:
            with errors_name_connection(self.mictlanx_conn_id):
                yield client

    def test_connection(self) -> tuple[bool, str]:
        """
        Ask every router for its peers, and tell what each of them says. Never raises.

        False where a router fails, where no peer is available, and where routers name different peers: those belong to
        different storage spaces, and what is written through one would be missing in the other.
        """
        try:
            return self._run(self._acheck)
        except Exception as error:
            return False, clean(str(error)) or type(error).__name__

    async def _acheck(self) -> tuple[bool, str]:
        async with self.aget_conn() as client:
            checks = value_of(await client.check_routers())
        return results.of_connection_test(checks)

    # Blocking calls

    def cancel(self) -> None:
        """
        Stop the blocking calls that are under way in other threads, and refuse new ones; safe in a signal handler.

        Whoever waits for one of them gets ``asyncio.CancelledError``, when it has cleaned up behind itself.
        """
        self._runner.cancel()

    def _run(self, twin: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async twin for a caller that blocks. The connection is looked up here, before there is a loop."""
        if not self._runner.cancelled:
            _ = self.settings
        return self._runner.run(partial(twin, *args, **kwargs))


def _client(settings: Settings, verify: Any) -> AsyncClient:
    """Make a client that keeps no log folder and no read cache, and is quiet: httpx would log a line per request."""
    if (log := logging.getLogger("httpx")).level == logging.NOTSET:
        log.setLevel(logging.WARNING)  # as Airflow 3 does by itself
    return AsyncClient(
        settings.uri,
        settings.client_id,
        debug=False,
        log_output_path=None,
        capacity_storage="0",
        verify=verify,
        token=settings.token,
        headers=settings.headers,
    )
