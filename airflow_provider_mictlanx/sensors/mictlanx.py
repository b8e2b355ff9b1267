"""
What MictlanX's sensors have in common: the same result, timeout and failures in every mode. Imports ``hooks``, ``links``, ``triggers``.

Airflow's own base treats an error in a poke and one that a trigger reports differently, and so do its versions. Here one rule
holds in every mode, on every version:

* What a retry can mend is raised as the client's ``MictlanXError``: retried, and skipped by ``never_fail`` only.
* What no retry can mend fails the task at once (``AirflowFailException``); ``soft_fail`` does not hide it.
* The end of the wait is ``AirflowSensorTimeout``, or a skip with ``soft_fail``.
"""

from __future__ import annotations

import inspect
import secrets
import time
from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

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

from airflow_provider_mictlanx.bulks.checking import StorageCheck
from airflow_provider_mictlanx.client.checks import seconds
from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.hooks import lines
from airflow_provider_mictlanx.hooks.failures import (
    error_of,
    failure_of,
    is_timeout_of_deferral,
    log_borne,
    permanent_errors_fail_the_task,
)
from airflow_provider_mictlanx.hooks.finding import Readable
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.hooks.quiet import QuietWatch
from airflow_provider_mictlanx.links.mictlanx import MictlanXBucketLink, MictlanXBulkLink, keep_links
from airflow_provider_mictlanx.triggers.mictlanx import (
    MictlanXBucketUnchangedTrigger,
    MictlanXBulkCompleteTrigger,
    MictlanXObjectTrigger,
    PollingTrigger,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, PokeReturnValue


class MictlanXSensor(BaseSensorOperator):
    """
    Wait for something in MictlanX: on a worker, by rescheduling, or deferred.

    ``poke_interval``, ``timeout`` (the whole wait), ``soft_fail`` and the like are Airflow's.

    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: of one request to the storage, in seconds; default: the connection's, else 120
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``
    """

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
        self._links_kept = False

    @abstractmethod
    def find(self) -> Any | None:
        """Look once; give what goes to XCom, or None for "not yet"."""

    @abstractmethod
    def line_of(self, found: Any) -> str:
        """Say in a line what was found; the worker's log has nothing else after a deferral."""

    @abstractmethod
    def make_trigger(self, **shared: Any) -> PollingTrigger:
        """Make the trigger that goes on looking, with the arguments that all of them share."""

    @cached_property
    def hook(self) -> MictlanXHook:
        """The hook of this task."""
        return MictlanXHook(self.mictlanx_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; the first look that finds a router to ask keeps the task's links."""
        try:
            found = self.find()
        except MictlanXError as error:
            if error.permanent:
                raise failure_of(error) from error
            raise
        if not self._links_kept:
            keep_links(self, context)
            self._links_kept = True
        return PokeReturnValue(is_done=found is not None, xcom_value=found)

    def execute(self, context: Context) -> Any:
        """Wait, and give what was found."""
        with permanent_errors_fail_the_task():
            return self._poke_and_defer(context) if self.deferrable else self._poke_here(context)

    def _poke_here(self, context: Context) -> Any:
        try:
            # Without the guard around it: that of Airflow 2 takes a call from a subclass for one from outside a task.
            return inspect.unwrap(BaseSensorOperator.execute)(self, context)
        except AirflowSkipException as skip:
            # With soft_fail Airflow's loop makes a skip of what no retry can mend.
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
        self._defer_for(left)
        return None

    def _defer_for(self, left: float) -> None:
        """Hand on to the trigger for the seconds that are left; raises ``TaskDeferred``."""
        self.defer(
            trigger=self.make_trigger(
                mictlanx_conn_id=self.mictlanx_conn_id,
                poke_interval=self.poke_interval,
                ends_at=time.time() + left,
                request_timeout=self.request_timeout,
                exponential_backoff=self.exponential_backoff,
                max_wait=_seconds(self.max_wait),
                silent_fail=self.silent_fail,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=left),
        )

    def _first_poke(self, context: Context) -> PokeReturnValue:
        """Poke on the worker, taking errors as Airflow's loop does in the other modes."""
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
                log_borne(self.log, error)
                return PokeReturnValue(is_done=False)
            self._skip_if_never_failing(error)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral. Airflow's own version for sensors would soften every error; this one does not."""
        with permanent_errors_fail_the_task():
            try:
                return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)
            except MictlanXError as error:
                self._skip_if_never_failing(error)
                raise
            except AirflowException as error:
                if is_timeout_of_deferral(error):
                    self._time_out(error)
                self._skip_if_never_failing(error)
                raise

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Give what the trigger found, or raise what it reported."""
        status = event.get("status") if event else None
        if event is not None and status == "success":
            self.log.info("%s", self.line_of(event["result"]))
            self.log.info("Success criteria met. Exiting.")
            return event["result"]
        if event is not None and status == "error":
            raise error_of(event)
        if status == "timeout":
            self._time_out()
        raise MictlanXError(f"the trigger fired an event that says nothing: {event!r}")

    def on_kill(self) -> None:
        """Stop what is under way."""
        if "hook" in self.__dict__:
            self.hook.cancel()

    def _time_out(self, cause: BaseException | None = None) -> NoReturn:
        message = f"Sensor has timed out: it waited longer than the specified timeout of {self.timeout} seconds."
        if self.soft_fail:
            raise AirflowSkipException(message) from cause
        raise AirflowSensorTimeout(message) from cause

    def _skip_if_never_failing(self, error: BaseException) -> None:
        if self.never_fail and not isinstance(error, AirflowSkipException | AirflowSensorTimeout):
            raise AirflowSkipException("Skipping due to never_fail is set to True.") from error


def _seconds(wait: timedelta | float | None) -> float | None:
    return wait.total_seconds() if isinstance(wait, timedelta) else wait


_SEEN = "mictlanx_seen"
"""Under this name Airflow keeps what a rescheduled sensor saw."""


class MictlanXObjectSensor(MictlanXSensor):
    """
    Wait until an object, or enough objects, are in a bucket, and readable.

    It looks into the listing, which shows what was announced; before it opens it reads every chunk once and verifies it
    (``check_storage``). An object that is missing, not whole or not readable yet is waited for, and so is a peer that is away;
    every other error is raised.

    XCom, the same in every mode. For one key: ``{bucket_id, key, ball_id, size, checksum, num_chunks, tags, updated_at}``. For
    several: ``{bucket_id, count, total_size, objects}``; ``objects`` are the first few of them, as ``{key, size}``.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/operators.md``.

    Further parameters as of every sensor: ``poke_interval``, ``timeout`` (the whole wait), ``mode``, ``soft_fail`` ….

    :param bucket_id: the bucket (templated)
    :param key: the object's name, or a list of names; this, ``prefix`` or ``glob`` (templated)
    :param prefix: wait for keys that begin with it (templated)
    :param glob: wait for keys that match, as ``"2024/*.csv"``: ``*`` is any text, ``/`` too (templated)
    :param min_objects: how many objects have to be there: 1 for any. Default: every key of a list; 1 with ``prefix`` or ``glob``
    :param check_storage: read every chunk before opening; False trusts the listing
    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: of one request to the storage, in seconds; default: the connection's, else 120
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "prefix", "glob", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)

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
        given = [name for name, value in (("key", key), ("prefix", prefix), ("glob", glob)) if value is not None]
        if len(given) != 1:
            raise ValueError(f"MictlanXObjectSensor takes one of key, prefix and glob, and got {_listed(given)}")
        self.bucket_id = bucket_id
        self.key = key
        self.prefix = prefix
        self.glob = glob
        self.min_objects = min_objects
        self.check_storage = check_storage
        self._readable: Readable = {}

    def find(self) -> dict[str, Any] | None:
        """Look once for the object, or the objects."""
        if isinstance(self.key, str):
            if self.min_objects is not None:
                raise ValidationError("min_objects goes with a list of keys, prefix or glob, not with one key")
            return self.hook.find(
                self.bucket_id, self.key, check_storage=self.check_storage, timeout=self.request_timeout
            )
        return self.hook.find_objects(
            self.bucket_id,
            self.key,
            prefix=self.prefix,
            glob=self.glob,
            min_objects=self.min_objects,
            check_storage=self.check_storage,
            readable=self._readable,
            timeout=self.request_timeout,
        )

    def line_of(self, found: dict[str, Any]) -> str:
        """Say in a line what was found."""
        return lines.of_found(found)

    def make_trigger(self, **shared: Any) -> MictlanXObjectTrigger:
        """Make the trigger that goes on looking."""
        return MictlanXObjectTrigger(
            bucket_id=self.bucket_id,
            key=self.key if isinstance(self.key, str | None) else list(self.key),
            prefix=self.prefix,
            glob=self.glob,
            min_objects=self.min_objects,
            check_storage=self.check_storage,
            **shared,
        )


