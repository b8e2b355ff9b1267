"""Operators that read, given out by ``operators.mictlanx``. Imports the client's errors and what operators have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.links.mictlanx import MictlanXBucketLink, MictlanXBulkLink, MictlanXObjectLink
from airflow_provider_mictlanx.operators.base import MictlanXOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MictlanXListOperator(MictlanXOperator):
    """
    List the keys of a bucket: all, those that begin with a prefix, or those that match a glob.

    XCom: the list of keys, sorted, as ``.expand(key=listing.output)`` takes it. It is bounded by ``max_keys``: more keys fail the task,
    before they flood XCom, or Airflow's ``[core] max_map_length``. MictlanX never lists empty objects (size 0).

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket; one that nobody wrote to is empty (templated)
    :param prefix: only keys that begin with it (templated)
    :param glob: only keys that match: ``*`` any text (``/`` too), ``?`` a character, ``[ab]`` one of these; not together with
        ``prefix`` (templated)
    :param max_keys: the most keys that are listed; None for no limit
    :param request_timeout: of one request, in seconds; default: the connection's, else 120
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "prefix", "glob", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        max_keys: int | None = 1000,
        request_timeout: float | None = None,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.glob = glob
        self.max_keys = max_keys
        self.request_timeout = request_timeout
        self.deadline = deadline

    def work(self, context: Context) -> list[str]:
        """List them."""
        keys = self.hook.list_keys(
            self.bucket_id,
            self.prefix,
            self.glob,
            max_keys=self.max_keys,
            request_timeout=self.request_timeout,
            deadline=self.deadline,
        )
        self.log.info(
            "Listed %s of bucket %s: %s", self.glob or f"{self.prefix}*", self.bucket_id, pluralize(len(keys), "key")
        )
        return keys


class MictlanXGetOperator(MictlanXOperator):
    """
    Read a small text into XCom, verified.

    XCom: the text. An object that is larger than ``max_size`` fails the task before any of it is read: for those there is
    ``MictlanXGetToFileOperator``. Bytes that are no text in ``encoding`` fail it too.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param encoding: of the text, as Python names it
    :param max_size: of the object: bytes, or a text such as ``"48kb"``, which every database of Airflow takes
    :param request_timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight; default: the connection's, else the client's
    :param max_backoff: the longest pause between two tries, in seconds
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "mictlanx_conn_id")
    operator_extra_links = (MictlanXObjectLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        encoding: str = "utf-8",
        max_size: int | str = "48kb",
        request_timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.encoding = encoding
        self.max_size = max_size
        self.request_timeout = request_timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.deadline = deadline

    def work(self, context: Context) -> str:
        """Read it."""
        text = self.hook.get_text(
            self.bucket_id,
            self.key,
            encoding=self.encoding,
            max_size=self.max_size,
            request_timeout=self.request_timeout,
            max_tries=self.max_tries,
            max_concurrency=self.max_concurrency,
            max_backoff=self.max_backoff,
            deadline=self.deadline,
        )
        if "\0" in text:
            raise ValidationError(
                f"{self.bucket_id}/{self.key} holds NUL characters, which not every database of XComs takes: read it into a file"
            )
        self.log.info("Read %s/%s: %s", self.bucket_id, self.key, pluralize(len(text), "character"))
        return text


class MictlanXGetToFileOperator(MictlanXOperator):
    """
    Read an object into a file of the worker, which appears whole and verified, or not at all.

    XCom: ``{bucket_id, key, ball_id, path, size, checksum, num_chunks, downloaded, response_time}``; ``downloaded`` is False
    where a file with this content was there already.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param output_path: a folder of the worker; made if missing (templated)
    :param filename: the file's plain name; default: the key's last component (templated)
    :param request_timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight; default: the connection's, else the client's
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: overwrite a file with other content, which is an error otherwise
    :param deadline: of the whole download, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "output_path", "filename", "mictlanx_conn_id")
    operator_extra_links = (MictlanXObjectLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        output_path: str | os.PathLike[str],
        filename: str | None = None,
        request_timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.output_path = output_path
        self.filename = filename
        self.request_timeout = request_timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Read it."""
        result = self.hook.get_to_file(
            self.bucket_id,
            self.key,
            self.output_path,
            filename=self.filename,
            request_timeout=self.request_timeout,
            max_tries=self.max_tries,
            max_concurrency=self.max_concurrency,
            max_backoff=self.max_backoff,
            replace=self.replace,
            deadline=self.deadline,
        )
        if result["downloaded"]:
            self.log.info("Read %s into %s", summaries.transfer_line(result), result["path"])
        else:
            size = summaries.transfer_line(result, speed=False)
            self.log.info("Nothing to read: %s holds %s already", result["path"], size)
        return result


class MictlanXBulkGetToFileOperator(MictlanXOperator):
    """
    Read many objects into a folder of the worker: a bucket, a part of it, or a bulk; each into the file that its key names there.

    A task that runs again reads what is missing: files that are there with the right checksum are left as they are. Every file
    appears whole and verified, or not at all, and none outside of the folder. An object whose key can't be a file there is a
    failure, and so are two that would be one file; the others are read.

    XCom: ``{bucket_id, prefix, glob, bulk_id, output_path, total_balls, downloaded, skipped, failed, downloaded_size, response_time,
    failures}``; ``skipped`` were there already, ``failures`` are the first few as ``{bucket_id, key, code, message}``.

    A bucket never lists empty objects (size 0); a bulk knows the ones it uploaded.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param output_path: a folder of the worker; made if missing (templated)
    :param bucket_id: the bucket; this or ``bulk_id`` (templated)
    :param prefix: only keys that begin with it (templated)
    :param glob: only keys that match: ``*`` any text (``/`` too), ``?`` a character, ``[ab]`` one of these; not together with
        ``prefix`` (templated)
    :param bulk_id: instead of ``bucket_id``: a complete bulk, with the bytes that it uploaded; gate on it by
        ``BulkCompleteSensor`` (templated)
    :param request_timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight, of all objects together; default: the connection's, else 8
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: overwrite files with other content, which are failures otherwise
    :param fail_on_error: fail the task where an object could not be read; False leaves that to the ``failed`` of the XCom
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("output_path", "bucket_id", "prefix", "glob", "bulk_id", "mictlanx_conn_id")
    operator_extra_links = (MictlanXBucketLink(), MictlanXBulkLink())

    def __init__(
        self,
        *,
        output_path: str | os.PathLike[str],
        bucket_id: str | None = None,
        prefix: str = "",
        glob: str = "",
        bulk_id: str | None = None,
        request_timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (bucket_id is None) == (bulk_id is None):
            given = "neither" if bucket_id is None else "both"
            raise ValueError(f"MictlanXBulkGetToFileOperator takes either bucket_id or bulk_id, and got {given}")
        self.output_path = output_path
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.glob = glob
        self.bulk_id = bulk_id
        self.request_timeout = request_timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.fail_on_error = fail_on_error
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Read them."""
        return self.hook.get_to_folder(
            self.output_path,
            self.bucket_id,
            self.prefix,
            self.glob,
            bulk_id=self.bulk_id,
            request_timeout=self.request_timeout,
            max_tries=self.max_tries,
            max_concurrency=self.max_concurrency,
            max_backoff=self.max_backoff,
            replace=self.replace,
            fail_on_error=self.fail_on_error,
            deadline=self.deadline,
        )
