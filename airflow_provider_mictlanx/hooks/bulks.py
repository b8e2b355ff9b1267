"""
Bulks for the hook: upload one, wait for it, look at it, forget it, each as a call that blocks and as a coroutine.

Imports the client, ``bulks``, ``hooks.calls`` and ``hooks.summaries``. All logic of bulks is ``bulks``'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeAlias

from humanfriendly import format_size
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.assets.places import Place, in_bucket, sources_of
from airflow_provider_mictlanx.bulks import waiting
from airflow_provider_mictlanx.bulks.checking import StorageCheck
from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.bulks.sources import SourceBall, list_items, list_sources
from airflow_provider_mictlanx.bulks.status import FIRST_FAILURES, State
from airflow_provider_mictlanx.bulks.upload import AttemptOptions, BulkSpec, ShardUpload, UploadResult
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.calls import HookCalls, chosen

Source: TypeAlias = Any
"""A path: a text, an ``os.PathLike``, or an ``ObjectStoragePath``, which is a class of no common base on Airflow 3 and 2."""


class BulkCalls(HookCalls):
    """The part of ``MictlanXHook`` that knows bulks."""

    def put_bulk(
        self,
        bulk_id: str,
        bucket_id: str | None = None,
        source: Source | Sequence[Source] | None = None,
        *,
        balls: Iterable[Mapping[str, Any]] | None = None,
        shard: int = 0,
        shards: int = 1,
        key_prefix: str = "",
        rf: int = 1,
        chunk_size: str | None = None,
        max_concurrency: int | None = None,
        max_tries: int = 5,
        max_backoff: float = 5,
        timeout: float | None = None,
        stop_on_failure: bool = False,
        replace: bool = False,
        tags: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        fail_on_error: bool = True,
        owner: Mapping[str, str] | None = None,
        will_retry: bool = False,
    ) -> dict[str, Any]:
        """
        Upload a bulk, or one shard of it, and keep in the storage itself how far it is.

        The same call again goes on where the last one ended, whatever ended it: what is acknowledged is not sent again.

        Returns ``{bulk_id, shard, shards, total_balls, uploaded, skipped, failed, uploaded_size, response_time}``: ``skipped``
        were stored before, ``uploaded_size`` is the bytes of ``uploaded``, ``response_time`` in seconds; with
        ``fail_on_error=False`` also ``failures``, the first few of them as ``{bucket_id, key, code, message}``.

        ``BulkFailedError``: not every ball is stored; its ``result`` is what would have been returned.
        ``BulkConflictError``: the bulk id is used by another owner, was begun with other parameters, or was awaited and closed.
        ``ValidationError``: the source is empty or can't be read, two of it have one key, or a parameter is wrong.

        :param bulk_id: any text; put the run into it
        :param bucket_id: of all balls; with ``balls``, of those that name none
        :param source: a file, a folder (with everything in it), a glob (``**`` stands for any folders), a path of another
            store (``ObjectStoragePath``), or a list of these
        :param balls: instead of ``source``: dictionaries with ``key``, ``source`` (a path) or ``data`` (text or bytes), and
            optionally ``bucket_id`` and ``tags``
        :param shard: which part of the bulk is uploaded, from 0
        :param shards: in how many parts it is uploaded. Of a ``source``, that all of them have to see alike, each takes its
            part; ``balls`` are the shard's own
        :param key_prefix: is put before every key as it is
        :param rf: on how many peers every chunk is to be stored
        :param chunk_size: how balls are cut, as ``"8MB"``; default: the connection's, else
            chosen by the size of each
        :param max_concurrency: chunks in flight; default: the connection's, else chosen by the chunks' size
        :param max_tries: per chunk
        :param max_backoff: the longest pause between two tries, in seconds
        :param timeout: of one request, in seconds; default: the connection's, else 120
        :param stop_on_failure: begin no further ball after the first failure
        :param replace: delete other bytes under a ball's key first, instead of reporting a failure
        :param tags: texts by name, kept with every ball
        :param allow_empty: whether a source in which nothing is found is a bulk of no balls, instead of an error
        :param fail_on_error: raise where a ball is not stored; False leaves that to ``failed``
        :param owner: who uploads, as texts by name: another call with the same bulk id and shard has to give the same; default:
            ``{"owner": …}`` with the connection's client id
        :param will_retry: whether the call is made again if it fails: who waits for the bulk then goes on waiting
        """
        return self._run(
            self.aput_bulk,
            bulk_id,
            bucket_id,
            source,
            balls=balls,
            shard=shard,
            shards=shards,
            key_prefix=key_prefix,
            rf=rf,
            chunk_size=chunk_size,
            max_concurrency=max_concurrency,
            max_tries=max_tries,
            max_backoff=max_backoff,
            timeout=timeout,
            stop_on_failure=stop_on_failure,
            replace=replace,
            tags=tags,
            allow_empty=allow_empty,
            fail_on_error=fail_on_error,
            owner=owner,
            will_retry=will_retry,
        )

    async def aput_bulk(
        self,
        bulk_id: str,
        bucket_id: str | None = None,
        source: Source | Sequence[Source] | None = None,
        *,
        balls: Iterable[Mapping[str, Any]] | None = None,
        shard: int = 0,
        shards: int = 1,
        key_prefix: str = "",
        rf: int = 1,
        chunk_size: str | None = None,
        max_concurrency: int | None = None,
        max_tries: int = 5,
        max_backoff: float = 5,
        timeout: float | None = None,
        stop_on_failure: bool = False,
        replace: bool = False,
        tags: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        fail_on_error: bool = True,
        owner: Mapping[str, str] | None = None,
        will_retry: bool = False,
    ) -> dict[str, Any]:
        """Upload a bulk, or one shard of it; see ``put_bulk``."""
        settings = await self.aget_settings()
        given_balls = None if balls is None else _items(balls)
        sources, listing = _what(bucket_id, source, given_balls, key_prefix)
        spec = BulkSpec(
            bulk_id=bulk_id,
            sources=sources,
            bucket_id=bucket_id or "",
            key_prefix=key_prefix,
            shards=shards,
            rf=rf,
            tags={} if tags is None else tags,
            own_lists=balls is not None,
            **chosen(settings, chunk_size=chunk_size),
        )
        options = AttemptOptions(
            max_tries=max_tries,
            max_backoff=max_backoff,
            stop_on_failure=stop_on_failure,
            replace=replace,
            allow_empty=allow_empty,
            will_retry=will_retry,
            fail_on_error=fail_on_error,
            **chosen(settings, max_concurrency=max_concurrency, timeout=timeout),
        )
        owner = _texts("owner", {"owner": settings.client_id} if owner is None else owner)
        async with self.aget_conn() as client:
            upload = ShardUpload(client, spec, shard, listing, owner, options, tell=self._tell)
            outcome = await upload.run()
        await self._note(
            reads=sources_of(sources, given_balls or ()), writes=_written(bucket_id, given_balls or (), key_prefix)
        )
        self._tell_the_end(_end_line(outcome), outcome.failures)
        result = summaries.upload_summary(outcome, with_failures=not fail_on_error)
        if outcome.failures and fail_on_error:
            raise _failure(outcome, result)
        return result

    async def _request_timeout(self, given: float | None) -> dict[str, float]:
        """Give what bounds a request of those calls whose ``timeout`` may be that of a whole wait."""
        timeout = (await self.aget_settings()).timeout if given is None else given
        return {} if timeout is None else {"request_timeout": timeout}

    def await_bulk(
        self,
        bulk_id: str,
        *,
        poke_interval: float = 10,
        timeout: float | None = None,
        fail_on_error: bool = True,
        include_items: bool = False,
        remove_on_completion: bool = False,
        request_timeout: float | None = None,
    ) -> dict[str, Any]:
        """
        Wait until every shard of a bulk is done, and give what came of it.

        Returns ``{bulk_id, state, shards, total_balls, successed, failed, uploaded_size, response_time, failures, problems}``:
        ``uploaded_size`` is the bytes of all stored balls, ``response_time`` the seconds from the first record to the last,
        ``failures`` the first few as ``{bucket_id, key, code, message}``, ``problems`` what is wrong with the bulk as a whole.

        ``BulkFailedError``: the bulk failed for good; ``DeadlineExceededError``: it was not finished in time.

        :param bulk_id: the bulk; one that nobody has planned yet is waited for
        :param poke_interval: between two looks, in seconds
        :param timeout: of the whole wait, in seconds; default: none
        :param fail_on_error: raise where the bulk failed for good; False gives its result, when no shard is under way any more
        :param include_items: add ``successes`` as ``{bucket_id, key, size, checksum}`` and all ``failures``: lists that grow
            with the bulk
        :param remove_on_completion: delete what the storage knows of the bulk, but for this result, which answers whoever asks
            again; its balls stay
        :param request_timeout: of one request, in seconds; default: the connection's, else 120
        """
        return self._run(
            self.aawait_bulk,
            bulk_id,
            poke_interval=poke_interval,
            timeout=timeout,
            fail_on_error=fail_on_error,
            include_items=include_items,
            remove_on_completion=remove_on_completion,
            request_timeout=request_timeout,
        )

    async def aawait_bulk(
        self,
        bulk_id: str,
        *,
        poke_interval: float = 10,
        timeout: float | None = None,
        fail_on_error: bool = True,
        include_items: bool = False,
        remove_on_completion: bool = False,
        request_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Wait until every shard of a bulk is done, and give what came of it; see ``await_bulk``."""
        given = await self._request_timeout(request_timeout)
        async with self.aget_conn() as client:
            return await waiting.await_bulk(
                client,
                bulk_id,
                poke_interval=poke_interval,
                timeout=timeout,
                fail_on_error=fail_on_error,
                include_items=include_items,
                remove_on_completion=remove_on_completion,
                tell=self._tell,
                **given,
            )

    def bulk_status(self, bulk_id: str, *, timeout: float | None = None) -> dict[str, Any]:
        """
        Look once at a bulk: one listing of its own small bucket, however large it is.

        Returns ``{bulk_id, state, finished, shards, shards_complete, total_balls, total_size, acknowledged, acknowledged_size,
        failed, failures, problems, response_time, last_heard, quiet_shard, quiet_since, may_be_mended, result}``. ``state`` is
        ``unplanned``, ``uploading``, ``complete``, ``failed`` or ``closed``; sizes are in bytes. ``last_heard`` is when the last
        record was written, ``quiet_shard`` the shard under way that has been silent the longest (None where none is), and
        ``quiet_since`` when that one was last heard of, both in nanoseconds since 1970. ``may_be_mended`` tells of failures that
        a retry may still mend; ``result`` is what ``await_bulk`` gave before it closed the bulk, else None.

        :param bulk_id: the bulk
        :param timeout: of one request, in seconds
        """
        return self._run(self.abulk_status, bulk_id, timeout=timeout)

    async def abulk_status(self, bulk_id: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Look once at a bulk; see ``bulk_status``."""
        given = await self._request_timeout(timeout)
        async with self.aget_conn() as client:
            status = await waiting.bulk_status(client, bulk_id, **given)
        return summaries.status_summary(status)

    def find_bulk(
        self,
        bulk_id: str,
        *,
        fail_on_error: bool = True,
        check: StorageCheck | None = None,
        check_seconds: float = 60,
        timeout: float | None = None,
    ) -> dict[str, Any] | None:
        """
        Look once whether a gate that waits for a bulk opens: give what ``await_bulk`` returns, or None for "not yet".

        ``BulkFailedError``: the bulk failed for good, or ``check`` found a ball that can't be read; ``BulkConflictError``: it was
        closed, so that what was planned can't be checked any more.

        :param bulk_id: the bulk
        :param fail_on_error: raise where the bulk failed for good; False gives its result, when no shard is under way any more
        :param check: reads the balls of a bulk that is complete, before the gate opens; it goes on from call to call
        :param check_seconds: for how long it does so in this call
        :param timeout: of one request, in seconds
        """
        return self._run(
            self.afind_bulk,
            bulk_id,
            fail_on_error=fail_on_error,
            check=check,
            check_seconds=check_seconds,
            timeout=timeout,
        )

    async def afind_bulk(
        self,
        bulk_id: str,
        *,
        fail_on_error: bool = True,
        check: StorageCheck | None = None,
        check_seconds: float = 60,
        timeout: float | None = None,
        client: AsyncClient | None = None,
    ) -> dict[str, Any] | None:
        """
        Look once whether a gate that waits for a bulk opens; see ``find_bulk``.

        :param client: an open client of this loop, for who looks again and again; default: one for this call
        """
        given = await self._request_timeout(timeout)
        async with nullcontext(client) if client is not None else self.aget_conn() as opened:
            status = await waiting.bulk_status(opened, bulk_id, **given)
            self._tell(waiting.line_of(status))
            if not waiting.is_open(status, fail_on_error):
                return None
            summary = waiting.summary_of(status)
            if check is not None and status.state in (State.COMPLETE, State.CLOSED):
                read = await check.go_on(opened, check_seconds, **given)
                self._tell(check.line)
                if not read:
                    return None
                summary = check.result(summary, fail_on_error)
        return summary

    def delete_bulk(self, bulk_id: str, *, timeout: float | None = None) -> dict[str, Any]:
        """
        Forget a bulk: delete its records, the result of an await included, and none of its balls. Its id can be used anew.

        Returns ``{bulk_id, deleted, failed, total, response_time}``, which count records.

        :param bulk_id: the bulk; one that nobody knows is forgotten already
        :param timeout: of one request, in seconds
        """
        return self._run(self.adelete_bulk, bulk_id, timeout=timeout)

    async def adelete_bulk(self, bulk_id: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Forget a bulk; see ``delete_bulk``."""
        given = await self._request_timeout(timeout)
        async with self.aget_conn() as client:
            response = await waiting.delete_bulk(client, bulk_id, **given)
        deleted = summaries.deleted_bucket_summary(response)
        return {"bulk_id": bulk_id, **{name: value for name, value in deleted.items() if name != "bucket_id"}}


def _what(
    bucket_id: str | None,
    source: Source | Sequence[Source] | None,
    balls: Sequence[Mapping[str, Any]] | None,
    key_prefix: str,
) -> tuple[list[str], Callable[[], list[SourceBall]]]:
    """Give the names of what is uploaded, and a function that lists it."""
    if (source is None) == (balls is None):
        raise ValidationError(f"a bulk takes either source or balls, and got {'neither' if balls is None else 'both'}")
    if balls is not None:
        return [], partial(list_items, balls, bucket_id or "", key_prefix)
    if not bucket_id:
        raise ValidationError("bucket_id is needed where source says what to upload")
    paths: list[Source] = list(source) if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    return [str(path) for path in paths], partial(list_sources, paths, bucket_id, key_prefix)


def _written(bucket_id: str | None, balls: Iterable[Mapping[str, Any]], key_prefix: str) -> list[Place]:
    """Give where a bulk goes: its buckets, or the part of them that its keys begin with."""
    buckets = [ball.get("bucket_id") or bucket_id for ball in balls] or [bucket_id]
    return [in_bucket(bucket, key_prefix) for bucket in dict.fromkeys(buckets) if bucket]


def _items(balls: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if isinstance(balls, str | bytes | Mapping) or not isinstance(balls, Iterable):
        raise ValidationError(
            f"balls is a list of dictionaries, not {type(balls).__name__}. In a DAG, hand on the list itself, as balls=task.output: a "
            "template gives a text, unless the DAG says render_template_as_native_obj=True"
        )
    return list(balls)


def _texts(name: str, given: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(given, Mapping) or not all(isinstance(text, str) for item in given.items() for text in item):
        raise ValidationError(f"{name} is a dictionary of texts, not {given!r}")
    return given


def _end_line(outcome: UploadResult) -> str:
    """Tell how an upload went: ``Bulk 'nightly', shard 0 of 4: 97 balls uploaded, 1.2 GB in 12.3 s, 97 MB/s; 2 skipped …``."""
    shard = f", shard {outcome.shard} of {outcome.shards}" if outcome.shards > 1 else ""
    speed = format_size(round(outcome.uploaded_size / max(outcome.response_time, 1e-3)))
    line = (
        f"Bulk {outcome.bulk_id!r}{shard}: {pluralize(outcome.uploaded, 'ball')} uploaded, "
        f"{format_size(outcome.uploaded_size)} in {outcome.response_time:.1f} s, {speed}/s; {outcome.skipped:,} skipped, "
        f"{outcome.failed:,} failed"
    )
    if outcome.slowest:
        line += "; slowest: " + ", ".join(f"{key} {seconds:.1f} s" for key, seconds in outcome.slowest)
    return line


def _failure(outcome: UploadResult, result: dict[str, Any]) -> BulkFailedError:
    shard = f", shard {outcome.shard} of {outcome.shards}" if outcome.shards > 1 else ""
    reasons = "; ".join(f"{failure.key}: {failure.message}" for failure in outcome.failures[:FIRST_FAILURES])
    what_to_do = (
        "No retry can mend that: change the source or the parameters, and take another bulk_id or delete_bulk"
        if outcome.hopeless
        else "Run it again: what is stored is not sent again"
    )
    return BulkFailedError(
        f"bulk {outcome.bulk_id!r}{shard}: {outcome.failed} of {outcome.total_balls} balls are not stored: {reasons}. "
        f"{what_to_do}",
        permanent=outcome.hopeless,
        result=result,
    )