class MictlanXBucketUnchangedSensor(MictlanXSensor):
    """
    Wait until nothing was written to a bucket, and nothing deleted from it, for some time: until its writers are done.

    How long ago the last write was is told by the storage's own clocks, so a bucket that has been left alone for long
    enough opens the sensor at the first poke. From then on every change that a poke sees begins the wait anew. A peer that is away
    is waited for.

    XCom, the same in every mode: ``{bucket_id, prefix, count, total_size, updated_at}``; ``updated_at`` is the last write, in
    nanoseconds since 1970.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/operators.md``.

    Further parameters as of every sensor: ``poke_interval``, ``timeout`` (the whole wait), ``mode``, ``soft_fail`` ….

    :param bucket_id: the bucket (templated)
    :param prefix: only keys that begin with it (templated)
    :param inactivity_period: for how long nothing may change, in seconds or as a timedelta
    :param min_objects: how many whole objects there have to be, 0 for an empty bucket too; empty objects (size 0) don't count
    :param allow_delete: whether objects may be deleted while it waits; False fails the task then, without a retry
    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: of one request to the storage, in seconds; default: the connection's, else 120
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``
    """

    template_fields: Sequence[str] = ("bucket_id", "prefix", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)

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
        self._watch: QuietWatch | None = None
        self._kept: dict[str, Any] | None = None
        self._forgets = False

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once. Where the next poke is another process's, Airflow keeps what was seen; before 3.3 it can't."""
        if not self.reschedule or self.deferrable:
            return super().poke(context)
        store, this_try = context.get("task_state_store"), getattr(context.get("ti"), "try_number", None)
        self._forgets = store is None
        kept: Any = store.get(_SEEN) if store is not None else None
        if kept and kept["try_number"] == this_try:
            self._kept = kept["state"]
        done = super().poke(context)
        if store is not None and self._watch is not None and self._watch.state is not None:
            store.set(_SEEN, {"try_number": this_try, "state": self._watch.state})
        return done

    def find(self) -> dict[str, Any] | None:
        """Look once whether the bucket is quiet."""
        if self._forgets and not self.allow_delete:
            raise ValidationError(
                "allow_delete=False compares with the poke before, which mode='reschedule' forgets before Airflow 3.3; use deferrable=True or "
                "mode='poke'"
            )
        if self._watch is None:
            self._watch = QuietWatch(
                self.bucket_id,
                self.prefix,
                inactivity_period=self.inactivity_period,
                min_objects=self.min_objects,
                allow_delete=self.allow_delete,
                state=self._kept,
            )
        return self.hook.find_quiet(self._watch, timeout=self.request_timeout)

    def line_of(self, found: dict[str, Any]) -> str:
        """Say in a line what was found."""
        return lines.of_quiet(found)

    def make_trigger(self, **shared: Any) -> MictlanXBucketUnchangedTrigger:
        """Make the trigger that goes on looking, from what the first poke saw on."""
        return MictlanXBucketUnchangedTrigger(
            bucket_id=self.bucket_id,
            prefix=self.prefix,
            inactivity_period=seconds("inactivity_period", self.inactivity_period),
            min_objects=self.min_objects,
            allow_delete=self.allow_delete,
            state=self._watch.state if self._watch else None,
            **shared,
        )


class BulkCompleteSensor(MictlanXSensor):
    """
    Wait until a bulk is complete: until every ball of every shard is acknowledged by the peers that store it.

    It opens after the last ball, whichever tasks and attempts uploaded it, and not before; a bulk that nobody has planned yet
    is waited for. Failures that a retry of the upload may still mend do not break it. A bulk that failed for good fails the
    task; with ``fail_on_error=False`` the sensor opens then too, when no shard is under way any more. One poke is one
    listing of the bulk's own small bucket, however large the bulk is.

    XCom, the same in every mode: ``{bulk_id, state, shards, total_balls, successed, failed, uploaded_size, response_time,
    failures, problems}``; ``failures`` are the first few.

    .. seealso::
        For more information on how to use this sensor, take a look at the guide, ``docs/bulks.md``.

    Further parameters as of every sensor: ``poke_interval``, ``timeout`` (the whole wait), ``mode``, ``soft_fail`` ….

    :param bulk_id: the bulk, as the upload names it (templated)
    :param fail_on_error: whether a bulk that failed for good is an error; False leaves that to the ``failed`` of the XCom
    :param check_storage: read every chunk of every ball once, verified, when the bulk is complete and before opening. It reads
        the whole bulk, spread over pokes: in each of them about as long as the pause between two
    :param mictlanx_conn_id: the connection (templated)
    :param request_timeout: of one request to the storage, in seconds; default: the connection's, else 120
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``
    """

    template_fields: Sequence[str] = ("bulk_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBulkLink(),)

    def __init__(self, *, bulk_id: str, fail_on_error: bool = True, check_storage: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.fail_on_error = fail_on_error
        self.check_storage = check_storage
        self._check: StorageCheck | None = None

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        if self.check_storage and self._check is None:
            self._check = StorageCheck(self.bulk_id, run=_name_of_check(context))
        return super().poke(context)

    def find(self) -> dict[str, Any] | None:
        """Look once whether the bulk is complete, and go on reading its balls back."""
        return self.hook.find_bulk(
            self.bulk_id,
            fail_on_error=self.fail_on_error,
            check=self._check,
            check_seconds=min(self.poke_interval, self.timeout),
            timeout=self.request_timeout,
        )

    def line_of(self, found: dict[str, Any]) -> str:
        """Say in a line what was found."""
        return lines.of_bulk(found)

    def make_trigger(self, **shared: Any) -> MictlanXBulkCompleteTrigger:
        """Make the trigger that goes on looking."""
        return MictlanXBulkCompleteTrigger(
            bulk_id=self.bulk_id,
            fail_on_error=self.fail_on_error,
            check_storage=self.check_storage,
            check_run=self._check.run if self._check else "",
            **shared,
        )


def _name_of_check(context: Context) -> str:
    """Name a check after this try of the task, in whatever process it goes on; a task that runs again reads again."""
    task_instance = context.get("ti")
    if task_instance is None:
        return secrets.token_hex(8)
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number")
    return "/".join(str(getattr(task_instance, name)) for name in names)


def _listed(names: list[str]) -> str:
    return " and ".join(names) if names else "none"
