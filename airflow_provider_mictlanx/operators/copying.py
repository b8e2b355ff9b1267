"""The operator that copies, given out by ``operators.mictlanx``. Imports the client's errors, ``hooks``, ``links`` and what operators have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.links.mictlanx import MictlanXDestinationLink
from airflow_provider_mictlanx.operators.base import MictlanXOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MictlanXCopyOperator(MictlanXOperator):
    """
    Copy an object, or all that begin with a prefix: to another key, another bucket, or through another connection.

    The bytes go through the worker chunk by chunk: memory is bounded, and nothing touches its disk. Both sides are verified. The
    tags go along. Where the same bytes are there already, none are sent, so a task that runs again sends what is missing.
    Other bytes are an error, unless ``replace`` is set.

    XCom with ``key``: of the copy ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}``, and
    ``source_bucket_id, source_key``; ``uploaded`` is False where the bytes were there already. With ``prefix``: ``{bucket_id,
    prefix, dest_bucket_id, dest_prefix, total_balls, copied, skipped, failed, copied_size, response_time, failures}``;
    ``skipped`` were there already, ``failures`` are the first few as ``{bucket_id, key, code, message}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket that is copied from (templated)
    :param dest_bucket_id: the bucket that gets the copies (templated)
    :param key: the object; this or ``prefix`` (templated)
    :param prefix: every object whose key begins with it; ``""`` for the whole bucket, but for empty objects (size 0), which are
        in no listing (templated)
    :param dest_key: the copy's key; default: the original's (templated)
    :param dest_prefix: stands in the copies' keys where ``prefix`` was; default: they keep their keys (templated)
    :param dest_conn_id: the connection of the copies; default: ``mictlanx_conn_id`` (templated)
    :param rf: on how many peers every chunk of a copy is to be stored
    :param request_timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight, of all objects together; default: the connection's, else the client's
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: delete other bytes under a copy's key first. There is a moment when neither is stored; a crash in it leaves
        nothing until the retry
    :param allow_reserved_bucket: copy to a bucket that begins with ``bulk-``, which may contain the records of a bulk
    :param fail_on_error: with ``prefix``: fail the task where an object could not be copied; False leaves that to the ``failed`` of
        the XCom
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection of the originals (templated)
    """

    template_fields: Sequence[str] = (
        *("bucket_id", "dest_bucket_id", "key", "prefix", "dest_key", "dest_prefix", "dest_conn_id"),
        "mictlanx_conn_id",
    )
    operator_extra_links = (MictlanXDestinationLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        dest_bucket_id: str,
        key: str | None = None,
        prefix: str | None = None,
        dest_key: str | None = None,
        dest_prefix: str | None = None,
        dest_conn_id: str | None = None,
        rf: int = 1,
        request_timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        fail_on_error: bool = True,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (key is None) == (prefix is None):
            given = "neither" if key is None else "both"
            raise ValueError(f"MictlanXCopyOperator takes either key or prefix, and got {given}")
        if (key is None and dest_key is not None) or (prefix is None and dest_prefix is not None):
            raise ValueError("MictlanXCopyOperator takes dest_key with key, and dest_prefix with prefix")
        self.bucket_id = bucket_id
        self.dest_bucket_id = dest_bucket_id
        self.key = key
        self.prefix = prefix
        self.dest_key = dest_key
        self.dest_prefix = dest_prefix
        self.dest_conn_id = dest_conn_id
        self.rf = rf
        self.request_timeout = request_timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.allow_reserved_bucket = allow_reserved_bucket
        self.fail_on_error = fail_on_error
        self.deadline = deadline

    @cached_property
    def dest_hook(self) -> MictlanXHook:
        """The hook of the copy's connection."""
        return self.hook if self.dest_conn_id is None else MictlanXHook(self.dest_conn_id)

    def work(self, context: Context) -> dict[str, Any]:
        """Copy it, or them."""
        options: dict[str, Any] = {
            "dest_conn_id": self.dest_conn_id,
            "rf": self.rf,
            "request_timeout": self.request_timeout,
            "max_tries": self.max_tries,
            "max_concurrency": self.max_concurrency,
            "max_backoff": self.max_backoff,
            "replace": self.replace,
            "allow_reserved_bucket": self.allow_reserved_bucket,
            "deadline": self.deadline,
        }
        if self.prefix is not None:
            return self.hook.copy_prefix(
                self.bucket_id,
                self.prefix,
                self.dest_bucket_id,
                self.dest_prefix,
                fail_on_error=self.fail_on_error,
                **options,
            )
        if self.key is None:
            raise ValidationError(
                f"key and prefix are both None after rendering: nothing says what to copy from bucket {self.bucket_id}"
            )
        result = self.hook.copy(self.bucket_id, self.key, self.dest_bucket_id, self.dest_key, **options)
        if result["uploaded"]:
            replicas = pluralize(result["replicas"], "replica")
            self.log.info("Copied %s/%s to %s, %s", self.bucket_id, self.key, summaries.transfer_line(result), replicas)
        else:
            self.log.info("Nothing to copy: %s is there already", summaries.transfer_line(result, speed=False))
        return result
