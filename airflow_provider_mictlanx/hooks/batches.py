"""
Calls of the hook for many objects: copied, read into a folder, deleted; and the copy of a single one.

Imports the client, ``batches``, ``hooks.calls`` and ``hooks.summaries``. All logic of transfers is the client's and the batches'.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.assets.places import in_bucket, keys_of, matching, on_disk
from airflow_provider_mictlanx.batches import copying, deleting, fetching
from airflow_provider_mictlanx.batches.running import BatchResult, TransferOptions, error_of
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.names import check_bucket_id
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.retry import within
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.calls import HookCalls, chosen


class BatchCalls(HookCalls):
    """The part of ``MictlanXHook`` that copies, and that knows many objects at a time."""

    # Copying

    def copy(
        self,
        bucket_id: str,
        key: str,
        dest_bucket_id: str,
        dest_key: str | None = None,
        *,
        dest_conn_id: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Copy an object, with its tags, chunk by chunk through this machine; memory is bounded, nothing touches the disk.

        Both sides are verified: every chunk as it is read, and the whole before anything is announced or replaced; the copy is
        done when peers have acknowledged every chunk. Where its bytes are there already, none are sent.

        Returns of the copy ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}``, and
        ``source_bucket_id, source_key``.

        :param bucket_id: the original's bucket
        :param key: the original's name
        :param dest_bucket_id: the copy's bucket
        :param dest_key: the copy's name; default: the original's
        :param dest_conn_id: the connection of the copy; default: the hook's own
        :param rf: on how many peers every chunk of the copy is to be stored
        :param timeout: of one request, in seconds
        :param max_tries: per chunk
        :param max_concurrency: chunks in flight
        :param max_backoff: the longest pause between two tries, in seconds
        :param replace: delete other bytes under the copy's key first, instead of raising ``BallConflictError``
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.acopy,
            bucket_id,
            key,
            dest_bucket_id,
            dest_key,
            dest_conn_id=dest_conn_id,
            rf=rf,
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            replace=replace,
            deadline=deadline,
        )

    async def acopy(
        self,
        bucket_id: str,
        key: str,
        dest_bucket_id: str,
        dest_key: str | None = None,
        *,
        dest_conn_id: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Copy an object; see ``copy``."""
        dest_key = key if dest_key is None else dest_key
        if not dest_key:
            raise ValidationError("dest_key is empty; leave it out to keep the original's key")
        self._refuse_itself((bucket_id, key), (dest_bucket_id, dest_key), dest_conn_id)
        given = chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        async with self._both(dest_conn_id) as (client, dest):
            report = await client.copy(
                bucket_id,
                key,
                dest_bucket_id,
                dest_key,
                dest=dest,
                rf=rf,
                **given,
                max_tries=max_tries,
                max_backoff=max_backoff,
                replace=replace,
                deadline=deadline,
            )
        result = summaries.transfer_summary(value_of(report))
        await self._note(reads=[in_bucket(bucket_id, key)], writes=[in_bucket(dest_bucket_id, dest_key)])
        return {**result, "source_bucket_id": bucket_id, "source_key": key}

    def copy_prefix(
        self,
        bucket_id: str,
        prefix: str,
        dest_bucket_id: str,
        dest_prefix: str | None = None,
        *,
        dest_conn_id: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Copy every object whose key begins with a prefix, each as ``copy`` does. A second call sends what is missing.

        Returns ``{bucket_id, prefix, dest_bucket_id, dest_prefix, total_balls, copied, skipped, failed, copied_size,
        response_time, failures}``: ``skipped`` were there already, ``failures`` are the first few as ``{bucket_id, key, code,
        message}``. MictlanX never lists empty objects (size 0), so they are not copied by this.

        ``BatchError``: an object could not be copied; its ``result`` is what would have been returned.

        :param bucket_id: the originals' bucket
        :param prefix: ``""`` for the whole bucket
        :param dest_bucket_id: the copies' bucket
        :param dest_prefix: stands in the copies' keys where ``prefix`` was; default: they keep their keys
        :param dest_conn_id: the connection of the copies; default: the hook's own
        :param rf: on how many peers every chunk of a copy is to be stored
        :param timeout: of one request, in seconds
        :param max_tries: per chunk
        :param max_concurrency: chunks in flight, of all objects together; default: the connection's, else 8
        :param max_backoff: the longest pause between two tries, in seconds
        :param replace: delete other bytes under a copy's key first, instead of reporting a failure
        :param fail_on_error: raise where an object could not be copied; False leaves that to ``failed``
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.acopy_prefix,
            bucket_id,
            prefix,
            dest_bucket_id,
            dest_prefix,
            dest_conn_id=dest_conn_id,
            rf=rf,
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            replace=replace,
            fail_on_error=fail_on_error,
            deadline=deadline,
        )

    async def acopy_prefix(
        self,
        bucket_id: str,
        prefix: str,
        dest_bucket_id: str,
        dest_prefix: str | None = None,
        *,
        dest_conn_id: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Copy every object whose key begins with a prefix; see ``copy_prefix``."""
        dest_prefix = prefix if dest_prefix is None else dest_prefix
        if not isinstance(dest_prefix, str):
            raise ValidationError(f"dest_prefix is a text, not {dest_prefix!r}")
        check_bucket_id(dest_bucket_id)
        self._refuse_itself((bucket_id, prefix), (dest_bucket_id, dest_prefix), dest_conn_id)
        given = chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        options = TransferOptions(**given, max_tries=max_tries, max_backoff=max_backoff)
        what = f"copying {prefix}* of bucket {bucket_id} to {dest_prefix}* of bucket {dest_bucket_id}"
        async with self._both(dest_conn_id) as (client, dest), within(deadline, what):
            items = await fetching.balls_of_bucket(client, bucket_id, prefix, timeout=options.timeout)
            outcome = await copying.copy_all(
                client,
                items,
                dest_bucket_id,
                lambda key: dest_prefix + key.removeprefix(prefix),
                dest=dest,
                rf=rf,
                replace=replace,
                options=options,
                tell=self._tell,
            )
        which = {"bucket_id": bucket_id, "prefix": prefix, "dest_bucket_id": dest_bucket_id, "dest_prefix": dest_prefix}
        result = summaries.batch_summary(outcome, "copied", **which)
        await self._note(reads=[in_bucket(bucket_id, prefix)], writes=[in_bucket(dest_bucket_id, dest_prefix)])
        return self._end(what, outcome.line("copied", "there already"), outcome, result, fail_on_error)

    def _refuse_itself(self, source: tuple[str, str], dest: tuple[str, str], dest_conn_id: str | None) -> None:
        if source == dest and dest_conn_id in (None, self.mictlanx_conn_id):
            raise ValidationError(
                f"{source[0]}/{source[1]} would be copied onto itself: name another bucket, key or connection"
            )

    @asynccontextmanager
    async def _both(self, dest_conn_id: str | None) -> AsyncIterator[tuple[AsyncClient, AsyncClient]]:
        """Open the clients of both connections; one after the other, for Airflow can't look two up at once."""
        async with self.aget_conn() as client:
            if dest_conn_id in (None, self.mictlanx_conn_id):
                yield client, client
                return
            async with type(self)(mictlanx_conn_id=dest_conn_id).aget_conn() as dest:  # type: ignore[call-arg]
                yield client, dest

    # Reading

    def get_to_folder(
        self,
        output_path: str | os.PathLike[str],
        bucket_id: str | None = None,
        prefix: str = "",
        glob: str = "",
        *,
        bulk_id: str | None = None,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Read many objects into a folder, each into the file that its key names below it: a bucket, a part of it, or a bulk.

        Files that are there with the right checksum are not read again, so that a second call goes on where the first one ended.
        Every file appears whole and verified, or not at all.

        Returns ``{bucket_id, prefix, glob, bulk_id, output_path, total_balls, downloaded, skipped, failed, downloaded_size,
        response_time, failures}``: ``skipped`` were there already, ``failures`` are the first few as ``{bucket_id, key, code,
        message}``. A bucket never lists empty objects (size 0); a bulk knows them.

        ``ValidationError``: a key would leave the folder, or two of them would be one file; nothing was read.
        ``BulkFailedError``: the bulk is not complete. ``BatchError``: an object could not be read; its ``result`` is what would
        have been returned.

        :param output_path: a folder of this machine; made if missing
        :param bucket_id: the bucket; this or ``bulk_id``
        :param prefix: only keys that begin with it
        :param glob: only keys that match, as ``"2024/*.csv"``; not together with ``prefix``
        :param bulk_id: a complete bulk: everything that it uploaded, with the bytes that it uploaded
        :param timeout: of one request, in seconds
        :param max_tries: per chunk
        :param max_concurrency: chunks in flight, of all objects together; default: the connection's, else 8
        :param max_backoff: the longest pause between two tries, in seconds
        :param replace: overwrite files with other content, instead of reporting a failure
        :param fail_on_error: raise where an object could not be read; False leaves that to ``failed``
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.aget_to_folder,
            output_path,
            bucket_id,
            prefix,
            glob,
            bulk_id=bulk_id,
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            replace=replace,
            fail_on_error=fail_on_error,
            deadline=deadline,
        )

    async def aget_to_folder(
        self,
        output_path: str | os.PathLike[str],
        bucket_id: str | None = None,
        prefix: str = "",
        glob: str = "",
        *,
        bulk_id: str | None = None,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Read many objects into a folder; see ``get_to_folder``."""
        _check_which(bucket_id, prefix, glob, bulk_id)
        given = chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        options = TransferOptions(**given, max_tries=max_tries, max_backoff=max_backoff)
        named = f"bulk {bulk_id!r}" if bulk_id is not None else f"{glob or f'{prefix}*'} of bucket {bucket_id}"
        what = f"reading {named} into {output_path}"
        async with self.aget_conn() as client, within(deadline, what):
            root, folds = await fetching.prepare(output_path)
            if bulk_id is not None:
                items = await fetching.balls_of_bulk(client, bulk_id, options.timeout)
            else:
                items = await fetching.balls_of_bucket(client, bucket_id or "", prefix, glob, options.timeout)
            outcome = await fetching.fetch(
                client,
                items,
                root,
                folds=folds,
                exactly=bulk_id is not None,
                replace=replace,
                options=options,
                tell=self._tell,
            )
        which = {"bucket_id": bucket_id, "prefix": prefix, "glob": glob, "bulk_id": bulk_id, "output_path": str(root)}
        result = summaries.batch_summary(outcome, "downloaded", **which)
        buckets = dict.fromkeys(item.bucket_id for item in items)
        read = [matching(bucket_id, prefix, glob)] if bucket_id is not None else [*map(in_bucket, buckets)]
        await self._note(reads=read, writes=[on_disk(root)])
        return self._end(what, outcome.line("read", "there already"), outcome, result, fail_on_error)

    # Deleting

    def delete_keys(
        self,
        bucket_id: str,
        keys: Iterable[str],
        *,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        fail_on_error: bool = True,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Delete objects by their keys; those that are not there are deleted already.

        Returns ``{bucket_id, deleted, absent, failed, total, response_time, failures}``; ``absent`` were not there,
        ``failures`` are the first few as ``{bucket_id, key, code, message}``.

        ``BatchError``: an object could not be deleted; its ``result`` is what would have been returned.

        :param bucket_id: the bucket
        :param keys: the objects' names; may be empty
        :param timeout: of one request, in seconds
        :param max_concurrency: objects that are deleted at the same time
        :param fail_on_error: raise where an object could not be deleted; False leaves that to ``failed``
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.adelete_keys,
            bucket_id,
            keys,
            timeout=timeout,
            max_concurrency=max_concurrency,
            fail_on_error=fail_on_error,
            deadline=deadline,
        )

    async def adelete_keys(
        self,
        bucket_id: str,
        keys: Iterable[str],
        *,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        fail_on_error: bool = True,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Delete objects by their keys; see ``delete_keys``."""
        check_bucket_id(bucket_id)
        keys = _keys(keys)
        given = chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        what = f"deleting {pluralize(len(keys), 'key')} of bucket {bucket_id}"
        async with self.aget_conn() as client, within(deadline, what):
            outcome = await deleting.delete_keys(client, bucket_id, keys, **given, tell=self._tell)
        await self._note(drops=keys_of(bucket_id, keys))
        return self._end(
            what,
            outcome.line("deleted", "not there"),
            outcome,
            summaries.deletion_summary(outcome, bucket_id),
            fail_on_error,
        )

    def delete_prefix(
        self,
        bucket_id: str,
        prefix: str,
        *,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        fail_on_error: bool = True,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Delete every object whose key begins with a prefix, and list again until there is none.

        Returns what ``delete_keys`` gives. MictlanX never lists empty objects (size 0), so they stay until they are deleted by
        their key.

        :param bucket_id: the bucket
        :param prefix: not empty: ``delete_bucket`` deletes everything
        :param timeout: of one request, in seconds
        :param max_concurrency: objects that are deleted at the same time
        :param fail_on_error: raise where an object could not be deleted; False leaves that to ``failed``
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.adelete_prefix,
            bucket_id,
            prefix,
            timeout=timeout,
            max_concurrency=max_concurrency,
            fail_on_error=fail_on_error,
            deadline=deadline,
        )

    async def adelete_prefix(
        self,
        bucket_id: str,
        prefix: str,
        *,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        fail_on_error: bool = True,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Delete every object whose key begins with a prefix; see ``delete_prefix``."""
        if not isinstance(prefix, str) or not prefix:
            raise ValidationError(
                f"prefix is a text that is not empty, not {prefix!r}: what deletes everything is delete_bucket, or "
                "MictlanXDeleteBucketOperator"
            )
        given = chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        what = f"deleting {prefix}* of bucket {bucket_id}"
        async with self.aget_conn() as client, within(deadline, what):
            outcome = await deleting.delete_prefix(client, bucket_id, prefix, **given, tell=self._tell)
        await self._note(drops=[in_bucket(bucket_id, prefix)])
        return self._end(
            what,
            outcome.line("deleted", "not there"),
            outcome,
            summaries.deletion_summary(outcome, bucket_id),
            fail_on_error,
        )

    def _end(
        self, what: str, line: str, outcome: BatchResult, result: dict[str, Any], fail_on_error: bool
    ) -> dict[str, Any]:
        """Tell how a batch went; give its result, or raise what failed."""
        self._tell_the_end(f"{what[:1].upper()}{what[1:]}: {line}", outcome.failures)
        if outcome.failures and fail_on_error:
            raise error_of(what, outcome, result)
        return result


def _check_which(bucket_id: str | None, prefix: str, glob: str, bulk_id: str | None) -> None:
    if (bucket_id is None) == (bulk_id is None):
        given = "neither" if bulk_id is None else "both"
        raise ValidationError(f"either bucket_id or bulk_id says what is read, and {given} is given")
    if bulk_id is not None and (prefix or glob):
        raise ValidationError("prefix and glob choose among a bucket's keys: a bulk is read as a whole")


def _keys(keys: Iterable[str]) -> list[str]:
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise ValidationError(
            f"keys is a list of texts, not {type(keys).__name__}. In a DAG, hand on the list itself, as keys=task.output: a template "
            "gives a text, unless the DAG says render_template_as_native_obj=True"
        )
    found = list(keys)
    if wrong := [key for key in found if not isinstance(key, str) or not key]:
        raise ValidationError(f"keys are texts that are not empty, not {wrong[0]!r}")
    return found
