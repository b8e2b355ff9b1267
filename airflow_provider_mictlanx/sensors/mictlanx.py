"""
The sensors, and their base class ``MictlanXSensor``.

A sensor builds the trigger that it would defer to, and pokes through the trigger's coroutine in every mode. So XCom,
timeout and failures are the same. Airflow itself treats an error in a poke and an error of a trigger differently, and
its versions differ too. These sensors follow the same rules in every mode and version:

* A transient error is raised as the client's ``MictlanXError``: Airflow retries it, and only ``never_fail`` skips it.
* A permanent error fails the task at once (``AirflowFailException``); ``soft_fail`` does not hide it.
* A timeout is ``AirflowSensorTimeout``, or a skip with ``soft_fail``.
"""

from __future__ import annotations

import inspect
import secrets
import time
from abc import abstractmethod
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
from airflow_provider_mictlanx.client.texts import clean
from airflow_provider_mictlanx.client.validation import check_bool, check_seconds
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.arguments import attributes_for
from airflow_provider_mictlanx.hooks.errors import TaskErrors, is_deferral_timeout, log_suppressed, timeout_message
from airflow_provider_mictlanx.hooks.mictlanx import CheckFn, MictlanXHook
from airflow_provider_mictlanx.hooks.task import MictlanXTask
from airflow_provider_mictlanx.links.mictlanx import MictlanXBucketLink, MictlanXBulkLink, push_links
from airflow_provider_mictlanx.triggers.conditions import Condition, ObjectCondition, read_event
from airflow_provider_mictlanx.triggers.mictlanx import (
    MictlanXBucketUnchangedTrigger,
    MictlanXBulkCompleteTrigger,
    MictlanXObjectTrigger,
    PollingTrigger,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_STATE_KEY = "mictlanx_seen"
"""The key under which Airflow stores the state of a rescheduled sensor."""


class MictlanXSensor(MictlanXTask, BaseSensorOperator):
    """
    Base of the sensors: wait for a condition in MictlanX, on a worker, by rescheduling, or deferred.

    ``poke_interval``, ``timeout`` (limit for the wait), ``mode``, ``soft_fail`` and the like are Airflow's.

    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: seconds for one request to the storage; default: the connection's, else 120
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``
    """

    trigger_class: ClassVar[type[PollingTrigger]]
    """The trigger; its parameters are attributes of the sensor, or come from ``_trigger_arguments``."""

    describe: ClassVar[staticmethod[[Any], str]]
    """Returns the log line for the result, which the worker logs after a deferral."""

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
        self._condition: Condition | None = None
        self._links_pushed = False

    def _trigger_arguments(self, context: Context) -> dict[str, Any]:
        """Return the trigger's arguments that are not attributes of the sensor."""
        return {}

    def poke(self, context: Context) -> PokeReturnValue:
        """Poke once. Before its first poke, the sensor stores the task's links."""
        with TaskErrors(self):
            if not self._links_pushed:
                push_links(self, context)
                self._links_pushed = True
            found = self.hook._run(self._apoke, self._get_condition(context))
        return PokeReturnValue(is_done=found is not None, xcom_value=found)

    async def _apoke(self, condition: Condition) -> Any | None:
        async with self.hook.open_client(connect_patience=0) as client:
            return await condition.apoke(self.hook, client)

    def _get_condition(self, context: Context) -> Condition:
        if self._condition is None:
            arguments = attributes_for(self.trigger_class, self)
            arguments["ends_at"] = None  # set by the deferral
            if isinstance(self.max_wait, timedelta):
                arguments["max_wait"] = self.max_wait.total_seconds()
            self._condition = self._create_condition(self.trigger_class(**arguments | self._trigger_arguments(context)))
        return self._condition

    def _create_condition(self, trigger: PollingTrigger) -> Condition:
        return trigger.create_condition()

    def execute(self, context: Context) -> Any:
        """Wait, and return the result."""
        with TaskErrors(self):
            deferrable = check_bool("deferrable", self.deferrable)
            return self._poke_and_defer(context, self.timeout) if deferrable else self._poke_here(context)

    def _poke_here(self, context: Context) -> Any:
        try:
            # Unwrapped: Airflow 2 mistakes a call from a subclass for a call outside of a task.
            return inspect.unwrap(BaseSensorOperator.execute)(self, context)
        except AirflowSensorTimeout:
            self._time_out()
        except AirflowSkipException as skip:
            # With soft_fail, Airflow's loop turns a permanent error into a skip.
            if not (self.soft_fail and isinstance(skip.__cause__, AirflowFailException)):
                raise
            failure = skip.__cause__
        raise failure

    def _poke_and_defer(self, context: Context, left: float) -> Any:
        """
        Poke once, and defer unless there is a result.

        :param left: seconds until the end of the wait
        """
        began = time.monotonic()
        first = self._first_poke(context)
        if first.is_done:
            self.log.info("Success criteria met. Exiting.")
            return first.xcom_value
        left -= time.monotonic() - began
        if left <= 0:
            self._time_out()
        trigger = self._get_condition(context).trigger
        trigger.ends_at = time.time() + left
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=left))
        return None

    def _first_poke(self, context: Context) -> PokeReturnValue:
        """Poke on the worker; handle errors like Airflow's loop in the other modes."""
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
        """Continue after the deferral. Airflow's own version for sensors would skip every error with ``soft_fail``."""
        with TaskErrors(self):
            try:
                return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)
            except (MictlanXError, AirflowException) as error:
                if isinstance(error, AirflowException) and is_deferral_timeout(error):
                    self._time_out()
                self._skip_if_never_failing(error)
                raise

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Return the result of the trigger, or raise the error that it reported."""
        found = read_event(event, self._time_out)
        self.log.info("%s", self.describe(found))
        self.log.info("Success criteria met. Exiting.")
        return found

    @property
    @abstractmethod
    def _not_yet(self) -> str:
        """The problem at the end of the wait."""

    def _time_out(self) -> NoReturn:
        problem = clean(f"Sensor has timed out after {self.timeout:.10g} s: {self._not_yet}")
        if self.soft_fail:
            raise AirflowSkipException(problem) from None
        raise AirflowSensorTimeout(timeout_message(problem, self.mictlanx_conn_id)) from None

    def _skip_if_never_failing(self, error: BaseException) -> None:
        if self.never_fail and not isinstance(error, AirflowSkipException | AirflowSensorTimeout):
            raise AirflowSkipException("Skipping due to never_fail is set to True.") from error


class MictlanXObjectSensor(MictlanXSensor):
    """
    Wait until an object, or enough objects, are stored in a bucket and readable.

    A poke reads the listing, which shows announcements, not data. Before the sensor succeeds, it reads and verifies
    every chunk once (``check_storage``). It waits while an object is missing, incomplete or unreadable, and while a
    peer does not answer; every other error is raised.

    XCom, the same in every mode. For one key: ``{bucket_id, key, ball_id, size, checksum, num_chunks, verified, tags,
    updated_at}``. For several: ``{bucket_id, count, total_size, objects}``; ``objects`` are the first few, as
    ``{key, size}``.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``MictlanXSensor``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name, or a list of names; this, ``prefix`` or ``glob`` (templated)
    :param prefix: wait for keys that begin with it (templated)
    :param glob: wait for keys that match, such as ``"2024/*.csv"``: ``*`` matches any characters, ``/`` too (templated)
    :param min_objects: required number of objects; default: every key of a list, or 1 with ``prefix`` and ``glob``
    :param check_storage: read and verify every chunk before succeeding; False trusts the listing
    :param check_fn: called with the list of the objects that were found, each as ``{bucket_id, key, ball_id, size,
        checksum, num_chunks, verified, tags, updated_at, age}``; ``age`` is in seconds. The sensor waits until it
        returns True. It runs on the worker in every mode: a deferred task returns to the worker for each call, and
        defers again if the result is False
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
        check_fn: CheckFn | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.prefix = prefix
        self.glob = glob
        self.min_objects = min_objects
        self.check_storage = check_storage
        self.check_fn = check_fn
        self._get_one_of("key", "prefix", "glob", error=ValueError)
        if check_fn is not None and not callable(check_fn):
            raise ValueError(f"{self.label}: check_fn must be a function, got {check_fn!r}")

    @property
    def _not_yet(self) -> str:
        if isinstance(self.key, str):
            return f"{self.bucket_id}/{self.key} is not available"
        name, value = self._get_one_of("key", "prefix", "glob")
        return f"bucket {self.bucket_id} has not enough objects with {name} {value!r}"

    def _trigger_arguments(self, context: Context) -> dict[str, Any]:
        key = self.key if isinstance(self.key, str) or not isinstance(self.key, Sequence) else list(self.key)
        return {"key": key, "checked_by_task": self.check_fn is not None}

    def _create_condition(self, trigger: Any) -> Condition:
        return ObjectCondition(trigger, self.check_fn)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Return the result of the trigger; with ``check_fn``, poke on the worker, and defer again unless it passes."""
        if self.check_fn is None:
            return super().execute_complete(context, event)
        ends_at = read_event(event, self._time_out)["ends_at"]
        return self._poke_and_defer(context, ends_at - time.time())


class MictlanXBucketUnchangedSensor(MictlanXSensor):
    """
    Wait until a bucket has not changed for some time, so its writers are probably done.

    The time of the last write comes from the storage's own clocks. If the bucket has not changed for long enough, the
    first poke succeeds. Afterwards, every change that a poke sees restarts the wait. The sensor also waits while a peer
    does not answer.

    XCom, the same in every mode: ``{bucket_id, prefix, count, total_size, updated_at}``; ``updated_at`` is the last
    write, in nanoseconds since 1970.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/operators.md``.

    Further parameters: see ``MictlanXSensor``.

    :param bucket_id: the bucket (templated)
    :param prefix: only keys that begin with it (templated)
    :param inactivity_period: required time without a change, in seconds or as a timedelta
    :param min_objects: required number of complete objects; 0 accepts an empty bucket
    :param allow_delete: accept deletes during the wait; False fails the task after a delete, without a retry
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

    @property
    def _not_yet(self) -> str:
        return f"bucket {self.bucket_id} has not stopped changing"

    def poke(self, context: Context) -> PokeReturnValue:
        """Poke once, and store the state for the next poke, which a rescheduled sensor makes in another process."""
        done = super().poke(context)
        store, trigger = self._state_store(context), self._get_condition(context).trigger
        if store is not None and isinstance(trigger, MictlanXBucketUnchangedTrigger) and trigger.state is not None:
            store.set(_STATE_KEY, {"try_number": _try_number(context), "state": trigger.state})
        return done

    def _trigger_arguments(self, context: Context) -> dict[str, Any]:
        store = self._state_store(context)
        if self._reschedules and store is None and not self.allow_delete:
            raise ValidationError(
                "allow_delete must be True with mode='reschedule' before Airflow 3.3, got False: no state is kept "
                "between pokes; use deferrable=True or mode='poke'"
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
        """Return Airflow's store for the state of a rescheduled sensor; None in other modes and before Airflow 3.3."""
        return context.get("task_state_store") if self._reschedules else None


class BulkCompleteSensor(MictlanXSensor):
    """
    Wait until a bulk is complete: until peers have acknowledged every object of every shard.

    It does not matter which tasks and attempts uploaded the objects. The sensor waits for a bulk that has no plan yet,
    and while a retry of the upload may still fix failures. A bulk that failed permanently fails the task; with
    ``fail_on_error=False`` the sensor succeeds instead, once no shard is being uploaded. A poke is one listing of the
    bulk's own small bucket, however large the bulk is.

    XCom, the same in every mode: ``{bulk_id, state, shards, total_balls, succeeded, failed, uploaded_size,
    response_time, failures, problems}``; ``failures`` are the first few.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/bulks.md``.

    Further parameters: see ``MictlanXSensor``.

    :param bulk_id: the bulk; it need not be planned yet (templated)
    :param fail_on_error: fail the task if the bulk failed permanently; False only counts its objects in ``failed``
    :param check_storage: when the bulk is complete, read and verify every chunk of every object once before succeeding.
        Each poke reads for about ``poke_interval``, until all objects are verified
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

    @property
    def _not_yet(self) -> str:
        return f"bulk {self.bulk_id!r} is not complete"

    def _trigger_arguments(self, context: Context) -> dict[str, Any]:
        return {
            "check_run": _name_check(context) if self.check_storage else "",
            "check_seconds": min(self.poke_interval, self.timeout),
        }


def _name_check(context: Context) -> str:
    """Return a name that is the same in every process of this try of the task, and another one in the next try."""
    task_instance = context.get("ti")
    if task_instance is None:
        return secrets.token_hex(8)
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number")
    return "/".join(str(getattr(task_instance, name)) for name in names)


def _try_number(context: Context) -> int | None:
    return getattr(context.get("ti"), "try_number", None)
