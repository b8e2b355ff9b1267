"""
Operators of MictlanX: parameters in, a hook call, a small dictionary out. Imports ``hooks`` and what operators have in common.

All of them take ``timeout`` for one request (seconds), ``max_tries`` per chunk within one try of Airflow, ``max_backoff`` for
the longest pause between two of those (seconds), and ``deadline`` for the whole call (seconds; default none).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from humanfriendly import format_size
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.operators.base import MictlanXOperator
from airflow_provider_mictlanx.operators.bulks import MictlanXAwaitBulkOperator, MictlanXBulkPutOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = [
    "MictlanXAwaitBulkOperator",
    "MictlanXBulkPutOperator",
    "MictlanXDeleteBucketOperator",
    "MictlanXDeleteOperator",
    "MictlanXGetToFileOperator",
    "MictlanXPutOperator",
]


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
    :param chunk_size: how it is cut, as ``"256kb"`` or ``"8MB"``; default: the connection's, else 256kb
    :param rf: on how many peers every chunk is to be stored
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight; default: the connection's, else the client's
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: delete other bytes under that key first. There is a moment when neither is stored; a crash in it leaves
        nothing until the retry
    :param deadline: of the whole upload, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "data", "file_path", "tags", "mictlanx_conn_id")
    template_fields_renderers = {"tags": "json"}  # noqa: RUF012

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
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
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
        self.timeout = timeout
        self.max_tries = max_tries
        self.max_concurrency = max_concurrency
        self.max_backoff = max_backoff
        self.replace = replace
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Store it."""
        options: dict[str, Any] = {
            "chunk_size": self.chunk_size,
            "rf": self.rf,
            "timeout": self.timeout,
            "max_tries": self.max_tries,
            "max_concurrency": self.max_concurrency,
            "max_backoff": self.max_backoff,
            "tags": self.tags,
            "replace": self.replace,
            "deadline": self.deadline,
        }
        if self.file_path is not None:
            result = self.hook.put_file(self.bucket_id, self.key, self.file_path, **options)
        elif self.data is not None:
            result = self.hook.put(self.bucket_id, self.key, self.data, **options)
        else:
            raise ValidationError("data and file_path are both None after rendering: there is nothing to store")
        if result["uploaded"]:
            replicas = pluralize(result["replicas"], "replica")
            self.log.info("Stored %s, %s", _transferred(result), replicas)
        else:
            self.log.info("Nothing to send: %s was stored already", _transferred(result, speed=False))
        return result


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
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_tries: per chunk
    :param max_concurrency: chunks in flight; default: the connection's, else the client's
    :param max_backoff: the longest pause between two tries, in seconds
    :param replace: overwrite a file with other content, which is an error otherwise
    :param deadline: of the whole download, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "output_path", "filename", "mictlanx_conn_id")

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        output_path: str | os.PathLike[str],
        filename: str | None = None,
        timeout: float | None = None,
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
        self.timeout = timeout
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
            timeout=self.timeout,
            max_tries=self.max_tries,
            max_concurrency=self.max_concurrency,
            max_backoff=self.max_backoff,
            replace=self.replace,
            deadline=self.deadline,
        )
        if result["downloaded"]:
            self.log.info("Read %s into %s", _transferred(result), result["path"])
        else:
            size = _transferred(result, speed=False)
            self.log.info("Nothing to read: %s holds %s already", result["path"], size)
        return result


class MictlanXDeleteOperator(MictlanXOperator):
    """
    Delete an object; one that is not there is deleted already.

    XCom: ``{bucket_id, key, ball_id, n_deletes}``; ``n_deletes`` counts the replicas of all its chunks.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param key: the object's name (templated)
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "key", "mictlanx_conn_id")

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str,
        timeout: float | None = None,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.timeout = timeout
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Delete it."""
        result = self.hook.delete(self.bucket_id, self.key, timeout=self.timeout, deadline=self.deadline)
        if result["n_deletes"]:
            replicas = pluralize(result["n_deletes"], "replica")
            self.log.info("Deleted %s/%s: %s of its chunks", self.bucket_id, self.key, replicas)
        else:
            self.log.info("Nothing to delete: %s/%s is not there", self.bucket_id, self.key)
        return result


class MictlanXDeleteBucketOperator(MictlanXOperator):
    """
    Delete every object that a bucket lists, until it lists none.

    MictlanX never lists empty objects (size 0), so they stay until they are deleted by their key.

    XCom: ``{bucket_id, deleted, failed, total, response_time}``.

    .. seealso::
        For more information on how to use this operator, take a look at the guide, ``docs/operators.md``.

    :param bucket_id: the bucket (templated)
    :param fail_on_error: fail the task where an object could not be deleted; False leaves that to the ``failed`` of the XCom
    :param timeout: of one request, in seconds; default: the connection's, else 120
    :param max_concurrency: objects that are deleted at the same time; default: the connection's, else the client's
    :param deadline: of the whole call, in seconds
    :param mictlanx_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("bucket_id", "mictlanx_conn_id")

    def __init__(
        self,
        *,
        bucket_id: str,
        fail_on_error: bool = True,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.fail_on_error = fail_on_error
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.deadline = deadline

    def work(self, context: Context) -> dict[str, Any]:
        """Delete them."""
        result = self.hook.delete_bucket(
            self.bucket_id, timeout=self.timeout, max_concurrency=self.max_concurrency, deadline=self.deadline
        )
        objects = pluralize(result["deleted"], "object")
        self.log.info("Deleted %s of bucket %s in %.1f s", objects, self.bucket_id, result["response_time"])
        if result["failed"]:
            problem = (
                f"{result['failed']} of {result['total']} objects of bucket {self.bucket_id!r} could not be deleted"
            )
            if self.fail_on_error:
                raise MictlanXError(
                    f"{problem}; a peer may be away. Run the task again, or set fail_on_error=False to go on without them"
                )
            self.log.warning("%s", problem)
        return result


def _transferred(result: Mapping[str, Any], *, speed: bool = True) -> str:
    """Say what went over the wire: ``frames/a.jpg: 1.2 MB in 5 chunks, 0.4 s, 3 MB/s``."""
    size = format_size(result["size"])
    chunks = pluralize(result["num_chunks"], "chunk")
    text = f"{result['bucket_id']}/{result['key']}: {size} in {chunks}"
    seconds = result["response_time"]
    if speed and seconds > 0:
        text += f", {seconds:.1f} s, {format_size(round(result['size'] / seconds))}/s"
    return text
