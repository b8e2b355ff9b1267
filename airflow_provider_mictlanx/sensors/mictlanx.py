"""
Sensors of MictlanX: ``MictlanXSensor``, which they derive from, and the sensors.

A sensor makes the trigger that it would defer to, and pokes through the trigger's coroutine in every mode. So XCom,
timeout and failures are the same. Airflow's own base treats an error in a poke and one reported by a trigger
differently, and so do its versions. Here one rule holds in every mode, on every version:

* An error that a retry may resolve is raised as the client's ``MictlanXError``: retried, and skipped by ``never_fail``
  only.
* A permanent error fails the task at once (``AirflowFailException``); ``soft_fail`` does not hide it.
* The end of the wait is ``AirflowSensorTimeout``, or a skip with ``soft_fail``.
"""

from __future__ import annotations

import inspect
import secrets
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.validation import check_seconds
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.arguments import attributes_for
from airflow_provider_mictlanx.hooks.errors import (
    errors_name_connection,
    is_deferral_timeout,
    log_suppressed,
    permanent_errors_fail_the_task,
)
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.hooks.task import MictlanXTask
from airflow_provider_mictlanx.links.mictlanx import MictlanXBucketLink, MictlanXBulkLink, push_links
from airflow_provider_mictlanx.triggers.mictlanx import (
    MictlanXBucketUnchangedTrigger,
    MictlanXBulkCompleteTrigger,
    MictlanXObjectTrigger,
    PollingTrigger,
    read_event,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_STATE_KEY = "mictlanx_seen"
"""The key under which Airflow stores what a rescheduled sensor saw."""


class MictlanXSensor(MictlanXTask, BaseSensorOperator):
    """
    Wait for something in MictlanX: on a worker, by rescheduling, or deferred.

    ``poke_interval``, ``timeout`` (the whole wait), ``mode``, ``soft_fail`` and the like are Airflow's.

    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: seconds for one request to the storage; default: the connection's, else 120
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``
    """

    trigger_class: ClassVar[type[PollingTrigger]]
    """The trigger, which is made with the attributes that it has parameters for."""

    describe: ClassVar[staticmethod[[Any], str]]
    """Returns the log line for what was found; after a deferral the worker's log has no other."""

    def __init__(
        self,
        *,
        mictlanx_conn_id: str = MictlanXHook.default_conn_name,
        request_timeout: float | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mictlanx_conn_id = mictlanx_conn_id
        self.request_timeout = request_timeout
        self.deferrable = deferrable
        self._trigger: PollingTrigger | None = None
        self._links_pushed = False

    def _trigger_arguments(self, context: Context) -> dict[str, Any]:
        """Return the trigger's arguments that are not attributes of the sensor."""
        return {}

    def poke(self, context: Context) -> PokeReturnValue:
        """Poke once; the first poke that reaches a router stores the task's links."""
        with permanent_errors_fail_the_task(), errors_name_connection(self.mictlanx_conn_id):
            found = self.hook._run(self._apoke, self._get_trigger(context))
        if not self._links_pushed:
            push_links(self, context)
            self._links_pushed = True
        return PokeReturnValue(is_done=found is not None, xcom_value=found)

    async def _apoke(self, trigger: PollingTrigger) -> Any | None:
        async with self.hook.open_client() as client:
            return await trigger.apoke(self.hook, client)

    def _get_trigger(self, context: Context) -> PollingTrigger:
        if self._trigger is None:
            arguments = attributes_for(self.trigger_class, self)
            arguments["ends_at"] = None  # set by the deferral
            if isinstance(self.max_wait, timedelta):
                arguments["max_wait"] = self.max_wait.total_seconds()
            self._trigger = self.trigger_class(**arguments | self._trigger_arguments(context))
        return self._trigger

    def execute(self, context: Context) -> Any:
        """Wait, and return what was found."""
        with permanent_errors_fail_the_task():
            return self._poke_and_defer(context) if self.deferrable else self._poke_here(context)

    def _poke_here(self, context: Context) -> Any:
        try:
            # Unwrapped: the guard of Airflow 2 takes a call from a subclass for one from outside a task.
            return inspect.unwrap(BaseSensorOperator.execute)(self, context)
        except AirflowSkipException as skip:
            # With soft_fail, Airflow's loop makes a skip of a permanent error.
            if not (self.soft_fail and isinstance(skip.__cause__, AirflowFailException)):
                raise
            failure = skip.__cause__
        raise failure

    def _poke_and_defer(self, context: Context) -> Any:
        began = time.monotonic()
        first = self._first_poke(context)
        if first.is_done:
            self.log.info("Success criteria met. Exiting.")
            return first.xcom_value
        left = self.timeout - (time.monotonic() - began)
        if left <= 0:
            self._time_out()
        trigger = self._get_trigger(context)
        trigger.ends_at = time.time() + left
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=left))
        return None

    def _first_poke(self, context: Context) -> PokeReturnValue:
        """Poke on the worker, treating errors as Airflow's loop does in the other modes."""
        try:
            return self.poke(context)
        except (AirflowFailException, AirflowSensorTimeout, AirflowSkipException) as error:
            self._skip_if_never_failing(error)
            raise
        except AirflowTaskTimeout as error:
            if self.soft_fail:
                raise AirflowSkipException("Skipping due to soft_fail is set to True.") from error
            self._skip_if_never_failing(error)
            raise
        except Exception as error:
            if self.silent_fail:
                log_suppressed(self.log, error)
                return PokeReturnValue(is_done=False)
            self._skip_if_never_failing(error)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the deferral, without the softening of every error in Airflow's own version for sensors."""
        with permanent_errors_fail_the_task():
            try:
                return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)
            except (MictlanXError, AirflowException) as error:
                if isinstance(error, AirflowException) and is_deferral_timeout(error):
                    self._time_out(error)
                self._skip_if_never_failing(error)
                raise

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Return what the trigger found, or raise the error that it reported."""
        found = read_event(event, self._time_out)
        self.log.info("%s", self.describe(found))
        self.log.info("Success criteria met. Exiting.")
        return found

    def _time_out(self, cause: BaseException | None = None) -> NoReturn:
        message = f"Sensor has timed out: it waited longer than the specified timeout of {self.timeout} seconds."
        if self.soft_fail:
            raise AirflowSkipException(message) from cause
        raise AirflowSensorTimeout(message) from cause

    def _skip_if_never_failing(self, error: BaseException) -> None:
        if self.never_fail and not isinstance(error, AirflowSkipException | AirflowSensorTimeout):
            raise AirflowSkipException("Skipping due to never_fail is set to True.") from error


class MictlanXObjectSensor(MictlanXSensor):
    """
    Wait until an object, or enough objects, are in a bucket and readable.

    A poke reads the listing, which shows announcements, not data. Before the sensor opens, it reads and verifies every
    chunk once (``check_storage``). It waits for an object that is missing, incomplete or not readable yet, and for a
    peer that does not answer; every other error is raised.

    XCom, the same in every mode. For one key: ``{bucket_id, key, ball_id, size, checksum, num_chunks, tags,
    updated_at}``. For several: ``{bucket_id, count, total_size, objects}``; ``objects`` are the first few of them, as
    ``{key, size}``.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``MictlanXSensor``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name, or a list of names; this, ``prefix`` or ``glob`` (templated)
    :param prefix: wait for keys that begin with it (templated)
    :param glob: wait for keys that match, as ``"2024/*.csv"``: ``*`` matches any characters, ``/`` too (templated)
    :param min_objects: how many objects are required, 1 for any; default: every key of a list; 1 with ``prefix`` or
        ``glob``
    :param check_storage: read every chunk before opening; False trusts the listing
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "prefix", "glob", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)
    trigger_class = MictlanXObjectTrigger
    describe = staticmethod(summaries.found_line)

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str | Sequence[str] | None = None,
        prefix: str | None = None,
        glob: str | None = None,
        min_objects: int | None = None,
        check_storage: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.prefix = prefix
        self.glob = glob
        self.min_objects = min_objects
        self.check_storage = check_storage
        self._get_one_of("key", "prefix", "glob", error=ValueError)

    def _trigger_arguments(self, context: Context) -> dict[str, Any]:
        return {"key": self.key if isinstance(self.key, str) or not isinstance(self.key, Sequence) else list(self.key)}


