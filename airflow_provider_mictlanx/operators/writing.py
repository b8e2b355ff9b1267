"""Operators that store, given out by ``operators.mictlanx``. Imports the client's errors and what operators have in common."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.links.mictlanx import MictlanXObjectLink
from airflow_provider_mictlanx.operators.base import MictlanXOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MictlanXPutOperator(MictlanXOperator):
    """
    Store a file, or a small text, under a key.

    A task that runs again finds its own bytes and sends only what is missing. Other bytes under the key are an error, unless
    ``replace`` is set.

    XCom: ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}``; ``replicas`` is the
    smallest number over all chunks, ``uploaded`` is False where exactly these bytes were stored already.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket: letters, digits, and single ``-`` or ``_`` between them (templated)
    :param key: the object's name; any text (templated)
    :param data: what to store; a text is encoded as UTF-8. It is shown in *Rendered Templates*: meant for small things that
        are no secret (templated)
    :param file_path: the file to store, instead of ``data``; a path on the worker (templated)
    :param tags: texts by name, kept with the object (templated)
    :param chunk_size: how it is cut, as ``"256kb"`` or ``"8MB"``; default: the connection's, else chosen by the
        size
    :param rf: on how many peers every chunk is to be stored
    :param request_timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight; default: the connection's, else chosen by the chunks' size
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: delete other bytes under that key first. There is a moment when neither is stored; a crash in it leaves
        nothing until the retry
    :param allow_reserved_bucket: write to a bucket that begins with ``bulk-``, which may contain the records of a bulk
    :param deadline: of the whole upload, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "data", "file_path", "tags", "mictlanx_conn_id")
    template_fields_renderers = {"tags": "json"}  # noqa: RUF012
    operator_extra_links = (MictlanXObjectLink(),)

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        data: str | bytes | None = None,
        file_path: str | os.PathLike[str] | None = None,
        tags: Mapping[str, str] | None = None,
        chunk_size: str | None = None,
        rf: int = 1,
        request_timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (data is None) == (file_path is None):
            given = "neither" if data is None else "both"
            raise ValueError(f"MictlanXPutOperator takes either data or file_path, and got {given}")
        self.bucket_id = bucket_id
        self.key = key
        self.data = data
        self.file_path = file_path
        self.tags = tags
        self.chunk_size = chunk_size
        self.rf = rf
        self.request_timeout = request_timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.allow_reserved_bucket = allow_reserved_bucket
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Store it."""
        options: dict[str, Any] = {
            "chunk_size": self.chunk_size,
            "rf": self.rf,
            "request_timeout": self.request_timeout,
            "max_tries": self.max_tries,
            "max_concurrency": self.max_concurrency,
            "max_backoff": self.max_backoff,
            "tags": self.tags,
            "replace": self.replace,
            "allow_reserved_bucket": self.allow_reserved_bucket,
            "deadline": self.deadline,
        }
        if self.file_path is not None:
            result = self.hook.put_file(self.bucket_id, self.key, self.file_path, **options)
        elif self.data is not None:
            result = self.hook.put(self.bucket_id, self.key, self.data, **options)
        else:
            raise ValidationError(
                f"data and file_path are both None after rendering: there is nothing to store as {self.bucket_id}/{self.key}"
            )
        if result["uploaded"]:
            replicas = pluralize(result["replicas"], "replica")
            self.log.info("Stored %s, %s", summaries.transfer_line(result), replicas)
        else:
            self.log.info("Nothing to send: %s was stored already", summaries.transfer_line(result, speed=False))
        return result
