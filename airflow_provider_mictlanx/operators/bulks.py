"""Operators for bulks, given out by ``operators.mictlanx``. Imports ``hooks``, ``triggers`` and what operators have in common."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout, conf

from airflow_provider_mictlanx.bulks.errors import BulkConflictError
from airflow_provider_mictlanx.client.checks import seconds
from airflow_provider_mictlanx.client.errors import DeadlineExceededError, MictlanXError, ValidationError
from airflow_provider_mictlanx.hooks.bulks import Source
from airflow_provider_mictlanx.hooks.failures import error_of, is_timeout_of_deferral, permanent_errors_fail_the_task
from airflow_provider_mictlanx.links.mictlanx import MictlanXBulkLink
from airflow_provider_mictlanx.operators.base import MictlanXOperator
from airflow_provider_mictlanx.triggers.mictlanx import BulkCompleteTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_HOW_TO_MAP = (
    "mapped tasks that share a bulk_id are its shards: give every one its shard, and all of them how many there are, as "
    "MictlanXBulkPutOperator.partial(bulk_id=…, shards=2).expand_kwargs([{'shard': 0, 'balls': […]}, {'shard': 1, 'balls': […]}]). "
    "Where every mapped task has a bulk_id of its own, say shards=1"
)


class MictlanXBulkPutOperator(MictlanXOperator):
    """
    Upload many files, or one shard of them, and keep in the storage itself how far it is.

    A task that runs again, also on another machine and after a crash, goes on where the last try ended: what is acknowledged
    is not sent again. ``BulkCompleteSensor`` and ``MictlanXAwaitBulkOperator`` follow it from other tasks, by its ``bulk_id``. To spread a bulk
    over workers, map the operator: ``.partial(bulk_id=…, source=…, shards=4).expand(shard=[0, 1, 2, 3])``.

    The ``bulk_id`` belongs to one task (per shard) of one DAG run: put the run id into it, as ``"nightly-{{ run_id }}"``. A second
    run with the same bulk id is refused before its first byte.

    XCom: ``{bulk_id, shard, shards, total_balls, uploaded, skipped, failed, uploaded_size, response_time}``; ``skipped`` were stored
    before. With ``fail_on_error=False`` also ``failures``, the first few of them: ``{bucket_id, key, code, message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/bulks.md``.

    :param bulk_id: any text, with the run id in it (templated)
    :param bucket_id: of all balls; with ``balls``, of those that name none (templated)
    :param source: a file, a folder (with everything in it), a glob (``**`` stands for any folders), an ``ObjectStoragePath`` of
        another store, or a list of these; every worker that uploads a shard has to see it alike (templated)
    :param balls: instead of ``source``: dictionaries with ``key``, ``source`` (a path) or ``data`` (text or bytes), and optionally
        ``bucket_id`` and ``tags`` (templated)
    :param shard: which part this task uploads, from 0 (templated)
    :param shards: in how many parts the bulk is uploaded; default: 1 (templated)
    :param key_prefix: is put before every key as it is (templated)
    :param rf: on how many peers every chunk is to be stored
    :param chunk_size: how balls are cut, as ``"8MB"``; default: the connection's, else chosen by
        the size of each
    :param max_concurrency: chunks in flight; default: the connection's, else chosen by the chunks' size
    :param max_tries: per chunk
    :param max_backoff: the longest pause between two tries, in seconds
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param stop_on_failure: begin no further ball after the first failure
    :param replace: delete other bytes under a ball's key first, instead of reporting a failure
    :param allow_reserved_bucket: write to a bucket that begins with ``bulk-``, which may contain another bulk's records
    :param tags: texts by name, kept with every ball (templated)
    :param allow_empty: whether a source in which nothing is found is a bulk of no balls, instead of an error
    :param fail_on_error: fail the task where a ball is not stored; False leaves that to the ``failed`` of the XCom
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = (
        *("bulk_id", "bucket_id", "source", "balls", "shard", "shards", "key_prefix", "tags"),
        "mictlanx_conn_id",
    )
    template_fields_renderers = {"balls": "json", "tags": "json"}  # noqa: RUF012
    operator_extra_links = (MictlanXBulkLink(),)

    def __init__(
        self,
        *,
        bulk_id: str,
        bucket_id: str | None = None,
        source: Source | Sequence[Source] | None = None,
        balls: Iterable[Mapping[str, Any]] | None = None,
        shard: int | str = 0,
        shards: int | str | None = None,
        key_prefix: str = "",
        rf: int = 1,
        chunk_size: str | None = None,
        max_concurrency: int | None = None,
        max_tries: int = 5,
        max_backoff: float = 5,
        timeout: float | None = None,
        stop_on_failure: bool = False,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        tags: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        fail_on_error: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (source is None) == (balls is None):
            given = "neither" if source is None else "both"
            raise ValueError(f"MictlanXBulkPutOperator takes either source or balls, and got {given}")
        self.bulk_id = bulk_id
        self.bucket_id = bucket_id
        self.source = source
        self.balls = balls
        self.shard = shard
        self.shards = shards
        self.key_prefix = key_prefix
        self.rf = rf
        self.chunk_size = chunk_size
        self.max_concurrency = max_concurrency
        self.max_tries = max_tries
        self.max_backoff = max_backoff
        self.timeout = timeout
        self.stop_on_failure = stop_on_failure
        self.replace = replace
        self.allow_reserved_bucket = allow_reserved_bucket
        self.tags = tags
        self.allow_empty = allow_empty
        self.fail_on_error = fail_on_error

    def work(self, context: Context) -> dict[str, Any]:
        """Upload it."""
        owner = _owner(context)
        mapped = owner is not None and int(owner["map_index"]) >= 0
        if mapped and self.shards is None and self.balls is not None:
            raise ValidationError(_HOW_TO_MAP)
        try:
            return self._upload(owner, _will_retry(context))
        except BulkConflictError as error:
            if mapped and self.shards is None:
                raise BulkConflictError(f"{error}. If these are tasks of one mapped operator: {_HOW_TO_MAP}") from error
            raise

    def _upload(self, owner: Mapping[str, str] | None, will_retry: bool) -> dict[str, Any]:
        return self.hook.put_bulk(
            self.bulk_id,
            self.bucket_id,
            self.source,
            balls=self.balls,
            shard=_whole("shard", self.shard),
            shards=1 if self.shards is None else _whole("shards", self.shards),
            key_prefix=self.key_prefix,
            rf=self.rf,
            chunk_size=self.chunk_size,
            max_concurrency=self.max_concurrency,
            max_tries=self.max_tries,
            max_backoff=self.max_backoff,
            timeout=self.timeout,
            stop_on_failure=self.stop_on_failure,
            replace=self.replace,
            allow_reserved_bucket=self.allow_reserved_bucket,
            tags=self.tags,
            allow_empty=self.allow_empty,
            fail_on_error=self.fail_on_error,
            owner=owner,
            will_retry=will_retry,
        )


class MictlanXAwaitBulkOperator(MictlanXOperator):
    """
    Wait until every shard of a bulk is done, give what came of it, and clean up behind it.

    To gate tasks, take ``BulkCompleteSensor``, which has all modes of a sensor; this operator gives the result with every item if asked, and
    removes the bulk's records. It waits on the worker or in the triggerer; the result is the same.

    The end of the wait (``timeout``) fails the task at once, without a retry, as in a sensor. A bulk that failed for good does
    so too; with ``fail_on_error=False`` its result is given when no shard is under way any more.

    XCom: ``{bulk_id, state, shards, total_balls, successed, failed, uploaded_size, response_time, failures, problems}``;
    ``failures`` are the first few, as ``{bucket_id, key, code, message}``. With ``include_items`` all of them, and ``successes``
    as ``{bucket_id, key, size, checksum}``: that XCom grows with the bulk.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/bulks.md``.

    :param bulk_id: the bulk, as the upload names it; one that nobody has planned yet is waited for (templated)
    :param remove_on_completion: delete the bulk's records, but for the result, which answers whoever asks again; its balls stay.
        Not before every task that follows the bulk by ``include_items`` or ``check_storage`` has ended
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``
    :param timeout: of the whole wait, in seconds or as a timedelta; default: none
    :param poke_interval: between two looks, in seconds or as a timedelta
    :param include_items: put the lists of all balls into the XCom
    :param fail_on_error: whether a bulk that failed for good is an error
    :param request_timeout: of one request to the storage, in seconds; default: the connection's, else 120
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bulk_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBulkLink(),)

    def __init__(
        self,
        *,
        bulk_id: str,
        remove_on_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta | float | None = None,
        poke_interval: timedelta | float = 60,
        include_items: bool = False,
        fail_on_error: bool = True,
        request_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.remove_on_completion = remove_on_completion
        self.deferrable = deferrable
        self.timeout = timeout
        self.poke_interval = poke_interval
        self.include_items = include_items
        self.fail_on_error = fail_on_error
        self.request_timeout = request_timeout

    def work(self, context: Context) -> dict[str, Any]:
        """Wait for it."""
        timeout = None if self.timeout is None else seconds("timeout", self.timeout)
        poke_interval = seconds("poke_interval", self.poke_interval)
        began = time.monotonic()
        try:
            return self._await(0 if self.deferrable else timeout, poke_interval)
        except DeadlineExceededError as error:
            left = None if timeout is None else timeout - (time.monotonic() - began)
            if not self.deferrable or (left is not None and left <= 0):
                self._time_out(error)
        return self._defer_for(left, poke_interval)

    def _await(self, timeout: float | None, poke_interval: float) -> dict[str, Any]:
        return self.hook.await_bulk(
            self.bulk_id,
            poke_interval=poke_interval,
            timeout=timeout,
            fail_on_error=self.fail_on_error,
            include_items=self.include_items,
            remove_on_completion=self.remove_on_completion,
            request_timeout=self.request_timeout,
        )

    def _defer_for(self, left: float | None, poke_interval: float) -> dict[str, Any]:
        """Hand on to the trigger for the seconds that are left; raises ``TaskDeferred``."""
        self.defer(
            trigger=BulkCompleteTrigger(
                bulk_id=self.bulk_id,
                fail_on_error=self.fail_on_error,
                mictlanx_conn_id=self.mictlanx_conn_id,
                poke_interval=poke_interval,
                ends_at=None if left is None else time.time() + left,
                request_timeout=self.request_timeout,
            ),
            method_name="execute_complete",
            timeout=None if left is None else timedelta(seconds=left),
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral, with the errors of a task that never deferred."""
        with permanent_errors_fail_the_task():
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowException as error:
                if self.timeout is not None and is_timeout_of_deferral(error):
                    self._time_out(error)
                raise

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Give the result, or raise what the trigger reported."""
        status = event.get("status") if event else None
        if status == "success":
            return self._await(0, 0)
        if event is not None and status == "error":
            raise error_of(event)
        if status == "timeout":
            self._time_out()
        raise MictlanXError(f"the trigger fired an event that says nothing: {event!r}")

    def _time_out(self, cause: BaseException | None = None) -> NoReturn:
        raise AirflowSensorTimeout(
            f"bulk {self.bulk_id!r} was not finished within the specified timeout of {self.timeout}; the log tells how far it is"
        ) from cause


def _owner(context: Context) -> dict[str, str] | None:
    """Tell who uploads; None where no task instance runs it."""
    task_instance = context.get("ti")
    if task_instance is None:
        return None
    return {name: str(getattr(task_instance, name)) for name in ("dag_id", "run_id", "task_id", "map_index")}


def _will_retry(context: Context) -> bool:
    """
    Tell whether Airflow runs the task again if this try fails.

    ``max_tries`` is the number of the last try but one, clearing included: 0 for a task without retries in its first run.
    """
    task_instance = context.get("ti")
    return task_instance is not None and 0 < task_instance.try_number <= task_instance.max_tries


def _whole(name: str, value: int | str) -> int:
    """Give a number that may have come as a text, from a template."""
    try:
        return int(value.strip()) if isinstance(value, str) else value
    except ValueError as error:
        raise ValidationError(f"{name} is a whole number, not {value!r}") from error