class MictlanXBucketUnchangedSensor(MictlanXSensor):
    """
    Wait until nothing was written to a bucket, and nothing deleted from it, for some time: until its writers are done.

    The storage's own clocks decide when the last write was. A bucket that has not changed for long enough opens the
    sensor at the first poke. From then on, every change that a poke sees restarts the wait. The sensor waits for a
    peer that does not answer.

    XCom, the same in every mode: ``{bucket_id, prefix, count, total_size, updated_at}``; ``updated_at`` is the last
    write, in nanoseconds since 1970.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``MictlanXSensor``.

    :param bucket_id: the bucket (templated)
    :param prefix: only keys that begin with it (templated)
    :param inactivity_period: how long nothing may change, in seconds or as a timedelta
    :param min_objects: how many complete objects are required, 0 for an empty bucket too; empty objects (size 0) do
        not count
    :param allow_delete: allow deletes during the wait; with False they fail the task, without a retry
    """

    template_fields: Sequence[str] = ("bucket_id", "prefix", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)
    trigger_class = MictlanXBucketUnchangedTrigger
    describe = staticmethod(summaries.inactivity_line)

    def __init__(
        self,
        *,
        bucket_id: str,
        prefix: str = "",
        inactivity_period: timedelta | float = 3600,
        min_objects: int = 1,
        allow_delete: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.inactivity_period = inactivity_period
        self.min_objects = min_objects
        self.allow_delete = allow_delete

    def poke(self, context: Context) -> PokeReturnValue:
        """Poke once, and let Airflow keep what was seen for the next poke, in another process."""
        done = super().poke(context)
        store, trigger = self._state_store(context), self._trigger
        if store is not None and isinstance(trigger, MictlanXBucketUnchangedTrigger) and trigger.state is not None:
            store.set(_STATE_KEY, {"try_number": _try_number(context), "state": trigger.state})
        return done

    def _trigger_arguments(self, context: Context) -> dict[str, Any]:
        store = self._state_store(context)
        if self._reschedules and store is None and not self.allow_delete:
            raise ValidationError(
                "allow_delete=False compares with the poke before, which mode='reschedule' forgets before Airflow 3.3; "
                "use deferrable=True or mode='poke'"
            )
        kept: Any = None if store is None else store.get(_STATE_KEY)
        return {
            "inactivity_period": check_seconds("inactivity_period", self.inactivity_period),
            "state": kept["state"] if kept and kept["try_number"] == _try_number(context) else None,
        }

    @property
    def _reschedules(self) -> bool:
        return self.reschedule and not self.deferrable

    def _state_store(self, context: Context) -> Any:
        """Return Airflow's store for what a rescheduled sensor saw; None in the other modes, and before Airflow 3.3."""
        return context.get("task_state_store") if self._reschedules else None


class BulkCompleteSensor(MictlanXSensor):
    """
    Wait until a bulk is complete: until every ball of every shard is acknowledged by the peers that store it.

    The sensor opens after the last ball, whichever tasks and attempts uploaded it, and not before. It waits for a bulk
    that has no plan yet. Failures that a retry of the upload may still resolve do not end the wait. A bulk that failed
    permanently fails the task; with ``fail_on_error=False`` the sensor opens then too, once no shard is uploading any
    more. One poke is one listing of the bulk's own small bucket, however large the bulk is.

    XCom, the same in every mode: ``{bulk_id, state, shards, total_balls, successed, failed, uploaded_size,
    response_time, failures, problems}``; ``failures`` are the first few.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/bulks.md``.

    Further parameters: see ``MictlanXSensor``.

    :param bulk_id: the bulk, as the upload names it (templated)
    :param fail_on_error: fail the task if the bulk failed permanently; False leaves that to the ``failed`` of the XCom
    :param check_storage: when the bulk is complete, read and verify every chunk of every ball once before opening. It
        reads the whole bulk, spread over pokes: each reads for about as long as the pause between two
    """

    template_fields: Sequence[str] = ("bulk_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBulkLink(),)
    trigger_class = MictlanXBulkCompleteTrigger
    describe = staticmethod(summaries.bulk_line)

    def __init__(self, *, bulk_id: str, fail_on_error: bool = True, check_storage: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.fail_on_error = fail_on_error
        self.check_storage = check_storage

    def _trigger_arguments(self, context: Context) -> dict[str, Any]:
        return {
            "check_run": _name_check(context) if self.check_storage else "",
            "check_seconds": min(self.poke_interval, self.timeout),
        }


def _name_check(context: Context) -> str:
    """Return a name that is the same in every process of this try of the task; the next try reads everything again."""
    task_instance = context.get("ti")
    if task_instance is None:
        return secrets.token_hex(8)
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number")
    return "/".join(str(getattr(task_instance, name)) for name in names)


def _try_number(context: Context) -> int | None:
    return getattr(context.get("ti"), "try_number", None)
