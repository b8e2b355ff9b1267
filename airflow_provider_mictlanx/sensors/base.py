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
import time
from abc import abstractmethod
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

from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.hooks.clean_log import CleanLog
from airflow_provider_mictlanx.hooks.failures import (
    error_of,
    errors_name_connection,
    failure_of,
    is_timeout_of_deferral,
    log_borne,
    permanent_errors_fail_the_task,
)
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.links.mictlanx import keep_links
from airflow_provider_mictlanx.triggers.polling import PollingTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MictlanXSensor(CleanLog, BaseSensorOperator):
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
            with errors_name_connection(self.mictlanx_conn_id):
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
