"""
Triggers, to which the sensors defer.

Airflow imports them on the event loop of the triggerer. So they have only the arguments; ``triggers/conditions.py``,
which a thread imports, has the rest.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow_provider_mictlanx.triggers.conditions import Condition


@dataclass(kw_only=True, eq=False, repr=False)
class PollingTrigger(BaseTrigger):
    """
    Poke until there is a result, a timeout or an error, then fire one event.

    The event is ``{"status": "success", "result": …}``, ``{"status": "timeout"}`` or an error
    (``hooks.errors.error_event``); ``conditions.read_event`` reads it.

    All arguments are JSON, without secrets. The end of the wait is a point in time, so a triggerer that takes over
    continues with the remaining time. Cancelling ``run``, as Airflow does when somebody ends the task, stops all
    requests.

    :param mictlanx_conn_id: the connection
    :param poke_interval: seconds between two pokes
    :param ends_at: end of the wait, in seconds since 1970; None for no end
    :param request_timeout: seconds for one request; None for the connection's
    :param exponential_backoff: increase the pauses like Airflow's own sensors
    :param max_wait: longest pause of ``exponential_backoff``, in seconds
    :param silent_fail: log a transient error, and continue to wait
    """

    mictlanx_conn_id: str
    poke_interval: float
    ends_at: float | None
    request_timeout: float | None = None
    exponential_backoff: bool = False
    max_wait: float | None = None
    silent_fail: bool = False

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class, and the arguments that rebuild the trigger."""
        arguments = {argument.name: getattr(self, argument.name) for argument in fields(self)}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    @abstractmethod
    def create_condition(self) -> Condition:
        """Import and return what pokes; in the triggerer, only for a thread."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire the event."""
        condition = await asyncio.to_thread(self.create_condition)
        yield TriggerEvent(await condition.wait())  # type: ignore[no-untyped-call, unused-ignore]


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXObjectTrigger(PollingTrigger):
    """
    Fire when an object, or enough objects, are stored in a bucket.

    The result is that of ``MictlanXHook.find`` for one key, else that of ``MictlanXHook.find_objects``. Further
    parameters: see ``PollingTrigger``.

    :param bucket_id: the bucket
    :param key: the object's name, or a list of names
    :param prefix: instead of ``key``: all keys that begin with it
    :param glob: instead of ``key``: all keys that match it
    :param min_objects: required number of objects; default: every key of a list, else 1
    :param check_storage: read and verify every chunk before an object counts
    :param checked_by_task: fire when the objects are listed, with ``{ends_at}`` as result: the task checks them, and
        defers again unless they pass
    """

    bucket_id: str
    key: str | list[str] | None = None
    prefix: str | None = None
    glob: str | None = None
    min_objects: int | None = None
    check_storage: bool = True
    checked_by_task: bool = False

    def create_condition(self) -> Condition:
        """Import and return what pokes; in the triggerer, only for a thread."""
        from airflow_provider_mictlanx.triggers.conditions import ObjectCondition

        return ObjectCondition(self)


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXBucketUnchangedTrigger(PollingTrigger):
    """
    Fire when a bucket has not changed for some time.

    The result is that of ``MictlanXHook.find_unchanged_bucket``. Further parameters: see ``PollingTrigger``.

    :param bucket_id: the bucket
    :param prefix: only keys that begin with it
    :param inactivity_period: required seconds without a change
    :param min_objects: required number of complete objects
    :param allow_delete: accept deletes during the wait
    :param state: state after the last poke (``InactivityMonitor.state``), which another process compares with
    """

    bucket_id: str
    prefix: str
    inactivity_period: float
    min_objects: int
    allow_delete: bool
    state: dict[str, Any] | None

    def create_condition(self) -> Condition:
        """Import and return what pokes; in the triggerer, only for a thread."""
        from airflow_provider_mictlanx.triggers.conditions import BucketUnchangedCondition

        return BucketUnchangedCondition(self)


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXBulkCompleteTrigger(PollingTrigger):
    """
    Fire when every shard of a bulk is complete.

    The result is that of ``MictlanXHook.await_bulk``, without items. For a bulk that failed permanently the event is an
    error; with ``fail_on_error=False`` it is a result. Further parameters: see ``PollingTrigger``.

    :param bulk_id: the bulk
    :param fail_on_error: report a bulk that failed permanently as an error
    :param check_storage: read and verify every chunk of every object before firing
    :param check_run: name of the check; another process continues a check of the same name
    :param check_seconds: seconds for the check in each poke
    """

    bulk_id: str
    fail_on_error: bool = True
    check_storage: bool = False
    check_run: str = ""
    check_seconds: float = 60

    def create_condition(self) -> Condition:
        """Import and return what pokes; in the triggerer, only for a thread."""
        from airflow_provider_mictlanx.triggers.conditions import BulkCompleteCondition

        return BulkCompleteCondition(self)
